"""Finite models: they are probability models, their arithmetic is exact, and they know what a law allows."""

import math
from fractions import Fraction

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.notebook.formulas import (
    KL,
    Expect,
    Integral,
    Law,
    Normal,
    every,
    exp,
    family,
    log,
    sqrt,
    symbol,
    symbols,
)
from lib.notebook.formulas.concrete import Definitions, concrete
from lib.notebook.formulas.exact import Decimal, Exact, NotExact, Refused
from lib.notebook.formulas.expression import wrap
from lib.notebook.formulas.finite import Finite, NotFinite, World

x, y, z = symbols("x y z")
t, T = symbols("t T", "integer")
state = family("x")
chain = Law("q", state[0], every(t, 1, T, state[t] | state[t - 1]))
positive = st.fractions(min_value=Fraction(1, 50), max_value=50)


def world(*laws, seed: int = 0, sizes: dict | None = None) -> World:
    return World(laws, sizes or {}, Definitions({}), seed)


def holds(laws, lhs, rhs, relation: str = "=", of=(), sizes=None):
    try:
        return Finite(laws, Definitions({}), sizes or [{}]).holds(wrap(lhs), wrap(rhs), relation, of)
    except Refused:
        return None


# ------------------------------------------------------------ exact numbers


@given(r=positive, s=positive, c=st.fractions(max_denominator=20))
def test_logarithms_are_exact(r, s, c):
    left, right = Exact(r).log(), Exact(s).log()
    assert (left + right - Exact(r * s).log()).is_zero()
    assert (Exact(r * r).log() - Exact(2) * left).is_zero()
    assert (left - right).is_zero() == (r == s)
    assert math.isclose(float((Exact(c) * left + Exact(s)).decimal()), float(c) * math.log(r) + float(s), abs_tol=1e-9)
    assert left.exp().rational == r


@given(r=positive, c=st.fractions(max_denominator=9).filter(bool))
def test_a_logarithm_is_never_mistaken_for_a_rational(r, c):
    assert (Exact(r).log() - Exact(c)).is_zero() is False


def test_values_outside_are_not_forced_in():
    two = Exact(2)
    for forbidden in (
        lambda: two.log() * two.log(),
        lambda: two.log() ** two,
        lambda: two ** Exact(Fraction(1, 2)),
        lambda: Exact(-1).log(),
        lambda: Exact(1).exp(),
    ):
        with pytest.raises(NotExact):
            forbidden()
    with pytest.raises(ZeroDivisionError):
        Exact(0) ** Exact(-1)


def test_decimals_carry_on_where_exactness_ends():
    with mpmath.workdps(60):
        root = Decimal(2) ** Decimal(Fraction(1, 2))
        assert (root * root - Decimal(2)).is_zero()
        assert not (root - Decimal(Fraction(141421356, 10**8))).is_zero()
        assert (Decimal(3).log().exp() - Decimal(3)).is_zero()
    assert (
        holds([Law("p", x)], sqrt(Law("p", x)(x)) ** 2, Law("p", x)(x))
        == "checked to 45 digits on 3 random finite models"
    )


# ------------------------------------------------------------ models


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_conditional_adds_up_to_one(seed):
    model = world(chain, seed=seed, sizes={T: 3})
    for density in (
        chain(state[0]),
        chain(state[2] | state[0]),
        chain(state[0], state[2] | state[1], state[3]),
    ):
        total = concrete(Integral(density, *density.left))
        for at in model.assignments(density.right):
            assert (model.value(total, at) - Exact(1)).is_zero()


def test_a_density_may_exceed_one():
    """Or a bound that holds for probabilities only would pass."""
    law = Law("p", x)
    values = [world(law, seed=s).density(law(x), {x: n}) for s in range(10) for n in (0, 1)]
    assert max(values) > 1 and min(values) < 1
    assert holds([law], log(law(x)), 0, "<=") is None


def test_models_do_not_depend_on_what_was_asked_first():
    one, other = world(chain, sizes={T: 2}), world(chain, sizes={T: 2})
    at = {state[k]: 1 for k in range(3)}
    other.density(chain(state[2] | state[1]), at)
    assert one.density(chain(state[0]), at) == other.density(chain(state[0]), at)
    assert one.density(chain(state[0]), at) != world(chain, seed=1, sizes={T: 2}).density(chain(state[0]), at)


def test_models_stay_small_on_long_chains():
    assert math.prod(world(chain, sizes={T: 9}).states.values()) <= 2**10


def test_the_rules_of_probability_hold_and_others_do_not():
    p, q = Law("p", z, x | z), Law("q", z | x)
    assert holds([p], p(x | z), p(z | x) * p(x) / p(z))
    assert holds([p], p(x), Integral(p(x | z) * p(z), z))
    assert holds([p, q], KL(q(z | x), p(z)), Expect(log(q(z | x) / p(z)), over=q(z | x)))
    assert holds([p, q], KL(q(z | x), p(z)), 0, ">=")
    assert holds([p, q], KL(q(z | x), p(z)), KL(p(z), q(z | x))) is None
    assert holds([p], p(x, z), p(x) * p(z)) is None
    assert holds([p], exp(log(p(x))), p(x))
    assert holds([p], p(z | x), p(x | z) * p(z), "propto", (z,))
    assert holds([p], p(z | x), p(x | z), "propto", (z,)) is None
    assert holds([p], log(p(z | x)), log(p(x | z)) + log(p(z)), "const", (z,))


def test_independence_is_that_of_the_factors():
    sizes = [{T: 3, t: 2}, {T: 3, t: 3}]
    assert holds([chain], chain(state[t] | state[t - 1], state[0]), chain(state[t] | state[t - 1]), sizes=sizes)
    assert holds([chain], chain(state[t] | state[t - 1]), chain(state[t] | state[0]), sizes=sizes) is None
    both = Law("p", x, y, (z | x, y))
    assert holds([both], both(x | y), both(x))
    assert holds([both], both(x | y, z), both(x | z)) is None  # explaining away


def test_what_a_law_cannot_say_is_refused():
    q = Law("q", z | x)
    with pytest.raises(ValueError, match="q gives no distribution for"):
        holds([q], q(z), q(z))
    with pytest.raises(ValueError, match=r"not \['y'\]"):
        holds([q], q(z | x, y), q(z | x))
    with pytest.raises(ValueError, match="sizes: give values of T"):
        world(chain)
    with pytest.raises(NotFinite):
        holds([q], Normal(z, 0, 1), q(z | x))


def test_malformed_laws_are_refused():
    for build in (
        lambda: Law("two words", x),
        lambda: Law("p", x + 1),
        lambda: Law("p", 3),
        lambda: Law("p")(),
        lambda: Law("p")(x | y, z | y),
        lambda: every(x, 1, T, state[t] | state[t - 1]),
    ):
        with pytest.raises(ValueError, match=r"wanted|a density"):
            build()


def test_a_variable_on_both_sides_of_the_bar_is_refused():
    p = Law("p", z, x | z)
    with pytest.raises(ValueError, match="names a variable twice"):
        holds([p], p(x | x, z), p(x | z))


def test_constants_and_definitions_count():
    beta = symbol("beta", "positive")
    p = Law("p", x)
    assert holds([p], Expect(beta * log(p(x)), over=p(x)), beta * Expect(log(p(x)), over=p(x)))
    where = Definitions({beta: p(x)})
    assert Finite([p], where, [{}]).holds(log(beta), log(p(x)), "=", ())
