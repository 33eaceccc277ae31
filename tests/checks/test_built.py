"""Faults planted in a small book: `make test` refuses each, and takes the same book without them.

The small book has the settings and the assets of the real one.
"""

import shutil
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.checks.project import code, copy, run, write_notebook

BUILD, CHECK = "jupyter-book build", "lib.publishing.pages"
TOC = "format: jb-book\nroot: book/index\nchapters:\n"

_picture = BytesIO()
Image.new("RGB", (40, 30), "white").save(_picture, "PNG")
PNG = b64encode(_picture.getvalue()).decode()

HTML_IMAGE = '<img src="data:image/png;base64,' + PNG + '"{}>'
VIEW = {"application/vnd.jupyter.widget-view+json": {"model_id": "0a1b", "version_major": 2, "version_minor": 0}}


def shown(data, alt=""):
    return code("show()", data=data, alt=alt)


# A page of each kind, sound and with its fault, and what is said of the fault. Sphinx lets all of them pass.
PAGES = {
    "figure": (
        shown(data={"image/png": PNG}, alt="A white card"),
        shown(data={"image/png": PNG}),
        "picture whose alternative text is a file name",
    ),
    "html-figure": (
        shown(data={"text/html": HTML_IMAGE.format(' alt="A white card"')}),
        shown(data={"text/html": HTML_IMAGE.format("")}),
        "picture without alternative text",
    ),
    "widget": (
        shown(data={"text/plain": "a slider"}),
        shown(data=VIEW),
        "widget view without its state",
    ),
    "html-link": (
        shown(data={"text/html": '<a href="figure.html">a link</a>'}),
        shown(data={"text/html": '<a href="nowhere.html">a link</a>'}),
        "leads to a file that is not there",
    ),
    "html-script": (
        shown(data={"text/html": '<script src="figure.html"></script>'}),
        shown(data={"text/html": '<script src="https://example.com/a.js"></script>'}),
        "loaded from another site",
    ),
}


def book(folder: Path, column: int) -> Path:
    """A small book: its notebooks are the sound ones of `PAGES` (column 0) or the others (column 1)."""
    copy(folder, "_config.yml", "book/assets", "book/references.bib", "lib/__init__.py", "lib/publishing")
    for name, variants in PAGES.items():
        write_notebook(folder / "book" / f"{name}.ipynb", variants[column])
    (folder / "book" / "index.md").write_text("# A small book\n\nIt opens with [a figure](figure.ipynb).\n")
    (folder / "_toc.yml").write_text(TOC + "".join(f"- file: book/{name}\n" for name in PAGES))
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The small book without a fault, built."""
    folder = book(tmp_path_factory.mktemp("sound"), 0)
    built = run(BUILD, folder)
    assert built.returncode == 0, built.stdout
    return folder


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """The small book with a fault on each page, built, and what the check of its pages says."""
    folder = book(tmp_path_factory.mktemp("faulty"), 1)
    built = run(BUILD, folder)
    assert built.returncode == 0, built.stdout
    return run(CHECK, folder)


def test_a_sound_book_passes(sound):
    checked = run(CHECK, sound)
    assert checked.returncode == 0, checked.stdout
    assert f"{len(PAGES) + 1} pages checked" in checked.stdout


@pytest.mark.parametrize("name", PAGES)
def test_a_fault_that_sphinx_lets_pass_is_refused(faulty, name):
    assert faulty.returncode == 1
    said = [line for line in faulty.stdout.splitlines() if line.startswith(f"book/{name}.html: ")]
    assert len(said) == 1 and PAGES[name][2] in said[0], faulty.stdout


def test_a_missing_page_is_refused(sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "book")
    (folder / "_build" / "html" / "book" / "widget.html").unlink()
    refused = run(CHECK, folder)
    assert refused.returncode == 1
    assert "book/widget.html: is in _toc.yml but was not made" in refused.stdout


def test_broken_links_between_pages_and_a_page_without_a_source_are_refused(sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "book", ignore=shutil.ignore_patterns("_build"))
    (folder / "book" / "index.md").write_text("# A small book\n\n[One](nowhere.ipynb), [two](figure.ipynb#nowhere).\n")
    with (folder / "_toc.yml").open("a") as contents:
        contents.write("- file: book/absent\n")
    refused = run(BUILD, folder)
    assert refused.returncode != 0
    for message in (
        "cross-reference target not found: 'nowhere.ipynb'",
        "local id not found in doc 'book/figure': 'nowhere'",
        "nonexisting document 'book/absent'",
    ):
        assert message in refused.stdout, refused.stdout
