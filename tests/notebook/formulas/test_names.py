"""What a name, a label or a letter of a sum may not smuggle into a derivation."""

import pytest

from lib.notebook.derivation import Derivation
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
    family,
    function,
    noise,
    symbol,
    symbols,
)
from lib.notebook.formulas.bounds import remainder
from lib.notebook.formulas.certificates import certificate
from lib.notebook.formulas.expression import wrap

x, y, z, c = symbols("x y z c")
t, T, n = symbols("t T n", "integer")
e = noise("epsilon")
h, alpha, x_family = family("h"), family("alpha", "unit"), family("x")
h_t, alpha_t = symbol("h_t"), symbol("alpha_t", "unit")


def refused(formula, message: str) -> None:
    """Asserts that ``formula`` is refused as a line."""
    with pytest.raises(ValueError, match=message):
        Derivation(formula, name="d").step(formula, because="The same.")


@pytest.mark.parametrize(
    "formula",
    [
        Sum(h_t, t, 1, T),
        Sum(function("f_t")(x), t, 1, T),
        Sum(symbol("h", latex="h_t"), t, 1, T),
        Sum(family("h_t")[n], t, 1, T),
        Product(alpha_t, t, 1, T),
        Product(Law("q_t", x)(x), t, 1, T),
        Expect(e * symbol("x_epsilon"), over=e),
        Expect(function("f_z")(y), over=Normal(z, 0, 1)),
        Integral(function("f_x")(y) * Normal(x, 0, 1), x),
        Integral(symbol("c_h") * Normal(h[1], 0, 1), h[1]),
        KL(Normal(z, symbol("m_z"), 1), Normal(z, 0, 1)),
    ],
    ids=repr,
)
def test_a_bound_letter_stands_in_no_name(formula):
    refused(formula, "carries .* only in its name")


def test_a_small_letter_is_read_with_its_braces_and_without():
    refused(Grad(symbol("score", latex=r"\nabla\log p(x_t)"), x_family[t]), "carries .* only in its name")
    refused(x_family[t] + symbol("a", latex="x_t"), "two things")


def test_a_bound_letter_may_be_an_index_or_an_argument():
    for formula in (
        Sum(h[t], t, 1, T),
        Sum(h[t - 1], t, 2, T),
        Sum(function("f_t")(x, t), t, 1, T),
        h_t + Sum(alpha[n], n, 1, T),
        Expect(function("f_theta")(e), over=e),
        Integral(Law("p_z", z)(z), z),
    ):
        Derivation(formula, name="d").step(formula, because="The same.")
    Derivation(Sum(h_t, t, 1, T), name="d", where={h_t: x}).step(T * x, because="Equal terms.")


def never_below(larger, smaller):
    """The ground of ``larger >= smaller`` by form alone: no equation is granted but that of equal terms."""
    return certificate(larger, smaller, ">=", lambda a, b: not remainder(a, b))


@pytest.mark.parametrize(
    "larger, smaller",
    [
        (Sum(t, t, -3, 1), wrap(0)),
        (Sum(t * x**2, t, -3, T), wrap(0)),
        (Sum((t - 1) * x**2, t, 0, T), wrap(0)),
        (Sum(Sum(n * x**2, n, t, T), t, -3, T), wrap(0)),
        (Sum(t * exp(h[t]), t, -2, T), Sum(t * (1 + h[t]), t, -2, T)),
    ],
    ids=repr,
)
def test_the_letter_of_a_sum_may_fall_below_one(larger, smaller):
    assert never_below(larger, smaller) is None


def test_a_letter_that_starts_at_one_and_an_even_power_are_never_negative():
    for larger, smaller in (
        (Sum(t * x**2, t, 1, T), wrap(0)),
        (Sum(t * x**2, t, n, T), wrap(0)),
        (Sum(t**2 * x**2, t, -3, T), wrap(0)),
        (Sum(exp(h[t]), t, 0, T), Sum(1 + h[t], t, 0, T)),
    ):
        assert never_below(larger, smaller)
