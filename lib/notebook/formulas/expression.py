r"""Formulas as they are typed: a small tree that keeps the author's order of terms and never rearranges
anything.

Authors write formulas with ``lib.notebook.formulas.language``. Three readers walk over the same tree:
``lib.notebook.formulas.printing`` displays it, ``lib.notebook.formulas.algebra`` turns it into sympy, and
``lib.notebook.formulas.finite`` computes it on finite probability models. What is displayed is therefore
what was checked.

"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from fractions import Fraction
from typing import Any, ClassVar, dataclass_transform


class Interned(type):
    """Makes equal formulas one object, so that comparing and hashing them costs nothing however deep they
    are.
    """

    known: ClassVar[dict] = {}

    def __call__(cls, *parts, **named):
        """The one object for these parts."""
        made = super().__call__(*parts, **named)
        return Interned.known.setdefault((cls, *(getattr(made, f.name) for f in fields(made))), made)


class Expression(metaclass=Interned):
    """A formula. Immutable; ``==`` compares what was typed, not what it is worth.

    ``printer`` writes its ``repr``: that of ``lib.notebook.formulas.printing``, once it is imported.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # every kind of formula is a dataclass
    printer: ClassVar[Callable[[Any], str]] = object.__repr__

    def __add__(self, other):
        return Add((*(self.terms if isinstance(self, Add) else (self,)), wrap(other)))

    def __radd__(self, other):
        return wrap(other) + self

    def __sub__(self, other):
        return self + Neg(wrap(other))

    def __rsub__(self, other):
        return wrap(other) - self

    def __mul__(self, other):
        return Mul((*(self.factors if isinstance(self, Mul) else (self,)), wrap(other)))

    def __rmul__(self, other):
        return wrap(other) * self

    def __truediv__(self, other):
        return Div(self, wrap(other))

    def __rtruediv__(self, other):
        return Div(wrap(other), self)

    def __pow__(self, other):
        return Pow(self, wrap(other))

    def __rpow__(self, other):
        return Pow(wrap(other), self)

    def __neg__(self):
        return Neg(self)

    def __or__(self, other):
        return Given(self, wrap(other))

    def __repr__(self) -> str:
        return Expression.printer(self)

    def __bool__(self) -> bool:
        raise ValueError(f"a formula has no truth value, got {self!r}; compare formulas with Derivation.step")


@dataclass_transform(frozen_default=True, eq_default=False)
def node(cls: type) -> type:
    """A kind of formula, given by its fields."""
    return dataclass(frozen=True, eq=False, repr=False)(cls)


@node
class Number(Expression):
    """A whole number, at least 0."""

    value: Fraction


@node
class Symbol(Expression):
    """A letter, perhaps with an index."""

    name: str
    domain: str = "real"
    index: Expression | None = None
    vector: bool = False
    latex: str | None = None


@node
class Span(Expression):
    """The symbols of a family from one index to another, both included: $x_{1:T}$."""

    family: Symbol
    first: Expression
    last: Expression


@node
class Given(Expression):
    """``left | right``, until a law makes a density of it."""

    left: Expression
    right: Expression


@node
class Add(Expression):
    """A sum, in the typed order."""

    terms: tuple


@node
class Mul(Expression):
    """A product, in the typed order."""

    factors: tuple


@node
class Neg(Expression):
    """The negative of ``body``."""

    body: Expression


@node
class Div(Expression):
    """A fraction."""

    top: Expression
    bottom: Expression


@node
class Pow(Expression):
    """A power."""

    base: Expression
    power: Expression


@node
class Apply(Expression):
    """One of the known functions ``exp``, ``log``, ``sqrt``, ``squared_norm``."""

    name: str
    body: Expression


@node
class Call(Expression):
    """An unknown function: nothing is assumed about it."""

    name: str
    args: tuple
    domain: str = "real"
    vector: bool = False


@node
class Density(Expression):
    """``law(left | right)``; ``shown`` is the LaTeX of the letter where it is not the law's name."""

    law: str
    left: tuple
    right: tuple
    shown: str


@node
class Normal_(Expression):
    """The density of a Gaussian at ``at``."""

    at: Expression
    mean: Expression
    variance: Expression


@node
class Expect_(Expression):
    """The expectation of ``body`` over a density, a Gaussian or a noise."""

    body: Expression
    over: Expression


@node
class KL_(Expression):
    """The Kullback-Leibler divergence of ``first`` from ``second``."""

    first: Expression
    second: Expression


@node
class Integral_(Expression):
    """The integral of ``body`` over the whole range of the variables."""

    body: Expression
    variables: tuple


@node
class Repeat(Expression):
    """``kind`` of ``body`` for ``index`` from ``first`` to ``last``: a sum, or a product."""

    kind: str
    body: Expression
    index: Symbol
    first: Expression
    last: Expression


@node
class Grad_(Expression):
    """The derivative of ``body`` by a scalar variable."""

    body: Expression
    variable: Symbol


@node
class Group(Expression):
    """``body`` in visible brackets, or, with a label, over an underbrace; worth the same as ``body``."""

    body: Expression
    label: str | None = None


def wrap(value) -> Expression:
    """A formula from an int, a Fraction or a formula; else, above all for floats, a ``ValueError``."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, Fraction):
        return Div(Number(Fraction(value.numerator)), Number(Fraction(value.denominator)))
    if isinstance(value, int) and not isinstance(value, bool):
        return Number(Fraction(value)) if value >= 0 else Neg(Number(Fraction(-value)))
    hint = "; write frac(1, 2) instead of 0.5 or 1 / 2" if isinstance(value, float) else ""
    raise ValueError(f"a formula is made of formulas, integers and Fractions, got {value!r}{hint}")


def rebuild(expression: Expression, change) -> Expression:
    """The same node with ``change`` applied to every formula directly inside it."""

    def inside(part):
        if isinstance(part, tuple):
            return tuple(inside(p) for p in part)
        return change(part) if isinstance(part, Expression) else part

    parts = [getattr(expression, f.name) for f in fields(expression)]
    new = [inside(p) for p in parts]
    return type(expression)(*new)


def children(expression: Expression) -> list[Expression]:
    """The formulas directly inside ``expression``, in the order in which they are typed."""
    found = []
    for part in (getattr(expression, f.name) for f in fields(expression)):
        found += [p for p in (part if isinstance(part, tuple) else (part,)) if isinstance(p, Expression)]
    return found


def replace(expression: Expression, table: dict) -> Expression:
    """``expression`` with every formula that is a key of ``table`` replaced by its value, outermost first."""
    if expression in table:
        return table[expression]
    return rebuild(expression, lambda part: replace(part, table))


def walk(expression: Expression):
    """Every formula inside ``expression``, itself first."""
    yield expression
    for part in children(expression):
        yield from walk(part)
