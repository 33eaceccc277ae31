"""Opening a page of the built book with nothing else in reach, and noting all that goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import BrowserContext, Page

# Formulas are typeset after the page has loaded, and their fonts arrive last.
SETTLE = """async () => {
    if (window.MathJax?.startup) await MathJax.startup.promise;
    await document.fonts.ready;
}"""

# Folded solutions and hidden cells hold formulas and figures too.
UNFOLD = """() => {
    document.querySelectorAll("details").forEach(details => { details.open = true; });
    document.querySelectorAll("button.toggle-button-hidden").forEach(button => button.click());
}"""


LOADING = 120_000  # milliseconds; a long chapter takes two seconds, and twenty times that beside other work


@dataclass
class Watch:
    """What a page asked for outside the book, what it did not get, and the errors it reported."""

    outside: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """All of it, a line each."""
        outside = [f"asked for something outside the book: {address}" for address in self.outside]
        return outside + [f"did not get: {request}" for request in self.failed] + self.errors


@contextmanager
def opened(context: BrowserContext, base: str, name: str) -> Iterator[tuple[Page, Watch]]:
    """The page `name` of the book at `base`, formulas typeset and fonts there, closed when the block ends.

    The browser reaches nothing but this machine (see `browser.FLAGS`); what the page asks of others is noted.
    """
    page, watch = context.new_page(), Watch()

    def note_request(request):
        if not request.url.startswith((base, "data:", "blob:")):
            watch.outside.append(request.url)

    def note_response(response):
        if response.status >= 400:
            watch.failed.append(f"{response.status} {response.url}")

    def note_message(message):
        if message.type == "error":
            watch.errors.append(f"{message.text} ({message.location.get('url')})")

    page.on("request", note_request)
    page.on("websocket", lambda socket: watch.outside.append(socket.url))
    page.on("response", note_response)
    page.on("requestfailed", lambda request: watch.failed.append(f"{request.failure} {request.url}"))
    page.on("console", note_message)
    page.on("pageerror", lambda error: watch.errors.append(f"uncaught: {error}"))
    page.goto(base + name, wait_until="load", timeout=LOADING)
    page.evaluate(SETTLE)
    try:
        yield page, watch
    finally:
        page.close()
