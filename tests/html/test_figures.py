"""Every interactive figure of the built book, moved as a reader would move it, with no kernel behind it."""

import json

import pytest

from tests.html.book import NOTEBOOKS, PAGES, ROOT, parsed
from tests.html.watch import UNFOLD, opened

PHONE = {"width": 390, "height": 844}

STATE = """figure => ({
    pictures: [...figure.querySelectorAll("img")]
        .filter(img => img.checkVisibility() && img.offsetHeight > 40)
        .map(img => ({picture: img.src, alt: img.alt})),
    spoken: [...figure.querySelectorAll("input[type=range]")].map(slider => slider.ariaValueText).join("; "),
})"""
CONTROLS = "input, button, output, label"


def stored_figures(document):
    """How many interactive figures the stored outputs of a notebook hold."""
    notebook = json.loads((ROOT / f"{document}.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    shown = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    return sum('<figure class="explore"' in html for html in shown)


CHAPTERS = [document for document in NOTEBOOKS if stored_figures(document)]


@pytest.fixture(scope="module")
def pages(server):
    """The pages with interactive figures: the chapters, and others that borrow a figure from one."""
    return [page for page in PAGES if parsed(page).select("figure.explore")]


def test_every_stored_figure_is_in_the_pages(pages):
    assert CHAPTERS, "no chapter has an interactive figure"
    for document in CHAPTERS:
        shown = parsed(f"{document}.html").select("figure.explore")
        assert len(shown) == stored_figures(document), document


def test_the_keyboard_moves_every_slider(pages, browser, server):
    for figure, page in figures(pages, browser, server):
        for slider in figure.locator("input[type=range]").all():
            walk = walked(figure, slider)
            assert len({step["picture"] for step in walk}) > 1, f"{named(slider)}: one picture for all values"
            assert len({step["alt"] for step in walk}) > 1, f"{named(slider)}: one text for all values"
            assert len({step["spoken"] for step in walk}) == len(walk), f"{named(slider)}: values sound alike"
            page.keyboard.press("End")
            assert state(figure) == walk[-1]
            page.keyboard.press("Home")
            assert state(figure) == walk[0]


def test_the_mouse_moves_every_slider(pages, browser, server):
    for figure, page in figures(pages, browser, server):
        for slider in figure.locator("input[type=range]").all():
            walk = walked(figure, slider)
            slider.press("Home")
            page.mouse.move(*place(slider, 0))
            page.mouse.down()
            page.mouse.move(*place(slider, unlike_first(walk)), steps=4)
            page.mouse.up()
            assert_moved(figure, slider, walk)


def test_the_buttons_beside_a_slider_go_one_value_at_a_time(pages, browser, server):
    for figure, _ in figures(pages, browser, server):
        for slider in figure.locator("input[type=range]").all():
            walk = walked(figure, slider)
            slider.press("Home")
            less, more = slider.locator("xpath=..").locator("button").all()
            assert less.is_disabled() and more.is_enabled()
            more.click()
            assert state(figure) == walk[1]
            less.click()
            assert state(figure) == walk[0]


def test_a_finger_moves_every_slider(pages, browser, server):
    for figure, page in figures(pages, browser, server, viewport=PHONE, has_touch=True, is_mobile=True):
        for slider in figure.locator("input[type=range]").all():
            walk = walked(figure, slider)
            slider.press("Home")
            page.touchscreen.tap(*place(slider, unlike_first(walk)))
            assert_moved(figure, slider, walk)


def test_without_scripts_one_picture_is_shown(pages, browser, server):
    for figure, _ in figures(pages, browser, server, java_script_enabled=False):
        shown = [picture for picture in figure.locator("img").all() if picture.is_visible()]
        assert len(shown) == 1
        assert shown[0].get_attribute("alt").strip()
        assert not any(control.is_visible() for control in figure.locator(CONTROLS).all()), "a dead control"


def test_print_has_one_picture_and_no_controls(pages, browser, server):
    for figure, page in figures(pages, browser, server):
        page.emulate_media(media="print")
        state(figure)
        controls = figure.locator(CONTROLS).all()
        assert controls and not any(control.is_visible() for control in controls)
        page.emulate_media(media="screen")


def figures(pages, browser, server, **settings):
    """Each interactive figure of the book in turn, with its page, which may report no error."""
    context = browser.new_context(**settings)
    for name in pages:
        with opened(context, server.address, name) as (page, watch):
            page.evaluate(UNFOLD)
            for figure in page.locator("figure.explore").all():
                figure.scroll_into_view_if_needed()
                yield figure, page
            assert watch.errors == []
    context.close()


def state(figure):
    """The one picture that a figure shows, its alternative text, and what its sliders say aloud."""
    seen = figure.evaluate(STATE)
    assert len(seen["pictures"]) == 1, f"{len(seen['pictures'])} pictures at once"
    return {**seen["pictures"][0], "spoken": seen["spoken"]}


def walked(figure, slider):
    """What the figure shows at each value of one slider, lowest first, stepped through with the arrow key."""
    slider.scroll_into_view_if_needed()
    slider.focus()
    slider.press("Home")
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
