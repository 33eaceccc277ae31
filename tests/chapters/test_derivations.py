"""Every step of every derivation of the book is spoiled, one thing at a time, and each spoiled step is refused.

A chapter's derivations stand in cells tagged ``derivation``, which need nothing but the cell tagged ``imports``.
"""

from pathlib import Path

import nbformat
import pytest

from lib.notebook.derivation import recording
from tests.notebook.mutation import refusals

BOOK = Path(__file__).parents[2] / "book"


def code(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tagged(cell, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


CHAPTERS = [path for path in sorted(BOOK.rglob("*.ipynb")) if any("Derivation(" in cell.source for cell in code(path))]


def test_the_book_derives_something():
    assert CHAPTERS, f"no notebook under {BOOK} holds a Derivation"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_spoiled_step_is_refused(path):
    untagged = [cell.source for cell in code(path) if "Derivation(" in cell.source and not tagged(cell, "derivation")]
    assert not untagged, f"{path.name}: cells with a Derivation need the tag derivation:\n{untagged}"
    space: dict = {"__name__": "__main__"}
    with recording() as made:
        for cell in code(path):
            if tagged(cell, "imports") or tagged(cell, "derivation"):
                exec(compile(cell.source, f"{path.name}, cell {cell.id}", "exec"), space)  # the chapter's own code
    assert made, f"{path.name} mentions Derivation( but makes none"
    names = [d.name for d in made]
    assert len(set(names)) == len(names), f"{path.name}: two derivations share a name: {names}"
    steps = sum(len(d.steps) for d in made)
    assert steps >= len(made), f"{path.name}: a derivation without a step"
    kinds, equal, accepted = refusals(made)
    print(f"{path.name}: {steps} steps, {kinds.total()} mutants, {len(equal)} equal after all, {dict(kinds)}")
    assert accepted == []
    assert kinds.total() >= 4 * steps
    assert len(equal) <= 0.1 * kinds.total(), equal
