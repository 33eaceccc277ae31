"""The sliders of an interactive figure: their values, how these read, and where each slider starts."""

import itertools
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lib.checks import is_number
from lib.notebook.pictures import plain_text

MAX_FRAMES = 150  # of 10 KB each, these already fill a chapter's notebook


class Span(NamedTuple):
    """A control over a range: every value between when live, `frames` of them when stored. Made by `span`."""

    low: float
    high: float
    frames: int


class Control(NamedTuple):
    """One slider: the values it steps through when stored, how each reads, and the value it starts with."""

    name: str
    label: str
    values: tuple
    texts: tuple[str, ...]
    start: Any
    span: Span | None

    @property
    def position(self) -> int:
        """Index of the stored value at the start; for a span, of the nearest one."""
        if self.span is None:
            return self.values.index(self.start)
        return min(range(len(self.values)), key=lambda index: abs(self.values[index] - self.start))


def span(low: float, high: float, frames: int = 9) -> Span:
    """A slider from `low` to `high`: any value between when live, `frames` evenly spaced ones when stored.

    Raises ValueError unless both ends are finite, `low < high`, and `frames` is a whole number of at least 2.
    """
    for name, value in (("low", low), ("high", high)):
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    if not low < high or math.isinf(high - low):
        raise ValueError(f"low must be less than high by a finite amount, got {low!r} and {high!r}")
    if not isinstance(frames, numbers.Integral) or isinstance(frames, bool) or frames < 2:
        raise ValueError(f"frames must be a whole number of at least 2, got {frames!r}")
    return Span(float(low), float(high), int(frames))


def checked_controls(controls: Mapping, labels: Mapping, start: Mapping) -> list[Control]:
    """The sliders that `explore` was asked for. Raises ValueError as it says."""
    if not 1 <= len(controls) <= 3:
        raise ValueError(f"explore takes one to three controls, got {len(controls)}: {', '.join(controls) or 'none'}")
    for name, given in (("labels", labels), ("start", start)):
        if unknown := [key for key in given if key not in controls]:
            raise ValueError(f"{name} names {unknown}, but the controls are {list(controls)}")
    sliders = [_control(name, values, labels, start) for name, values in controls.items()]
    count = math.prod(len(slider.values) for slider in sliders)
    if count > MAX_FRAMES:
        product = " × ".join(f"{len(slider.values)} {slider.name}" for slider in sliders)
        raise ValueError(
            f"{product} = {count} frames, but a stored figure holds at most {MAX_FRAMES}; use fewer values"
        )
    return sliders


def _control(name: str, values, labels: Mapping, start: Mapping) -> Control:
    """One slider, checked."""
    label = plain_text(labels.get(name, name.replace("_", " ")), f"labels[{name!r}]")
    if isinstance(values, Span):
        first = start.get(name, values.low)
        if not is_number(first) or not values.low <= first <= values.high:
            wanted = f"from {values.low:g} to {values.high:g}"
            raise ValueError(f"start[{name!r}] must be a number {wanted}, got {first!r}")
        # No more than could be stored: the product of the frames is checked later.
        between = np.linspace(values.low, values.high, min(values.frames, MAX_FRAMES + 1)).tolist()
        return Control(name, label, tuple(between), _texts(name, between), float(first), values)
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a sequence of values or a span(low, high), got {values!r}")
    values = values.tolist() if hasattr(values, "tolist") else list(itertools.islice(values, MAX_FRAMES + 1))
    if not isinstance(values, list) or len(values) < 2:
        raise ValueError(f"{name} must have at least two values, got {values!r}")
    first = start.get(name, values[0])
    if first not in values:
        raise ValueError(f"start[{name!r}] must be one of {values}, got {first!r}")
    return Control(name, label, tuple(values), _texts(name, values), first, None)


def _texts(name: str, values: list) -> tuple[str, ...]:
    """How the slider shows each value; no two alike."""
    texts = tuple(_text(value) for value in values)
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise ValueError(f"{name} has two values that both read {twice!r}; each must read differently")
    return texts


def _text(value) -> str:
    """A number with at most four digits that count and a true minus sign, or the value's own text."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return str(value)
    return (str(value) if isinstance(value, numbers.Integral) else f"{value:.4g}").replace("-", "−")
