r"""A derivation as HTML (book, JupyterLab), as LaTeX (Colab, print) and as plain text.

The HTML uses these classes, which ``book/assets/book.css`` styles; without it the list still reads in
order: ``.derivation`` the section, ``.derivation-title``, ``.derivation-given``, ``.derivation-lines`` the
list, ``.derivation-line`` with ``.derivation-number``, ``.derivation-relation``, ``.derivation-formula``
(scrolls by itself when long), ``.derivation-because``, ``details.derivation-detail`` and, at the end,
``.derivation-notes``.
"""

from __future__ import annotations

import html
import re
import sys

from lib.notebook.formulas.concrete import concrete
from lib.notebook.formulas.expression import Call, Density, Symbol, walk
from lib.notebook.formulas.language import pi
from lib.notebook.formulas.law import every
from lib.notebook.formulas.printing import latex, plain

RELATIONS = {  # as text, as LaTeX, and what it adds to the reason
    "=": ("=", "=", ""),
    ">=": (">=", r"\ge", ""),
    "<=": ("<=", r"\le", ""),
    "propto": ("∝", r"\propto", "up to a factor free of"),
    "const": ("= + const", r"\overset{c}{=}", "up to a term free of"),
    "law": ("= in law", r"\overset{d}{=}", ""),
}
MATH = "math notranslate nohighlight tex2jax_process mathjax_process"


def bundle(derivation) -> dict:
    """The outputs of one derivation by MIME type; on Colab, whose page styles differ, without HTML."""
    data = {"text/plain": _as_text(derivation), "text/latex": _as_latex(derivation)}
    if "google.colab" not in sys.modules:
        data["text/html"] = _as_html(derivation)
    return data


# ------------------------------------------------------------ what is said


def _reason(line) -> str:
    """The reason of a line, with what its relation leaves open."""
    extra = RELATIONS[line.relation][2] if line.relation else ""
    return (
        f"{line.because} ({extra[0].upper()}{extra[1:]} ${', '.join(map(latex, line.of))}$.)" if extra else line.because
    )


def _given(derivation) -> list[str]:
    """What a derivation takes for granted: laws, definitions and domains, as sentences with $math$."""
    sentences = [f"${_law_formula(law)}$" for law in derivation.laws if law.factors]
    sentences += [f"${latex(concrete(key))} := {latex(formula)}$" for key, formula in derivation.where.items()]
    formulas = [line.expression for line in [derivation.lines[0], *derivation.steps]]
    formulas += [f for pair in derivation.where.items() for f in pair]
    found: dict[str, dict] = {}
    for e in formulas:
        for part in walk(e):
            if isinstance(part, Call) and part.domain in ("positive", "unit"):
                found.setdefault(part.domain, {}).setdefault(latex.name(part.name), part)
            if isinstance(part, Symbol) and part != pi:
                found.setdefault(part.domain, {}).setdefault(latex(concrete(part)), part)
    if "positive" in found:
        sentences.append(f"${', '.join(found['positive'])} > 0$")
    if "unit" in found:
        sentences.append(f"$0 < {', '.join(found['unit'])} < 1$")
    if "noise" in found:
        vectors = any(s.vector for s in found["noise"].values())
        independent = ", independent" if len(found["noise"]) > 1 else ""
        sentences.append(
            rf"${', '.join(found['noise'])} \sim \mathcal{{N}}(0, {'I' if vectors else '1'})$" + independent
        )
    return sentences


def _law_formula(law) -> str:
    """A law as the product of its factors."""
    factors = []
    for f in law.factors:
        if isinstance(f, every):
            left, right = f.factor
            factors.append(
                latex.big("product", latex(f.index), latex(f.first), latex(f.last)) + latex(_density(law, left, right))
            )
        else:
            factors.append(latex(_density(law, *f)))
    return rf"{latex.name(law.name, law.latex)} = " + r"\,".join(factors)


def _density(law, left, right) -> Density:
    return Density(law.name, left, right, law.latex or "")


class _Notes:
    """Footnotes: one letter for each different text, in the order of first use."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str | None) -> str:
        if not text:
            return ""
        if text not in self.texts:
            self.texts.append(text)
        return "abcdefghijklmnopqrstuvwxyz"[self.texts.index(text)]


# ------------------------------------------------------------ HTML

SEPARATOR = "\u2060; "  # with a word joiner, so that no line begins with the semicolon behind a formula


def _prose(text: str) -> str:
    """Text with $math$ as HTML that MathJax reads."""
    parts = re.split(r"\$([^$]*)\$", text)
    return "".join(_formula(p) if k % 2 else html.escape(p, quote=False) for k, p in enumerate(parts))


def _formula(tex: str) -> str:
    return rf'<span class="{MATH}">\({html.escape(tex, quote=False)}\)</span>'


def _as_html(derivation, name: str = "") -> str:
    notes, name = _Notes(), name or derivation.name
    title = f'<p class="derivation-title"><strong>{_prose(derivation.title)}</strong></p>' if derivation.title else ""
    facts = SEPARATOR.join(map(_prose, _given(derivation)))
    facts = f'<p class="derivation-given"><small>Given: {facts}</small></p>' if facts else ""
    body = _html_list(derivation.lines, name, notes)
    legend = SEPARATOR.join(f"<sup>{notes.mark(t)}</sup> {_prose(t)}" for t in notes.texts)
    legend = f'<p class="derivation-notes"><small>{legend}.</small></p>' if legend else ""
    label = html.escape(f"Derivation {name}")
    return (
        f'<section class="derivation" id="derivation-{name}" aria-label="{label}">'
        f"{title}{facts}{body}{legend}</section>"
    )


def _html_list(lines, name: str, notes: _Notes) -> str:
    items = "".join(_html_line(line, name, notes) for line in lines)
    return f'<ol class="derivation-lines" style="list-style:none;padding-left:0">{items}</ol>'


def _html_line(line, name: str, notes: _Notes) -> str:
    sign = _formula(RELATIONS[line.relation][1]) if line.relation else ""
    mark = notes.mark(line.note)
    because = f'<div class="derivation-because"><small>{_prose(_reason(line))}' if line.because else ""
    because += (f"<sup>{mark}</sup>" if mark and because else "") + ("</small></div>" if because else "")
    inner, summary = "", ""
    if line.detail:
        summary = f"In {len(line.detail)} smaller step{'s' * (len(line.detail) > 1)}"
        inner = _html_list(line.detail, name, notes)
    elif line.lemma is not None:
        summary = _prose(line.lemma.title) or "Why"
        inner = _as_html(line.lemma, f"{name}-{line.number}-{line.lemma.name}")
    detail = f'<details class="derivation-detail"><summary>{summary}</summary>{inner}</details>' if inner else ""
    shown = _formula(rf"\displaystyle {latex(line.expression)}")
    return (
        f'<li class="derivation-line" id="{name}-{line.number}">'
        f'<span class="derivation-number">({line.number})</span> '
        f'<span class="derivation-relation">{sign}</span> '
        f'<span class="derivation-formula">{shown}</span>'
        f"{because}{detail}</li>"
    )


# ------------------------------------------------------------ LaTeX and text


# Inside \text, MathJax shows a backslash before these signs and LaTeX stumbles without one: say them in words.
WORDS = str.maketrans({"&": "and", "%": " percent", "#": "number ", "_": " ", "{": "(", "}": ")", "\\": ""})


def _tex_text(text: str) -> str:
    r"""Prose with $math$ inside \text{...}."""
    parts = re.split(r"(\$[^$]*\$)", text)
    return "".join(p if k % 2 else p.translate(WORDS) for k, p in enumerate(parts))


def _flat(derivation, prefix: str = ""):
    """Every line with its number: a lemma, or the smaller steps, before the line that they explain."""
    for line in derivation.lines:
        if line.lemma is not None:
            yield from _flat(line.lemma, f"{prefix}{line.number}.")
        for small in line.detail:
            yield prefix + small.number, small
        yield prefix + line.number, line


def _with_lemmas(derivation):
    """A derivation and those that are displayed inside it."""
    yield derivation
    for line in derivation.lines:
        if line.lemma is not None:
            yield from _with_lemmas(line.lemma)


def _as_latex(derivation) -> str:
    rows, notes = [], _Notes()
    for number, line in _flat(derivation):
        sign = RELATIONS[line.relation][1] if line.relation else ""
        rows.append(rf"\text{{({number})}}\quad & {sign} {latex(line.expression)}")
        if line.because:
            mark = notes.mark(line.note)
            rows.append(rf"& \qquad\scriptsize\text{{{_tex_text(_reason(line))}}}" + (f"^{{{mark}}}" if mark else ""))
    rows += [rf"& \scriptsize{{}}^{{{notes.mark(t)}}}\text{{ {_tex_text(t)}}}" for t in notes.texts]
    givens = dict.fromkeys(fact for part in _with_lemmas(derivation) for fact in _given(part))
    facts = [rf"& \scriptsize\text{{Given: {_tex_text(fact)}}}" for fact in givens]
    return "$$\n\\begin{aligned}\n" + " \\\\\n".join([*facts, *rows]) + "\n\\end{aligned}\n$$"


def _as_text(derivation) -> str:
    rows, notes = [f"Derivation {derivation.name}"], _Notes()
    for number, line in _flat(derivation):
        sign = RELATIONS[line.relation][0] + " " if line.relation else ""
        mark = notes.mark(line.note)
        rows.append(f"({number}) {sign}{plain(line.expression)}")
        rows += [f"      {_reason(line)}" + (f" [{mark}]" if mark else "")] if line.because else []
    return "\n".join(rows + [f"[{notes.mark(t)}] {t}" for t in notes.texts])
