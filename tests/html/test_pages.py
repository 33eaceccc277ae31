"""Every page of the book, opened in Chromium over http with nothing outside the book to be had."""

import pytest

from tests.html import formulas
from tests.html.book import DESKTOP, PAGES, PHONE
from tests.html.looks import dress, serious_faults, sideways
from tests.html.watch import UNFOLD, opened


@pytest.fixture(scope="module", params=PAGES)
def visit(request, window, server):
    """One page, opened once and looked at in light, in dark and at the width of a phone."""
    name, missing_before = request.param, len(server.missing)
    with opened(window, server.address, name) as (page, watch):
        page.evaluate(UNFOLD)
        seen = {"watch": watch, "formulas": formulas.faults(page, formulas.written(name)), "faults": {}}
        page.set_viewport_size(PHONE)
        seen["sideways"] = sideways(page)
        page.set_viewport_size(DESKTOP)
        for mode in ("light", "dark"):
            dress(page, mode)
            seen["faults"][mode] = serious_faults(page, mode)
        seen["missing"] = server.missing[missing_before:]
        yield seen


def test_opens_without_a_fault_and_without_the_network(visit):
    assert visit["watch"].faults() == []
    assert visit["missing"] == [], "files that the page asked for and the book does not have"


def test_every_formula_is_typeset(visit):
    assert visit["formulas"] == []


def test_fits_the_width_of_a_phone(visit):
    assert visit["sideways"] == []


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_has_no_serious_fault_of_accessibility(visit, mode):
    assert visit["faults"][mode] == []
