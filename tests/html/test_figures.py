"""The interactive figures of the built book: all are there, and without scripts each is one picture.

How they move is tested in `test_pages`, on the open pages.
"""

import json

import pytest

from tests.html.book import NOTEBOOKS, ROOT, parsed
from tests.html.figures import CONTROLS, PAGES_WITH_FIGURES, figures
from tests.html.watch import UNFOLD, opened


def stored_figures(document):
    """How many interactive figures the stored outputs of a notebook hold."""
    notebook = json.loads((ROOT / f"{document}.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    shown = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    return sum('<figure class="explore"' in html for html in shown)


CHAPTERS = [document for document in NOTEBOOKS if stored_figures(document)]


@pytest.mark.parametrize("document", CHAPTERS)
def test_every_stored_figure_is_in_its_page(document):
    assert len(parsed(f"{document}.html").select("figure.explore")) == stored_figures(document)


@pytest.fixture(scope="module")
def scriptless(browser):
    """A window that runs no scripts."""
    context = browser.new_context(java_script_enabled=False)
    yield context
    context.close()


@pytest.mark.parametrize("name", PAGES_WITH_FIGURES)
def test_without_scripts_one_picture_is_shown(name, scriptless, server):
    with opened(scriptless, server.address, name) as (page, watch):
        page.evaluate(UNFOLD)
        for figure in figures(page):
            shown = [picture for picture in figure.query_selector_all("img") if picture.is_visible()]
            assert len(shown) == 1
            assert shown[0].get_attribute("alt").strip()
            assert not any(control.is_visible() for control in figure.query_selector_all(CONTROLS)), "a dead control"
        assert watch.errors == []
