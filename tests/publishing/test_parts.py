import nbformat
import pytest

from lib.publishing import notebooks
from lib.publishing.parts import parts, statements
from tests.publishing.conftest import code

IMPORTS = code("from lib.notebook import source\nfrom lib.tools import wave", "imports")


@pytest.fixture
def split(book):
    """Which cells can be run alone of a notebook of the setup cell, the imports and these, by their numbers."""
    (book / "lib" / "notebook").mkdir()
    (book / "lib" / "notebook" / "__init__.py").write_text("from lib.notebook.source import source\n")
    (book / "lib" / "notebook" / "source.py").write_text("def source(*shown):\n    return shown\n")

    def alone(*cells):
        notebook = nbformat.v4.new_notebook(cells=[code("%pip install x", "setup"), IMPORTS, *cells])
        found = parts(notebook, book)
        assert sorted([*found.alone, *found.others]) == list(range(1, len(notebook.cells)))
        return [place - 2 for place in found.alone]

    return alone


def derivation(source):
    return code(source, "derivation")


def test_derivations_and_calls_of_source_can_be_run_alone(split):
    assert split(derivation("x = 1\nx"), code("source(wave)\nsource(wave)"), code("wave()")) == [0, 1]


@pytest.mark.parametrize(
    "source",
    [
        "",
        "wave()",
        "source(wave)\nwave()",
        "x = source(wave)",
        "source(other)",
        "source(wave())",
        "list(map(source, [wave]))",
    ],
)
def test_other_cells_cannot(split, source):
    assert split(code("other = wave"), code(source)) == []


@pytest.mark.parametrize(
    ("later", "can"),
    [
        ("print(x)", False),
        ("x = x + 1", False),
        ("x += 1", False),
        ("for i in x:\n    pass", False),
        ("def f():\n    return x", False),
        ("class C:\n    y = x", False),
        ("[x for i in range(3)]", False),
        ("y = 1", True),
        ("x = 2\nprint(x)", True),
        ("for x in range(3):\n    print(x)", True),
        ("[x for x in range(3)]", True),
        ("def f(x):\n    return x", True),
        ("wave(x=1)", True),
    ],
)
def test_a_cell_whose_names_are_needed_later_cannot(split, later, can):
    assert split(derivation("x = 1"), code(later)) == ([0] if can else [])
    assert split(derivation("x = 1"), derivation(later)) == [0, 1]


def test_a_name_that_was_bound_again_is_not_needed(split):
    assert split(derivation("x = 1"), code("x = 2"), code("x")) == [0]
    assert split(code("x = 2"), derivation("x = 1"), code("x")) == []


def test_a_function_may_read_a_name_after_it_was_bound_again(split):
    assert split(code("x = 2\ndef f():\n    return x"), derivation("x = 1")) == []


def test_magics_are_no_hindrance_and_what_is_not_python_is_named():
    notebook = nbformat.v4.new_notebook(cells=[code("%matplotlib inline\nx = 1"), code("x =")])
    assert len(statements(notebook, notebook.cells[:1])) == 2
    with pytest.raises(notebooks.NotebookError, match=r"cell 2 \('x ='\): wanted Python, got"):
        statements(notebook, notebook.cells)
