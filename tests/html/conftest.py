"""What the browser tests share: the built book, served, a Chromium, and the option `--changed`.

The server and the browser live as long as one test file. Playwright keeps an event loop running in the thread that
started it, and other tests of the same run need that thread for loops of their own.
"""

import functools
import hashlib
import re
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from xdist.scheduler import LoadScopeScheduling

from tests.html.book import BUILT, DESKTOP, PAGES, serve
from tests.html.browser import FLAGS, find_or_install

HERE = Path(__file__).parent
PASSED = BUILT.parent / "passed"
PASSED_ITSELF = pytest.StashKey[bool]()


def pytest_addoption(parser):
    parser.addoption("--changed", action="store_true", help="leave out what passed before on the same page of the book")


def scope(nodeid: str) -> str:
    """What the tests have in common that are run one after the other: their file, and their page if they have one."""
    file, _, test = nodeid.partition("::")
    page = re.search(r"\[(\S+?\.html)", test)
    return f"{file} {page[1]}" if page else file


class ByPage(LoadScopeScheduling):
    """Hands the tests of a file on one page to one worker, and its other tests to one."""

    def _split_scope(self, nodeid):
        return scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return ByPage(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Puts the tests of a page next to each other, and leaves out what `--changed` need not open again."""
    order = {found: place for place, found in enumerate(dict.fromkeys(scope(item.nodeid) for item in items))}
    items.sort(key=lambda item: order[scope(item.nodeid)])
    if config.getoption("changed"):
        known = {item for item in items if HERE in item.path.parents and page_of(item) and note(item).exists()}
        items[:] = [item for item in items if item not in known]
        config.hook.pytest_deselected(items=list(known))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Notes what passed, and only once nothing was found wrong after the test either."""
    report = yield
    if report.when == "call":
        item.stash[PASSED_ITSELF] = report.passed
    if report.when == "teardown" and report.passed and item.stash.get(PASSED_ITSELF, False) and page_of(item):
        PASSED.mkdir(parents=True, exist_ok=True)
        note(item).touch()
    return report


def page_of(item) -> str | None:
    """The built page that a test is given, if it is given one."""
    given = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return next((value for value in given if value in PAGES and (BUILT / value).exists()), None)


def note(item) -> Path:
    """The file that says that this test passed on this page as it is now."""
    said = f"{item.nodeid} {digest(BUILT / page_of(item))} {surroundings()}"
    return PASSED / hashlib.sha256(said.encode()).hexdigest()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def surroundings() -> str:
    """What every page and every test here depends on: the styles and scripts of the book, and this folder."""
    files = [*HERE.glob("*.py"), *(path for kind in ("css", "js") for path in (BUILT / "_static").rglob(f"*.{kind}"))]
    return hashlib.sha256("".join(map(digest, sorted(files))).encode()).hexdigest()


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
    context = browser.new_context(viewport=DESKTOP)
    yield context
    context.close()
