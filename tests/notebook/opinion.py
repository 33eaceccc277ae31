"""A second opinion on whether a line holds.

``Opinion`` computes formulas by means that share nothing with the checks of the library but the tree itself and its
definitions: probability tables as arrays, integrals by the trapezoidal rule, gradients by differences. Numbers have
100 digits, so that neither a millionth beside a million nor what cancels raises a false alarm. ``Judge`` asks many of
them about one derivation: constants from 10⁻⁶ to 10⁶, vectors of one to nine components, sums and chains of length
one to nine.
"""

import random
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import mpmath
import numpy as np
from mpmath import mpf

from lib.notebook.formulas.concrete import concrete
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
    walk,
    wrap,
)
from lib.notebook.formulas.language import bound_by, pi
from lib.notebook.formulas.law import every

DIGITS = 100
LENGTHS = range(1, 10)  # of sums, chains and vectors
ATTEMPTS = 17  # odd, for odd seeds span more: draws at one length until one lies in the domain of a line
ENTRIES = 1024  # of the largest probability table
CALM = 0.4  # decades up and down that constants span where unknown functions are integrated numerically


class NoOpinion(Exception):
    """The formula cannot be computed here."""


class Outside(Exception):
    """The formula has no real value at the numbers drawn: a root or a logarithm of a negative one, a division by 0."""


# ------------------------------------------------------------ operations on numbers and arrays of numbers


def within(largest: float, x):
    """``x``, or ``Outside`` for a number whose function value would fill the memory."""
    if abs(x) > largest:
        raise Outside(f"a number as large as {mpmath.nstr(x, 3)}")
    return x


def power(base, exponent):
    if base < 0 and exponent != int(exponent):
        raise Outside("a fractional power of a negative number")
    return base ** within(1e12, exponent)


def positive(x):
    if x <= 0:
        raise Outside(f"the number {mpmath.nstr(x, 3)} where a positive one is needed")
    return x


POSITIVE = np.frompyfunc(positive, 1, 1)
LOG = np.frompyfunc(lambda x: mpmath.log(positive(x)), 1, 1)
ROOT = np.frompyfunc(lambda x: mpmath.sqrt(positive(x)) if x else x, 1, 1)
EXP = np.frompyfunc(lambda x: mpmath.exp(within(1e120, x)), 1, 1)
COS = np.frompyfunc(lambda x: mpmath.cos(within(1e60, x)), 1, 1)
POWER = np.frompyfunc(power, 2, 1)


def over_components(values):
    """The sum over the last axis, that of the components; a number has one component."""
    return values.sum(-1, keepdims=True)


def array(x) -> np.ndarray:
    """A number as an array; an mpmath number to the left of an array would first try to read it as a number."""
    return np.array([mpf(x)], dtype=object)


def column(values, depth: int) -> np.ndarray:
    """``values`` along one more axis, to the left of ``depth`` others and the components."""
    return np.array(list(values), dtype=object).reshape(-1, *[1] * (depth + 1))


def cubature(dimension: int, sphere: bool) -> tuple[list, list]:
    """Nodes and weights for a standard normal vector, exact for polynomials up to the fifth degree.

    ``sphere``: all nodes but the middle lie on one sphere. The two rules differ where they are not exact.
    """
    n, axes = (
        mpf(dimension),
        [np.array([mpf(i == j) for j in range(dimension)], dtype=object) for i in range(dimension)],
    )
    end, corner = (n + 2, (n + 2) / 2) if sphere else (mpf(3), mpf(3))  # squares of coordinates
    ends = [a * s * mpmath.sqrt(end) for a in axes for s in (1, -1)]
    pairs = [
        (s * axes[i] + r * axes[j]) * mpmath.sqrt(corner)
        for i in range(dimension)
        for j in range(i)
        for s in (1, -1)
        for r in (1, -1)
    ]
    at_end, at_corner = (4 - n) / (2 * end**2), 1 / (4 * corner**2)
    middle = 1 - at_end * len(ends) - at_corner * len(pairs)
    return [axes[0] * 0, *ends, *pairs], [middle] + [at_end] * len(ends) + [at_corner] * len(pairs)


# ------------------------------------------------------------ one situation


class Opinion:
    """Values of formulas in one random situation drawn from ``seed``: mpmath numbers, or arrays of them.

    The last axis of an array counts the components of a vector; those before it the states of the laws' variables or
    the points of an integral. ``tables``: densities are tables of the derivation's laws; otherwise they are what the
    definitions say. Constants lie between 10⁻⁶ and 10⁶, for every other seed between 0.1 and 10; ``calm``: between 0.4
    and 2.5, and integers up to 9.
    """

    def __init__(self, derivation, seed: int, sizes: dict, dimension: int, tables: bool, calm: bool):
        self.seed, self.dimension, self.calm = seed, dimension, calm
        self.reach = CALM if calm else (1, 6)[seed % 2]
        self.where = derivation.checker.any_law if tables else derivation.checker.definitions
        letter = derivation.checker.dimension
        self.sizes = {**sizes, **({letter: dimension} if letter is not None else {})}
        self.laws = {law.name: law.expand(sizes) for law in derivation.laws if law.factors and tables}
        self.axes = list(dict.fromkeys(v for f in self.laws.values() for left, right in f for v in (*left, *right)))
        self.states = max((n for n in (2, 3, 4, 5) if n ** len(self.axes) <= ENTRIES), default=2)
        self.constants, self.formulas, self.memo = {}, {}, {}
        self.cells = {v: self.drawn(("cell", v), "positive", self.along(v)) for v in self.axes}
        self.joint = {name: self.table(name, factors) for name, factors in self.laws.items()}
        self.depth = 0

    # ---- what is drawn

    def constant(self, key, domain: str, reach: float | None = None):
        """A number of the domain, drawn once for each key."""
        if key not in self.constants:
            chance, reach = random.Random(f"{self.seed} {key}"), reach or self.reach
            small = 10 ** -chance.uniform(0.01, reach)
            if domain == "unit":
                value = mpf(small) if chance.random() < 0.5 else 1 - mpf(small)
            elif domain == "integer":
                value = mpf(int(10 ** chance.uniform(1, reach) if reach > 1 and chance.random() < 0.5 else 0))
                value = value or mpf(chance.randint(1, 9))
            else:
                value = mpf(10 ** chance.uniform(-reach, reach))
                value = -value if domain != "positive" and chance.random() < 0.5 else value
            self.constants[key] = value
        return self.constants[key]

    def drawn(self, key, domain: str, shape: list, reach: float | None = None) -> np.ndarray:
        """An array of numbers of the domain."""
        values = [self.constant((*key, k), domain, reach) for k in range(int(np.prod(shape)))]
        return np.array(values, dtype=object).reshape(shape)

    def along(self, *variables) -> list:
        """The shape of a table over some of the laws' variables."""
        return [*(self.states if v in variables else 1 for v in self.axes), 1]

    def table(self, law: str, factors) -> np.ndarray:
        total = np.full([1] * (len(self.axes) + 1), mpf(1), dtype=object)
        for left, right in factors:
            weights = self.drawn((law, left, right), "unit", self.along(*left, *right))
            total = total * (weights / weights.sum(tuple(self.axes.index(v) for v in left), keepdims=True))
        return total

    # ---- densities

    def sum_over(self, values, variables):
        missing = [v for v in variables if v not in self.axes]
        if missing:
            raise NoOpinion(f"{missing} are no variables of the laws")
        shape = np.broadcast_shapes(values.shape, self.along(*variables))
        return np.broadcast_to(values, shape).sum(tuple(self.axes.index(v) for v in variables), keepdims=True)

    def density(self, e: Density, at: dict):
        if not e.left:  # of x[1:0]
            return array(1)
        if e.law not in self.laws:  # a law without factors: a Gaussian with a random covariance
            both = self.gaussian(e.law, (*e.left, *e.right), at)
            return both / self.gaussian(e.law, e.right, at) if e.right else both
        known = {v for left, _ in self.laws[e.law] for v in left}
        inputs = {v for _, right in self.laws[e.law] for v in right} - known
        if not {*e.left, *e.right} <= known | inputs or not inputs <= {*e.right}:
            raise NoOpinion(f"{e.law} does not have this density")
        both = self.sum_over(self.joint[e.law], [v for v in self.axes if v in known and v not in (*e.left, *e.right)])
        both = both / self.sum_over(both, [*e.left]) if e.right else both
        for v in e.left:
            both = both / self.cells[v]
        return both

    def gaussian(self, law: str, variables, at: dict):
        names = sorted(set(variables), key=repr)
        if any(v.vector for v in names):
            raise NoOpinion("an unknown law of vectors")
        spread = {v: self.drawn((law, v), "real", [6], reach=CALM) / 4 for v in names}
        covariance = mpmath.matrix([[spread[a] @ spread[b] + (a == b) for b in names] for a in names])
        y, inverse = [self.value(v, at) for v in names], covariance**-1
        square = sum(y[j] * y[k] * inverse[j, k] for j in range(len(y)) for k in range(len(y)))
        return EXP(-square / 2) / mpmath.sqrt(mpmath.det(2 * mpmath.pi * covariance))

    # ---- one method a kind of formula

    def value(self, e: Expression, at: dict):
        """The value where the symbols in ``at`` have the given values: a number, or an array."""
        if e in at:
            return at[e]
        if not at and e in self.memo:
            return self.memo[e]
        formula = self.formula(e)
        if formula is not None:
            result = self.value(formula, at)
        else:
            result = getattr(self, type(e).__name__.strip("_").lower())(e, at)
        if not at:
            self.memo[e] = result
        return result

    def formula(self, e: Expression) -> Expression | None:
        """The definition of ``e``, or None."""
        if e not in self.formulas:
            found = self.where.of(e) if isinstance(e, (Symbol, Density, Call)) else None
            self.formulas[e] = None if found is None else concrete(found, self.sizes)
        return self.formulas[e]

    def number(self, e: Number, at):
        return array(e.value.numerator) / e.value.denominator

    def symbol(self, e: Symbol, at):
        if e == pi:
            return array(mpmath.pi)
        if e in self.axes:
            return self.drawn(("state", e), e.domain, self.along(e))
        return self.drawn((e,), e.domain, [self.dimension if e.vector else 1])

    def group(self, e: Group, at):
        return self.value(e.body, at)

    def neg(self, e: Neg, at):
        return -self.value(e.body, at)

    def add(self, e: Add, at):
        return sum(self.value(term, at) for term in e.terms)

    def mul(self, e: Mul, at):
        total = array(1)
        for factor in e.factors:
            total = total * self.value(factor, at)
        return total

    def div(self, e: Div, at):
        return self.value(e.top, at) / self.value(e.bottom, at)

    def pow(self, e: Pow, at):
        return POWER(self.value(e.base, at), self.value(e.power, at))

    def apply(self, e: Apply, at):
        body = self.value(e.body, at)
        return (
            over_components(body**2)
            if e.name == "squared_norm"
            else {"exp": EXP, "log": LOG, "sqrt": ROOT}[e.name](body)
        )

    def call(self, e: Call, at):
        phase = self.drawn((e.name, "start"), "real", [self.dimension if e.vector else 1], reach=CALM)
        for k, argument in enumerate(e.args):
            value = self.value(argument, at)
            slope = self.drawn((e.name, k), "real", [value.shape[-1]], reach=CALM)
            phase = phase + over_components(value * slope)
        return COS(phase) + (2 if e.domain == "positive" else mpf("0.3"))

    def normal(self, e: Normal_, at):
        variance = POSITIVE(self.value(e.variance, at))
        logs = (
            -((self.value(e.at, at) - self.value(e.mean, at)) ** 2) / (2 * variance) - LOG(variance * 2 * mpmath.pi) / 2
        )
        return EXP(over_components(logs))

    def repeat(self, e: Repeat, at):
        raise NoOpinion("a sum of unknown length")

    def span(self, e: Span, at):
        raise NoOpinion("a span of unknown length")

    # ---- integrals and gradients

    def integral(self, e: Integral_, at):
        return self.integrated(e.variables, at, lambda here: self.value(e.body, here))

    def integrated(self, variables, at: dict, body):
        """Over the states of the laws' variables, or over the line, one variable after the other."""
        if set(variables) <= set(self.axes):
            total = body(at)
            for v in variables:
                total = total * self.cells[v]
            return self.sum_over(total, variables)
        if self.axes:
            raise NoOpinion("an integral over the line among tables")
        if self.depth > 1 or len(variables) > 2:
            raise NoOpinion("an integral over more than two variables")
        if len(variables) > 1:
            return self.integrated(variables[:1], at, lambda here: self.integrated(variables[1:], here, body))
        return self.on_the_line(variables[0], at, body)

    def on_the_line(self, variable: Symbol, at: dict, body):
        """The trapezoidal rule between the two tails of ``body``, each taken for that of a Gaussian.

        Steps of half a deviation, thirteen deviations far, are good to more than thirty digits for polynomials;
        unknown functions, which are waves here, need steps half as long.
        """
        if variable.vector and self.dimension > 1:
            raise NoOpinion("an integral over a vector")

        def along(points):
            self.depth += 1
            values = body({**at, variable: points})
            self.depth -= 1
            return np.broadcast_to(values, np.broadcast_shapes(values.shape, [len(points), *[1] * (self.depth + 1)]))

        far = mpf(10) ** 20
        logs = LOG(abs(along(column([k * far for k in (1, 2, 3, -1, -2, -3)], self.depth))))
        ends = []
        for sign, (one, two, three) in ((1, logs[:3]), (-1, logs[3:])):
            bend = (
                three - 2 * two + one
            ) / far**2  # of the exponent -(x - mean)² / (2 deviation²), which has -1/deviation²
            deviation = 1 / ROOT(POSITIVE(-bend))
            mean = (sign * (two - one) / far - 3 * bend * far / 2 * sign) * deviation**2
            ends.append((mean, deviation))
        parts = 4 if self.calm else 2
        step = np.minimum(ends[0][1], ends[1][1]) / parts
        low = np.minimum(ends[0][0], ends[1][0]) - 13 * parts * step
        high = np.maximum(ends[0][0], ends[1][0]) + 13 * parts * step
        count = int(np.max((high - low) / step)) + 1
        if count > 1000:
            raise NoOpinion("an integral over far more than one Gaussian")
        points = low + step * column(map(mpf, range(count + 1)), self.depth)
        return along(points).sum(0) * step

    def expect(self, e: Expect_, at):
        return self.average(e.over, at, lambda here: self.value(e.body, here))

    def kl(self, e: KL_, at):
        return self.average(e.first, at, lambda here: LOG(self.value(e.first, here)) - LOG(self.value(e.second, here)))

    def average(self, over: Expression, at: dict, body):
        """The expectation of ``body`` over a density, a Gaussian or a noise."""
        law = Normal_(over, wrap(0), wrap(1)) if isinstance(over, Symbol) else over
        variables = bound_by(over)
        if any(v.vector for v in variables) and self.dimension > 1:
            return self.over_vector(law, at, body)
        return self.integrated(variables, at, lambda here: self.value(law, here) * body(here))

    def over_vector(self, law: Expression, at: dict, body):
        """The expectation over the components of a Gaussian, for polynomials up to the fifth degree."""
        if not isinstance(law, Normal_):
            raise NoOpinion("an expectation over a law of vectors")
        mean, deviation = self.value(law.mean, at), ROOT(POSITIVE(self.value(law.variance, at)))
        results = []
        for sphere in (False, True):
            nodes, weights = cubature(self.dimension, sphere)
            points = np.array(nodes, dtype=object).reshape(len(nodes), *[1] * self.depth, self.dimension)
            self.depth += 1
            values = body({**at, law.at: points * deviation + mean})
            self.depth -= 1
            results.append((values * column(weights, self.depth)).sum(0))
        if not close(*results):
            raise NoOpinion("an expectation over a vector of more than a polynomial of degree five")
        return results[0]

    def grad(self, e: Grad_, at):
        if e.variable.vector or e.variable in self.axes:
            raise NoOpinion("a gradient by a vector, or by a variable with a few states")
        here, h = self.value(e.variable, at), mpf(10) ** -30
        up, down = (self.value(e.body, {**at, e.variable: here + s * h}) for s in (1, -1))
        return (up - down) / (2 * h)

    # ---- relations

    def scale(self, e: Expression):
        """The size of what may cancel: the terms of a sum, the values whose difference makes a gradient, and the
        probabilities in an average, which add up to 1.
        """
        averages = any(isinstance(part, (Expect_, Integral_)) for part in walk(e))
        inside = [self.scale(part.body) for part in walk(e) if isinstance(part, Grad_) and part is not e]
        while isinstance(e, (Group, Neg, Grad_)):
            e = e.body
        terms = e.terms if isinstance(e, Add) else (e,)
        return max(*(np.max(abs(self.value(term, {}))) for term in terms), *inside, int(averages))

    def difference(self, previous, new, relation: str, of) -> str:
        """Nothing if ``new`` stands in the relation to ``previous``, else the two values."""
        a, b = (concrete(side, self.sizes) for side in (previous, new))
        free = [concrete(v, self.sizes) for v in of]
        if relation == "law":
            pairs = zip(self.moments(a), self.moments(b))
            return "".join(map(told, [pair for pair in pairs if not close(*pair)][:1]))
        if not free:
            left, right = self.value(a, {}), self.value(b, {})
            wider = {">=": left > right, "<=": left < right}.get(relation, False)
            return "" if close(left, right, max(self.scale(a), self.scale(b)), wider) else told((left, right))
        pairs = []
        for k in range(3):
            at = {
                v: self.drawn((v, "free", k), v.domain, [self.dimension if v.vector else 1])
                for v in free
                if v not in self.axes
            }
            values = [self.value(side, at) for side in (a, b)]
            pairs.append([np.broadcast_to(v, np.broadcast_shapes(v.shape, self.along(*self.axes))) for v in values])
        start = pairs[0]
        for v in free:
            if v in self.axes:
                start = [side.take([0], self.axes.index(v)) for side in start]
        for left, right in pairs:
            if relation == "propto":
                same = close(left * start[1], start[0] * right)
            else:
                same = close(left - right, start[0] - start[1], np.max(abs(left) + abs(right)))
            if not same:
                return told((left, right))
        return ""

    def moments(self, e: Expression) -> tuple:
        """Mean and variance of a sum of noises, from its values where one noise is 1 and the others 0."""
        parts = [e]
        for part in parts:  # grows by the definitions of its parts
            parts += [f for p in walk(part) if (f := self.formula(p)) is not None]
        noises = {p for part in parts for p in walk(part) if isinstance(p, Symbol) and p.domain == "noise"}
        zero = dict.fromkeys(noises, array(0))
        mean = self.value(e, zero)
        slopes = [self.value(e, {**zero, n: array(1)}) - mean for n in noises]
        if not close(self.value(e, dict.fromkeys(noises, array(2))), mean + 2 * sum(slopes)):
            raise NoOpinion("no sum of noises")
        return mean, sum(s**2 for s in slopes)


def close(left, right, scale=0, wider=False) -> bool:
    """Equal to twenty digits, or both 0 to sixty digits beside ``scale``; or, where it is so, ``wider``."""
    near = abs(left - right) <= (abs(left) + abs(right)) * mpf(10) ** -20 + mpf(10) ** -60 * scale
    return bool(np.all(near | wider))


def told(pair) -> str:
    """Two values, at the place where they differ most."""
    left, right = (np.ravel(side) for side in np.broadcast_arrays(*pair))
    k = max(range(len(left)), key=lambda k: abs(left[k] - right[k]))
    return f"{mpmath.nstr(left[k], 12)} and {mpmath.nstr(right[k], 12)}"


# ------------------------------------------------------------ many situations


@dataclass
class Verdict:
    """What the situations say of one line: in how many it could be computed, where it fails, why it could not."""

    points: int = 0
    against: str = ""
    reasons: list = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return self.points > 0 and not self.against


class Judge:
    """Opinions on the lines of one derivation, in at least ``seeds`` situations where there are as many."""

    def __init__(self, derivation, seeds: int = 4):
        self.derivation, self.seeds, self.opinions = derivation, seeds, {}
        laws = any(law.factors for law in derivation.laws)
        gaussian = derivation.checker.any_law is not derivation.checker.definitions
        self.views = [tables for tables, possible in ((True, laws), (False, gaussian or not laws)) if possible]

    @cached_property
    def parts(self) -> list:
        """Every part of every line and of every definition."""
        d = self.derivation
        formulas = [d.lines[0].expression, *(s.expression for s in d.steps), *d.where, *d.where.values()]
        return [part for formula in formulas for part in walk(formula)]

    @cached_property
    def situations(self) -> list[tuple[dict, int]]:
        """Lengths of sums and chains from 1, letters that are only indices from the author's least, and the dimension
        of the vectors.
        """
        d = self.derivation
        bound = {p.index for p in self.parts if isinstance(p, Repeat)}
        ends = [end for p in self.parts if isinstance(p, (Repeat, Span)) for end in (p.first, p.last)]
        ends += [end for law in d.laws for f in law.factors if isinstance(f, every) for end in (f.first, f.last)]
        lengths = {p for end in ends for p in walk(end) if isinstance(p, Symbol)} - bound
        given = {s: [size[s] for size in d.checker.sizes] for s in d.checker.sizes[0]}
        letters = sorted({*lengths, *given} - {*d.where}, key=repr)
        ranges = {s: LENGTHS if s in lengths else range(min(given[s]), 10) for s in letters}
        sizes = [dict(zip(ranges, at)) for at in product(*ranges.values())]
        if len(ranges) > 1:
            sizes = [*d.checker.sizes, *random.Random(d.name).sample(sizes, 2 * len(LENGTHS))]
        vectors = d.checker.dimension is not None or any(getattr(p, "vector", False) for p in self.parts)
        return [(at, n) for at in sizes for n in (LENGTHS if vectors else (1,))]

    @cached_property
    def calm(self) -> bool:
        """Whether the trapezoidal rule may meet unknown functions, of which it bears but slow waves."""
        kinds = {type(p) for p in self.parts}
        return bool(kinds & {Call, Density} and kinds & {Integral_, Expect_, KL_})

    def opinion(self, seed: int, sizes: dict, dimension: int, tables: bool, calm: bool) -> Opinion:
        key = (seed, *sizes.items(), dimension, tables)
        if key not in self.opinions:
            self.opinions[key] = Opinion(self.derivation, seed, sizes, dimension, tables, calm)
        return self.opinions[key]

    def of(self, previous, new, relation: str = "=", of=(), note: str | None = None) -> Verdict:
        """What is to be said of a line with the footnote ``note``, which may name the lengths it is made for."""
        with mpmath.workdps(DIGITS):
            for tables in self.views:  # tables are not the last word where a law is a Gaussian by definition
                verdict = self.seen(tables, previous, new, relation, of, note)
                if verdict.holds:
                    break
        return verdict

    def seen(self, tables: bool, *line) -> Verdict:
        """A verdict with all letters open, if there is one, as q(x[t] | x[0]) may be defined while q(x[2] | x[0]) is
        not; else at many lengths.
        """
        calm = self.calm and not tables
        dimensions = sorted({n for _, n in self.situations})
        verdict = Verdict() if tables else self.at([({}, n) for n in dimensions], tables, calm, *line)
        numbers = self.situations[:: 6 if calm else 1]  # sums of integrals take long
        return verdict if verdict.points else self.at(numbers, tables, calm, *line)

    def at(self, situations: list, tables: bool, calm: bool, previous, new, relation: str, of, note) -> Verdict:
        verdict, wanted = Verdict(), -(-self.seeds // len(situations))
        for k, (sizes, dimension) in enumerate(situations):
            if not allowed(sizes, note):
                continue
            good = 0
            for seed in range(k * ATTEMPTS, (k + 1) * ATTEMPTS):
                try:
                    against = self.opinion(seed, sizes, dimension, tables, calm).difference(previous, new, relation, of)
                except (Outside, ZeroDivisionError) as reason:
                    verdict.reasons.append(str(reason))
                    continue
                except (NoOpinion, ValueError) as reason:  # an index or a variable that these lengths do not have
                    verdict.reasons.append(str(reason))
                    break
                verdict.points += 1
                good += 1
                if against:
                    lengths = "".join(f", {s!r} = {n}" for s, n in sizes.items())
                    verdict.against = f"{against} (seed {seed}, dimension {dimension}{lengths})"
                    return verdict
                if good == wanted:
                    break
        return verdict


def allowed(sizes: dict, note: str | None) -> bool:
    r"""Whether the lengths obey the premises of a footnote, such as $T \ge 2$."""
    least = dict(re.findall(r"(\w+)\s*(?:\\geq?|>=|≥)\s*(\d+)", note or ""))
    return all(n >= int(least.get(s.name, 0)) for s, n in sizes.items())


@dataclass
class Report:
    """What the second opinion has to say of some derivations."""

    points: int = 0
    kinds: Counter = field(default_factory=Counter)  # relation: lines with an opinion
    contradicted: list = field(default_factory=list)
    silent: list = field(default_factory=list)  # lines without an opinion, and why


def contradictions(derivations, seeds: int = 4) -> Report:
    """Judges every line of every derivation."""
    report = Report()
    for d in derivations:
        judge = Judge(d, seeds)
        for step in d.steps:
            verdict = judge.of(step.previous, step.expression, step.relation, step.of, step.note)
            name = f"{d.name} {step.number}"
            report.points += verdict.points
            if not verdict.points:
                report.silent.append(f"{name}: {', '.join(dict.fromkeys(verdict.reasons))}")
                continue
            report.kinds[step.relation] += 1
            if verdict.against:
                report.contradicted.append(
                    f"{name}: {step.previous!r} {step.relation} {step.expression!r}: {verdict.against}"
                )
    return report


def truly_holds(derivation, previous, mutant, relation: str, of, seeds: int = 3) -> bool:
    """Whether ``mutant`` still stands in the relation to ``previous``; ``NoOpinion`` if it cannot be computed."""
    verdict = Judge(derivation, seeds).of(previous, mutant, relation, of)
    if not verdict.points:
        raise NoOpinion(", ".join(dict.fromkeys(verdict.reasons)))
    return verdict.holds
