"""Sentences with numbers from the run, each number with the range in which the sentence is true.

`finding` shows such a sentence on the page, `told` returns it for a caption, an alt text or a table. While the book is
made, a number outside its range is an error, so no page says what its run does not show. In a reader's notebook the
sentence takes the reader's numbers, and one line adds how the printed run had them.
"""

import inspect
import json
import math
import numbers
import os
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import NamedTuple

from IPython import get_ipython
from IPython.display import display

MUST_HOLD = "BOOK_FINDINGS_MUST_HOLD"  # set in the environment: what does not hold is an error
NUMBERS = "book_numbers"  # where the metadata of the output have them, for `found`
FILE = Path(__file__).with_name("findings.json")  # {"vae elbo": -103.2, ...}; written by `lib.publishing.execute`
QUOTED = dict[str, float]()  # what this process asked `found` for


def finding(text: str, /, **values) -> None:
    """Displays a sentence, or a whole paragraph in Markdown, with numbers from the run.

    ```python
    finding(
        "After {seen:,} images the ELBO is {elbo:.1f} nats, {verdict} than that of the untrained model.",
        seen=exact(history.images), elbo=(elbo, -115, -100), verdict=("higher", elbo > before, "lower"),
    )
    ```
    Each placeholder is that of a format string, and its value one of

    - `(number, low, high)`: what was measured, and where it must lie for the sentence to be true, both ends
      included; None leaves one side open. The number may be of numpy, or a tensor of one element;
    - `(word, holds, other)`: the word, whether it is true, and the word for a reader's run in which it is not;
    - `exact(value)`: what every run has alike.

    Braces of TeX and of roles are written twice: `$x_{{t-1}}$`. Other chapters can quote the numbers by `found`.

    Raises AssertionError for what does not hold, where the environment has `BOOK_FINDINGS_MUST_HOLD` set, and
    ValueError, naming the placeholder, for missing and surplus values, for values of another kind, and for formats
    that do not fit them.
    """
    sentence, note, shown = _tell(text, values)
    paragraphs = "\n\n".join([sentence, *note])
    if get_ipython() is not None:  # elsewhere there is no page
        display({"text/markdown": paragraphs, "text/plain": paragraphs}, raw=True, metadata={NUMBERS: shown})


def told(text: str, /, **values) -> str:
    """The sentence that `finding` would display, checked as it does, to be used as any other text.

    ```python
    explore(blur, lambda beta: told("β = {beta}: {error:.2f} off.", beta=exact(beta), error=(errors[beta], 0, 1)), ...)
    ```
    """
    sentence, note, _ = _tell(text, values)
    return " ".join([sentence, *note])


@dataclass(frozen=True)
class exact:
    """Marks a number or a text that every run has alike: a setting, a count, what another chapter `found`."""

    value: object


def found(chapter: str, name: str, /) -> float:
    """The number that a finding of another chapter has under this name: `found("vae", "elbo")`.

    It is that of the printed book, also where the other chapter is not at hand. Raises ValueError where there is none.
    """
    known, asked = json.loads(FILE.read_text(encoding="utf-8")), f"{chapter} {name}"
    if asked not in known:
        names = [each for each in known if each.startswith(f"{chapter} ")] or known
        raise ValueError(f"found: wanted one of {', '.join(names) or 'none'}; got {asked}")
    QUOTED[asked] = known[asked]
    return known[asked]


def written(name: str, value: float | str, form: str) -> str:
    """A value as a text has it, by a format such as `.1f`, with a minus sign and not a hyphen.

    Raises ValueError with `name` in it for a format that does not fit.
    """
    try:
        text = format(value, form)
    except ValueError as error:
        raise ValueError(f"{name}: wanted a format for {value!r}, got {form!r}: {error}") from None
    return text if isinstance(value, str) else text.replace("-", "−")


class _Value(NamedTuple):
    """What a placeholder stands for, how the printed run has it, and whether this run agrees."""

    shown: float | str
    printed: str = ""
    holds: bool = True


def _tell(text: str, given: dict) -> tuple[str, list[str], dict[str, float]]:
    """The sentence, what is to be added where it does not hold, and its numbers by name."""
    if not isinstance(text, str):
        raise ValueError(f"text must be a text with placeholders, got {text!r:.80}")
    text = inspect.cleandoc(text)
    parts = _parts(text)
    _check_names([name for _, name, _ in parts if name is not None], given, text)
    values = {name: _value(name, each) for name, each in given.items()}
    sentence = "".join(
        literal + ("" if name is None else _shown(name, values[name], form)) for literal, name, form in parts
    )
    note = []
    if wrong := {name: value for name, value in values.items() if not value.holds}:
        printed = " and ".join(value.printed for value in wrong.values())
        if os.environ.get(MUST_HOLD):
            came = ", ".join(f"{name} = {value.shown!r}" for name, value in wrong.items())
            raise AssertionError(f"this does not hold: {sentence!r}; wanted {printed}, got {came}")
        note = [f"(Your run differs from the printed one, which has {printed}.)"]
    shown = {name: value.shown for name, value in values.items()}
    return sentence, note, {name: n for name, n in shown.items() if not isinstance(n, str) and math.isfinite(n)}


def _parts(text: str) -> list[tuple[str, str | None, str]]:
    """The text in pieces, each with name and format of the placeholder behind it."""
    try:
        pieces = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"text: {error}; braces of TeX and of roles are written twice, got {text!r}") from None
    return [(before, f"{name}!{how}" if how else name, form or "") for before, name, form, how in pieces]


def _check_names(named: list[str], given: dict, text: str) -> None:
    if not named:
        raise ValueError(f"text: wanted a placeholder (what no run can change is plain Markdown), got {text!r}")
    if missing := [f"{{{name}}}" for name in named if name not in given]:
        raise ValueError(
            f"no value for {', '.join(missing)} (braces of TeX and of roles are written twice) in {text!r}"
        )
    if surplus := [name for name in given if name not in named]:
        raise ValueError(f"no placeholder for {', '.join(surplus)} in {text!r}")


def _shown(name: str, value: _Value, form: str) -> str:
    if isinstance(value.shown, float) and value.printed and not form:
        raise ValueError(f"{name}: wanted a format for what was measured, such as {{{name}:.2f}}, got none")
    return written(name, value.shown, form)


def _value(name: str, given: object) -> _Value:
    match given:
        case exact(str(text)):
            return _Value(text)
        case exact(value):
            return _Value(_number(name, value, finite=True))
        case (str(word), truth, str(other)):
            holds = _element(name, truth)
            if not isinstance(holds, bool):
                raise ValueError(f"{name}: wanted (word, True or False, other word), got {truth!r} in the middle")
            return _Value(word if holds else other, f"{word!r} in place of {other!r}", holds)
        case (value, low, high):
            return _measured(name, _number(name, value), low, high)
    raise ValueError(
        f"{name}: wanted (number, low, high), (word, whether it holds, other word) or exact(value) "
        f"for what every run has alike, got {given!r:.80}"
    )


def _measured(name: str, number: float, low: object, high: object) -> _Value:
    """A number and its range."""
    least = -math.inf if low is None else _number(name, low, finite=True)
    most = math.inf if high is None else _number(name, high, finite=True)
    if least > most or (low is None and high is None):
        raise ValueError(f"{name}: wanted a range from low to high, at most one of them None, got {low!r} and {high!r}")
    if low is None:
        printed = f"{name} at most {most}"
    else:
        printed = f"{name} at least {least}" if high is None else f"{name} between {least} and {most}"
    return _Value(number, printed, math.isfinite(number) and least <= number <= most)


def _number(name: str, value: object, finite: bool = False) -> float:
    """A number as Python has it, an integer as an integer. Only what was measured may be infinite or NaN."""
    value = _element(name, value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or (finite and not math.isfinite(value)):
        raise ValueError(f"{name}: wanted a{' finite' * finite} number, got {value!r:.80}")
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _element(name: str, value):
    """The one element of a tensor or an array; anything else as it is."""
    try:
        return value.item() if hasattr(value, "item") else value
    except (RuntimeError, ValueError):  # torch raises the one, numpy the other
        shape = tuple(value.shape)
        raise ValueError(f"{name}: wanted one number, got {type(value).__name__} of shape {shape}") from None
