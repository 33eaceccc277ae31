"""What a page shows: checked derivations, figures, interactive figures, and the library's own source."""

from lib.notebook.animation import animate
from lib.notebook.controls import span
from lib.notebook.derivation import Derivation, WrongStep, recording
from lib.notebook.explore import explore
from lib.notebook.figures import COLORS, LiveFigure, apply_style, figure_html, show, show_images, tile
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
from lib.notebook.source import source

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
    "exp",
    "explore",
    "family",
    "figure_html",
    "frac",
    "function",
    "log",
    "noise",
    "pi",
    "recording",
    "show",
    "show_images",
    "source",
    "span",
    "sqrt",
    "squared_norm",
    "symbol",
    "symbols",
    "tile",
    "vector",
]

apply_style()
