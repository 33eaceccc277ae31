"""What stands for what in one derivation: one print for one thing, one definition for one thing, and no
parameter that lives only in a name.

"""

from __future__ import annotations

import re

from lib.notebook.formulas.concrete import Definitions, concrete, is_index, linear, number_in, same_place
from lib.notebook.formulas.expression import (
    KL_,
    Call,
    Density,
    Expect_,
    Expression,
    Grad_,
    Group,
    Integral_,
    Repeat,
    Span,
    Symbol,
    children,
    replace,
    walk,
    wrap,
)
from lib.notebook.formulas.language import bound_by, pi
from lib.notebook.formulas.printing import GREEK, latex

TAKEN = ("exp", "log", "sqrt", "squared_norm", "KL")  # names that mean something already
FUNCTIONS = ("ln", "sin", "cos", "tan", "max", "min", "det", "tr")  # and, of a symbol, would be read as applied
LETTER = re.compile(r"[A-Za-z]|\\(" + "|".join(["ell", "var", *GREEK]) + ")")
RELATION = re.compile(
    r"[=<>≤≥≈≡≠≃≅∝∼]|\\[a-zA-Z]*(eq|sim|approx|equiv|propto|cong|arrow)|\\(le|ge|ne|lt|gt|ll|gg|to|in)(?![a-zA-Z])"
)


def no_claim(part: Expression) -> None:
    """``ValueError`` where the label of a brace, a name or its LaTeX says more than a name can."""
    label = part.label if isinstance(part, Group) else None
    if label and RELATION.search(label):
        raise ValueError(f"label: wanted a name without a relation, got {label!r}; write the value as a step instead")
    if label and r"\text" not in label and (not lettered(label) or "^" in label) and r"\times" not in label:
        raise ValueError(f"label: wanted a name, got the value {label!r}; write it as a step instead")
    if not isinstance(part, (Symbol, Call, Density)):
        return
    if isinstance(part, Density) and pi in (*part.left, *part.right):
        raise ValueError(f"a density is of what can vary, got {part!r} of the constant {pi!r}")
    name = part.law if isinstance(part, Density) else part.name
    free = isinstance(part, Call) and part.domain == "real"  # an unknown sin may be written, of a sign nothing is known
    if name in TAKEN or (isinstance(part, (Symbol, Call)) and name in FUNCTIONS and not free):
        raise ValueError(f"name: {name} has a fixed meaning, wanted another name")
    shown = part.latex if isinstance(part, Symbol) else part.shown if isinstance(part, Density) else None
    outside, before = bare(shown or ""), None
    while outside != before:
        outside, before = re.sub(r"\{[^{}]*\}|\([^()]*\)", "", outside), outside
    if RELATION.search(shown or "") or re.search(r"[-+*/]", outside) or (shown and not lettered(shown)):
        raise ValueError(f"latex: wanted a letter, no sum and no relation, got {shown!r}")


def lettered(tex: str) -> bool:
    """Whether a letter is left of LaTeX once its commands, Greek letters apart, are taken away."""
    return bool(LETTER.search(re.sub(rf"\\(?!({'|'.join(['ell', 'var', *GREEK])}))[a-zA-Z]+", "", tex)))


def bare(tex: str) -> str:
    """LaTeX without braces around the whole of it."""
    while re.fullmatch(r"\{[^{}]*\}", tex):
        tex = tex[1:-1]
    return tex


def spaced(tex: str) -> str:
    """LaTeX with a small letter or digit written one way: x_{t} and x_t are both "x_t" before a space."""
    return re.sub(r"([_^])(?:\{(\w)\}|(\w))", r"\1\2\3 ", tex).strip()


class Letters:
    """The symbols, functions and laws of one derivation, by name and by print."""

    def __init__(self):
        self.names: dict[tuple, tuple] = {}
        self.prints: dict[str, tuple] = {}

    def read(self, formulas) -> Letters:
        """These letters and those of ``formulas``; ``ValueError`` where one print would stand for two things,
        or one name for two kinds of symbol, and as in ``no_claim``.
        """
        more = Letters()
        more.names, more.prints = dict(self.names), dict(self.prints)
        for formula in formulas:
            for part in named(formula):
                no_claim(part)
                if not isinstance(part, Group):
                    more.add(part)
        return more

    def joined(self, other: Letters) -> Letters:
        """The letters of both; ``ValueError`` as in ``read``."""
        return self.read([part for _, part in other.prints.values()])

    def add(self, part: Symbol | Call | Density) -> None:
        """Notes one symbol, call or density."""
        kind, name, *nature = identity(part)
        known, before = self.names.setdefault((kind, name), (nature, part))
        if known != nature:
            raise ValueError(
                f"{name} names two things: {described(before)} and {described(part)}; give one of them another name"
            )
        for shown, thing in prints(part):
            known, before = self.prints.setdefault(shown, (thing, part))
            if known != thing:
                raise ValueError(
                    f"{shown} would stand for two things: {described(before)} and {described(part)}; "
                    "give one of them another name or latex"
                )


def named(e: Expression):
    """Every symbol, call, density and group in ``e``; a span by its ends."""
    if isinstance(e, Span):
        for end in (e.first, e.last):
            yield from named(Symbol(e.family.name, e.family.domain, end, e.family.vector, e.family.latex))
        return
    if isinstance(e, (Symbol, Call, Density, Group)):
        yield e
    for part in children(e):
        yield from named(part)


def identity(part: Symbol | Call | Density) -> tuple:
    """(kind, name, and what all things of that name must have in common)."""
    if isinstance(part, Symbol):
        return "symbol" if part.index is None else "family", part.name, part.domain, part.vector, part.latex
    if isinstance(part, Call):
        return "function", part.name, part.domain, part.vector
    return "law", part.law


def prints(part: Symbol | Call | Density) -> list[tuple[str, tuple]]:
    """(what is displayed, what it stands for)."""
    if isinstance(part, Symbol):
        shown = spaced(bare(latex(concrete(part))))
        stem = re.sub(r"_(\d|\{\d+\})$", "", shown)  # x_1 beside a family x would be taken for its member
        member = [(f"{stem}_{{k}}", ("family" if part.index is not None else "symbols", stem))] if stem != shown else []
        return [(shown, ("symbol", concrete(part))), *member]
    if isinstance(part, Call):
        return [(latex.name(part.name), ("function", part.name))]
    return [(latex.name(part.law, part.shown), ("law", part.law))]


def described(part: Symbol | Call | Density) -> str:
    """A symbol, function or law in words."""
    if isinstance(part, Symbol):
        kind = part.domain if part == pi else f"{part.domain} {'vector' if part.vector else 'symbol'}"
        return f"the {kind} {part!r}" + (f" shown as {part.latex}" if part.latex else "")
    return f"the {'function' if isinstance(part, Call) else 'law'} {identity(part)[1]}"


# ------------------------------------------------------------ parameters in names


def reached(e: Expression, definitions: Definitions, met: set | None = None):
    """(part, whether it is defined) of ``e`` and of the definitions that it uses."""
    met = set() if met is None else met
    for part in walk(e):
        formula = definitions.of(part) if isinstance(part, (Symbol, Call, Density)) else None
        yield part, formula is not None
        if formula is not None and part not in met:
            met.add(part)
            yield from reached(formula, definitions, met)


def carries(part: Expression, variable: Symbol) -> bool:
    r"""Whether the name or the print of ``part`` has ``variable`` below or above it, as \epsilon_\theta has
    \theta, and it is no argument.
    """
    if not isinstance(part, (Symbol, Call, Density)) or concrete(part) == concrete(variable):
        return False
    arguments = part.args if isinstance(part, Call) else (*part.left, *part.right) if isinstance(part, Density) else ()
    if concrete(variable) in map(concrete, arguments):
        return False
    name = part.law if isinstance(part, Density) else part.name
    shown = latex(part) if isinstance(part, Symbol) else prints(part)[0][0]
    given = part.shown if isinstance(part, Density) else part.latex if isinstance(part, Symbol) else None
    small = re.search(r".*" if given else r"[_^(].*", spaced(shown))
    sign = rf"(?<![A-Za-z\\]){re.escape(spaced(latex(variable)))}(?![A-Za-z])"
    return variable.name in name.split("_")[1:] or bool(small and re.search(sign, small[0]))


def bindings(e: Expression):
    """(what it is called, letter, formulas) for every letter that ``e`` varies, adds up or averages out."""
    if isinstance(e, Grad_):
        found = ("variable", (e.variable,), (e.body,))
    elif isinstance(e, Repeat):
        found = ("index", (e.index,), (e.body,))
    elif isinstance(e, Integral_):
        found = ("variables", e.variables, (e.body,))
    elif isinstance(e, Expect_):
        found = ("over", bound_by(e.over), (e.body,))
    elif isinstance(e, KL_):
        found = ("first", bound_by(e.first), (e.first, e.second))
    else:
        return
    name, variables, bodies = found
    for v in variables:
        v = v.family if isinstance(v, Span) else v
        yield from ((name, v, body) for body in bodies if isinstance(v, Symbol))


def no_hidden_parameter(formulas, of: tuple, definitions: Definitions) -> None:
    """``ValueError`` where a gradient, a sum, a product, an average or ``of`` is by a symbol that stands only in
    a name: whoever knows nothing of the parameter takes f_theta(x) for free of theta, and h_t for free of t.
    """
    for e in formulas:
        for name, variable, body in [
            *(("of", v, e) for v in of if isinstance(v, Symbol)),
            *(bound for part, _ in reached(e, definitions) for bound in bindings(part)),
        ]:
            for part, defined in reached(body, definitions):
                if isinstance(part, Symbol) and name == "index":  # the letter in an index is no part of the name
                    part = Symbol(part.name, part.domain, None, part.vector, part.latex)
                if not defined and carries(part, variable):
                    raise ValueError(
                        f"{name}: {part!r}, shown as {latex(part)}, carries {variable!r} only in its name; "
                        f"a parameter must be an argument or an index, as in f(x, {variable!r})"
                    )


# ------------------------------------------------------------ definitions


def no_contradiction(pairs) -> None:
    """``ValueError`` where two of the definitions (key, formula) give one thing two formulas, or one defines
    a constant.
    """
    pairs = [(same_place(concrete(key)), concrete(formula)) for key, formula in pairs]
    for key, formula in pairs:
        if key == pi:
            raise ValueError("where: pi is a constant, it cannot be defined")
        for other, its_formula in pairs:
            same = (
                isinstance(key, Call)
                and isinstance(other, Call)
                and (key.name, len(key.args)) == (other.name, len(other.args))
            )
            if (
                same
                and all(isinstance(a, Symbol) for a in (*key.args, *other.args))
                and concrete(replace(formula, dict(zip(key.args, other.args)))) != its_formula
            ):
                raise ValueError(f"where: {key.name} is defined twice, by {key!r} and by {other!r}, not alike")
        for letter_, place in [(None, None), *places(key, pairs)]:
            for other, its_formula in pairs:
                if at_place(key, letter_, place) == other and at_place(formula, letter_, place) != its_formula:
                    raise ValueError(
                        f"where: {other!r} is defined twice, as {at_place(formula, letter_, place)!r} and as "
                        f"{its_formula!r}"
                    )


def places(key: Expression, pairs):
    """(letter in an index of ``key``, what a definition by it holds for and another key may name)."""
    found = [place for other, _ in pairs for place in indices(other)]
    letters = {s for place in indices(key) for s in linear(place) if s is not None}
    # x[t] from x[t-1] and x[t-1] from x[0] are two views of one chain: of symbols only bare letters are compared.
    compound = isinstance(key, Call)
    known = [k for k in dict.fromkeys(found) if isinstance(k, Symbol) or (compound and number_in(k) is None)]
    return [(t, k) for t in letters for k in [*known, *map(wrap, range(1, 10))] if k != t]


def indices(key: Expression):
    """Every index in what is defined; an argument of a function may be one."""
    for part in walk(key):
        if isinstance(part, Symbol) and part.index is not None:
            yield part.index
        if isinstance(part, Call):
            yield from (a for a in part.args if is_index(a))


def at_place(e: Expression, index: Symbol | None, place: Expression | None) -> Expression | None:
    """``e`` with an index in the place of another, or None where that names one variable twice."""
    try:
        return concrete(e if index is None else replace(e, {index: place}))
    except ValueError:
        return None
