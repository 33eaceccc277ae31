"""Checks of the text: numbers come from somewhere, questions are answered, answers folded, signposts right."""

import ast
import re
from collections.abc import Iterator

from nbformat import NotebookNode

from lib.publishing.parts import tagged
from tests.standard.chapter import SPOKEN, Chapter, called

MARK = "<!-- setting -->"
BESIDE = 2  # so many code cells before a text, and after it, are "the code beside it"
CARD_WITHIN = 4  # so many cells after the question that it answers

_NO_PROSE = re.compile(
    r"""^(?P<fence>`{3,})(?!\{(?:note|tip|warning|admonition)).*?^(?P=fence)\s*$  # code and directives without prose
      | \$\$.*?\$\$ | (?<!\\)\$[^$]*?(?<!\\)\$  # formulas
      | \{(?!cite)[\w:-]+\}`[^`]*` | `[^`]*`  # roles other than citations, and code in the text
      | ^:(?:label|name|class|alt|width|align|figclass):.*?$  # options of directives
      | \]\([^)]*\) | https?://\S+""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_SENTENCES = re.compile(r"(?<=[.!?])[\"*)_]*\s+(?=[A-Z\"*(\[\d“])|\n\s*\n|\n(?=\s*(?:[-|#:*]|\d+\.\s))")
_PLACE = re.compile(
    r"\b(?:chapter|version|article|step|line|part|python)s?[\s:]+\(?\d[\d.]*\)?(?:(?:,| and| to|–) \(?\d[\d.]*\)?)*"
    r"|\*\*\d(?:\.\d)+\*\*|\b\d{4}\.\d{4,5}\b",  # sections of the article, numbers of arXiv
    re.IGNORECASE,
)
# A paper is cited, or at least the place in it.
_CITED = re.compile(r"\{cite|\b(?i:section|equation|table|figure|appendix|algorithm)s? \(?(?:\d|[A-Z]\b)")
_COUNT = (
    r"(?:\d[\d,.]*|two|three|four|five|six|seven|eight|nine|ten|twenty|thirty|fifty|a hundred|a thousand|several|many)"
)
_PART = r"(?:half|thirds?|quarters?|fifths?|tenths?)"
_MORE = r"(?:as|more|less|fewer|larger|smaller|better|worse|faster|slower|higher|lower|longer|shorter|wider)\b"
_PERCENT = r"(?P<percent>\d+(?:[.,]\d+)?)\s?(?:%|per\s?cent\b)"
_DECIMAL = r"(?<![\w.,])[−-]?(?P<decimal>\d+\.\d+|\.\d+)(?![\w.]*\d)"
# What is most often measured. Superlatives, "half" alone and whole numbers are too often something else.
_MEASURED = re.compile(
    rf"{_PERCENT}|{_DECIMAL}"
    rf"|\b{_COUNT}\s+times\s+(?:the\b|{_MORE})|\btwice\s+(?:the\b|{_MORE})|\bfactor\s+of\s+(?:about\s+|some\s+)?{_COUNT}"
    rf"|\b(?!un|mani|scaf)\w+-?fold\b"
    rf"|\b(?:a|two|three|nearly|about|over|under|than)\s+{_PART}\s+(?:of|as|the)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"\bPredict\b|\bBefore you (?:run|move|turn|look|read on)\b")
_EXERCISE = re.compile(r"^(?P<fence>:{3,})\{exercise\}.*?^(?P=fence)[ \t]*$", re.DOTALL | re.MULTILINE)
_FOLDED = re.compile(r"(?P<fence>:{3,})\{solution\}[^\n]*\n(?::\w+:[^\n]*\n)*:class:[^\n]*\bdropdown\b|<details>")
_LINK = re.compile(r"\{doc\}`(?P<said>[^`<]*)<(?P<page>[^`>]*)>`|(?<!!)\[(?P<text>[^\]]*)\]\((?P<to>[^)\s]*)\)")
_NEIGHBOUR = re.compile(r"\b(?P<which>last|previous|next) chapter\b(?! of (?:this|the) (?:part|book))", re.IGNORECASE)
_UNFINISHED = re.compile(r"\bnot (?:yet|all) written\b|\byet to be written\b|\bplanned\b|\bchapter for now\b")


def sentences(text: str) -> list[str]:
    """The sentences of a Markdown text, without its formulas, code and links, with its citations."""
    return [" ".join(part.split()) for part in _SENTENCES.split(_NO_PROSE.sub("…", text)) if part and part.strip()]


def measured(chapter: Chapter) -> list[str]:
    """Percentages, decimals, multiples and fractions that no run stands behind.

    Numbers in a sentence that cites a paper, or a place in it such as "table 2", are the paper's. Those that the code
    beside them has as a literal are settings. Any other setting, and what follows from settings alone, is marked:
    `<!-- setting -->`.
    """
    faults = []
    for number, cell in chapter.cells("markdown"):
        stated = []
        for sentence in sentences(cell.source):
            if not _CITED.search(sentence) and MARK not in sentence:
                stated += [(match, sentence) for match in _MEASURED.finditer(_PLACE.sub("…", sentence))]
        literals = _literals(chapter, number) if stated else set()
        faults += [
            f"cell {number} states {match[0]!r}: {sentence[:160]}"
            for match, sentence in stated
            if not _set(match, literals)
        ]
    return faults


def _set(match: re.Match, literals: set[float]) -> bool:
    """Whether the code beside it has the number."""
    if decimal := match["decimal"]:
        return float(decimal) in literals
    if percent := match["percent"]:
        value = float(percent.replace(",", "."))
        return bool({value, round(value / 100, 9)} & literals)
    return False


def _literals(chapter: Chapter, number: int) -> set[float]:
    """The numbers in the code cells next to a cell; those in a finding are what was measured."""
    code = list(chapter.cells("code"))
    near = [cell for at, cell in code if at < number][-BESIDE:] + [cell for at, cell in code if at > number][:BESIDE]
    trees = [statement for cell in near for statement in chapter.statements(cell)]
    return {value for tree in trees for value in _numbers(tree)}


def _numbers(tree: ast.AST) -> Iterator[float]:
    if called(tree) in {*SPOKEN, "told"}:
        return
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int | float):
        yield float(tree.value)
    for child in ast.iter_child_nodes(tree):
        yield from _numbers(child)


def predictions(chapter: Chapter) -> list[str]:
    """Questions to be answered beforehand without a `predict` card in the next cells; an exercise has its solution."""
    faults = []
    for number, cell in chapter.cells("markdown"):
        after = chapter.notebook.cells[number : number + CARD_WITHIN]
        answered = any(_asks(chapter, each) for each in after if each.cell_type == "code")
        asked = [each for each in sentences(_EXERCISE.sub("\n\n", cell.source)) if _QUESTION.search(each)]
        faults += [f"cell {number} asks without a card: {each[:160]}" for each in asked if not answered]
    return faults


def _asks(chapter: Chapter, cell: NotebookNode) -> bool:
    """Whether a code cell shows a card."""
    return any(called(statement) == "predict" for statement in chapter.statements(cell))


def exercises(chapter: Chapter) -> list[str]:
    """Exercises whose answer can be seen, or that have none: next must come a folded solution or a hidden cell."""
    faults = []
    for number, cell in chapter.cells("markdown"):
        for exercise in _EXERCISE.finditer(cell.source):
            rest = cell.source[exercise.end() :].strip()
            if not (_FOLDED.match(rest) if rest else _is_folded(chapter.notebook.cells[number : number + 1])):
                title = exercise[0].split("**")[1:2] or exercise[0].split("\n")[1:2]
                faults.append(f"cell {number}: no folded solution comes next to the exercise {title[0]!r}")
    return faults


def _is_folded(following: list[NotebookNode]) -> bool:
    """Whether the next cell is a hidden one, or begins with a folded solution; False where none is left."""
    return any(tagged(cell, "hide-cell") or _FOLDED.match(cell.source.strip()) for cell in following)


def signposts(chapter: Chapter) -> list[str]:
    """Links to "the next chapter" or "the last chapter" that lead to another, and chapters said to be unfinished."""
    faults = []
    for number, cell in chapter.cells("markdown"):
        for link in _LINK.finditer(cell.source):
            said, to = link["said"] or link["text"] or "", link["page"] or link["to"] or ""
            if (which := _NEIGHBOUR.search(said)) and not _leads(chapter, which["which"].lower(), to):
                faults.append(f"cell {number}: {said.strip()!r} leads to {to}")
        for sentence in sentences(cell.source):
            faults += [f"cell {number}: {said[0]!r} in {sentence[:160]}" for said in _UNFINISHED.finditer(sentence)]
    return faults


def _leads(chapter: Chapter, which: str, to: str) -> bool:
    """Whether a link leads to the neighbour that it names."""
    place = chapter.pages.index(chapter.page) + (1 if which == "next" else -1)
    folders = chapter.page.split("/")[:-1]
    for part in re.sub(r"(?:\.ipynb|\.md|\.html)?(?:#.*)?$", "", to).split("/"):
        folders = folders[:-1] if part == ".." else [*folders, part]
    return 0 <= place < len(chapter.pages) and chapter.pages[place] == "/".join(folders)
