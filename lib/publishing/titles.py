"""A Sphinx extension: the page leaves out the line by which Colab names a folded cell.

On the page the button that unfolds the cell says the same.
"""

from docutils import nodes
from sphinx.application import Sphinx

from lib.publishing.notebooks import TITLE, untitled


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-read", _leave_out)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _leave_out(app: Sphinx, doctree: nodes.document) -> None:
    for block in doctree.findall(nodes.literal_block):
        if block.astext().startswith(TITLE):
            block.rawsource = untitled(block.astext())
            block.children = [nodes.Text(block.rawsource)]
