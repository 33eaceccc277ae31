"""What a page shows: checked derivations and sentences, figures, questions, and the library's own source."""

from typing import TYPE_CHECKING

from IPython import get_ipython

from lib.notebook.animation import animate
from lib.notebook.controls import span
from lib.notebook.diagram import show_diagram
from lib.notebook.explore import explore
from lib.notebook.finding import exact, finding, found, told
from lib.notebook.formulas import (
    KL,
    Expect,
    Grad,
    Integral,
    Law,
    Normal,
    Product,
    Sum,
    brace,
    bracket,
    every,
    exp,
    family,
    frac,
    function,
    log,
    noise,
    pi,
    sqrt,
    squared_norm,
    symbol,
    symbols,
    vector,
)
from lib.notebook.pictures import COLORS, LiveFigure, apply_style, figure_html, show, show_images, tile
from lib.notebook.predict import predict
from lib.notebook.source import source

if TYPE_CHECKING:
    from lib.notebook.derivation import Derivation, WrongStep, recording

__all__ = [
    "COLORS",
    "KL",
    "Derivation",
    "Expect",
    "Grad",
    "Integral",
    "Law",
    "LiveFigure",
    "Normal",
    "Product",
    "Sum",
    "WrongStep",
    "animate",
    "brace",
    "bracket",
    "every",
    "exact",
    "exp",
    "explore",
    "family",
    "figure_html",
    "finding",
    "found",
    "frac",
    "function",
    "log",
    "noise",
    "pi",
    "predict",
    "recording",
    "show",
    "show_diagram",
    "show_images",
    "source",
    "span",
    "sqrt",
    "squared_norm",
    "symbol",
    "symbols",
    "tile",
    "told",
    "vector",
]

_CHECKED = {"Derivation", "WrongStep", "recording"}  # these need sympy, and it takes longer to import than the rest


def __getattr__(name: str):
    """What checks derivations, imported when it is first asked for."""
    if name not in _CHECKED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lib.notebook import derivation

    return getattr(derivation, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_CHECKED})


if get_ipython() is not None:  # what a notebook's cells draw has the house style; a program's settings are its own
    apply_style()
