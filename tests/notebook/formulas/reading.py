r"""Reads printed formulas as a reader of the page does, sharing nothing with the printer but the kinds of formulas.

Products stand side by side (LaTeX) or between ``*`` and ``/`` (text). A sum, product, integral or gradient sign and
``\log`` take the product behind them, up to the next plus or minus; an underbrace groups nothing. What two readers
could take for two things is ``Unclear``: a minus behind an operator, a number before a number or a fraction (a mixed
number), and behind a gradient or a logarithm more than one block, or a power of brackets.
"""

import re

from lib.notebook.formulas.expression import (
    KL_,
    Add,
    Apply,
    Density,
    Div,
    Expect_,
    Expression,
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
    children,
    wrap,
)


class Unclear(Exception):
    """The text is no formula, or may be read in two ways."""


class Reader:
    """Reads one formula; ``names`` says what stands for what: {text: symbol, or what is called or indexed}."""

    def __init__(self, text: str, names: dict):
        self.names, self.tokens, self.place = names, self.split(text), 0

    def read(self) -> Expression:
        whole = self.sum()
        if self.next() is not None:
            raise Unclear(f"{self.next()!r} is left over")
        return whole

    def next(self, ahead: int = 0) -> str | None:
        return self.tokens[self.place + ahead] if self.place + ahead < len(self.tokens) else None

    def take(self, *wanted: str) -> str:
        token = self.next()
        if token is None or (wanted and token not in wanted):
            raise Unclear(f"wanted {wanted}, got {token!r} at {self.place} of {self.tokens}")
        self.place += 1
        return token

    def sees(self, *tokens: str) -> bool:
        """Takes one of ``tokens`` if it is next."""
        found = self.next() in tokens
        self.place += found
        return found

    def within(self, opening: str, closing: str, inside=None):
        self.take(opening)
        found = (inside or self.sum)()
        self.take(closing)
        return found

    def sum(self) -> Expression:
        terms = [Neg(self.product()) if self.sees("-") else self.product()]
        while self.next() in ("+", "-"):
            terms.append(Neg(self.product()) if self.take() == "-" else self.product())
        return Add(tuple(terms)) if len(terms) > 1 else terms[0]

    def several(self) -> tuple:
        found = [self.sum()]
        while self.sees(","):
            found.append(self.sum())
        return tuple(found)

    def operand(self) -> Expression:
        """The one block behind a gradient or a logarithm."""
        if self.next() == "-":
            raise Unclear("a minus behind an operator")
        bracket = self.next() == "("
        block = self.product()
        if isinstance(block, Mul):
            raise Unclear("more than one block behind an operator")
        if bracket and not isinstance(block, Group):
            raise Unclear("brackets and more behind an operator")
        return block

    def density(self, law) -> Expression:
        left = self.several()
        right = self.several() if self.sees(self.BAR) else ()
        return Density(law.name, left, right, law.latex or "")

    def normal(self) -> Expression:
        parts = [self.sum()]
        while self.sees(";", ","):
            parts.append(self.sum())
        return Normal_(*parts) if len(parts) == 3 else Normal_(wrap(0), *parts)

    def over(self) -> Expression:
        first = self.sum()
        if not self.sees(self.SIM):
            return first
        law = self.sum()
        return Normal_(first, law.mean, law.variance)

    def pair(self) -> Expression:
        first = self.sum()
        self.take(self.BARS)
        return KL_(first, self.sum())

    def called(self, what) -> Expression:
        """A symbol, or a call, density or member of what a name stands for."""
        if isinstance(what, Symbol):
            return what
        if hasattr(what, "factors"):
            return self.within("(", ")", lambda: self.density(what))
        return what(*self.within("(", ")", self.several))


class LatexReader(Reader):
    BAR, SIM, BARS = r"\mid", r"\sim", r"\|"
    ENDS = (None, "+", "-", ")", "]", "}", ",", ";", ":", "=", r"\mid", r"\sim", r"\|", r"\rVert")

    def split(self, text: str) -> list[str]:
        tokens = re.findall(r"\\mathrm\{\w+\}|\\math\w+\{\w\}|\\[a-zA-Z]+|\\.|\d+|\S", text)
        tokens = [t for t in tokens if t not in (r"\left", r"\right", r"\,")]
        while r"\underbrace" in tokens:
            start = tokens.index(r"\underbrace")
            end = self.closing(tokens, start + 1)
            tokens = tokens[:start] + tokens[start + 2 : end] + tokens[self.closing(tokens, end + 2) + 1 :]
        return tokens

    def closing(self, tokens: list[str], start: int) -> int:
        depth = 0
        for k, token in enumerate(tokens[start:], start):
            depth += (token == "{") - (token == "}")
            if not depth:
                return k
        raise Unclear("a brace is not closed")

    def product(self) -> Expression:
        factors = [self.factor()]
        while self.next() not in self.ENDS and self.next() != r"\mathrm{d}":
            dot, before = self.sees(r"\cdot"), self.tokens[self.place - 1]
            if not dot and (self.next().isdigit() or (before.isdigit() and self.next() == r"\frac")):
                raise Unclear("a number beside a number")
            factors.append(self.factor())
        return Mul(tuple(factors)) if len(factors) > 1 else factors[0]

    def factor(self) -> Expression:
        base = self.block()
        return Pow(base, self.within("{", "}")) if self.sees("^") else base

    def ends(self) -> tuple:
        self.take("_")
        index, first = self.within("{", "}", lambda: (self.sum(), self.take("="), self.sum())[::2])
        self.take("^")
        return index, first, self.within("{", "}")

    def block(self) -> Expression:
        token = self.next()
        if token == "(":
            return Group(self.within("(", ")"))
        if token is None or token == "-":
            raise Unclear("a minus where a factor should be")
        if token.isdigit():
            return wrap(int(self.take()))
        if token in (r"\sum", r"\prod"):
            kind = {r"\sum": "sum", r"\prod": "product"}[self.take()]
            index, first, last = self.ends()
            return Repeat(kind, self.product(), index, first, last)
        if self.sees(r"\frac"):
            return Div(self.within("{", "}"), self.within("{", "}"))
        if self.sees(r"\sqrt"):
            return Apply("sqrt", self.within("{", "}"))
        if self.sees(r"\exp"):
            return Apply("exp", self.within("(", ")"))
        if self.sees(r"\log"):
            return Apply("log", self.operand())
        if token == r"\lVert":
            norm = Apply("squared_norm", self.within(r"\lVert", r"\rVert"))
            for part in "^{2}":
                self.take(part)
            return norm
        if self.sees(r"\nabla"):
            self.take("_")
            variable = self.within("{", "}")
            return Grad_(self.operand(), variable)
        if self.sees(r"\int"):
            body, variables = self.product(), []
            while self.sees(r"\mathrm{d}"):
                variables.append(self.block())
            return Integral_(body, tuple(variables))
        if self.sees(r"\mathbb{E}"):
            self.take("_")
            over = self.within("{", "}", self.over)
            return Expect_(self.within("[", "]"), over)
        if self.sees(r"\mathrm{KL}"):
            return self.within("(", ")", self.pair)
        if self.sees(r"\mathcal{N}"):
            return self.within("(", ")", self.normal)
        return self.named()

    def named(self) -> Expression:
        start = self.place
        self.take()
        if self.next() == "{":
            self.place = self.closing(self.tokens, self.place) + 1
        stem = "".join(self.tokens[start : self.place])
        if self.next() != "_":
            if stem not in self.names:
                raise Unclear(f"{stem!r} stands for nothing")
            return self.called(self.names[stem])
        end = self.closing(self.tokens, self.place + 1) + 1
        whole = "".join(self.tokens[start:end])
        if whole in self.names:
            self.place = end
            return self.called(self.names[whole])
        self.take("_")
        return self.within("{", "}", lambda: member(self, self.names[stem]))


class PlainReader(Reader):
    BAR, SIM, BARS = "|", "~", "||"

    def split(self, text: str) -> list[str]:
        return re.findall(r"\w+|\*\*|\|\||\.\.|\S", text)

    def product(self) -> Expression:
        total = self.factor()
        while self.next() in ("*", "/"):
            total = Mul((total, self.factor())) if self.take() == "*" else Div(total, self.factor())
        return total

    def factor(self) -> Expression:
        base = self.block()
        if not self.sees("**"):
            return base
        return Pow(base, Neg(self.block()) if self.sees("-") else self.factor())

    def block(self) -> Expression:
        token = self.next()
        if token == "(":
            return Group(self.within("(", ")"))
        self.take()
        if token.isdigit():
            return wrap(int(token))
        kind, _, index = token.partition("_")
        if kind in ("sum", "product") and self.sees("="):
            first = self.sum()
            self.take("..")
            last = self.sum()
            return Repeat(kind, self.product(), self.names[index], first, last)
        if token in ("exp", "log", "sqrt", "squared_norm"):
            return Apply(token, self.within("(", ")"))
        if token == "grad_":
            variable = self.within("{", "}")
            start = self.tokens[self.place]
            block = self.product()
            if start == "(" and not isinstance(block, Group):
                raise Unclear("brackets and more behind a gradient")
            if isinstance(block, (Mul, Div)):
                raise Unclear("more than one block behind a gradient")
            return Grad_(block, variable)
        if token == "integral":
            body, variables = self.product(), []
            while self.next() and self.next().startswith("d") and self.next()[1:] in self.names:
                variables.append(self.names[self.take()[1:]])
            return Integral_(body, tuple(variables))
        if token == "E_":
            over = self.within("{", "}", self.over)
            return Expect_(self.within("[", "]"), over)
        if token == "KL":
            return self.within("(", ")", self.pair)
        if token == "N":
            return self.within("(", ")", self.normal)
        if token not in self.names:
            raise Unclear(f"{token!r} stands for nothing")
        if self.next() == "[":
            return self.within("[", "]", lambda: member(self, self.names[token]))
        return self.called(self.names[token])


def member(reader: Reader, family) -> Expression:
    first = reader.sum()
    return family[first : reader.sum()] if reader.sees(":") else family[first]


# ------------------------------------------------------------ what it says


def factors(e: Expression) -> tuple:
    """(sign, above, below) of a product, whatever brackets are in it."""
    if isinstance(e, Group):
        return factors(e.body)
    if isinstance(e, Neg):
        sign, above, below = factors(e.body)
        return -sign, above, below
    if isinstance(e, Div):
        sign, above, below = factors(e.top)
        return sign, above, (*below, meaning(e.bottom))
    if isinstance(e, Mul):
        parts = [factors(f) for f in e.factors]
        sign = -1 if sum(p[0] < 0 for p in parts) % 2 else 1
        return sign, tuple(m for p in parts for m in p[1]), tuple(m for p in parts for m in p[2])
    return 1, (meaning(e),), ()


def meaning(e: Expression):
    """The formula, up to brackets and to the rules a (b c) = a b c, a (-b) = -(a b), (a / b) c = (a c) / b."""
    if isinstance(e, Group):
        return meaning(e.body)
    if isinstance(e, (Neg, Mul, Div)):
        found = factors(e)
        return found[1][0] if found[0] == 1 and len(found[1]) == 1 and not found[2] else ("product", *found)
    if isinstance(e, Add):
        terms = [meaning(term) for term in e.terms]
        return ("sum", *(m for t in terms for m in (t[1:] if isinstance(t, tuple) and t[0] == "sum" else (t,))))
    if isinstance(e, KL_) and isinstance(e.first, Normal_):  # printed without their variable
        return ("KL", *(meaning(part) for law in (e.first, e.second) for part in (law.mean, law.variance)))
    if isinstance(e, (Number, Symbol, Span, Density)):
        return e
    own = [getattr(e, name) for name in ("name", "law", "kind") if hasattr(e, name)]
    return (type(e).__name__, *own, *map(meaning, children(e)))
