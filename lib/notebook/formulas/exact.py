r"""Exact arithmetic with logarithms of rationals: the numbers r + sum_n c_n log n with rational r, c_n and
integers n > 1.

Logarithms of pairwise coprime integers are linearly independent over the rationals (unique factorisation),
and no combination of them is a rational other than 0 (Lindemann). So such a number is 0 exactly if r is 0
and all coefficients over a coprime base of its integers are; that base needs common divisors only, no
factoring.

"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import gcd, prod

import mpmath
from sympy import primerange

SMALL = tuple(primerange(1000))
PRIMORIAL = prod(SMALL)
MARGIN = 15  # of the working digits, those left to the rounding of many operations
LARGEST_POWER = 64  # beyond it a rational number has too many digits
LARGEST_EXPONENT = 10**6


class Refused(Exception):
    """A relation does not hold: where it fails, and a function that tells what separates the two sides."""

    def __init__(self, where: str, difference=lambda: ""):
        super().__init__(where)
        self.where, self.difference = where, difference


class NotExact(Exception):
    """The value is not a rational combination of 1 and logarithms of integers."""


class NotFinite(Exception):
    """The formula has no value on a finite model: a Gaussian, a gradient, a law without factors, log 0."""


@cache
def parts(n: int) -> dict[int, int]:
    """{factor: power} of ``n`` >= 1: its primes below 1000, and what is left of it as one factor."""
    found: dict[int, int] = {}
    common = gcd(n, PRIMORIAL)
    for p in SMALL if common > 1 else ():
        if common % p == 0:
            while n % p == 0:
                n, found[p] = n // p, found.get(p, 0) + 1
    return found if n == 1 else {**found, n: 1}


def coprime(numbers) -> list[int]:
    """Pairwise coprime integers > 1 of which every number is a product of powers."""
    base: list[int] = []
    waiting = list(numbers)
    while waiting:
        n = waiting.pop()
        shared = next((b for b in base if gcd(n, b) > 1), None)
        if shared is None:
            base.append(n)
            continue
        base.remove(shared)
        g = gcd(n, shared)
        waiting += [m for m in (g, n // g, shared // g) if m > 1]
    return base


def writable(power: int | Fraction) -> bool:
    """Whether a rational number to this power is again one, and not too long."""
    return power.denominator == 1 and -LARGEST_POWER <= power <= LARGEST_POWER


class Exact:
    """r + sum of c_n log n; ``NotExact`` where an operation leads out of these numbers, ``NotFinite`` where
    it has no real value.
    """

    def __init__(self, rational: int | Fraction = 0, logs: dict[int, int | Fraction] | None = None):
        self.rational, self.logs = rational, logs or {}

    def __add__(self, other: Exact) -> Exact:
        return Exact.total(((1, self), (1, other)))

    def __mul__(self, other: Exact) -> Exact:
        if self.logs and other.logs:
            raise NotExact("a product of two logarithms")
        if self.logs:
            return other * self
        return Exact.total(((self.rational, other),))

    def __sub__(self, other: Exact) -> Exact:
        return Exact.total(((1, self), (-1, other)))

    def __pow__(self, power: Exact) -> Exact:
        if self.logs or power.logs or not writable(power.rational):
            raise NotExact("a power that is not rational, or too long to write")
        if not self.rational and power.rational < 0:
            raise NotFinite("division by zero")
        return Exact(Fraction(self.rational) ** int(power.rational))

    @classmethod
    def total(cls, weighted) -> Exact:
        """The sum of weight times number over pairs (weight, number)."""
        rational: int | Fraction = 0
        logs: dict[int, int | Fraction] = {}
        for weight, number in weighted:
            if number.rational:
                rational += weight * number.rational
            for p, c in number.logs.items():
                logs[p] = logs.get(p, 0) + weight * c
        return Exact(rational, {p: c for p, c in logs.items() if c})

    def log(self) -> Exact:
        """The natural logarithm of a positive rational."""
        if self.logs:
            raise NotExact("the logarithm of a logarithm")
        if self.rational <= 0:
            raise NotFinite("the logarithm of a number that is not positive")
        logs: dict[int, int | Fraction] = {}
        for n, sign in ((self.rational.numerator, 1), (self.rational.denominator, -1)):
            for p, k in parts(n).items():
                logs[p] = logs.get(p, 0) + sign * k
        return Exact(0, logs)

    def exp(self) -> Exact:
        """The exponential of an integer combination of logarithms."""
        if self.rational or not all(map(writable, self.logs.values())):
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

    def place(self):
        """What tells this number from others, as an argument of an unknown function."""
        return mpmath.nstr(self.decimal(), mpmath.mp.dps - MARGIN) if self.logs else self.rational

    def is_zero(self) -> bool:
        """Whether the number is exactly 0."""
        if self.rational:
            return False
        large = {n: c for n, c in self.logs.items() if n > SMALL[-1]}
        if len(large) < len(self.logs):  # a prime below 1000 divides none of the large ones
            return False
        for b in coprime(large):
            total = Fraction(0)
            for n, c in large.items():
                while n % b == 0:
                    n, total = n // b, total + c
            if total:
                return False
        return True


class Decimal(Exact):
    """The same operations in floating point, for the rare value that is not ``Exact``.

    ``scale`` bounds the error: in units of the last working digit, as first-order error analysis gives it.
    """

    def __init__(self, value=0, scale=None):
        self.value = (
            mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else mpmath.mpf(value)
        )
        self.scale = max(abs(self.value), scale or 0)

    def __add__(self, other):
        return Decimal(self.value + other.value, self.scale + other.scale)

    def __sub__(self, other):
        return Decimal(self.value - other.value, self.scale + other.scale)

    def __mul__(self, other):
        return Decimal(self.value * other.value, self.scale * abs(other.value) + abs(self.value) * other.scale)

    def __pow__(self, power):
        n = power.value
        if n != int(n):
            if self.value < 0 or self.is_zero():
                raise NotFinite("a root of a number that is not positive")
            return (power * self.log()).exp()
        if n < 0 and self.is_zero():
            raise NotFinite("division by zero")
        slope = n * self.value ** int(n - 1) if self.value and n else 0
        return Decimal(self.value ** int(n), abs(slope) * self.scale)

    @classmethod
    def total(cls, weighted):
        """The sum of weight times number over pairs (weight, number)."""
        products = [Decimal(Fraction(weight)) * number for weight, number in weighted]
        return sum(products, Decimal(0))

    def log(self):
        """The natural logarithm."""
        if self.value <= 0 or self.is_zero():
            raise NotFinite("the logarithm of a number that is not positive")
        return Decimal(mpmath.log(self.value), self.scale / self.value)

    def exp(self):
        """The exponential."""
        if abs(self.value) > LARGEST_EXPONENT:
            raise NotFinite("the exponential of a number beyond a million")
        value = mpmath.exp(self.value)
        return Decimal(value, value * self.scale)

    def decimal(self):
        """The value itself."""
        return self.value

    def place(self):
        """The value without the digits that may be rounded."""
        return "0" if self.is_zero() else mpmath.nstr(self.value, mpmath.mp.dps - MARGIN)

    def is_zero(self) -> bool:
        """Whether the number is 0 to all digits but those that rounding may have spoiled."""
        return abs(self.value) <= self.scale * mpmath.mpf(10) ** (MARGIN - mpmath.mp.dps)
