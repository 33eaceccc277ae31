r"""Whether two sympy values stand in a relation, for all values of their symbols.

First a few random rational points: a line that is wrong is refused there, with the point as counterexample.
Then the proof: the difference is brought over one denominator and its numerator expanded, after roots and
logarithms have been split into irreducible factors. Where the result is not the formal zero, or would be
too large to write out, the line is only *tested*, at ``POINTS`` points, and the verdict says so. The size
limit is counted, not timed, so that the verdict is the same on every machine.

"""

from __future__ import annotations

import sympy as sp

from lib.notebook.formulas.algebra import Algebra
from lib.notebook.formulas.exact import Refused
from lib.notebook.formulas.points import at, close, point, unknowns

POINTS = 24
TERMS = 20_000  # the longest sum that the proof may write out


def length(e: sp.Expr) -> int:
    """A bound on the number of terms of ``e`` written out."""
    if e.is_Add:
        return sum(map(length, e.args))
    if e.is_Mul:
        return sp.prod(map(length, e.args))
    if e.is_Pow and e.exp.is_Integer:
        return length(e.base) ** min(abs(int(e.exp)), 30)
    return 1


class Comparison:
    """Decides ``lhs relation rhs`` for values made by one ``Algebra``."""

    def __init__(self, algebra: Algebra):
        self.algebra = algebra

    # ---- proof

    def irreducible(self, e: sp.Expr) -> sp.Expr:
        """``e`` with roots and logarithms of sums and products split into those of their factors."""
        if not e.args or not e.has(sp.log, sp.Pow):
            return e
        e = e.func(*map(self.irreducible, e.args))
        if isinstance(e, sp.log):
            return self.algebra.log(self.factored(e.args[0]))
        if e.is_Pow and e.exp.is_Rational and not e.exp.is_Integer and (e.base.is_Add or e.base.is_Mul):
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
        e = e.xreplace({u: sp.Dummy(positive=u.is_positive, real=True) for u in unknowns(e)})
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
        """Whether both are products with an exponential in them."""
        return not (a.is_Add or b.is_Add) and 0 not in (a, b) and (a.has(sp.exp) or b.has(sp.exp))

    # ---- relations

    def holds(self, a: sp.Expr, b: sp.Expr, relation: str, of: list) -> bool:
        """True: proved. False: only tested at ``POINTS`` points. Raises ``Refused`` where it fails."""
        if relation == "law":
            pairs = zip(self.moments(a), self.moments(b))
            proved = [self.holds(first, second, "=", []) for first, second in pairs]
            return all(proved)
        if relation in ("propto", "const"):
            if relation == "propto" and (a == 0 or b == 0):
                raise Refused("nothing but 0 is proportional to 0")
            table = {v: sp.Dummy(f"other {v}", real=True, positive=v.is_positive) for v in of}
            self.algebra.domains |= {other: self.algebra.domains.get(v, "real") for v, other in table.items()}
            a2, b2 = a.xreplace(table), b.xreplace(table)
            pairs = (a * b2, a2 * b) if relation == "propto" else (a - a2, b - b2)
            return self.holds(*pairs, "=", [])
        for seed in range(4):
            self.test(a, b, relation, seed)
        if self.equal(a, b):
            return True
        if relation != "=" and self.never_negative(a - b if relation == ">=" else b - a):
            return True
        for seed in range(4, POINTS):
            self.test(a, b, relation, seed)
        return False

    def never_negative(self, e: sp.Expr) -> bool:
        """Whether sympy sees that ``e`` is at least 0 everywhere."""
        return length(e) < TERMS and bool(sp.factor(sp.expand(e)).is_nonnegative)

    def test(self, a: sp.Expr, b: sp.Expr, relation: str, seed: int) -> None:
        """Raises ``Refused`` if the relation fails at a random point."""
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
        polynomial = sp.Poly(e, *noises)
        mean = polynomial.coeff_monomial(1)
        return mean, sp.Add(*(polynomial.coeff_monomial(n) ** 2 for n in noises))


def short(value: sp.Expr) -> str:
    """A value with as many digits as a message can bear."""
    return str(value) if value.is_Rational and len(str(value)) < 20 else str(sp.N(value, 8))
