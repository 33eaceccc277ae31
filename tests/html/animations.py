"""The moving pictures of an open page."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.html.book import pages_with

PAGES_WITH_ANIMATIONS = pages_with("animation")


def assert_obeys_its_button(page: Page, moves_at_first: bool) -> None:
    """Fails unless the first moving picture moves or stands still as it should, and its button changes that, twice."""
    figure = page.locator("figure.animation").first
    button, image = figure.get_by_role("button"), figure.locator("img")
    moves = [image.get_attribute("src").startswith("data:image/webp")]
    for _ in range(2):
        button.focus()
        page.keyboard.press("Enter")
        moves.append(image.get_attribute("src").startswith("data:image/webp"))
        assert button.inner_text() == ("Stop" if moves[-1] else "Play")
    assert moves == [moves_at_first, not moves_at_first, moves_at_first]
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
