"""Whole derivations: every line is found right, every spoiled line wrong, and no spoiled line looks like the line."""

import html

import pytest

from lib.notebook.derivation import Derivation
from lib.notebook.formulas.printing import latex
from tests.notebook import demonstrations
from tests.notebook.mutation import refusals, spoiled, truly_holds


@pytest.fixture(scope="module")
def derivations() -> list[Derivation]:
    return demonstrations.everything()


# ------------------------------------------------------------ the demonstrations


def test_every_derivation_the_chapters_need_can_be_written(derivations):
    lengths = {d.name: len(d.steps) for d in derivations}
    assert lengths["kl"] == 10 and lengths["nine"] == 8 and lengths["posterior"] == 6 and lengths["bound"] == 4
    assert sum(lengths.values()) >= 80


def test_what_algebra_can_prove_it_proves(derivations):
    """Notes mark what was only tested; none of these lines needs one."""
    proved = "kl two aggregate trick square two-steps induction products convolution toy posterior width centre score"
    notes = {d.name: {s.note for s in d.steps} for d in derivations}
    assert [name for name in proved.split() if notes[name] != {None}] == []
    assert {note for name in ("bound", "nine") for note in notes[name] if note} == {
        "checked exactly on 9 random finite models, $T = 2, 3, 4$",
        "checked exactly on 36 random finite models, $T = 2, 3, 4$",
    }


def test_an_independent_computation_agrees_with_every_line(derivations):
    for d in derivations:
        for step in d.steps:
            if d.name != "products":  # a product of unknown length has no value
                agrees = truly_holds(d, step.previous, step.expression, step.relation, step.of, seeds=1)
                assert agrees, (d.name, step.number)


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
