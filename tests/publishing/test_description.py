from docutils import nodes
from docutils.utils import new_document

from lib.publishing import description


def test_only_plain_paragraphs_are_left():
    document = new_document("page")
    section = nodes.section()
    section += nodes.title("", "The title")
    section += nodes.paragraph("", "You will see a wave.")
    section += nodes.paragraph(
        "", "", nodes.Text("With "), nodes.emphasis("", "", nodes.math("", r"\sigma")), nodes.Text(".")
    )
    section += nodes.math_block("", r"x = \mu")
    section += nodes.container("", nodes.literal_block("", "print(1)"))
    section += nodes.table("", nodes.paragraph("", "a cell"))
    section += nodes.paragraph("", "It moves.")
    document += section
    description._leave_out(None, "page", "page.html", {}, document)
    assert document.astext() == "You will see a wave.\n\nIt moves."


def test_pages_without_a_text_are_left_alone():
    description._leave_out(None, "search", "search.html", {}, None)
