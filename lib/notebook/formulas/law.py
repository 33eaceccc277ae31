"""Joint distributions given by their factors, and the densities that they write."""

from __future__ import annotations

from lib.notebook.formulas.concrete import concrete, unrolled
from lib.notebook.formulas.expression import Density, Given, Number, Span, Symbol, wrap
from lib.notebook.formulas.language import symbol


def conditioned(args: tuple) -> tuple[tuple, tuple]:
    """Variables left and right of the bar in ``(a, b | c, d)``; ``ValueError`` for anything but symbols and
    spans.
    """
    left: list = []
    right: list | None = None
    for arg in args:
        parts: list = []
        e = arg
        while isinstance(e, Given):
            parts, e = [e.right, *parts], e.left
        if right is not None:
            if parts:
                raise ValueError(f"a density has one bar, got {args!r}")
            right.append(e)
            continue
        left.append(e)
        if parts:
            right = parts
    for e in [*left, *(right or [])]:
        if not isinstance(e, (Symbol, Span)):
            raise ValueError(f"a density is of symbols and spans, got {e!r}")
    if not left:
        raise ValueError("a density needs a variable")
    return tuple(left), tuple(right or ())


def circular(factors: list[tuple[tuple, tuple]], known: set) -> Symbol:
    """A variable that depends on itself by way of ``factors``, none of which has only ``known`` conditions."""
    conditions = {v: next(w for w in right if w not in known) for left, right in factors for v in left}
    seen, v = [], next(iter(conditions))
    while v not in seen:
        seen.append(v)
        v = conditions[v]
    return v


class every:
    """Factors of a chain: ``every(t, 1, T, x[t] | x[t - 1])``."""

    def __init__(self, index: Symbol, first, last, *factor):
        if not isinstance(index, Symbol) or index.domain != "integer":
            raise ValueError(f"index: wanted a symbol of domain integer, got {index!r}")
        self.index, self.first, self.last, self.factor = index, wrap(first), wrap(last), conditioned(factor)


class Law:
    r"""A joint distribution given by its factors; calling it writes a density: ``p(x | z)``, ``q(x[1:T] |
    x[0])``.

    A factor is a variable, ``x | z``, a tuple ``(x | z, y)`` for two conditions, or ``every(...)``. A
    variable that only stands behind bars (x in ``Law("q", z | x)``) has no distribution of its own:
    ``q(z)`` is then refused. ``latex`` is how the letter is shown; ``p.shown_as("p")`` writes the same law
    otherwise (the prior of $p_\theta$ without its $\theta$). A derivation refuses a law whose factors
    contradict each other: a variable that two of them give, or one that depends on itself.
    """

    def __init__(self, name: str, *factors, latex: str | None = None):
        symbol(name)
        self._name, self._latex = name, latex
        self._factors = tuple(
            f if isinstance(f, every) else conditioned(f if isinstance(f, tuple) else (f,)) for f in factors
        )

    @property
    def name(self) -> str:
        """The name, by which derivations tell laws apart."""
        return self._name

    @property
    def latex(self) -> str | None:
        """How the letter is shown, if not by its name."""
        return self._latex

    @property
    def factors(self) -> tuple:
        """The factors: (left, right), or ``every``."""
        return self._factors

    def __call__(self, *args) -> Density:
        """A density of this law."""
        return Density(self.name, *conditioned(args), self.latex or "")

    def shown_as(self, latex: str) -> Law:
        """The same law, displayed with another letter."""
        other = Law(self.name, latex=latex)
        other._factors = self._factors
        return other

    def expand(self, values: dict) -> list[tuple[tuple, tuple]]:
        """The factors as (left, right) with all indices numbers; ``ValueError`` if an end of a chain stays
        open, or the factors contradict each other.
        """
        result = []
        for f in self.factors:
            if not isinstance(f, every):
                result.append((f, values))
                continue
            low, high = (concrete(end, values) for end in (f.first, f.last))
            if not (isinstance(low, Number) and isinstance(high, Number)):
                raise ValueError(f"sizes: give values of {f.last!r} for the chain of {self.name}, such as (2, 3, 4)")
            result += [(f.factor, {**values, f.index: k}) for k in range(int(low.value), int(high.value) + 1)]
        factors = [(unrolled(left, at), unrolled(right, at)) for (left, right), at in result]
        for v in (v for factor in factors for side in factor for v in side):
            if isinstance(v, Span):
                raise ValueError(f"sizes: give values of {v.last!r} for {v!r} in the law {self.name}")
        self.consistent(factors)
        return factors

    def consistent(self, factors: list[tuple[tuple, tuple]]) -> None:
        """Raises ``ValueError`` unless every variable has one factor and none depends on itself."""
        given = [v for left, _ in factors for v in left]
        for v in given:
            if given.count(v) > 1:
                raise ValueError(f"law {self.name}: {v!r} is given by more than one factor, or twice by one")
        waiting, known = list(factors), {v for _, right in factors for v in right} - set(given)
        while waiting:
            ready = [(left, right) for left, right in waiting if known.issuperset(right)]
            if not ready:
                raise ValueError(f"law {self.name}: {circular(waiting, known)!r} depends on itself")
            known.update(v for left, _ in ready for v in left)
            waiting = [factor for factor in waiting if factor not in ready]
