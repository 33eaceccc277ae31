import nbformat
import pytest

from lib.publishing import notebooks

ADDRESS = "https://github.com/someone/some-book"


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of one page and one chapter; its kernel imports the `lib` that stands beside it."""
    (tmp_path / "_config.yml").write_text(f"title: Small\nrepository:\n  url: {ADDRESS}\n")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: book/waves\n")
    (tmp_path / "ruff.toml").write_text('lint.select = ["E9", "F821"]\n')
    (tmp_path / "lib" / "tools").mkdir(parents=True)
    (tmp_path / "lib" / "__init__.py").write_text("")
    (tmp_path / "lib" / "tools" / "__init__.py").write_text("from lib.tools.waves import wave\n")
    (tmp_path / "lib" / "tools" / "waves.py").write_text("def wave():\n    return 3\n")
    (tmp_path / "lib" / "tools" / "unused.py").write_text("")
    (tmp_path / "lib" / "tools" / "table.txt").write_text("data")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.md").write_text("# Small\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    put(tmp_path, "import sys", "from lib.tools import wave", "print(wave())")
    return tmp_path


def put(book, setup, *sources):
    """Write the chapter, never run: a title, the setup cell, one code cell a source; its path."""
    cells = [nbformat.v4.new_markdown_cell("# Waves"), code(setup, "setup"), *map(code, sources)]
    path = book / "book" / "waves.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def code(source, *tags, outputs=()):
    cell = nbformat.v4.new_code_cell(source, outputs=list(outputs))
    if tags:
        cell.metadata["tags"] = list(tags)
    return cell


def edit(path, number, source):
    """Replace the source of one cell (from 1), as an editor would."""
    notebook = notebooks.read(path)
    notebook.cells[number - 1].source = source
    notebooks.write(notebook, path)
