r"""Why an inequality holds: a divergence, a square, Jensen's inequality, a tangent or a declared domain.

No number of samples makes an inequality true. ``certificate`` looks for a chain of rewritings from one side to
the other, each of which can only make the value larger (or only smaller), and leaves the equations between
them to a function that proves or tests equations.

"""

from __future__ import annotations

from fractions import Fraction
from itertools import chain, combinations, islice

from lib.notebook.formulas.bounds import DOMAINS, bounds, least, loose, normalised, remainder, terms
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
    elif isinstance(e, Repeat) and e.kind == "sum" and not loose(e):
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
    if not isinstance(e, Pow) or (power := constant(e.power)) is None or power <= 0 or power % 2:
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
    if isinstance(e, Div):
        share, runs = 1 / e.bottom, e.top
    else:
        share, runs = e.factors if isinstance(e, Mul) and len(e.factors) == 2 else (None, None)
    if isinstance(runs, Repeat) and runs.kind == "sum" and not loose(runs):
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
