r"""Sums and products whose length is a symbol: $\sum_{t=a}^{b} f(t) = S_f(b) - S_f(a-1)$.

Of $S_f$ the rules known are linearity, $S_f(n) = S_f(n-1) + f(n)$ (so sums shift, split and telescope), the closed
forms of powers and of geometric terms, and summation by parts, which puts a sum over $i \le j$ and one over $j \ge i$
into one form. A product of positive factors is the exponential of a sum.
"""

from __future__ import annotations

import sympy as sp

from lib.notebook.formulas.concrete import concrete, index_of, linear
from lib.notebook.formulas.expression import Expression, Repeat, Symbol, replace, walk
from lib.notebook.formulas.premises import GE, NE, compared
from lib.notebook.formulas.unknown import PartialProduct, PartialSum, depths, derivative, fresh, outermost, terms


class Sums:
    """Values of sums and products for one ``Algebra``."""

    def __init__(self, algebra):
        self.algebra = algebra

    def value(self, e: Repeat, body: sp.Expr) -> sp.Expr:
        """A sum or product of the typed ``e``, whose body has the value ``body``."""
        high, low = linear(e.last), linear(e.first - 1)
        if e.kind == "sum":
            return self.partial(body, e.index, high) - self.partial(body, e.index, low)
        positive, rest = sp.Integer(1), sp.Integer(1)
        for base, power in self.algebra.split(body):
            if base is sp.E or self.algebra.positive(base):
                positive *= base**power
            else:
                rest *= base**power
        logs = self.algebra.log(positive)
        total = sp.exp(self.partial(logs, e.index, high) - self.partial(logs, e.index, low))
        return total * self.partial_product(rest, e.index, high) / self.partial_product(rest, e.index, low)

    # ---- sums

    def partial(self, body: sp.Expr, index: Symbol, end: dict) -> sp.Expr:
        """S of ``body`` at ``end``, an index such as {T: 1, None: -1}."""
        total = sp.Integer(0)
        for term in terms(body):
            outside, inside = self.separate(term, index)
            total += outside * self.term(inside, index, end)
        return total

    def separate(self, term: sp.Expr, index: Symbol) -> tuple[sp.Expr, sp.Expr]:
        """The factors of a product that are free of ``index``, and the others; exp(a + b) is exp(a) exp(b)."""
        outside, inside = sp.Integer(1), sp.Integer(1)
        for factor in sp.Mul.make_args(term):
            if isinstance(factor, sp.exp):
                moving = sp.Add(*(a for a in sp.Add.make_args(sp.expand(factor.exp)) if self.offsets(a, index)))
                outside, inside = outside * sp.exp(sp.expand(factor.exp) - moving), inside * sp.exp(moving)
            elif self.offsets(factor, index):
                inside *= factor
            else:
                outside *= factor
        return outside, inside

    def term(self, f: sp.Expr, index: Symbol, end: dict) -> sp.Expr:
        """S of a product of which every factor depends on ``index``."""
        letter, last = self.algebra.atom(index), self.end(end)
        if f == 1:
            return last
        if f.free_symbols == {letter} and f.is_polynomial(letter):
            n = sp.Dummy(integer=True)
            return sp.summation(f.xreplace({letter: n}), (n, 1, letter)).xreplace({letter: last})
        if (ratio := self.ratio(f, letter)) is not None:
            return f.xreplace({letter: last + 1}) / (ratio - 1)
        by_parts = self.by_parts(f, index, end)
        return self.antidifference(f, index, end) if by_parts is None else by_parts

    def ratio(self, f: sp.Expr, letter: sp.Symbol) -> sp.Expr | None:
        """What f(n + 1)/f(n) is, if f is geometric in the letter."""
        base, power = f.as_base_exp()
        if letter in base.free_symbols or not power.is_polynomial(letter) or sp.degree(power, letter) != 1:
            return None
        slope = power.coeff(letter)
        ratio = base**slope
        return ratio if slope.is_Integer or (isinstance(f, sp.exp) and ratio != 1) else None

    def by_parts(self, f: sp.Expr, index: Symbol, end: dict) -> sp.Expr | None:
        """S of a(n) S_b(n) as S_a S_b - S of b(n) S_a(n - 1), in the order of a and b that comes first."""
        sums = [p for p in sp.Mul.make_args(f) if isinstance(p, PartialSum) and p.args[1] == self.algebra.atom(index)]
        if len(sums) != 1:
            return None
        a, b = f / sums[0], self.moved(sums[0].args[0], self.letter(sums[0].args[0]), index)
        if a.has(PartialSum) or b.has(PartialSum):
            return None
        here = {index: 1, None: 0}
        if a == b:
            return (self.partial(a, index, end) ** 2 + self.partial(a * b, index, end)) / 2
        first, second = (self.moved(part, index, Symbol("running·0", "integer")) for part in (a, b))
        closed = a.free_symbols <= {self.algebra.atom(index)}  # its own sum needs no S
        if not closed and sp.default_sort_key(first) < sp.default_sort_key(second):
            return None
        rest = self.partial(b * self.partial(a, index, here), index, end) - self.partial(a * b, index, end)
        return self.partial(a, index, end) * self.partial(b, index, end) - rest

    def antidifference(self, f: sp.Expr, index: Symbol, end: dict) -> sp.Expr:
        """S of ``f`` at ``end``, written as S at the letters of ``end`` alone plus or minus a few values of f."""
        shift = max(self.offsets(f, index))
        letter = Symbol(fresh("running", f, index.name), "integer")
        f, steps = self.moved(f, index, letter - shift), end[None] + shift
        extra = sp.Add(*(self.moved(f, letter, k) for k in self.known(end, steps)))
        start = PartialSum(f, self.end({**end, None: 0}))
        return start + (extra if steps > 0 else -extra)

    def partial_product(self, f: sp.Expr, index: Symbol, end: dict) -> sp.Expr:
        """P of ``f`` at ``end``, factor by factor."""
        total = sp.Integer(1)
        for factor in sp.Mul.make_args(f):
            base, power = factor.as_base_exp()
            if not self.offsets(factor, index):
                total *= factor ** self.end(end)
                continue
            if not power.is_Integer:
                base, power = factor, sp.Integer(1)
            shift = max(self.offsets(base, index))
            letter = Symbol(fresh("running", base, index.name), "integer")
            base, steps = self.moved(base, index, letter - shift), end[None] + shift
            extra = sp.Mul(*(self.moved(base, letter, k) for k in self.known(end, steps)))
            total *= (PartialProduct(base, self.end({**end, None: 0})) * (extra if steps > 0 else 1 / extra)) ** power
        return total

    # ---- places

    def end(self, end: dict) -> sp.Expr:
        """The sympy value of an index."""
        return sp.Add(*(n if s is None else n * self.algebra.atom(s) for s, n in end.items()))

    def known(self, end: dict, steps: int):
        """The places between the letters of ``end`` alone and ``steps`` further."""
        base = index_of({**end, None: 0})
        return [base + k for k in (range(1, steps + 1) if steps > 0 else range(steps + 1, 1))]

    def offsets(self, e: sp.Expr, index: Symbol) -> list[int]:
        """The k of all x[index + k] inside ``e``, 0 for the bare letter; none if it does not occur."""
        symbols = self.algebra.symbols
        typed = [symbols[s][0] for s in e.free_symbols if s in symbols]
        found = [linear(s.index)[None] for s in typed if s.index is not None and index in linear(s.index)]
        return found or [0] * (index in typed)

    def moved(self, e: sp.Expr, index: Symbol, to: Expression) -> sp.Expr:
        """``e`` with ``index`` replaced; a sum that ended there ends at the new place."""
        symbols, table = self.algebra.symbols, {}
        for part in outermost(e, (PartialSum,)):
            end = self.typed_end(part)
            if index in end:
                f = self.moved(part.args[0], index, to)
                place = linear(replace(index_of(end), {index: to}))
                table[part] = self.partial(f, self.letter(part.args[0]), place)
        typed = {s: symbols[s] for s in e.free_symbols if s in symbols}
        letters = {s: self.algebra.of(concrete(replace(t, {index: to})), i) for s, (t, i) in typed.items()}
        hidden = {part: sp.Dummy(real=True) for part in table}
        return e.xreplace(hidden).xreplace(letters).xreplace({hidden[part]: new for part, new in table.items()})

    def letter(self, f: sp.Expr) -> Symbol:
        """The letter in which the body of a partial sum is written: that of the greatest depth."""
        return Symbol(f"running·{max(depths('running', f))}", "integer")

    def typed_end(self, part: sp.Expr) -> dict:
        """Where a partial sum or product ends, as an index."""
        last = part.args[1]
        return {self.algebra.symbols[s][0]: int(last.coeff(s)) for s in last.free_symbols} | {None: 0}

    def derivative(self, part: sp.Expr, x: sp.Symbol) -> sp.Expr:
        """The derivative of a partial sum or product by ``x``."""
        f, letter, end = part.args[0], self.letter(part.args[0]), self.typed_end(part)
        slope = derivative(f, x, self.algebra.inside)
        return (
            self.partial(slope, letter, end)
            if isinstance(part, PartialSum)
            else part * self.partial(slope / f, letter, end)
        )

    # ---- one term taken out

    def opened(self, e: sp.Expr, x: sp.Symbol) -> tuple[sp.Expr, dict]:
        """``e`` with the terms that hold ``x`` taken out of its sums and products, and what then stands for the rest
        of each: S of x[i] at n is x[1] + D, and D is S - x[1]. ``ValueError`` where they cannot be taken out.
        """
        v = self.algebra.symbols[x][0]
        table: dict = {}
        back: dict = {}
        for part in outermost(e, (PartialSum, PartialProduct)) if v.index is not None else ():
            places = self.places(part, v)
            if not places:
                continue
            if x in part.free_symbols or any(s.name.startswith(("over", "standard")) for s in part.free_symbols):
                raise ValueError(f"{v!r} cannot be taken out of a sum or product of open length over its family")
            letter, rest = self.letter(part.args[0]), sp.Dummy(real=True)
            self.algebra.domains[rest] = "real"
            taken = [self.moved(part.args[0], letter, index_of(place)) for place in places]
            if isinstance(part, PartialSum):
                table[part], back[rest] = sp.Add(rest, *taken), part - sp.Add(*taken)
            else:
                for factor in taken:
                    self.algebra.assume(factor, self.algebra.shown(factor, v), NE)
                table[part], back[rest] = sp.Mul(rest, *taken), part / sp.Mul(*taken)
        return e.xreplace(table), back

    def places(self, part: sp.Expr, v: Symbol) -> list[dict]:
        """The places, from 1 to the end of a partial sum or product, at which its body holds ``v``."""
        symbols, letter, end = self.algebra.symbols, self.letter(part.args[0]), index_of(self.typed_end(part))
        found = []
        for index in {symbols[s][0].index for s in part.free_symbols if s in symbols and symbols[s][0].name == v.name}:
            count = linear(index) if index is not None else {}
            letters = [s for s in count if s is not None and s.name.startswith("running")]
            if not letters:
                continue
            if letters != [letter] or count[letter] != 1:
                raise ValueError(f"{v!r} cannot be taken out of a sum or product over {v.name}[{index!r}]")
            place = v.index - index + letter
            before, after = linear(place), linear(end - place)
            ranges = self.algebra.ranges
            if at_least(linear(1 - place), 1, ranges) or at_least(linear(place - end), 1, ranges):
                continue
            for room, least in ((before, 1), (after, 0)):
                if not at_least(room, least, ranges):
                    if set(room) & set(ranges):
                        raise ValueError(f"{v!r} may be one of the terms of a sum over its family")
                    self.algebra.assume((v, part, least), f"for ${compared(room, least, GE)}$")
            found.append(before)
        return found


def turned(e: Repeat) -> Repeat:
    """A sum over x[T - t], in which t only falls, as one in which it rises; any other sum as it is."""
    places = [p.index for p in walk(e.body) if isinstance(p, Symbol) and p.index is not None]
    counts = [linear(place).get(e.index, 0) for place in places]
    bare = sum(p == e.index for p in walk(e.body)) - sum(sum(q == e.index for q in walk(place)) for place in places)
    if bare or not any(counts) or any(count not in (0, -1) for count in counts):
        return e
    return Repeat(e.kind, replace(e.body, {e.index: e.first + e.last - e.index}), e.index, e.first, e.last)


def at_least(index: dict, value: int, ranges: dict) -> bool:
    """Whether an index such as {T: 1, None: -2} is at least ``value``; its letters are integers from 1, or in
    ``ranges``.
    """
    constant, letters = index[None], {s: n for s, n in index.items() if s is not None}
    for letter in [s for s in letters if s in ranges]:
        count, (first, last) = letters.pop(letter), ranges[letter]
        bound = linear(first if count > 0 else last)
        constant += count * bound[None]
        for s, n in bound.items():
            if s is not None:
                letters[s] = letters.get(s, 0) + count * n
    return all(n >= 0 for n in letters.values()) and constant + sum(letters.values()) >= value
