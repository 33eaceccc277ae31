r"""Between which numbers a formula lies, as far as its form says: declared domains, squares and divergences.

The value of ``bounds`` holds wherever the formula has a value at all; what the form does not say is infinite.
"""

from __future__ import annotations

from fractions import Fraction
from math import inf

from lib.notebook.formulas.concrete import constant
from lib.notebook.formulas.expression import (
    KL_,
    Add,
    Apply,
    Call,
    Density,
    Div,
    Expect_,
    Expression,
    Group,
    Integral_,
    Mul,
    Neg,
    Normal_,
    Number,
    Pow,
    Repeat,
    Span,
    Symbol,
    children,
    replace,
    walk,
)

DOMAINS = {"positive": (0, inf), "unit": (0, 1), "integer": (1, inf)}


def times(a, b):
    """A product of bounds, with 0 times infinity 0."""
    return 0 if not a or not b else a * b


def product(a: tuple, b: tuple) -> tuple:
    """Bounds of a product."""
    ends = [times(x, y) for x in a for y in b]
    return min(ends), max(ends)


def bounds(e: Expression) -> tuple:
    """A lower and an upper bound of ``e`` wherever it has a value, from declared domains, squares and
    divergences alone.
    """
    number = constant(e)
    if number is not None:
        return number, number
    if isinstance(e, (Symbol, Call)):
        return DOMAINS.get(e.domain, (-inf, inf))
    if isinstance(e, (Density, Normal_)):
        return 0, inf
    if isinstance(e, KL_):
        return (0, inf) if normalised(e.first) and normalised(e.second) else (-inf, inf)
    if isinstance(e, Group):
        return bounds(e.body)
    if isinstance(e, Neg):
        return product((-1, -1), bounds(e.body))
    if isinstance(e, Add):
        ends = [bounds(term) for term in e.terms]
        return sum(low for low, _ in ends), sum(high for _, high in ends)
    if isinstance(e, Mul):
        total, square = (1, 1), len(set(e.factors)) == 1 and len(e.factors) % 2 == 0
        for factor in e.factors:
            total = product(total, bounds(factor))
        return (max(0, total[0]), total[1]) if square else total
    if isinstance(e, Div):
        low, high = bounds(e.bottom)
        inverse = (0, 1 / Fraction(low) if low > 0 else inf) if low >= 0 else (-inf, 0) if high <= 0 else (-inf, inf)
        low, high = product(bounds(e.top), inverse)
        return low, (min(high, 1) if low >= 0 and least(remainder(e.bottom, e.top)) >= 0 else high)
    if isinstance(e, Pow):
        return bounds_of_power(bounds(e.base), constant(e.power))
    if isinstance(e, Apply):
        return bounds_of_function(e.name, bounds(e.body))
    if isinstance(e, Expect_) and normalised(e.over):
        return bounds(e.body)
    if isinstance(e, (Integral_, Repeat)):
        free = {e.index: Symbol(e.index.name)} if isinstance(e, Repeat) and loose(e) else {}
        low, high = bounds(replace(e.body, free))
        if isinstance(e, Repeat) and e.kind == "product":
            return (0, 1 if high <= 1 else inf) if low >= 0 else (-inf, inf)
        return 0 if low >= 0 else -inf, 0 if high <= 0 else inf
    return -inf, inf


def loose(e: Repeat) -> bool:
    """Whether ``e`` is a sum or product whose letter counts as a number in its body and may fall below 1."""
    return bounds(e.first)[0] < 1 and counts(e.body, e.index)


def counts(e: Expression, letter: Symbol) -> bool:
    """Whether ``letter`` stands in ``e`` as a number, and not only in indices and arguments."""
    if isinstance(e, (Symbol, Call, Density, Span)):
        return e == letter
    return any(counts(part, letter) for part in children(e))


def bounds_of_power(base: tuple, power: Fraction | None) -> tuple:
    """Bounds of a power: of an even one, or of a base that is not negative."""
    low, high = base
    if power is None or power < 0:
        return (0, inf) if low >= 0 or (power is not None and not power % 2) else (-inf, inf)
    if low < 0:
        return (0, inf) if not power % 2 else (-inf, inf)
    return (1 if low >= 1 else 0), (1 if high <= 1 else inf)


def bounds_of_function(name: str, body: tuple) -> tuple:
    """Bounds of exp, log, sqrt or a squared norm."""
    low, high = body
    if name == "log":
        return (0 if low >= 1 else -inf), (0 if high <= 1 else inf)
    start = 0 if name == "exp" else 1
    return (1 if low >= start and name != "squared_norm" else 0), (
        1 if name != "squared_norm" and high <= start else inf
    )


def normalised(law: Expression) -> bool:
    """Whether ``law`` is a density or a noise; of a Normal, mean and variance may not depend on its variable."""
    if isinstance(law, Normal_):
        return law.at not in {*walk(law.mean), *walk(law.variance)}
    return isinstance(law, (Density, Symbol))


# ------------------------------------------------------------ terms


def terms(e: Expression) -> list[tuple[Fraction, Expression]]:
    """``e`` as a sum of (number, formula)."""
    number = constant(e)
    if number is not None:
        return [(number, Number(Fraction(1)))]
    if isinstance(e, (Group, Neg)):
        return [(c if isinstance(e, Group) else -c, part) for c, part in terms(e.body)]
    if isinstance(e, Add):
        return [pair for term in e.terms for pair in terms(term)]
    if isinstance(e, Expect_) and normalised(e.over):
        return [(c, p if isinstance(p, Number) else Expect_(p, e.over)) for c, p in terms(e.body)]
    if isinstance(e, Repeat) and e.kind == "sum":
        return [(c, Repeat(e.kind, part, e.index, e.first, e.last)) for c, part in terms(e.body)]
    if isinstance(e, Div) and (bottom := constant(e.bottom)):
        return [(c / bottom, part) for c, part in terms(e.top)]
    if isinstance(e, Mul):
        factor = Fraction(1)
        rest: list[Expression] = []
        spread: Expression | None = None
        for f in e.factors:
            [(c, part), *more] = terms(f)
            if more:
                spread, rest = (f, [*rest, f])
                continue
            factor *= c
            rest += [] if isinstance(part, Number) else [part]
        if not rest:
            return [(factor, Number(Fraction(1)))]
        if spread is not None and rest == [spread]:
            return [(factor * c, part) for c, part in terms(spread)]
        return [(factor, rest[0] if len(rest) == 1 else Mul(tuple(rest)))]
    return [(Fraction(1), e)]


def remainder(larger: Expression, smaller: Expression) -> dict[Expression, Fraction]:
    """{formula: number} of the terms of ``larger - smaller`` that do not cancel."""
    left: dict[Expression, Fraction] = {}
    for sign, side in ((1, larger), (-1, smaller)):
        for c, part in terms(side):
            left[part] = left.get(part, 0) + sign * c
    return {part: c for part, c in left.items() if c}


def least(left: dict[Expression, Fraction]):
    """A lower bound of a sum of number times formula."""
    return sum(product((c, c), bounds(part))[0] for part, c in left.items())
