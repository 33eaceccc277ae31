"""Wrong versions of a formula: a changed sign, factor, exponent, index, variable, law, condition, end of a sum."""

from collections import Counter, defaultdict
from dataclasses import fields

from lib.notebook.formulas.concrete import concrete
from lib.notebook.formulas.exact import Refused
from lib.notebook.formulas.expression import (
    KL_,
    Add,
    Apply,
    Density,
    Div,
    Expression,
    Mul,
    Neg,
    Normal_,
    Number,
    Pow,
    Repeat,
    Span,
    Symbol,
    walk,
)
from tests.notebook.opinion import NoOpinion, truly_holds


def at_node(e: Expression, alike: dict, laws: list):
    """(kind, formula) for each way to spoil the outermost operation of ``e``."""
    if isinstance(e, Add):
        for k, term in enumerate(e.terms):
            before, after = e.terms[:k], e.terms[k + 1 :]
            yield "sign", Add((*before, term.body if isinstance(term, Neg) else Neg(term), *after))
            yield "factor", Add((*before, 2 * term, *after))
            yield "dropped term", Add((*before, *after)) if len(e.terms) > 2 else (*before, *after)[0]
    elif isinstance(e, Mul):
        for k in range(len(e.factors)):
            rest = (*e.factors[:k], *e.factors[k + 1 :])
            yield "dropped factor", Mul(rest) if len(rest) > 1 else rest[0]
    elif isinstance(e, Neg):
        yield "sign", e.body
    elif isinstance(e, Number):
        yield "number", Number(e.value + 1)
    elif isinstance(e, Div):
        yield "factor", Div(e.top, 2 * e.bottom)
        yield "exponent", Div(e.bottom, e.top)
    elif isinstance(e, Pow):
        yield "exponent", Pow(e.base, e.power + 1)
    elif isinstance(e, Apply):
        yield "factor", Apply(e.name, 2 * e.body)
        if e.name in ("sqrt", "squared_norm"):
            yield "exponent", 2 * e if e.name == "squared_norm" else e.body
    elif isinstance(e, Symbol):
        if e.index is not None:
            for by in (1, -1):
                yield "index", Symbol(e.name, e.domain, e.index + by, e.vector, e.latex)
        for other in alike.get((e.domain, e.vector), ()):
            if other.name != e.name:
                yield "variable", other
    elif isinstance(e, Density):
        for law, shown in laws:
            if law != e.law:
                yield "law", Density(law, e.left, e.right, shown)
        for k in range(len(e.right)):
            yield "condition", Density(e.law, e.left, (*e.right[:k], *e.right[k + 1 :]), e.shown)
        if len(e.right) == 1:
            yield "direction", Density(e.law, e.right, e.left, e.shown)
    elif isinstance(e, Normal_):
        yield "factor", Normal_(e.at, e.mean, 2 * e.variance)
        yield "number", Normal_(e.at, e.mean + 1, e.variance)
    elif isinstance(e, KL_):
        yield "direction", KL_(e.second, e.first)
    elif isinstance(e, Repeat):
        yield "range", Repeat(e.kind, e.body, e.index, e.first + 1, e.last)
        yield "range", Repeat(e.kind, e.body, e.index, e.first, e.last - 1)


def mutants(e: Expression, alike: dict, laws: list):
    """(kind, formula) for every single change anywhere in ``e``; bound letters of sums stay."""
    yield from at_node(e, alike, laws)
    if isinstance(e, (Symbol, Span)):
        return
    names = [f.name for f in fields(e)]
    for name in names:
        part = getattr(e, name)
        if name in ("index", "variables", "variable", "left", "right") and not isinstance(e, Density):
            continue
        spots = enumerate(part) if isinstance(part, tuple) else [(None, part)]
        for k, child in spots:
            if not isinstance(child, Expression):
                continue
            for kind, new in mutants(child, alike, laws):
                whole = new if k is None else (*part[:k], new, *part[k + 1 :])
                yield kind, type(e)(*(whole if n == name else getattr(e, n) for n in names))


def spoiled(derivation, step, per_kind: int = 1) -> list:
    """``per_kind`` mutants of each kind of one step, spread over the formula, and the whole formula with a factor."""
    alike, laws = defaultdict(dict), {}
    for line in derivation.lines:
        for part in walk(line.expression):
            if isinstance(part, Symbol) and part.domain not in ("constant", "integer"):
                alike[part.domain, part.vector][concrete(part)] = None
            if isinstance(part, Density):
                laws[part.law] = part.shown
    kinds = defaultdict(dict)
    for kind, new in mutants(step.expression, alike, list(laws.items())):
        if new != step.expression:
            kinds[kind][new] = None
    free = 2 if not step.of else step.of[0] if step.relation == "propto" else 1 + step.of[0]
    chosen = [("factor", free * step.expression)]
    for kind, found in kinds.items():
        found = list(found)
        stride = max(1, len(found) // per_kind)
        offset = len(repr(step.expression)) % stride  # another place in another line
        chosen += [(kind, new) for new in found[offset::stride][:per_kind]]
    return chosen


def refusals(derivations) -> tuple[Counter, list, list]:
    """Mutates every step: how many mutants of each kind, those equal to the line after all, those wrongly accepted."""
    kinds, equal, accepted = Counter(), [], []
    for d in derivations:
        for step in d.steps:
            for kind, mutant in spoiled(d, step):
                kinds[kind] += 1
                try:
                    d.check(step.previous, mutant, step.relation, step.of)
                except (Refused, ValueError):
                    continue
                try:
                    same = truly_holds(d, step.previous, mutant, step.relation, step.of)
                except (NoOpinion, ValueError):  # nobody vouches for it
                    same = False
                (equal if same else accepted).append(f"{d.name} {step.number} {kind}: {mutant!r}")
    return kinds, equal, accepted
