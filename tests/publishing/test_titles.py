"""Titles of folded cells: Colab shows them, the page and the fingerprint do not know them."""

import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from lib.publishing import notebooks


def titled(source, shown=None, tag="hide-input"):
    prompts = {"mystnb": {"code_prompt_show": shown}} if shown else {}
    cell = new_code_cell(source, metadata={"tags": [tag], **prompts})
    done = notebooks.normalise(new_notebook(cells=[cell]))
    assert notebooks.normalise(done) == done
    return done.cells[0]


@pytest.mark.parametrize(
    "shown, title",
    [
        ("Show how this figure is drawn", "How this figure is drawn"),
        ("Show the solution", "Solution"),
        (None, "How what follows is made"),
    ],
)
def test_a_folded_cell_says_what_is_in_it(shown, title):
    cell = titled("x = 1", shown)
    assert cell.source == f"# @title {title}\nx = 1"
    assert notebooks.untitled(cell.source) == "x = 1"
    assert titled(cell.source, "Show the other").source == "# @title Other\nx = 1"
    assert notebooks.label(3, cell) == "cell 3 ('x = 1')"


def test_what_is_not_folded_has_no_title_and_keeps_its_id():
    folded = titled("x = 1")
    assert titled(folded.source, tag="derivation").source == "x = 1"
    assert titled(folded.source, tag="derivation").id == folded.id
    assert titled("", tag="hide-cell").source == ""


def test_the_page_does_not_show_the_title(tmp_path):
    cells = [titled("x = 1\nprint(x)", "Show the solution"), new_code_cell("y = 2\n# @title kept")]
    nbformat.write(notebooks.normalise(new_notebook(cells=cells)), tmp_path / "index.ipynb")
    (tmp_path / "conf.py").write_text(
        'extensions = ["myst_nb", "lib.publishing.titles"]\nnb_execution_mode = "off"\n', encoding="utf-8"
    )
    build = [sys.executable, "-m", "sphinx", "-q", "-b", "text", tmp_path, tmp_path / "built"]
    subprocess.run(build, check=True)  # in a process of its own: myst_nb stays registered with docutils
    text = (tmp_path / "built" / "index.txt").read_text()
    assert "x = 1\n   print(x)" in text and "Solution" not in text
    assert "# @title kept" in text
