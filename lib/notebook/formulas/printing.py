r"""Formulas as LaTeX, for the page, and as plain text, for error messages; the typed order is kept.

Whoever reads the print finds the formula that was typed, and so checked. Brackets appear where precedence or
the eye needs them: around a sum inside a product, around a sum on the right of another sum (the author
grouped it), around a logarithm or a big operator that more factors follow, around a product behind a
gradient, around a power of brackets behind a gradient or a logarithm, around what starts with a minus unless
it stands in front. The eye takes an underbrace for no bracket, so these stand inside it.

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
    "ell",  # no Greek letter, but LaTeX knows it by this name too
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

    def _brace(self, text: str, label: str) -> str:
        return rf"\underbrace{{{text}}}_{{{label}}}"

    def _operator(self, sign: str, below: str, above: str = "") -> str:
        return rf"\{sign}_{{{below}}}" + (f"^{{{above}}}" if above else "")

    def big(self, kind: str, index: str, first: str, last: str) -> str:
        """The sign of a sum or product with its ends."""
        return self._operator({"sum": "sum", "product": "prod"}[kind], f"{index}={first}", last) + " "

    def _product(self, parts: list[str], seen: list[str]) -> str:
        """The factors side by side; ``seen`` are they without underbraces. A dot keeps numbers apart, and a
        number from a fraction, which would be read as a mixed number.
        """
        text = parts[0]
        for part, before, after in zip(parts[1:], seen, seen[1:]):
            if after[0].isdigit() or (re.match(r"\\frac", after) and re.search(r"\d$", before)):
                text += r" \cdot "
            elif text[-1] in ")]}" and re.match(r"\\math|[a-zA-Z]|\\", part):
                text += r"\,"
            else:
                text += " "
            text += part
        return text

    def _tight(self, text: str) -> str:
        """An index or an exponent without blanks, save between a command and a letter."""
        return re.sub(r"(\\[A-Za-z]+ (?=[A-Za-z]))| ", lambda found: found[1] or "", text)

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

    def _seen(self, e: Expression) -> Expression:
        """``e`` without its underbraces."""
        return self._seen(e.body) if isinstance(e, Group) and e.label is not None else e

    def _minus(self, e: Expression, braces: bool = True) -> bool:
        """Whether the print of ``e`` starts with a minus, which ``braces`` finds under a brace, too."""
        e = self._seen(e) if braces else e
        if isinstance(e, Div):
            return not isinstance(e.top, Add) and self._minus(e.top, braces=False)
        if isinstance(e, Add):
            return not isinstance(e.terms[0], Add) and self._minus(e.terms[0], braces)
        if isinstance(e, Mul) and not isinstance(e.factors[0], Neg):
            first, last = e.factors[0], len(e.factors) == 1
            return not self._loose(first, last) and self._minus(first, braces)
        return isinstance(e, (Neg, Mul))

    def _ends(self, e: Expression) -> list[Expression]:
        """``e`` and what stands at the end of its print, its last factor or the body of its operator, from the
        outside in.
        """
        e = self._seen(e)
        if isinstance(e, Mul):
            return [e, *self._ends(e.factors[-1])]
        if isinstance(e, (Neg, Repeat, Grad_)) or (isinstance(e, Apply) and e.name == "log"):
            return [e, *self._ends(e.body)]
        return [e]

    def _swallows(self, e: Expression) -> bool:
        """Whether the print of ``e`` ends in an operator that would swallow factors after it."""
        return any(
            re.search(r"\\(log|nabla|sum|prod|int)\b", self.name(part.name, part.latex))
            if isinstance(part, Symbol)
            else isinstance(part, (Repeat, Integral_, Grad_)) or (isinstance(part, Apply) and part.name == "log")
            for part in self._ends(e)
        )

    def _loose(self, e: Expression, last: bool) -> bool:
        """Whether a factor falls apart without brackets: a sum, or what would swallow the factors after it."""
        return isinstance(self._seen(e), Add) or (self._swallows(e) and not last)

    def _block(self, e: Expression) -> bool:
        """Whether ``e`` needs no brackets under an exponent."""
        if isinstance(e, Symbol):
            return "^" not in self.name(e.name, e.latex) and not self._swallows(e)
        return isinstance(e, Number) or (isinstance(e, Group) and e.label is None) or getattr(e, "name", "") == "sqrt"

    def _raised(self, e: Expression) -> bool:
        """Whether ``e`` is a power of brackets, so that g(x)^2 could be the square of g(x), or g of x^2."""
        return isinstance(e, Pow) and (isinstance(e.base, Group) or not self._block(e.base))

    def _bracketed(self, e: Expression, needed: bool = True) -> str:
        """``e`` in brackets, if they are needed."""
        if not needed:
            return self(e)
        if isinstance(e, Group) and e.label is not None:
            return self._brace(self._bracketed(e.body), e.label)
        return self._brackets(self(e))

    def _inner(self, e: Expression, last: bool = True) -> str:
        """``e`` as a factor, or behind a minus or a big operator."""
        return self._bracketed(e, self._loose(e, last) or self._minus(e))

    def _under(self, e: Expression, *loose: type) -> str:
        """``e`` behind an operator of one block, as in log x: bracketed unless it is one, so if ``loose``."""
        seen = self._seen(e)
        return self._bracketed(e, isinstance(seen, (Add, Mul, *loose)) or self._minus(seen) or self._raised(seen))

    def _on_number(self, e: Number) -> str:
        return str(e.value)

    def _on_symbol(self, e: Symbol) -> str:
        return self._symbol(e, self._tight(self(e.index)) if e.index is not None else "")

    def _on_span(self, e: Span) -> str:
        return self._symbol(e, self._tight(f"{self(e.first)}:{self(e.last)}"))

    def _on_given(self, e: Given) -> str:
        return self(e.left) + self.mid + self(e.right)

    def _on_add(self, e: Add) -> str:
        text = self._bracketed(e.terms[0], isinstance(e.terms[0], Add))
        for term in e.terms[1:]:
            if isinstance(term, Neg):
                text += " - " + self._inner(term.body)
            elif isinstance(term, Add):
                text += " + " + self._bracketed(term)
            elif self._minus(term, braces=False):
                text += " - " + self(term)[1:]
            else:
                text += " + " + self._bracketed(term, self._minus(term))
        return text

    def _on_neg(self, e: Neg) -> str:
        return "-" + self._inner(e.body)

    def _on_mul(self, e: Mul) -> str:
        (first, *rest), minus = e.factors, isinstance(e.factors[0], Neg)
        first = first.body if minus else first
        shown = [self._bracketed(first, self._loose(first, not rest) or (minus and self._minus(first)))]
        shown += [self._inner(f, last=f_last) for f, f_last in zip(rest, [False] * (len(rest) - 1) + [True])]
        seen = [s if self._seen(f) is f else self(self._seen(f)) for f, s in zip((first, *rest), shown)]
        return "-" * minus + self._product(shown, seen)

    def _on_div(self, e: Div) -> str:
        top, minus = self(e.top), not isinstance(e.top, Add) and self._minus(e.top, braces=False)
        return "-" * minus + self._fraction(top[minus:], self(e.bottom))

    def _on_pow(self, e: Pow) -> str:
        base = self(e.base)
        return self._power(base if self._block(e.base) else self._brackets(base), self._tight(self(e.power)))

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

    def _integrand(self, e: Expression) -> str:
        """As ``_inner``, but an integral at the end is bracketed: whose variables are dx dy?"""
        ends_in_integral = any(isinstance(part, Integral_) for part in self._ends(e))
        return self._bracketed(e, ends_in_integral or self._loose(e, last=True) or self._minus(e))

    def _on_integral(self, e: Integral_) -> str:
        return r"\int " + self._integrand(e.body) + "".join(rf"\,\mathrm{{d}}{self(v)}" for v in e.variables)

    def _on_repeat(self, e: Repeat) -> str:
        return self.big(e.kind, self(e.index), self(e.first), self(e.last)) + self._inner(e.body)

    def _on_grad(self, e: Grad_) -> str:
        return rf"\nabla_{{{self(e.variable)}}} " + self._under(e.body)

    def _on_group(self, e: Group) -> str:
        if e.label is None:
            return self._brackets(self(e.body))
        return self._brace(self(e.body), e.label)


class Plain(Latex):
    """Readable in a terminal, and close to what the author typed."""

    mid, bars = " | ", " || "
    BLOCK = r"\w+(\[[^\]]*\])?"

    def _brackets(self, text: str, pair: str = "()") -> str:
        return pair[0] + text + pair[1]

    def _fraction(self, top: str, bottom: str) -> str:
        def block(text: str) -> str:
            return text if re.fullmatch(self.BLOCK, text) else f"({text})"

        return f"{block(top)}/{block(bottom)}"

    def _power(self, base: str, power: str) -> str:
        return f"{base}**{power if re.fullmatch(self.BLOCK, power.removeprefix('-')) else f'({power})'}"

    def _product(self, parts: list[str], seen: list[str]) -> str:
        return "*".join(parts)

    def _tight(self, text: str) -> str:
        return re.sub(r" ([+-]) ", r"\1", text)

    def _seen(self, e: Expression) -> Expression:
        return e

    def name(self, text: str, latex: str | None = None) -> str:
        """A name as typed."""
        return text

    def _symbol(self, e: Symbol | Span, below: str) -> str:
        name = e.family.name if isinstance(e, Span) else e.name
        return f"{name}[{below}]" if below else name

    def big(self, kind: str, index: str, first: str, last: str) -> str:
        """The sign of a sum or product with its ends."""
        return f"{kind}_{index}={self._tight(first)}..{self._tight(last)} "

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
        return "integral " + self._integrand(e.body) + "".join(f" d{self(v)}" for v in e.variables)

    def _on_grad(self, e: Grad_) -> str:
        return f"grad_{{{self(e.variable)}}} " + self._under(e.body, Div)

    def _on_group(self, e: Group) -> str:
        return self._brackets(self(e.body))


latex, plain = Latex(), Plain()
Expression.printer = plain
