import pytest
from nbformat.v4 import new_output

from lib.publishing import fingerprint, notebooks
from tests.publishing.conftest import edit, put


@pytest.fixture
def stored(book):
    """The chapter as if it had been run with the two files of `lib` that it imports; no kernel is started."""
    path = book / "book" / "waves.ipynb"
    notebook = notebooks.normalise(notebooks.read(path))
    fingerprint.record(notebook, book, ["lib/__init__.py", "lib/tools/waves.py"])
    notebooks.write(notebook, path)
    return path


def test_fresh_after_recording(stored, book):
    assert fingerprint.stale(stored, book) == []


def test_never_run(book):
    path = put(book, "import sys", "1 + 1")
    assert fingerprint.stale(path, book) == ["it was never run by `make execute`"]


def test_a_record_of_another_kind_counts_as_none(stored, book):
    notebook = notebooks.read(stored)
    del notebook.metadata.book_fingerprint["lib"]
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


def test_a_changed_file_of_lib_is_named(stored, book):
    (book / "lib" / "tools" / "waves.py").write_text("def wave():\n    return 4\n")
    assert fingerprint.stale(stored, book) == ["lib/tools/waves.py changed"]


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
