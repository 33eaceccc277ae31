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
    Product,
    Sum,
    every,
    exp,
    family,
    frac,
    function,
    log,
    sqrt,
    symbol,
    symbols,
)
from lib.notebook.formulas.concrete import Definitions, concrete, degree
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
        lambda: Exact(1).exp(),
        lambda: two ** Exact(10**6),
    ):
        with pytest.raises(NotExact):
            forbidden()


@mpmath.workdps(60)
def test_what_has_no_real_value_has_none():
    for kind in (Exact, Decimal):
        for undefined in (
            lambda: kind(-1).log(),  # noqa: B023 (called in the loop)
            lambda: kind(0).log(),  # noqa: B023
            lambda: kind(0) ** kind(-1),  # noqa: B023
        ):
            with pytest.raises(NotFinite):
                undefined()
    for undefined in (lambda: Decimal(-2) ** Decimal(Fraction(1, 2)), lambda: Decimal(10**7).exp()):
        with pytest.raises(NotFinite):
            undefined()
    p = Law("p", x)
    for e in (log(-p(x)), log(x - x) * p(x), p(x) / (x - x)):
        with pytest.raises(NotFinite):
            holds([p], e, 2 * e)


@given(
    numbers=st.lists(st.integers(10**9, 10**30), min_size=2, max_size=4),
    powers=st.lists(st.integers(-5, 5), min_size=4),
)
def test_large_numbers_need_no_factoring(numbers, powers):
    """Two integers with a common factor that no trial division finds, in a sum of logarithms that is 0."""
    whole = Fraction(1)
    total = Exact(0)
    for n, k in zip(numbers, powers):
        whole *= Fraction(n) ** k
        total = total + Exact(k) * Exact(n).log()
    assert (total - Exact(whole).log()).is_zero()
    assert not (total - Exact(whole + 1).log()).is_zero()


def test_decimals_carry_on_where_exactness_ends():
    with mpmath.workdps(60):
        root = Decimal(2) ** Decimal(Fraction(1, 2))
        assert (root * root - Decimal(2)).is_zero()
        assert not (root - Decimal(Fraction(141421356, 10**8))).is_zero()
        assert (Decimal(3).log().exp() - Decimal(3)).is_zero()
    assert (
        holds([Law("p", x)], sqrt(Law("p", x)(x)) ** 2, Law("p", x)(x))
        == "checked to 45 digits on 3 random finite models of up to 4 states a variable"
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
    assert math.prod(world(chain, sizes={T: 4}).states.values()) <= 128
    assert math.prod(world(chain, sizes={T: 9}).states.values()) <= 2**11


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 6, 9])
def test_every_variable_has_four_states_in_some_model(length):
    models = Finite([chain], Definitions({}), [{T: length}]).models({T: length})
    for variable in models[0].random:
        assert max(model.states[variable] for model in models) >= 4


def test_what_is_true_of_two_states_only_is_refused():
    """For two states, of variance v: (fourth central moment) v = v^3 + (third central moment)^2."""
    for variable, law, sizes in ((x, Law("p", x), [{}]), (state[3], chain, [{T: 6}])):
        over = law(variable)
        second, third, fourth = (Expect((variable - Expect(variable, over=over)) ** k, over=over) for k in (2, 3, 4))
        assert holds([law], fourth * second, second**3 + third**2, sizes=sizes) is None
        assert holds([law], fourth * second, second * fourth, sizes=sizes)


def test_models_are_generic():
    model = world(Law("p", x, y | x, (z | x, y)), seed=1)
    for left, right in model.factors["p"]:
        table = model.factor("p", left, right)
        rows = [
            tuple(n for (given, _), n in table.items() if given == row) for row in dict.fromkeys(g for g, _ in table)
        ]
        assert len(set(rows)) == len(rows)
        assert all(len(set(row)) == len(row) for row in rows)
    for variable in (x, y, z):
        sizes = [model.volume((variable,), {variable: n}) for n in range(model.states[variable])]
        assert len(set(sizes)) == len(sizes)
    values = [abs(world(Law("p", x), seed=s).number((y, None), "real")) for s in range(60)]
    assert min(values) < Fraction(1, 10**5) and max(values) > 10**5


def test_small_differences_beside_irrational_numbers_are_seen():
    p = Law("p", x)
    line = exp(x) * p(x)
    assert holds([p], line, line + 0) == "checked to 45 digits on 3 random finite models of up to 4 states a variable"
    for little in (frac(1, 10**46), frac(1, 10**300), frac(1, 2) ** 400, exp(-300)):
        assert holds([p], line, line + little) is None
    f = function("f")
    assert holds([p], f(x) * p(x), f(x + frac(1, 10**30)) * p(x)) is None
    assert holds([p], (line + 1) - line, 1 + 0 * x)


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


# ------------------------------------------------------------ constants, definitions, sizes


def test_constants_that_of_names_are_varied():
    a, c, theta = symbols("a c theta")
    f, p = function("f"), Law("p", z, x | z)
    given = p(x | z)
    assert holds([p], theta * given, theta**2 * given, "propto", (theta,)) is None
    assert holds([p], theta * given, theta**2 * given, "propto", (x, theta)) is None
    assert holds([p], f(c) * given, f(c) ** 2 * given, "propto", (f(c),)) is None
    assert holds([p], theta + log(given), 2 * theta + log(given), "const", (theta,)) is None
    assert holds([p], theta * a * given, theta * given, "propto", (theta,))
    assert holds([p], theta + log(given), theta + c, "const", (theta,))
    for v, where, sizes in ((theta, {theta: a}, [{}]), (T, {}, [{T: 2}, {T: 3}])):
        with pytest.raises(ValueError, match="of: "):
            Finite([p], Definitions(where), sizes).holds(given, given, "propto", (v,))


def test_a_definition_holds_for_every_number_in_place_of_its_letter():
    beta, f = family("beta"), function("f")
    where = Definitions({beta[t]: 1 - state[t + 3], f(state[t + 5], t): x})
    assert where.of(beta[1000]) == wrap(1 - state[1003])
    assert where.of(f(state[12], wrap(7))) == x
    assert where.of(f(state[12], wrap(6))) is None
    assert where.of(beta[0]) is None


def test_definitions_in_a_circle_or_without_end_are_refused():
    a, b = symbols("a b")
    p = Law("p", x)
    for where, e in (({a: b + 1, b: a - 1}, a), ({state[t]: state[t + 1] + 1}, state[1])):
        with pytest.raises(ValueError, match="where: the definition of"):
            Finite([p], Definitions(where), [{}]).holds(e * p(x), 2 * p(x), "=", ())


def test_numbers_outside_the_declared_domain_are_refused():
    for s, number in ((symbol("u", "unit"), 2), (symbol("s", "positive"), -1), (T, frac(1, 2)), (T, 0)):
        with pytest.raises(ValueError, match="is declared"):
            Definitions({s: number})


def test_an_integer_that_where_defines_is_a_size():
    where = Definitions({T: 2, x: 3})
    assert where.sizes == {T: 2}
    finite = Finite([chain], where, [{}])
    product = Integral(chain(state[2] | state[1]) * chain(state[1] | state[0]), state[1])
    assert finite.holds(chain(state[T] | state[0]), product, "=", ())
    with pytest.raises(ValueError, match="sizes: T is defined by where"):
        Finite([chain], where, [{T: 3}])


def test_degrees_in_a_size():
    h, n = family("h"), symbol("n", "integer")
    for e, bound in (
        ((T - 2) * (T - 3) * (T - 4), 3),
        ((T**2 + 1) ** 3 - T, 6),
        (Sum(h[t], t, 1, T), 0),
        (Sum(t**2, t, 1, T) - 1, 3),
        (Sum(h[t] + 1, t, 1, T), 1),
        (Sum(T * h[t], t, 1, n), 1),
        (frac(1, T) * Sum(h[t], t, 1, T), 1),
        (1 / T - 1 / (T + 1), 2),
        (2**T, None),
        (log(T), None),
        (Product(frac(1, 2), t, 1, T), None),
        (Product(h[t], t, 1, T), 0),
        (h[T + 1], 0),
    ):
        assert degree(wrap(e), T) == bound, e


def test_as_many_sizes_as_a_polynomial_needs():
    line, sizes = log(chain(state[0])), [{T: k} for k in (2, 3, 4)]
    zero = (T - 2) * (T - 3) * (T - 4)
    with pytest.raises(NotFinite, match="degree 3 in T needs 4 values of T, got"):
        holds([chain], line, line + zero, sizes=sizes)
    with pytest.raises(NotFinite, match="more than a polynomial"):
        holds([chain], line, line + 2**T, sizes=sizes)
    hidden = Definitions({x: zero})
    with pytest.raises(NotFinite, match="degree 3"):
        Finite([chain], hidden, sizes).holds(line, line + x, "=", ())
    assert holds([chain], line, line + zero, sizes=[*sizes, {T: 5}]) is None
    total = Sum(log(chain(state[t] | state[t - 1])), t, 1, T) + T
    assert holds([chain], total, log(chain(state[1:T] | state[0])) + T, sizes=sizes)
