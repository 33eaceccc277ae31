"""Every step of every derivation of the book is computed a second time, by other means and at other places."""

import pytest

from tests.chapters.derivations import CHAPTERS, made
from tests.notebook.mutation import spoiled
from tests.notebook.opinion import Judge, contradictions


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_step_is_contradicted(path):
    derivations = made(path)
    steps = sum(len(d.steps) for d in derivations)
    report = contradictions(derivations)
    print(
        f"{path.name}: {steps} steps, {sum(report.kinds.values())} with an opinion {dict(report.kinds)}, "
        f"at {report.points} places; none of {report.silent}"
    )
    assert report.contradicted == []
    assert sum(report.kinds.values()) + len(report.silent) == steps
    assert report.silent == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_spoiled_step_is_contradicted(path):
    """One step of each derivation is spoiled, each time by another kind of change; few changes change nothing."""
    derivations = made(path)
    missed = []
    for k, d in enumerate(derivations):
        equations = [s for s in d.steps if s.relation not in ("<=", ">=")]  # a spoiled bound may be a wider one
        step = equations[len(d.name) % len(equations)]
        choices = spoiled(d, step)
        kind, mutant = choices[k % len(choices)]
        verdict = Judge(d).of(step.previous, mutant, step.relation, step.of, step.note)
        if not verdict.against:
            missed.append(
                f"{d.name} {step.number} {kind}: {step.previous!r} {step.relation} {mutant!r}; {verdict.reasons}"
            )
    print(f"{path.name}: {len(missed)} of {len(derivations)} not contradicted: {missed}")
    assert len(missed) <= max(1, 0.1 * len(derivations)), missed
