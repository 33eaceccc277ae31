"""How an open page looks: whether it fits a phone, and whether everyone can read it."""

from __future__ import annotations

from contextlib import suppress

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, TimeoutError

# Without preloading: axe-core would fetch the style sheets again, from addresses that it gets wrong. From
# light to dark only colours change, so only the rules about colours are asked again.
AXE = {"resultTypes": ["violations"], "preload": False}
AXE_IN = {"light": AXE, "dark": {**AXE, "runOnly": ["color-contrast", "link-in-text-block"]}}

# Colours fade from one theme to the other; half-way through, their contrast is nobody's choice. A fade that is broken
# off is over, too.
DRESS = """async mode => {
    document.documentElement.dataset.theme = mode;
    await Promise.allSettled(document.getAnimations().map(fade => fade.finished));
}"""

# The theme lets the keyboard into code that is wider than its box, a moment after the page was loaded or resized.
SETTLED = """() => [...document.querySelectorAll("pre")].every(
    code => code.scrollWidth <= code.clientWidth || code.tabIndex === 0)"""

# axe-core takes milliseconds for each element, and a chapter has tens of thousands: the words of highlighted code and
# the signs of formulas. Of what looks alike to it the first stays as it is. The other words, in code of one kind,
# become part of the text around them. A formula stays whole unless each of its elements is of a kind that an earlier
# one had (by name, attributes without lengths, and text of its own where it is seen, so each colour and each link is a
# kind); else it becomes a box of its size and the text that is read aloud.
THIN = """() => {
    const seen = new Set();
    document.querySelectorAll("pre span:not(:has(*))").forEach(word => {
        const block = word.closest("div[class*=highlight]")?.parentElement.className;
        const look = JSON.stringify([block, word.className, word.getAttribute("style")]);
        if (seen.has(look)) word.replaceWith(word.textContent);
        seen.add(look);
    });
    const kind = part => JSON.stringify([part.localName, part.closest("mjx-math") && part.textContent,
        ...[...part.attributes].filter(({name}) => name !== "class" || part.localName !== "mjx-c").map(
            ({name, value}) => [name, value.replace(/-?[0-9.]+(em|ex|px|%)/g, "")])]);
    const boxes = [...document.querySelectorAll("mjx-container")].flatMap(formula => {
        const kinds = [...formula.querySelectorAll("*")].map(kind), drawn = formula.querySelector("mjx-math");
        const known = kinds.every(kind => seen.has(kind));
        kinds.forEach(kind => seen.add(kind));
        return known && drawn ? [{formula, drawn, width: drawn.scrollWidth, height: drawn.offsetHeight}] : [];
    });
    boxes.forEach(({formula, drawn, width, height}) => {
        const box = document.createElement("mjx-box");
        box.style.cssText = `display: inline-block; width: ${width}px; height: ${height}px`;
        drawn.replaceChildren(box);
        const spoken = formula.querySelector("mjx-assistive-mml");
        spoken?.replaceChildren(spoken.textContent);
    });
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


def thin(page: Page) -> None:
    """Leaves one of what looks alike in code and formulas, as long pages are slow to judge and to move."""
    page.evaluate(THIN)


def serious_faults(page: Page, mode: str) -> list[str]:
    """What axe-core finds serious or critical, an entry for each rule and element. Nothing is excused."""
    with suppress(TimeoutError):  # then axe-core says what is wrong
        page.wait_for_function(SETTLED, timeout=5_000)
    found = Axe().run(page, options=AXE_IN[mode]).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}) {node['target']}: {node['html'][:300]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
