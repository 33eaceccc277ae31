r"""What sympy shall know of things of which only rules are known: functions, densities, integrals, sums of open length.

Each is a sympy function that stays as it is. Derivatives follow the rules: an unknown function's derivative is again an
unknown function; an integral or a sum is differentiated inside.
"""

from __future__ import annotations

import re

import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction


def unknown(name: str, orders: tuple = (), **assumptions) -> UndefinedFunction:
    """The function ``name``, differentiated by its arguments of the numbers ``orders``."""

    def fdiff(self, argindex=1):
        return unknown(name, tuple(sorted((*orders, argindex))), real=True)(*self.args)

    shown = name + "".join(f"'{k}" for k in orders)
    return UndefinedFunction(shown, (AppliedUndef,), {"fdiff": fdiff}, **(assumptions or {"real": True}))


def marginal(law: str, variables) -> sp.Expr:
    """The density, known by name only, of a set of variables under a law; of none of them it is 1.

    The variables are part of the name, since those of an integral may be written in other letters later.
    """
    names = sorted(variables, key=str)
    return named(law, tuple(map(str, names)), ())(*names) if names else sp.Integer(1)


def named(law: str, variables: tuple[str, ...], orders: tuple[int, ...]) -> UndefinedFunction:
    """A marginal density as a function, differentiated by its arguments of the numbers ``orders``."""
    return unknown(
        f"density {law}({'|'.join(variables)})", orders, **({"real": True} if orders else {"positive": True})
    )


def is_marginal(e: sp.Expr) -> bool:
    """Whether ``e`` is one of the densities that ``marginal`` makes."""
    return isinstance(e, AppliedUndef) and e.func.__name__.startswith("density ") and "'" not in e.func.__name__


def without(e: sp.Expr, x: sp.Symbol) -> sp.Expr | None:
    """The integral over ``x`` of a density known by name, or of a derivative of one by its other variables;
    else None.
    """
    if not (isinstance(e, AppliedUndef) and e.func.__name__.startswith("density ") and x in e.args):
        return None
    name, *orders = e.func.__name__.split("'")
    law, variables = name.removeprefix("density ").removesuffix(")").split("(")
    place = e.args.index(x)
    if str(place + 1) in orders or e.args.count(x) > 1:
        return None
    rest = [a for a in e.args if a != x]
    kept = tuple(v for k, v in enumerate(variables.split("|")) if k != place)
    return named(law, kept, tuple(int(k) - (int(k) > place + 1) for k in orders))(*rest) if rest else sp.Integer(1)


class Average(sp.Function):
    """``Average(x, f)``: the integral of f over x; over a letter "standard·k" weighted by the standard normal
    density.
    """

    nargs = 2
    is_real = True


class PartialSum(sp.Function):
    """``PartialSum(f, n)``: some S with S(n) - S(n - 1) = f(n); f is written in a letter "running·k"."""

    nargs = 2
    is_real = True


class PartialProduct(sp.Function):
    """``PartialProduct(f, n)``: some P with P(n) = f(n) P(n - 1), where f may have either sign."""

    nargs = 2
    is_real = True


RULED = (Average, PartialSum, PartialProduct)


def fresh(kind: str, e: sp.Expr, but: str = "") -> str:
    """A name "kind·k" that is not in ``e`` (``but`` may be): bound letters are named by depth, so they do not
    matter.
    """
    return f"{kind}·{1 + max((k for k in depths(kind, e) if f'{kind}·{k}' != but), default=-1)}"


def depths(kind: str, e: sp.Expr) -> set[int]:
    """The k of all letters "kind·k" in ``e``, also in indices."""
    return {int(k) for s in e.free_symbols for k in re.findall(rf"{kind}·(\d+)", s.name)}


def terms(e: sp.Expr) -> tuple:
    """The terms of ``e`` multiplied out; powers and logarithms stay as they are."""
    return sp.Add.make_args(sp.expand(e, power_exp=False, power_base=False, log=False))


def outermost(e: sp.Expr, kinds: tuple) -> set:
    """The parts of ``e`` of some kinds that lie in no other such part."""
    if isinstance(e, kinds):
        return {e}
    return set().union(*(outermost(part, kinds) for part in e.args)) if e.args else set()


def derivative(e: sp.Expr, x: sp.Symbol, inside) -> sp.Expr:
    """de/dx; ``inside(part, x)`` gives the derivative of an ``Average``, a sum or a product."""
    parts = {part: sp.Dummy(real=True) for part in outermost(e, RULED) if x in part.free_symbols}
    back = {letter: part for part, letter in parts.items()}
    plain = e.xreplace(parts)
    chain = [sp.diff(plain, letter).xreplace(back) * inside(part, x) for part, letter in parts.items()]
    return sp.Add(sp.diff(plain, x).xreplace(back), *chain)
