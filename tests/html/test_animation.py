"""The moving pictures of the built book: they move, stop when told to, and stand still for who asked for that."""

import pytest

from tests.html.book import PAGES, parsed
from tests.html.watch import opened


@pytest.fixture(scope="module")
def pages():
    found = [page for page in PAGES if parsed(page).select("figure.animation")]
    assert "book/index.html" in found and len(found) > 1, "the landing page borrows a chapter's moving picture"
    return found


@pytest.mark.parametrize("motion, moves_at_first", [("no-preference", True), ("reduce", False)])
def test_moves_unless_asked_not_to_and_obeys_its_button(pages, browser, server, motion, moves_at_first):
    context = browser.new_context(reduced_motion=motion)
    for name in pages:
        with opened(context, server.address, name) as (page, watch):
            figure = page.locator("figure.animation").first
            button, image = figure.get_by_role("button"), figure.locator("img")
            moves = [image.get_attribute("src").startswith("data:image/webp")]
            for _ in range(2):
                button.focus()
                page.keyboard.press("Enter")
                moves.append(image.get_attribute("src").startswith("data:image/webp"))
                assert button.inner_text() == ("Stop" if moves[-1] else "Play")
            assert moves == [moves_at_first, not moves_at_first, moves_at_first], name
            assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
            assert watch.faults() == []
    context.close()


def test_without_scripts_it_is_a_still_without_a_button(pages, browser, server):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.address}{pages[0]}")
    figure = page.locator("figure.animation").first
    assert figure.locator("img").get_attribute("src").startswith("data:image/png")
    assert not figure.locator("button").is_visible()
    context.close()
