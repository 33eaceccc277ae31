r"""Formulas as LaTeX, for the page, and as plain text, for error messages; the typed order is kept.

Brackets appear where precedence or the eye needs them: around a sum inside a product, around a sum on the
right of another sum (the author grouped it), around a logarithm or a big operator that more factors follow.

"""

from __future__ import annotations

import re

from lib.notebook.formulas.expression import (
    KL_,
    Add,
    Apply,
    Call,
    Density,
    Div,
    Expect_,
    Expression,
    Given,
    Grad_,
    Group,
    Integral_,
    Mul,
    Neg,
    Normal_,
    Number,
    Pow,
    Repeat,
    Span,
    Symbol,
)

GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
    "phi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Xi",
    "Pi",
    "Sigma",
    "Phi",
    "Psi",
    "Omega",
]
ACCENTS = {"bar": r"\bar", "tilde": r"\tilde", "hat": r"\hat"}
TALL = (r"\frac", r"\sum", r"\int", r"\prod", r"\left", r"\underbrace")


def letter(name: str) -> str:
    r"""LaTeX of a name: ``betatilde`` is \tilde{\beta}, ``sigma_q`` is \sigma_{q}, ``theta`` is \theta."""
    stem, _, below = name.partition("_")
    for ending, accent in ACCENTS.items():
        if stem.endswith(ending) and len(stem) > len(ending):
            shown = f"{accent}{{{letter(stem[: -len(ending)])}}}"
            break
    else:
        shown = rf"\{stem}" if stem in GREEK else stem if len(stem) == 1 else rf"\mathrm{{{stem}}}"
    return f"{shown}_{{{letter(below)}}}" if below else shown


class Latex:
    """One method a kind of formula; ``Plain`` below changes only how the pieces are joined."""

    comma, mid, bars = ", ", r" \mid ", r" \,\|\, "

    def _brackets(self, text: str, pair: str = "()") -> str:
        if any(sign in text for sign in TALL):
            return rf"\left{pair[0]}{text}\right{pair[1]}"
        return f"{pair[0]}{text}{pair[1]}"

    def _fraction(self, top: str, bottom: str) -> str:
        return rf"\frac{{{top}}}{{{bottom}}}"

    def _power(self, base: str, power: str) -> str:
        return f"{base}^{{{power}}}"

    def _operator(self, sign: str, below: str, above: str = "") -> str:
        return rf"\{sign}_{{{below}}}" + (f"^{{{above}}}" if above else "")

    def big(self, kind: str, index: str, first: str, last: str) -> str:
        """The sign of a sum or product with its ends."""
        return self._operator({"sum": "sum", "product": "prod"}[kind], f"{index}={first}", last) + " "

    def _product(self, parts: list[str]) -> str:
        text = parts[0]
        for part in parts[1:]:
            if part[0].isdigit() or (re.match(r"\\frac", part) and re.match(r"\d+$", text)):
                text += r" \cdot "
            elif text[-1] in ")]}" and re.match(r"\\math|[a-zA-Z]|\\", part):
                text += r"\,"
            else:
                text += " "
            text += part
        return text

    def name(self, text: str, latex: str | None = None) -> str:
        """A name as displayed."""
        return latex or letter(text)

    def _symbol(self, e: Symbol | Span, below: str) -> str:
        base = e.family if isinstance(e, Span) else e
        shown = self.name(base.name, base.latex)
        if not below:
            return shown
        return f"{shown[:-1]},{below}}}" if shown.endswith("}") and "_{" in shown else f"{shown}_{{{below}}}"

    # ---- the tree

    def __call__(self, e: Expression) -> str:
        """The formula as text."""
        return getattr(self, f"_on_{type(e).__name__.strip('_').lower()}")(e)

    def _inner(self, e: Expression, last: bool = True) -> str:
        """``e`` as a factor: bracketed if it is a sum, or if its operator would swallow the factors after
        it.
        """
        swallows = isinstance(e, (Repeat, Integral_, Grad_)) or (isinstance(e, Apply) and e.name == "log")
        return self._brackets(self(e)) if isinstance(e, Add) or (swallows and not last) else self(e)

    def _under(self, e: Expression) -> str:
        """``e`` as an argument written without brackets, as in log x: bracketed unless it is one block."""
        return self._brackets(self(e)) if isinstance(e, (Add, Mul, Neg)) else self(e)

    def _on_number(self, e: Number) -> str:
        return str(e.value)

    def _on_symbol(self, e: Symbol) -> str:
        return self._symbol(e, self(e.index).replace(" ", "") if e.index is not None else "")

    def _on_span(self, e: Span) -> str:
        return self._symbol(e, f"{self(e.first)}:{self(e.last)}".replace(" ", ""))

    def _on_given(self, e: Given) -> str:
        return self(e.left) + self.mid + self(e.right)

    def _on_add(self, e: Add) -> str:
        text = self._inner(e.terms[0])
        for term in e.terms[1:]:
            minus, term = (True, term.body) if isinstance(term, Neg) else (False, term)
            shown = self._inner(term)
            if not minus and shown.startswith("-"):
                minus, shown = True, shown[1:]
            elif minus and shown.startswith("-"):
                shown = self._brackets(shown)
            text += (" - " if minus else " + ") + shown
        return text

    def _on_neg(self, e: Neg) -> str:
        shown = self._inner(e.body)
        return "-" + (self._brackets(shown) if shown.startswith("-") else shown)

    def _on_mul(self, e: Mul) -> str:
        last = len(e.factors) - 1
        shown = [self._inner(f, last=i == last) for i, f in enumerate(e.factors)]
        return self._product([shown[0]] + [self._brackets(s) if s.startswith("-") else s for s in shown[1:]])

    def _on_div(self, e: Div) -> str:
        top = self(e.top)
        first = e.top.factors[0] if isinstance(e.top, Mul) else e.top
        if isinstance(first, Neg):
            return "-" + self._fraction(top[1:], self(e.bottom))
        return self._fraction(top, self(e.bottom))

    def _on_pow(self, e: Pow) -> str:
        one_block = isinstance(e.base, (Symbol, Number, Group)) or (isinstance(e.base, Apply) and e.base.name == "sqrt")
        base = self(e.base)
        return self._power(base if one_block else self._brackets(base), self(e.power).replace(" ", ""))

    def _on_apply(self, e: Apply) -> str:
        if e.name == "sqrt":
            return rf"\sqrt{{{self(e.body)}}}"
        if e.name == "squared_norm":
            tall = any(sign in self(e.body) for sign in TALL)
            left, right = (r"\left\lVert ", r" \right\rVert") if tall else (r"\lVert ", r" \rVert")
            return f"{left}{self(e.body)}{right}^{{2}}"
        if e.name == "exp":
            return r"\exp" + self._brackets(self(e.body))
        argument = self._under(e.body)
        return r"\log" + (argument if argument[0] in "(\\" else " " + argument)

    def _on_call(self, e: Call) -> str:
        return self.name(e.name) + self._brackets(self.comma.join(map(self, e.args)))

    def _on_density(self, e: Density) -> str:
        left, right = (self.comma.join(map(self, side)) for side in (e.left, e.right))
        return self.name(e.law, e.shown) + self._brackets(left + (self.mid + right if right else ""))

    def _normal(self, inside: str) -> str:
        return r"\mathcal{N}" + self._brackets(inside)

    def _on_normal(self, e: Normal_) -> str:
        return self._normal(f"{self(e.at)};{self.comma}".rstrip(", ") + f" {self(e.mean)}, {self(e.variance)}")

    def _bare(self, e: Expression) -> str:
        """A law without its argument, as in KL(N(0, 1) || ...)."""
        return self._normal(f"{self(e.mean)}, {self(e.variance)}") if isinstance(e, Normal_) else self(e)

    def _on_expect(self, e: Expect_) -> str:
        over = self._bare(e.over)
        if isinstance(e.over, Normal_):
            over = self(e.over.at) + r" \sim " + over
        return rf"\mathbb{{E}}_{{{over}}}" + self._brackets(self(e.body), "[]")

    def _on_kl(self, e: KL_) -> str:
        return r"\mathrm{KL}" + self._brackets(self._bare(e.first) + self.bars + self._bare(e.second))

    def _on_integral(self, e: Integral_) -> str:
        return r"\int " + self._inner(e.body) + "".join(rf"\,\mathrm{{d}}{self(v)}" for v in e.variables)

    def _on_repeat(self, e: Repeat) -> str:
        return self.big(e.kind, self(e.index), self(e.first), self(e.last)) + self._inner(e.body)

    def _on_grad(self, e: Grad_) -> str:
        return rf"\nabla_{{{self(e.variable)}}} " + self._inner(e.body)

    def _on_group(self, e: Group) -> str:
        if e.label is None:
            return self._brackets(self(e.body))
        return rf"\underbrace{{{self(e.body)}}}_{{{e.label}}}"


class Plain(Latex):
    """Readable in a terminal, and close to what the author typed."""

    mid, bars = " | ", " || "

    def _brackets(self, text: str, pair: str = "()") -> str:
        return pair[0] + text + pair[1]

    def _fraction(self, top: str, bottom: str) -> str:
        def block(text: str) -> str:
            return text if re.fullmatch(r"\w+(\[[^\]]*\])?", text) else f"({text})"

        return f"{block(top)}/{block(bottom)}"

    def _power(self, base: str, power: str) -> str:
        return f"{base}**{power}"

    def _product(self, parts: list[str]) -> str:
        return "*".join(parts)

    def name(self, text: str, latex: str | None = None) -> str:
        """A name as typed."""
        return text

    def _symbol(self, e: Symbol | Span, below: str) -> str:
        name = e.family.name if isinstance(e, Span) else e.name
        return f"{name}[{below}]" if below else name

    def big(self, kind: str, index: str, first: str, last: str) -> str:
        """The sign of a sum or product with its ends."""
        return f"{kind}_{index}={first}..{last} "

    def _on_apply(self, e: Apply) -> str:
        return e.name + self._brackets(self(e.body))

    def _normal(self, inside: str) -> str:
        return f"N({inside})"

    def _on_expect(self, e: Expect_) -> str:
        over = (self(e.over.at) + " ~ " if isinstance(e.over, Normal_) else "") + self._bare(e.over)
        return f"E_{{{over}}}[{self(e.body)}]"

    def _on_kl(self, e: KL_) -> str:
        return f"KL({self._bare(e.first)} || {self._bare(e.second)})"

    def _on_integral(self, e: Integral_) -> str:
        return "integral " + self._inner(e.body) + "".join(f" d{self(v)}" for v in e.variables)

    def _on_grad(self, e: Grad_) -> str:
        return f"grad_{{{self(e.variable)}}} " + self._inner(e.body)

    def _on_group(self, e: Group) -> str:
        return self._brackets(self(e.body))


latex, plain = Latex(), Plain()
Expression.__repr__ = lambda self: plain(self)
