"""The two parts of a notebook: the cells that can be run alone, and all others.

Cells tagged `derivation`, and cells that do nothing but call `source`, need only the cell tagged `imports`. Run alone,
in seconds, they give what they give in the whole notebook, whose other cells may train networks for minutes.
"""

import ast
import dis
import functools
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from lib.publishing import notebooks
from lib.publishing.reach import Reach, dotted

_AT_ONCE = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}  # all other code of its own runs when it is called


class Parts(NamedTuple):
    """The places of the code cells in the notebook, in order; the setup cell is in neither part."""

    alone: list[int]
    others: list[int]


def parts(notebook: NotebookNode, root: Path) -> Parts:
    """Which cells of a notebook can be run alone.

    A cell whose names another cell needs afterwards is among the others, and so is a call of `source` on what is not
    imported by the cell tagged `imports`. Raises `NotebookError` for a cell that is not Python.
    """
    cells = [(place, cell) for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    cells = [(place, cell) for place, cell in cells if not tagged(cell, "setup")]
    imports = [cell for _, cell in cells if tagged(cell, "imports")]
    reach = Reach(statements(notebook, imports), root)
    only = [place for place, cell in cells if tagged(cell, "derivation") or _only_source(notebook, cell, reach)]
    needed = _needed(notebook, [place for place, _ in cells], set(only))
    alone = [place for place in only if place not in needed]
    return Parts(alone, [place for place, _ in cells if place not in alone])


def tagged(cell: NotebookNode, tag: str) -> bool:
    """Whether a cell has the tag."""
    return tag in cell.metadata.get("tags", [])


def statements(notebook: NotebookNode, cells: list[NotebookNode]) -> list[ast.stmt]:
    """The statements of some code cells of a notebook, without magics. Raises `NotebookError` for other code."""
    return [statement for cell in cells for statement in _tree(notebook, cell).body]


def _tree(notebook: NotebookNode, cell: NotebookNode) -> ast.Module:
    try:
        return _parse(cell.source)
    except SyntaxError as error:
        number = notebook.cells.index(cell) + 1
        raise notebooks.NotebookError(f"{notebooks.label(number, cell)}: wanted Python, got {error}") from error


@functools.lru_cache(maxsize=4096)
def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.parse(TransformerManager().transform_cell(source))  # lines such as `%pip` made Python


def _only_source(notebook: NotebookNode, cell: NotebookNode, reach: Reach) -> bool:
    body = _tree(notebook, cell).body
    calls = [statement.value for statement in body if isinstance(statement, ast.Expr) and reach.shows(statement.value)]
    shown = [dotted(argument) for call in calls for argument in call.args]
    return bool(body) and len(calls) == len(body) and all(chain and reach.origin(reach.cells, chain) for chain in shown)


def _needed(notebook: NotebookNode, places: list[int], only: set[int]) -> set[int]:
    """Of the places `only`, those with a name that a cell elsewhere may read."""
    made: dict[str, int] = {}  # by which cell a name was bound last
    late: set[str] = set()  # names that functions of cells elsewhere read whenever they are called
    needed = set()
    for place in places:
        uses = list(_uses(compile(_tree(notebook, notebook.cells[place]), "cell", "exec")))
        bound = {name for name, how in uses if how == "bound"}
        if place in only:
            needed |= {place} if bound & late else set()
        else:
            first = dict(reversed(uses))
            late |= {name for name, how in uses if how == "late"}
            needed |= {made[name] for name, how in first.items() if how != "bound" and made.get(name) in only}
        made |= dict.fromkeys(bound, place)
    return needed


def _uses(code: CodeType, late: bool = False, top: bool = True) -> Iterator[tuple[str, str]]:
    """Each name of the notebook that a cell uses, in the order of running: "bound", "read", or "late" in a function."""
    for instruction in dis.get_instructions(code):
        operation, value = instruction.opname, instruction.argval
        if operation.startswith("LOAD_") and ("NAME" in operation or "GLOBAL" in operation):
            yield value, "late" if late else "read"
        elif operation == "STORE_GLOBAL" or (operation == "STORE_NAME" and top):
            yield value, "bound"
        elif isinstance(value, CodeType):
            yield from _uses(value, late or value.co_name not in _AT_ONCE, top=False)
