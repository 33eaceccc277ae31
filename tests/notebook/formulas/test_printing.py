"""What a formula looks like: as typed, with the brackets that its meaning needs and no others."""

import contextlib

import pytest
from hypothesis import given, settings
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
from lib.notebook.formulas.expression import wrap
from lib.notebook.formulas.printing import latex, letter, plain
from tests.notebook.formulas.reading import LatexReader, PlainReader, Unclear, meaning

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


# ------------------------------------------------------------ what is read is what was typed


f, guess = function("f"), function("epsilon_theta")
w, e = symbol("w", "positive"), noise("epsilon")
p_of, q_of = p(a | b), q(z | x[t], x[t - 1])
VOCABULARY = {s.name: s for s in (z, mu, a, b, sigma, w, e, t, T)}
CALLED = {"x": x, "f": f, "q": q}
PLAIN = VOCABULARY | CALLED | {"epsilon_theta": guess, "p": p}
LATEX = {letter(name): s for name, s in VOCABULARY.items()} | CALLED | {r"\epsilon_{\theta}": guess, r"p_\theta": p}


def larger(inner):
    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(lambda two: two[0] + two[1]),
        pairs.map(lambda two: two[0] - two[1]),
        pairs.map(lambda two: two[0] * two[1]),
        pairs.map(lambda two: two[0] / two[1]),
        st.tuples(inner, st.one_of(st.sampled_from([2, -1, frac(1, 2), -frac(1, 2), T - 1, mu * b]), inner)).map(
            lambda two: two[0] ** two[1]
        ),
        inner.map(lambda e: -e),
        st.tuples(st.sampled_from([log, log, exp, sqrt, squared_norm, bracket, f]), inner).map(
            lambda two: two[0](two[1])
        ),
        inner.map(lambda e: guess(e, t)),
        inner.map(lambda e: brace(e, "L_{t-1}")),
        inner.map(lambda e: Sum(e, t, 2, T - 1)),
        inner.map(lambda e: Product(e, t, 1, T)),
        inner.map(lambda e: Integral(e, z)),
        inner.map(lambda e: Grad(e, a)),
        st.tuples(inner, st.sampled_from([q_of, e, Normal(z, mu, sigma**2)])).map(
            lambda two: Expect(two[0], over=two[1])
        ),
        pairs.map(lambda two: KL(Normal(z, two[0], 1), Normal(z, 0, two[1]))),
        pairs.map(lambda two: Normal(z, *two)),
    )


formulas = st.recursive(
    st.sampled_from([a, b, mu, w, x[t], x[t - 1], x[1], frac(1, 2), p_of, KL(p_of, p(a)), 1 - a, a * b, -a])
    | st.integers(0, 12).map(wrap),
    larger,
    max_leaves=8,
)


@settings(max_examples=400)
@given(formulas)
def test_who_reads_a_printed_formula_finds_the_one_that_was_typed(formula):
    assert meaning(PlainReader(plain(formula), PLAIN).read()) == meaning(formula), plain(formula)
    assert meaning(LatexReader(latex(formula), LATEX).read()) == meaning(formula), latex(formula)


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        (r"-\log w b", -log(w) * b),
        (r"\nabla_{a} f(a) b", Grad(f(a) * b, a)),
        (r"\nabla_{a} (a + b)^{2}", Grad(a + b, a) ** 2),
        (r"\log(a + b)^{2}", log(a + b) ** 2),
        (r"2 \frac{1}{2}", 2 * frac(1, 2)),
        (r"a - \underbrace{b + z}_{L}", a - brace(b + z, "L")),
        (r"\sum_{t=1}^{T} x_{t} b", Sum(x[t], t, 1, T) * b),
        (r"\int -a\,\mathrm{d}z", Integral(-a, z)),
    ],
)
def test_the_reader_of_these_tests_is_not_fooled(text, formula):
    """Prints without the brackets that the formula needs: read as another, or as none."""
    with contextlib.suppress(Unclear):
        assert meaning(LatexReader(text, LATEX).read()) != meaning(formula)
    assert meaning(LatexReader(latex(formula), LATEX).read()) == meaning(formula)


def test_malformed_formulas_are_refused():
    for build, message in (
        (lambda: symbol("two words"), "name: wanted"),
        (lambda: symbol(""), "name: wanted"),
        (lambda: symbol("x", "complex"), "domain: wanted"),
        (lambda: symbols(""), "names: wanted"),
        (lambda: brace(a, ""), "label: wanted"),
        (lambda: Grad(pi, pi), "variable: wanted"),
        (lambda: Integral(pi, pi), "variables: wanted"),
        (lambda: Expect(z, over=Normal(pi, 0, 1)), "over: a Normal of a variable"),
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
