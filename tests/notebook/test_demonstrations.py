"""Whole derivations: every line is found right, every spoiled line wrong, and no spoiled line looks like the line."""

import html

import mpmath
import pytest

from lib.notebook.derivation import Derivation
from lib.notebook.formulas import (
    KL,
    Expect,
    Integral,
    Law,
    Normal,
    Sum,
    exp,
    family,
    frac,
    function,
    log,
    noise,
    sqrt,
    squared_norm,
    symbol,
    symbols,
    vector,
)
from lib.notebook.formulas.expression import wrap
from lib.notebook.formulas.printing import latex
from tests.notebook import demonstrations
from tests.notebook.mutation import refusals, spoiled
from tests.notebook.opinion import Judge, NoOpinion, Opinion, contradictions


@pytest.fixture(scope="module")
def derivations() -> list[Derivation]:
    return demonstrations.everything()


# ------------------------------------------------------------ the demonstrations


def test_every_derivation_the_chapters_need_can_be_written(derivations):
    lengths = {d.name: len(d.steps) for d in derivations}
    assert lengths["kl"] == 10 and lengths["nine"] == 8 and lengths["posterior"] == 6 and lengths["bound"] == 4
    assert sum(lengths.values()) >= 80


def test_what_algebra_can_prove_it_proves(derivations):
    """Notes mark what was only tested or holds under a premise; hardly any of these lines needs one."""
    proved = "kl two aggregate trick square two-steps induction products convolution toy posterior width centre score"
    notes = {d.name: {s.note for s in d.steps} for d in derivations}
    assert {name: notes[name] for name in proved.split() if notes[name] != {None}} == {
        "posterior": {None, r"for $t \ge 2$"}  # at t = 1 there is no x_{t-1} beside x_0
    }
    tested = "checked exactly on 9 random finite models of up to 4 states a variable, $T = 2, 3, 4$"
    assert {note for name in ("bound", "nine") for note in notes[name] if note} == {tested}


def test_an_independent_computation_agrees_with_every_line(derivations):
    report = contradictions(derivations, seeds=1)
    assert report.contradicted == [] and report.silent == []
    assert report.kinds.total() == sum(len(d.steps) for d in derivations)


@pytest.mark.slow
def test_every_mutated_step_is_refused(derivations):
    kinds, equal, accepted = refusals(derivations)
    print(f"{kinds.total()} mutants, of which {len(equal)} were equal to the line after all: {dict(kinds)}")
    assert accepted == []
    assert kinds.total() > 500
    assert set(kinds) >= {"sign", "factor", "index", "exponent", "law", "condition", "variable", "range", "direction"}
    assert len(equal) < 0.05 * kinds.total(), equal


def test_what_is_displayed_is_what_was_checked(derivations):
    """Each line is printed from its checked formula, and no mutant of a formula looks the same on the page."""
    for d in derivations:
        page = d._repr_mimebundle_()["text/html"]
        for line in [d.lines[0], *d.steps]:
            assert html.escape(latex(line.expression), quote=False) in page, (d.name, line.number)
        for step in d.steps:
            for _, mutant in spoiled(d, step):
                assert latex(mutant) != latex(step.expression), (d.name, step.number, mutant)


# ------------------------------------------------------------ the second opinion itself

x, y, z, theta = symbols("x y z theta")
s, k = symbol("s", "positive"), symbol("k", "positive")
d, i, T = symbols("d i T", "integer")
h, f, v = family("h"), function("f"), vector("v")
epsilon, nu = noise("epsilon"), noise("nu", vector=True)
p = Law("p", z, x | z)
bell = Normal(z, x, s**2)

TRUE = {
    "moments": (Expect(epsilon**4, over=epsilon), 3, "=", ()),
    "substitution": (Expect(f(z), over=bell), Expect(f(x + s * epsilon), over=epsilon), "=", ()),
    "two Gaussians of far scales": (Integral(bell * Normal(z, y, k**2), z), Normal(x, y, s**2 + k**2), "=", ()),
    "a vector of noises": (Expect(squared_norm(s * nu), over=nu), d * s**2, "=", ()),
    "of a vector": (log(Normal(v, 0, s**2)), -squared_norm(v) / (2 * s**2), "const", (v,)),
    "a divergence": (KL(bell, Normal(z, 0, 1)), 0, ">=", ()),
    "merged noises": (x + s * epsilon + k * noise("u"), x + sqrt(s**2 + k**2) * epsilon, "law", ()),
    "a split sum": (Sum(h[i], i, 1, T), h[1] + Sum(h[i], i, 2, T), "=", ()),
    "Bayes": (p(z | x), p(x | z) * p(z), "propto", (z,)),
}
FALSE = {
    "a small bound": (x, 7, "<=", ()),
    "a larger bound": (exp(x), 600, "<=", ()),
    "a bound of a divergence": (KL(bell, Normal(z, 0, 1)), 50, "<=", ()),
    "a bound of a density": (p(x), 25, "<=", ()),
    "a root": (sqrt((x + 7) ** 2), x + 7, "=", ()),
    "a millionth": (x**2, x**2 + frac(1, 10**6), "=", ()),
    "a sum that may be empty": (Sum(h[i], i, 1, T), h[1] + h[2] + Sum(h[i], i, 3, T), "=", ()),
    "three dimensions": ((d - 1) * (d - 2) * (d - 3) * squared_norm(v), 0, "=", ()),
    "three lengths": (Sum(h[i], i, 1, T) * (T - 1) * (T - 2) * (T - 3), 0, "=", ()),
    "one component for all": (Expect(squared_norm(s * nu), over=nu), s**2, "=", ()),
    "a constant in of": (theta * p(x | z), theta**2 * p(x | z), "propto", (theta,)),
    "added deviations": (x + s * epsilon + k * noise("u"), x + (s + k) * epsilon, "law", ()),
    "a parameter of a law": (p(z | x), p(x | z), "propto", (z,)),
}


def judged(previous, new, relation, of):
    laws = [p] if "p(" in repr(previous) else []
    judge = Judge(Derivation(previous, name="case", laws=laws, dimension=d), seeds=36)
    return judge.of(previous, wrap(new), relation, of)


@pytest.mark.parametrize("case", TRUE.values(), ids=TRUE)
def test_the_second_opinion_agrees_with_true_lines(case):
    assert judged(*case).holds


@pytest.mark.parametrize("case", FALSE.values(), ids=FALSE)
def test_the_second_opinion_contradicts_false_lines(case):
    assert judged(*case).against


def test_the_second_opinion_heeds_a_footnote_about_lengths():
    first, then, relation, of = FALSE["a sum that may be empty"]
    judge = Judge(Derivation(first, name="case"))
    judge.derivation.step(wrap(0) + first, because="The letters.")
    assert judge.of(first, then, relation, of).against
    assert judge.of(first, then, relation, of, r"for $T \ge 2$").holds


def test_the_second_opinion_is_silent_where_it_cannot_compute():
    with mpmath.workdps(30), pytest.raises(NoOpinion, match="degree five"):
        start = Expect(squared_norm(nu) ** 3, over=nu)
        Opinion(Derivation(start, name="case"), 0, {}, 3, tables=False, calm=False).value(start, {})
