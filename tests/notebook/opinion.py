"""A second opinion on whether a line holds.

``Opinion`` computes formulas in floating point by means that share nothing with the checks of the library but the
tree itself and its definitions: probability tables as numpy arrays, integrals by the trapezoidal rule, gradients
by differences.
"""

from fractions import Fraction

import numpy as np

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


class NoOpinion(Exception):
    """The formula cannot be computed here."""


class Opinion:
    """Values of formulas in floating point, in one random situation drawn from ``seed``.

    ``tables``: densities are tables of the derivation's laws; otherwise they are what the definitions say.
    """

    def __init__(self, derivation, seed: int, sizes: dict, tables: bool):
        self.random = np.random.default_rng(seed)
        self.where = derivation.checker.any_law if tables else derivation.checker.definitions
        dimension = derivation.checker.dimension
        self.sizes = {**sizes, **({dimension: 1} if dimension is not None else {})}
        self.laws = {law.name: law.expand(sizes) for law in derivation.laws if law.factors and tables}
        self.axes = list(dict.fromkeys(v for f in self.laws.values() for left, right in f for v in (*left, *right)))
        self.joint = {name: self.table(factors) for name, factors in self.laws.items()}
        self.constants: dict = {}
        self.cells = {v: self.random.uniform(0.3, 3, self.along(v, 3)) for v in self.axes}
        self.depth = 0

    def along(self, variable, size: int) -> list:
        return [size if v == variable else 1 for v in self.axes]

    def table(self, factors) -> np.ndarray:
        total = np.ones([3] * len(self.axes))
        for left, right in factors:
            shape = [3 if v in (*left, *right) else 1 for v in self.axes]
            weights = self.random.uniform(0.2, 1, shape)
            total = total * weights / weights.sum(tuple(self.axes.index(v) for v in left), keepdims=True)
        return total

    def constant(self, key, domain: str) -> float:
        if key not in self.constants:
            low, high = {"unit": (0.2, 0.9), "positive": (0.5, 1.5), "integer": (2, 9)}.get(domain, (-1.5, 1.5))
            drawn = self.random.uniform(low, high)
            self.constants[key] = float(int(drawn)) if domain == "integer" else drawn
        return self.constants[key]

    def sum_over(self, values, variables):
        missing = [v for v in variables if v not in self.axes]
        if missing:
            raise NoOpinion(f"{missing} are no variables of the laws")
        full = values * np.ones([3 if v in variables else 1 for v in self.axes])
        return full.sum(tuple(self.axes.index(v) for v in variables), keepdims=True)

    def density(self, e: Density, at: dict):
        if e.law not in self.laws:  # a law without factors: a Gaussian with a random covariance
            return self.gaussian(e.law, (*e.left, *e.right), at) / (
                self.gaussian(e.law, e.right, at) if e.right else 1.0
            )
        known = {v for left, _ in self.laws[e.law] for v in left}
        inputs = {v for _, right in self.laws[e.law] for v in right} - known
        if not {*e.left, *e.right} <= known | inputs or not inputs <= {*e.right}:
            raise NoOpinion(f"{e.law} does not have this density")
        joint = self.joint[e.law]
        both = self.sum_over(joint, [v for v in known if v not in (*e.left, *e.right)])
        both = both / self.sum_over(both, [*e.left]) if e.right else both
        for v in e.left:
            both = both / self.cells[v]
        return both

    def gaussian(self, law: str, variables, at: dict):
        spread = {v: np.array([self.constant((law, v, k), "real") for k in range(6)]) for v in set(variables)}
        c = np.array([[spread[a] @ spread[b] + (a == b) for b in spread] for a in spread])
        y, inverse = [self.value(v, at) for v in spread], np.linalg.inv(c)
        square = sum(inverse[j, k] * y[j] * y[k] for j in range(len(y)) for k in range(len(y)))
        return np.exp(-0.5 * square) / np.sqrt(np.linalg.det(2 * np.pi * c))

    def value(self, e: Expression, at: dict):
        """The value where the symbols in ``at`` have the given values: a number, or a table over the variables."""
        formula = self.where.of(e) if isinstance(e, (Symbol, Density, Call)) and e not in at else None
        if formula is not None:
            return self.value(concrete(formula, self.sizes), at)
        return getattr(self, type(e).__name__.strip("_").lower())(e, at)

    def number(self, e: Number, at):
        return float(Fraction(e.value))

    def symbol(self, e: Symbol, at):
        if e in at:
            return at[e]
        if e in self.axes:
            return np.array([self.constant((e, k), "real") for k in range(3)]).reshape(self.along(e, 3))
        return np.pi if e == pi else self.constant(e, e.domain)

    def group(self, e: Group, at):
        return self.value(e.body, at)

    def neg(self, e: Neg, at):
        return -self.value(e.body, at)

    def add(self, e: Add, at):
        return sum(self.value(term, at) for term in e.terms)

    def mul(self, e: Mul, at):
        total = 1.0
        for factor in e.factors:
            total = total * self.value(factor, at)
        return total

    def div(self, e: Div, at):
        return self.value(e.top, at) / self.value(e.bottom, at)

    def pow(self, e: Pow, at):
        return self.value(e.base, at) ** self.value(e.power, at)

    def apply(self, e: Apply, at):
        return {"exp": np.exp, "log": np.log, "sqrt": np.sqrt, "squared_norm": np.square}[e.name](
            self.value(e.body, at)
        )

    def call(self, e: Call, at):
        phase = sum(self.constant((e.name, k), "real") * self.value(a, at) for k, a in enumerate(e.args))
        return (2.0 if e.domain == "positive" else 0.3) + np.cos(phase + self.constant((e.name, "start"), "real"))

    def normal(self, e: Normal_, at):
        variance = self.value(e.variance, at)
        return np.exp(-((self.value(e.at, at) - self.value(e.mean, at)) ** 2) / (2 * variance)) / np.sqrt(
            2 * np.pi * variance
        )

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
        if len(variables) > 1:
            return self.integrated(variables[:1], at, lambda here: self.integrated(variables[1:], here, body))
        grid = np.linspace(-14, 14, 1121)
        shape = (grid.size, *[1] * self.depth)  # one more axis for each integral around this one
        self.depth += 1
        values = body({**at, variables[0]: grid.reshape(shape)})
        self.depth -= 1
        return np.broadcast_to(values, np.broadcast_shapes(np.shape(values), shape)).sum(0) * (grid[1] - grid[0])

    def expect(self, e: Expect_, at):
        law = Normal_(e.over, wrap(0), wrap(1)) if isinstance(e.over, Symbol) else e.over
        return self.integrated(bound_by(e.over), at, lambda here: self.value(law, here) * self.value(e.body, here))

    def kl(self, e: KL_, at):
        def body(here):
            first, second = self.value(e.first, here), self.value(e.second, here)
            return first * (np.log(first) - np.log(second))

        return self.integrated(bound_by(e.first), at, body)

    def grad(self, e: Grad_, at):
        here, h = self.value(e.variable, at), 1e-5
        up, down = (self.value(e.body, {**at, e.variable: here + s * h}) for s in (1, -1))
        return (up - down) / (2 * h)

    def repeat(self, e: Repeat, at):
        raise NoOpinion("a sum of unknown length")

    def span(self, e: Span, at):
        raise NoOpinion("a span of unknown length")


def truly_holds(derivation, previous, mutant, relation: str, of, seeds: int = 3) -> bool:
    """Whether, in floating point, ``mutant`` still stands in the relation to ``previous``."""
    laws = any(law.factors for law in derivation.laws)
    gaussian = derivation.checker.any_law is not derivation.checker.definitions
    views = [tables for tables, possible in ((True, laws), (False, gaussian or not laws)) if possible]
    with np.errstate(all="ignore"):
        return any(
            all(
                agrees(Opinion(derivation, seed, size, tables), previous, mutant, relation, of)
                for size in derivation.checker.sizes
                for seed in range(seeds)
            )
            for tables in views
        )


def agrees(opinion: Opinion, previous, mutant, relation: str, of) -> bool:
    a, b = (concrete(side, opinion.sizes) for side in (previous, mutant))
    free = [concrete(v, opinion.sizes) for v in of]
    if relation == "law":
        pairs = list(zip(law_of(opinion, a), law_of(opinion, b)))
    elif free and not opinion.axes:
        (a1, b1), (a2, b2) = [
            (opinion.value(a, at), opinion.value(b, at))
            for at in ({v: 0.7 + k for k, v in enumerate(free)}, dict.fromkeys(free, -0.4))
        ]
        pairs = [(a1 * b2, a2 * b1)] if relation == "propto" else [(a1 - b1, a2 - b2)]
    elif free:
        left, right = (np.broadcast_to(opinion.value(side, {}), [3] * len(opinion.axes)) for side in (a, b))
        ratio = left / right if relation == "propto" else left - right
        start = ratio
        for v in free:
            start = start.take([0], opinion.axes.index(v))
        pairs = [(ratio, start)]
    else:
        pairs = [(opinion.value(a, {}), opinion.value(b, {}))]
    for left, right in pairs:
        near = np.abs(left - right) <= 1e-6 * (1e-3 + np.abs(left) + np.abs(right))
        wider = {">=": left > right, "<=": left < right}.get(relation, False)
        if not np.all(near | wider):
            return False
    return True


def law_of(opinion: Opinion, e: Expression) -> tuple[float, float]:
    """Mean and variance of a sum of noises, from its values where one noise is 1 and the others 0."""
    parts = [concrete(f, opinion.sizes) for p in walk(e) if (f := opinion.where.of(p)) is not None]
    noises = {p for side in (e, *parts) for p in walk(side) if isinstance(p, Symbol) and p.domain == "noise"}
    zero = dict.fromkeys(noises, 0.0)
    mean = opinion.value(e, zero)
    return mean, sum((opinion.value(e, {**zero, n: 1.0}) - mean) ** 2 for n in noises)
