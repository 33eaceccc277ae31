r"""Relations between distributions, checked exactly on random finite models.

A ``World`` gives each variable of the laws a few states, each state a cell of a size of its own, and each
factor random rational probabilities. A density is a probability over the size of its cell; every marginal,
conditional, integral, expectation and KL then is a finite sum. Values are exact
(``lib.notebook.formulas.exact``). Each variable has four states or more in at least one of the models, since
much is true of two states that is not true of all laws.

Models refute an inequality, but no number of them makes one true: it needs, besides, a ground
(``lib.notebook.formulas.certificates``).

"""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product
from math import prod

import mpmath

from lib.notebook.formulas.certificates import certificate
from lib.notebook.formulas.concrete import Definitions, concrete, degree, digits
from lib.notebook.formulas.exact import MARGIN, Decimal, Exact, NotExact, NotFinite, Refused
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
from lib.notebook.formulas.printing import latex

MODELS = 3
MANY = 4  # states of the variables whose turn it is
ROOM = 128  # combinations of states of a model that more than the fewest may be given to
PARTS = 2 * 3 * 5 * 7 * 11  # every probability of a factor is a multiple of one over this
VOLUMES = [Fraction(n, d) for n, d in ((1, 100), (1, 7), (2, 3), (1, 1), (3, 2), (7, 1), (100, 1))]
DIGITS = 45  # to which values agree that are not exact, besides the digits that were typed
MOST_DIGITS = 3000
POWERS = (0, 0, 0, 3, 6, -3, -6)  # of ten, by which constants are spread out


# ------------------------------------------------------------ a model


class World:
    """One random finite model of the laws, with ``sizes`` such as {T: 3} fixed; one seed, one model.

    ``moving``: constants and calls that take several values, as if they were variables with states.
    """

    def __init__(self, laws, sizes: dict, definitions: Definitions, seed: int, moving: tuple = ()):
        self.seed, self.sizes, self.definitions, self.moving = seed, sizes, definitions, moving
        self.factors = {law.name: law.expand(sizes) for law in laws if law.factors}
        given = [v for factors in self.factors.values() for left, right in factors for v in (*left, *right)]
        self.random = list(dict.fromkeys(given))
        self.rounds = max(MODELS, len(self.random) // 2 + 1 if len(self.random) <= 8 else len(self.random))
        turn = [k % self.rounds == seed % self.rounds for k in range(len(self.random))]
        self.states = {v: MANY if mine else 2 for v, mine in zip(self.random, turn)}
        for v, mine in zip(self.random, turn):
            more = self.chance("states", v).randint(2, MANY)
            if not mine and prod(self.states.values()) // 2 * more <= ROOM:
                self.states[v] = more
        self.states |= dict.fromkeys(moving, MANY)
        self.tables: dict = {}
        self.numbers: dict[tuple, Fraction] = {}
        self.memo: dict[tuple, Exact] = {}
        self.free_memo: dict[Expression, tuple] = {}
        self.mode: object = Exact
        self.kind: type[Exact] = Exact

    def chance(self, *key) -> random.Random:
        """Randomness that depends on the seed and the key alone, not on what was asked before."""
        return random.Random(f"{self.seed} {key}")

    def number(self, key, domain: str) -> Fraction:
        """A random rational, drawn once: the value of a constant, of a state, of a function at a point.

        Where values are exact, it may be as large as 10^9 or as small as 10^-9.
        """
        key = (self.kind, key)
        if key not in self.numbers:
            chance = self.chance("number", key[1])
            if domain == "integer":
                self.numbers[key] = Fraction(chance.randint(1, 40))
                return self.numbers[key]
            value = Fraction(chance.randint(1, 97), chance.choice((13, 17, 19, 23)))
            power = chance.choice(POWERS)
            value *= Fraction(10) ** (power if self.kind is Exact else 0)
            if domain == "unit":
                value /= 1 + value
            signed = domain in ("real", "noise") and chance.random() < 0.5
            self.numbers[key] = -value if signed else value
        return self.numbers[key]

    def assignments(self, variables) -> list[dict]:
        """Every choice of a state for each variable."""
        variables = list(variables)
        return [dict(zip(variables, states)) for states in product(*(range(self.states[v]) for v in variables))]

    def row(self, chance: random.Random, length: int, taken: set) -> tuple:
        """Different whole numbers that add up to ``PARTS``, another row than those ``taken``."""
        while True:
            cuts = sorted(chance.sample(range(1, PARTS), length - 1))
            found = tuple(high - low for low, high in zip([0, *cuts], [*cuts, PARTS]))
            if len(set(found)) == length and found not in taken:
                taken.add(found)
                return found

    def factor(self, law: str, left: tuple, right: tuple) -> dict:
        """{states of right and left: probability times ``PARTS``} of one factor; no two rows are alike."""
        chance = self.chance(law, left, right)
        rows: set[tuple] = set()
        table: dict[tuple, int] = {}
        places = list(product(*(range(self.states[v]) for v in left)))
        for given in product(*(range(self.states[v]) for v in right)):
            row = self.row(chance, len(places), rows)
            table |= {(given, place): n for place, n in zip(places, row)}
        return table

    def joint(self, law: str) -> tuple[list, list]:
        """The variables of ``law``, and (states, probability times a power of ``PARTS``) for all states."""
        if law not in self.tables:
            variables = list(dict.fromkeys(v for left, right in self.factors[law] for v in (*left, *right)))
            place = {v: k for k, v in enumerate(variables)}
            factors = [
                (self.factor(law, left, right), [place[v] for v in right], [place[v] for v in left])
                for left, right in self.factors[law]
            ]
            self.tables[law] = (
                variables,
                [
                    (
                        at,
                        prod(
                            table[tuple(at[k] for k in right), tuple(at[k] for k in left)]
                            for table, right, left in factors
                        ),
                    )
                    for at in product(*(range(self.states[v]) for v in variables))
                ],
            )
        return self.tables[law]

    def marginal(self, law: str, variables: frozenset, at: dict) -> int:
        """As in ``joint``: the probability of ``at`` restricted to ``variables`` (given its input variables)."""
        key = (law, variables)
        if key not in self.tables:
            everything, joint = self.joint(law)
            inputs = set(everything) - {v for left, _ in self.factors[law] for v in left}
            if not inputs <= variables:
                raise ValueError(f"{law} gives no distribution for {sorted(map(repr, inputs - variables))}")
            if not variables <= set(everything):
                raise ValueError(f"{law} knows {everything}, not {sorted(map(repr, variables - set(everything)))}")
            places = [k for k, v in enumerate(everything) if v in variables]
            table: dict[tuple, int] = {}
            for states, weight in joint:
                place = tuple(states[k] for k in places)
                table[place] = table.get(place, 0) + weight
            self.tables[key] = [everything[k] for k in places], table
        kept, table = self.tables[key]
        return table[tuple(at[v] for v in kept)]

    def volume(self, variables: tuple, at: dict) -> Fraction:
        """The size of a cell: a density is a probability over the size, so it may exceed 1, and an integral
        a sum of values times sizes. With all sizes 1, lines that need log p <= 0 would pass.
        """
        total = Fraction(1)
        for v in variables:
            if ("volumes", v) not in self.tables:
                self.tables["volumes", v] = self.chance("volumes", v).sample(VOLUMES, self.states[v])
            total *= self.tables["volumes", v][at[v]]
        return total

    def probability(self, e: Density, at: dict) -> tuple[int, int]:
        """The probability of the left side given the right side at the states ``at``, as (top, bottom); the
        bottom depends on the right side alone.
        """
        if e.law not in self.factors:
            raise NotFinite(f"no factors are known for {e.law}")
        both = self.marginal(e.law, frozenset((*e.left, *e.right)), at)
        whole = self.marginal(e.law, frozenset(e.right), at) if e.right else PARTS ** len(self.factors[e.law])
        return both, whole

    def density(self, e: Density, at: dict) -> Fraction:
        """The density of the left side given the right side, both at the states ``at``."""
        return Fraction(*self.probability(e, at)) / self.volume(e.left, at)

    # ---- values of formulas

    def free(self, e: Expression) -> tuple:
        """The random variables on which the value of ``e`` depends, in a fixed order."""
        if e not in self.free_memo:
            formula = self.definition(e)
            if e in self.states:
                found = {e}.union(*map(self.free, e.args)) if isinstance(e, Call) else {e}
            elif formula is not None:
                with self.definitions.opening(e):
                    found = set(self.free(formula))
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

    def definition(self, e: Expression) -> Expression | None:
        """The formula of what ``where`` defines; ``NotFinite`` for a variable of the laws."""
        formula = self.definitions.of(e) if isinstance(e, (Symbol, Call)) else None
        if formula is not None and e in self.states:
            raise NotFinite(f"{e!r} is defined, so its states in a finite model are not free")
        return formula if formula is None else concrete(formula, self.sizes)

    def value(self, e: Expression, at: dict):
        """The value of a concrete formula where the random variables take the states ``at``."""
        key = (self.mode, e, tuple(at[v] for v in self.free(e)))
        if key not in self.memo:
            self.memo[key] = self.compute(e, at)
        return self.memo[key]

    def compute(self, e: Expression, at: dict):
        """As ``value``, without looking it up."""
        kind = self.kind
        if isinstance(e, Number):
            return kind(e.value)
        if (formula := self.definition(e)) is not None:
            return self.value(formula, at)
        if isinstance(e, Symbol):
            return kind(self.number((e, at.get(e)), e.domain))
        if isinstance(e, Call):
            places = tuple(self.value(a, at).place() for a in e.args)
            return kind(self.number((e.name, places, at.get(e)), e.domain))
        if isinstance(e, Density):
            return kind(self.density(e, at))
        if isinstance(e, (Group, Neg)):
            return self.value(e.body, at) if isinstance(e, Group) else kind(-1) * self.value(e.body, at)
        if isinstance(e, (Add, Mul)):
            total = kind(0 if isinstance(e, Add) else 1)
            for part in e.terms if isinstance(e, Add) else e.factors:
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
            weights: Density | None = None
            body, bound = e.body, e.variables
        elif isinstance(e, Expect_) and isinstance(e.over, Density):
            weights, body, bound = e.over, e.body, e.over.left
        elif isinstance(e, KL_) and isinstance(e.first, Density) and isinstance(e.second, Density):
            weights, body, bound = e.first, Apply("log", Div(e.first, e.second)), e.first.left
        else:
            raise NotFinite(f"{e!r} has no value on a finite model")
        if not set(bound) <= set(self.random):
            raise NotFinite(f"{list(bound)} are not all random variables of the laws")
        weighted, whole = [], 1
        for states in self.assignments(bound):
            here = {**at, **states}
            if weights is None:
                weight = self.volume(bound, here)
            else:
                weight, whole = self.probability(weights, here)
            weighted.append((weight, self.value(body, here)))
        return self.kind.total(weighted) * self.kind(Fraction(1, whole))


# ------------------------------------------------------------ the check


class Finite:
    """Decides relations on random models of ``laws``, a few for each combination of ``sizes``.

    What ``definitions`` make of an integer symbol (T = 2) is a size, too. Raises ``ValueError`` if two laws
    of one name have different factors, the factors of one contradict each other, or ``sizes`` contradict
    ``definitions``.
    """

    def __init__(self, laws, definitions: Definitions, sizes: list[dict]):
        self.laws, self.definitions = laws, definitions
        self.sizes = [{**definitions.sizes, **at} for at in sizes]
        self.values = {s: {at[s] for at in sizes} for s in sizes[0]}
        if both := [s for s in self.values if s in definitions.sizes]:
            raise ValueError(f"sizes: {both[0]!r} is defined by where, so it takes no other values")
        self.worlds: dict = {}
        for at in self.sizes:
            known: dict = {}
            for law in laws:
                factors = law.expand(at)
                if set(known.setdefault(law.name, factors)) != set(factors):
                    raise ValueError(f"laws: two laws are named {law.name}, with different factors")

    def models(self, at: dict, moving: tuple = ()) -> list[World]:
        """The random models of one combination of sizes, made once."""
        key = (tuple(at.items()), moving)
        if key not in self.worlds:
            first = World(self.laws, at, self.definitions, 0, moving)
            others = [World(self.laws, at, self.definitions, seed, moving) for seed in range(1, first.rounds)]
            self.worlds[key] = [first, *others]
        return self.worlds[key]

    def holds(self, lhs: Expression, rhs: Expression, relation: str, of: tuple) -> str:
        """What speaks for the relation, in words; ``Refused`` if it fails or, for an inequality, nothing
        speaks for it, ``NotFinite`` if it has no meaning on finite models or the sizes are too few for it.
        """
        self.enough_sizes(lhs * rhs if relation == "propto" else lhs - rhs)
        trials = [self.tried(lhs, rhs, relation, of, self.sizes)]
        if relation not in (">=", "<="):
            return told(trials)
        trials.clear()
        ground = self.ground(lhs, rhs, relation, self.sizes, trials)
        if ground is None and self.sizes != [{}]:
            ground = self.at_each_size(lhs, rhs, relation, trials)
        if ground is None:
            raise Refused("no square, divergence, Jensen's inequality, tangent or declared domain gives this line")
        return f"{ground}, {told(trials)}" if trials else ground

    def ground(self, lhs, rhs, relation: str, sizes: list[dict], trials: list) -> str | None:
        """The ground of an inequality; ``trials`` receives how an equation that it rests on was checked."""

        def equal(a: Expression, b: Expression) -> bool:
            try:
                trials.append(self.tried(a, b, "=", (), sizes))
            except (Refused, NotFinite, ValueError):  # a density that the law does not have, among others
                return False
            return True

        return certificate(self.definitions.unfolded(lhs), self.definitions.unfolded(rhs), relation, equal)

    def at_each_size(self, lhs, rhs, relation: str, trials: list) -> str | None:
        """A ground for each combination of sizes, told for the last: spans are written out."""
        found = None
        for at in self.sizes:
            found = self.ground(concrete(lhs, at), concrete(rhs, at), relation, [at], trials)
            if found is None:
                return None
        return f"where {', '.join(f'${latex(s)} = {n}$' for s, n in self.sizes[-1].items())}: {found}"

    def enough_sizes(self, gap: Expression) -> None:
        """Raises ``NotFinite`` if ``gap`` may be a polynomial of a size that is 0 at all those given."""
        unfolded = self.definitions.unfolded(gap)
        for size, values in self.values.items():
            needed = degree(unfolded, size)
            if needed is None:
                raise NotFinite(f"{size!r} stands as a number in more than a polynomial: no sizes can decide the line")
            if needed >= len(values):
                raise NotFinite(
                    f"sizes: a polynomial of degree {needed} in {size!r} needs {needed + 1} values of {size!r}, "
                    f"got {sorted(values)}"
                )

    def tried(self, lhs, rhs, relation: str, of: tuple, sizes: list[dict]) -> list[bool]:
        """For each model on which the relation was checked, whether exactly; ``Refused`` if it fails."""
        precision = digits(self.definitions.unfolded(lhs - rhs))
        if precision > MOST_DIGITS:
            raise NotFinite(f"to tell these values apart may need {precision} digits")
        worlds = [world for at in sizes for world in self.models(at, self.constants(of, at))]
        with mpmath.workdps(DIGITS + MARGIN + precision):
            return [self.in_world(world, lhs, rhs, relation, of) for world in worlds]

    def constants(self, of: tuple, sizes: dict) -> tuple:
        """What ``of`` names besides random variables; ``ValueError`` for what cannot be varied."""
        found = dict.fromkeys(concrete(v, sizes) for v in of)
        for v in found:
            if isinstance(v, Number) or self.definitions.of(v) is not None:
                raise ValueError(f"of: {v!r} is what sizes or where make of it, so nothing can be free of it")
        return tuple(v for v in found if v not in self.models(sizes)[0].random) if found else ()

    def in_world(self, world: World, *question) -> bool:
        """True if the question was settled exactly, False if to many digits."""
        try:
            world.mode = world.kind = Exact
            self.compare(world, *question)
            return True
        except NotExact:
            world.mode, world.kind = (Decimal, mpmath.mp.dps), Decimal
            self.compare(world, *question)
            return False

    def compare(self, world: World, lhs, rhs, relation: str, of: tuple) -> None:
        """Raises ``Refused`` if the relation fails at some states of the free variables."""
        lhs, rhs = concrete(lhs, world.sizes), concrete(rhs, world.sizes)
        moving = {concrete(v, world.sizes) for v in of}
        variables = sorted({*world.free(lhs), *world.free(rhs)} | moving, key=repr)
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


def told(trials: list[list[bool]]) -> str:
    """How equations were checked, in words, from what ``Finite.tried`` returned for each."""
    exact = [each for trial in trials for each in trial]
    how = "exactly" if all(exact) else f"to {DIGITS} digits"
    return f"checked {how} on {len(exact)} random finite models of up to {MANY} states a variable"
