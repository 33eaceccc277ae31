"""A Sphinx extension: search results and social cards describe a page by its first sentences in plain words.

They take the text of the page as it comes, headings, tables, the TeX of formulas and what cells print.
"""

from docutils import nodes
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx, before those who describe the page."""
    app.add_config_value("comments_config", {}, "html")  # Jupyter Book sets it even without sphinx_comments
    app.connect("html-page-context", _leave_out, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _leave_out(app, page, template, context, doctree) -> None:
    """The page itself is written by now: what is taken out here is missing only from its description."""
    if doctree is None:
        return
    for formula in list(doctree.findall(nodes.math)):
        while not isinstance(formula, nodes.paragraph) and formula.parent is not None:
            formula = formula.parent
        _remove(formula)
    for kind in (nodes.title, nodes.math_block, nodes.table, nodes.container):
        for block in list(doctree.findall(kind)):
            _remove(block)


def _remove(node: nodes.Element) -> None:
    if node.parent is not None and node in node.parent:
        node.parent.remove(node)
