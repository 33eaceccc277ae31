"""What a chapter's derivations and shown sources display when their cells run alone, beside what is stored of them."""

import ast
from pathlib import Path
from typing import NamedTuple

import nbformat
from IPython.core.formatters import DisplayFormatter

from lib.notebook import source
from lib.notebook.derivation import recording
from lib.publishing.parts import parts, tagged


class Alone(NamedTuple):
    """After the run: the derivations made, and the cells whose stored outputs are others than those displayed now."""

    made: list
    differing: list[str]


def run_alone(path: Path, root: Path, monkeypatch) -> Alone:
    """Run the cell tagged `imports` and those that need nothing else, here and now."""
    notebook = nbformat.read(path, as_version=4)
    imports = [place for place, cell in enumerate(notebook.cells) if tagged(cell, "imports")]
    alone = parts(notebook, root).alone
    space: dict = {"__name__": "__main__"}
    differing = []
    with recording() as made:
        for place in sorted({*imports, *alone}):
            cell = notebook.cells[place]
            displayed = _displayed(cell.source, f"{path.name}, cell {place + 1}", space, monkeypatch)
            stored = [dict(output.get("data", output)) for output in cell.outputs]
            if place in alone and displayed != stored:
                differing.append(f"{path.name}, cell {place + 1} displays {displayed}, stored is {stored}")
    return Alone(made, differing)


def _displayed(text: str, name: str, space: dict, monkeypatch) -> list[dict]:
    """The faces, by MIME type, of what `source` shows in a cell, and of the value of its last line."""
    faces: list[dict] = []
    with monkeypatch.context() as patch:
        patch.setitem(source.__globals__, "publish", lambda data, text: faces.append({**data, "text/plain": text}))
        tree = ast.parse(text)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), space)  # the chapter's own code
        value = eval(compile(ast.Expression(last.value), name, "eval"), space) if last else None
    if value is not None:
        faces.append(DisplayFormatter().format(value)[0])
    return faces
