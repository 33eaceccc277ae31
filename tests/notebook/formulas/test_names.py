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
    brace,
    bracket,
    exp,
    family,
    frac,
    function,
    log,
    noise,
    sqrt,
    squared_norm,
    symbol,
    symbols,
    vector,
)

x, y, z, c = symbols("x y z c")
t, T, n = symbols("t T n", "integer")
e = noise("epsilon")
h, alpha = family("h"), family("alpha", "unit")
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
