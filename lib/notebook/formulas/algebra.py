r"""From a typed formula to its value in sympy, with every Gaussian integral and expectation worked out.

A density that ``where`` defines has its formula as its value. One known only by name is the ratio of two
unknown marginals, q(a | b) = q(a, b) / q(b), so that the chain rule and Bayes' rule are algebra, true of
every law. Vectors are computed by components: ``squared_norm`` adds over them, any other vector formula
stands for one of them.

"""

from __future__ import annotations

import re

import sympy as sp

from lib.notebook.formulas.concrete import Definitions, concrete, linear
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
    replace,
    walk,
    wrap,
)
from lib.notebook.formulas.gaussian import expectation, integrate, marginal, normal
from lib.notebook.formulas.language import bound_by, pi
from lib.notebook.formulas.points import at, point

ASSUMPTIONS = {
    "real": {"real": True},
    "noise": {"real": True},
    "positive": {"positive": True},
    "unit": {"positive": True},
    "integer": {"integer": True, "positive": True},
}


class OpenLength(ValueError):
    """A span such as x[1:T] whose length is not a number."""


def has_vectors(e: Expression) -> bool:
    """Whether a vector occurs anywhere in ``e``."""
    return any(getattr(part, "vector", False) for part in walk(e))


class Algebra:
    """Values of formulas under ``definitions``, at ``sizes``, vectors having ``dimension`` components."""

    def __init__(self, definitions: Definitions, sizes: dict | None = None, dimension: int = 1):
        self.definitions, self.sizes, self.dimension = definitions, sizes or {}, dimension
        self.symbols: dict[sp.Symbol, tuple[Symbol, int]] = {}  # what was typed, and which component
        self.domains: dict[sp.Symbol, str] = {}
        self.opening: list = []
        self.open = False  # whether a value holds a law or a sum of which only some rules are known

    def value(self, e: Expression) -> sp.Expr:
        """The sympy value of a formula (of a vector: its first component), or a ``ValueError``."""
        return self.of(concrete(e, self.sizes), 0)

    def of(self, e: Expression, i: int) -> sp.Expr:
        """The value of component ``i``; what ``where`` defines is replaced by its definition."""
        if isinstance(e, (Symbol, Density, Call)) and (formula := self.definitions.of(e)) is not None:
            if e in self.opening:
                raise ValueError(f"where: the definition of {e!r} leads back to itself")
            self.opening.append(e)
            try:
                return self.of(concrete(formula, self.sizes), i)
            finally:
                self.opening.pop()
        return getattr(self, f"_on_{type(e).__name__.strip('_').lower()}")(e, i)

    def atom(self, e: Symbol, i: int = 0) -> sp.Symbol:
        """The sympy symbol of one component of a typed symbol; its domain and origin are remembered."""
        if isinstance(e, Span):
            raise OpenLength(f"sizes: {e!r} has no known length; give values of {e.last!r}, such as (2, 3, 4)")
        found = sp.Symbol(f"{e!r}" + (f".{i}" if e.vector else ""), **ASSUMPTIONS[e.domain])
        self.symbols[found], self.domains[found] = (e, i), e.domain
        return found

    def components(self, e: Expression) -> range:
        """The components to be added up in a formula: one, unless there is a vector in it."""
        return range(self.dimension) if has_vectors(e) else range(1)

    # ---- logarithms

    def positive(self, e: sp.Expr) -> bool:
        """Whether ``e`` is positive on the domain of its symbols: known to sympy, or seen at four samples."""
        if e.is_positive or e.is_negative:
            return bool(e.is_positive)
        values = [at(e, point(e, self.domains, seed)) for seed in range(4)]
        return all(v.is_real and v > 0 for v in values)

    def split(self, e: sp.Expr) -> list[tuple[sp.Expr, sp.Expr]]:
        """Factors (base, power) of a product, each base positive on the domain; what is not stays in one
        factor.
        """
        pairs, rest = [], sp.Integer(1)
        for factor in sp.Mul.make_args(e):
            base, power = factor.as_base_exp()
            if isinstance(factor, sp.exp):
                pairs.append((sp.E, factor.exp))
            elif power.is_number and base.is_Mul:
                pairs += [(b, p * power) for b, p in self.split(base)]
            elif self.positive(base):
                pairs.append((base, power))
            else:
                rest *= factor
        return pairs if rest == 1 else [*pairs, (rest, sp.Integer(1))]

    def log(self, e: sp.Expr) -> sp.Expr:
        """log e as a sum over the factors of e."""
        return sp.Add(*(p if b is sp.E else p * sp.log(b) for b, p in self.split(e)))

    # ---- one method a kind of formula

    def _on_number(self, e: Number, i: int) -> sp.Expr:
        return sp.Rational(e.value.numerator, e.value.denominator)

    def _on_symbol(self, e: Symbol, i: int) -> sp.Expr:
        return sp.pi if e == pi else self.atom(e, i)

    def _on_group(self, e: Group, i: int) -> sp.Expr:
        return self.of(e.body, i)

    def _on_neg(self, e: Neg, i: int) -> sp.Expr:
        return -self.of(e.body, i)

    def _on_add(self, e: Add, i: int) -> sp.Expr:
        return sp.Add(*(self.of(term, i) for term in e.terms))

    def _on_mul(self, e: Mul, i: int) -> sp.Expr:
        return sp.Mul(*(self.of(factor, i) for factor in e.factors))

    def _on_div(self, e: Div, i: int) -> sp.Expr:
        bottom = self.of(e.bottom, i)
        if bottom == 0:
            raise ValueError(f"division by zero in {e!r}")
        return self.of(e.top, i) / bottom

    def _on_pow(self, e: Pow, i: int) -> sp.Expr:
        return self.of(e.base, i) ** self.of(e.power, i)

    def _on_apply(self, e: Apply, i: int) -> sp.Expr:
        if e.name == "squared_norm":
            return sp.Add(*(self.of(e.body, k) ** 2 for k in self.components(e.body)))
        return {"exp": sp.exp, "sqrt": sp.sqrt, "log": self.log}[e.name](self.of(e.body, i))

    def _on_call(self, e: Call, i: int) -> sp.Expr:
        args = [normal(self.of(a, k)) for a in e.args for k in self.components(a)]
        return sp.Function(e.name + (f".{i}" if e.vector else ""), **ASSUMPTIONS[e.domain])(*args)

    def _on_density(self, e: Density, i: int) -> sp.Expr:
        self.open = True
        left, right = ({self.atom(v, k) for v in side for k in self.components(v)} for side in (e.left, e.right))
        return marginal(e.law, left | right) / marginal(e.law, right)

    def _on_normal(self, e: Normal_, i: int) -> sp.Expr:
        total = sp.Integer(1)
        for k in self.components(e.at):
            mean, variance = self.of(e.mean, k), self.of(e.variance, k)
            total *= sp.exp(-((self.of(e.at, k) - mean) ** 2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)
        return total

    def integral(self, body: sp.Expr, variables: tuple) -> sp.Expr:
        """The integral over all components of the variables, one after the other."""
        for v in variables:
            for x in self.bound(v):
                body = integrate(body, x, self.positive)
        return body

    def bound(self, v: Symbol) -> list[sp.Symbol]:
        """The components of a variable that an integral, expectation or gradient runs over."""
        if self.definitions.of(v) is not None:
            raise ValueError(f"where: {v!r} is a variable of an integral or gradient, so it cannot be defined")
        return [self.atom(v, k) for k in self.components(v)]

    def _on_integral(self, e: Integral_, i: int) -> sp.Expr:
        return self.integral(self.of(e.body, i), e.variables)

    def _on_expect(self, e: Expect_, i: int) -> sp.Expr:
        law = Normal_(e.over, wrap(0), wrap(1)) if isinstance(e.over, Symbol) else e.over
        return self.average(self.of(e.body, i), law, i)

    def _on_kl(self, e: KL_, i: int) -> sp.Expr:
        return self.average(self.log(self.of(e.first, i)) - self.log(self.of(e.second, i)), e.first, i)

    def average(self, body: sp.Expr, law: Expression, i: int) -> sp.Expr:
        """The expectation of ``body``: over a Normal by its moments where they do, else by integration."""
        variables = bound_by(law)
        normal_law = law if isinstance(law, Normal_) else self.definitions.of(law)
        if isinstance(normal_law, Normal_) and variables == (normal_law.at,):
            result = body
            for k, x in enumerate(self.bound(normal_law.at)):  # one component after the other
                mean, variance = (self.of(part, k) for part in (normal_law.mean, normal_law.variance))
                result = result if result is None else expectation(result, x, mean, variance)
            if result is not None:
                return result
        return self.integral(self.of(law, i) * body, variables)

    def _on_grad(self, e: Grad_, i: int) -> sp.Expr:
        return sp.diff(self.of(e.body, i), self.bound(e.variable)[i])

    # ---- sums and products whose length is a symbol

    def _on_repeat(self, e: Repeat, i: int) -> sp.Expr:
        r"""$\sum_{t=a}^{b} f(t) = S_f(b) - S_f(a-1)$, where of $S_f$ only $S_f(n+1) = S_f(n) + f(n+1)$ is
        known.
        """
        body = self.of(e.body, i)
        if e.kind == "product":
            body = self.log(body)
        self.open = True
        high, low = linear(e.last), linear(e.first - 1)
        total = sp.Integer(0)
        for term in sp.Add.make_args(sp.expand(body, power_exp=False, power_base=False, log=False)):
            inner = [f for f in sp.Mul.make_args(term) if self.offsets(f, e.index) is not None]
            inside = sp.Mul(*inner)
            if not inner:
                total += term * (self.of(concrete(e.last - e.first + 1), i))
                continue
            shift = max(self.offsets(inside, e.index), default=0)
            letter = self.running(inside)
            inside = self.moved(inside, e.index, letter - shift)
            for sign, end in ((1, high), (-1, low)):
                end = {**end, None: end[None] + shift}
                total += sign * (term / sp.Mul(*inner)) * self.antidifference(inside, letter, end)
        return sp.exp(total) if e.kind == "product" else total

    def running(self, e: sp.Expr) -> Symbol:
        """The letter over which the sum of ``e`` runs, named by depth: the typed letter does not matter."""
        depth = max((int(n) for s in e.free_symbols for n in re.findall(r"running (\d+)", s.name)), default=-1)
        return Symbol(f"running {depth + 1}", "integer")

    def offsets(self, e: sp.Expr, index: Symbol) -> list[int] | None:
        """The k of all x[index + k] inside ``e``; None if ``index`` does not occur at all."""
        typed = [self.symbols[s][0] for s in e.free_symbols if s in self.symbols]
        found = [linear(s.index)[None] for s in typed if s.index is not None and index in linear(s.index)]
        return found if found or index in typed else None

    def moved(self, e: sp.Expr, index: Symbol, to: Expression) -> sp.Expr:
        """``e`` with ``index`` replaced."""
        table = {
            s: self.of(concrete(replace(typed, {index: to})), i)
            for s in e.free_symbols
            if s in self.symbols
            for typed, i in [self.symbols[s]]
        }
        return e.xreplace(table)

    def antidifference(self, f: sp.Expr, index: Symbol, end: dict) -> sp.Expr:
        """S_f at ``end``, written as S_f at the letters of ``end`` alone plus or minus a few values of f."""
        steps = end[None]
        base = wrap(0)
        for letter, count in end.items():
            base = base if letter is None else base + count * letter
        known = range(1, steps + 1) if steps > 0 else range(steps + 1, 1)
        extra = sp.Add(*(self.moved(f, index, base + k) for k in known))
        start = sp.Function("partial sum")(f, self.of(concrete(base), 0))
        return start + (extra if steps > 0 else -extra)
