r"""Why an inequality holds: a divergence, a square, Jensen's inequality, a tangent or a declared domain.

No number of samples makes an inequality true. ``certificate`` looks for a chain of rewritings from one side to
the other, each of which can only make the value larger (or only smaller), and leaves the equations between
them to a function that proves or tests equations.

"""

from __future__ import annotations

from fractions import Fraction
from itertools import chain, combinations, islice
from math import inf

from lib.notebook.formulas.concrete import constant
from lib.notebook.formulas.expression import (
    KL_,
    Add,
    Apply,
    Call,
    Density,
    Div,
    Expect_,
    Expression,
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
from lib.notebook.formulas.language import bound_by
from lib.notebook.formulas.printing import latex

CANDIDATES = 200  # divergences that are tried
JENSEN = {
    "log": r"by Jensen's inequality for the logarithm",
    "exp": r"by Jensen's inequality for the exponential",
    "sqrt": r"by Jensen's inequality for the root",
    "square": r"by Jensen's inequality for the square",
}
TANGENT = {"log": r"by $\log u\le u-1$", "exp": r"by $e^u\ge 1+u$"}
DOMAINS = {"positive": (0, inf), "unit": (0, 1), "integer": (1, inf)}


def certificate(lhs: Expression, rhs: Expression, relation: str, equal) -> str | None:
    """The ground of ``lhs >= rhs`` or ``lhs <= rhs``, in words with ``$math$``; None if none is found.

    ``equal(a, b)`` says whether two formulas are equal, and is asked only about equations on which the ground
    rests. A ground is one of these: both sides are the same but for terms that are never negative (KL
    divergences, squares, what declared domains make so); the gap is a KL divergence, or an average of one,
    between densities of the lines' laws; one side becomes the other by at most two uses, at places where the
    value can only grow, of Jensen's inequality (for log, exp, square and root), of log u <= u - 1 or of
    e^u >= 1 + u. Normals and densities are taken to be normalised, so a density that ``where`` defines
    otherwise must be written out before. Variables of integrals, noises and Normals have to be real: what an
    integral over a positive symbol runs over is not for this function to say.
    """
    larger, smaller = (lhs, rhs) if relation == ">=" else (rhs, lhs)
    if any(v.domain in DOMAINS for v in running(larger) | running(smaller)):
        return None
    found = dropped(larger, smaller)
    if found is not None:
        return found
    if equal(larger, smaller):
        return "both sides are equal"
    down, up = list(rewritings(larger, -1)), list(rewritings(smaller, 1))
    once = [(new, smaller, why) for new, why in down] + [(larger, new, why) for new, why in up]
    for proves in (lambda a, b: dropped(a, b) is not None, equal):
        for a, b, why in once:
            if proves(a, b):
                return why
    for divergence in islice(divergences(larger, smaller), CANDIDATES):
        if equal(larger, smaller + divergence):
            return f"the gap is ${latex(divergence)}$"
    twice = [(a, c, why, other) for a, b, why in once for c, other in rewritings(b, 1)]
    twice += [(c, b, why, other) for a, b, why in once for c, other in rewritings(a, -1)]
    for a, b, why, other in twice:
        if dropped(a, b) is not None or equal(a, b):
            return why if other == why else f"{why}, and {other}"
    return None


# ------------------------------------------------------------ bounds


def times(a, b):
    """A product of bounds, with 0 times infinity 0."""
    return 0 if not a or not b else a * b


def product(a: tuple, b: tuple) -> tuple:
    """Bounds of a product."""
    ends = [times(x, y) for x in a for y in b]
    return min(ends), max(ends)


def bounds(e: Expression) -> tuple:
    """A lower and an upper bound of ``e`` wherever it has a value, from declared domains, squares and
    divergences alone.
    """
    number = constant(e)
    if number is not None:
        return number, number
    if isinstance(e, (Symbol, Call)):
        return DOMAINS.get(e.domain, (-inf, inf))
    if isinstance(e, (Density, Normal_)):
        return 0, inf
    if isinstance(e, KL_):
        return (0, inf) if normalised(e.first) and normalised(e.second) else (-inf, inf)
    if isinstance(e, Group):
        return bounds(e.body)
    if isinstance(e, Neg):
        return product((-1, -1), bounds(e.body))
    if isinstance(e, Add):
        ends = [bounds(term) for term in e.terms]
        return sum(low for low, _ in ends), sum(high for _, high in ends)
    if isinstance(e, Mul):
        total, square = (1, 1), len(set(e.factors)) == 1 and len(e.factors) % 2 == 0
        for factor in e.factors:
            total = product(total, bounds(factor))
        return (max(0, total[0]), total[1]) if square else total
    if isinstance(e, Div):
        low, high = bounds(e.bottom)
        inverse = (0, 1 / Fraction(low) if low > 0 else inf) if low >= 0 else (-inf, 0) if high <= 0 else (-inf, inf)
        low, high = product(bounds(e.top), inverse)
        return low, (min(high, 1) if low >= 0 and least(remainder(e.bottom, e.top)) >= 0 else high)
    if isinstance(e, Pow):
        return bounds_of_power(bounds(e.base), constant(e.power))
    if isinstance(e, Apply):
        return bounds_of_function(e.name, bounds(e.body))
    if isinstance(e, Expect_) and normalised(e.over):
        return bounds(e.body)
    if isinstance(e, (Integral_, Repeat)):
        low, high = bounds(e.body)
        if isinstance(e, Repeat) and e.kind == "product":
            return (0, 1 if high <= 1 else inf) if low >= 0 else (-inf, inf)
        return 0 if low >= 0 else -inf, 0 if high <= 0 else inf
    return -inf, inf


def bounds_of_power(base: tuple, power: Fraction | None) -> tuple:
    """Bounds of a power: of an even one, or of a base that is not negative."""
    low, high = base
    if power is None or power < 0:
        return (0, inf) if low >= 0 or (power is not None and not power % 2) else (-inf, inf)
    if low < 0:
        return (0, inf) if not power % 2 else (-inf, inf)
    return (1 if low >= 1 else 0), (1 if high <= 1 else inf)


def bounds_of_function(name: str, body: tuple) -> tuple:
    """Bounds of exp, log, sqrt or a squared norm."""
    low, high = body
    if name == "log":
        return (0 if low >= 1 else -inf), (0 if high <= 1 else inf)
    start = 0 if name == "exp" else 1
    return (1 if low >= start and name != "squared_norm" else 0), (
        1 if name != "squared_norm" and high <= start else inf
    )


def normalised(law: Expression) -> bool:
    """Whether ``law`` is a density or a noise; of a Normal, mean and variance may not depend on its variable."""
    if isinstance(law, Normal_):
        return law.at not in {*walk(law.mean), *walk(law.variance)}
    return isinstance(law, (Density, Symbol))


# ------------------------------------------------------------ terms


def terms(e: Expression) -> list[tuple[Fraction, Expression]]:
    """``e`` as a sum of (number, formula)."""
    number = constant(e)
    if number is not None:
        return [(number, Number(Fraction(1)))]
    if isinstance(e, (Group, Neg)):
        return [(c if isinstance(e, Group) else -c, part) for c, part in terms(e.body)]
    if isinstance(e, Add):
        return [pair for term in e.terms for pair in terms(term)]
    if isinstance(e, Expect_) and normalised(e.over):
        return [(c, p if isinstance(p, Number) else Expect_(p, e.over)) for c, p in terms(e.body)]
    if isinstance(e, Repeat) and e.kind == "sum":
        return [(c, Repeat(e.kind, part, e.index, e.first, e.last)) for c, part in terms(e.body)]
    if isinstance(e, Div) and (bottom := constant(e.bottom)):
        return [(c / bottom, part) for c, part in terms(e.top)]
    if isinstance(e, Mul):
        factor, rest, spread = Fraction(1), [], None
        for f in e.factors:
            [(c, part), *more] = terms(f)
            if more:
                spread, rest = (f, [*rest, f])
                continue
            factor *= c
            rest += [] if isinstance(part, Number) else [part]
        if not rest:
            return [(factor, Number(Fraction(1)))]
        if rest == [spread]:
            return [(factor * c, part) for c, part in terms(spread)]
        return [(factor, rest[0] if len(rest) == 1 else Mul(tuple(rest)))]
    return [(Fraction(1), e)]


def remainder(larger: Expression, smaller: Expression) -> dict[Expression, Fraction]:
    """{formula: number} of the terms of ``larger - smaller`` that do not cancel."""
    left: dict[Expression, Fraction] = {}
    for sign, side in ((1, larger), (-1, smaller)):
        for c, part in terms(side):
            left[part] = left.get(part, 0) + sign * c
    return {part: c for part, c in left.items() if c}


def least(left: dict[Expression, Fraction]):
    """A lower bound of a sum of number times formula."""
    return sum(product((c, c), bounds(part))[0] for part, c in left.items())


def dropped(larger: Expression, smaller: Expression) -> str | None:
    """The ground if what remains of ``larger - smaller`` is never negative by its form."""
    left = remainder(larger, smaller)
    if not left:
        return "both sides are equal"
    if least(left) < 0 and not balanced(left):
        return None
    gap = [part if c == 1 else wrap(c) * part for part, c in left.items()]
    shown = f"the gap is ${latex(gap[0])}$" if len(gap) == 1 else "the gap is a sum of terms"
    premise = ", ".join(sorted({latex(s) for part in left for s in declared(part)}))
    return f"{shown}, never negative" + (f" on the declared domain of ${premise}$" if premise else "")


def balanced(left: dict[Expression, Fraction]) -> bool:
    """Whether a sum is not negative because its common factors and what is left of it have one sign."""
    factors = {part: part.factors if isinstance(part, Mul) else (part,) for part in left}
    common = set.intersection(*map(set, factors.values()))
    inner: dict[Expression, Fraction] = {}
    for part, c in left.items():
        rest = list(factors[part])
        for factor in common:
            rest.remove(factor)
        rest = multiplied((wrap(1), *rest), 0)
        inner[rest] = inner.get(rest, 0) + c
    low, high = bounds(multiplied((wrap(1), *common), 0))
    opposite = {part: -c for part, c in inner.items()}
    return bool(common) and ((low >= 0 and least(inner) >= 0) or (high <= 0 and least(opposite) >= 0))


def declared(e: Expression) -> set:
    """The symbols and functions of a declared domain whose values count: not those that densities are of."""
    if isinstance(e, (Symbol, Call)):
        return {e} if e.domain in DOMAINS else set()
    if isinstance(e, (Density, Span, KL_)):
        return set()
    return set().union(*map(declared, [e.body] if isinstance(e, Repeat) else children(e)))


# ------------------------------------------------------------ divergences


def divergences(larger: Expression, smaller: Expression):
    """KL divergences, and averages of them, that the gap may be: of densities over variables of the lines."""
    inside = [p for side in (larger, smaller) for p in walk(side) if isinstance(p, Density)]
    inside = list(dict.fromkeys(Density(d.law, d.left, d.right, d.shown) for d in inside))
    letters = {d.law: d.shown for d in inside}
    free = outside(larger) | outside(smaller)
    around = sorted({v for d in inside for v in (*d.left, *d.right)}, key=repr)
    given = tuple(v for v in around if v in free)
    hidden = tuple(v for v in around if v not in free)
    firsts = [*(Density(law, hidden, given, shown) for law, shown in letters.items() if hidden), *inside]
    for d in inside:
        for v in d.left if len(d.left) > 1 else ():
            rest = tuple(w for w in d.left if w != v)
            firsts += [Density(d.law, (v,), (*rest, *d.right), d.shown), Density(d.law, rest, (v, *d.right), d.shown)]
            firsts += [Density(d.law, (v,), d.right, d.shown), Density(d.law, rest, d.right, d.shown)]
    firsts = list(dict.fromkeys(firsts))
    conditions = dict.fromkeys([(), given, *(d.right for d in firsts)])
    for first in firsts:
        for second in dict.fromkeys(
            Density(law, first.left, right, shown)
            for law, shown in letters.items()
            for right in chain([first.right], conditions, subsets(first.right))
            if not {*right} & {*first.left} and (law, {*right}) != (first.law, {*first.right})
        ):
            loose = tuple(v for v in dict.fromkeys((*first.right, *second.right)) if v not in free)
            if not loose:
                yield KL_(first, second)
                continue
            for law, shown in letters.items():
                for right in dict.fromkeys([(), given]):
                    yield Expect_(KL_(first, second), Density(law, loose, right, shown))


def subsets(variables: tuple) -> list[tuple]:
    """The smaller selections of up to four variables."""
    sizes = range(len(variables)) if len(variables) <= 4 else ()
    return [chosen for k in sizes for chosen in combinations(variables, k)]


def outside(e: Expression) -> set:
    """The symbols and spans that ``e`` depends on: those that no integral or average binds."""
    if isinstance(e, (Symbol, Span)):
        return {e}
    if isinstance(e, Density):
        return {*e.left, *e.right}
    if isinstance(e, Expect_):
        return (outside(e.body) | outside(e.over)) - {*bound_by(e.over)}
    if isinstance(e, KL_):
        return (outside(e.first) | outside(e.second)) - {*bound_by(e.first)}
    found = set().union(*map(outside, children(e)))
    return found - {*e.variables} if isinstance(e, Integral_) else found


def running(e: Expression) -> set:
    """The symbols over which integrals and averages over Normals run."""
    found: set = set()
    for part in walk(e):
        found |= {*part.variables} if isinstance(part, Integral_) else set()
        found |= {part.at} if isinstance(part, Normal_) else set()
    return {v.family if isinstance(v, Span) else v for v in found if isinstance(v, (Symbol, Span))}


# ------------------------------------------------------------ rewritings


def rewritings(e: Expression, sign: int):
    """(formula, ground) for one change anywhere in ``e``; with ``sign`` 1 the value never falls, with -1 it
    never rises.
    """
    yield from here(e, sign)
    if isinstance(e, Neg):
        yield from ((Neg(new), why) for new, why in rewritings(e.body, -sign))
    elif isinstance(e, Group):
        yield from rewritings(e.body, sign)
    elif isinstance(e, Add):
        for k, term in enumerate(e.terms):
            for new, why in rewritings(term, sign):
                yield Add((*e.terms[:k], new, *e.terms[k + 1 :])), why
    elif isinstance(e, Mul):
        for k, factor in enumerate(e.factors):
            low, high = bounds(multiplied(e.factors, k))
            if low >= 0 or high <= 0:
                for new, why in rewritings(factor, sign if low >= 0 else -sign):
                    yield Mul((*e.factors[:k], new, *e.factors[k + 1 :])), why
    elif isinstance(e, Div):
        low, high = bounds(e.bottom)
        if low >= 0 or high <= 0:
            yield from ((Div(new, e.bottom), why) for new, why in rewritings(e.top, sign if low >= 0 else -sign))
    elif isinstance(e, Expect_) and normalised(e.over):
        yield from ((Expect_(new, e.over), why) for new, why in rewritings(e.body, sign))
    elif isinstance(e, Integral_):
        yield from ((Integral_(new, e.variables), why) for new, why in rewritings(e.body, sign))
    elif isinstance(e, Repeat) and e.kind == "sum":
        for new, why in rewritings(e.body, sign):
            yield Repeat(e.kind, new, e.index, e.first, e.last), why
    elif isinstance(e, Apply) and e.name in ("log", "exp", "sqrt"):
        yield from ((Apply(e.name, new), why) for new, why in rewritings(e.body, sign))


def here(e: Expression, sign: int):
    """As ``rewritings``, at the outermost operation of ``e``."""
    if isinstance(e, Apply) and e.name in JENSEN and (sign > 0) == (e.name == "exp"):
        for mean, bodies in means(e.body):
            yield mean([applied(e.name, f) for f in bodies]), JENSEN[e.name]
    if isinstance(e, Pow) and constant(e.power) == 2 and sign > 0:
        for mean, bodies in means(e.base):
            yield mean([f**2 for f in bodies]), JENSEN["square"]
    if isinstance(e, Apply) and (e.name, sign) in (("log", 1), ("exp", -1)):
        yield (e.body - 1 if e.name == "log" else 1 + e.body), TANGENT[e.name]
    for mean, bodies in means(e):
        roots = [rooted(f) for f in bodies]
        if sign > 0:
            yield applied("log", mean([applied("exp", f) for f in bodies])), JENSEN["log"]
        elif None not in roots:
            yield mean(roots) ** 2, JENSEN["square"]
        elif all(bounds(f)[0] >= 0 for f in bodies):
            typed = "exp" if all(isinstance(f, Apply) and f.name == "exp" for f in bodies) else "log"
            yield applied("exp", mean([applied("log", f) for f in bodies])), JENSEN[typed]


def applied(name: str, body: Expression) -> Expression:
    """exp, log or sqrt of ``body``; of their inverse, what stands in it."""
    inverse = {"exp": "log", "log": "exp"}.get(name)
    return body.body if isinstance(body, Apply) and body.name == inverse else Apply(name, body)


def rooted(e: Expression) -> Expression | None:
    """f if ``e`` is typed as the square of f, or as another even power."""
    power = constant(e.power) if isinstance(e, Pow) else None
    if power is None or power <= 0 or power % 2:
        return None
    return e.base if power == 2 else e.base ** int(power / 2)


def means(e: Expression):
    """(mean, bodies) for each way to read ``e`` as ``mean(bodies)``, an average with weights that are not
    negative and add up to 1.
    """
    if isinstance(e, Group):
        yield from means(e.body)
    elif isinstance(e, Expect_) and normalised(e.over):
        yield (lambda new: Expect_(new[0], e.over)), [e.body]
        for inner, bodies in means(e.body):
            yield (lambda new, inner=inner: Expect_(inner(new), e.over)), bodies
    elif isinstance(e, Integral_) and isinstance(e.body, Mul):
        for k, law in enumerate(e.body.factors):
            if isinstance(law, (Density, Normal_)) and normalised(law) and {*bound_by(law)} == {*e.variables}:
                yield (lambda new, law=law: Expect_(new[0], law)), [multiplied(e.body.factors, k)]
    elif isinstance(e, (Add, Mul, Div)):
        yield from finite_means(e)


def finite_means(e: Expression):
    """As ``means``, of a sum: of n terms over n, or of terms with numbers or declared weights before them."""
    runs = e.top if isinstance(e, Div) else e.factors[1] if isinstance(e, Mul) and len(e.factors) == 2 else None
    if isinstance(runs, Repeat) and runs.kind == "sum":
        share = 1 / e.bottom if isinstance(e, Div) else e.factors[0]
        count = share.bottom if isinstance(share, Div) and constant(share.top) == 1 else None
        if count is not None and not remainder(count, runs.last - runs.first + 1):
            yield (lambda new: share * Repeat("sum", new[0], runs.index, runs.first, runs.last)), [runs.body]
    numbered = terms(e)
    if len(numbered) > 1 and all(c > 0 for c, _ in numbered) and sum(c for c, _ in numbered) == 1:
        yield (lambda new: Add(tuple(wrap(c) * f for (c, _), f in zip(numbered, new)))), [f for _, f in numbered]
    if isinstance(e, Add) and all(isinstance(term, Mul) for term in e.terms):
        weights = [term.factors[0] for term in e.terms]
        if all(bounds(w)[0] >= 0 for w in weights) and not remainder(Add(tuple(weights)), wrap(1)):
            bodies = [multiplied(term.factors, 0) for term in e.terms]
            yield (lambda new: Add(tuple(w * f for w, f in zip(weights, new)))), bodies


def multiplied(factors: tuple, but: int) -> Expression:
    """The product of all factors but one; of none, 1."""
    rest = (*factors[:but], *factors[but + 1 :])
    return Mul(rest) if len(rest) > 1 else rest[0] if rest else wrap(1)
