import pytest
from nbformat.v4 import new_output

from lib.publishing import fingerprint, notebooks
from tests.publishing.conftest import edit, put


@pytest.fixture
def stored(book):
    """The chapter as if it had been run and had loaded `table.txt`; no kernel is started."""
    return store(book / "book" / "waves.ipynb", book)


def store(path, book):
    notebook = notebooks.normalise(notebooks.read(path))
    fingerprint.record(notebook, book, ["lib/tools/waves.py", "lib/tools/table.txt"], {})
    notebooks.write(notebook, path)
    return path


def test_fresh_after_recording(stored, book):
    assert fingerprint.stale(stored, book) == []


def test_never_run(book):
    path = put(book, "import sys", "1 + 1")
    assert fingerprint.stale(path, book) == ["it was never run by `make execute`"]


def test_a_record_of_another_kind_counts_as_none(stored, book):
    notebook = notebooks.read(stored)
    del notebook.metadata.book_fingerprint["versions"]
    notebooks.write(notebook, stored)
    assert fingerprint.stale(stored, book) == ["it was never run by `make execute`"]


def test_a_changed_cell_is_named(stored, book):
    edit(stored, 4, "print(wave() + 1)")
    assert fingerprint.stale(stored, book) == ["cell 4 ('print(wave() + 1)') changed"]


def test_text_and_the_setup_cell_may_change(stored, book):
    edit(stored, 1, "# Waves, again")
    edit(stored, 2, "import sys  # from another address")
    assert fingerprint.stale(stored, book) == []


def test_new_and_removed_cells_are_named(stored, book):
    notebook = notebooks.read(stored)
    removed = notebook.cells.pop(2)
    notebooks.write(notebook, stored)
    assert fingerprint.stale(stored, book) == ["1 code cell(s) removed before cell 3"]
    notebook.cells += [removed.copy()]
    notebook.cells[-1].source = "1"
    notebooks.write(notebook, stored)
    assert "cell 4 ('1') is new" in fingerprint.stale(stored, book)
    notebook.cells = notebook.cells[:2]
    notebooks.write(notebook, stored)
    assert fingerprint.stale(stored, book) == ["2 code cell(s) removed at the end"]


def test_cells_in_another_order_are_stale(stored, book):
    notebook = notebooks.read(stored)
    notebook.cells[2], notebook.cells[3] = notebook.cells[3], notebook.cells[2]
    notebooks.write(notebook, stored)
    assert fingerprint.stale(stored, book)


def test_a_changed_line_that_is_reached_is_named(stored, book):
    (book / "lib" / "tools" / "waves.py").write_text("def wave():\n    return 4\n")
    assert fingerprint.stale(stored, book) == ["lib/tools/waves.py changed"]


def test_comments_docstrings_annotations_and_layout_make_nothing_stale(stored, book):
    text = '"""Waves."""\n\n\ndef wave() -> int:\n    """One."""\n    # a comment\n    return (\n        3\n    )\n'
    (book / "lib" / "tools" / "waves.py").write_text(text)
    assert fingerprint.stale(stored, book) == []


def test_a_definition_that_is_not_reached_may_change(stored, book):
    (book / "lib" / "tools" / "waves.py").write_text("def wave():\n    return 3\n\n\ndef other():\n    return 4\n")
    assert fingerprint.stale(stored, book) == []


def test_a_file_that_is_reached_now_is_named(stored, book):
    (book / "lib" / "tools" / "unused.py").write_text("def three():\n    return 3\n")
    text = "from lib.tools.unused import three\n\n\ndef wave():\n    return three()\n"
    (book / "lib" / "tools" / "waves.py").write_text(text)
    assert fingerprint.stale(stored, book) == ["lib/tools/unused.py changed", "lib/tools/waves.py changed"]


def test_data_count_byte_by_byte(stored, book):
    (book / "lib" / "tools" / "table.txt").write_text("data, other")
    assert fingerprint.stale(stored, book) == ["lib/tools/table.txt changed"]
    (book / "lib" / "tools" / "table.txt").unlink()
    assert fingerprint.stale(stored, book) == ["lib/tools/table.txt is gone"]


def test_another_version_of_a_package_is_named(stored, book, monkeypatch):
    installed = fingerprint.version
    monkeypatch.setattr(fingerprint, "version", lambda name: "9.0.0+cpu" if name == "torch" else installed(name))
    (reason,) = fingerprint.stale(stored, book)
    assert reason == f"it ran with torch {installed('torch').partition('+')[0]}, installed is 9.0.0"
    monkeypatch.setattr(fingerprint, "version", lambda name: f"{installed(name).partition('+')[0]}+cu130")
    assert fingerprint.stale(stored, book) == []


def test_a_cell_or_a_file_that_is_not_python_is_named(stored, book):
    (book / "lib" / "tools" / "waves.py").write_text("def wave(")
    (reason,) = fingerprint.stale(stored, book)
    assert "waves.py: wanted Python, got" in reason
    edit(stored, 4, "wave(")
    (reason,) = fingerprint.stale(stored, book)
    assert reason.startswith("cell 4 ('wave('): wanted Python, got")


def test_a_file_of_lib_that_went_is_named(stored, book):
    (book / "lib" / "tools" / "waves.py").unlink()
    assert fingerprint.stale(stored, book) == ["lib/tools/waves.py is gone"]


def test_a_file_that_was_not_imported_may_change(stored, book):
    (book / "lib" / "tools" / "unused.py").write_text("VALUE = 1\n")
    assert fingerprint.stale(stored, book) == []


def test_outputs_stored_by_hand_are_noticed(stored, book):
    notebook = notebooks.read(stored)
    notebook.cells[3].outputs = [new_output("stream", text="7\n")]
    notebooks.write(notebook, stored)
    assert fingerprint.stale(stored, book) == ["its outputs are not those that `make execute` stored"]


def test_files_beside_a_package_count_and_lib_from_elsewhere_is_refused(book, tmp_path_factory):
    (book / "lib" / "tools" / "more" / "__pycache__").mkdir(parents=True)
    for name in ("more/weights.xz", "more/__pycache__/x.pyc", "more/README.md", ".hidden"):
        (book / "lib" / "tools" / name).touch()
    wanted = ["lib/tools/__init__.py", "lib/tools/more/weights.xz", "lib/tools/table.txt"]
    assert fingerprint.files([str(book / "lib" / "tools" / "__init__.py")], book) == wanted
    assert fingerprint.files([str(book / "lib" / "__init__.py")], book) == ["lib/__init__.py"]
    elsewhere = str(tmp_path_factory.mktemp("other") / "lib" / "__init__.py")
    with pytest.raises(ValueError, match=r"the kernel imported .*; wanted the files under"):
        fingerprint.files([elsewhere], book)


def test_of_a_package_that_says_what_it_loaded_only_that_counts(book):
    (book / "lib" / "tools" / "loaded.bin").write_bytes(b"1")
    (book / "lib" / "tools" / "other.bin").write_bytes(b"2")
    imported = [str(book / "lib" / "tools" / name) for name in ("__init__.py", "loaded.bin")]
    assert fingerprint.files(imported, book) == ["lib/tools/__init__.py", "lib/tools/loaded.bin"]


FORMULAS = """
def derive():
    return 1


class Checker:
    # how it is checked
    def check(self):
        return True

    # this belongs to what follows
    def other(self):
        return False
"""


@pytest.fixture
def derived(book):
    """A chapter of a derivation, a cell that shows source and one that uses neither, as if it had been run."""
    (book / "lib" / "notebook").mkdir()
    (book / "lib" / "notebook" / "__init__.py").write_text(
        "from lib.notebook.formulas import Checker, derive\nfrom lib.notebook.source import source\n"
    )
    (book / "lib" / "notebook" / "formulas.py").write_text(FORMULAS)
    (book / "lib" / "notebook" / "source.py").write_text("def source(*shown):\n    return shown\n")
    path = put(
        book,
        "import sys",
        "from lib.notebook import Checker, derive, source\nfrom lib.tools import wave",
        "derive()",
        "source(Checker.check)",
        "print(wave())",
    )
    notebook = notebooks.read(path)
    notebook.cells[2].metadata["tags"] = ["imports"]
    notebook.cells[3].metadata["tags"] = ["derivation"]
    notebook.cells[3].outputs = [new_output("execute_result", data={"text/plain": "1"}, execution_count=3)]
    notebooks.write(notebook, path)
    return store(path, book)


def change(book, before, after):
    file = book / "lib" / "notebook" / "formulas.py"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        ("return 1", "return 2", ["lib/notebook/formulas.py changed"]),
        ("return True", "return 1", ["what `source(Checker.check)` shows changed"]),
        ("return True", "return True  # always", ["what `source(Checker.check)` shows changed"]),
        ("return 1\n", "return 1\n\n", ["what `source(Checker.check)` shows changed"]),  # its lines' numbers
        ("# how it is checked", "# how", []),
        ("return False", "return None", []),
        ("belongs to what follows", "is shown with neither", ["what `source(Checker.check)` shows changed"]),
    ],
)
def test_the_checker_makes_only_derivations_stale_and_what_is_shown_only_its_cell(
    derived, book, before, after, reasons
):
    assert fingerprint.stale_parts(derived, book) == ([], [])
    change(book, before, after)
    assert fingerprint.stale_parts(derived, book) == (reasons, [])


def test_other_code_makes_only_the_other_cells_stale(derived, book):
    (book / "lib" / "tools" / "waves.py").write_text("def wave():\n    return 4\n")
    assert fingerprint.stale_parts(derived, book) == ([], ["lib/tools/waves.py changed"])


def test_the_outputs_of_the_two_parts_are_told_apart(derived, book):
    notebook = notebooks.read(derived)
    notebook.cells[3].outputs[0].data["text/plain"] = "2"
    notebooks.write(notebook, derived)
    assert fingerprint.stale_parts(derived, book) == (["its outputs are not those that `make execute` stored"], [])


def test_a_changed_derivation_is_told_apart_unless_others_need_it(derived, book):
    edit(derived, 4, "derive() + 1")
    assert fingerprint.stale_parts(derived, book) == (["cell 4 ('derive() + 1') changed"], [])
    edit(derived, 4, "one = derive()")
    edit(derived, 6, "print(wave() + one)")
    alone, others = fingerprint.stale_parts(derived, book)
    assert alone and "cell 4 ('one = derive()') changed" in others


def test_of_source_whose_object_is_not_found_everything_counts(derived, book):
    edit(derived, 5, "print(1); source(*[Checker])")
    store(derived, book)
    change(book, "# how it is checked", "# how")
    assert fingerprint.stale_parts(derived, book) == ([], ["what `source(*[Checker])` shows changed"])
