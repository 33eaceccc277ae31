"""Derivations: the right ones are displayed, every wrong one is refused, in words that help."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.notebook.derivation import Derivation, WrongStep, recording
from lib.notebook.formulas import (
    KL,
    Expect,
    Law,
    Normal,
    Sum,
    every,
    exp,
    family,
    frac,
    log,
    noise,
    sqrt,
    symbol,
    symbols,
)

z, mu = symbols("z mu")
sigma = symbol("sigma", "positive")
q, p = Normal(z, mu, sigma**2), Normal(z, 0, 1)
half = frac(1, 2)


def start(**settings) -> Derivation:
    return Derivation(KL(q, p), name="kl", **settings)


# ------------------------------------------------------------ planted errors and what is said about them


@pytest.mark.parametrize(
    ("wrong", "difference"),
    [
        (half * (mu**2 + sigma**2 + log(sigma**2) - 1), "2*log(sigma)"),  # sign
        (mu**2 + sigma**2 - log(sigma**2) - 1, "mu**2/2 + sigma**2/2 - log(sigma) - 1/2"),  # factor
        (half * (mu**3 + sigma**2 - log(sigma**2) - 1), "mu**2*(mu - 1)/2"),  # exponent
        (half * (mu**2 + sigma**2 - log(sigma) - 1), "log(sigma)/2"),  # what stands in the logarithm
    ],
)
def test_a_planted_error_is_shown_with_the_difference_and_a_counterexample(wrong, difference):
    kl = start()
    with pytest.raises(WrongStep) as caught:
        kl.step(wrong, because="Collect the terms.")
    said = str(caught.value).splitlines()
    assert said[0] == "kl: line 2 does not follow from line 1."
    assert said[1] == "  line 1:   KL(N(mu, sigma**2) || N(0, 1))"
    assert said[2] == f"  line 2: = {wrong!r}"
    assert said[3] == "  reason given: Collect the terms."
    assert said[4] == f"  difference: {difference}"
    assert re.fullmatch(r"  at mu = \S+, sigma = \S+: left \S+, right \S+", said[5])
    assert len(kl.lines) == 1


def test_a_wrong_index_a_wrong_condition_and_a_wrong_law_are_refused():
    t, T = symbols("t T", "integer")
    x = family("x")
    chain = Law("q", x[0], every(t, 1, T, x[t] | x[t - 1]))
    other = Law("p", x[T], every(t, 1, T, x[t - 1] | x[t]))
    d = Derivation(chain(x[t] | x[t - 1]), name="markov", laws=[chain, other], sizes={T: (4,), t: (2, 3)})
    for wrong in (chain(x[t] | x[0]), chain(x[t - 1] | x[t]), chain(x[t + 1] | x[t]), other(x[t] | x[t - 1])):
        with pytest.raises(WrongStep, match="on a random finite model at T = 4, t = 2"):
            d.step(wrong, because="Markov.")
    d.step(chain(x[t] | x[t - 1], x[0]), because="Markov: the past adds nothing.")


def test_inequalities_are_checked_in_the_stated_direction():
    x = symbol("x")
    model, guide = Law("p", z, x | z), Law("q", z | x)
    bound = Expect(log(model(x | z)), over=guide(z | x)) - KL(guide(z | x), model(z))
    d = Derivation(log(model(x)), name="elbo", laws=[model, guide])
    for relation in ("=", "<="):
        with pytest.raises(WrongStep, match="line 2 does not follow"):
            d.step(bound, because="KL.", relation=relation)
    with pytest.raises(WrongStep):  # true of probabilities, which are at most 1, but not of densities
        d.step(2 * log(model(x)), because="?", relation=">=")
    d.step(bound, because="KL.", relation=">=")
    a, b = symbols("a b")
    squares = Derivation(a**2 + b**2, name="squares")
    with pytest.raises(WrongStep, match="at a = "):
        squares.step(3 * a * b, because="?", relation=">=")
    squares.step(2 * a * b, because="$(a-b)^2$ is not negative.", relation=">=")
    assert squares.steps[-1].note is None


def test_proportional_means_free_of_the_named_variables_only():
    y, a, b = symbols("y a b")
    d = Derivation(exp(-((y - a) ** 2) / 2), name="square")
    with pytest.raises(WrongStep, match="∝"):
        d.step(exp(-(y**2) / 2 - a * y), because="?", relation="propto", of=y)
    with pytest.raises(WrongStep):
        d.step(exp(-(y**2) / 2 + a * y), because="?", relation="propto", of=(y, a))
    with pytest.raises(WrongStep, match="proportional to 0"):
        d.step(0 * y, because="?", relation="propto", of=y)
    d.step(exp(-(y**2) / 2 + a * y), because="The rest is free of $y$.", relation="propto", of=y)
    with pytest.raises(ValueError, match="of: "):
        d.step(exp(-(y**2) / 2 + a * y), because="?", relation="propto")
    line = Derivation(y**2 + a, name="line")
    with pytest.raises(WrongStep):
        line.step(y**2 + y, because="?", relation="const", of=y)
    line.step(y**2 + b, because="A constant.", relation="const", of=y)


def test_equality_in_law_adds_variances_not_deviations():
    e1, e2, e = noise("epsilon_1"), noise("epsilon_2"), noise("epsilon")
    a, b = symbols("a b", "positive")
    d = Derivation(mu + a * e1 + b * e2, name="merge")
    with pytest.raises(WrongStep):
        d.step(mu + (a + b) * e, because="?", relation="law")
    with pytest.raises(WrongStep):
        d.step(mu + sqrt(a**2 + b**2) * e, because="?")  # the same law is not the same number
    with pytest.raises(WrongStep):  # one noise used twice is not two noises
        Derivation(a * e1 + b * e1, name="twice").step(sqrt(a**2 + b**2) * e, because="?", relation="law")
    d.step(mu + sqrt(a**2 + b**2) * e, because="Variances add.", relation="law")


def test_every_smaller_step_is_checked_and_so_is_the_way_from_it_to_the_line():
    total = half * (mu**2 + sigma**2 - log(sigma**2) - 1)
    good = half * (mu**2 + sigma**2) - half - log(sigma)
    kl = start()
    with pytest.raises(WrongStep, match=r"line 2\.1 does not follow from line 1"):
        kl.step(total, because="Moments.", detail=[(good + 1, "Wrong."), (good, "Right.")])
    with pytest.raises(WrongStep, match=r"line 2\.2 does not follow from line 2\.1"):
        kl.step(total, because="Moments.", detail=[(good, "Right."), (good + 1, "Wrong.")])
    with pytest.raises(ValueError, match="detail"):
        kl.step(total, because="Moments.", detail=[good])
    with pytest.raises(ValueError, match="detail reason"):
        kl.step(total, because="Moments.", detail=[(good, " ")])
    kl.step(total, because="Moments.", detail=[(good, "Right.")])
    assert [s.number for s in kl.steps] == ["2.1", "2"]


def test_sums_of_unknown_length_are_proved_or_refused():
    t, T = symbols("t T", "integer")
    a = family("alpha", "unit")
    d = Derivation(Sum(log(a[t] / a[t - 1]), t, 2, T), name="telescope")
    for wrong in (
        log(a[T] / a[2]),
        log(a[T - 1] / a[1]),
        log(a[T] / a[1]) + 1,
        Sum(log(a[t] / a[t - 1]), t, 1, T),
    ):
        with pytest.raises(WrongStep):
            d.step(wrong, because="?")
    d.step(log(a[T] / a[1]), because="Neighbours cancel.")
    assert d.steps[0].note is None


def test_a_line_that_nothing_can_check_is_not_displayed():
    x = symbol("x")
    law = Law("p")
    d = Derivation(law(x | z), name="open")
    with pytest.raises(WrongStep, match="no rule known to the algebra"):
        d.step(law(x), because="Independence, which nobody stated.")
    T = symbol("T", "integer")
    chain, y = Law("q"), family("y")
    with pytest.raises(WrongStep, match=r"has no known length"):
        Derivation(chain(y[1:T]), name="span").step(chain(y[1:T] | y[0]), because="?")


# ------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "two words"}, "name: wanted a word"),
        ({"name": 3}, "name: wanted a word"),
        ({"title": "odd $ dollar"}, "title: wanted"),
        ({"laws": ["p"]}, "laws: wanted"),
        ({"where": {"x": z}}, "where: wanted"),
        ({"where": {z + 1: z}}, "where: wanted"),
        ({"where": {z: 0.5}}, "frac"),
        ({"sizes": {z: (1, 2)}}, "sizes: wanted"),
        ({"sizes": {symbol("T", "integer"): ()}}, "sizes: wanted"),
    ],
)
def test_unusable_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Derivation(z, **{"name": "d", **settings})


@given(because=st.one_of(st.none(), st.integers(), st.text(alphabet=" \t\n"), st.just("odd $x")))
def test_a_step_needs_a_reason(because):
    with pytest.raises(ValueError, match="because: wanted"):
        start().step(KL(q, p), because=because)


@given(value=st.one_of(st.floats(), st.booleans(), st.none(), st.text(), st.lists(st.integers())))
def test_formulas_are_not_made_of_floats_or_other_things(value):
    for build in (
        lambda: mu + value,
        lambda: value * mu,
        lambda: log(value),
        lambda: Derivation(value, name="d"),
    ):
        with pytest.raises(ValueError, match="a formula is made of"):
            build()


@given(relation=st.text().filter(lambda r: r not in ("=", ">=", "<=", "propto", "const", "law")))
def test_unknown_relations_are_named(relation):
    with pytest.raises(ValueError, match="relation: wanted"):
        start().step(KL(q, p), because="Same.", relation=relation)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_identities_pass_and_random_changes_of_them_do_not(data):
    """Expanding (a x + b)(c x + d) with random coefficients, and the same with one coefficient off by one."""
    a, b, c, d = (data.draw(st.integers(-5, 5).filter(bool)) for _ in range(4))
    spot = data.draw(st.integers(0, 2))
    coefficients = [a * c, a * d + b * c, b * d]
    line = Derivation((a * z + b) * (c * z + d), name="line")
    wrong = [k + (spot == n) for n, k in enumerate(coefficients)]
    with pytest.raises(WrongStep):
        line.step(wrong[0] * z**2 + wrong[1] * z + wrong[2], because="Expand.")
    line.step(coefficients[0] * z**2 + coefficients[1] * z + coefficients[2], because="Expand.")


def test_definitions_that_run_in_circles_are_named():
    a, b = symbols("a b")
    d = Derivation(a, name="circle", where={a: b + 1, b: a - 1})
    with pytest.raises(ValueError, match="leads back to itself"):
        d.step(b + 1, because="?")
    with pytest.raises(ValueError, match="cannot be defined"):
        Derivation(Expect(z, over=q), name="bound", where={z: mu}).step(mu, because="?")


# ------------------------------------------------------------ use of one derivation in another, and the record


def test_a_finished_derivation_serves_as_a_definition():
    y, a, b = symbols("y a b")
    first = Derivation(y, name="first", where={y: (a + b) ** 2})
    first.step(a**2 + 2 * a * b + b**2, because="Expand.")
    second = Derivation(2 * y, name="second", where=first.proved)
    second.step(2 * a**2 + 4 * a * b + 2 * b**2, because="From the first.")
    squares = Derivation(a**2 + b**2, name="squares")
    squares.step(2 * a * b, because="Squares.", relation=">=")
    with pytest.raises(ValueError, match="does not prove an equation"):
        _ = squares.proved


def test_recording_collects_what_is_made_inside_it_only():
    start()
    with recording() as outer:
        first = start()
        with recording() as inner:
            second = start()
    start()
    assert inner == [second] and outer == [first, second]
