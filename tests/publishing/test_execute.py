import pytest

from lib.publishing import execute, fingerprint, notebooks
from tests.publishing.conftest import code, edit, put


def run(book, *arguments):
    return execute.main(["--root", str(book), *arguments])


def test_runs_stores_and_then_leaves_alone(book, capsys):
    path = book / "book" / "waves.ipynb"
    assert run(book, "--check") == 1
    assert "book/waves.ipynb: it was never run" in capsys.readouterr().out
    assert run(book) == 0
    assert "book/waves.ipynb: running, since it was never run" in capsys.readouterr().out
    notebook = notebooks.read(path)
    assert notebook.cells[-1].outputs[0].text == "3\n"
    assert len(notebook.cells) == 4
    assert list(notebook.metadata.book_fingerprint.others.lib) == ["lib/tools/waves.py"]
    assert list(notebook.metadata.book_fingerprint.data) == ["lib/tools/table.txt"]
    assert run(book, "--check") == 0
    before = path.read_bytes()
    assert run(book) == 0
    assert "book/waves.ipynb: fresh" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert run(book, "--force") == 0
    assert "running, since --force" in capsys.readouterr().out
    assert path.read_bytes() == before

    (book / "lib" / "tools" / "waves.py").write_text("def wave():\n    return 5\n")
    assert run(book, "--chapter", "waves") == 0
    assert "running, since lib/tools/waves.py changed" in capsys.readouterr().out
    assert notebooks.read(path).cells[-1].outputs[0].text == "5\n"


def test_data_count_only_where_they_were_loaded(book):
    package = book / "lib" / "tools" / "__init__.py"
    (book / "lib" / "tools" / "other.txt").write_text("more data")
    package.write_text(
        package.read_text() + "from pathlib import Path\nLOADED = {Path(__file__).parent / 'table.txt'}\n"
    )
    assert run(book) == 0
    assert list(notebooks.read(book / "book" / "waves.ipynb").metadata.book_fingerprint.data) == ["lib/tools/table.txt"]


def test_the_kernel_runs_in_the_folder_of_the_notebook(book):
    path = put(book, "import sys", "from pathlib import Path", "print(Path.cwd().name, Path('index.md').exists())")
    execute.execute(path, book)
    assert notebooks.read(path).cells[-1].outputs[0].text == "book True\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; print('careful', file=sys.stderr)", "wrote to stderr: careful"),
        ("object()", "shows a memory address"),
    ],
)
def test_a_failing_cell_is_shown_and_nothing_is_written(book, capsys, source, message):
    path = put(book, "import sys", source)
    before = path.read_bytes()
    assert run(book) == 1
    said = capsys.readouterr().out
    assert message in said and source in said
    assert "the stored file is untouched" in said
    assert "\x1b" not in said
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["index.md", "waves.ipynb"]


def test_a_file_of_lib_that_changes_during_the_run_is_noticed(book):
    path = put(
        book,
        "import sys",
        "import lib.tools\nfrom pathlib import Path\nPath(lib.tools.waves.__file__).write_text('WAVE = 1');",
    )
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"lib/tools/waves\.py changed while it ran"):
        execute.execute(path, book)
    assert path.read_bytes() == before


def test_where_only_derivations_are_stale_only_their_cells_run(book, capsys):
    (book / "lib" / "tools" / "formulas.py").write_text("def derive():\n    return 'first'\n")
    path = put(
        book,
        "import sys",
        "import time\nfrom lib.tools import wave\nfrom lib.tools.formulas import derive\nprint('imported')",
        "print(time.perf_counter())",
        "derive()",
        "wave()",
    )
    notebook = notebooks.read(path)
    notebook.cells[2].metadata["tags"], notebook.cells[4].metadata["tags"] = ["imports"], ["derivation"]
    notebooks.write(notebook, path)
    assert run(book) == 0
    before = notebooks.read(path)
    capsys.readouterr()

    (book / "lib" / "tools" / "formulas.py").write_text("def derive():\n    return 'second'\n")
    assert run(book) == 0
    said = capsys.readouterr().out
    assert "running its derivations and sources, since lib/tools/formulas.py changed" in said
    after = notebooks.read(path)
    assert after.cells[4].outputs[0].data["text/plain"] == "'second'"
    after.cells[4].outputs[0].data["text/plain"] = "'first'"
    assert after.cells == before.cells  # the time of the first run too, and how cells are counted
    assert run(book, "--check") == 0

    notebook = notebooks.read(path)
    notebook.cells.insert(3, code("derive() + '!'", "derivation"))
    notebooks.write(notebook, path)
    assert run(book) == 0
    assert "running its derivations and sources, since cell 4" in capsys.readouterr().out
    after = notebooks.read(path)
    assert [cell.execution_count for cell in after.cells if cell.cell_type == "code"] == [1, 2, 3, 4, 5, 6]
    assert after.cells[4].outputs == before.cells[3].outputs
    assert after.cells[6].outputs[0].execution_count == 6
    assert run(book, "--check") == 0


def test_an_import_that_cannot_be_seen_in_the_code_is_refused(book):
    hidden = "__im" + "port__"
    path = put(book, "import sys", f"getattr(__builtins__, '{hidden}')('lib.tools.' + 'unused');")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"wanted modules of lib imported by name, got .*lib/tools/unused\.py"):
        execute.execute(path, book)
    assert path.read_bytes() == before


def test_a_fresh_notebook_that_an_editor_stored_is_put_right_without_a_run(book, capsys):
    path = book / "book" / "waves.ipynb"
    execute.execute(path, book)
    stored = path.read_bytes()
    notebook = notebooks.read(path)
    notebook.metadata["widgets"] = {"state": {}}
    notebook.cells[2].metadata["scrolled"] = True
    notebooks.write(notebook, path)
    assert execute.faults(path, book) == ["it is not in the form in which `make execute` stores notebooks"]
    assert run(book) == 0
    assert "stored again in normal form" in capsys.readouterr().out
    assert path.read_bytes() == stored


def test_an_edited_cell_is_stale_until_it_is_run(book):
    path = book / "book" / "waves.ipynb"
    execute.execute(path, book)
    edit(path, 4, "print(wave() * 2)")
    assert fingerprint.stale(path, book) == ["cell 4 ('print(wave() * 2)') changed"]
    assert run(book) == 0
    assert notebooks.read(path).cells[-1].outputs[0].text == "6\n"


def test_chapters_are_chosen_by_the_end_of_their_path(book):
    path = book / "book" / "waves.ipynb"
    for name in ("waves", "book/waves", "waves.ipynb", "book/waves.ipynb"):
        assert execute.choose(name, book) == [path]
    for name in ("wave", "aves", "book", ""):
        with pytest.raises(ValueError, match="chapter: wanted one of book/waves; got"):
            execute.choose(name, book)


def test_a_chapter_outside_the_table_of_contents_is_told_so(book):
    (book / "book" / "2-seas").mkdir()
    (book / "book" / "2-seas" / "tides.ipynb").write_text("{}")
    for name in ("tides", "2-seas/tides.ipynb"):
        with pytest.raises(ValueError, match=r"^chapter: book/2-seas/tides is not in _toc\.yml; enter it there"):
            execute.choose(name, book)


def test_a_slip_is_found_before_anything_runs(book, capsys):
    ran = "__import__('pathlib').Path('ran').touch();"
    path = put(book, "import sys", ran, "from lib.tools import wave\nprint(wafe())")
    before = path.read_bytes()
    assert run(book) == 1
    said = capsys.readouterr().out
    assert "nothing was run:\nbook/waves.ipynb:cell 4:2:7: F821 Undefined name `wafe`" in said
    assert "the stored file is untouched" in said and path.read_bytes() == before
    assert not (path.parent / "ran").exists()


def test_an_unknown_chapter_ends_the_command(book, capsys):
    with pytest.raises(SystemExit):
        run(book, "--chapter", "particles")
    assert "wanted one of book/waves; got 'particles'" in capsys.readouterr().err


def test_a_large_notebook_is_a_fault(book):
    path = book / "book" / "waves.ipynb"
    path.write_text(path.read_text() + " " * notebooks.LARGEST)
    assert any("bytes; wanted at most 1,500,000" in fault for fault in execute.faults(path, book))


def test_a_notebook_that_grows_too_large_names_its_largest_outputs(book, capsys):
    sources = [f"print('x' * {size})" for size in (700_000, 5, 600_000, 400_000)]
    path = put(book, "import sys", *sources)
    before = path.read_bytes()
    assert run(book) == 1
    said = capsys.readouterr().out
    assert "wanted at most 1,500,000 bytes with its outputs, got 1,70" in said
    cells = [said.index(f"cell {number} (") for number in (3, 5, 6)]
    assert cells == sorted(cells) and "cell 4 (" not in said and "cell 3 (\"print('x' * 700000)\"): 700,0" in said
    assert path.read_bytes() == before
