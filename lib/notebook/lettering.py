"""The texts of a diagram: code, plain words and simple formulas, measured, and written as SVG.

Three signs have a meaning: `` `encoder` `` is code, `x_t` and `x_{t−1}` have an index, `σ^2` has an exponent. A letter
that stands alone is a variable and leans.
"""

import functools
import html
import re
from typing import NamedTuple

MONOSPACED = "ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"
CODE_WIDTH = 0.605  # of a code letter, in units of the size: no font named above is wider
SMALL = 0.8  # size of an index or exponent
RAISED = {"_": -0.22, "^": 0.34}  # how far each stands above the line, in units of the size

_PIECE = re.compile(r"`(?P<code>[^`]+)`|(?P<sign>[_^])(?:\{(?P<group>[^{}]+)\}|(?P<single>[^\s{}]))|(?P<plain>[^`_^]+)")
_VARIABLE = re.compile(r"(?<![^\W\d_])([b-zα-ωT]\u0302?)(?![^\W\d_])")  # "a" is a word; a hat may follow


class Run(NamedTuple):
    """Letters of one kind: their style ("plain", "code" or "variable"), size and height above the line."""

    text: str
    style: str
    size: float
    raised: float


def runs(text: str, size: float) -> list[Run]:
    """What `text` consists of. Raises ValueError for a sign that says nothing, such as an `_` at the end."""
    found: list[Run] = []
    place = 0
    while piece := _PIECE.match(text, place):
        place = piece.end()
        if piece["code"]:
            found.append(Run(piece["code"], "code", size, 0))
        elif piece["sign"]:
            letters, raised = piece["group"] or piece["single"], RAISED[piece["sign"]] * size
            found += _words(letters, size * SMALL, raised)
        else:
            found += _words(piece["plain"], size, 0)
    if place < len(text):
        raise ValueError(f"text must have something behind each ` or _ or ^, got {text!r} (code goes between ` and `)")
    return found


def measured(text: str, size: float) -> float:
    """Width of `text`; no usual font for pages is wider than the DejaVu Sans that it is measured in."""
    return sum(
        len(run.text) * CODE_WIDTH * run.size if run.style == "code" else _font().getlength(run.text) / 100 * run.size
        for run in runs(text, size)
    )


def written(text: str, x: float, y: float, size: float, anchor: str = "middle") -> str:
    """The SVG of `text` whose middle, or with `anchor="start"` whose left end, is at (x, y)."""
    parts, height = [], 0.0
    for run in runs(text, size):
        attributes = f' dy="{height - run.raised:.1f}"' if run.raised != height else ""
        attributes += f' font-size="{run.size:.1f}"' if run.size != size else ""
        attributes += f' font-family="{MONOSPACED}"' if run.style == "code" else ""
        attributes += ' font-style="italic"' if run.style == "variable" else ""
        letters, height = html.escape(run.text), run.raised
        parts.append(f"<tspan{attributes}>{letters}</tspan>" if attributes else letters)
    baseline = y + 0.35 * size
    return (
        f'<text x="{x:.1f}" y="{baseline:.1f}" font-size="{size:g}" text-anchor="{anchor}" fill="currentColor">'
        f"{''.join(parts)}</text>"
    )


def _words(text: str, size: float, raised: float) -> list[Run]:
    styles = ("plain", "variable")  # `split` puts what it splits at in every second place
    return [Run(part, styles[n % 2], size, raised) for n, part in enumerate(_VARIABLE.split(text)) if part]


@functools.cache
def _font():
    """A font that comes with matplotlib, so every machine measures alike; 100 units high."""
    import matplotlib
    from PIL import ImageFont

    path = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(path, 100, layout_engine=ImageFont.Layout.BASIC)
