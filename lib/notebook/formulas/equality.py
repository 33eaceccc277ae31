r"""Whether two sympy values stand in a relation, for all values of their symbols.

A few points come first: a line that is wrong at one of them is refused with this point as counterexample. What is
accepted is proved. For equations the difference is brought over one denominator and its numerator expanded, after roots
and logarithms have been split into irreducible factors; it must be the formal zero. For inequalities the difference
must have a sign that ``signs`` proves. The size limit is counted, not timed, so that the verdict is the same on every
machine.
"""

from __future__ import annotations

import sympy as sp

from lib.notebook.formulas.algebra import Algebra
from lib.notebook.formulas.exact import Refused
from lib.notebook.formulas.points import at, close, point, unknowns
from lib.notebook.formulas.signs import TERMS, length

POINTS = 6


class Comparison:
    """Decides ``lhs relation rhs`` for values made by one ``Algebra``."""

    def __init__(self, algebra: Algebra):
        self.algebra = algebra

    # ---- proof

    def irreducible(self, e: sp.Expr) -> sp.Expr:
        """``e`` with roots and logarithms of sums and products split into those of their factors, and powers
        of whole numbers into powers of primes.
        """
        if not e.args or not e.has(sp.log, sp.Pow, sp.Abs):
            return e
        e = e.func(*map(self.irreducible, e.args))
        if isinstance(e, sp.Abs):
            sign = self.algebra.signs.sign_of(e.args[0])
            return sign * e.args[0] if sign else e
        if isinstance(e, sp.log):
            return self.algebra.log(self.factored(e.args[0]))
        if e.is_Pow and e.base.is_Rational and e.base > 0 and not e.exp.is_number:
            return sp.Mul(*(sp.Integer(p) ** sp.expand(k * e.exp) for p, k in sp.factorrat(e.base).items()))
        if e.is_Pow and not e.exp.is_Integer and (e.base.is_Add or e.base.is_Mul or e.base.is_Pow):
            return sp.Mul(*(b ** (p * e.exp) for b, p in self.algebra.split(self.factored(e.base))))
        return e

    def factored(self, e: sp.Expr) -> sp.Expr:
        """``e`` as a product of irreducible factors, sums with the sign that makes them positive."""
        if length(e) > TERMS:
            return e
        parts = []
        for factor in sp.Mul.make_args(sp.factor(sp.together(e))):
            base, power = factor.as_base_exp()
            if base.is_Add and power.is_Integer and self.algebra.positive(-base):
                parts += [sp.Integer(-1) ** power, sp.expand(-base) ** power]
            else:
                parts.append(factor)
        return sp.Mul(*parts)

    def vanishes(self, e: sp.Expr) -> bool:
        """Whether ``e`` is formally zero; False also means "not decided"."""
        table = {u: sp.Dummy(positive=u.is_positive, real=True) for u in unknowns(e)}
        e, signs = e.xreplace(table), self.algebra.signs
        signs.facts |= {fact.xreplace(table) for fact in signs.facts if unknowns(fact) & set(table)}
        if e == 0:
            return True
        e = sp.expand(self.irreducible(e), power_base=False, log=False, mul=False, multinomial=False)
        top = sp.numer(sp.together(e))
        for _ in range(2):  # squares of roots appear in the first round and cancel in the second
            if length(top) > TERMS:
                return False
            top = sp.expand(top)
        return top == 0

    def equal(self, a: sp.Expr, b: sp.Expr) -> bool:
        """Proof of a = b: for products such as densities through their logarithms, or through a - b."""
        if self.products(a, b) and self.vanishes(self.algebra.log(a) - self.algebra.log(b)):
            return True
        return self.vanishes(a - b)

    def products(self, a: sp.Expr, b: sp.Expr) -> bool:
        """Whether both are products with an exponential in them, and positive, so that they have logarithms."""
        if a.is_Add or b.is_Add or 0 in (a, b) or not (a.has(sp.exp) or b.has(sp.exp)):
            return False
        return all(base is sp.E or self.algebra.positive(base) for e in (a, b) for base, _ in self.algebra.split(e))

    # ---- relations

    def holds(self, a: sp.Expr, b: sp.Expr, relation: str, of: list) -> None:
        """Returns where the relation is proved; raises ``Refused`` where it fails or no proof is found."""
        if relation == "law":
            for first, second in zip(self.moments(a), self.moments(b)):
                self.holds(first, second, "=", [])
        elif relation in ("propto", "const"):
            if relation == "propto" and (a == 0 or b == 0):
                raise Refused("nothing but 0 is proportional to 0")
            table = {v: sp.Dummy(f"other {v}", **v.assumptions0) for v in of}
            self.algebra.domains |= {other: self.algebra.domains.get(v, "real") for v, other in table.items()}
            a2, b2 = a.xreplace(table), b.xreplace(table)
            pair = (a * b2, a2 * b) if relation == "propto" else (a - a2, b - b2)
            self.holds(*pair, "=", [])
        elif relation == "=":
            self.test(a, b, relation, range(2))
            if not self.equal(a, b):
                self.test(a, b, relation, range(2, POINTS))
                raise Refused("the algebra finds no proof; smaller steps may help", lambda: self.gap(a, b))
        else:
            self.test(a, b, relation, range(2))
            if not self.algebra.signs.never_negative(a - b if relation == ">=" else b - a):
                self.test(a, b, relation, range(2, POINTS))
                raise Refused(
                    "no square, no declared domain and no log a <= a - 1 gives this inequality", lambda: self.gap(a, b)
                )

    def test(self, a: sp.Expr, b: sp.Expr, relation: str, seeds) -> None:
        """Raises ``Refused`` with a counterexample if the relation fails at a random point."""
        for seed in seeds:
            where = point(sp.Tuple(a, b), self.algebra.domains, seed)
            left, right = at(a, where), at(b, where)
            good = close(left, right)
            if relation in (">=", "<=") and not good:
                gap = left - right if relation == ">=" else right - left
                good = bool(gap.is_real and gap > 0)
            if not good:
                shown = ", ".join(f"{s} = {v}" for s, v in sorted(where.items(), key=lambda pair: str(pair[0])))
                raise Refused(
                    f"at {shown or 'no free symbol'}: left {short(left)}, right {short(right)}",
                    lambda: self.gap(a, b),
                )

    def gap(self, a: sp.Expr, b: sp.Expr) -> str:
        """What separates two values, if it is short: their difference, or that of their logarithms."""
        products = self.products(a, b)
        e = self.algebra.log(b) - self.algebra.log(a) if products else b - a
        if length(e) > 100:
            return ""
        shown = str(sp.factor_terms(sp.expand(e)))
        return f"difference{' of the logarithms' if products else ''}: {shown}" if len(shown) < 300 else ""

    def moments(self, e: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
        """Mean and variance of a formula that is linear in independent standard normal noises."""
        noises = sorted((s for s in e.free_symbols if self.algebra.domains.get(s) == "noise"), key=str)
        if not noises or not e.is_polynomial(*noises) or sp.Poly(e, *noises).total_degree() > 1:
            raise Refused("equality in law needs, on both sides, a sum of noises with fixed coefficients")
        typed = [self.algebra.symbols[noise][0] for noise in noises]
        for k, noise in enumerate(typed):
            self.algebra.alone(noise, *typed[:k])
        polynomial = sp.Poly(e, *noises)
        mean = polynomial.coeff_monomial(1)
        return mean, sp.Add(*(polynomial.coeff_monomial(n) ** 2 for n in noises))


def short(value: sp.Expr) -> str:
    """A value with as many digits as a message can bear."""
    return str(value) if value.is_Rational and len(str(value)) < 20 else str(sp.N(value, 8))
