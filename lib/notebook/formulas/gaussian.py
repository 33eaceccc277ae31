r"""Integrals over the whole line of (polynomial) x exp(quadratic), term by term, with symbolic coefficients.

$\int x^k e^{-ax^2+bx+c}\,dx = e^{c+b^2/4a}\sqrt{\pi/a}\;m_k$, where $m_k$ is the k-th moment of
$\mathcal N(b/2a,\,1/2a)$ and $m_k = \text{mean}\,m_{k-1} + (k-1)\,\text{variance}\,m_{k-2}$. An unknown factor is
averaged over a standard normal, by Stein's identity $\mathbb E[z\,g(z)]=\mathbb E[g'(z)]$ where a power of z stands
before it. A density known only by name, q(z, x), integrates to its marginal; what is left over stays an unevaluated
integral, with everything free of x taken out of it, so that integration is linear on all formulas.
"""

from __future__ import annotations

import sympy as sp
from sympy.core.function import AppliedUndef

from lib.notebook.formulas.unknown import Average, fresh, is_marginal, outermost, terms, without


class Diverges(ValueError):
    """The exponent of a Gaussian integral is not known to fall."""


def moment(k: int, mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """E[x^k] for x ~ N(mean, variance)."""
    before, now = sp.Integer(1), mean
    if k == 0:
        return before
    for j in range(2, k + 1):
        before, now = now, sp.expand(mean * now + (j - 1) * variance * before)
    return now


def normal(e: sp.Expr) -> sp.Expr:
    """A rational function over one denominator, in lowest terms where that is cheap."""
    return sp.cancel(e) if e.count_ops() < 400 else sp.together(e)


def unknown_integral(inside: sp.Expr, x: sp.Symbol) -> sp.Expr:
    """An integral that stays unevaluated; the letter of integration does not matter."""
    letter = sp.Symbol(fresh("over", inside), real=True)
    calls = [call for call in outermost(inside, (AppliedUndef,)) if x in call.free_symbols]
    shifts = {a - x for call in calls for a in call.args if x in a.free_symbols}
    if len(shifts) == 1 and x not in inside.xreplace({call: sp.Dummy() for call in calls}).free_symbols:
        (shift,) = shifts  # the integral of k(x + c) is that of k(x)
        if x not in shift.free_symbols:
            inside = inside.xreplace({x: x - shift})
    return Average(letter, inside.xreplace({x: letter}))


def standard_mean(e: sp.Expr, x: sp.Symbol, rule) -> sp.Expr:
    """E[e] for a standard normal x, term by term; ``rule("parts")`` is called where Stein's identity is used."""
    total = []
    for term in terms(e):
        outside, inside = term.as_independent(x, as_Add=False)
        power = sp.Mul.make_args(inside)
        k = next((f.as_base_exp()[1] for f in power if f.as_base_exp()[0] == x), sp.Integer(0))
        rest = inside / x**k
        if rest == 1 and k.is_Integer and k >= 0:
            total.append(outside * moment(int(k), sp.Integer(0), sp.Integer(1)))
        elif k.is_Integer and k > 0 and linear_unknowns(rest, x):
            rule("parts")
            total.append(outside * standard_mean(sp.diff(x ** (k - 1) * rest, x), x, rule))
        else:
            total.append(outside * Average(x, inside))
    return sp.Add(*total)


def linear_unknowns(e: sp.Expr, x: sp.Symbol) -> bool:
    """Whether ``e`` is a polynomial in unknown functions whose arguments are linear in x, and else free of x."""
    calls = {call: sp.Dummy() for call in outermost(e, (AppliedUndef,)) if x in call.free_symbols}
    plain = e.xreplace(calls)
    linear = all(a.is_polynomial(x) and sp.degree(a, x) <= 1 for call in calls for a in call.args if a.has(x))
    return x not in plain.free_symbols and plain.is_polynomial(*calls.values()) and linear


def gaussian_integral(factor: sp.Expr, exponent: sp.Expr, x: sp.Symbol, decays, rule) -> sp.Expr:
    """The integral of factor x exp(exponent)."""
    if not exponent.is_polynomial(x) or sp.degree(exponent, x) != 2:
        return unknown_integral(factor * sp.exp(exponent), x)
    quadratic = sp.Poly(exponent, x)
    a, b, c = -quadratic.coeff_monomial(x**2), quadratic.coeff_monomial(x), quadratic.coeff_monomial(1)
    if not decays(a):
        raise Diverges(f"the integral over {x} of exp({exponent}) is not known to converge")
    a = normal(a)
    mean, variance = normal(b / (2 * a)), normal(1 / (2 * a))
    scale = sp.exp(normal(c + b**2 / (4 * a))) * sp.sqrt(2 * sp.pi * variance)
    average = expectation(factor, x, mean, variance)
    return scale * (unknown_expectation(factor, x, mean, variance, rule) if average is None else average)


def unknown_expectation(e: sp.Expr, x: sp.Symbol, mean: sp.Expr, variance: sp.Expr, rule) -> sp.Expr:
    """E[e] for x ~ N(mean, variance) and an ``e`` that is no polynomial, as averages over a standard normal."""
    standard = sp.Symbol(fresh("standard", e), real=True)
    moved = e.xreplace({x: mean + sp.sqrt(variance) * standard})
    moved = moved.replace(lambda f: isinstance(f, AppliedUndef), lambda f: f.func(*map(normal, f.args)))
    return standard_mean(moved, standard, rule)


def integrate(e: sp.Expr, x: sp.Symbol, decays, rule=lambda name: None) -> sp.Expr:
    """The integral of ``e`` over all x; ``decays(a)`` says whether a > 0 on the domain of the symbols,
    and ``rule(name)`` is told of "parts" and "inside", which need tame functions, and of "split".
    """
    groups: dict = {}
    result: list = []
    unweighted = 0  # integrals of functions beside which no density stands
    for term in terms(e):
        outside, inside = term.as_independent(x, as_Add=False)
        factors = sp.Mul.make_args(inside)
        exponent = sp.Add(*(f.exp for f in factors if isinstance(f, sp.exp)))
        factor = sp.Mul(*(f for f in factors if not isinstance(f, sp.exp)))
        if (kept := without(inside, x)) is not None:
            if not is_marginal(inside):
                rule("inside")
            result.append(outside * kept)
        elif exponent == 0:
            if x not in inside.free_symbols and outside != 0:
                raise Diverges(f"the integral over all {x} of {outside} does not converge")
            unweighted += not any(is_marginal(part) for part in outermost(inside, (AppliedUndef,)))
            result.append(outside * unknown_integral(inside, x))
        elif factor.is_polynomial(x):
            groups.setdefault(exponent, []).append(outside * factor)
        else:
            result.append(outside * gaussian_integral(factor, sp.expand(exponent), x, decays, rule))
    if unweighted > 1:
        rule("split")
    result += [gaussian_integral(sp.Add(*parts), sp.expand(u), x, decays, rule) for u, parts in groups.items()]
    return sp.Add(*result)


def expectation(e: sp.Expr, x: sp.Symbol, mean: sp.Expr, variance: sp.Expr) -> sp.Expr | None:
    """E[e] for x ~ N(mean, variance) by moments, or None if ``e`` is not a polynomial in x."""
    if not e.is_polynomial(x):
        return None
    return sp.Add(*(value * moment(k, mean, variance) for (k,), value in sp.Poly(e, x).terms()))
