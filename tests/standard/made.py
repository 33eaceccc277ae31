"""Small made-up chapters on which each check is seen to fail."""

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.standard.chapter import Chapter

PAGES = ("book/index", "book/1-codes/one", "book/1-codes/two", "book/2-noise/three")


def chapter(*cells, page="book/1-codes/two"):
    """A chapter of cells; a text is a cell in Markdown."""
    made = [new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    return Chapter(page, new_notebook(cells=made), PAGES)


def code(source, *tags, shows=()):
    """A code cell with tags, and what it shows."""
    return new_code_cell(source, outputs=list(shows), metadata={"tags": list(tags)})


def value(**data):
    """The value of a cell's last line, by MIME type: `value(text_plain="4")`."""
    return new_output("execute_result", {kind.replace("_", "/"): text for kind, text in data.items()})


def printed(text):
    """What a cell printed."""
    return new_output("stream", text=text)
