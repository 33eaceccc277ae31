"""A Sphinx extension: a page in Markdown quotes a number of a chapter by the role `found`.

{found}`vae elbo .1f` is the number that a finding of the chapter `vae` calls `elbo`, written with one decimal.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from lib.notebook.finding import FILE, found, written


class Quote(SphinxRole):
    """The role; what cannot be quoted is a warning of the build."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The number as text. The page is read again when the numbers change."""
        self.env.note_dependency(str(FILE))
        try:
            chapter, name, form = self.text.split(maxsplit=2)
            return [nodes.Text(written(name, found(chapter, name), form))], []
        except ValueError as error:
            what = f"wanted a chapter, a name and a format, got {self.text!r}: {error}"
            logging.getLogger(__name__).warning(what, location=self.get_location())
            return [], []


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_role("found", Quote())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
