"""Whether the formulas of a page came out: none left as text, none in error, none lost."""

from __future__ import annotations

import re

from playwright.sync_api import Page

from tests.html.book import parsed

# A formula opens with \( or \[ in the page as Sphinx wrote it; \\[2pt] is a line break inside one.
OPENING = re.compile(r"(?<!\\)\\[(\[]")
VERBATIM = ["pre", "code", "script", "style"]
# None of these is left in the text once a page is typeset.
RAW = re.compile(r"\$|\\\(|\\\[|\\begin\b|\\end\b")

# MathJax shows a command that it does not know in red and goes on.
LOOK = """() => {
    const content = document.querySelector("article") ?? document.body;
    const typeset = [...content.querySelectorAll("mjx-container")];
    const text = content.cloneNode(true);
    text.querySelectorAll("pre, code, script, style, mjx-container").forEach(part => part.remove());
    return {
        typeset: typeset.length,
        empty: typeset.filter(formula => !formula.querySelector("mjx-math")?.childElementCount).length,
        errors: [...content.querySelectorAll("mjx-merror, mjx-container [style*='color: red']")].map(
            part => part.getAttribute("data-mjx-error") ?? part.closest("mjx-container").textContent),
        text: text.textContent.replace(/\\s+/g, " "),
    };
}"""


def written(name: str) -> int:
    """How many formulas the page `name` holds as Sphinx wrote it."""
    content = parsed(name).find("article")
    if content is None:
        return 0
    texts = [text for text in content.find_all(string=OPENING) if not text.find_parent(VERBATIM)]
    return sum(len(OPENING.findall(text)) for text in texts)


def faults(page: Page, expected: int) -> list[str]:
    """What is wrong with the formulas of an open page that should have at least `expected` of them."""
    seen = page.evaluate(LOOK)
    found = [f"in error: {error}" for error in seen["errors"]]
    for raw in RAW.finditer(seen["text"]):
        found.append(f"not typeset: {seen['text'][max(raw.start() - 40, 0) : raw.end() + 40]}")
    if seen["empty"]:
        found.append(f"{seen['empty']} formulas came out empty")
    if seen["typeset"] < expected:
        found.append(f"{seen['typeset']} formulas on the screen, {expected} in the page")
    return found
