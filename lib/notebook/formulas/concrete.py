"""Formulas made concrete: indices worked out, symbols such as T given a number, sums written out,
definitions looked up.

"""

from __future__ import annotations

from fractions import Fraction

from lib.notebook.formulas.expression import (
    Add,
    Density,
    Expression,
    Integral_,
    Mul,
    Neg,
    Number,
    Repeat,
    Span,
    Symbol,
    children,
    rebuild,
    walk,
    wrap,
)


def linear(index: Expression) -> dict:
    """An index as {symbol: coefficient, None: constant}; ``ValueError`` if it is not a sum of integers and
    symbols.
    """
    if isinstance(index, Number) and index.value.denominator == 1:
        return {None: int(index.value)}
    if isinstance(index, Symbol) and index.domain == "integer" and index.index is None:
        return {index: 1, None: 0}
    if isinstance(index, (Add, Neg)):
        total: dict = {None: 0}
        sign = -1 if isinstance(index, Neg) else 1
        for part in children(index):
            for symbol, count in linear(part).items():
                total[symbol] = total.get(symbol, 0) + sign * count
        return {symbol: count for symbol, count in total.items() if count or symbol is None}
    if isinstance(index, Mul) and isinstance(index.factors[0], Number) and len(index.factors) == 2:
        return {s: n * int(index.factors[0].value) for s, n in linear(index.factors[1]).items()}
    raise ValueError(f"index: wanted a sum of integers and integer symbols, got {index!r}")


def tidy(index: Expression, values: dict) -> Expression:
    """``index`` with ``values`` put in and like terms collected: t - 1 + 1 becomes t, and T - 1 at T = 4
    becomes 3.
    """
    found = linear(index)
    constant = found.pop(None) + sum(values[s] * n for s, n in found.items() if s in values)
    parts = [(s, n) for s, n in sorted(found.items(), key=lambda pair: pair[0].name) if s not in values]
    if not parts:
        return wrap(constant)
    total = None
    for symbol, count in parts:
        term = symbol if abs(count) == 1 else abs(count) * symbol
        total = (term if count > 0 else -term) if total is None else (total + term if count > 0 else total - term)
    return total if not constant else total + constant if constant > 0 else total - (-constant)


def number_in(index: Expression | None) -> int | None:
    """The integer that ``index`` is, or None."""
    if isinstance(index, Neg):
        inside = number_in(index.body)
        return None if inside is None else -inside
    return int(index.value) if isinstance(index, Number) else None


def concrete(e: Expression, values: dict | None = None) -> Expression:
    """``e`` with integer symbols replaced by ``values``, indices tidied, spans and sums of known length
    written out.
    """
    values = values or {}
    if isinstance(e, Repeat):
        outer = {s: v for s, v in values.items() if s != e.index}
        first, last = tidy(e.first, values), tidy(e.last, values)
        low, high = number_in(first), number_in(last)
        if low is None or high is None:
            return Repeat(e.kind, concrete(e.body, outer), e.index, first, last)
        terms = tuple(concrete(e.body, {**outer, e.index: k}) for k in range(low, high + 1))
        empty = Number(Fraction(0 if e.kind == "sum" else 1))
        return empty if not terms else (Add if e.kind == "sum" else Mul)(terms)
    if isinstance(e, Symbol):
        if e.index is not None:
            return Symbol(e.name, e.domain, tidy(e.index, values), e.vector, e.latex)
        return wrap(values[e]) if e in values else e
    if isinstance(e, Span):
        return Span(e.family, tidy(e.first, values), tidy(e.last, values))
    if isinstance(e, Density):
        left, right = (unrolled(side, values) for side in (e.left, e.right))
        if set(left) & set(right) or len(set(left)) < len(left):
            raise ValueError(f"{e!r} names a variable twice: {[*left, *right]}")
        return Density(e.law, left, right, e.shown)
    if isinstance(e, Integral_):
        return Integral_(concrete(e.body, values), unrolled(e.variables, values))
    return rebuild(e, lambda part: concrete(part, values))


def unrolled(variables: tuple, values: dict) -> tuple:
    """The variables, with a span x[1:3] replaced by x[1], x[2], x[3] once both its ends are numbers."""
    result: list = []
    for variable in (concrete(v, values) for v in variables):
        ends = (number_in(variable.first), number_in(variable.last)) if isinstance(variable, Span) else (None, None)
        if None in ends:
            result.append(variable)
            continue
        f = variable.family
        result += [Symbol(f.name, f.domain, wrap(k), f.vector, f.latex) for k in range(ends[0], ends[1] + 1)]
    return tuple(result)


def same_place(density: Expression) -> Expression:
    """A density without its way of being written, so that a definition of p matches p however it is shown."""
    return Density(density.law, density.left, density.right, "") if isinstance(density, Density) else density


class Definitions:
    """What the author declared: ``{key: formula}`` with keys that are symbols, densities or calls of
    unknown functions.

    A key with a bare index, ``beta[t]``, holds for the letter ``t`` and for the numbers 1, 2, 3... in its
    place.
    """

    def __init__(self, where: dict | None):
        self.where = {}
        for key, formula in (where or {}).items():
            if not isinstance(key, Expression) or type(key).__name__ not in ("Symbol", "Density", "Call"):
                raise ValueError(f"where: wanted symbols, densities or calls as keys, got {key!r}")
            self.where[same_place(concrete(key))] = wrap(formula)

    def of(self, e: Expression) -> Expression | None:
        """The definition of ``e`` with its indices put in, or None."""
        e = same_place(e)
        if e in self.where:
            return concrete(self.where[e])
        numbers = {number_in(part.index) for part in walk(e) if isinstance(part, Symbol) and part.index is not None}
        near = {n + k for n in numbers - {None} for k in (-1, 0, 1) if n + k >= 1}
        for key, formula in self.where.items():
            if type(key) is not type(e) or not near:
                continue
            for letter in {p.index for p in walk(key) if isinstance(p, Symbol) and isinstance(p.index, Symbol)}:
                for k in sorted(near):
                    if replace_index(key, letter, k) == e:
                        return concrete(formula, {letter: k})
        return None


def replace_index(key: Expression, letter: Symbol, k: int) -> Expression | None:
    """``key`` at letter = k, or None where that names one variable twice."""
    try:
        return concrete(key, {letter: k})
    except ValueError:
        return None
