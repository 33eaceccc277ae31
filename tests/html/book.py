"""The built book as its readers meet it: its pages, and a server to open them from."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import Page

from lib.publishing import notebooks

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "_build" / "html"
SCREENSHOTS = ROOT / "_build" / "screenshots"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}

# Each page of `_toc.yml`, in the order of reading, and the two that Sphinx adds.
DOCUMENTS = notebooks.pages(ROOT)
PAGES = [f"{document}.html" for document in DOCUMENTS] + ["search.html", "genindex.html"]
NOTEBOOKS = [path.relative_to(ROOT).with_suffix("").as_posix() for path in notebooks.chapters(ROOT)]


def configuration() -> dict:
    """The settings in `_config.yml`."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


@functools.cache
def parsed(page: str) -> BeautifulSoup:
    """The page as it was written to disk, before any script touched it."""
    return BeautifulSoup((BUILT / page).read_text(encoding="utf-8"), "html.parser")


def pages_with(figure: str) -> list[str]:
    """The pages that hold a figure of this class, as the text of the pages says; none before the book is built."""
    built = [page for page in PAGES if (BUILT / page).exists()]
    tag = re.compile(rf'<figure class="([^"]* )?{figure}[ "]')
    return [page for page in built if tag.search((BUILT / page).read_text(encoding="utf-8"))]


def title(document: str) -> str:
    """The heading of a page."""
    return parsed(f"{document}.html").select_one("article h1").find(string=True)


def longest_word(text: str) -> str:
    """The word that says most, for a search."""
    return max(re.findall(r"\w+", text), key=len)


def assert_found(page: Page, document: str) -> None:
    """Fails unless the search page that is open comes to list `document`."""
    page.wait_for_selector("#search-results ul.search li")
    page.wait_for_function("/[0-9]/.test(document.querySelector('#search-results .search-summary').textContent)")
    found = page.locator("#search-results ul.search a").evaluate_all("links => links.map(link => link.href)")
    assert any(f"/{document}.html" in address for address in found), found


@contextmanager
def serve() -> Iterator[Server]:
    """Serves the built book on the loopback until the block ends."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Server(ThreadingHTTPServer):
    """A static server for the built book that remembers which addresses it did not have.

    A browser asks for some files, such as an icon, without telling the page; only the server sees those fail.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, directory=str(BUILT)))
        self.address = f"http://127.0.0.1:{self.server_port}/"
        self.missing: list[str] = []


class _Handler(SimpleHTTPRequestHandler):
    def send_error(self, code, message=None, explain=None):
        self.server.missing.append(f"{code} {self.path}")
        super().send_error(code, message, explain)

    def log_message(self, *args):
        pass
