"""The moving pictures of the built book: they stand still for who asked for that, and where no script runs.

That they move for all others is tested in `test_pages`, on the open pages.
"""

import pytest

from tests.html.animations import PAGES_WITH_ANIMATIONS, assert_obeys_its_button
from tests.html.watch import opened


def test_the_landing_page_borrows_the_moving_picture_of_a_chapter():
    assert "book/index.html" in PAGES_WITH_ANIMATIONS and len(PAGES_WITH_ANIMATIONS) > 1


@pytest.fixture(scope="module")
def calm(browser):
    """A window of a reader who asked for less motion."""
    context = browser.new_context(reduced_motion="reduce")
    yield context
    context.close()


@pytest.mark.parametrize("name", PAGES_WITH_ANIMATIONS)
def test_stands_still_where_that_was_asked_for_and_obeys_its_button(name, calm, server):
    with opened(calm, server.address, name) as (page, watch):
        assert_obeys_its_button(page, moves_at_first=False)
        assert watch.faults() == []


def test_without_scripts_it_is_a_still_without_a_button(browser, server):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.address}{PAGES_WITH_ANIMATIONS[0]}")
    figure = page.locator("figure.animation").first
    assert figure.locator("img").get_attribute("src").startswith("data:image/png")
    assert not figure.locator("button").is_visible()
    context.close()
