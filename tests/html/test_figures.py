"""Every interactive figure of the built book, moved as a reader would move it, with no kernel behind it."""

import json
from contextlib import contextmanager

import pytest

from tests.html.book import BUILT, DESKTOP, NOTEBOOKS, PAGES, PHONE, ROOT, parsed
from tests.html.watch import UNFOLD, opened

# Pictures that are equal count as one: the first of them.
STATE = """figure => {
    const images = [...figure.querySelectorAll("img")];
    return {
        pictures: images
            .filter(img => img.checkVisibility() && img.offsetHeight > 40)
            .map(img => ({picture: images.findIndex(other => other.src === img.src), alt: img.alt})),
        spoken: [...figure.querySelectorAll("input[type=range]")].map(slider => slider.ariaValueText).join("; "),
    };
}"""
CONTROLS = "input, button, output, label"


def stored_figures(document):
    """How many interactive figures the stored outputs of a notebook hold."""
    notebook = json.loads((ROOT / f"{document}.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    shown = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    return sum('<figure class="explore"' in html for html in shown)


CHAPTERS = [document for document in NOTEBOOKS if stored_figures(document)]


# The chapters, and pages that borrow a figure from one; none before the book is built.
PAGES_WITH_FIGURES = [page for page in PAGES if (BUILT / page).exists() and parsed(page).select("figure.explore")]


@pytest.fixture(scope="module", params=PAGES_WITH_FIGURES)
def sliders(request, browser, server):
    """Every slider of a page, with what its figure shows at each of its values."""
    with figures(request.param, browser, server, viewport=DESKTOP) as (page, found):
        yield page, [(figure, slider, walked(figure, slider)) for figure in found for slider in ranges(figure)]


@pytest.mark.parametrize("document", CHAPTERS)
def test_every_stored_figure_is_in_its_page(document):
    assert len(parsed(f"{document}.html").select("figure.explore")) == stored_figures(document)


def test_the_keyboard_moves_every_slider(sliders):
    page, moved = sliders
    assert moved, "figures without a slider"
    for figure, slider, walk in moved:
        assert len({step["picture"] for step in walk}) > 1, f"{named(slider)}: one picture for all values"
        assert len({step["alt"] for step in walk}) > 1, f"{named(slider)}: one text for all values"
        assert len({step["spoken"] for step in walk}) == len(walk), f"{named(slider)}: values sound alike"
        start(figure, slider)
        page.keyboard.press("End")
        assert state(figure) == walk[-1]
        page.keyboard.press("Home")
        assert state(figure) == walk[0]


def test_the_mouse_moves_every_slider(sliders):
    page, moved = sliders
    for figure, slider, walk in moved:
        start(figure, slider)
        page.mouse.move(*place(slider, 0))
        page.mouse.down()
        page.mouse.move(*place(slider, unlike_first(walk)), steps=4)
        page.mouse.up()
        assert_moved(figure, slider, walk)


def test_the_buttons_beside_a_slider_go_one_value_at_a_time(sliders):
    _, moved = sliders
    for figure, slider, walk in moved:
        start(figure, slider)
        less, more = slider.locator("xpath=..").locator("button").all()
        assert less.is_disabled() and more.is_enabled()
        more.click()
        assert state(figure) == walk[1]
        less.click()
        assert state(figure) == walk[0]


def test_print_has_one_picture_and_no_controls(sliders):
    page, moved = sliders
    page.emulate_media(media="print")
    for figure in {id(figure): figure for figure, _, _ in moved}.values():
        state(figure)
        controls = figure.locator(CONTROLS).all()
        assert controls and not any(control.is_visible() for control in controls)
    page.emulate_media(media="screen")


@pytest.mark.parametrize("name", PAGES_WITH_FIGURES)
def test_a_finger_moves_every_slider(name, browser, server):
    with figures(name, browser, server, viewport=PHONE, has_touch=True, is_mobile=True) as (page, found):
        for figure in found:
            for slider in ranges(figure):
                walk = walked(figure, slider)
                start(figure, slider)
                page.touchscreen.tap(*place(slider, unlike_first(walk)))
                assert_moved(figure, slider, walk)


@pytest.mark.parametrize("name", PAGES_WITH_FIGURES)
def test_without_scripts_one_picture_is_shown(name, browser, server):
    with figures(name, browser, server, java_script_enabled=False) as (_, found):
        for figure in found:
            shown = [picture for picture in figure.locator("img").all() if picture.is_visible()]
            assert len(shown) == 1
            assert shown[0].get_attribute("alt").strip()
            assert not any(control.is_visible() for control in figure.locator(CONTROLS).all()), "a dead control"


@contextmanager
def figures(name, browser, server, **settings):
    """A page in a window of its own, with its interactive figures; it may report no error."""
    context = browser.new_context(**settings)
    with opened(context, server.address, name) as (page, watch):
        page.evaluate(UNFOLD)
        yield page, page.locator("figure.explore").all()
        assert watch.errors == []
    context.close()


def ranges(figure):
    return figure.locator("input[type=range]").all()


def start(figure, slider):
    """Brings a slider to its lowest value, and the others of its figure to their middle: an end may say nothing."""
    for other in ranges(figure):
        other.fill(str(int(other.get_attribute("max")) // 2))
    slider.scroll_into_view_if_needed()
    slider.press("Home")


def state(figure):
    """The one picture that a figure shows, its alternative text, and what its sliders say aloud."""
    seen = figure.evaluate(STATE)
    assert len(seen["pictures"]) == 1, f"{len(seen['pictures'])} pictures at once"
    return {**seen["pictures"][0], "spoken": seen["spoken"]}


def walked(figure, slider):
    """What the figure shows at each value of one slider, lowest first, stepped through with the arrow key."""
    start(figure, slider)
    seen = [state(figure)]
    for _ in range(int(slider.get_attribute("max"))):
        slider.press("ArrowRight")
        seen.append(state(figure))
    return seen


def unlike_first(walk):
    """The highest value with another picture than the lowest: some pictures come back, as on a circle."""
    return max(value for value, step in enumerate(walk) if step["picture"] != walk[0]["picture"])


def place(slider, value):
    """Where on the screen a slider has its knob at that value."""
    box, knob = slider.bounding_box(), 18
    share = value / int(slider.get_attribute("max"))
    return box["x"] + knob / 2 + (box["width"] - knob) * share, box["y"] + box["height"] / 2


def assert_moved(figure, slider, walk):
    now = state(figure)
    assert now in walk[1:], f"{named(slider)} went to no value of its own"
    assert now["picture"] != walk[0]["picture"], f"{named(slider)} left the picture as it was"
    assert int(slider.input_value()) == walk.index(now)


def named(slider):
    return slider.evaluate("slider => slider.labels[0]?.textContent.trim() ?? slider.id")
