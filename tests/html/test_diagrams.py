"""The drawings of the models in a browser, with its fonts: on a phone, in light and dark."""

import pytest

from lib.notebook.diagram import diagram_html
from tests.figures.test_diagrams import DIAGRAMS
from tests.html.book import DESKTOP, PHONE, ROOT
from tests.html.looks import dress, serious_faults, sideways

MARGIN = 16  # of a chapter's column on a phone
SMALLEST = 12  # pixels; only indices and exponents may be smaller

# Each text with its place, letters' height and colour; each rectangle with its place; and what selecting all copies.
SEEN = """svg => {
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const place = part => { const {left, top, right, bottom} = part.getBoundingClientRect();
                            return [left, top, right, bottom]; };
    const select = getSelection();
    select.selectAllChildren(svg);
    const copied = select.toString();
    select.removeAllRanges();
    return {
        texts: [...svg.querySelectorAll("text")].map(text => ({
            said: text.textContent, place: place(text), pixels: scale * parseFloat(getComputedStyle(text).fontSize),
            colour: getComputedStyle(text).fill})),
        boxes: [...svg.querySelectorAll("rect")].map(place), whole: place(svg), copied,
        colour: getComputedStyle(document.querySelector("main")).color,
    };
}"""


def apart(one, other):
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def within(one, other):
    return other[0] <= one[0] and other[1] <= one[1] and one[2] <= other[2] and one[3] <= other[3]


def page_of(drawings):
    styles = (ROOT / "book/assets/figures.css").read_text(encoding="utf-8")
    return f"""<html lang="en"><title>Drawings</title><style>{styles}
        html {{background: #fff; color: #323232; font-family: sans-serif}}
        html[data-theme=dark] {{background: #14181e; color: #ced6dd}} body {{margin: {MARGIN}px}}
        </style><main class="bd-content"><h1>Drawings</h1>{"".join(map(diagram_html, drawings))}</main>"""


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_drawings_are_readable_and_in_the_colours_of_the_page(size, browser):
    with browser.new_context(viewport=size) as window:
        page = window.new_page()
        page.set_content(page_of(draw() for draw in DIAGRAMS))
        assert sideways(page) == []
        for mode in ("light", "dark"):
            dress(page, mode)
            assert serious_faults(page, mode) == []
            for drawing in page.locator("svg").all():
                assert_readable(drawing.evaluate(SEEN))


def assert_readable(seen):
    """Fails unless texts are large enough, in the page's colour, apart from each other and inside or outside boxes."""
    assert seen["texts"]
    for n, text in enumerate(seen["texts"]):
        assert text["colour"] == seen["colour"] and text["pixels"] >= SMALLEST and text["said"] in seen["copied"]
        assert within(text["place"], seen["whole"]), text["said"]
        for other in seen["texts"][:n]:
            assert apart(text["place"], other["place"]), (text["said"], other["said"])
        for box in seen["boxes"]:
            assert apart(text["place"], box) or within(text["place"], box), text["said"]
