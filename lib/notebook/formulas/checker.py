"""One judgement of a step: on random finite models where there are laws, and by algebra."""

from __future__ import annotations

from itertools import product

import sympy as sp
from sympy.core.function import AppliedUndef

from lib.notebook.formulas.algebra import Algebra, OpenLength
from lib.notebook.formulas.certificates import certificate
from lib.notebook.formulas.concrete import Definitions, concrete, degree, linear, related
from lib.notebook.formulas.equality import Comparison
from lib.notebook.formulas.exact import Refused
from lib.notebook.formulas.expression import (
    KL_,
    Apply,
    Call,
    Density,
    Expect_,
    Expression,
    Grad_,
    Integral_,
    Normal_,
    Number,
    Symbol,
    walk,
)
from lib.notebook.formulas.finite import Finite, NotFinite
from lib.notebook.formulas.language import bound_by
from lib.notebook.formulas.law import Law
from lib.notebook.formulas.points import unknowns
from lib.notebook.formulas.premises import premises
from lib.notebook.formulas.printing import latex
from lib.notebook.formulas.vectors import has_vectors, is_vector

DIMENSIONS = 3  # at least so many are tried


class Undecided(Refused):
    """What sympy knows about the parts of a line does not settle it."""


class Checker:
    """Judges steps under one set of laws, definitions, sizes and a dimension."""

    def __init__(self, laws, where: dict | None, sizes: dict | None, dimension: Symbol | None):
        for law in laws:
            if not isinstance(law, Law):
                raise ValueError(f"laws: wanted a sequence of Law, got {law!r}")
        for s, values in (sizes or {}).items():
            if not (isinstance(s, Symbol) and s.domain == "integer" and values and all(type(v) is int for v in values)):
                raise ValueError(
                    f"sizes: wanted integer symbols with a sequence of integers each, got {s!r}: {values!r}"
                )
        self.definitions, self.dimension = Definitions(where), dimension
        # A line about laws may hold for every law, whatever Gaussians the definitions make of them.
        others = {key: f for key, f in (where or {}).items() if not isinstance(key, Density)}
        self.any_law = self.definitions if len(others) == len(where or {}) else Definitions(others)
        self.sizes = [dict(zip(sizes, at)) for at in product(*sizes.values())] if sizes else [{}]
        self.size_text = "; ".join(
            f"${latex(s)} = {', '.join(map(str, values))}$" for s, values in (sizes or {}).items()
        )
        laws = [law for law in laws if law.factors]
        self.finite = Finite(laws, self.definitions, self.sizes) if laws else None
        self.algebras: dict = {}
        self.values: dict = {}

    def check(self, lhs: Expression, rhs: Expression, relation: str, of: tuple) -> str | None:
        """None if the relation is proved, else what was done instead; raises ``Refused`` if it fails."""
        self.no_dependence_by_another_letter(lhs, rhs, of)
        note, problem = None, None
        if self.finite and not self.dropped(lhs, rhs, of):
            try:
                note = self.finite.holds(lhs, rhs, relation, of)
                note += f", {self.size_text}" if self.size_text and "models" in note else ""
            except NotFinite as reason:
                problem = Refused(str(reason))
            except Refused as reason:  # not the last word where a law is a Gaussian by definition
                parts = [p for side in (lhs, rhs) for p in walk(concrete(side)) if isinstance(p, Density)]
                if all(self.definitions.of(p) is None for p in parts):
                    raise
                problem = reason
        try:
            return self.by_algebra(lhs, rhs, relation, of, every_size=note is None)
        except Undecided as reason:
            if note is None:
                raise problem or reason from None
        return note

    def by_algebra(self, lhs, rhs, relation, of, every_size: bool) -> str | None:
        """As ``check``: for all sizes at once, for every law, or at each size; else ``Undecided``."""
        try:
            return self.proved(lhs, rhs, relation, of, every_size)
        except Refused:
            if relation not in (">=", "<="):
                raise
            grounds = Grounds(self)
            sides = self.definitions.unfolded(lhs), self.definitions.unfolded(rhs)
            if certificate(*sides, relation, grounds.equal) is None:
                raise
            return ", ".join(dict.fromkeys([*grounds.notes, *self.taken(lhs, rhs)])) or None

    def taken(self, lhs, rhs) -> list[str]:
        """What two lines take for granted, as far as the algebra knows it."""
        for size in ({}, self.sizes[0]):
            algebra = self.algebra(size, 1, self.definitions)
            try:
                return premises(self.value(algebra, lhs)[1], self.value(algebra, rhs)[1])
            except OpenLength as reason:
                unknown = Undecided(str(reason))
        raise unknown

    def proved(self, lhs, rhs, relation, of, every_size: bool) -> str | None:
        """As ``by_algebra``, by what the two sides are worth."""
        for definitions in dict.fromkeys((self.definitions, self.any_law)):
            if definitions is not self.definitions and self.dropped(lhs, rhs, of):
                continue
            try:
                return self.at_sizes([{}], definitions, lhs, rhs, relation, of)
            except Undecided as reason:
                undecided = reason
        if not every_size or self.sizes == [{}]:
            raise undecided
        for size in self.sizes[0]:
            needed = degree(self.gap(lhs, rhs, relation), size)
            if needed is None or needed >= len({at[size] for at in self.sizes}):
                raise Undecided(f"sizes: a polynomial in {size!r} may be 0 at all those given; give more values")
        note = self.at_sizes(self.sizes, self.definitions, lhs, rhs, relation, of)
        return f"checked for {self.size_text}" + (f", {note}" if note else "")

    def bound(self, lhs, rhs, of) -> set:
        """The variables of the gradients, integrals and averages of a line, and those of ``of``."""
        found = {concrete(v) for v in of}
        for p in self.deep_parts(lhs, rhs):
            if isinstance(p, Grad_):
                found.add(concrete(p.variable))
            elif isinstance(p, (Integral_, Expect_)):
                found |= {concrete(v) for v in (p.variables if isinstance(p, Integral_) else bound_by(p.over))}
        return found

    def dropped(self, lhs, rhs, of) -> bool:
        """Whether a law's definition holds a variable of a gradient, an average or ``of`` that its name does not
        tell: such a line does not hold for every law.
        """
        bound = self.bound(lhs, rhs, of)
        for p in self.deep_parts(lhs, rhs):
            formula = self.definitions.of(p) if isinstance(p, Density) else None
            if formula is not None and holds_any(self.unfolded(formula), bound - {*p.left, *p.right}):
                return True
        return False

    def deep_parts(self, *sides):
        """Every part of the two sides and of all that is defined in them."""
        for side in sides:
            yield from walk(self.definitions.unfolded(concrete(side)))
            yield from walk(self.unfolded(concrete(side)))

    def no_dependence_by_another_letter(self, lhs, rhs, of) -> None:
        """``ValueError`` where h[n] stands beside a definition of h[t], or p(x) beside one of p(x | z), that holds a
        variable of a gradient, an average or ``of``: what it says of the one is not known of the other, but is not to
        be forgotten.
        """
        bound = self.bound(lhs, rhs, of)
        for p in self.deep_parts(lhs, rhs):
            if not isinstance(p, (Symbol, Call, Density)) or self.definitions.of(p) is not None:
                continue
            own = p.args if isinstance(p, Call) else (*p.left, *p.right) if isinstance(p, Density) else ()
            for key, formula in self.definitions.where.items():
                if related(key, p) and holds_any(self.unfolded(formula), bound - {*own, *variables(key)}):
                    raise ValueError(f"where: {key!r} is defined, and {p!r} may depend on the same; define it, too")

    def unfolded(self, e: Expression) -> Expression:
        """``e`` with all that is defined written out, densities too."""
        return self.definitions.unfolded(e, (Symbol, Call, Density))

    def gap(self, lhs, rhs, relation: str) -> Expression:
        """A formula that is 0 where the relation holds, as far as its degree goes."""
        return self.definitions.unfolded(lhs * rhs if relation == "propto" else lhs - rhs)

    def at_sizes(self, sizes: list[dict], definitions: Definitions, lhs, rhs, relation, of) -> str | None:
        """Checks the relation at each of the sizes and, where vectors are coupled, in each dimension."""
        dimensions = self.dimensions(lhs, rhs, relation)
        notes = [f"checked in {dimensions[0]} to {dimensions[-1]} dimensions"] if len(dimensions) > 1 else []
        for size in sizes:
            for n in dimensions:
                found = self.at_one(self.algebra(size, n, definitions), lhs, rhs, relation, of)
                notes += [text for text in found if text not in notes]
        return ", ".join(notes) or None

    def dimensions(self, lhs, rhs, relation: str) -> tuple[int, ...]:
        """The dimensions to try: one, unless components are added up, and more than any polynomial in their number
        has zeros.
        """
        if self.dimension in self.definitions.sizes:
            return (self.definitions.sizes[self.dimension],)
        parts = set(self.deep_parts(lhs, rhs))
        coupled = any(
            p == self.dimension
            or isinstance(p, (Normal_, KL_, Expect_, Integral_, Grad_))
            or (isinstance(p, Apply) and p.name == "squared_norm")
            for p in parts
            if p == self.dimension or has_vectors(p)
        )
        if not coupled:
            return (1,)
        number = Symbol("components", "integer") if self.dimension is None else self.dimension
        powers = degree(self.gap(lhs, rhs, relation), number, components=True)
        if powers is None:
            raise Undecided(f"{number!r} stands in more than a polynomial: no dimensions decide the line")
        return tuple(range(1, max(DIMENSIONS, powers + 1) + 1))

    def at_one(self, algebra: Algebra, lhs, rhs, relation, of) -> list[str]:
        """Proves the relation by one algebra; what it takes for granted, in words."""
        kinds = {is_vector(side) for side in (lhs, rhs) if not isinstance(side, Number)}
        if len(kinds) > 1:
            raise ValueError(f"a vector stands in {relation} to a number: {lhs!r} and {rhs!r}")
        try:
            a, a_premises, a_open = self.value(algebra, lhs)
            b, b_premises, b_open = self.value(algebra, rhs)
            algebra.premises = set()
            for v in of:
                algebra.alone(v, self.unfolded(concrete(lhs)), self.unfolded(concrete(rhs)))
            free = [algebra.of(concrete(v, algebra.sizes), k) for v in of for k in algebra.components(v)]
        except OpenLength as reason:
            raise Undecided(str(reason)) from None
        if not all(isinstance(v, (sp.Symbol, AppliedUndef)) for v in free):
            raise ValueError(f"of: {of!r} holds what where defines, so nothing can be free of it")
        for v in free:
            if v in algebra.symbols:
                (a, b), _ = algebra.sums.opened(sp.Tuple(a, b), v)
        try:
            Comparison(algebra).holds(a, b, relation, free)
        except Refused as refusal:
            if (a_open or b_open) and unknowns(sp.expand(a - b)):
                raise Undecided(
                    "no rule known to the algebra gives this line; " + refusal.where, refusal.difference
                ) from None
            raise
        return list(dict.fromkeys([*premises(a_premises, b_premises), *(p.text for p in algebra.premises)]))

    def algebra(self, size: dict, dimension: int, definitions: Definitions) -> Algebra:
        """The algebra for some sizes and a dimension, made once."""
        key = (tuple(size.items()), dimension, id(definitions))
        if key not in self.algebras:
            given = {self.dimension: dimension} if self.dimension is not None else {}
            self.algebras[key] = Algebra(definitions, {**self.definitions.sizes, **size, **given}, dimension)
        return self.algebras[key]

    def value(self, algebra: Algebra, e: Expression) -> tuple[sp.Expr, frozenset, bool]:
        """The value of a line, worked out once, its premises, and whether parts of it are known by rules only."""
        key = (id(algebra), e)
        if key not in self.values:
            algebra.open, algebra.premises = False, set()
            self.values[key] = (algebra.value(e), frozenset(algebra.premises), algebra.open)
        return self.values[key]


def variables(key: Expression) -> tuple:
    """The variables of a density, which its definition holds by right; of anything else none."""
    return (*key.left, *key.right) if isinstance(key, Density) else ()


def holds_any(e: Expression, variables: set) -> bool:
    """Whether one of the variables stands in ``e``, or one of the same family that may be the same."""
    return any(may_be(p, v) for p in walk(e) for v in variables)


def may_be(p: Expression, v: Expression) -> bool:
    """Whether two variables are one for some values of their indices."""
    if not (isinstance(p, Symbol) and isinstance(v, Symbol) and p.name == v.name):
        return p == v
    if p.index is None or v.index is None:
        return True
    apart = linear(p.index - v.index)
    return len(apart) > 1 or not apart[None]


class Grounds:
    """Equations that an inequality rests on, proved by a ``Checker``; ``notes`` is what they take for granted."""

    def __init__(self, checker: Checker):
        self.checker = checker
        self.notes: list[str] = []

    def equal(self, a: Expression, b: Expression) -> bool:
        """Whether the algebra proves a = b."""
        try:
            note = self.checker.proved(a, b, "=", (), every_size=False)
        except (Refused, ValueError):  # a density that the law does not have, among others
            return False
        self.notes += [note] if note else []
        return True
