"""Checks of the code cells: none is long, they are few enough, and what they show is meant to be read."""

import html
import json
import math
import re

from nbformat import NotebookNode

from lib.publishing import notebooks
from lib.publishing.parts import tagged
from tests.standard.chapter import SPOKEN, Chapter, called

CELL = 15  # lines of a code cell
CODE = 300  # lines of code of a chapter
OPEN = 120  # of these, lines that the page shows without being asked
STEP = 50  # every so many lines above, begun, count as one fault more, so that not every edit changes the count
SHOWN = 200  # characters of a raw value

_HIDDEN = ("hide-input", "hide-cell", "remove-input", "remove-cell")
_RAW = re.compile(r"\b(?:History|tensor|array|Parameter)\(")
_FRAMES = re.compile(r'data-frames="([^"]*)"')


def long_cells(chapter: Chapter) -> list[str]:
    """Cells of more than 15 lines, blank ones and those of findings and cards not counted.

    Setup, imports and the hidden solutions of exercises may be longer.
    """
    lengths = (
        (number, cell, lines(chapter, cell)) for number, cell in _counted(chapter) if not tagged(cell, "imports")
    )
    return [f"{notebooks.label(number, cell)} has {count} lines" for number, cell, count in lengths if count > CELL]


def code_lines(chapter: Chapter) -> list[str]:
    """A chapter of more than 300 lines of code, setup, findings, cards and hidden solutions not counted."""
    return _above(sum(lines(chapter, cell) for _, cell in _counted(chapter)), CODE, "lines of code")


def open_lines(chapter: Chapter) -> list[str]:
    """A chapter whose page shows more than 120 lines of code unasked."""
    shown = [cell for _, cell in _counted(chapter) if not any(tagged(cell, tag) for tag in _HIDDEN)]
    return _above(sum(lines(chapter, cell) for cell in shown), OPEN, "open lines of code")


def lines(chapter: Chapter, cell: NotebookNode) -> int:
    """How many lines of a cell are code: not blank, and not those of a finding or a card."""
    spoken = [each for each in chapter.statements(cell) if called(each) in SPOKEN]
    apart = {1} if cell.source.startswith(notebooks.TITLE) else set()
    apart |= {line for each in spoken for line in range(each.lineno, (each.end_lineno or each.lineno) + 1)}
    return sum(bool(line.strip()) and at not in apart for at, line in enumerate(cell.source.splitlines(), 1))


def _counted(chapter: Chapter) -> list[tuple[int, NotebookNode]]:
    return [each for each in chapter.cells("code") if not tagged(each[1], "setup") and not tagged(each[1], "hide-cell")]


def _above(count: int, limit: int, what: str) -> list[str]:
    """As many faults as there are steps, begun, above the limit."""
    return [f"{count} {what}, {limit} are enough"] * max(0, math.ceil((count - limit) / STEP))


def raw_outputs(chapter: Chapter) -> list[str]:
    """Values shown as Python writes them, over 200 characters: a loss history, a tensor."""
    faults = []
    for number, cell in chapter.cells("code"):
        for output in cell.outputs:
            if output.output_type == "stream":
                text, raw = output.text, bool(_RAW.search(output.text))
            else:
                data = output.get("data", {})
                text, raw = data.get("text/plain", ""), set(data) == {"text/plain"} and _is_value(output)
            if raw and len(text) > SHOWN:
                faults.append(f"{notebooks.label(number, cell)} shows {len(text):,} characters: {text[:40]!r}")
    return faults


def _is_value(output: NotebookNode) -> bool:
    """Whether the output is the value of a cell's last line, or a value displayed."""
    return output.output_type == "execute_result" or bool(_RAW.search(output.data["text/plain"]))


def equal_alts(chapter: Chapter) -> list[str]:
    """Interactive figures that say the same of every frame."""
    faults = []
    for number, cell in chapter.cells("code"):
        for output in cell.outputs:
            for frames in _FRAMES.finditer(output.get("data", {}).get("text/html", "")):
                alts = json.loads(html.unescape(frames[1]))["alts"]
                if len(alts) > 1 and len(set(alts)) == 1:
                    faults.append(f"{notebooks.label(number, cell)} says of {len(alts)} frames: {alts[0][:80]!r}")
    return faults
