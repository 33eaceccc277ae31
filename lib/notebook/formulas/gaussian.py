r"""Integrals over the whole line of (polynomial) x exp(quadratic), term by term, with symbolic coefficients.

$\int x^k e^{-ax^2+bx+c}\,dx = e^{c+b^2/4a}\sqrt{\pi/a}\;m_k$, where $m_k$ is the k-th moment of $\mathcal
N(b/2a,\,1/2a)$ and $m_k = \text{mean}\,m_{k-1} + (k-1)\,\text{variance}\,m_{k-2}$. A density known only by
name, q(z, x), integrates to its marginal; what is left over stays an unevaluated integral, with everything
free of x taken out of it, so that integration is linear on all formulas.

"""

from __future__ import annotations

import re

import sympy as sp
from sympy.core.function import AppliedUndef


class Diverges(ValueError):
    """The exponent of a Gaussian integral grows."""


def marginal(law: str, variables) -> sp.Expr:
    """The density, known by name only, of a set of variables under a law; of none of them it is 1."""
    names = sorted(variables, key=str)
    return sp.Function(f"density {law}", positive=True)(*names) if names else sp.Integer(1)


def is_marginal(e: sp.Expr) -> bool:
    """Whether ``e`` is one of the densities that ``marginal`` makes."""
    return isinstance(e, AppliedUndef) and e.func.__name__.startswith("density ")


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
    """An integral that stays unevaluated."""
    return sp.Function("integral", real=True)(x, inside)


def gaussian_integral(factor: sp.Expr, exponent: sp.Expr, x: sp.Symbol, decays) -> sp.Expr:
    """The integral of factor x exp(exponent); an unknown factor is averaged over a standard normal."""
    if not exponent.is_polynomial(x) or sp.degree(exponent, x) != 2:
        return unknown_integral(factor * sp.exp(exponent), x)
    quadratic = sp.Poly(exponent, x)
    a, b, c = -quadratic.coeff_monomial(x**2), quadratic.coeff_monomial(x), quadratic.coeff_monomial(1)
    if not decays(a):
        raise Diverges(f"the integral over {x} of exp({exponent}) does not converge")
    a = normal(a)
    mean, variance = normal(b / (2 * a)), normal(1 / (2 * a))
    scale = sp.exp(normal(c + b**2 / (4 * a))) * sp.sqrt(2 * sp.pi * variance)
    average = expectation(factor, x, mean, variance)
    if average is None:  # named by depth, so that the letter of integration does not matter
        depths = [int(n) for s in factor.free_symbols for n in re.findall(r"standard (\d+)", s.name)]
        standard = sp.Symbol(f"standard {1 + max(depths, default=-1)}", real=True)
        moved = factor.xreplace({x: mean + sp.sqrt(variance) * standard})
        average = unknown_integral(
            moved.replace(lambda f: isinstance(f, AppliedUndef), lambda f: f.func(*map(normal, f.args))),
            standard,
        )
    return scale * average


def integrate(e: sp.Expr, x: sp.Symbol, decays) -> sp.Expr:
    """The integral of ``e`` over all x; ``decays(a)`` says whether a > 0 on the domain of the symbols."""
    e = sp.expand(e, power_exp=False, power_base=False, log=False)
    groups: dict = {}
    result: list = []
    for term in sp.Add.make_args(e):
        outside, inside = term.as_independent(x, as_Add=False)
        factors = sp.Mul.make_args(inside)
        exponent = sp.Add(*(f.exp for f in factors if isinstance(f, sp.exp)))
        factor = sp.Mul(*(f for f in factors if not isinstance(f, sp.exp)))
        if is_marginal(inside) and x in inside.args:
            law = inside.func.__name__.removeprefix("density ")
            result.append(outside * marginal(law, set(inside.args) - {x}))
        elif exponent == 0:
            result.append(outside * unknown_integral(inside, x))
        elif factor.is_polynomial(x):
            groups.setdefault(exponent, []).append(outside * factor)
        else:
            result.append(outside * gaussian_integral(factor, sp.expand(exponent), x, decays))
    result += [gaussian_integral(sp.Add(*parts), sp.expand(u), x, decays) for u, parts in groups.items()]
    return sp.Add(*result)


def expectation(e: sp.Expr, x: sp.Symbol, mean: sp.Expr, variance: sp.Expr) -> sp.Expr | None:
    """E[e] for x ~ N(mean, variance) by moments, or None if ``e`` is not a polynomial in x."""
    if not e.is_polynomial(x):
        return None
    return sp.Add(*(value * moment(k, mean, variance) for (k,), value in sp.Poly(e, x).terms()))
