"""What the value of a formula takes for granted, and how a derivation says it."""

from __future__ import annotations

from typing import NamedTuple

from lib.notebook.formulas.printing import latex
from lib.notebook.formulas.sums import index_of

GE, NE = r"\ge", r"\ne"


class Premise(NamedTuple):
    """Something taken for granted: of an expression a relation to 0, or a sentence that must be said in any case."""

    about: object
    text: str
    relation: str = ""


def compared(index: dict, value: int, sign: str) -> str:
    """LaTeX of "index sign value" with no letter subtracted: T - n - 1 against 0 is T against n + 1."""
    left = {s: n for s, n in index.items() if s is not None and n > 0}
    right = {s: -n for s, n in index.items() if s is not None and n < 0}
    if not left and sign == NE:
        left, right, index, value = right, {}, {None: -index[None]}, -value
    return rf"{latex(index_of(left | {None: 0}))} {sign} {latex(index_of(right | {None: value - index[None]}))}"


def premises(before: frozenset[Premise], after: frozenset[Premise]) -> list[str]:
    """What two lines take for granted, in words: of values, what one of them needs and the other does not."""
    said = {p.text for p in before | after if not p.relation}
    values: dict = {}
    for p in before ^ after:
        if p.relation:
            values.setdefault(p.text, set()).add(p.relation)
    for shown, relations in values.items():
        sign = ">" if len(relations) > 1 else relations.pop()
        said.add(f"where ${shown} {sign} 0$")
    return sorted(said)
