"""Every step of every derivation of the book is computed a second time, by other means and at other places; then it is
spoiled, one thing at a time, and each spoiled step is refused.

What is stored of the derivations, and of the library's source that chapters show, is what their cells display now. A
chapter's derivations stand in cells tagged ``derivation``, which need nothing but the cell tagged ``imports``.
"""

from pathlib import Path

import nbformat
import pytest

from lib.publishing import fingerprint, notebooks
from lib.publishing.parts import tagged
from tests.chapters.rendering import run_alone
from tests.notebook.mutation import refusals, spoiled
from tests.notebook.opinion import Judge, contradictions

ROOT = Path(__file__).parents[2]


def code(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


CHAPTERS = [path for path in notebooks.chapters(ROOT) if any("Derivation(" in cell.source for cell in code(path))]


def test_the_book_derives_something():
    assert CHAPTERS, f"no notebook under {ROOT / 'book'} holds a Derivation"


@pytest.fixture(scope="module", params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    """A chapter's file, and what its cells did that can be run alone; they run once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        return request.param, run_alone(request.param, ROOT, patch)


def test_what_is_stored_is_what_the_cells_display(chapter):
    _, alone = chapter
    assert alone.differing == []


def test_every_spoiled_step_is_refused(chapter):
    path, alone = chapter
    untagged = [cell.source for cell in code(path) if "Derivation(" in cell.source and not tagged(cell, "derivation")]
    assert not untagged, f"{path.name}: cells with a Derivation need the tag derivation:\n{untagged}"
    made = alone.made
    assert made, f"{path.name} mentions Derivation( but makes none"
    names = [d.name for d in made]
    assert len(set(names)) == len(names), f"{path.name}: two derivations share a name: {names}"
    steps = sum(len(d.steps) for d in made)
    assert steps >= len(made), f"{path.name}: a derivation without a step"
    kinds, equal, accepted = refusals(made)
    print(f"{path.name}: {steps} steps, {kinds.total()} mutants, {len(equal)} equal after all, {dict(kinds)}")
    assert accepted == []
    assert kinds.total() >= 4 * steps
    assert len(equal) <= 0.1 * kinds.total(), equal


def test_no_step_is_contradicted(chapter):
    path, alone = chapter
    steps = sum(len(d.steps) for d in alone.made)
    report = contradictions(alone.made)
    print(
        f"{path.name}: {steps} steps, {report.kinds.total()} with an opinion {dict(report.kinds)}, "
        f"at {report.points} places; none of {report.silent}"
    )
    assert report.contradicted == []
    assert report.kinds.total() + len(report.silent) == steps
    assert report.silent == []


def test_a_spoiled_step_is_contradicted(chapter):
    """One step of each derivation is spoiled, each time by another kind of change; few changes change nothing."""
    path, alone = chapter
    missed = []
    for k, d in enumerate(alone.made):
        equations = [s for s in d.steps if s.relation not in ("<=", ">=")]  # a spoiled bound may be a wider one
        step = equations[len(d.name) % len(equations)]
        choices = spoiled(d, step)
        kind, mutant = choices[k % len(choices)]
        verdict = Judge(d).of(step.previous, mutant, step.relation, step.of, step.note)
        if not verdict.against:
            missed.append(
                f"{d.name} {step.number} {kind}: {step.previous!r} {step.relation} {mutant!r}; {verdict.reasons}"
            )
    print(f"{path.name}: {len(missed)} of {len(alone.made)} not contradicted: {missed}")
    assert len(missed) <= max(1, 0.1 * len(alone.made)), missed


@pytest.mark.parametrize(
    ("face", "before", "after"),
    [
        ("text/html", "1", "2"),
        ("text/latex", "1", "2"),
        ("text/plain", "1", "2"),
        ("text/markdown", "kl_to_standard_normal", "kl_to_normal"),
    ],
)
def test_a_number_edited_by_hand_is_caught_even_with_its_checksum(tmp_path, monkeypatch, face, before, after):
    path = next(path for path in CHAPTERS if path.stem == "vae")
    notebook = notebooks.read(path)
    shown = ("setup", "imports", "derivation")
    notebook.cells = [
        c for c in notebook.cells if any(tagged(c, tag) for tag in shown) or c.source.startswith("source(")
    ]
    assert sum(tagged(cell, "derivation") for cell in notebook.cells) > 1
    edited = next(
        output for cell in notebook.cells for output in cell.get("outputs", ()) if face in output.get("data", {})
    )
    assert before in edited.data[face]
    edited.data[face] = edited.data[face].replace(before, after, 1)
    fingerprint.record(notebook, ROOT, [], {})
    notebooks.write(notebook, tmp_path / "edited.ipynb")
    assert fingerprint.stale(tmp_path / "edited.ipynb", ROOT) == []
    (differing,) = run_alone(tmp_path / "edited.ipynb", ROOT, monkeypatch).differing
    assert differing.startswith("edited.ipynb, cell ")
