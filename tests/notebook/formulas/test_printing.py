"""What a formula looks like: as typed, with the brackets that its meaning needs and no others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    pi,
    sqrt,
    squared_norm,
    symbol,
    symbols,
    vector,
)
from lib.notebook.formulas.concrete import concrete
from lib.notebook.formulas.printing import latex, letter, plain

z, mu, a, b = symbols("z mu a b")
sigma = symbol("sigma", "positive")
t, T = symbols("t T", "integer")
x, bar = family("x"), family("alphabar", "unit")
p, q = Law("p", latex=r"p_\theta"), Law("q")


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        (
            frac(1, 2) * (mu**2 + sigma**2 - log(sigma**2) - 1),
            r"\frac{1}{2} (\mu^{2} + \sigma^{2} - \log\sigma^{2} - 1)",
        ),
        (KL(q(z | a), p(z)), r"\mathrm{KL}(q(z \mid a) \,\|\, p_\theta(z))"),
        (
            KL(Normal(z, mu, sigma**2), Normal(z, 0, 1)),
            r"\mathrm{KL}(\mathcal{N}(\mu, \sigma^{2}) \,\|\, \mathcal{N}(0, 1))",
        ),
        (Expect(z, over=Normal(z, mu, 1)), r"\mathbb{E}_{z \sim \mathcal{N}(\mu, 1)}[z]"),
        (Expect(mu, over=noise("epsilon")), r"\mathbb{E}_{\epsilon}[\mu]"),
        (Integral(a + b, z), r"\int (a + b)\,\mathrm{d}z"),
        (Sum(log(x[t]), t, 2, T) - log(a), r"\sum_{t=2}^{T} \log x_{t} - \log a"),
        (Product(x[t], t, 1, T) * a, r"\left(\prod_{t=1}^{T} x_{t}\right)\,a"),
        (q(x[1:T] | x[0]), r"q(x_{1:T} \mid x_{0})"),
        (q(x[t - 1] | x[t], x[0]), r"q(x_{t-1} \mid x_{t}, x_{0})"),
        (sqrt(bar[t - 1]) * x[t], r"\sqrt{\bar{\alpha}_{t-1}}\,x_{t}"),
        (exp(-((z - mu) ** 2) / (2 * sigma**2)), r"\exp\left(-\frac{(z - \mu)^{2}}{2 \sigma^{2}}\right)"),
        (Grad(log(p(x[t])), x[t]), r"\nabla_{x_{t}} \log p_\theta(x_{t})"),
        (squared_norm(vector("mu") - a), r"\lVert \mu - a \rVert^{2}"),
        (brace(a + b, "L_T") + bracket(a), r"\underbrace{a + b}_{L_T} + (a)"),
        (a - (b - z), "a - (b - z)"),
        (a + (b + z), "a + (b + z)"),
        (a - (-b), "a - (-b)"),
        (-(a + b), "-(a + b)"),
        (a + -b * z, "a - b z"),
        (a * -b, "a (-b)"),
        (2 * frac(3, 4), r"2 \cdot \frac{3}{4}"),
        (a**2 * 3, r"a^{2} \cdot 3"),
        ((a + b) ** 2, "(a + b)^{2}"),
        (log(a) * b, r"(\log a)\,b"),
        (log(a * b), r"\log(a b)"),
        (log(a) ** 2, r"(\log a)^{2}"),
        (function("epsilon_theta")(x[t], t), r"\epsilon_{\theta}(x_{t}, t)"),
        (1 / sqrt(2 * pi), r"\frac{1}{\sqrt{2 \pi}}"),
    ],
)
def test_formulas_are_displayed_as_typed(formula, shown):
    assert latex(formula) == shown


def test_names_become_letters():
    assert [letter(n) for n in ("x", "mu", "betatilde", "sigma_q", "xhat", "loss", "mutilde_t")] == [
        "x",
        r"\mu",
        r"\tilde{\beta}",
        r"\sigma_{q}",
        r"\hat{x}",
        r"\mathrm{loss}",
        r"\tilde{\mu}_{t}",
    ]


def test_indices_are_tidied_when_they_are_worked_out():
    assert latex(concrete(x[t - 1 + 1])) == "x_{t}"
    assert latex(concrete(x[T - t + 2])) == "x_{T-t+2}"
    assert latex(concrete(Sum(x[t - 1], t, 2, T), {T: 3})) == "x_{1} + x_{2}"
    assert latex(concrete(q(x[1:T] | x[0]), {T: 2})) == "q(x_{1}, x_{2} \\mid x_{0})"
    with pytest.raises(ValueError, match="index: wanted a sum of integers"):
        concrete(x[a])
    with pytest.raises(ValueError, match="first:last"):
        x[1:]


terms = st.recursive(
    st.sampled_from([a, b, mu, sigma, x[1], 1 + a - a, frac(1, 2)]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] - p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] / p[1]),
        inner.map(lambda e: e**2),
        inner.map(lambda e: -e),
        inner.map(log),
        inner.map(sqrt),
    ),
    max_leaves=8,
)


@given(terms)
def test_brackets_are_balanced_and_plain_text_means_the_same(formula):
    shown = latex(formula)
    for opening, closing in ("{}", "()"):
        assert shown.count(opening) == shown.count(closing)
    names = {"a": 1.3, "b": 2.1, "mu": 0.7, "sigma": 1.9, "x": {1: 0.4}, "log": abs, "sqrt": abs}
    try:
        expected = computed(formula, names)
    except ZeroDivisionError:
        return
    assert eval(plain(formula), {}, names) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def computed(e, names: dict) -> float:
    """The value of a formula, reading its tree; log and sqrt stand for the absolute value."""
    kind, parts = type(e).__name__, None
    if kind == "Symbol":
        return names["x"][1] if e.index is not None else names[e.name]
    if kind == "Number":
        return float(e.value)
    if kind in ("Neg", "Apply"):
        return -computed(e.body, names) if kind == "Neg" else abs(computed(e.body, names))
    if kind == "Pow":
        return computed(e.base, names) ** computed(e.power, names)
    if kind == "Div":
        return computed(e.top, names) / computed(e.bottom, names)
    parts = [computed(part, names) for part in (e.terms if kind == "Add" else e.factors)]
    total = 0.0 if kind == "Add" else 1.0
    for part in parts:
        total = total + part if kind == "Add" else total * part
    return total


def test_malformed_formulas_are_refused():
    for build, message in (
        (lambda: symbol("two words"), "name: wanted"),
        (lambda: symbol(""), "name: wanted"),
        (lambda: symbol("x", "complex"), "domain: wanted"),
        (lambda: symbols(""), "names: wanted"),
        (lambda: brace(a, ""), "label: wanted"),
        (lambda: Expect(z, over=a), "over: wanted"),
        (lambda: Expect(z, over=Normal(z + 1, 0, 1)), "over: a Normal of a variable"),
        (lambda: KL(q(z), a), "second: wanted a density"),
        (lambda: KL(q(z), p(a)), "second: wanted a density of"),
        (lambda: Integral(z), "variables: wanted"),
        (lambda: Sum(z, a, 1, 2), "index: wanted"),
        (lambda: Grad(z, z + 1), "variable: wanted"),
        (lambda: bool(a), "truth value"),
        (lambda: 0.5 * a, "frac"),
    ):
        with pytest.raises(ValueError, match=message):
            build()


def test_equal_formulas_are_one_object():
    assert (a + b) ** 2 is (a + b) ** 2
    assert a + b != b + a
    assert len({x[t - 1], x[t - 1], x[t]}) == 2
