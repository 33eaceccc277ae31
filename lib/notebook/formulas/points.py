"""Values of sympy expressions at random rational points of their domain: the same seed, the same point."""

from __future__ import annotations

import random

import sympy as sp
from sympy.core.function import AppliedUndef

from lib.notebook.formulas.unknown import RULED, outermost


def unknowns(e: sp.Expr) -> set:
    """The outermost parts of ``e`` about which nothing is known: functions, integrals, open sums."""
    return outermost(e, (AppliedUndef, *RULED))


def draw(name: str, domain: str, seed: int) -> sp.Rational:
    """A rational number of the domain, random but fixed by the name and the seed."""
    chance = random.Random(f"{seed} {name}")
    n, d = chance.randint(1, 19), chance.choice((3, 5, 7, 11))
    if domain == "integer":
        return sp.Integer(n)
    value = sp.Rational(n, n + d) if domain == "unit" else sp.Rational(n, d)
    return -value if domain in ("real", "noise") and chance.random() < 0.5 else value


def point(e: sp.Expr, domains: dict, seed: int) -> dict:
    """{symbol or unknown: rational number} for everything in ``e`` that has no value yet."""
    table = {u: draw(str(u), "positive" if u.is_positive else "real", seed) for u in unknowns(e)}
    names = e.xreplace(table).free_symbols
    return table | {s: draw(s.name, domains.get(s, "positive" if s.is_positive else "real"), seed) for s in names}


def at(e: sp.Expr, where: dict) -> sp.Expr:
    """``e`` at a point: an exact rational where it is one, else a number to 50 digits (complex outside the
    domain).
    """
    value = e.xreplace(where)
    return value if value.is_Rational else sp.N(value, 50)


def close(a: sp.Expr, b: sp.Expr) -> bool:
    """Equal: exactly for rationals, else to 40 of the 50 digits."""
    if a.is_Rational and b.is_Rational:
        return a == b
    gap = abs(sp.N(a - b, 50))
    return bool(gap.is_number and gap.is_finite and gap <= sp.Float(10, 50) ** -40 * (1 + abs(a) + abs(b)))
