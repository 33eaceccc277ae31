"""Questions asked before the truth is shown: what is stored (tests/html answers it in a browser), what is refused."""

import sys

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup

from lib.notebook import predict
from lib.notebook.finding import MUST_HOLD
from lib.notebook.predict import OTHERWISE

module = sys.modules["lib.notebook.predict"]

QUESTION = "Is 3 < 4 & <i>σ > 0?"
ANSWERS = {"No <b>way</b>": "It looks so.", "Both": "3 < 4 by one.", "Only σ > 0": "Half of <b>it</b>."}


@pytest.fixture
def shown(monkeypatch):
    """The HTML and the text of every question that was displayed."""
    cards = []
    monkeypatch.setattr(module, "publish", lambda faces, text: cards.append((faces, text)))
    return cards


def asked(**other):
    predict(**({"question": QUESTION, "answers": ANSWERS, "truth": "Both", "holds": True} | other))


def test_every_answer_unfolds_its_sentence_and_one_of_them_is_right(shown):
    asked()
    ((faces, _),) = shown
    card = BeautifulSoup(faces["text/html"], "html.parser").find("fieldset", class_="predict", recursive=False)
    assert card.legend.strong.text == QUESTION
    folds = card.find_all("details", recursive=False)
    assert [fold.summary.text for fold in folds] == list(ANSWERS), "in the order in which they were given"
    assert [fold.p.text for fold in folds] == [
        "✗ Not so. It looks so.", "✓ Right. 3 < 4 by one.", "✗ Not so. Half of <b>it</b>.",
    ]  # fmt: skip
    assert [fold["class"] for fold in folds] == [["predict-wrong"], ["predict-right"], ["predict-wrong"]]
    assert not any(fold.has_attr("open") for fold in folds)


def test_a_card_has_no_scripts_no_styles_and_no_names_that_a_second_one_would_repeat(shown):
    asked()
    card = BeautifulSoup(shown[0][0]["text/html"], "html.parser")
    assert not card.find_all(["script", "style"])
    assert not card.find_all(lambda tag: tag.has_attr("id") or tag.has_attr("name"))


def test_a_terminal_is_told_the_question_the_answers_and_then_the_truth(shown):
    asked()
    assert shown[0][1].splitlines() == [
        QUESTION, "- No <b>way</b>", "- Both", "- Only σ > 0", "The truth: Both", "3 < 4 by one.",
    ]  # fmt: skip


@pytest.mark.parametrize("holds", [True, np.float32(1) < 2, torch.tensor(1) < 2, (np.ones(2) < 2).all()])
def test_any_comparison_may_say_what_holds(shown, holds):
    asked(holds=holds)
    assert len(shown) == 1


@pytest.mark.parametrize("holds", [False, np.float32(1) > 2, torch.tensor(1) > 2])
def test_a_truth_that_the_run_does_not_confirm_ends_the_cell(shown, holds):
    with pytest.raises(AssertionError, match="the run does not confirm 'Both', the answer to 'Is 3 < 4"):
        asked(holds=holds)
    assert shown == []


def test_a_reader_whose_run_differs_gets_the_card_and_a_line(shown, monkeypatch):
    monkeypatch.delenv(MUST_HOLD)
    asked(holds=False)
    asked(holds=True)
    (other, other_text), (same, same_text) = ((faces["text/html"], text) for faces, text in shown)
    assert other.replace(f"<br><small>{OTHERWISE}</small>", "") == same and OTHERWISE in other_text
    assert OTHERWISE not in same + same_text


WRONG = {
    "question must be a text that is not empty": {"question": " "},
    "question must be plain text without TeX": {"question": "Is $x$ large?"},
    "answers must map two to four answers to a sentence on each, got {'Both'": {"answers": {"Both": "It is."}},
    "answers must map two to four answers to a sentence on each, got {'a'": {"answers": dict.fromkeys("abcde", "No.")},
    r"answers must map two to four answers to a sentence on each, got \[": {"answers": ["Both", "None"]},
    "each answer of answers must be a text that is not empty": {"answers": {"Both": "It is.", " ": "It is not."}},
    "each answer of answers must be plain text without TeX": {"answers": {"Both": "It is.", "$x$": "It is not."}},
    r"answers\['None'\] must be a text that is not empty": {"answers": {"Both": "It is.", "None": ""}},
    r"answers\['None'\] must be plain text without TeX": {"answers": {"Both": "It is.", "None": r"But \beta is."}},
    "answers must differ from each other, got": {"answers": {"Both": "It is.", "both ": "It is not."}},
    "truth must be one of .*'No <b>way</b>', 'Both', 'Only σ > 0'.*, got 'None'": {"truth": "None"},
    "truth must be one of .*, got None": {"truth": None},
    "holds must be True or False, got 1": {"holds": 1},
    "holds must be True or False, got 'Both'": {"holds": "Both"},
    "holds must be True or False, got array": {"holds": np.ones(2) < 2},
    r"holds must be True or False, got torch.bool \(2,\)": {"holds": torch.ones(2) < 2},
    "holds must be True or False, got 0.5": {"holds": np.float64(0.5)},
}


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_asked_is_refused_by_name(said, shown):
    with pytest.raises(ValueError, match=said):
        asked(**WRONG[said])
    assert shown == []
