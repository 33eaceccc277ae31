"""The rules by themselves: signs, sums of open length, densities known by name, Stein's identity."""

import pytest
import sympy as sp
from scipy.integrate import quad

from lib.notebook.derivation import Derivation
from lib.notebook.formulas import (
    Law,
    Normal,
    Product,
    Sum,
    family,
    function,
    log,
    sqrt,
    squared_norm,
    symbol,
    vector,
)
from lib.notebook.formulas.algebra import Algebra
from lib.notebook.formulas.concrete import Definitions, linear
from lib.notebook.formulas.expression import wrap
from lib.notebook.formulas.gaussian import standard_mean
from lib.notebook.formulas.signs import Signs
from lib.notebook.formulas.sums import at_least, turned
from lib.notebook.formulas.unknown import marginal, unknown, without
from lib.notebook.formulas.vectors import is_vector

X, Y = sp.symbols("x y", real=True)
W, S, U = sp.symbols("w s u", positive=True)
N = sp.Symbol("n", integer=True, positive=True)
DOMAINS = {X: "real", Y: "real", W: "positive", S: "positive", U: "unit", N: "integer"}


@pytest.fixture
def signs() -> Signs:
    return Signs(dict(DOMAINS))


# ------------------------------------------------------------ signs


@pytest.mark.parametrize(
    "e", [W + S, 1 - U, U / (1 - U), X**2 + 1, sp.exp(X), N, W**2 - W + 1, sp.log(1 + W), 2 - U**2]
)
def test_positive(signs, e):
    assert signs.positive(e) and signs.nonzero(e) and signs.never_negative(e)
    assert signs.nonzero(-e) and not signs.positive(-e) and not signs.never_negative(-e) and signs.sign_of(-e) == -1


@pytest.mark.parametrize("e", [X**2, (X - Y) ** 2, N - 1, N * (N - 1), X**2 - 2 * X + 1, W - 2 * sp.sqrt(W * S) + S])
def test_never_negative_but_somewhere_0(signs, e):
    assert signs.never_negative(e) and not signs.positive(e) and not signs.nonzero(e)


@pytest.mark.parametrize("e", [W - 1 - sp.log(W), sp.exp(X) - 1 - X, sp.sqrt(X**2 + W**2) - W, W - sp.log(1 + W)])
def test_never_negative_by_a_tangent_or_a_root(signs, e):
    assert signs.never_negative(e) and not signs.never_negative(-e)


@pytest.mark.parametrize(
    "e",
    [
        X,
        X + 10**9,  # -2 10^9
        W - sp.Rational(1, 10**9),
        U - sp.Rational(1, 21),
        N - 2,
        20 - N,
        W**2 - 3 * W + 2,  # 3/2
        X**3,
        sp.log(W) + 40,
        sp.exp(X) - sp.exp(-8),
        W - 2 * sp.sqrt(W),
        sp.log(X),
        sp.sqrt(X),
    ],
)
def test_neither(signs, e):
    assert not signs.positive(e) and not signs.never_negative(e) and signs.sign_of(e) == 0


@pytest.mark.parametrize("e", [W - 1 - sp.log(W) - sp.Rational(1, 10**45), sp.exp(X) - 1 - X - sp.Rational(1, 10**45)])
def test_a_tangent_touches(signs, e):
    assert not signs.never_negative(e)


# ------------------------------------------------------------ sums

t, n, T = (symbol(name, "integer") for name in "tnT")
h, r = family("h"), family("r", "positive")


@pytest.mark.parametrize("power", range(5))
def test_sums_of_powers_have_closed_forms(power):
    algebra = Algebra(Definitions({}))
    closed, last = algebra.value(Sum(t**power, t, 1, T)), algebra.atom(T)
    assert closed.free_symbols == {last}
    for length in range(1, 8):
        assert closed.subs(last, length) == sum(k**power for k in range(1, length + 1))


def test_geometric_sums_have_closed_forms():
    algebra = Algebra(Definitions({}))
    w = symbol("w", "positive")
    closed = algebra.value(Sum(w**t, t, 0, T))
    for length in range(1, 6):
        value = closed.subs({algebra.atom(T): length, algebra.atom(w): sp.Rational(3, 7)})
        assert value == sum(sp.Rational(3, 7) ** k for k in range(length + 1))


def test_sums_shift_split_and_telescope():
    algebra = Algebra(Definitions({}))

    def same(a, b) -> bool:
        return sp.expand(algebra.value(a) - algebra.value(b)) == 0

    assert same(Sum(h[t], t, 1, T), Sum(h[n - 1], n, 2, T + 1))
    assert same(Sum(h[t], t, 1, T), h[1] + Sum(h[t], t, 2, T - 1) + h[T])
    assert same(Sum(h[t] - h[t - 1], t, 2, T), h[T] - h[1])
    assert not same(Sum(h[t], t, 1, T), Sum(h[t], t, 2, T))
    assert not same(Sum(h[t] ** 2, t, 1, T), Sum(h[t], t, 1, T) ** 2)
    assert sp.simplify(algebra.value(Product(r[t], t, 1, T)) / algebra.value(Product(r[t], t, 1, T - 1))) == (
        algebra.value(r[T])
    )


def test_a_falling_index_is_turned():
    assert turned(Sum(h[T - t], t, 0, T - 1)) != Sum(h[T - t], t, 0, T - 1)
    for as_it_is in (Sum(h[t], t, 1, T), Sum(t * h[T - t], t, 1, T), Sum(h[T - t] * h[t], t, 1, T)):
        assert turned(as_it_is) is as_it_is


@pytest.mark.parametrize(
    ("index", "value", "ranges", "told"),
    [
        (T - 1, 0, {}, True),
        (T - 1, 1, {}, False),  # T = 1
        (T - t, 0, {t: (1, T)}, True),
        (T - t, 0, {t: (1, T + 1)}, False),  # t = T + 1
        (t - 1, 0, {t: (1, T)}, True),
        (t - 2, 0, {t: (1, T)}, False),  # t = 1
        (T - n, 0, {}, False),  # n = T + 1
    ],
)
def test_indices_are_compared_everywhere(index, value, ranges, told):
    assert at_least(linear(index), value, {s: tuple(map(wrap, ends)) for s, ends in ranges.items()}) is told


# ------------------------------------------------------------ densities known by name


def test_a_density_integrates_to_its_marginal_and_so_does_its_slope_by_another_variable():
    joint = marginal("p", {X, Y})
    assert without(joint, X) == marginal("p", {Y}) and without(joint, Y) == marginal("p", {X})
    assert without(marginal("p", {X}), X) == 1
    assert without(sp.diff(joint, Y), X) == sp.diff(marginal("p", {Y}), Y)
    assert without(sp.diff(joint, X), X) is None  # what is integrated by parts stays
    assert without(joint, W) is None and without(joint**2, X) is None
    assert without(unknown("f")(X, Y), X) is None  # no density


# ------------------------------------------------------------ Stein's identity

KNOWN = {"sine": sp.sin, "wave": sp.cos, "bell": lambda x: sp.exp(-(x**2))}


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
def test_steins_identity_equals_quadrature(power, known):
    """E[z^k f(2z + 1)], with f put in for the unknown function afterwards."""
    told = []
    value = standard_mean(X**power * unknown("f")(2 * X + 1), X, told.append)
    assert set(told) == {"parts"}

    def named(call):
        order = call.func.__name__.count("'")
        return sp.diff(known(Y), Y, order).subs(Y, call.args[0])

    def mean(average) -> float:
        letter, body = average.args
        plain = body.replace(lambda e: isinstance(e, sp.core.function.AppliedUndef), named)
        density = sp.exp(-(letter**2) / 2) / sp.sqrt(2 * sp.pi)
        return quad(sp.lambdify(letter, plain * density), -12, 12, limit=200)[0]

    averages = [part for part in value.atoms(sp.Function) if part.func.__name__ == "Average"]
    found = float(value.subs({average: mean(average) for average in averages}))
    integrand = sp.lambdify(X, X**power * known(2 * X + 1) * sp.exp(-(X**2) / 2) / sp.sqrt(2 * sp.pi))
    assert found == pytest.approx(quad(integrand, -12, 12, limit=200)[0], abs=1e-9)


# ------------------------------------------------------------ definitions and vectors


def test_what_a_definition_takes_for_granted_is_said_at_every_line_that_uses_it():
    x, f = symbol("x"), function("f", "positive")
    p = Law("p", x)
    derivation = Derivation(2 * p(x), name="twice", where={p(x): f(x)})
    derivation.step(p(x) + p(x), because="Once and once more.")
    derivation.step(4 * p(x) - 2 * p(x), because="Four less two.")
    notes = [line.note for line in derivation.lines[1:]]
    assert notes == ["taking $p(x)$ to integrate to 1"] * 2


def test_what_is_given_is_no_premise():
    x, y = symbol("x"), symbol("y")
    v, s, e = symbol("v", "positive"), symbol("s", "positive"), symbol("e", "positive")
    p = Law("p", x)
    settings = {"where": {v: y**2 - 1, p(x): Normal(x, sqrt(1 - s), s)}, "name": "given"}
    root = Derivation(sqrt(v + e) ** 2, **settings)
    root.step(v + e, because="The square undoes the root.")
    density = Derivation(log(p(x) ** 2), **settings)
    density.step(2 * log(p(x)), because="A power under a logarithm.")
    assert root.lines[-1].note is None
    assert "p(x)" not in (density.lines[-1].note or "")


def test_numbers_and_vectors_do_not_mix():
    v, w, a = vector("v"), vector("w"), symbol("a")
    assert is_vector(a * v + w) and is_vector(v / a) and is_vector(wrap(0) + v) and not is_vector(a * squared_norm(v))
    with pytest.raises(ValueError, match="adds a number to a vector"):
        is_vector(v + a)
    with pytest.raises(ValueError, match="product of vectors"):
        is_vector(v * w)
