"""Inequalities between laws need a ground, and laws may not contradict themselves."""

import pytest

from lib.notebook.formulas import (
    KL,
    Expect,
    Integral,
    Law,
    Normal,
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
from lib.notebook.formulas.bounds import bounds
from lib.notebook.formulas.certificates import certificate
from lib.notebook.formulas.concrete import Definitions
from lib.notebook.formulas.exact import Refused
from lib.notebook.formulas.expression import wrap
from lib.notebook.formulas.finite import Finite

a, b, c, x, y, z = symbols("a b c x y z")
u, w, s = symbol("u", "unit"), symbol("w", "positive"), symbol("s", "positive")
t, T = symbols("t T", "integer")
f, h = function("f"), function("h", "positive")
state, half = family("x"), frac(1, 2)
one, other = Law("p", x), Law("q", x)
p, q = Law("p", z, x | z), Law("q", z | x)
pair = Law("r", x, z | x)
chain = Law("q", state[0], every(t, 1, T, state[t] | state[t - 1]))
back = Law("p", state[T], every(t, 1, T, state[t - 1] | state[t]))
MODELS = "random finite models of up to 4 states a variable"


def ground(laws, lhs, rhs, relation: str, sizes=None):
    try:
        return Finite(laws, Definitions({}), sizes or [{}]).holds(wrap(lhs), wrap(rhs), relation, ())
    except Refused:
        return None


# ------------------------------------------------------------ inequalities


@pytest.mark.parametrize(
    ("lhs", "relation", "rhs"),
    [
        (one(x), "<=", 10**6),
        (Expect(x**4, over=one(x)), "<=", 10**9 * Expect(x**2, over=one(x)) ** 2),
        (KL(one(x), other(x)), "<=", 10**6),
        (KL(one(x), other(x)), ">=", frac(1, 10**9)),
        (KL(one(x), other(x)), ">=", KL(one(x), other(x)) ** 2 / 10**6),
        (Expect(-log(one(x)), over=one(x)), ">=", 0),  # an entropy of masses, not of densities
        (Expect(-log(one(x)), over=one(x)), ">=", -100),
        (Expect(f(x) ** 2, over=one(x)), "<=", Expect(f(x), over=one(x)) ** 2),
        (log(Expect(x**2, over=one(x))), "<=", Expect(log(x**2), over=one(x))),
        (Expect(log(other(x) / one(x)), over=one(x)), "<=", Expect(other(x) / one(x) - 2, over=one(x))),
        (Expect(x, over=one(x)) - KL(one(x), other(x)), ">=", Expect(x, over=one(x))),
        (c * KL(one(x), other(x)), ">=", 0),
    ],
)
def test_what_samples_may_not_contradict_is_refused_all_the_same(lhs, relation, rhs):
    assert ground([one, other], lhs, rhs, relation) is None


def test_a_divergence_that_is_dropped_is_named():
    gap = KL(q(z | x), p(z | x))
    rest = Expect(log(p(x | z)), over=q(z | x)) - KL(q(z | x), p(z))
    told = ground([p, q], rest + gap, rest, ">=")
    assert told == r"the gap is $\mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))$, never negative"
    told = ground([p, q], log(p(x)), rest, ">=")
    assert told == (rf"the gap is $\mathrm{{KL}}(q(z \mid x) \,\|\, p(z \mid x))$, checked exactly on 3 {MODELS}")
    assert ground([p, q], log(p(x)), rest, "<=") is None
    assert ground([one, other], w * KL(one(x), other(x)), 0, ">=").endswith("on the declared domain of $w$")


@pytest.mark.parametrize(
    ("lhs", "rhs"),
    [
        (Expect(log(pair(x, z) / (pair(x) * pair(z))), over=pair(x, z)), 0),
        (-Expect(log(pair(z)), over=pair(z)), -Expect(log(pair(z | x)), over=pair(x, z))),
        (KL(pair(x, z), p(x, z)), KL(pair(x), p(x))),
        (-Expect(log(p(x)), over=pair(x)), -Expect(log(pair(x)), over=pair(x))),
    ],
)
def test_gaps_that_are_divergences(lhs, rhs):
    assert ground([pair, p], lhs, rhs, ">=").startswith("the gap is $")
    assert ground([pair, p], lhs, rhs, "<=") is None


@pytest.mark.parametrize(
    ("lhs", "rhs"),
    [
        (log(p(x)), Expect(log(p(x | z)), over=p(z))),
        (log(p(x)), Expect(log(p(x, z) / q(z | x)), over=q(z | x))),
        (Expect(exp(f(z)), over=p(z)), exp(Expect(f(z), over=p(z)))),
        (Expect(z**4, over=p(z)), Expect(z**2, over=p(z)) ** 2),
        (Expect(z**2, over=p(z)) - Expect(z, over=p(z)) ** 2, 0),
        (sqrt(Integral(p(z) * h(z), z)), Expect(sqrt(h(z)), over=p(z))),
        (Expect(log(half * (h(x) + h(z))), over=p(x, z)), Expect(half * log(h(x)) + half * log(h(z)), over=p(x, z))),
        (log(u * p(x) + (1 - u) * h(x)), u * log(p(x)) + (1 - u) * log(h(x))),
    ],
)
def test_jensen(lhs, rhs):
    assert ground([p, q], lhs, rhs, ">=")
    assert ground([p, q], rhs, lhs, "<=")
    assert ground([p, q], lhs, rhs, "<=") is None


def test_a_declared_domain_is_no_ground_for_what_is_defined():
    defined = Definitions({w: 10**12 + Expect(x**2 - x, over=one(x))})  # negative for few laws only
    with pytest.raises(Refused, match="declared domain"):
        Finite([one], defined, [{}]).holds(w + one(x), one(x), ">=", ())
    assert Finite([one], Definitions({}), [{}]).holds(w + one(x), one(x), ">=", ())
    assert Finite([one], Definitions({c: u}), [{}]).holds(c * one(x), one(x), "<=", ())


def test_the_tangent_of_the_logarithm():
    ratio = other(x) / one(x)
    told = ground([one, other], Expect(log(ratio), over=one(x)), Expect(ratio - 1, over=one(x)), "<=")
    assert told == r"by $\log u\le u-1$"
    assert ground([one, other], log(one(x)), one(x) - 1, "<=")
    assert ground([one, other], Expect(log(ratio), over=one(x)), Integral(other(x), x) - 1, "<=").endswith(
        "models of up to 4 states a variable"
    )


def test_bounds_of_a_chain():
    sizes = [{T: 2}, {T: 3}]
    first = KL(chain(state[T] | state[0]), back(state[T]))
    steps = Sum(
        Expect(
            KL(chain(state[t - 1] | state[t], state[0]), back(state[t - 1] | state[t])), over=chain(state[t] | state[0])
        ),
        t,
        2,
        T,
    )
    last = -Expect(log(back(state[0] | state[1])), over=chain(state[1] | state[0]))
    assert ground([chain, back], first + steps + last, last, ">=", sizes).startswith("the gap is a sum of terms")
    told = ground([chain, back], -log(back(state[0])), first + steps + last, "<=", sizes)
    assert told.startswith("where $T = 3$: the gap is") and told.endswith(
        "on 6 random finite models of up to 4 states a variable"
    )


def typed(one_side, another) -> bool:
    return False


@pytest.mark.parametrize(
    ("lhs", "rhs"),
    [
        (u, 1),
        (w / (w + s), 1),
        (-((1 - u) ** 2) * log(u), -log(u)),
        (log(u), 0),
        (log(w), w - 1),
        (0 * a, (a - b) ** 2),
        (1 + a, exp(a)),
        (half * log(w) + half * log(s), log(half * (w + s))),
        (log(w) / T - w, log(w) / T),
    ],
)
def test_grounds_without_laws(lhs, rhs):
    assert certificate(wrap(lhs), wrap(rhs), "<=", typed)
    assert certificate(wrap(lhs), wrap(rhs), ">=", typed) is None


@pytest.mark.parametrize(
    ("lhs", "rhs"),
    [
        (u, frac(12, 13)),
        (frac(1, 11), w),
        (log(half * (w + s)), half * (log(w) + log(s))),
        (sqrt(a**2), a),
        (0 * a, a**3),
        (0 * a, Expect(w, over=Normal(w, -5, 1))),  # over all numbers, whatever is declared of w
        (0 * a, KL(Normal(z, z + 1, 1), Normal(z, 0, 1))),  # no density
        (a, a / u),
        (0 * a, Sum(frac(1, 2) - u, t, 1, T)),
        (log(a + b), log(a) + log(b)),
    ],
)
def test_no_ground(lhs, rhs):
    assert certificate(wrap(lhs), wrap(rhs), "<=", typed) is None


def test_bounds_hold_wherever_there_is_a_value():
    assert bounds(wrap(1 - u)) == (0, 1)
    assert bounds(wrap(a * a)) == (0, float("inf"))
    assert bounds(a**3) == bounds(1 / a) == (-float("inf"), float("inf"))
    assert bounds(-log(u)) == (0, float("inf"))


# ------------------------------------------------------------ laws


def test_laws_that_contradict_themselves_are_refused():
    for factors, variable in (
        ((x | z, z | x), "x"),
        ((x | y, y | z, z | x), "x"),
        ((x, x | z), "x"),
        ((x | x,), "x"),
        ((every(t, 1, T, state[t] | state[t]),), r"x\[1\]"),
    ):
        with pytest.raises(ValueError, match=f"law p: {variable} (is given by more|depends on itself)"):
            Finite([Law("p", *factors)], Definitions({}), [{T: 3}])


@pytest.mark.parametrize(
    ("law", "variable"),
    [
        (Law("q", state[0], every(t, 1, T, state[t] | state[t - 1]), state[2]), r"x\[2\]"),
        (Law("q", every(t, 1, T, state[t] | state[t - 1]), state[0] | state[T]), r"x\[1\]"),
        (Law("q", every(t, 1, T, state[t] | state[T])), r"x\[3\]"),
    ],
)
def test_chains_that_contradict_themselves_are_refused_with_their_sizes(law, variable):
    with pytest.raises(ValueError, match=f"law q: {variable}"):
        Finite([law], Definitions({}), [{T: 3}])


def test_two_laws_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two laws are named p"):
        Finite([Law("p", z, x | z), Law("p", x, z | x)], Definitions({}), [{}])
    Finite([p, p.shown_as("P"), Law("p", x | z, z)], Definitions({}), [{}])


def test_a_law_over_a_span_of_unknown_length_is_refused():
    law = Law("p", state[1:T], y | state[1:T])
    with pytest.raises(ValueError, match="sizes: give values of T"):
        law.expand({})
    assert law.expand({T: 2}) == [((state[1], state[2]), ()), ((y,), (state[1], state[2]))]
