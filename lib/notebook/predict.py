"""Questions that a reader answers before the truth is shown.

A card is one piece of HTML without a script: each answer unfolds what is to be said of it. So it lives wherever HTML
is shown, in the built page, in Jupyter, on Colab and on GitHub; `book/assets/predict.css` only dresses it.
"""

import html
import os
from collections.abc import Mapping

from lib.checks import check_flags
from lib.notebook.finding import MUST_HOLD
from lib.notebook.pictures import plain_text, publish

OTHERWISE = "Your run came out differently: the answers are those of the printed settings."


def predict(question: str, answers: Mapping[str, str], *, truth: str, holds: bool) -> None:
    """Displays a question whose answers can be tried, each with a sentence of its own.

    ```python
    predict(
        "Nobody charges for noise any more: β falls from 1 to 0. What becomes of a drawing of a random code?",
        {
            "It gets sharper": "The reconstructions do. But a random code now lies where the decoder has never been.",
            "It falls apart": f"Only {share:.0%} of the random codes still lie near the code of a digit.",
        },
        truth="It falls apart",
        holds=share < 0.2,
    )
    ```
    `answers` holds two to four answers in the order in which they are shown. The sentence of the true one says why it
    is true; that of another says what is right in it, or what fooled the reader. They were written for one outcome:
    `truth` names it, and `holds` is the condition on the run under which it came about. All texts are plain, as in
    `show`.

    Where `holds` is false, a reader's card says so and is shown all the same. While the book is made
    (`BOOK_FINDINGS_MUST_HOLD` is set in the environment) it raises AssertionError, so that no page teaches what its run
    refutes. Raises ValueError, naming the argument, for all other bad input.
    """
    question = plain_text(question, "question")
    if not isinstance(answers, Mapping) or not 2 <= len(answers) <= 4:
        raise ValueError(f"answers must map two to four answers to a sentence on each, got {answers!r}")
    replies = {
        plain_text(answer, "each answer of answers"): plain_text(reply, f"answers[{answer!r}]")
        for answer, reply in answers.items()
    }
    if len({answer.casefold() for answer in replies}) < len(answers):
        raise ValueError(f"answers must differ from each other, got {list(answers)}")
    if truth not in list(replies):
        raise ValueError(f"truth must be one of {list(replies)}, got {truth!r}")
    if getattr(holds, "shape", None) == ():  # two numbers of an array or a tensor were compared
        holds = holds.item()  # type: ignore[attr-defined]
    check_flags(holds=holds)
    if not holds and os.environ.get(MUST_HOLD):
        raise AssertionError(f"the run does not confirm {truth!r}, the answer to {question!r}")
    note = "" if holds else OTHERWISE
    text = [question, *(f"- {answer}" for answer in replies), note, f"The truth: {truth}", replies[truth]]
    publish({"text/html": card_html(question, replies, truth, note)}, "\n".join(filter(None, text)))


def card_html(question: str, replies: Mapping[str, str], truth: str, note: str = "") -> str:
    """The card: `<fieldset class="predict">` question and note as its legend, a `<details>` an answer."""
    folds = "".join(_fold(answer, reply, answer == truth) for answer, reply in replies.items())
    asked = f"<small>Choose before you read on</small><br><strong>{html.escape(question)}</strong>"
    if note:
        asked += f"<br><small>{html.escape(note)}</small>"
    return f'<fieldset class="predict"><legend>{asked}</legend>{folds}</fieldset>'


def _fold(answer: str, reply: str, right: bool) -> str:
    """One answer, and folded in it whether it is right and the sentence on it.

    It is high enough for a finger. Without data-lm-suppress-shortcuts JupyterLab takes the Enter key for itself.
    """
    name, sign, verdict = ("right", "✓", "Right.") if right else ("wrong", "✗", "Not so.")
    return (
        f'<details class="predict-{name}">'
        '<summary data-lm-suppress-shortcuts="true" style="padding:0.8em 0.9em;cursor:pointer">'
        f"{html.escape(answer)}</summary>"
        '<p style="margin:0 0.9em 0.8em 2.2em">'
        f'<span aria-hidden="true">{sign} </span><strong>{verdict}</strong> {html.escape(reply)}</p></details>'
    )
