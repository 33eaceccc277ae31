r"""Derivations whose every displayed line was checked: a wrong line cannot be displayed.

Writing one
-----------
A derivation starts with a formula; ``step`` appends a line, if it holds, with its reason::

    z, mu = symbols("z mu")                                     # real
    sigma = symbol("sigma", "positive")                         # or "unit" (0 to 1), "integer"
    q, p = Normal(z, mu, sigma**2), Normal(z, 0, 1)
    kl = Derivation(KL(q, p), name="kl", title="KL of a Gaussian from the standard one")
    kl.step(Integral(q * log(q / p), z), because="This is the definition.")
    kl.step(Expect(log(q) - log(p), over=q), because=r"Weighted by the density of $z$: an expectation.")
    kl.step(frac(1, 2) * (mu**2 + sigma**2 - log(sigma**2) - 1), because="Collect.",
            detail=[(smaller_line, "its reason"), (another, "its reason")])
    kl                                                          # the last line of the cell displays it

Lines are shown as typed (``lib.notebook.formulas`` lists the vocabulary). ``because`` is required and may
hold ``$math$``. ``detail`` lists smaller lines between the previous line and the new one; they unfold under
the step, and each is checked. It may also be a ``Derivation`` of its own, a lemma that the step uses.

Relations: ``"="``, ``">="``, ``"<="``; ``"propto"`` and ``"const"`` with ``of=x`` or ``of=(x, y)`` (equal
up to a factor, or a term, free of these: what is free of them is not checked, so name as many as you can);
``"law"`` (equal in distribution, for sums of independent ``noise``).

Definitions. ``where={beta[t]: 1 - alpha[t], q(z | x): Normal(z, mu, sigma**2)}`` is displayed under
"Given". A key with a bare index holds for the letter t and for 1, 2, 3... in its place; two definitions of
one thing are refused. ``given=[other]`` takes the finished derivation ``other`` for granted: its definitions,
and its first line (a symbol, density or call) as defined by its last. Whatever ``other`` needed must hold
here, too: it has the same laws and dimension, no sizes, and no step of it was only tested.

Laws. With ``laws=[p, q]`` lines about distributions are checked exactly on random finite models, where
every sum can be carried out; ``sizes={T: (2, 3, 4)}`` says which lengths of a chain to try::

    p, q = Law("p", z, x | z), Law("q", z | x)
    elbo = Derivation(log(p(x)), name="elbo", laws=[p, q])
    elbo.step(Expect(log(p(x)), over=q(z | x)), because=r"$\log p(x)$ does not depend on $z$.")
    elbo.step(Expect(log(p(x, z) / p(z | x)), over=q(z | x)), because=r"$p(x, z) = p(z\mid x)\,p(x)$.")

    chain = Law("q", x[0], every(t, 1, T, x[t] | x[t - 1]))     # chain(x[1:T] | x[0]), chain(x[t - 1] | x[t])

Text and formulas
-----------------
Checked are the lines: formulas, with the relation between them. They are displayed from the record of what was
checked, and one print stands for one thing: two symbols, functions or laws of one derivation that look alike, or
two symbols of one name, are a ``ValueError``. So is a gradient, or ``of``, by a parameter that stands only in a
name, as in epsilon_theta(x): it must be an argument. Reasons, titles and labels of braces are text; no one checks
them, not even their $math$. What a part is worth is therefore said in a line, and a label with a relation in it
is refused.

How a line is checked
---------------------
By algebra, where nothing is accepted because it held at some values: Gaussian integrals and expectations are worked
out exactly, and the difference of the two lines is shown to be formally zero on the declared domain, or, for an
inequality, to have a sign that a square, a KL divergence, Jensen's inequality, log u <= u - 1 or the domain
gives it. Densities known by name only obey the chain rule and Bayes' rule there, so such a line is proved for
every law. On finite models: equations between distributions, exactly, logarithms included; bounds only with a
ground as above. A footnote says where the models decided, which sizes or dimensions were tried, and what a proof
takes for granted: a divisor that is not 0, a sum that is not empty, a derivative taken under an integral. Integer
symbols stand for 1, 2, 3... Otherwise the step raises ``WrongStep``.

"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from lib.notebook.formulas.checker import Checker
from lib.notebook.formulas.exact import Refused
from lib.notebook.formulas.expression import Call, Density, Expression, Symbol, wrap
from lib.notebook.formulas.law import Law, every
from lib.notebook.formulas.notation import Letters, no_contradiction, no_hidden_parameter
from lib.notebook.formulas.printing import plain
from lib.notebook.formulas.rendering import RELATIONS, bundle

_recordings: list[list] = []


class WrongStep(ValueError):
    """A line that does not follow from the one before it; the message shows both, and where they differ."""


@contextmanager
def recording():
    """Collects the derivations made inside the ``with`` block: ``with recording() as made: ...``."""
    made: list[Derivation] = []
    _recordings.append(made)
    try:
        yield made
    finally:
        _recordings.remove(made)


@dataclass(frozen=True)
class Line:
    """One displayed line and what it was checked against."""

    number: str
    expression: Expression
    because: str
    relation: str = ""
    of: tuple = ()
    previous: Expression | None = None
    note: str | None = None
    detail: tuple[Line, ...] = ()
    lemma: Derivation | None = None


@dataclass(frozen=True)
class _Link:
    """A step to be checked: ``previous relation expression``."""

    previous: Expression
    expression: Expression
    relation: str
    of: tuple = ()
    names: tuple[str, str] = field(default=("", ""))


class Derivation:
    """A chain of checked lines, displayed as a numbered list with reasons; see the head of this file.

    ``name`` is a word, unique in its chapter, used in messages and in the page's anchors. ``title`` is
    displayed, in plain words with ``$math$``. ``laws``, ``where``, ``sizes``, ``given`` are explained above;
    ``dimension`` is an integer symbol that stands for the number of components of the vectors. Raises
    ``ValueError`` for arguments of another kind, for contradictory definitions or laws, and where two things
    look alike.
    """

    def __init__(
        self,
        start,
        name: str,
        *,
        title: str = "",
        laws=(),
        where: dict | None = None,
        sizes: dict | None = None,
        dimension: Symbol | None = None,
        given=(),
    ):
        if not isinstance(name, str) or not name.replace("-", "").isalnum():
            raise ValueError(f"name: wanted a word of letters, digits and hyphens, got {name!r}")
        if title:
            _text("title", title)
        laws = (laws,) if isinstance(laws, Law) else tuple(laws)
        if where is not None and not isinstance(where, dict):
            raise ValueError(f"where: wanted a dictionary, got {where!r}")
        pairs = [(key, wrap(formula)) for key, formula in (where or {}).items()]
        for other in (given,) if isinstance(given, Derivation) else given:
            pairs += _premises(other, laws, dimension)
        self.name, self.title, self._laws, self._sizes = name, title, laws, dict(sizes or {})
        self._where = dict(pairs)
        self.checker = Checker(laws, self._where, sizes, dimension)
        no_contradiction(pairs)
        for k, law in enumerate(laws):
            if any(law.name == other.name and law.factors is not other.factors for other in laws[:k]):
                raise ValueError(f"laws: two laws are named {law.name}, wanted one")
        self._lines = [Line("1", wrap(start), "")]
        self._letters = Letters().read([self.last, *(e for pair in pairs for e in pair), *_densities(laws)])
        for made in _recordings:
            made.append(self)

    def step(self, expression, because: str, relation: str = "=", of=(), detail=()) -> None:
        """Appends a line, or raises ``WrongStep`` if it does not hold, ``ValueError`` if an argument is
        unusable.

        ``expression`` stands in ``relation`` to the line before. ``detail``: pairs (formula, reason) or
        triples (formula, reason, relation), the smaller lines on the way; or a ``Derivation``.
        """
        _text("because", because)
        if relation not in RELATIONS:
            raise ValueError(f"relation: wanted one of {', '.join(RELATIONS)}, got {relation!r}")
        of = of if isinstance(of, tuple) else (of,)
        if bool(of) != (relation in ("propto", "const")) or not all(isinstance(v, (Symbol, Call)) for v in of):
            raise ValueError(f"of: wanted symbols with propto and const, else nothing, got {of!r} with {relation!r}")
        before, new = self._lines[-1], wrap(expression)
        number = str(len(self._lines) + 1)
        lemma = detail if isinstance(detail, Derivation) else None
        letters = self._letters.read((new, *of))
        if lemma is not None:
            letters = letters.joined(lemma._letters)
            no_contradiction([*self.where.items(), *lemma.where.items()])
        small: list[Line] = []
        previous = before.expression
        for k, item in enumerate(() if lemma else detail, start=1):
            if not isinstance(item, tuple) or len(item) not in (2, 3):
                raise ValueError(f"detail: wanted pairs (formula, reason), got {item!r}")
            inner, reason, sign = wrap(item[0]), item[1], item[2] if len(item) == 3 else "="
            _text("detail reason", reason)
            letters = letters.read([inner])
            if sign not in ("=", relation):
                raise ValueError(f"detail: wanted the relation = or {relation}, got {sign!r}")
            link = _Link(
                previous,
                inner,
                sign,
                of if sign == relation else (),
                (small[-1].number if small else before.number, f"{number}.{k}"),
            )
            small.append(Line(f"{number}.{k}", inner, reason, sign, link.of, previous, self._checked(link, reason)))
            previous = inner
        if small and small[-1].expression != new:
            self._checked(_Link(previous, new, relation, of, (small[-1].number, number)), because)
        note = self._checked(_Link(before.expression, new, relation, of, (before.number, number)), because)
        self._lines.append(Line(number, new, because, relation, of, before.expression, note, tuple(small), lemma))
        self._letters = letters

    def check(self, previous: Expression, expression: Expression, relation: str = "=", of: tuple = ()) -> str | None:
        """Judges one step without appending it: None if proved, a note if tested; raises ``Refused``,
        ``ValueError``.
        """
        expression = wrap(expression)
        no_hidden_parameter((previous, expression), of, self.checker.definitions)
        return self.checker.check(previous, expression, relation, of)

    def _checked(self, link: _Link, because: str) -> str | None:
        try:
            return self.check(link.previous, link.expression, link.relation, link.of)
        except Refused as refusal:
            sign = RELATIONS[link.relation][0] + (f" (in {', '.join(map(plain, link.of))})" if link.of else "")
            lines = [
                f"{self.name}: line {link.names[1]} does not follow from line {link.names[0]}.",
                f"  line {link.names[0]}:   {plain(link.previous)}",
                f"  line {link.names[1]}: {sign} {plain(link.expression)}",
                f"  reason given: {because}",
            ]
            lines += [f"  {text}" for text in (refusal.difference(), refusal.where) if text]
            raise WrongStep("\n".join(lines)) from None

    @property
    def lines(self) -> tuple[Line, ...]:
        """The displayed lines, all checked; only ``step`` adds one."""
        return tuple(self._lines)

    @property
    def laws(self) -> tuple[Law, ...]:
        """The laws under which the lines hold."""
        return self._laws

    @property
    def where(self) -> MappingProxyType:
        """The definitions under which the lines hold, those of ``given`` included."""
        return MappingProxyType(self._where)

    @property
    def steps(self) -> list[Line]:
        """Every checked line, the small ones included, in the order in which they are displayed."""
        return [step for line in self.lines[1:] for step in (*line.detail, line)]

    @property
    def last(self) -> Expression:
        """The formula of the last line."""
        return self.lines[-1].expression

    @property
    def proved(self) -> dict:
        """{first line: last line}, for ``where`` of another derivation; ``ValueError`` where it is no equation or holds
        only under definitions, laws or premises: then ``given=[this]`` takes them over.
        """
        if self.where:
            raise ValueError(f"{self.name} was proved under definitions; wanted given=[...], which takes them over")
        return dict(_premises(self, (), None))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return bundle(self)

    def __repr__(self) -> str:
        return bundle(self)["text/plain"]


def _densities(laws) -> list[Density]:
    """The factors of the laws, as they are displayed."""
    factors = [(law, f.factor if isinstance(f, every) else f) for law in laws for f in law.factors]
    return [Density(law.name, left, right, law.latex or "") for law, (left, right) in factors]


def _premises(other: Derivation, laws: tuple, dimension: Symbol | None) -> list[tuple]:
    """What ``other`` took for granted and what it proved, as definitions; ``ValueError`` if it proved no
    equation, or not here.
    """
    if not isinstance(other, Derivation):
        raise ValueError(f"given: wanted derivations, got {other!r}")
    relations = [line.relation for line in other.lines[1:]]
    if not relations or set(relations) != {"="}:
        raise ValueError(f"given: {other.name} does not prove an equation, its relations are {relations}")
    if not set(other.laws) <= set(laws) or other._sizes or other.checker.dimension not in (None, dimension):
        raise ValueError(f"given: {other.name} holds for its own laws, sizes and dimension, wanted the same here")
    if notes := [line.note for line in other.lines if line.note]:
        raise ValueError(f"given: {other.name} was only tested ({notes[0]}), wanted a proof")
    first, last = other.lines[0].expression, other.last
    return [(key, formula) for key, formula in other.where.items() if key != first] + [(first, last)]


def _text(name: str, value: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}: wanted a sentence, got {value!r}")
    if value.count("$") % 2:
        raise ValueError(f"{name}: wanted $math$ between pairs of dollar signs, got {value!r}")
