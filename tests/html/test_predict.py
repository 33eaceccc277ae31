"""Questions on a page of the built book: answered by keyboard, finger and without scripts, seen and printed."""

import pytest
from playwright.sync_api import expect

from tests.html.book import BUILT, PHONE
from tests.html.cards import PAGE, REPLIES, RIGHT, add_card
from tests.html.figures import printed, touched
from tests.html.looks import dress, serious_faults, sideways, thin
from tests.html.watch import opened

SIGN = "answer => getComputedStyle(answer, '::before').content"


@pytest.fixture
def card(window, server):
    """A question nobody has answered yet."""
    with opened(window, server.address, PAGE) as (page, watch):
        yield add_card(page)
        assert watch.faults() == []


def assert_shown(card, *answers):
    """Fails unless these answers are unfolded, with a verdict and their own sentence, and no others."""
    for answer, reply in REPLIES.items():
        said = card.locator("details", has_text=answer).locator("p")
        if answer in answers:
            verdict = "Right." if answer == RIGHT else "Not so."
            expect(said).to_be_visible()
            expect(said).to_have_text(f"{verdict} {reply}", use_inner_text=True)
        else:
            expect(said).to_be_hidden()


def test_the_keyboard_tries_one_answer_after_the_other(card):
    first, second, third = REPLIES
    assert_shown(card)
    card.locator("summary").first.focus()
    keyboard = card.page.keyboard
    keyboard.press("Enter")
    assert_shown(card, first)
    keyboard.press("Tab")
    keyboard.press("Space")
    assert_shown(card, first, second)
    keyboard.press("Shift+Tab")
    keyboard.press("Enter")
    assert_shown(card, second)
    card.get_by_text(third).click()
    assert_shown(card, second, third)


def test_the_focus_can_be_seen(card):
    card.locator("summary").nth(1).focus()
    card.page.keyboard.press("Shift+Tab")
    assert card.locator("summary").first.evaluate("answer => getComputedStyle(answer).outlineStyle") == "solid"


def test_a_finger_finds_every_answer(card):
    with touched(card.page) as tap:
        for number, place in enumerate(card.locator("summary").all(), start=1):
            place.scroll_into_view_if_needed()
            box = place.bounding_box()
            assert box["height"] >= 44 and box["width"] >= 44
            tap(box["x"] + box["width"] - 5, box["y"] + box["height"] - 5)
            assert_shown(card, *list(REPLIES)[:number])
        assert sideways(card.page) == []


def test_the_sign_before_an_answer_says_by_its_shape_whether_it_was_right(card):
    signs = {}
    for answer in REPLIES:
        place = card.locator("summary", has_text=answer)
        assert place.evaluate(SIGN) == '""', "given away"
        place.click()
        signs[answer] = place.evaluate(SIGN)
    assert signs.pop(RIGHT) == '"✓"'
    assert set(signs.values()) == {'"✗"'}


def test_from_disk_and_without_scripts_it_works_the_same(browser):
    context = browser.new_context(java_script_enabled=False)
    with opened(context, f"{BUILT.as_uri()}/", PAGE) as (page, watch):
        card = add_card(page)
        assert_shown(card)
        card.get_by_text(RIGHT).click()
        assert_shown(card, RIGHT)
        assert watch.outside == []
    context.close()


def test_paper_shows_every_reply(card):
    heights = "replies => replies.map(reply => reply.offsetHeight)"
    with printed(card.page):
        expect(card.locator("details[open]")).to_have_count(0)
        assert card.locator("details > p").evaluate_all("all => all.every(reply => reply.checkVisibility())")
        assert min(card.locator("details > p").evaluate_all(heights)) > 20
        shown = card.locator("details > p").all_inner_texts()
    assert [text[0] for text in shown] == ["✓" if answer == RIGHT else "✗" for answer in REPLIES]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_everyone_can_read_it(card, mode):
    thin(card.page)
    dress(card.page, mode)
    assert serious_faults(card.page, mode) == []
    for answer in card.locator("summary").all():
        answer.click()
    card.page.set_viewport_size(PHONE)
    assert serious_faults(card.page, mode) == []
    assert sideways(card.page) == []
