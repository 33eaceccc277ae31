"""What the browser tests share: the built book, served, and a Chromium.

All of it lives as long as one test file. Playwright keeps an event loop running in the thread that started
it, and other tests of the same run need that thread for loops of their own.
"""

import pytest
from playwright.sync_api import sync_playwright

from tests.html.book import BUILT, serve
from tests.html.browser import FLAGS, find_or_install


@pytest.fixture(scope="module", autouse=True)
def server():
    if not (BUILT / "search.html").exists():
        pytest.fail(f"there is no built book under {BUILT}: run `make book` first", pytrace=False)
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def browser(server):
    path = find_or_install()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="module")
def window(browser):
    """One window of a desktop's size for all tests of a file, so that what pages share is fetched once."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()
