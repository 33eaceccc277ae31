r"""Exact arithmetic with logarithms of rationals: the numbers r + sum_p c_p log p with rational r, c_p and
primes p.

Logarithms of different primes are linearly independent over the rationals (unique factorisation), and no
combination of them is a rational other than 0 (Lindemann), so two such numbers are equal exactly if all
their coefficients are.

"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import mpmath
from sympy import factorint


class Refused(Exception):
    """A relation does not hold: where it fails, and a function that tells what separates the two sides."""

    def __init__(self, where: str, difference=lambda: ""):
        super().__init__(where)
        self.where, self.difference = where, difference


class NotExact(Exception):
    """The value is not a rational combination of 1 and logarithms of primes."""


@cache
def primes(n: int) -> dict[int, int]:
    """The prime factors of ``n`` with their powers."""
    return factorint(n)


class Exact:
    """r + sum of c_p log p; ``NotExact`` where an operation leads out of these numbers."""

    def __init__(self, rational=0, logs: dict[int, Fraction] | None = None):
        self.rational = Fraction(rational)
        self.logs = {p: c for p, c in (logs or {}).items() if c}

    def __add__(self, other: Exact) -> Exact:
        logs = dict(self.logs)
        for p, c in other.logs.items():
            logs[p] = logs.get(p, 0) + c
        return Exact(self.rational + other.rational, logs)

    def __mul__(self, other: Exact) -> Exact:
        if self.logs and other.logs:
            raise NotExact("a product of two logarithms")
        if self.logs:
            return other * self
        return Exact(self.rational * other.rational, {p: c * self.rational for p, c in other.logs.items()})

    def __sub__(self, other: Exact) -> Exact:
        return self + Exact(-1) * other

    def __pow__(self, power: Exact) -> Exact:
        if self.logs or power.logs or power.rational.denominator != 1:
            raise NotExact("a power that is not rational")
        if not self.rational and power.rational < 0:
            raise ZeroDivisionError("division by zero")
        return Exact(self.rational ** int(power.rational))

    def log(self) -> Exact:
        """The natural logarithm of a positive rational."""
        if self.logs or self.rational <= 0:
            raise NotExact("the logarithm of a number that is not a positive rational")
        logs: dict[int, Fraction] = {}
        for n, sign in ((self.rational.numerator, 1), (self.rational.denominator, -1)):
            for p, k in primes(n).items():
                logs[p] = Fraction(logs.get(p, 0) + sign * k)
        return Exact(0, logs)

    def exp(self) -> Exact:
        """The exponential of an integer combination of logarithms."""
        if self.rational or any(c.denominator != 1 for c in self.logs.values()):
            raise NotExact("the exponential of a number that is no logarithm of a rational")
        value = Fraction(1)
        for p, c in self.logs.items():
            value *= Fraction(p) ** int(c)
        return Exact(value)

    def decimal(self) -> mpmath.mpf:
        """The value to the working precision of mpmath."""
        total = mpmath.mpf(self.rational.numerator) / self.rational.denominator
        return total + mpmath.fsum(
            mpmath.mpf(c.numerator) / c.denominator * mpmath.log(p) for p, c in self.logs.items()
        )

    def is_zero(self) -> bool:
        """Whether the number is exactly 0."""
        return not self.rational and not self.logs


class Decimal(Exact):
    """The same operations on 60-digit floating point, for the rare value that is not ``Exact``."""

    def __init__(self, value=0):
        self.value = (
            mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else mpmath.mpf(value)
        )

    def __add__(self, other):
        return Decimal(self.value + other.value)

    def __sub__(self, other):
        return Decimal(self.value - other.value)

    def __mul__(self, other):
        return Decimal(self.value * other.value)

    def __pow__(self, power):
        return Decimal(self.value**power.value)

    def log(self):
        """The natural logarithm."""
        return Decimal(mpmath.log(self.value))

    def exp(self):
        """The exponential."""
        return Decimal(mpmath.exp(self.value))

    def decimal(self):
        """The value itself."""
        return self.value

    def is_zero(self) -> bool:
        """Whether the number is 0 to 45 digits."""
        return abs(self.value) < mpmath.mpf(10) ** -45
