r"""How a formula is written.

With ``+ - * / **``, in the order in which it shall be read, and with the functions of this file:

    z, mu = symbols("z mu")                      real numbers
    sigma = symbol("sigma", "positive")
    x, alphabar = family("x"), family("alphabar", "unit")
    x[t - 1], alphabar[t], x[1:T]                indexed symbols; ``1:T`` includes both ends, as in $x_{1:T}$
    frac(1, 2) * (mu**2 + sigma**2)              ``1 / 2`` would be a float, which no formula accepts
    Normal(z, mu, sigma**2)                      the density N(z; mu, sigma^2)
    p = Law("p", z, x | z); p(x | z), p(x, z)    densities of a law (``lib.notebook.formulas.finite``)
    Expect(log(p(x | z)), over=q(z | x))         an expectation, over a density, a Normal or a noise
    KL(q(z | x), p(z)),  Integral(f, z),  Sum(f, t, 2, T),  Product(f, t, 1, T),  Grad(f, x)

"""

from __future__ import annotations

import re

from lib.notebook.formulas.expression import (
    KL_,
    Apply,
    Call,
    Density,
    Div,
    Expect_,
    Expression,
    Grad_,
    Group,
    Integral_,
    Normal_,
    Repeat,
    Span,
    Symbol,
    wrap,
)

DOMAINS = ("real", "positive", "unit", "integer", "noise")


def symbol(name: str, domain: str = "real", latex: str | None = None) -> Symbol:
    r"""A scalar symbol.

    ``domain`` says which values it takes: ``real``, ``positive``, ``unit`` (strictly between 0 and 1),
    ``integer`` or ``noise`` (a standard normal, independent of all else). Names print as usual: ``mu``,
    ``sigma_q``, ``betatilde`` ($\tilde\beta$), ``alphabar``, ``xhat``; ``latex`` overrides. Raises
    ``ValueError`` for another domain or an empty name.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise ValueError(f"name: wanted a word of letters, digits and underscores, got {name!r}")
    if domain not in DOMAINS:
        raise ValueError(f"domain: wanted one of {', '.join(DOMAINS)}, got {domain!r}")
    return Symbol(name, domain, latex=latex)


def symbols(names: str, domain: str = "real") -> tuple[Symbol, ...]:
    """Several scalar symbols of one domain: ``x, y = symbols("x y")``."""
    if not isinstance(names, str) or not names.split():
        raise ValueError(f"names: wanted words separated by blanks, got {names!r}")
    return tuple(symbol(name, domain) for name in names.split())


def vector(name: str, domain: str = "real", latex: str | None = None) -> Symbol:
    """A vector of unknown dimension; it may stand in ``squared_norm``, ``Normal`` and in arguments of
    functions.
    """
    plain = symbol(name, domain, latex)
    return Symbol(plain.name, plain.domain, vector=True, latex=latex)


def noise(name: str, vector: bool = False) -> Symbol:
    """A standard normal variable, independent of every other symbol (a vector: each component is one)."""
    return Symbol(symbol(name, "noise").name, "noise", vector=vector)


class family:
    """Indexed symbols: ``x = family("x")`` gives ``x[t]``, ``x[t - 1]``, ``x[0]`` and the span ``x[1:T]``.

    The ends of a span both belong to it, as in the papers (and unlike in Python).
    """

    def __init__(self, name: str, domain: str = "real", latex: str | None = None, vector: bool = False):
        self.base = Symbol(symbol(name, domain).name, domain, vector=vector, latex=latex)

    def __getitem__(self, index) -> Expression:
        if isinstance(index, slice):
            if index.start is None or index.stop is None or index.step is not None:
                raise ValueError(f"index: wanted first:last, both included, got {index!r}")
            return Span(self.base, wrap(index.start), wrap(index.stop))
        return Symbol(self.base.name, self.base.domain, wrap(index), self.base.vector, self.base.latex)


def function(name: str, domain: str = "real", vector: bool = False):
    r"""An unknown function, such as a network: ``guess = function("epsilon_theta"); guess(x[t], t)``."""
    symbol(name, domain)

    def call(*args) -> Call:
        return Call(name, tuple(wrap(a) for a in args), domain, vector)

    return call


# ------------------------------------------------------------ operations

pi = Symbol("pi", "constant")  # not symbol("pi"), which is a letter like any other


def _variables(name: str, *variables, kinds: tuple = (Symbol,)) -> None:
    """``ValueError`` unless all are of these kinds, and no constant."""
    if not variables or any(not isinstance(v, kinds) or v == pi for v in variables):
        raise ValueError(f"{name}: wanted symbols that can vary, got {variables!r}")


def frac(top, bottom) -> Expression:
    """A fraction: ``frac(1, 2)``."""
    return Div(wrap(top), wrap(bottom))


def exp(body) -> Expression:
    """The exponential."""
    return Apply("exp", wrap(body))


def log(body) -> Expression:
    """The natural logarithm."""
    return Apply("log", wrap(body))


def sqrt(body) -> Expression:
    """The square root."""
    return Apply("sqrt", wrap(body))


def squared_norm(body) -> Expression:
    r"""$\lVert v\rVert^2$, the sum of squares over the components."""
    return Apply("squared_norm", wrap(body))


def bracket(body) -> Expression:
    """``body`` in brackets that stay visible even where precedence would not need them."""
    return Group(wrap(body))


def brace(body, label: str) -> Expression:
    r"""``body`` with an underbrace and a name in LaTeX: ``brace(KL(...), "L_T")``.

    Nobody checks a label, so a derivation refuses one with a relation (=, <, \approx...) in it: what ``body``
    is worth is said by a step.
    """
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"label: wanted LaTeX text, got {label!r}")
    return Group(wrap(body), label)


def Normal(at, mean, variance) -> Expression:
    r"""The density $\mathcal N(x;\mu,\sigma^2)$ (of a vector: independent components of equal variance)."""
    return Normal_(wrap(at), wrap(mean), wrap(variance))


def bound_by(over: Expression) -> tuple:
    """The variables that an expectation over ``over`` averages out."""
    if isinstance(over, Normal_):
        return (over.at,)
    return over.left if isinstance(over, Density) else (over,)


def Expect(body, over) -> Expression:
    r"""$\mathbb E_{over}[body]$; ``over`` is a density ``q(z | x)``, a ``Normal(z, ...)`` or a noise."""
    if not isinstance(over, (Density, Normal_)) and not (isinstance(over, Symbol) and over.domain == "noise"):
        raise ValueError(f"over: wanted a density, a Normal or a noise symbol, got {over!r}")
    if isinstance(over, Normal_) and (not isinstance(over.at, Symbol) or over.at == pi):
        raise ValueError(f"over: a Normal of a variable, got a Normal of {over.at!r}")
    return Expect_(wrap(body), over)


def KL(first, second) -> Expression:
    r"""$\mathrm{KL}(first\,\|\,second)$ of two densities, or two ``Normal``s, of the same variables."""
    for name, law in (("first", first), ("second", second)):
        if not isinstance(law, (Density, Normal_)):
            raise ValueError(f"{name}: wanted a density or a Normal, got {law!r}")
    if pi in bound_by(first):
        raise ValueError(f"first: wanted a density of what can vary, got one of the constant {pi!r}")
    if set(bound_by(first)) != set(bound_by(second)):
        raise ValueError(f"second: wanted a density of {list(bound_by(first))}, got one of {list(bound_by(second))}")
    return KL_(first, second)


def Integral(body, *variables) -> Expression:
    """The integral over the whole range of each variable."""
    _variables("variables", *variables, kinds=(Symbol, Span))
    return Integral_(wrap(body), variables)


def repeat(kind: str, body, index, first, last) -> Expression:
    """A sum or a product of known kind; see ``Sum`` and ``Product``."""
    if not isinstance(index, Symbol) or index.domain != "integer":
        raise ValueError(f"index: wanted a symbol of domain integer, got {index!r}")
    return Repeat(kind, wrap(body), index, wrap(first), wrap(last))


def Sum(body, index, first, last) -> Expression:
    r"""$\sum_{index=first}^{last} body$."""
    return repeat("sum", body, index, first, last)


def Product(body, index, first, last) -> Expression:
    r"""$\prod_{index=first}^{last} body$."""
    return repeat("product", body, index, first, last)


def Grad(body, variable) -> Expression:
    r"""$\nabla_{variable}\,body$ for a scalar variable."""
    _variables("variable", variable)
    return Grad_(wrap(body), variable)
