"""The numbers that chapters quote of one another, from the run of one to the staleness of the other."""

import json
import shutil
import tomllib
from pathlib import Path

import nbformat
import pytest

from lib.notebook.finding import FILE, MUST_HOLD
from lib.publishing import execute, findings, fingerprint, notebooks
from tests.publishing.conftest import code, put
from tests.publishing.test_execute import run

ROOT = Path(__file__).resolve().parents[2]
IMPORT = "from lib.notebook.finding import exact, finding, found"


@pytest.fixture
def book(book, monkeypatch):
    """The small book, whose `lib` has findings, and whose chapter `waves` tells some."""
    monkeypatch.delenv(MUST_HOLD)
    (book / "lib" / "notebook").mkdir()
    (book / "lib" / "notebook" / "__init__.py").touch()
    shutil.copy(ROOT / "lib" / "notebook" / "finding.py", book / "lib" / "notebook")
    put(
        book,
        "import sys",
        f"{IMPORT}\nfinding('{{height:.1f}} {{n}} {{how}}', height=(2.5, 0, 3), n=exact(4), how=('high', True, 'low'))",
        "finding('{speed:.1f} {depth:.1f}', speed=(1.5, 0, 3), depth=(9.0, 0, None))",
        "finding('{speed:.1f} {n}', speed=(2.5, 0, 3), n=exact(4))",
    )
    return book


def add(book, *sources):
    """A second chapter of the book, never run: its path."""
    path = book / "book" / "winds.ipynb"
    toc = book / "_toc.yml"
    toc.write_text(toc.read_text() + "- file: book/winds\n")
    notebook = nbformat.v4.new_notebook(cells=[code("import sys", "setup"), *map(code, sources)])
    nbformat.write(notebook, path)
    return path


def kept(book):
    return json.loads((book / "lib" / "notebook" / FILE.name).read_text())


def keep(book, numbers):
    (book / "lib" / "notebook" / FILE.name).write_text(json.dumps(numbers))


def test_a_stored_chapter_leaves_its_numbers_where_others_find_them(book, capsys):
    assert run(book) == 0
    # Of the two speeds none is the speed; words are no numbers.
    assert kept(book) == {"waves depth": 9.0, "waves height": 2.5, "waves n": 4}
    assert list(kept(book)) == sorted(kept(book))
    capsys.readouterr()
    assert run(book, "--check") == 0, capsys.readouterr().out


def test_a_number_that_is_not_the_one_of_the_outputs_is_a_fault_until_it_is_put_right_without_a_run(book, capsys):
    assert run(book) == 0
    good = kept(book)
    keep(book, good | {"waves height": 2.4, "waves width": 1} | {"gone depth": 3})
    del good["waves n"]
    assert run(book, "--check") == 1
    said = capsys.readouterr().out
    assert "book/waves.ipynb: its outputs have waves height = 2.5, findings.json has 2.4" in said
    assert "book/waves.ipynb: its outputs have waves width = None, findings.json has 1" in said
    assert "waves n" not in said and "waves depth" not in said

    assert run(book) == 0
    assert "fresh, stored again" in capsys.readouterr().out
    assert kept(book) == good | {"waves n": 4}  # and no number of a chapter that is no more
    assert run(book, "--check") == 0


@pytest.mark.parametrize("told", ["(3.5, 0, 3)", "(float('nan'), 0, 3)"])
def test_a_sentence_that_does_not_hold_is_not_stored(book, capsys, told):
    path = put(book, "import sys", f"{IMPORT}\nfinding('Waves of {{height:.1f}} m.', height={told})")
    before = path.read_bytes()
    assert run(book) == 1
    said = capsys.readouterr().out
    assert "AssertionError: this does not hold: 'Waves of " in said and "wanted height between 0 and 3" in said
    assert path.read_bytes() == before
    assert not (book / "lib" / "notebook" / FILE.name).exists()


def test_a_chapter_is_stale_when_a_number_that_it_quotes_is_another(book, capsys):
    assert run(book) == 0
    path = add(book, IMPORT, "print(found('waves', 'height') > 2)")
    assert run(book) == 0
    stored = notebooks.read(path)
    assert stored.cells[-1].outputs[0].text == "True\n"
    assert stored.metadata.book_fingerprint.quoted == {"waves height": 2.5}
    assert stored.metadata.book_fingerprint.data == {}  # the file does not count as a whole
    good = kept(book)

    keep(book, good | {"waves depth": 8.0})
    assert fingerprint.stale(path, book) == []
    keep(book, good | {"waves height": 2.6})
    assert fingerprint.stale(path, book) == ["it quotes waves height = 2.5, now 2.6"]
    keep(book, {})
    assert fingerprint.stale(path, book) == ["it quotes waves height = 2.5, now None"]


def test_where_only_derivations_are_run_again_the_quotes_stay(book):
    assert run(book) == 0
    path = add(book, f"{IMPORT}\nfrom lib.tools import wave", "print(found('waves', 'height'))", "wave()")
    notebook = notebooks.read(path)
    notebook.cells[1].metadata["tags"], notebook.cells[3].metadata["tags"] = ["imports"], ["derivation"]
    notebooks.write(notebook, path)
    assert run(book) == 0
    execute.execute(path, book, only_alone=True)
    assert notebooks.read(path).metadata.book_fingerprint.quoted == {"waves height": 2.5}


def test_a_chapter_stored_before_there_were_quotes_is_as_fresh_as_it_was(book):
    path = book / "book" / "waves.ipynb"
    execute.execute(path, book)
    notebook = notebooks.read(path)
    del notebook.metadata.book_fingerprint["quoted"]
    notebooks.write(notebook, path)
    assert execute.faults(path, book) == []
    execute.execute(path, book, only_alone=True)
    assert notebooks.read(path).metadata.book_fingerprint.quoted == {}


def test_a_book_without_findings_needs_no_file(tmp_path):
    assert findings.read(tmp_path) == {}


def test_the_numbers_are_shipped_with_the_code():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert FILE.name in settings["tool"]["setuptools"]["package-data"]["lib.notebook"]
