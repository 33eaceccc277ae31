"""Sentences with numbers from the run: how they are written, what is refused, and who is told what."""

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.notebook import exact, explore, finding, found, show, told

module = sys.modules["lib.notebook.finding"]


@pytest.fixture
def page(monkeypatch):
    """What was displayed, in order: the faces and the metadata."""
    shown = []
    monkeypatch.setattr(module, "get_ipython", lambda: "a notebook")
    monkeypatch.setattr(module, "display", lambda faces, raw, metadata: shown.append((faces, metadata)))
    return shown


@pytest.fixture
def reader(monkeypatch):
    """The environment of a reader's notebook."""
    monkeypatch.delenv(module.MUST_HOLD)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A file of numbers that chapters can quote."""
    file = tmp_path / "findings.json"
    file.write_text(json.dumps({"vae elbo": -103.2, "vae seeds": 3, "vit accuracy": 0.97}))
    monkeypatch.setattr(module, "FILE", file)
    monkeypatch.setattr(module, "QUOTED", {})


def test_a_sentence_takes_its_numbers_as_the_placeholders_say():
    sentence = told(
        "{n:,} images: **{elbo:.1f} nats**, {verdict} than {share:.0%} of $p_{{t-1}}$ in {{doc}}`vae` ({n}, {kind}).",
        n=exact(60_000),
        elbo=(-103.24, -115, -100),
        verdict=("better", True, "worse"),
        share=(0.456, None, 0.5),
        kind=exact("Swin-T"),
    )
    assert sentence == (
        "60,000 images: **−103.2 nats**, better than 46% of $p_{t-1}$ in {doc}`vae` (60000, Swin-T)."
    )  # with a minus sign, but only in the numbers


def test_a_finding_is_markdown_and_hands_its_numbers_on(page):
    finding(
        """
        - The first of {n} lines.
        - A loss of {loss:.2f}, {how}.
        """,
        n=exact(2),
        loss=(torch.tensor([0.5]), 0, 1),
        how=("small", True, "large"),
    )
    text = "- The first of 2 lines.\n- A loss of 0.50, small."
    assert page == [({"text/markdown": text, "text/plain": text}, {module.NUMBERS: {"n": 2, "loss": 0.5}})]


def test_outside_a_notebook_a_finding_is_checked_and_not_displayed(capsys):
    finding("{a:.1f}", a=(1.0, 0, 1))
    with pytest.raises(AssertionError):
        finding("{a:.1f}", a=(2.0, 0, 1))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "number",
    [1, 1.0, np.float32(1), np.int64(1), np.array([[1.0]]), torch.tensor(1), torch.ones(1, 1, requires_grad=True)],
)
def test_a_number_of_any_kind_is_one(number):
    assert told("{a:.1f}", a=(number, 1, 1)) == told("{a:.1f}", a=exact(number)) == "1.0"
    with pytest.raises(AssertionError, match="got a = 1"):
        told("{a:.1f}", a=(number, 2, None))


@given(st.floats(), st.floats(-10, 10), st.floats(-10, 10))
def test_a_range_has_its_ends_in_it_and_nothing_else(number, one, other):
    low, high = sorted((one, other))
    for bounds, within in (
        ((low, high), low <= number <= high),
        ((low, None), low <= number < np.inf),
        ((None, high), -np.inf < number <= high),
    ):
        if within:
            assert told("{a:.0f}", a=(number, *bounds)) == f"{number:.0f}".replace("-", "−")
        else:
            with pytest.raises(AssertionError):
                told("{a:.0f}", a=(number, *bounds))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ((0.25, 0.4, 0.6), r"wanted a between 0\.4 and 0\.6, got a = 0\.25"),
        ((0.25, np.float64(0.5), None), r"wanted a at least 0\.5, got a = 0\.25"),
        ((0.25, None, torch.tensor(0)), r"wanted a at most 0, got a = 0\.25"),
        ((float("nan"), 0, 1), "wanted a between 0 and 1, got a = nan"),
        ((float("inf"), 0, None), "wanted a at least 0, got a = inf"),
        (("all", np.bool_(False), "some"), "wanted 'all' in place of 'some', got a = 'some'"),
        (("all", torch.tensor([False]), "some"), "wanted 'all' in place of 'some', got a = 'some'"),
    ],
)
def test_what_does_not_hold_is_named_with_its_sentence(value, wanted):
    text = "It is {a}." if isinstance(value[0], str) else "It is {a:.2f}."
    with pytest.raises(AssertionError, match=rf"this does not hold: 'It is .*\.'; {wanted}"):
        told(text, a=value)


def test_all_that_does_not_hold_is_named():
    with pytest.raises(AssertionError, match="wanted a at least 5 and c at most 0, got a = 1, c = 3"):
        told("{a} {b} {c}", a=(1, 5, None), b=(2, 0, 5), c=(3, None, 0))


def test_a_reader_reads_the_own_numbers_and_that_they_are_others(page, reader):
    values = {"gain": (-1.5, 5, None), "how": ("better", False, "worse"), "seed": exact(7), "nan": (np.nan, 0, 1)}
    text = "{gain:.1f} nats {how} with seed {seed}, {nan:.1f}."
    finding(text, **values)
    ((faces, numbers),) = page
    sentence, note = faces["text/markdown"].split("\n\n")
    assert sentence == "−1.5 nats worse with seed 7, nan."
    assert note == (
        "(Your run differs from the printed one, which has gain at least 5 and 'better' in place of 'worse' "
        "and nan between 0 and 1.)"
    )
    assert numbers == {module.NUMBERS: {"gain": -1.5, "seed": 7}}  # metadata are JSON, which has no NaN
    assert told(text, **values) == f"{sentence} {note}"  # in one line: it may stand in a table


@pytest.mark.parametrize(
    ("text", "values", "said"),
    [
        ("{a} {b} {c}", {"a": exact(1)}, r"no value for \{b\}, \{c\}"),
        ("{a}", {"a": exact(1), "b": exact(1), "d": exact(2)}, "no placeholder for b, d"),
        ("$x_{t-1}$ {a}", {"a": exact(1)}, r"no value for \{t-1\} \(braces of TeX and of roles are written twice\)"),
        ("{} {0}", {"a": exact(1)}, r"no value for \{\}, \{0\}"),
        ("{a!r}", {"a": exact(1)}, r"no value for \{a!r\}"),
        ("{a.real}", {"a": exact(1)}, r"no value for \{a\.real\}"),
        ("{a", {"a": exact(1)}, "text: .*braces of TeX and of roles are written twice"),
        ("All is well.", {}, "text: wanted a placeholder"),
        (None, {"a": exact(1)}, "text must be a text with placeholders, got None"),
        ("{a:.1f}", {"a": 3.0}, r"a: wanted \(number, low, high\).*or exact\(value\).*got 3\.0"),
        ("{a}", {"a": "better"}, "a: wanted .* got 'better'"),
        ("{a}", {"a": (1, 2)}, r"a: wanted .* got \(1, 2\)"),
        ("{a}", {"a": torch.ones(3)}, r"a: wanted .* got tensor"),
        ("{a:.1f}", {"a": (torch.ones(3), 0, 1)}, r"a: wanted one number, got Tensor of shape \(3,\)"),
        ("{a:.1f}", {"a": (np.ones((2, 1)), 0, 1)}, r"a: wanted one number, got ndarray of shape \(2, 1\)"),
        ("{a:.1f}", {"a": ([1.0], 0, 1)}, r"a: wanted a number, got \[1\.0\]"),
        ("{a:.1f}", {"a": (True, 0, 1)}, "a: wanted a number, got True"),
        ("{a:.1f}", {"a": (1j, 0, 1)}, "a: wanted a number, got 1j"),
        ("{a:.1f}", {"a": (1.0, None, None)}, "a: wanted a range from low to high"),
        ("{a:.1f}", {"a": (1.0, 2, 1)}, "a: wanted a range from low to high, .* got 2 and 1"),
        ("{a:.1f}", {"a": (1.0, float("nan"), 1)}, "a: wanted a finite number, got nan"),
        ("{a:.1f}", {"a": (1.0, 0, float("inf"))}, "a: wanted a finite number, got inf"),
        ("{a:.1f}", {"a": exact(float("nan"))}, "a: wanted a finite number, got nan"),
        ("{a}", {"a": exact(None)}, "a: wanted a finite number, got None"),
        ("{a}", {"a": ("all", 1, "some")}, r"a: wanted \(word, True or False, other word\), got 1"),
        ("{a}", {"a": (0.123456, 0, 1)}, r"a: wanted a format for what was measured, such as \{a:.2f\}"),
        ("{a:.2q}", {"a": (0.5, 0, 1)}, "a: wanted a format for 0.5, got '.2q'"),
        ("{a:d}", {"a": (0.5, 0, 1)}, "a: wanted a format for 0.5, got 'd'"),
        ("{a:.1f}", {"a": exact("Swin")}, "a: wanted a format for 'Swin', got '.1f'"),
    ],
)
def test_what_cannot_be_told_is_refused(text, values, said):
    for tell in (told, finding):
        with pytest.raises(ValueError, match=said):
            tell(text, **values)


def test_figures_take_what_is_told(monkeypatch):
    shown = []
    for name in ("pictures", "explore"):
        monkeypatch.setattr(sys.modules[f"lib.notebook.{name}"], "publish", lambda faces, text: shown.append(faces))
    half = np.eye(2)
    show(half, told("{n} pixels", n=exact(4)), caption=told("{share:.0%} are white.", share=(half.mean(), 0.4, 0.6)))
    assert 'alt="4 pixels"' in shown[0]["text/html"] and "50% are white." in shown[0]["text/html"]
    explore(
        lambda grey: half * grey,
        lambda grey: told("{grey}: a mean of {mean:.2f}.", grey=exact(grey), mean=(grey / 2, 0, 0.5)),
        grey=(0.2, 1.0),
    )
    assert "0.2: a mean of 0.10." in shown[1]["text/html"] and "1.0: a mean of 0.50." in shown[1]["text/html"]


def test_a_number_of_another_chapter_is_the_kept_one_and_is_noted(kept):
    assert told("{n} × {elbo:.1f}", n=exact(found("vae", "seeds")), elbo=exact(found("vae", "elbo"))) == "3 × −103.2"
    assert module.QUOTED == {"vae seeds": 3, "vae elbo": -103.2}


@pytest.mark.parametrize(
    ("asked", "known"),
    [(("vae", "loss"), "vae elbo, vae seeds;"), (("dit", "elbo"), "vae elbo, vae seeds, vit accuracy;")],
)
def test_a_number_that_is_not_kept_is_refused_with_those_that_are(kept, asked, known):
    with pytest.raises(ValueError, match=f"found: wanted one of {known} got {' '.join(asked)}"):
        found(*asked)
    assert module.QUOTED == {}


def test_the_book_brings_a_file_of_numbers():
    assert isinstance(json.loads(module.FILE.read_text(encoding="utf-8")), dict)
