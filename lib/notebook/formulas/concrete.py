"""Formulas made concrete: indices worked out, symbols such as T given a number, sums written out,
definitions looked up.

"""

from __future__ import annotations

import math
from contextlib import contextmanager
from fractions import Fraction
from types import MappingProxyType

from lib.notebook.formulas.expression import (
    KL_,
    Add,
    Apply,
    Call,
    Density,
    Div,
    Expect_,
    Expression,
    Grad_,
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
    rebuild,
    walk,
    wrap,
)
from lib.notebook.formulas.vectors import is_vector


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
    (added, total), *others = ((n > 0, s if abs(n) == 1 else abs(n) * s) for s, n in parts)
    total = total if added else -total
    for added, term in others:
        total = total + term if added else total - term
    return total if not constant else total + constant if constant > 0 else total - (-constant)


def index_of(index: dict) -> Expression:
    """An index such as {T: 1, None: -1} as a formula."""
    letters = [n * s if n > 0 else -(abs(n) * s) for s, n in index.items() if s is not None]
    return tidy(sum(letters, wrap(index[None])), {})


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
        if (
            not isinstance(variable, Span)
            or (first := number_in(variable.first)) is None
            or (last := number_in(variable.last)) is None
        ):
            result.append(variable)
            continue
        f = variable.family
        result += [Symbol(f.name, f.domain, wrap(k), f.vector, f.latex) for k in range(first, last + 1)]
    return tuple(result)


def same_place(density: Expression) -> Expression:
    """A density without its way of being written, so that a definition of p matches p however it is shown and in
    whatever order its variables stand.
    """
    if not isinstance(density, Density):
        return density
    left, right = (tuple(sorted(side, key=repr)) for side in (density.left, density.right))
    return Density(density.law, left, right, "")


def related(key: Expression, p: Expression) -> bool:
    """Whether two symbols are of one family, two calls of one function, or two densities of one law."""
    names = [e.law if isinstance(e, Density) else getattr(e, "name", None) for e in (key, p)]
    return type(key) is type(p) and names[0] == names[1]


LONGEST = 60  # definitions that a definition may lead through, one after the other


def constant(e: Expression) -> Fraction | None:
    """The rational number that a formula without symbols is, or None."""
    if isinstance(e, Number):
        return e.value
    if isinstance(e, (Group, Neg)):
        inside = constant(e.body)
        return inside if inside is None or isinstance(e, Group) else -inside
    if isinstance(e, Div):
        top, bottom = constant(e.top), constant(e.bottom)
        return None if top is None or not bottom else top / bottom
    return None


def within(value: Fraction, domain: str) -> bool:
    """Whether a number belongs to the domain of a symbol, or is where one of a unit interval ends."""
    return {
        "positive": value > 0,
        "unit": 0 <= value <= 1,
        "integer": value >= 1 and value.denominator == 1,
    }.get(domain, True)


class Definitions:
    """What the author declared: ``{key: formula}`` with keys that are symbols, densities or calls of
    unknown functions.

    A key with a bare index, ``beta[t]`` or ``f(x, t)``, holds for the letter ``t`` and for the numbers 1, 2,
    3... in its place. ``sizes`` holds the integer symbols that are defined as numbers, such as {T: 2}. Raises
    ``ValueError`` for another key, or a number outside the domain of the symbol that it defines.
    """

    def __init__(self, where: dict | None):
        defined: dict[Expression, Expression] = {}
        self.sizes: dict[Symbol, int] = {}
        self.opened: list[Expression] = []
        self.known: dict[Expression, Expression | None] = {}
        for key, formula in (where or {}).items():
            if not isinstance(key, Expression) or type(key).__name__ not in ("Symbol", "Density", "Call"):
                raise ValueError(f"where: wanted symbols, densities or calls as keys, got {key!r}")
            vector = isinstance(key, (Symbol, Call)) and key.vector
            if vector != is_vector(wrap(formula)) and constant(wrap(formula)) != 0:
                raise ValueError(f"where: {key!r} is a {'vector' if vector else 'number'}, {formula!r} is not")
            defined[same_place(concrete(key))] = wrap(formula)
            value = constant(wrap(formula))
            if isinstance(key, Symbol) and value is not None:
                if not within(value, key.domain):
                    raise ValueError(f"where: {key!r} is declared {key.domain}, which {formula!r} is not")
                if key.domain == "integer" and key.index is None:
                    self.sizes[key] = int(value)
            elif isinstance(key, Symbol) and key.domain == "integer" and key.index is None:
                raise ValueError(f"where: {key!r} counts, so it can be a number only; write {formula!r} in its place")
        self.where = MappingProxyType(defined)

    def of(self, e: Expression) -> Expression | None:
        """The definition of ``e`` with its indices put in, or None."""
        if e not in self.known:
            self.known[e] = self.look_up(e) if self.where else None
        return self.known[e]

    def look_up(self, e: Expression) -> Expression | None:
        """As ``of``, without remembering."""
        e = same_place(e)
        if e in self.where:
            return concrete(self.where[e])
        inside = list(walk(e))
        numbers = {n for part in inside if isinstance(part, (Number, Neg)) and (n := number_in(part)) is not None}
        for key, formula in self.where.items():
            if type(key) is not type(e) or not numbers:
                continue
            places = [p.index for p in walk(key) if isinstance(p, Symbol) and p.index is not None]
            places += key.args if isinstance(key, Call) else ()
            indices = [place for place in places if is_index(place)]
            for letter in {index for index in indices if isinstance(index, Symbol)}:
                shifts = {linear(index)[None] for index in indices if letter in linear(index)}
                for k in sorted({n - shift for n in numbers for shift in shifts}):
                    if k >= 1 and replace_index(key, letter, k) == e:
                        return concrete(formula, {letter: k})
        return None

    def unfolded(self, e: Expression, kinds: tuple = (Symbol, Call)) -> Expression:
        """``e`` with all of these ``kinds`` that is defined, at any depth, written out; indices stay."""
        formula = self.of(e) if isinstance(e, kinds) else None
        if formula is not None:
            with self.opening(e):
                return self.unfolded(formula, kinds)
        if isinstance(e, (Symbol, Span)) or not self.where:
            return e
        return rebuild(e, lambda part: self.unfolded(part, kinds))

    @contextmanager
    def opening(self, e: Expression):
        """While the definition of ``e`` is read; ``ValueError`` if it leads back to itself or never ends."""
        if e in self.opened or len(self.opened) == LONGEST:
            raise ValueError(f"where: the definition of {self.opened[0]!r} leads back to itself, or without end")
        self.opened.append(e)
        try:
            yield
        finally:
            self.opened.pop()


def is_index(e: Expression) -> bool:
    """Whether ``e`` is a sum of integers and integer symbols."""
    try:
        linear(e)
    except ValueError:
        return False
    return True


def replace_index(key: Expression, letter: Symbol, k: int) -> Expression | None:
    """``key`` at letter = k, or None where that names one variable twice."""
    try:
        return concrete(key, {letter: k})
    except ValueError:
        return None


# ------------------------------------------------------------ what has to be told apart


def degree(e: Expression, size: Symbol, components: bool = False) -> int | None:
    """A bound on the degree of ``e`` as a polynomial in ``size`` where that stands as a number: outside
    indices, ends of sums and arguments of unknown functions. None if it is no polynomial.

    With ``components`` the ``size`` is the number of components of vectors, and what adds up over them, a
    squared norm, a divergence or the logarithm of a density, counts as one more. Likewise a sum of ``size``
    terms inside an average over as many variables. A line whose two sides differ by a polynomial of degree n is
    decided by n + 1 sizes, and by no fewer.
    """
    if isinstance(e, (Symbol, Span)):
        return int(e == size)
    if isinstance(e, (Number, Density)):
        return 0
    if isinstance(e, Call):  # two values of a function are the same where their arguments are
        degrees = [degree(argument, size) for argument in e.args]
        known = [k for k in degrees if k is not None]
        return max(known, default=0) if len(known) == len(degrees) else None
    if isinstance(e, Repeat):
        return degree_of_repeat(e, size, components)
    inside = []
    for part in children(e):
        found = degree(part, size, components)
        if found is None:
            return None
        inside.append(found)
    adds_up = int(components and any(getattr(part, "vector", False) for part in walk(e)))
    if isinstance(e, (Mul, Div)):  # of a fraction: what is left once it is multiplied out
        return sum(inside)
    if isinstance(e, Pow) and inside[0]:
        power = constant(e.power)
        return int(power * inside[0]) if power is not None and power >= 0 and power.denominator == 1 else None
    if isinstance(e, Apply) and e.name == "squared_norm":
        return 2 * inside[0] + adds_up
    if isinstance(e, Apply) and e.name in ("log", "exp") and any(isinstance(part, Normal_) for part in walk(e.body)):
        # Of densities a logarithm is compared, whose terms add up.
        return None if degree(e.body, size) else inside[0]
    if isinstance(e, (Normal_, KL_)):
        return adds_up if not any(inside) or (isinstance(e, KL_) and adds_up) else None
    if isinstance(e, Add) and any(isinstance(part, Div) and degree(part.bottom, size) for part in walk(e)):
        return sum(inside)
    if isinstance(e, Expect_) and isinstance(e.over, Normal_):
        mean, variance = (degree(part, size, components) for part in (e.over.mean, e.over.variance))
        return None if mean or variance else inside[0]
    if isinstance(e, (Expect_, Integral_)):
        variables = e.variables if isinstance(e, Integral_) else e.over.left if isinstance(e.over, Density) else ()
        spans = [v for v in variables if isinstance(v, Span) and any(size in linear(end) for end in (v.first, v.last))]
        sums = [p for p in walk(e.body) if isinstance(p, Repeat) and any(size in linear(q) for q in (p.first, p.last))]
        return None if any(inside[1:]) else inside[0] + bool(spans and sums)
    if isinstance(e, (Add, Neg, Group, Grad_)):
        return max(inside)
    return None if any(inside) else 0


def degree_of_repeat(e: Repeat, size: Symbol, components: bool = False) -> int | None:
    """As ``degree``. A sum of ``size`` terms of degree k has degree k + 1; a product has to be of unknowns."""
    grows = any(size in linear(end) for end in (e.first, e.last))
    terms = e.body.terms if isinstance(e.body, Add) and e.kind == "sum" else (e.body,)
    found = []
    for term in terms:
        inner, outer = degree(term, e.index), degree(term, size, components)
        if inner is None or outer is None:
            return None
        counted = inner > 0 or e.index not in set(walk(term))
        if e.kind == "product" and (outer or (grows and counted)):
            return None
        found.append(inner * grows + outer + (grows and counted))
    return max(found)


def digits(e: Expression) -> int:
    """How many decimal digits may be needed to tell ``e`` from its neighbours: those typed, and those that
    powers and exponentials of typed numbers have.
    """
    if isinstance(e, Number):
        return len(str(e.value))
    if isinstance(e, Symbol):
        return 0
    inside = sum(digits(part) for part in children(e))
    if isinstance(e, Pow) and (power := constant(e.power)) is not None:
        return max(digits(e.base), int(abs(power) >= 10)) * max(1, math.ceil(abs(power)))
    if isinstance(e, Pow) or (isinstance(e, Apply) and e.name == "exp"):
        return inside + 10 ** min(inside, 6) // 2
    return inside
