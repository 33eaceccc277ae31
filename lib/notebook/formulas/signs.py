r"""Signs that are proved: where a sympy expression is positive, or never negative, on the whole domain of its symbols.

Domains are written out before anything is judged: a unit symbol is $p/(1+p)$ and an integer $1+n$ with $p > 0$ and
$n \ge 0$, so that $1-u$ or $n(n-1)$ become sums of terms of one sign. Sums that are no such sums may be squares
(by completing them), or follow from $\log a \le a - 1$. Nothing is sampled: where no rule tells the sign, there is
none.
"""

from __future__ import annotations

import sympy as sp

TERMS = 20_000  # the longest sum that may be written out
UNKNOWN = (0, False)


def length(e: sp.Expr) -> int:
    """A bound on the number of terms of ``e`` written out."""
    if e.is_Add:
        return sum(map(length, e.args))
    if e.is_Mul:
        return sp.prod(map(length, e.args))
    if e.is_Pow and e.exp.is_Integer:
        return length(e.base) ** min(abs(int(e.exp)), 30)
    return 1


class Signs:
    """Proves signs; ``domains`` holds the domain of each symbol: real, positive, unit, integer (from 1) or noise.

    A sign is (1, strict), (-1, strict) or ``UNKNOWN``; strict says that the value is nowhere 0.
    """

    def __init__(self, domains: dict):
        self.domains = domains
        self.facts: set = set()  # expressions known to be positive by what was typed
        self.known: dict = {}
        self.letters: dict = {}

    def positive(self, e: sp.Expr) -> bool:
        """Whether ``e`` is positive everywhere."""
        return e in self.facts or self.sign(self.spread(e)) == (1, True)

    def nonzero(self, e: sp.Expr) -> bool:
        """Whether ``e`` is 0 nowhere."""
        return e in self.facts or -e in self.facts or self.sign(self.spread(e))[1]

    def never_negative(self, e: sp.Expr) -> bool:
        """Whether ``e`` is at least 0 everywhere."""
        return self.at_least_zero(self.spread(sp.expand_log(e)))

    def sign_of(self, e: sp.Expr) -> int:
        """1 or -1 where ``e`` is never negative or never positive, else 0."""
        return self.sign(self.spread(e))[0]

    def spread(self, e: sp.Expr) -> sp.Expr:
        """``e`` with its symbols written as functions of symbols that take every positive, or nonnegative, number."""
        e = e.xreplace({s: self.letter(s) for s in e.free_symbols})
        roots = {p.base for p in e.atoms(sp.Pow) if p.base.is_Symbol and p.base.is_positive and p.exp.is_Rational}
        halves = {b for b in roots if any(p.base == b and p.exp.q == 2 for p in e.atoms(sp.Pow) if p.exp.is_Rational)}
        return e.subs({b: self.letter(b, root=True) ** 2 for b in halves}) if halves else e

    def letter(self, s: sp.Symbol, root: bool = False) -> sp.Expr:
        """What is written for a symbol, the same each time; with ``root`` the letter of which it is the square."""
        key = (s, root)
        if key not in self.letters:
            unit, whole = self.domains.get(s) == "unit", s.is_integer and s.is_positive
            p = sp.Dummy(s.name, **({"nonnegative": True} if whole else {"positive": True}))
            self.letters[key] = p if root else p / (1 + p) if unit else 1 + p if whole else s
        return self.letters[key]

    # ---- products of sums of one sign, and squares

    def sign(self, e: sp.Expr) -> tuple[int, bool]:
        """The sign of ``e``, worked out once."""
        if e not in self.known:
            self.known[e] = self.find(e)
        return self.known[e]

    def find(self, e: sp.Expr) -> tuple[int, bool]:
        """The sign of ``e``."""
        if e.is_number:  # such as sqrt(2) - 1, which sympy works out
            return (1 if e.is_nonnegative else -1 if e.is_nonpositive else 0), bool(e.is_nonzero)
        if isinstance(e, sp.exp):
            return (1, True) if self.real(e.exp) else UNKNOWN
        if not e.args or not (e.is_Add or e.is_Mul or e.is_Pow or e.func is sp.log):
            return (1 if e.is_nonnegative else -1 if e.is_nonpositive else 0), bool(e.is_nonzero)
        if e.func is sp.log and self.sign(e.args[0]) == (1, True):
            return self.sign(e.args[0] - 1)
        if e.is_Mul:
            signs = [self.sign(part) for part in e.args]
            return sp.prod(s for s, _ in signs), all(strict for _, strict in signs)
        if e.is_Pow:
            sign, strict = self.sign(e.base)
            if not self.real(e.exp):
                return UNKNOWN
            return (1 if e.exp.is_even else sign if e.exp.is_odd or sign == 1 else 0), strict
        if not e.is_Add or length(e) > TERMS:
            return UNKNOWN
        if (shared := self.shared(e)) != UNKNOWN:
            return shared
        top, bottom = sp.fraction(sp.together(e))
        top = sp.expand(top)
        try:
            factors = sp.factor_list(top) if top.free_symbols else (top, [])
        except sp.PolynomialError:
            return UNKNOWN
        (s, strict), (below, _) = self.sign(sp.sympify(factors[0])), self.sign(bottom)
        for base, power in factors[1]:
            sign, nonzero = self.irreducible(base)
            s, strict = s * (1 if power % 2 == 0 else sign), strict and nonzero
        return (s * below, strict) if s * below else (0, strict)

    def real(self, e: sp.Expr) -> bool:
        """Whether ``e`` is real wherever it is defined."""
        if e.is_Add or e.is_Mul or isinstance(e, sp.exp):
            return all(map(self.real, e.args))
        if e.is_Pow:
            return self.real(e.base) and self.real(e.exp) and (bool(e.exp.is_integer) or self.sign(e.base)[0] == 1)
        if e.func is sp.log:
            return self.sign(e.args[0]) == (1, True)
        return bool(e.is_real)

    def shared(self, e: sp.Expr) -> tuple[int, bool]:
        """The sign that all terms of a sum have in common."""
        signs = [self.sign(part) for part in e.args]
        for sign in (1, -1):
            if all(s == sign for s, _ in signs):
                return sign, any(strict for _, strict in signs)
        return UNKNOWN

    def irreducible(self, e: sp.Expr) -> tuple[int, bool]:
        """The sign of a factor that is no product: by its terms, or as a sum of squares."""
        if not e.is_Add:
            return self.sign(e)
        e = sp.expand(e)
        if (shared := self.shared(e)) != UNKNOWN:
            return shared
        for sign in (1, -1):
            if (strict := self.squares(sign * e)) is not None:
                return sign, strict
        return UNKNOWN

    def squares(self, e: sp.Expr) -> bool | None:
        """Whether ``e`` is never 0, if it is a sum of squares and terms of one sign, or has no root; else None."""
        if len(e.free_symbols) == 1 and e.is_polynomial(*e.free_symbols):
            return self.without_root(sp.Poly(e, *e.free_symbols))
        for x in sorted(e.free_symbols, key=str):
            if not e.is_polynomial(x) or sp.degree(e, x) != 2:
                continue
            a, b, c = sp.Poly(e, x).all_coeffs()
            if self.sign(a) == (1, True):  # e = a (x + b/2a)^2 + rest
                sign, strict = self.sign(sp.expand(c - b**2 / (4 * a)))
                if sign == 1:
                    return strict
        return None

    def without_root(self, polynomial: sp.Poly) -> bool | None:
        """True for a polynomial in one letter that is positive on the letter's range (by Sturm's theorem)."""
        (x,) = polynomial.gens
        if not all(c.is_Rational for c in polynomial.all_coeffs()):
            return None
        start = 0 if x.is_nonnegative else None
        rootless = polynomial.count_roots(start, None) == 0
        return True if rootless and polynomial.eval(1) > 0 else None

    # ---- logarithms and exponentials

    def at_least_zero(self, e: sp.Expr, rounds: int = 3) -> bool:
        r"""Whether ``e`` is never negative, by its sign or after $-\log a \ge 1 - a$ and $e^b \ge 1 + b$."""
        if self.sign(e)[0] == 1:
            return True
        if not rounds or length(e) > TERMS:
            return False
        expanded = sp.expand(sp.expand_log(e), power_exp=False)
        if (
            self.by_product(expanded)
            or self.by_root(expanded)
            or any(self.at_least_zero(b, rounds - 1) for b in self.lower_bounds(expanded))
        ):
            return True
        open_ones = [f for f in sp.Mul.make_args(sp.factor(e)) if self.sign(f)[0] != 1]
        return len(open_ones) == 1 and open_ones[0] != e and self.at_least_zero(open_ones[0], rounds)

    def by_product(self, e: sp.Expr) -> bool:
        r"""Whether a sum of rational multiples of logarithms is at least 0: $\sum k \log a \ge 0$ if
        $\prod a^k \ge 1$.
        """
        powers = self.logs(e)[0]
        if not powers or self.logs(e)[1] != 0 or not all(k.is_Rational for k in powers.values()):
            return False
        whole = sp.ilcm(1, *(k.q for k in powers.values()))
        ratio = sp.together(sp.Mul(*(a ** (k * whole) for a, k in powers.items())))
        top, bottom = sp.fraction(ratio)
        below, strict = self.sign(bottom)
        return strict and below != 0 and self.sign(sp.expand(below * (top - bottom)))[0] == 1

    def by_root(self, e: sp.Expr) -> bool:
        r"""Whether $k\sqrt a + b \ge 0$, since $k > 0$ and $k^2 a \ge b^2$."""
        roots = [p for p in e.atoms(sp.Pow) if p.exp == sp.Rational(1, 2) and e.is_polynomial(p)]
        for root in sorted(roots, key=str):
            if sp.degree(e, root) == 1:
                k, b = sp.Poly(e, root).all_coeffs()
                if self.sign(k)[0] == 1 and self.sign(sp.expand(k**2 * root.base - b**2))[0] == 1:
                    return True
        return False

    def logs(self, e: sp.Expr) -> tuple[dict, sp.Expr]:
        """{a: k} for the terms k log a of a sum, a positive, and the rest."""
        powers: dict[sp.Expr, sp.Expr] = {}
        rest = []
        for term in sp.Add.make_args(e):
            found = [f for f in sp.Mul.make_args(term) if f.func is sp.log]
            if len(found) == 1 and self.sign(found[0].args[0]) == (1, True):
                a = found[0].args[0]
                powers[a] = powers.get(a, 0) + term / found[0]
            else:
                rest.append(term)
        return powers, sp.Add(*rest)

    def lower_bounds(self, e: sp.Expr):
        """Expressions that ``e`` is at least, with a logarithm or an exponential less."""
        powers, rest = self.logs(e)
        rational = {a: k for a, k in powers.items() if k.is_Rational}
        for unit in sorted({abs(k) for k in rational.values()}):
            # sum of k log a = -unit log of one product, whose exponents are -k/unit
            product = sp.Mul(*(a ** (-k / unit) for a, k in rational.items()))
            others = sp.Add(*(k * sp.log(a) for a, k in powers.items() if a not in rational))
            yield unit * (1 - product) + others + rest
        for a, k in powers.items():
            if not k.is_Rational and self.sign(-k)[0] == 1:
                yield e - k * sp.log(a) - k * (1 - a)
        for b in sorted(e.atoms(sp.exp), key=str):
            factor = e.coeff(b)
            if factor != 0 and self.sign(factor)[0] == 1:
                yield e - factor * b + factor * (1 + b.args[0])
