"""The sliders of an interactive figure: any input is made into sound values or refused by name."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.notebook import span
from lib.notebook.controls import MAX_FRAMES, Control, Span, checked_controls


@pytest.mark.parametrize(
    ("low", "high", "count", "said"),
    [
        ("0", 1, 9, "low must be a finite number"),
        (0, float("inf"), 9, "high must be a finite number"),
        (1, 1, 9, "low must be less than high"),
        (-1e308, 1e308, 9, "low must be less than high by a finite amount"),
        (0, 1, 1, "frames must be a whole number"),
        (0, 1, 3.0, "frames must be a whole number"),
        (0, 1, True, "frames must be a whole number"),
    ],
)
def test_a_span_names_what_is_wrong(low, high, count, said):
    with pytest.raises(ValueError, match=said):
        span(low, high, count)


anything = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3))


@given(anything, anything, anything)
def test_a_span_is_sound_or_refused(low, high, count):
    try:
        made = span(low, high, count)
    except ValueError as error:
        assert str(error).split()[0] in ("low", "high", "frames")
    else:
        assert isinstance(made, Span) and -math.inf < made.low < made.high < math.inf and made.frames >= 2


@given(st.one_of(anything, st.lists(anything, max_size=6), st.builds(Span, *[st.floats(-9, 9)] * 2, st.integers(2, 9))))
def test_a_control_is_sound_or_refused(values):
    try:
        (control,) = checked_controls({"x": values}, {}, {})
    except ValueError as error:
        assert str(error).startswith(("x ", "start['x']"))
    else:
        assert isinstance(control, Control)
        assert 2 <= len(control.values) == len(set(control.texts)) <= MAX_FRAMES
        assert control.values[control.position] == control.start
