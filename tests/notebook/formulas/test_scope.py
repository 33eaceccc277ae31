"""How far a gradient, an average, ``of`` and a definition reach: into open sums, into the densities of a law."""

import pytest

from lib.notebook.derivation import Derivation, WrongStep
from lib.notebook.formulas import (
    KL,
    Expect,
    Grad,
    Integral,
    Law,
    Normal,
    Product,
    Sum,
    exp,
    function,
    log,
    squared_norm,
    symbol,
    symbols,
    vector,
)
from tests.notebook.formulas.lines import d, e, f, i, k, model, n, note, s, state, t, theta, x, y, z

LATER, EARLIER = Sum(k[i], i, 2, n), Sum(k[i], i, 1, n - 1)
OVER_FIRST = Normal(k[1], 0, 1)
GUIDED = {model(x | z): Normal(x, theta * z, 1)}
T = symbol("T", "integer")


# ------------------------------------------------------------ terms of sums and products of open length


@pytest.mark.parametrize(
    ("before", "line", "wrong"),
    [
        (Grad(k[1] + LATER, k[1]), 1, 0),
        (Grad(k[n] + EARLIER, k[n]), 1, 0),
        (Grad(log(exp(k[1]) + Sum(exp(k[i]), i, 2, n)), k[1]), exp(k[1]) / (exp(k[1]) + Sum(exp(k[i]), i, 2, n)), 0),
        (Grad(k[1] * Product(k[i], i, 2, n), k[1]), Product(k[i], i, 2, n), 0),
        (Grad(k[t] + Sum(k[i], i, t + 1, n), k[t]), 1, 0),
        (Grad(Sum(k[i], i, 1, t - 1), k[t]), 0, 1),
        (Grad(k[1] * k[2] + Sum(k[i] * k[i - 1], i, 3, n), k[1]), k[2], 0),
        (Expect(k[1] + LATER, over=OVER_FIRST), LATER, Sum(k[i], i, 1, n)),
        (Expect((k[1] + LATER) ** 2, over=OVER_FIRST), 1 + LATER**2, Sum(k[i], i, 1, n) ** 2),
        (Integral(OVER_FIRST * (k[1] + LATER), k[1]), LATER, Sum(k[i], i, 1, n)),
    ],
)
def test_a_term_beside_its_sum_is_seen(before, line, wrong):
    note(before, line)
    with pytest.raises(WrongStep):
        note(before, wrong)


def test_a_term_beside_its_sum_is_not_free_of_itself():
    note(LATER, 0, "const", k[1])
    note(exp(k[1] + LATER), exp(k[1]), "propto", k[1])
    for before, line, relation in ((k[1] + LATER, 0, "const"), (exp(k[1] + LATER), 1, "propto")):
        with pytest.raises(WrongStep):
            note(before, line, relation, k[1])


def test_a_sum_that_may_end_before_the_term_is_footnoted():
    assert note(Grad(Sum(k[i], i, 3, n), k[2]), 0) == r"for $n \ge 2$"


@pytest.mark.parametrize(
    "body", [Sum(log(k[1] + k[i]), i, 2, n), Sum(k[2 * i], i, 1, n), Sum(k[i] * Sum(k[t], t, i, n), i, 2, n)]
)
def test_a_term_that_cannot_be_taken_out_is_refused(body):
    with pytest.raises(ValueError):
        note(Grad(k[1] + body, k[1]), Grad(k[1] + body, k[1]) + 0 * x)


# ------------------------------------------------------------ definitions


@pytest.mark.parametrize("density", [model(x), model(x, z), model(z | x)], ids=repr)
@pytest.mark.parametrize("laws", [(), (model,)])
def test_a_parameter_of_one_density_is_one_of_the_law(density, laws):
    m = symbol("m")
    for where in (GUIDED, {model(x | z): Normal(x, m, 1), m: theta * z}):
        with pytest.raises(ValueError, match="may depend on the same"):
            note(Grad(log(density), theta), 0, laws=laws, where=where)
        with pytest.raises(ValueError, match="may depend on the same"):
            note(log(density), 0, "const", theta, laws=laws, where=where)
    with pytest.raises(ValueError, match="may depend on the same"):
        note(Expect(density, over=e), density, laws=laws, where={model(x | z): Normal(x, e, 1)})


def test_a_density_is_the_same_in_any_order():
    where = {model(x, z): Normal(x, theta * z, 1) * Normal(z, 0, 1)}
    note(model(z, x), where[model(x, z)], where=where)
    with pytest.raises(WrongStep):
        note(Grad(model(z, x), theta), 0, where=where)
    with pytest.raises(ValueError, match="defined twice"):
        note(x, x, where={**where, model(z, x): Normal(x, 2, 1) * Normal(z, 0, 1)})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({T: n + 1}, "T counts"),
        ({T: n - 5}, "T counts"),
        ({f(t): 1, f(t - 1): 2}, "defined twice"),
        ({state[2 * t]: 1, state[2]: 2}, "defined twice"),
        ({vector("v"): 1}, "v is a vector"),
        ({x: vector("v")}, "x is a number"),
        ([(x, y)], "where: wanted a dictionary"),
    ],
)
def test_a_definition_that_cannot_hold_is_refused(where, message):
    with pytest.raises(ValueError, match=message):
        Derivation(z, name="d", where=where)


@pytest.mark.parametrize(
    ("body", "where", "message"),
    [
        (Sum(state[t], t, 0, T), {state[t]: 2, state[0]: 1}, "starts lower"),
        (Product(state[t], t, 0, T), {state[t]: t, state[0]: 5}, "starts lower"),
        (Sum(state[t], t, 1, T), {state[t]: 1, state[t - 1]: 2}, "more than one formula"),
    ],
)
def test_in_a_sum_a_definition_holds_at_every_place(body, where, message):
    with pytest.raises(ValueError, match=message):
        note(body, body + 0 * x, where=where)
    note(Sum(state[t], t, 1, T), 2 * T, where={state[t]: 2, state[0]: 1})
    note(Sum(state[t], t, 0, 1), 3, where={state[t]: 2, state[0]: 1})


# ------------------------------------------------------------ integrals, vectors and dimensions


def test_an_integral_exists_or_is_footnoted():
    assert note(Integral(f(x + 1) - f(x), x), 0) == "the integral of each term taken to exist"
    with pytest.raises(ValueError, match="does not converge"):
        note(Integral(y / y, x) - Integral(y / y, x), 0)


def test_no_variance_is_nothing():
    with pytest.raises(ValueError, match="variance: wanted a positive one"):
        note(KL(Normal(z, x, s), Normal(z, x, 0)), 0, ">=")


def test_the_gradient_of_a_vector_by_a_vector_is_refused():
    v = vector("v")
    with pytest.raises(ValueError, match="a matrix"):
        note(Grad(v, v), 1)


def test_what_dimensions_and_sizes_cannot_decide_is_refused():
    v = vector("v")
    nothing = log(Normal(v, 0, 1)) - log(Normal(v, 0, 1))
    chain = Law("q", state[0], state[1] | state[0])
    with pytest.raises(ValueError):
        note(exp(d * log(2) + nothing), d**2 - d + 2, dimension=d)
    with pytest.raises(ValueError):
        note(f((d - 1) * (d - 2) * (d - 3)) + 0 * squared_norm(v), f(0), dimension=d)
    with pytest.raises(ValueError):
        line = Expect(f((T - 1) * (T - 2) * (T - 3)), over=chain(state[1] | state[0]))
        note(line, f(0), laws=[chain], sizes={T: (1, 2, 3)})


def test_a_function_of_a_known_name_has_no_sign():
    with pytest.raises(ValueError, match="ln has a fixed meaning"):
        note(function("ln", "positive")(x), 0, ">=")
    assert note(function("sin")(x), function("sin")(x)) is None


def test_one_derivation_may_be_given_without_a_list():
    a, b = symbols("a b")
    other = Derivation(a, name="other", where={a: b + b})
    other.step(2 * b, because="Twice.")
    assert Derivation(a, name="d", given=other).where == {a: 2 * b}
