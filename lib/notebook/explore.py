"""Interactive figures that live twice: with a kernel, and in a stored page without one.

`explore` displays one object with two faces. In a running notebook it is ipywidgets sliders, and every move
calls the function that draws. In the stored notebook and the built page it is an HTML figure: the same
sliders over pictures drawn beforehand, alive without a kernel and without the network, by mouse, touch and
keyboard.
"""

import html
import inspect
import itertools
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ipywidgets

from lib.notebook.controls import Control, Span, checked_controls
from lib.notebook.pictures import caption_html, figures_closed, image_html, plain_text, publish, render
from lib.notebook.stored import Frame, stored_face

FRAME_COLORS = 48
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def explore(
    draw: Callable,
    alt: str | Callable[..., str],
    caption: str | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    start: Mapping[str, Any] | None = None,
    colors: int = FRAME_COLORS,
    **controls: Iterable | Span,
) -> None:
    """Displays what `draw` makes of the values of one to three sliders.

    ```python
    explore(decode, "The digit at β = {beta}: the larger β, the blurrier.", beta=(0.1, 1, 4))
    ```
    `draw(**values)` returns a matplotlib Figure or an image, as `show` takes it. Every picture must have the
    same size. `alt` is a format string over the values, or a function of them that returns the text; it must
    not say the same of every frame. Each control is a sequence of at least two different values, or a `span`.
    `labels` gives a slider another label than the control's name, and `start` the value it begins with (else
    the first). The frame of the start values is what a page shows without scripts and in print. `colors` (2
    to 256) is the palette of a frame.

    The stored face holds one frame for every combination of values, at most 150. Pictures that are the same
    are stored once. On Colab there is only the live face.

    Raises ValueError, naming the argument, for all other input.
    """
    sliders = checked_controls(controls, labels or {}, start or {})
    below = caption_html(caption)
    _check_call("draw", draw, sliders)
    if not isinstance(alt, str):
        _check_call("alt", alt, sliders)

    def frame(values: Iterable) -> Frame:
        named = {slider.name: value for slider, value in zip(sliders, values)}
        return _frame(draw, alt, named, colors)

    faces: dict[str, Any] = {}
    if "google.colab" not in sys.modules:
        faces["text/html"] = stored_face(sliders, _all_frames(frame, sliders), below)
    view = live_face(sliders, frame, below)
    faces[WIDGET_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": view.model_id}
    publish(faces, caption or f"An interactive figure: {', '.join(slider.label for slider in sliders)}")


def live_face(controls: list[Control], frame: Callable[[Iterable], Frame], below: str) -> ipywidgets.Widget:
    """Sliders that call `frame(values)` and show what it returns, or the error it raises.

    The first frame is drawn here and now, and its error ends the cell. `below` is the caption's HTML.
    """
    # An HTML widget and not an Image, which has no alt text.
    picture = ipywidgets.HTML(image_html(*frame([control.start for control in controls])))
    sliders = [_slider(control) for control in controls]

    def redraw(_change):
        try:
            picture.value = image_html(*frame([slider.value for slider in sliders]))
        except Exception as error:  # whatever it is, the reader should see it where the picture was
            lines = html.escape("".join(traceback.format_exception(error)))
            picture.value = f'<pre role="alert" style="white-space:pre-wrap;color:#B00020">{lines}</pre>'

    for slider in sliders:
        slider.observe(redraw, "value")
    return ipywidgets.VBox([picture, *sliders, *([ipywidgets.HTML(below)] if below else [])])


def _slider(control: Control) -> ipywidgets.Widget:
    """The live slider. A redraw slower than the hand does no harm: ipywidgets skips the values between."""
    look = {
        "description": control.label,
        "style": {"description_width": "initial"},
        "layout": {"width": "min(100%, 32em)"},
    }
    if control.span is None:
        options = list(zip(control.texts, control.values))
        return ipywidgets.SelectionSlider(options=options, value=control.start, **look)
    low, high, _ = control.span
    numbers = {"min": low, "max": high, "step": (high - low) / 200, "readout_format": ".3g"}
    return ipywidgets.FloatSlider(value=control.start, **numbers, **look)


def _check_call(name: str, function, controls: list[Control]) -> None:
    """Checks that `function` can be called with the controls, before anything is drawn."""
    names = [control.name for control in controls]
    if not callable(function):
        raise ValueError(f"{name} must be a function of {', '.join(names)}, got {function!r}")
    try:
        inspect.signature(function).bind(**dict.fromkeys(names))
    except TypeError as error:
        raise ValueError(f"{name} cannot be called with the controls {', '.join(names)}: {error}") from None


def _frame(draw: Callable, alt: str | Callable, values: dict, colors: int) -> Frame:
    """Draws one frame. Figures that `draw` opens are closed, also where it fails."""
    text = plain_text(_format(alt, values) if isinstance(alt, str) else alt(**values), "alt")
    with figures_closed():
        return Frame(render(draw(**values), colors, "what draw returns"), text)


def _format(alt: str, values: dict) -> str:
    """The format string `alt` filled with the values."""
    try:
        return alt.format(**values)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"alt must be a format string of {', '.join(values)}, got {alt!r}: {error!r}") from None


def _all_frames(frame: Callable[[Iterable], Frame], controls: list[Control]) -> list[Frame]:
    """Every combination of values, drawn; checked to be of one size and not all described alike."""
    frames = [frame(values) for values in itertools.product(*(control.values for control in controls))]
    if len(sizes := {drawn.picture[1:] for drawn in frames}) > 1:
        found = " and ".join(f"{width} by {height}" for width, height in sorted(sizes)[:2])
        raise ValueError(f"draw must return pictures of one size, got {found} pixels")
    if len({drawn.alt for drawn in frames}) == 1:
        raise ValueError(f"alt must say what each frame shows, but is the same for all: {frames[0].alt!r}")
    return frames
