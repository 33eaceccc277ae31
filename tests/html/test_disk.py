"""Every page of the book opened as a file, without any server."""

import pytest

from tests.html import formulas
from tests.html.book import BUILT, NOTEBOOKS, PAGES, assert_found, longest_word, title
from tests.html.watch import opened

pytestmark = pytest.mark.slow  # every page a second time

BASE = f"{BUILT.as_uri()}/"


@pytest.fixture(scope="module", params=PAGES)
def visit(request, window):
    with opened(window, BASE, request.param) as (page, watch):
        yield request.param, page, watch


def test_opens_without_a_fault_and_without_the_network(visit):
    _, _, watch = visit
    assert watch.faults() == []


def test_every_formula_is_typeset(visit):
    name, page, _ = visit
    assert formulas.faults(page, formulas.written(name)) == []


def test_search_finds_a_chapter_by_its_title(window):
    """Results come from a script. Their excerpts would be fetched, which no browser allows from disk."""
    query = f"search.html?q={longest_word(title(NOTEBOOKS[0]))}"
    with opened(window, BASE, query) as (page, watch):
        assert_found(page, NOTEBOOKS[0])
        assert watch.outside == []
