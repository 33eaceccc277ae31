"""What the value of a formula takes for granted, and how a derivation says it."""

from __future__ import annotations

from typing import NamedTuple

import sympy as sp

from lib.notebook.formulas.concrete import index_of
from lib.notebook.formulas.printing import latex

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
    if sign == NE and list(left.values()) == [1] and not right and value - index[None] == 1:
        sign, value = GE, value + 1  # a whole number from 1 on that is not 1
    return rf"{latex(index_of(left | {None: 0}))} {sign} {latex(index_of(right | {None: value - index[None]}))}"


def premises(before: frozenset[Premise], after: frozenset[Premise]) -> list[str]:
    """What two lines take for granted, in words: of values, what one of them needs and the other does not."""
    said = {p.text for p in before | after if not p.relation}
    variances = [p.about[1] for p in before | after if isinstance(p.about, tuple) and p.about[0] == "variance"]
    values: dict = {}
    for p in before ^ after:
        if p.relation and not (p.relation == NE and any(divides(p.about, variance) for variance in variances)):
            values.setdefault(p.text, set()).add(p.relation)
    for shown, relations in values.items():
        sign = ">" if len(relations) > 1 else relations.pop()
        said.add(f"where ${shown} {sign} 0$")
    return sorted(said)


def divides(base: sp.Expr, positive: sp.Expr) -> bool:
    """Whether ``base`` is a factor above or below the line of something positive, and so is not 0."""
    factors = [f.as_base_exp()[0] for f in sp.Mul.make_args(sp.factor(positive))]
    return any(f in (base, -base) for f in factors)
