r"""From a typed formula to its value in sympy, with every Gaussian integral and expectation worked out.

A density that ``where`` defines has its formula as its value. One known only by name is the ratio of two
unknown marginals, q(a | b) = q(a, b) / q(b), so that the chain rule and Bayes' rule are algebra, true of
every law. Vectors are computed by components: ``squared_norm`` adds over them, any other vector formula
stands for one of them.

What a value takes for granted beyond the declared domains (a divisor that is not 0, a sum that is not shorter than
nothing) is collected beside it, as ``Premise``.
"""

from __future__ import annotations

import re
from contextlib import contextmanager

import sympy as sp
from sympy.core.function import AppliedUndef

from lib.notebook.formulas.concrete import Definitions, concrete, linear, number_in, related
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
    walk,
    wrap,
)
from lib.notebook.formulas.gaussian import expectation, integrate, normal, standard_mean
from lib.notebook.formulas.language import bound_by, pi
from lib.notebook.formulas.points import at, close, point
from lib.notebook.formulas.premises import GE, NE, Premise, compared
from lib.notebook.formulas.printing import latex
from lib.notebook.formulas.signs import Signs
from lib.notebook.formulas.sums import Sums, at_least, turned
from lib.notebook.formulas.unknown import (
    RULED,
    Average,
    PartialSum,
    derivative,
    marginal,
    outermost,
    terms,
    unknown,
    without,
)
from lib.notebook.formulas.vectors import is_vector

ASSUMPTIONS = {
    "real": {"real": True},
    "noise": {"real": True},
    "positive": {"positive": True},
    "unit": {"positive": True},
    "integer": {"integer": True, "positive": True},
}


class OpenLength(ValueError):
    """A span such as x[1:T] whose length is not a number."""


def with_ranges(e: Expression, ranges: dict | None = None):
    """Every part of ``e`` with the ranges of the letters of the sums around it."""
    ranges = ranges or {}
    yield e, ranges
    inside = {**ranges, e.index: (e.first, e.last)} if isinstance(e, Repeat) else ranges
    for part in children(e):
        yield from with_ranges(part, inside)


class Algebra:
    """Values of formulas under ``definitions``, at ``sizes``, vectors having ``dimension`` components."""

    def __init__(self, definitions: Definitions, sizes: dict | None = None, dimension: int = 1):
        self.definitions, self.sizes, self.dimension = definitions, sizes or {}, dimension
        self.symbols: dict[sp.Symbol, tuple[Symbol, int]] = {}  # what was typed, and which component
        self.domains: dict[sp.Basic, str] = {}
        self.signs, self.sums = Signs(self.domains), Sums(self)
        self.defined: dict[Expression, set] = {}  # the premises under which a definition lies in its domain
        self.averaged: list[Expression] = []  # the variables of the integrals and averages that are being worked out
        self.ranges: dict[Symbol, tuple] = {}  # of the letters of sums that are being worked out
        self.premises: set[Premise] = set()
        self.open = False  # whether a value holds a law or a sum of which only some rules are known

    def value(self, e: Expression) -> sp.Expr:
        """The sympy value of a formula (of a vector: its first component), or a ``ValueError``."""
        is_vector(e)
        return self.of(concrete(e, self.sizes), 0)

    def of(self, e: Expression, i: int) -> sp.Expr:
        """The value of component ``i``; what ``where`` defines is replaced by its definition."""
        if isinstance(e, (Symbol, Density, Call)) and (formula := self.definitions.of(e)) is not None:
            if self.ranges:
                self.each_place(e)
            with self.definitions.opening(e):
                value = self.of(concrete(formula, self.sizes), i)
            if e not in self.defined:
                before, self.premises = self.premises, set()
                self.in_domain(e, value)
                if isinstance(e, (Symbol, Call)) and e.domain in ("positive", "unit"):
                    self.given_positive(value)
                self.defined[e], self.premises = self.premises, before
            self.premises |= self.defined[e]
            return value
        return getattr(self, f"_on_{type(e).__name__.strip('_').lower()}")(e, i)

    def each_place(self, e: Expression) -> None:
        """``ValueError`` where a definition that is used inside a sum does not hold at all of its places."""
        for letter in {*self.ranges} & {*walk(e)}:
            if not self.from_one(letter):
                raise ValueError(f"where: {e!r} is defined for 1, 2, 3... and {letter!r} starts lower; take terms out")
            others = [key for key in self.definitions.where if related(key, e) and isinstance(key, Symbol)]
            if sum(number_in(key.index) is None for key in others) > 1:
                raise ValueError(f"where: {e!r} is defined by more than one formula, so it cannot stand in a sum")

    def given_positive(self, value: sp.Expr) -> None:
        """Notes that the value of what is declared positive is so, and the one factor of it of which it was open."""
        self.signs.facts.add(value)
        number, rest = sp.factor(value).as_coeff_Mul()
        powers = [factor.as_base_exp() for factor in sp.Mul.make_args(rest)]
        unclear = [(base, power) for base, power in powers if not self.positive(base)]
        if len(unclear) == 1 and unclear[0][1].is_odd:
            self.signs.facts.add(sp.sign(number) * unclear[0][0])

    def atom(self, e: Symbol, i: int = 0) -> sp.Symbol:
        """The sympy symbol of one component of a typed symbol; its domain and origin are remembered."""
        if isinstance(e, Span):
            raise OpenLength(f"sizes: {e!r} has no known length; give values of {e.last!r}, such as (2, 3, 4)")
        free = e.name.startswith("running·") or (e in self.ranges and not self.from_one(e))
        assumed = {"integer": True} if free else ASSUMPTIONS[e.domain]
        found = sp.Symbol(f"{e!r}" + (f".{i}" if e.vector else ""), **assumed)
        self.symbols[found], self.domains[found] = (e, i), e.domain
        return found

    def components(self, e: Expression) -> range:
        """The components to be added up in a formula: one, unless it is a vector."""
        return range(self.dimension) if is_vector(e) else range(1)

    def assume(self, about, text: str, relation: str = "", of: Expression | None = None) -> None:
        """Takes something for granted that is not known to hold everywhere; ``of`` is the formula it is about."""
        bound = [v for v in (*self.ranges, *self.averaged) if of is not None and v in {*walk(of)}]
        if bound and relation:  # said in any case: the letter is not the one that another line may hold
            text, relation = f"where ${text} {relation} 0$ for all ${', '.join(map(latex, bound))}$", ""
        self.premises.add(Premise(about, text, relation))

    def shown(self, e: sp.Expr, typed: Expression) -> str:
        """LaTeX of a value; where unknown functions are in it, of what was typed."""
        if e.has(AppliedUndef, *RULED):
            return latex(typed)
        return sp.latex(e, symbol_names={s: latex(t) for s, (t, _) in self.symbols.items()}, order="none")

    # ---- signs and logarithms

    def positive(self, e: sp.Expr) -> bool:
        """Whether ``e`` is known to be positive on the domain of its symbols."""
        return self.signs.positive(e)

    def surely_positive(self, e: Expression, value: sp.Expr) -> bool:
        """Whether a typed formula of this value is positive: by its value, or built of positive parts."""
        if self.positive(value):
            return True
        if isinstance(e, Repeat) and (e.kind == "product" or at_least(linear(e.last - e.first), 0, self.ranges)):
            with self.inside_of(e):
                return self.surely_positive(e.body, self.of(e.body, 0))
        if isinstance(e, (Add, Mul, Div)):
            return all(self.surely_positive(part, self.of(part, 0)) for part in children(e))
        if isinstance(e, Normal_):
            return self.surely_positive(e.variance, self.of(e.variance, 0))
        if isinstance(e, Symbol) and e.domain in ("positive", "unit"):  # declared under "Given", also where defined
            return True
        if isinstance(e, (Group, Integral_, Expect_)):
            return self.surely_positive(e.body, self.of(e.body, 0))
        if isinstance(e, (Symbol, Density, Call)) and (formula := self.definitions.of(e)) is not None:
            formula = concrete(formula, self.sizes)
            return self.surely_positive(formula, value)
        return False

    def need_nonzero(self, e: Expression, value: sp.Expr) -> None:
        """Takes for granted that a divisor is not 0, factor by factor, where that is not known."""
        e = e.body if isinstance(e, Apply) and e.name == "sqrt" else e
        for base, _ in self.split(sp.factor(value) if not value.is_Atom else value):
            base = base.as_base_exp()[0]
            if base is not sp.E and not self.signs.nonzero(base) and not self.surely_positive(e, base):
                self.assume(base, self.shown(base, e), NE, of=e)

    def need_positive(self, e: Expression, value: sp.Expr, strict: bool = True) -> None:
        """Takes for granted that what stands under a logarithm or a root is positive, where that is not known."""
        if not self.surely_positive(e, value) and (strict or not self.signs.never_negative(value)):
            self.assume(value, self.shown(value, e), ">" if strict else GE, of=e)

    def need_variance(self, e: Expression, variance: sp.Expr) -> None:
        """Says that a variance is taken to be positive, where that is not known; ``ValueError`` where it is not."""
        if variance == 0 or self.signs.sign_of(variance) == -1:
            raise ValueError(f"variance: wanted a positive one, got {e!r}")
        if not self.surely_positive(e, variance):
            self.assume(("variance", variance), rf"where ${self.shown(variance, e)} > 0$")

    def split(self, e: sp.Expr) -> list[tuple[sp.Expr, sp.Expr]]:
        """Factors (base, power) of a product, each base positive on the domain; what is not stays in one
        factor.
        """
        pairs, rest = [], sp.Integer(1)
        for factor in sp.Mul.make_args(e):
            base, power = factor.as_base_exp()
            if isinstance(factor, sp.exp) and self.signs.real(factor.exp):
                pairs.append((sp.E, factor.exp))
            elif power.is_number and base.is_Mul and (power.is_Integer or self.positive(base)):
                pairs += [(b, p * power) for b, p in self.split(base)]
            elif self.positive(base):
                pairs.append((base, power))
            else:
                rest *= factor
        return pairs if rest == 1 else [*pairs, (rest, sp.Integer(1))]

    def log(self, e: sp.Expr) -> sp.Expr:
        """log e as a sum over the factors of e."""
        return sp.Add(*(p if b is sp.E else p * sp.log(b) for b, p in self.split(e)))

    def in_domain(self, e: Expression, value: sp.Expr) -> None:
        """``ValueError`` where a definition cannot lie in the declared domain of what it defines."""
        domain = e.domain if isinstance(e, (Symbol, Call)) else "positive"
        parts = {"positive": (value,), "unit": (value, 1 - value), "integer": (value,)}.get(domain, ())
        whole = domain != "integer" or value.is_integer is not False
        if domain == "noise" or not whole or any(self.signs.sign_of(part) == -1 or part == 0 for part in parts):
            raise ValueError(f"where: {e!r} is declared {domain}, and {value} is not")
        if isinstance(e, Density):
            if not self.surely_positive(e, value):
                self.assume(("density", e), f"where ${latex(e)} > 0$")
            self.normalised(e, value)

    def normalised(self, e: Density, value: sp.Expr) -> None:
        """``ValueError`` where the formula of a density is known not to integrate to 1."""
        try:
            total = self.integral(value, [self.atom(v, k) for v in e.left for k in self.components(v)])
        except ValueError:
            total = None
        if total is None or outermost(total, (AppliedUndef, *RULED)):
            self.assume(("mass", e), f"taking ${latex(e)}$ to integrate to 1")
            return
        for seed in range(2):
            number = at(total, point(total, self.domains, seed))
            if number.is_real and not close(number, sp.Integer(1)):
                raise ValueError(f"where: {e!r} integrates to {total}, which is not 1")

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
        if bottom == 0 or sp.expand(bottom) == 0:
            raise ValueError(f"division by zero in {e!r}")
        self.need_nonzero(e.bottom, bottom)
        return self.of(e.top, i) / bottom

    def _on_pow(self, e: Pow, i: int) -> sp.Expr:
        base, power = self.of(e.base, i), self.of(e.power, i)
        if power.is_integer:
            if not self.signs.never_negative(power):
                self.need_nonzero(e.base, base)
        else:
            self.need_positive(e.base, base, strict=not self.positive(power))
        return base**power

    def _on_apply(self, e: Apply, i: int) -> sp.Expr:
        if e.name == "squared_norm":
            return sp.Add(*(self.of(e.body, k) ** 2 for k in self.components(e.body)))
        body = self.of(e.body, i)
        if e.name != "exp":
            self.need_positive(e.body, body, strict=e.name == "log")
        return {"exp": sp.exp, "sqrt": sp.sqrt, "log": self.log}[e.name](body)

    def _on_call(self, e: Call, i: int) -> sp.Expr:
        args = [normal(self.of(a, k)) for a in e.args for k in self.components(a)]
        value = unknown(e.name + (f".{i}" if e.vector else ""), (), **ASSUMPTIONS[e.domain])(*args)
        self.domains[value] = e.domain
        return value

    def _on_density(self, e: Density, i: int) -> sp.Expr:
        self.open = True
        for v in (*e.left, *e.right):
            if self.definitions.of(v) is not None:
                raise ValueError(
                    f"where: {v!r} is a variable of {e!r}, which is known by name, so it cannot be defined"
                )
        left, right = ({self.atom(v, k) for v in side for k in self.components(v)} for side in (e.left, e.right))
        return marginal(e.law, left | right) / marginal(e.law, right)

    def _on_normal(self, e: Normal_, i: int) -> sp.Expr:
        total = sp.Integer(1)
        for k in self.components(e.at):
            mean, variance = self.of(e.mean, k), self.of(e.variance, k)
            self.need_variance(e.variance, variance)
            total *= sp.exp(-((self.of(e.at, k) - mean) ** 2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)
        return total

    # ---- integrals, expectations, gradients

    def bound(self, v: Symbol, *bodies: Expression) -> list[sp.Symbol]:
        """The components of a variable that an integral, expectation or gradient over ``bodies`` runs over."""
        if not isinstance(v, (Symbol, Span)):
            raise ValueError(f"a law averages over a variable, got one of {v!r}")
        if self.definitions.of(v) is not None:
            raise ValueError(f"where: {v!r} is a variable of an integral or gradient, so it cannot be defined")
        self.alone(v, *(self.definitions.unfolded(body, (Symbol, Call, Density)) for body in bodies))
        return [self.atom(v, k) for k in self.components(v)]

    def alone(self, v: Expression, *bodies: Expression) -> None:
        """x[t] beside x[s] may be one variable or two: notes that they are two, or, where s runs over a sum that may
        hold t, raises ``ValueError``.
        """
        for part, ranges in (found for body in bodies for found in with_ranges(body)):
            if not (isinstance(v, Symbol) and isinstance(part, Symbol) and part.name == v.name):
                continue
            if part.index is None or v.index is None or part.index == v.index:
                continue
            apart = linear(part.index - v.index)
            back = {letter: -n for letter, n in apart.items()}
            if len(apart) == 1 or at_least(apart, 1, ranges) or at_least(back, 1, ranges):
                continue
            if set(ranges) & set(apart):
                raise ValueError(f"{v!r} may be one of the terms of a sum over {part!r}: take that term out first")
            self.assume((v, part), f"for ${compared(apart, 0, NE)}$")

    def whole_line(self, v: Symbol) -> None:
        """``ValueError`` if a Gaussian over ``v`` would leave its domain."""
        if v.domain not in ("real", "noise"):
            raise ValueError(f"{v!r} is declared {v.domain}, and the integral runs over all real numbers")

    def rule(self, name: str) -> None:
        """Notes that a rule was used which unknown functions obey only if they are tame enough."""
        tame = "unknown functions taken to be smooth and to grow slower than the Gaussian falls"
        split = "the integral of each term taken to exist"
        self.assume(name, {"parts": tame, "inside": "the derivative taken under the integral", "split": split}[name])

    def integral(self, body: sp.Expr, over: list[sp.Symbol]) -> sp.Expr:
        """The integral over all of these, one after the other."""
        for x in over:
            v = self.symbols[x][0]
            body, back = self.sums.opened(body, x)
            if v.domain not in ("real", "noise"):
                for term in terms(body):
                    if without(term.as_independent(x, as_Add=False)[1], x) is None:
                        self.whole_line(v)
            body = self.over_line(body, x).xreplace(back)
        return body

    def over_line(self, body: sp.Expr, x: sp.Symbol) -> sp.Expr:
        """The integral over one letter; that of an open sum is the sum of the integrals."""
        parts = []
        for term in terms(body):
            sums = [f for f in sp.Mul.make_args(term) if isinstance(f, PartialSum) and x in f.free_symbols]
            if len(sums) == 1:
                letter, end = self.sums.letter(sums[0].args[0]), self.sums.typed_end(sums[0])
                inside = self.over_line(sums[0].args[0] * term / sums[0], x)
                parts.append(self.sums.partial(inside, letter, end))
                body -= term
        return integrate(
            sp.Add(*terms(body)) if parts else body,
            x,
            self.positive,
            self.rule,
        ) + sp.Add(*parts)

    @contextmanager
    def averaging(self, variables: tuple):
        """While the body of an integral or an average over these is worked out."""
        self.averaged += variables
        try:
            yield
        finally:
            del self.averaged[len(self.averaged) - len(variables) :]

    def _on_integral(self, e: Integral_, i: int) -> sp.Expr:
        with self.averaging(e.variables):
            body = self.of(e.body, i)
        return self.integral(body, [x for v in e.variables for x in self.bound(v, e.body)])

    def _on_expect(self, e: Expect_, i: int) -> sp.Expr:
        law = Normal_(e.over, wrap(0), wrap(1)) if isinstance(e.over, Symbol) else e.over
        with self.averaging(bound_by(law)):
            body = self.of(e.body, i)
        if isinstance(e.over, Symbol):
            self.independent(e.over, body)
        return self.average(body, law, i, e.body)

    def _on_kl(self, e: KL_, i: int) -> sp.Expr:
        self.proper(e.second)
        with self.averaging(bound_by(e.first)):
            body = self.log(self.of(e.first, i)) - self.log(self.of(e.second, i))
        return self.average(body, e.first, i, e.second)

    def proper(self, law: Expression) -> None:
        """``ValueError`` where the parameters of a Gaussian law hold its own variable."""
        formula = None if isinstance(law, Normal_) else self.definitions.of(law)
        law = law if formula is None else concrete(formula, self.sizes)
        if isinstance(law, Normal_):
            own = {self.atom(law.at, k) for k in self.components(law.at)} if isinstance(law.at, Symbol) else set()
            held = [self.of(part, k) for part in (law.mean, law.variance) for k in self.components(law.at)]
            if any(own & part.free_symbols for part in held):
                raise ValueError(f"over: the law of {law.at!r} depends on {law.at!r} itself")

    def independent(self, noise: Symbol, body: sp.Expr) -> None:
        """Notes which unknown functions are taken not to depend on a noise that stands beside them."""
        letters = {self.atom(noise, k) for k in self.components(noise)}
        if body.free_symbols & letters:
            for call in outermost(body, (AppliedUndef,)):
                if not call.free_symbols & letters and call.args:
                    shown = latex.name(re.split(r"[.('|]", call.func.__name__.removeprefix("density "))[0])
                    text = rf"taking ${latex(noise)}$ to be independent of the arguments of ${shown}$"
                    self.assume((noise, call.func), text)

    def average(self, body: sp.Expr, law: Expression, i: int, typed: Expression) -> sp.Expr:
        """The expectation of ``body``: over a Normal by its moments where they do, else by integration."""
        variables = bound_by(law)
        self.proper(law)
        beside = (law.mean, law.variance) if isinstance(law, Normal_) else ()
        over = [x for v in variables for x in self.bound(v, typed, *beside)]
        normal_law = law if isinstance(law, Normal_) else self.definitions.of(law)
        if isinstance(normal_law, Normal_) and isinstance(normal_law.at, Symbol) and variables == (normal_law.at,):
            self.whole_line(normal_law.at)
            result = body
            for k, x in enumerate(over):  # one component after the other
                mean, variance = (self.of(part, k) for part in (normal_law.mean, normal_law.variance))
                self.need_variance(normal_law.variance, variance)
                if result is not None:
                    opened, back = self.sums.opened(result, x)
                    result = expectation(opened, x, mean, variance)
                    result = result if result is None else result.xreplace(back)
            if result is not None:
                return result
        return self.integral(self.of(law, i) * body, over)

    def _on_grad(self, e: Grad_, i: int) -> sp.Expr:
        if e.variable.domain == "integer":
            raise ValueError(f"variable: no derivative by the integer {e.variable!r}")
        x = self.bound(e.variable, e.body)[i if e.variable.vector else 0]
        body, back = self.sums.opened(self.of(e.body, i), x)
        return derivative(body, x, self.inside).xreplace(back)

    def inside(self, part: sp.Expr, x: sp.Symbol) -> sp.Expr:
        """The derivative of an integral, a sum or a product of open length."""
        if not isinstance(part, Average):
            return self.sums.derivative(part, x)
        letter, body = part.args
        self.rule("inside")
        slope = derivative(body, x, self.inside)
        if letter.name.startswith("standard·"):
            return standard_mean(slope, letter, self.rule)
        return integrate(slope, letter, self.positive, self.rule)

    # ---- sums and products whose length is a symbol

    @contextmanager
    def inside_of(self, e: Repeat):
        """Inside the body of a sum: its letter has a range."""
        before = self.ranges
        self.ranges = {**before, e.index: (e.first, e.last)}
        try:
            yield
        finally:
            self.ranges = before

    def from_one(self, letter: Symbol) -> bool:
        """Whether the letter of a sum starts at 1 or later."""
        others = {s: r for s, r in self.ranges.items() if s != letter}
        return at_least(linear(self.ranges[letter][0]), 1, others)

    def _on_repeat(self, e: Repeat, i: int) -> sp.Expr:
        e = turned(e)
        room = linear(e.last - e.first)
        if not at_least(room, -1, self.ranges):
            if len(room) == 1 or set(room) & set(self.ranges):
                raise ValueError(f"{e!r}: its last place may come before its first")
            self.assume((e.first, e.last), f"for ${compared(room, -1, GE)}$")
        with self.inside_of(e):
            body = self.of(e.body, i)
            self.open = True
            value = self.sums.value(e, body)
        if not self.ranges and self.surely_positive(e, value):
            self.signs.facts.add(value)
        return value
