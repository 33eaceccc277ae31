"""Photographs of the built pages, for people to look at: in light, in dark, and as wide as a phone.

`python -m tests.html.photographs [PAGE ...]` takes pages as `_toc.yml` names them, all where none is named.
"""

import sys

from playwright.sync_api import Page, sync_playwright

from tests.html.book import DESKTOP, DOCUMENTS, PHONE, SCREENSHOTS, serve
from tests.html.browser import FLAGS, find_or_install
from tests.html.looks import dress
from tests.html.watch import UNFOLD, opened


def photograph(page: Page, name: str, tallest: int = 8000) -> None:
    """Saves the whole of an open page in pieces: Chromium draws only so much at once."""
    width, height = page.evaluate("() => [window.innerWidth, document.documentElement.scrollHeight]")
    for piece, top in enumerate(range(0, height, tallest), start=1):
        clip = {"x": 0, "y": top, "width": width, "height": min(tallest, height - top)}
        path = SCREENSHOTS / f"{name}-{piece}.jpeg"
        page.screenshot(path=path, type="jpeg", quality=85, full_page=True, clip=clip)


def main(documents: list[str]) -> None:
    """Takes the photographs of these pages."""
    if unknown := set(documents) - set(DOCUMENTS):
        raise SystemExit(f"no such pages: {', '.join(sorted(unknown))}; there are {', '.join(DOCUMENTS)}")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, serve() as server:
        browser = playwright.chromium.launch(executable_path=find_or_install(), args=list(FLAGS))
        context = browser.new_context(viewport=DESKTOP)
        for document in documents or DOCUMENTS:
            label = document.replace("/", "-")
            with opened(context, server.address, f"{document}.html") as (page, _):
                page.evaluate(UNFOLD)
                for mode in ("light", "dark"):
                    dress(page, mode)
                    photograph(page, f"{label}-{mode}")
                dress(page, "light")
                page.set_viewport_size(PHONE)
                photograph(page, f"{label}-phone")
        browser.close()
    print(f"photographs in {SCREENSHOTS}")


if __name__ == "__main__":
    main(sys.argv[1:])
