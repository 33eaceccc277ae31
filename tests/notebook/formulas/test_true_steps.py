"""True steps that chapters need are accepted: proved, or with exactly the footnote that says what they rest on."""

import pytest

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
    frac,
    log,
    pi,
    sqrt,
    squared_norm,
    symbols,
)
from tests.notebook.formulas.lines import (
    INSIDE,
    MODELS,
    TAME,
    T,
    a,
    alpha,
    b,
    bar,
    c,
    chain,
    d,
    e,
    e1,
    e2,
    f,
    g,
    guide,
    h,
    half,
    i,
    j,
    k,
    m,
    model,
    mu,
    n,
    noises,
    note,
    one,
    other,
    p,
    psi,
    q,
    s,
    state,
    t,
    u,
    v,
    w,
    x,
    y,
    z,
)

softmax = Sum(exp(k[i]), i, 1, n)
laws, pair = {"laws": [model, guide]}, {"laws": [one, other]}
m1, m2 = symbols("m_1 m_2")
s1, s2 = symbols("s_1 s_2", "positive")


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (log(w**2 * s), 2 * log(w) + log(s)),
        (log((1 - u) ** 2), 2 * log(1 - u)),
        (log((exp(x) + 1) ** 2), 2 * log(exp(x) + 1)),
        (sqrt((1 - bar[t]) ** 2), 1 - bar[t]),
        (sqrt((1 + x**2) ** 2), 1 + x**2),
        (sqrt((x - y) ** 2) ** 2, (x - y) ** 2),
        (sqrt(w**2 * s), w * sqrt(s)),
        (1 - 1 / (1 + exp(-x)), 1 / (1 + exp(x))),
        (Grad(1 / (1 + exp(-x)), x), 1 / (1 + exp(-x)) * (1 - 1 / (1 + exp(-x)))),
        (Grad(sqrt(x**2 + w**2) - w, x), x / sqrt(x**2 + w**2)),
        (Grad(Normal(x, 0, w), w), half * Grad(Grad(Normal(x, 0, w), x), x)),
        (KL(Normal(z, m1, s1**2), Normal(z, m2, s2**2)), log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - half),
        (Expect(-log(q), over=q), half * log(2 * pi * s**2) + half),
        (Expect(exp(z), over=q), exp(mu + s**2 / 2)),
        (Integral(Normal(x, z, s1**2) * Normal(z, mu, s2**2), z), Normal(x, mu, s1**2 + s2**2)),
        (Normal(x, mu, s**2), Normal((x - mu) / s, 0, 1) / s),
        (Expect(Grad(log(q), mu) ** 2, over=q), 1 / s**2),
        (Expect(f(z), over=q), Expect(f(mu + s * e), over=e)),
        (Integral(f(x + a), x), Integral(f(x), x)),
        (Grad(f(x) * psi(x), x), Grad(f(x), x) * psi(x) + f(x) * Grad(psi(x), x)),
        (Expect(Expect((e1 * e2) ** 2, over=e1), over=e2), 1),
    ],
)
def test_algebra_and_gaussians(before, line):
    assert note(before, line) is None


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (Sum(t, t, 1, T), T * (T + 1) / 2),
        (Sum(t**2, t, 1, T), T * (T + 1) * (2 * T + 1) / 6),
        (Sum(a + b * t, t, 1, T), a * T + b * T * (T + 1) / 2),
        ((1 - w) * Sum(w**t, t, 0, T - 1), 1 - w**T),
        (Sum(h[t - 1], t, 2, T), Sum(h[t], t, 1, T - 1)),
        (Sum(h[T - t], t, 0, T - 1), Sum(h[t], t, 1, T)),
        (Sum(h[T + 1 - t], t, 1, T), Sum(h[t], t, 1, T)),
        (Sum(h[t] - h[t - 1], t, 1, T), h[T] - h[0]),
        (Sum(Sum(h[i] * g[j], i, 1, T), j, 1, n), Sum(Sum(h[i] * g[j], j, 1, n), i, 1, T)),
        (Sum(Sum(h[i] * g[j], j, i, T), i, 1, T), Sum(Sum(h[i] * g[j], i, 1, j), j, 1, T)),
        (Sum(Sum(h[j], j, 1, t), t, 1, T), Sum((T - t + 1) * h[t], t, 1, T)),
        (Sum((h[i] - c) ** 2, i, 1, n), Sum(h[i] ** 2, i, 1, n) - 2 * c * Sum(h[i], i, 1, n) + n * c**2),
        (Product(alpha[t], t, 1, T), alpha[T] * Product(alpha[t], t, 1, T - 1)),
        (Product(alpha[t] * bar[t], t, 1, T), Product(alpha[t], t, 1, T) * Product(bar[t], t, 1, T)),
        (log(Product(alpha[t], t, 1, T)), Sum(log(alpha[t]), t, 1, T)),
        (Product(h[t] ** 2, t, 1, T), Product(h[t], t, 1, T) ** 2),
        (Product(h[t], t, 1, T), Product(h[t], t, 1, T - 1) * h[T]),
        (exp(k[2] - c) / Sum(exp(k[i] - c), i, 1, n), exp(k[2]) / softmax),
        (log(Sum(exp(k[i] + c), i, 1, n)), log(softmax) + c),
        (Sum(exp(k[i]) / Sum(exp(k[j]), j, 1, n), i, 1, n), 1),
        (log(exp(k[1]) / softmax), k[1] - log(softmax)),
        (-log(exp(c) / Sum(exp(c), i, 1, n)), log(n)),
        (Grad(log(Sum(exp(w * k[i]), i, 1, n)), w), Sum(k[i] * exp(w * k[i]), i, 1, n) / Sum(exp(w * k[i]), i, 1, n)),
        (
            Grad(Sum(log(w + family("r", "positive")[t]), t, 1, T), w),
            Sum(1 / (w + family("r", "positive")[t]), t, 1, T),
        ),
    ],
)
def test_sums_of_open_length(before, line):
    assert note(before, line) is None


@pytest.mark.parametrize(
    ("before", "line", "said"),
    [
        (Expect(z * f(z), over=p), Expect(Grad(f(z), z), over=p), TAME),
        (Expect((z - mu) * f(z), over=q), s**2 * Expect(Grad(f(z), z), over=q), TAME),
        (Expect(e * f(mu + s * e), over=e), s * Expect(Grad(f(mu + s * e), mu), over=e), TAME),
        (Expect((z**2 - 1) * f(z), over=p), Expect(Grad(Grad(f(z), z), z), over=p), TAME),
        (Integral(f(z) * Grad(q, z), z), -Integral(Grad(f(z), z) * q, z), TAME),
        (Grad(Expect(f(z), over=q), mu), Expect(Grad(f(mu + s * e), mu), over=e), INSIDE),
        (Grad(Expect(f(z), over=q), s), Expect(e * Grad(f(mu + s * e), mu), over=e), f"{INSIDE}, {TAME}"),
        (Grad(Expect(f(z), over=q), mu), Expect(f(z) * Grad(log(q), mu), over=q), f"{INSIDE}, {TAME}"),
        (Grad(Expect(f(z), over=q), s), Expect(f(z) * ((z - mu) ** 2 / s**3 - 1 / s), over=q), f"{INSIDE}, {TAME}"),
        (sqrt(x) ** 2 + 0 * y, x, r"where $x \ge 0$"),
    ],
)
def test_rules_with_a_premise(before, line, said):
    assert note(before, line) == said


@pytest.mark.parametrize(
    ("before", "relation", "line"),
    [
        ((a - b) ** 2, ">=", 0),
        (x**2 + y**2 + 1, ">=", x * y),
        ((x + y) ** 2, "<=", 2 * x**2 + 2 * y**2),
        (KL(q, p), ">=", 0),
        (sqrt(w * s), "<=", half * (w + s)),  # of two means
        (log(half * (w + s)), ">=", half * (log(w) + log(s))),  # the logarithm is concave
        (log(w), "<=", w - 1),
        (log(1 + w), "<=", w),
        (exp(x), ">=", 1 + x),
        (1 - u, "<=", exp(-u)),
        (-((1 - u) ** 2) * log(u), "<=", -log(u)),  # the focal loss
        (sqrt(x**2 + w**2) - w, ">=", 0),  # pseudo-Huber
        (Expect(exp(z), over=q), ">=", exp(mu)),
        (w / (w + s), "<=", 1),
        (alpha[1] * alpha[2], "<=", alpha[1]),
        (1 / (1 + exp(-x)), "<=", 1),
        (Expect((z - a) ** 2, over=q), ">=", 0),
    ],
)
def test_inequalities(before, relation, line):
    assert note(before, line, relation) is None


@pytest.mark.parametrize(
    ("before", "relation", "line"),
    [
        (KL(other(x), one(x)), ">=", 0),
        (-Expect(log(one(x) / other(x)), over=other(x)), ">=", Expect(1 - one(x) / other(x), over=other(x))),
        (Expect(log(other(x)), over=other(x)), ">=", Expect(log(one(x)), over=other(x))),
        (log(Expect(psi(x), over=one(x))), ">=", Expect(log(psi(x)), over=one(x))),
        (Expect(f(x) ** 2, over=one(x)), ">=", Expect(f(x), over=one(x)) ** 2),
        (Expect(1 - one(x) / other(x), over=other(x)), "=", 0),
    ],
)
def test_bounds_of_laws(before, relation, line):
    assert note(before, line, relation, **pair) is None


@pytest.mark.parametrize(
    "line",
    [
        Expect(log(model(x | z)), over=guide(z | x)) - KL(guide(z | x), model(z)),
        Expect(log(model(x, z) / guide(z | x)), over=guide(z | x)),
    ],
)
def test_the_evidence_lower_bound(line):
    assert note(log(model(x)), line, ">=", **laws) is None


@pytest.mark.parametrize(
    ("before", "line", "settings", "said"),
    [
        (model(z | x), model(x | z) * model(z) / model(x), laws, None),
        (Grad(log(model(x | z)), x), Grad(log(model(z | x)), x) + Grad(log(model(x)), x), laws, None),
        (model(x) * Grad(log(model(x)), x), Grad(model(x), x), laws, None),
        (
            Grad(Integral(model(x | z) * model(z), z), x) / model(x),
            Expect(Grad(log(model(x | z)), x), over=model(z | x)),
            laws,
            INSIDE,
        ),
        (
            chain(state[t] | state[t - 1]),
            chain(state[t] | state[t - 1], state[0]),
            {"laws": [chain], "sizes": {T: (4,), t: (2, 3)}},
            f"checked exactly on 6 {MODELS}, $T = 4$; $t = 2, 3$",
        ),
        (
            Law("p", x, y, (z | x, y))(x | y),
            Law("p", x, y, (z | x, y))(x),
            {"laws": [Law("p", x, y, (z | x, y))]},
            f"checked exactly on 3 {MODELS}",
        ),
    ],
)
def test_densities(before, line, settings, said):
    assert note(before, line, **settings) == said


@pytest.mark.parametrize(
    ("before", "relation", "line", "of"),
    [
        (
            Normal(z, m1, s1**2) * Normal(z, m2, s2**2),
            "propto",
            exp(-((z - m1) ** 2) / (2 * s1**2) - ((z - m2) ** 2) / (2 * s2**2)),
            (z, m1, m2),
        ),
        (Normal(x, z, s**2) * Normal(z, 0, 1), "propto", Normal(z, x / (1 + s**2), s**2 / (1 + s**2)), z),
        ((x - mu) ** 2, "const", x**2 - 2 * x * mu, x),
        (log(Normal(v, m, s**2)), "const", -squared_norm(v - m) / (2 * s**2), (v, m)),
        (mu + w * e1 + s * e2, "law", mu + sqrt(w**2 + s**2) * e, ()),
        (e1 - e2, "law", sqrt(2) * e, ()),
        (
            sqrt(alpha[2]) * (sqrt(alpha[1]) * x + sqrt(1 - alpha[1]) * e1) + sqrt(1 - alpha[2]) * e2,
            "law",
            sqrt(alpha[1] * alpha[2]) * x + sqrt(1 - alpha[1] * alpha[2]) * e,
            (),
        ),
    ],
)
def test_other_relations(before, relation, line, of):
    assert note(before, line, relation, of) in (None, "checked in 1 to 3 dimensions")


@pytest.mark.parametrize(
    ("before", "line", "dimensions"),
    [
        (squared_norm(v - m) + squared_norm(v + m), 2 * squared_norm(v) + 2 * squared_norm(m), 3),
        (KL(Normal(v, m, s**2), Normal(v, 0, 1)), half * (squared_norm(m) + d * (s**2 - log(s**2) - 1)), 3),
        (Expect(squared_norm(noises), over=noises), d, 3),
        (Expect(squared_norm(noises) ** 2, over=noises), d**2 + 2 * d, 3),
        (Expect(squared_norm(m + s * noises), over=noises), squared_norm(m) + d * s**2, 3),
        (Grad(squared_norm(v - m), v), 2 * (v - m), 3),
    ],
)
def test_vectors(before, line, dimensions):
    assert note(before, line, dimension=d) == f"checked in 1 to {dimensions} dimensions"


@pytest.mark.parametrize(
    ("before", "line", "where"),
    [
        (Sum(t, t, 1, T), 3, {T: 2}),
        (Product(alpha[t], t, 1, T), alpha[1] * alpha[2], {T: 2}),
        (Expect(squared_norm(noises), over=noises), 16, {d: 16}),
        (half * (x + y), y + half * (x - y), {}),
        (
            1 / (alpha[t] / (1 - alpha[t]) + 1 / (1 - bar[t - 1])),
            (1 - bar[t - 1]) / (1 - bar[t]) * (1 - alpha[t]),
            {bar[t]: bar[t - 1] * alpha[t]},
        ),
        (1 / (1 + exp(-x)), u, {x: log(u / (1 - u))}),
        ((1 - c) ** 2 * w + c**2 * s**2, w * s**2 / (w + s**2), {c: w / (w + s**2)}),
        (exp(-Sum(frac(1, n) * log(frac(1, n)), i, 1, n)), n, {}),
    ],
)
def test_definitions(before, line, where):
    assert note(before, line, where=where, dimension=d) is None
