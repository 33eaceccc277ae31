"""Every page of the book, opened in Chromium over http with nothing outside the book to be had.

A page is opened once for all its tests. Each leaves it as it was; those that would be slow on a long page come last, on
what `looks.thin` leaves of it.
"""

from types import SimpleNamespace

import pytest

from tests.html import formulas
from tests.html.animations import PAGES_WITH_ANIMATIONS, assert_obeys_its_button
from tests.html.book import DESKTOP, PAGES, PHONE
from tests.html.figures import (
    CONTROLS,
    PAGES_WITH_FIGURES,
    assert_moved,
    figures,
    named,
    place,
    printed,
    start,
    state,
    touched,
    unlike_first,
    walks,
)
from tests.html.looks import dress, serious_faults, sideways, thin
from tests.html.watch import UNFOLD, opened


@pytest.fixture(scope="module", params=PAGES)
def unfolded(request, window, server):
    """One page, opened and unfolded, and what was to be seen before any test touched it."""
    name, missing_before = request.param, len(server.missing)
    with opened(window, server.address, name) as (page, watch):
        page.evaluate(UNFOLD)
        yield SimpleNamespace(
            page=page,
            watch=watch,
            formulas=formulas.faults(page, formulas.written(name)),
            missing=lambda: server.missing[missing_before:],
        )


@pytest.fixture
def visit(unfolded):
    """The open page; whatever a test does on it, nothing may go wrong."""
    yield unfolded
    assert unfolded.watch.faults() == []
    assert unfolded.missing() == [], "files that the page asked for and the book does not have"


@pytest.fixture(scope="module")
def thinned(unfolded):
    """The open page with one of what looks alike in its code and formulas; its figures are whole."""
    thin(unfolded.page)


@pytest.fixture(scope="module")
def walked(unfolded, thinned):
    """Every slider of the page, with what its figure shows at each of its values."""
    return walks(unfolded.page)


with_figures = pytest.mark.parametrize("unfolded", PAGES_WITH_FIGURES, indirect=True)
with_animations = pytest.mark.parametrize("unfolded", PAGES_WITH_ANIMATIONS, indirect=True)


def test_opens_without_a_fault_and_without_the_network(visit):
    assert visit.watch.faults() == []
    assert visit.missing() == [], "files that the page asked for and the book does not have"


def test_every_formula_is_typeset(visit):
    assert visit.formulas == []


def test_fits_the_width_of_a_phone(visit):
    visit.page.set_viewport_size(PHONE)
    try:
        assert sideways(visit.page) == []
    finally:
        visit.page.set_viewport_size(DESKTOP)


@with_animations
def test_a_moving_picture_obeys_its_button(visit):
    assert_obeys_its_button(visit.page, moves_at_first=True)


@with_figures
def test_the_keyboard_moves_every_slider(visit, walked):
    assert walked, "figures without a slider"
    for figure, slider, walk in walked:
        assert len({step["picture"] for step in walk}) > 1, f"{named(slider)}: one picture for all values"
        assert len({step["alt"] for step in walk}) > 1, f"{named(slider)}: one text for all values"
        assert len({step["spoken"] for step in walk}) == len(walk), f"{named(slider)}: values sound alike"
        start(figure, slider)
        visit.page.keyboard.press("End")
        assert state(figure) == walk[-1]
        visit.page.keyboard.press("Home")
        assert state(figure) == walk[0]


@with_figures
def test_the_mouse_moves_every_slider(visit, walked):
    mouse = visit.page.mouse
    for figure, slider, walk in walked:
        start(figure, slider)
        mouse.move(*place(slider, 0))
        mouse.down()
        mouse.move(*place(slider, unlike_first(walk)), steps=4)
        mouse.up()
        assert_moved(figure, slider, walk)


@with_figures
def test_the_buttons_beside_a_slider_go_one_value_at_a_time(visit, walked):
    for figure, slider, walk in walked:
        start(figure, slider)
        less, more = slider.query_selector_all("xpath=..//button")
        assert less.is_disabled() and more.is_enabled()
        more.click()
        assert state(figure) == walk[1]
        less.click()
        assert state(figure) == walk[0]


@with_figures
def test_print_has_one_picture_and_no_controls(visit, thinned):
    with printed(visit.page):
        for figure in figures(visit.page):
            state(figure)
            controls = figure.query_selector_all(CONTROLS)
            assert controls and not any(control.is_visible() for control in controls)


@with_figures
def test_a_finger_moves_every_slider(visit, thinned):
    with touched(visit.page) as tap:
        for figure, slider, walk in walks(visit.page):
            start(figure, slider)
            tap(*place(slider, unlike_first(walk)))
            assert_moved(figure, slider, walk)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_has_no_serious_fault_of_accessibility(visit, thinned, mode):
    dress(visit.page, mode)
    assert serious_faults(visit.page, mode) == []
