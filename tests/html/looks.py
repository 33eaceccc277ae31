"""How an open page looks: whether it fits a phone, whether everyone can read it, and photographs of it."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.html.book import SCREENSHOTS

# Without preloading: axe-core would fetch the style sheets again, from addresses that it gets wrong. From
# light to dark only colours change, so only the rules about colours are asked again.
AXE = {"resultTypes": ["violations"], "preload": False}
AXE_IN = {"light": AXE, "dark": {**AXE, "runOnly": ["color-contrast", "link-in-text-block"]}}

# Colours fade from one theme to the other; half-way through, their contrast is nobody's choice.
DRESS = """async mode => {
    document.documentElement.dataset.theme = mode;
    await Promise.all(document.getAnimations().map(fade => fade.finished));
}"""

SIDEWAYS = """() => {
    const root = document.documentElement;
    if (root.scrollWidth <= window.innerWidth) return [];
    const wide = [...document.querySelectorAll("body *")].filter(
        part => part.getBoundingClientRect().right > window.innerWidth + 1);
    return [`${root.scrollWidth} px in a window of ${window.innerWidth} px`,
            ...wide.slice(0, 8).map(part => part.outerHTML.slice(0, 160))];
}"""


def dress(page: Page, mode: str) -> None:
    """Puts the page into "light" or "dark"."""
    page.evaluate(DRESS, mode)


def sideways(page: Page) -> list[str]:
    """How far the page reaches past its window, and what reaches that far; empty when all of it fits."""
    return page.evaluate(SIDEWAYS)


def serious_faults(page: Page, mode: str) -> list[str]:
    """What axe-core finds serious or critical, an entry for each rule and element. Nothing is excused."""
    found = Axe().run(page, options=AXE_IN[mode]).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}) {node['target']}: {node['html'][:300]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def photograph(page: Page, name: str, tallest: int = 8000) -> None:
    """Saves the whole page for people to look at, in pieces: Chromium draws only so much at once."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    width, height = page.evaluate("() => [window.innerWidth, document.documentElement.scrollHeight]")
    for piece, top in enumerate(range(0, height, tallest), start=1):
        clip = {"x": 0, "y": top, "width": width, "height": min(tallest, height - top)}
        path = SCREENSHOTS / f"{name}-{piece}.jpeg"
        page.screenshot(path=path, type="jpeg", quality=85, full_page=True, clip=clip)
