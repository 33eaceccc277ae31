r"""Identities between distributions, checked exactly on random finite models.

A ``World`` gives each variable of the laws two or three states, each state a cell of random size, and each
factor random rational probabilities. A density is a probability over the size of its cell; every marginal,
conditional, integral, expectation and KL then is a finite sum. Values are exact
(``lib.notebook.formulas.exact``).

"""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product
from typing import ClassVar

import mpmath

from lib.notebook.formulas.concrete import Definitions, concrete
from lib.notebook.formulas.exact import Decimal, Exact, NotExact, Refused
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
    Number,
    Pow,
    Symbol,
    children,
)


class NotFinite(Exception):
    """The formula has no value on a finite model: a Gaussian, a gradient, a law without factors."""


# ------------------------------------------------------------ a model


class World:
    """One random finite model of the laws, with ``sizes`` such as {T: 3} fixed; one seed, one model."""

    def __init__(self, laws, sizes: dict, definitions: Definitions, seed: int):
        self.seed, self.sizes, self.definitions = seed, sizes, definitions
        self.factors = {law.name: law.expand(sizes) for law in laws if law.factors}
        self.states: dict = {}
        for factors in self.factors.values():
            for variable in (v for left, right in factors for v in (*left, *right)):
                self.states.setdefault(variable, None)
        room = 96  # states of the whole model: three for some variables, two for the rest
        for variable in self.states:
            left = 2 ** sum(n is None for n in self.states.values())
            self.states[variable] = self.chance("states", variable).choice((2, 3)) if 3 * left // 2 <= room else 2
            room //= self.states[variable]
        self.tables, self.numbers, self.memo, self.free_memo = {}, {}, {}, {}
        self.kind = Exact

    def chance(self, *key) -> random.Random:
        """Randomness that depends on the seed and the key alone, not on what was asked before."""
        return random.Random(f"{self.seed} {key}")

    def number(self, key, domain: str) -> Exact:
        """A random rational, drawn once: the value of a constant, of a state, of a function at a point."""
        if key not in self.numbers:
            chance = self.chance("number", key)
            n, d = chance.randint(1, 19), chance.choice((3, 5, 7, 11))
            value = Fraction(n, n + d) if domain == "unit" else Fraction(n, d)
            signed = domain in ("real", "noise") and chance.random() < 0.5
            self.numbers[key] = -value if signed else value
        return Exact(self.numbers[key])

    def assignments(self, variables) -> list[dict]:
        """Every choice of a state for each variable."""
        variables = list(variables)
        return [dict(zip(variables, states)) for states in product(*(range(self.states[v]) for v in variables))]

    def weight(self, law: str, at: dict) -> Fraction:
        """The product of the factors of ``law`` at a full assignment."""
        total = Fraction(1)
        for left, right in self.factors[law]:
            key = (law, left, tuple((v, at[v]) for v in right))
            if key not in self.tables:
                chance = self.chance(*key)
                rows = [chance.choice((1, 2, 3, 5, 7, 11, 20, 37)) for _ in self.assignments(left)]
                self.tables[key] = {
                    tuple(a.values()): Fraction(n, sum(rows)) for a, n in zip(self.assignments(left), rows)
                }
            total *= self.tables[key][tuple(at[v] for v in left)]
        return total

    def marginal(self, law: str, variables: frozenset, at: dict) -> Fraction:
        """The probability of ``at`` restricted to ``variables`` under ``law`` (given its input variables)."""
        key = (law, variables)
        if key not in self.tables:
            everything = list(dict.fromkeys(v for left, right in self.factors[law] for v in (*left, *right)))
            inputs = set(everything) - {v for left, _ in self.factors[law] for v in left}
            if not inputs <= variables:
                raise ValueError(f"{law} gives no distribution for {sorted(map(repr, inputs - variables))}")
            if not variables <= set(everything):
                raise ValueError(f"{law} knows {everything}, not {sorted(map(repr, variables - set(everything)))}")
            kept, table = [v for v in everything if v in variables], {}
            for a in self.assignments(everything):
                place = tuple(a[v] for v in kept)
                table[place] = table.get(place, 0) + self.weight(law, a)
            self.tables[key] = (kept, table)
        kept, table = self.tables[key]
        return table[tuple(at[v] for v in kept)]

    def volume(self, variables: tuple, at: dict) -> Fraction:
        """The size of a cell: a density is a probability over the size, so it may exceed 1, and an integral
        a sum of values times sizes. With all sizes 1, lines that need log p <= 0 would pass.
        """
        total = Fraction(1)
        for v in variables:
            key = ("volume", v, at[v])
            if key not in self.numbers:
                self.numbers[key] = Fraction(*(self.chance(*key, part).choice((1, 2, 3, 7, 20)) for part in "ab"))
            total *= self.numbers[key]
        return total

    def density(self, e: Density, at: dict) -> Fraction:
        """The density of the left side given the right side, both at the states ``at``."""
        if e.law not in self.factors:
            raise NotFinite(f"no factors are known for {e.law}")
        both = self.marginal(e.law, frozenset((*e.left, *e.right)), at) / self.volume(e.left, at)
        return both / self.marginal(e.law, frozenset(e.right), at) if e.right else both

    # ---- values of formulas

    def free(self, e: Expression) -> tuple:
        """The random variables on which the value of ``e`` depends, in a fixed order."""
        if e not in self.free_memo:
            formula = self.definitions.of(e) if isinstance(e, (Symbol, Call)) else None
            if e in self.states:
                found = {e}
            elif formula is not None:
                found = set(self.free(concrete(formula, self.sizes)))
            else:
                found = {v for part in children(e) for v in self.free(part)}
            if isinstance(e, Integral_):
                found -= set(e.variables)
            if isinstance(e, KL_) and isinstance(e.first, Density):
                found -= set(e.first.left)
            if isinstance(e, Expect_) and isinstance(e.over, Density):
                found = {*self.free(e.body)} - {*e.over.left} | {v for given in e.over.right for v in self.free(given)}
            self.free_memo[e] = tuple(sorted(found, key=repr))
        return self.free_memo[e]

    def value(self, e: Expression, at: dict):
        """The value of a concrete formula where the random variables take the states ``at``."""
        key = (self.kind, e, tuple(at[v] for v in self.free(e)))
        if key not in self.memo:
            self.memo[key] = self.compute(e, at)
        return self.memo[key]

    def compute(self, e: Expression, at: dict):
        """As ``value``, without looking it up."""
        kind = self.kind
        if isinstance(e, Number):
            return kind(e.value)
        if isinstance(e, (Symbol, Call)) and (formula := self.definitions.of(e)) is not None:
            return self.value(concrete(formula, self.sizes), at)
        if isinstance(e, Symbol):
            return kind(self.number((e, at.get(e)), e.domain).rational)
        if isinstance(e, Call):
            place = tuple((a, at[a]) if a in self.states else str(self.value(a, at).decimal()) for a in e.args)
            return kind(self.number((e.name, place), e.domain).rational)
        if isinstance(e, Density):
            return kind(self.density(e, at))
        if isinstance(e, (Group, Neg)):
            return self.value(e.body, at) if isinstance(e, Group) else kind(-1) * self.value(e.body, at)
        if isinstance(e, (Add, Mul)):
            total = kind(0 if isinstance(e, Add) else 1)
            for part in children(e):
                total = total + self.value(part, at) if isinstance(e, Add) else total * self.value(part, at)
            return total
        if isinstance(e, Div):
            return self.value(e.top, at) * self.value(e.bottom, at) ** kind(-1)
        if isinstance(e, Pow):
            return self.value(e.base, at) ** self.value(e.power, at)
        if isinstance(e, Apply) and e.name in ("log", "exp"):
            return getattr(self.value(e.body, at), e.name)()
        if isinstance(e, Apply) and e.name == "sqrt":
            return self.value(e.body, at) ** kind(Fraction(1, 2))
        return self.average(e, at)

    def average(self, e: Expression, at: dict):
        """An integral, an expectation or a divergence: a sum over the states of its variables."""
        if isinstance(e, Integral_):
            weights, body, bound = None, e.body, e.variables
        elif isinstance(e, Expect_) and isinstance(e.over, Density):
            weights, body, bound = e.over, e.body, e.over.left
        elif isinstance(e, KL_) and isinstance(e.first, Density) and isinstance(e.second, Density):
            weights, body, bound = e.first, Apply("log", Div(e.first, e.second)), e.first.left
        else:
            raise NotFinite(f"{e!r} has no value on a finite model")
        if not set(bound) <= set(self.states):
            raise NotFinite(f"{list(bound)} are not all random variables of the laws")
        total = self.kind(0)
        for states in self.assignments(bound):
            here = {**at, **states}
            weight = self.volume(bound, here) * (1 if weights is None else self.density(weights, here))
            total = total + self.kind(weight) * self.value(body, here)
        return total


# ------------------------------------------------------------ the check


class Finite:
    """Decides relations on random models of ``laws``, a few for each combination of ``sizes``."""

    # A false inequality may hold on a model by luck, a false equation hardly ever.
    MODELS: ClassVar[dict] = {"=": 3, ">=": 12, "<=": 12}

    def __init__(self, laws, definitions: Definitions, sizes: list[dict]):
        self.laws, self.definitions, self.sizes = laws, definitions, sizes
        self.worlds: dict = {}

    def models(self, relation: str) -> list[World]:
        """The random models on which a relation is tried, made once."""
        for seed in range(self.MODELS.get(relation, 3)):
            if seed not in self.worlds:
                self.worlds[seed] = [World(self.laws, at, self.definitions, seed) for at in self.sizes]
        return [world for seed in range(self.MODELS.get(relation, 3)) for world in self.worlds[seed]]

    def holds(self, lhs: Expression, rhs: Expression, relation: str, of: tuple) -> str:
        """How it was checked, in words; ``Refused`` if it fails, ``NotFinite`` if it has no meaning here."""
        worlds = self.models(relation)
        exact = [self.in_world(world, lhs, rhs, relation, of) for world in worlds]
        return f"checked {'exactly' if all(exact) else 'to 45 digits'} on {len(worlds)} random finite models"

    def in_world(self, world: World, *question) -> bool:
        """True if the question was settled exactly, False if to 45 digits."""
        try:
            world.kind = Exact
            self.compare(world, *question)
            return True
        except NotExact:
            world.kind = Decimal
            with mpmath.workdps(60):
                self.compare(world, *question)
            return False

    def compare(self, world: World, lhs, rhs, relation: str, of: tuple) -> None:
        """Raises ``Refused`` if the relation fails at some states of the free variables."""
        lhs, rhs = concrete(lhs, world.sizes), concrete(rhs, world.sizes)
        moving = {concrete(v, world.sizes) for v in of}
        variables = sorted({*world.free(lhs), *world.free(rhs)} | (moving & set(world.states)), key=repr)
        seen: dict = {}
        for at in world.assignments(variables):
            a, b = world.value(lhs, at), world.value(rhs, at)
            if relation in ("propto", "const"):
                fixed = tuple((v, n) for v, n in at.items() if v not in moving)
                a0, b0 = seen.setdefault(fixed, (a, b))
                if relation == "propto" and (a.is_zero() or b.is_zero()):
                    raise Refused("nothing but 0 is proportional to 0")
                a, b = (a * b0, b * a0) if relation == "propto" else (a - a0, b - b0)
            gap = a - b
            good = gap.is_zero()
            if relation in (">=", "<=") and not good:
                good = gap.decimal() > 0 if relation == ">=" else gap.decimal() < 0
            if not good:
                place = ", ".join(f"{v!r} = {n}" for v, n in [*world.sizes.items(), *at.items()])
                raise Refused(
                    f"on a random finite model{' at ' if place else ''}{place}: "
                    f"left {mpmath.nstr(a.decimal(), 8)}, right {mpmath.nstr(b.decimal(), 8)}"
                )
