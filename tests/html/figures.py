"""The interactive figures of an open page, moved as a reader would move them, and what they show.

Figures and sliders are handles of their elements, not locators: a locator looks through the whole page again at every
step, and typeset pages are long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from playwright.sync_api import ElementHandle, Page

from tests.html.book import DESKTOP, PHONE, pages_with

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

# The chapters, and pages that borrow a figure from one.
PAGES_WITH_FIGURES = pages_with("explore")


def figures(page: Page) -> list[ElementHandle]:
    """The interactive figures of an open page."""
    return page.query_selector_all("figure.explore")


def ranges(figure: ElementHandle) -> list[ElementHandle]:
    """The sliders of a figure."""
    return figure.query_selector_all("input[type=range]")


def walks(page: Page) -> list[tuple[ElementHandle, ElementHandle, list[dict]]]:
    """Every slider of an open page: its figure, the slider, and what the figure shows at each of its values."""
    return [(figure, slider, walked(figure, slider)) for figure in figures(page) for slider in ranges(figure)]


def walked(figure: ElementHandle, slider: ElementHandle) -> list[dict]:
    """What the figure shows at each value of one slider, lowest first, stepped through with the arrow key."""
    start(figure, slider)
    seen = [state(figure)]
    for _ in range(highest(slider)):
        slider.press("ArrowRight")
        seen.append(state(figure))
    return seen


def start(figure: ElementHandle, slider: ElementHandle) -> None:
    """Brings a slider to its lowest value, and the others of its figure to their middle: an end may say nothing."""
    for other in ranges(figure):
        other.fill(str(highest(other) // 2))
    slider.scroll_into_view_if_needed()
    slider.press("Home")


def state(figure: ElementHandle) -> dict:
    """The one picture that a figure shows, its alternative text, and what its sliders say aloud."""
    seen = figure.evaluate(STATE)
    assert len(seen["pictures"]) == 1, f"{len(seen['pictures'])} pictures at once"
    return {**seen["pictures"][0], "spoken": seen["spoken"]}


def highest(slider: ElementHandle) -> int:
    """The highest value of a slider; the lowest is 0."""
    return int(slider.get_attribute("max"))


def unlike_first(walk: list[dict]) -> int:
    """The highest value with another picture than the lowest: some pictures come back, as on a circle."""
    return max(value for value, step in enumerate(walk) if step["picture"] != walk[0]["picture"])


def place(slider: ElementHandle, value: int) -> tuple[float, float]:
    """Where on the screen a slider has its knob at that value."""
    box, knob = slider.bounding_box(), 18
    share = value / highest(slider)
    return box["x"] + knob / 2 + (box["width"] - knob) * share, box["y"] + box["height"] / 2


def assert_moved(figure: ElementHandle, slider: ElementHandle, walk: list[dict]) -> None:
    """Fails unless the slider has left its lowest value, and the figure shows what it showed there in the walk."""
    now = state(figure)
    assert now in walk[1:], f"{named(slider)} went to no value of its own"
    assert now["picture"] != walk[0]["picture"], f"{named(slider)} left the picture as it was"
    assert int(slider.input_value()) == walk.index(now)


def named(slider: ElementHandle) -> str:
    """What a slider is called on the page."""
    return slider.evaluate("slider => slider.labels[0]?.textContent.trim() ?? slider.id")


@contextmanager
def printed(page: Page) -> Iterator[None]:
    """The open page as it is printed, until the block ends."""
    page.emulate_media(media="print")
    try:
        yield
    finally:
        page.emulate_media(media="screen")


@contextmanager
def touched(page: Page) -> Iterator[Callable[[float, float], None]]:
    """The open page as on a phone, until the block ends; gives what taps on a place of the screen.

    These are the settings and events of Playwright's own phones, which it gives only to windows of their own.
    """
    device = page.context.new_cdp_session(page)

    def tap(x: float, y: float) -> None:
        device.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        device.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def measure(window: dict, mobile: bool) -> None:
        device.send("Emulation.setDeviceMetricsOverride", {**window, "deviceScaleFactor": 1, "mobile": mobile})

    measure(PHONE, mobile=True)
    device.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        yield tap
    finally:
        device.send("Emulation.setTouchEmulationEnabled", {"enabled": False})
        measure(DESKTOP, mobile=False)
        device.detach()
