"""The derivations of the chapters, made from their cells.

A chapter's derivations stand in cells tagged ``derivation``, which need nothing but the cell tagged ``imports``.
"""

from functools import cache
from pathlib import Path

import nbformat

from lib.notebook.derivation import Derivation, recording

BOOK = Path(__file__).parents[2] / "book"


def code(path: Path) -> list:
    """The code cells of a notebook."""
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tagged(cell, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


CHAPTERS = [path for path in sorted(BOOK.rglob("*.ipynb")) if any("Derivation(" in cell.source for cell in code(path))]


@cache
def made(path: Path) -> list[Derivation]:
    """Every derivation that a chapter makes; ``ValueError`` (``WrongStep``) where one of its lines is refused."""
    space: dict = {"__name__": "__main__"}
    with recording() as derivations:
        for cell in code(path):
            if tagged(cell, "imports") or tagged(cell, "derivation"):
                exec(compile(cell.source, f"{path.name}, cell {cell.id}", "exec"), space)  # the chapter's own code
    return derivations
