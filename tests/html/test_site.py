"""What surrounds the pages: search, dark mode, the way from page to page, and the buttons above a chapter."""

from pathlib import PurePosixPath
from urllib.parse import urljoin

import pytest

from tests.html.book import (
    BUILT,
    DOCUMENTS,
    NOTEBOOKS,
    ROOT,
    assert_found,
    configuration,
    longest_word,
    parsed,
    title,
)
from tests.html.watch import opened

BRIGHTNESS = """() => {
    const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).map(Number);
    return (red + green + blue) / 3;
}"""


@pytest.fixture
def landing(window, server):
    """The landing page; nothing may go wrong on it or on the pages to which it leads."""
    with opened(window, server.address, f"{DOCUMENTS[0]}.html") as (page, watch):
        yield page
        assert watch.faults() == []


def test_the_root_leads_to_the_landing_page(window, server):
    page = window.new_page()
    page.goto(f"{server.address}index.html")
    page.wait_for_url(f"{server.address}{DOCUMENTS[0]}.html")


def test_dark_mode_is_one_button_and_is_remembered(landing):
    assert landing.evaluate(BRIGHTNESS) > 200, "the book is not light for someone who likes it light"
    for _ in range(3):
        if landing.evaluate("document.documentElement.dataset.mode") != "dark":
            landing.locator("button.theme-switch-button:visible").first.click()
    landing.wait_for_function(f"({BRIGHTNESS})() < 60")
    landing.goto(landing.url.replace(DOCUMENTS[0], DOCUMENTS[1]))
    assert landing.evaluate("document.documentElement.dataset.theme") == "dark", "the next page forgot"


def test_search_finds_a_chapter_by_its_title(landing):
    landing.keyboard.press("Control+k")
    landing.keyboard.type(longest_word(title(NOTEBOOKS[0])))
    landing.keyboard.press("Enter")
    assert_found(landing, NOTEBOOKS[0])


@pytest.mark.parametrize("position", range(len(DOCUMENTS)), ids=DOCUMENTS)
def test_previous_and_next_follow_the_contents(position):
    content = parsed(f"{DOCUMENTS[position]}.html")
    for selector, neighbour in (("a.left-prev", position - 1), ("a.right-next", position + 1)):
        link = content.select_one(selector)
        if 0 <= neighbour < len(DOCUMENTS):
            assert link is not None, f"no {selector}"
            assert target(DOCUMENTS[position], link["href"]) == f"{DOCUMENTS[neighbour]}.html"
        else:
            assert link is None


@pytest.mark.parametrize("document", NOTEBOOKS)
def test_buttons_of_a_chapter_lead_to_it(document):
    settings = configuration()
    repository, branch = settings["repository"]["url"].rstrip("/"), settings["repository"]["branch"]
    colab = settings["launch_buttons"]["colab_url"].rstrip("/")
    name = repository.removeprefix("https://github.com/")
    links = {link["href"] for link in parsed(f"{document}.html").select(".article-header-buttons a[href]")}
    assert f"{colab}/github/{name}/blob/{branch}/{document}.ipynb" in links
    assert f"{repository}/edit/{branch}/{document}.ipynb" in links
    sources = [link for link in links if link.endswith(".ipynb") and "://" not in link]
    assert len(sources) == 1, f"not one download button but {sources}"
    download = BUILT / target(document, sources[0])
    assert download.read_bytes() == (ROOT / f"{document}.ipynb").read_bytes()


def target(document, href):
    """The file of the site that a link on a page leads to."""
    return str(PurePosixPath(urljoin(f"/{document}.html", href).lstrip("/")))
