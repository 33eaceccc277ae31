"""A page of the built book with questions in it, as `predict` writes them and MyST-NB places them."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

from lib.notebook.predict import card_html

PAGE = "book/how-to-read.html"  # a short one
QUESTION = "Nobody charges for noise any more: β falls from 1 to 0. What becomes of the drawing of a random code?"
REPLIES = {
    "It gets sharper": "The reconstructions do. But a random code now lies where the decoder has never been.",
    "It falls apart": "The clouds have shrunk to points, and most random codes lie in none of them.",
    "Nothing: the decoder is the same, and so are the codes that we draw": "It is not the same; it was trained with β.",
}
RIGHT = "It falls apart"

PLACE = """card => {
    const output = `<div class="cell docutils container"><div class="cell_output docutils container">
        <div class="output text_html">${card}</div></div></div>`;
    document.querySelector("article h1").insertAdjacentHTML("afterend", output);
}"""


def add_card(page: Page) -> Locator:
    """Puts a question below the title of an open page."""
    page.evaluate(PLACE, card_html(QUESTION, REPLIES, RIGHT))
    return page.locator("fieldset.predict").first
