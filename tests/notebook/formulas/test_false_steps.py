"""False steps are refused, or true under the premise that their footnote names; each with its counterexample."""

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
    function,
    log,
    noise,
    pi,
    sqrt,
    squared_norm,
    symbol,
)
from tests.notebook.formulas.lines import (
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
    theta,
    tinier,
    tiny,
    u,
    v,
    w,
    x,
    y,
    z,
)

laws, pair = {"laws": [model, guide]}, {"laws": [one, other]}
vectors = {"dimension": d}
elbo = Expect(log(model(x | z)), over=guide(z | x)) - KL(guide(z | x), model(z))
network, named = function("epsilon_theta"), Law("p_theta", x)
softmax = Sum(exp(k[i]), i, 1, n)


def refused(line, settings=None):
    with pytest.raises(ValueError):  # a WrongStep, or a ValueError that names what cannot be judged
        note(*line, **settings or {})


# ------------------------------------------------------------ equations


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (log(z**2), 2 * log(z)),  # z = -1
        (log((w - frac(1, 12)) ** 2), 2 * log(w - frac(1, 12))),  # w = 1/24
        (sqrt((x + 7) ** 2), x + 7),  # x = -8
        (sqrt((x + 10**9) ** 2), x + 10**9),  # x = -2 10^9
        (sqrt((u - frac(1, 21)) ** 2), u - frac(1, 21)),  # u = 1/100
        (sqrt((n - 20) ** 2), 20 - n),  # n = 21
        (sqrt((log(w) + 4) ** 2), log(w) + 4),  # w = exp(-5)
        (sqrt((exp(x) - exp(-8)) ** 2), exp(x) - exp(-8)),  # x = -9
        (sqrt((bar[t] - bar[t - 1]) ** 2), bar[t - 1] - bar[t]),  # nobody says that alphabar falls
        (sqrt(x**6), x**3),  # x = -1
        ((x**2) ** a, x ** (2 * a)),  # x = -1, a = 1/2
        (sqrt(f(x) ** 2), f(x)),  # f = -1
        (Grad(sqrt((x + 7) ** 2), x), 1),  # x = -8
        (log(x * y), log(x) + log(y)),  # x = y = -1
        (sqrt(-w) * sqrt(-s), sqrt(w * s)),  # w = s = 1: -1, not 1
        (Integral(exp(-(x + 7) * y**2), y), sqrt(pi / (x + 7))),  # diverges at x = -8
        (Integral(exp(-(20 - n) * y**2), y), sqrt(pi / (20 - n))),  # diverges at n = 21
        (Expect(exp(w * z**2 / 50), over=p), 1 / sqrt(1 - w / 25)),  # diverges at w = 30
    ],
)
def test_positivity_is_proved_not_guessed(before, line):
    refused((before, line))


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (exp(x), exp(x) + tiny),
        (exp(x), exp(x) + tinier),
        (exp(x), exp(x) * (1 + tinier)),
        (sqrt(2), sqrt(2) + tinier),
        (log(1 + w), log(1 + w) + tiny * w),
        (exp(x), exp(x) + exp(-500)),
        ((x + y) ** 2, x**2 + 2 * x * y + y**2 + tiny),
        (KL(q, p), half * (mu**2 + s**2 - log(s**2) - 1) + tiny),
    ],
)
def test_what_is_tiny_is_not_nothing(before, line):
    refused((before, line))


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (Grad(Sum(h[t] ** 2, t, 1, T), h[1]), 0),  # h_1 is one of the terms: 2 h_1
        (Grad(Product(alpha[t], t, 1, T), alpha[T]), 0),  # T = 1: 1
        (Integral(Sum(h[t], t, 1, T) * Normal(h[1], a, 1), h[1]), Sum(h[t], t, 1, T)),  # T = 1: a, not h_1
        (Expect(Sum(h[t], t, 1, T), over=Normal(h[1], 0, 1)), Sum(h[t], t, 1, T)),  # T = 1: 0, not h_1
        (Grad(Sum(w**t, t, 1, T), w), Sum(t * w**t, t, 1, T)),  # T = 1: 1, not w
        (Grad(Sum(f(w * t), t, 1, T), w), T * Grad(f(w), w)),  # f(w) = w, T = 2: 3, not 2
        (Grad(Integral(f(theta * x), x), theta), Integral(Grad(f(theta * x), x), x)),  # f a Gaussian: not 0
        (Grad(Integral(f(a * x + b * x**3), x), b), x**2 * Grad(Integral(f(a * x + b * x**3), x), a)),  # x is bound
        (Integral(f(2 * x), x), Integral(f(x), x)),  # f a Gaussian: half
        (Integral(Grad(f(x), x), x), 0),  # f = arctan: pi
        (Integral(f(x) * g[1] * Grad(psi(x), x), x), -Integral(Grad(f(x), x) * g[1] * psi(x), x)),  # no boundary term
        (Integral(x, x), 0),  # diverges
        (Expect(f(z) * z, over=p), 0),  # f(z) = z: 1
        (Expect(z * f(z), over=p), Expect(f(z), over=p)),  # f = 1: 0, not 1
        (Expect(z * f(z), over=p), -Expect(Grad(f(z), z), over=p)),  # f(z) = z: 1, not -1
        (Expect((z - mu) * f(z), over=q), s * Expect(Grad(f(z), z), over=q)),  # f(z) = z: s^2, not s
        (Expect(z * f(z), over=q), s**2 * Expect(Grad(f(z), z), over=q)),  # f = 1: mu, not 0
        (Expect(z**2 * f(z), over=p), Expect(Grad(Grad(f(z), z), z), over=p)),  # f = 1: 1, not 0
        (Grad(Expect(f(z), over=q), mu), Expect(f(z) * (z - mu) / s, over=q)),  # f(z) = z: 1, not s
        (Grad(Expect(f(z), over=q), s), Expect(Grad(f(mu + s * e), mu), over=e)),  # f(z) = z: 0, not 1
        (Integral(f(z) * Grad(q, z), z), Integral(Grad(f(z), z) * q, z)),  # f(z) = z: -1, not 1
        (Expect(f(z), over=q), Expect(f(mu + s**2 * e), over=e)),  # f(z) = z^2
        (Expect(f(z), over=q), f(mu)),  # f(z) = z^2
        (Expect(f(z) ** 2, over=q), Expect(f(z), over=q) ** 2),  # f(z) = z
    ],
)
def test_gradients_and_averages_keep_their_rules(before, line):
    refused((before, line))


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (Integral(exp(-(s**2) / 2), s), sqrt(2 * pi)),  # over positive numbers: half
        (Integral(exp(-(u**2)), u), sqrt(pi)),  # over 0 to 1
        (Integral(Normal(w, 0, 1), w), 1),  # half
        (Expect(w, over=Normal(w, 0, 1)), 0),  # w > 0
        (Expect(sqrt(w**2), over=Normal(w, 0, 1)), 0),  # w > 0
        (Integral(Normal(n, 0, 1), n), 1),  # n is a whole number
        (KL(Normal(w, mu, 1), Normal(w, 0, 1)), half * mu**2),  # neither is a density of w > 0
        (KL(Normal(z, 0, 1), Normal(z, z, 1)), -half),  # no density of z
        (Expect(z, over=Normal(z, z + 1, 1)), z + 1),  # no density of z
    ],
)
def test_integrals_run_over_the_declared_domain(before, line):
    refused((before, line))


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (squared_norm(f(v)), d * f(v) ** 2),  # f(v) is a number
        (squared_norm(a), d * a**2),  # so is a
        (squared_norm(v + x), squared_norm(v) + 2 * x * v + x**2),  # a number added to a vector
        (squared_norm(v * m), squared_norm(v) * squared_norm(m)),  # v = m = (1, 1): 2, not 4
        (squared_norm(v + m), squared_norm(v) + 2 * v * m + squared_norm(m)),  # v m is no number
        (squared_norm(v), v**2),  # a number, not a vector
        (squared_norm(v + m), squared_norm(v) + squared_norm(m)),  # v = m
        (Integral(exp(-squared_norm(v) / 2), v), sqrt(2 * pi)),  # d = 2: 2 pi
        (Expect(squared_norm(v), over=Normal(v, m, s**2)), squared_norm(m) + s**2),  # d = 2: + 2 s^2
        (Expect(squared_norm(noises) ** 2, over=noises), 3 * d),  # d = 2: 8, not 6
        (Expect(squared_norm(noises), over=noises), d + (d - 1) * (d - 2) * (d - 3)),  # d = 4
        (Expect(squared_norm(noises), over=noises), d + (d - 1) * (d - 2) * (d - 3) * tiny),  # d = 4
        (Expect(squared_norm(noises), over=noises), d + Product(d - n, n, 1, 9)),  # d = 10
        (KL(Normal(v, m, s**2), Normal(v, 0, 1)), half * (squared_norm(m) + s**2 - log(s**2) - 1)),  # d = 2
    ],
)
def test_vectors_are_no_numbers(before, line):
    refused((before, line), vectors)


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (Sum(h[t], t, T, 1), Sum(h[t], t, 1, T)),  # T = 2: an empty sum
        (Sum(h[t], t, T + 3, T), -h[T + 1] - h[T + 2]),  # always empty
        (Product(alpha[t], t, T + 2, T), 1 / alpha[T + 1]),  # always empty
        (Sum(Sum(h[j], j, 3, i), i, 1, T), Sum(Sum(h[j], j, 1, i) - h[1] - h[2], i, 1, T)),  # T = 1: 0
        (Sum(h[t - 1], t, 2, T), Sum(h[t], t, 2, T)),  # h_1
        (Sum(h[T - t], t, 0, T), Sum(h[t], t, 1, T)),  # h_0
        (Sum(h[t + 1], t, 1, T), Sum(h[t], t, 2, T)),  # h_(T+1)
        (Sum(log(alpha[t] / alpha[t - 1]), t, 2, T), log(alpha[T] / alpha[2])),  # alpha_1
        ((1 - w) * Sum(w**t, t, 0, T), 1 - w**T),  # T = 1: 1 - w^2
        (Sum(t, t, 1, T), T * (T - 1) / 2),  # T = 1: 1, not 0
        (Sum(t**2, t, 1, T), T * (T + 1) * (2 * T + 1) / 3),  # T = 1: 1, not 2
        (Sum(t**3, t, 1, T), Sum(t, t, 1, T) ** 2 + T - 1),  # T = 2: 9, not 10
        (Sum(Sum(h[i] * g[j], j, i, T), i, 1, T), Sum(Sum(h[i] * g[j], i, j, T), j, 1, T)),  # T = 2: h_1 g_2
        (Sum(Sum(h[i] * g[j], j, i, T), i, 1, T), Sum(Sum(h[i] * g[j], i, 1, j - 1), j, 1, T)),  # the diagonal
        (Sum(Sum(h[j], j, 1, t), t, 1, T), Sum((T - t) * h[t], t, 1, T)),  # T = 1: h_1, not 0
        (Sum(h[t] * alpha[t], t, 1, T), Sum(h[t], t, 1, T) * Sum(alpha[t], t, 1, T)),  # T = 2
        (h[t] * Sum(g[t], t, 1, T), Sum(h[t] * g[t], t, 1, T)),  # the letter of a sum is its own
        (Sum(h[t], t, 1, T) ** 2, Sum(h[t] ** 2, t, 1, T)),  # T = 2
        (log(Product(h[t], t, 1, T)), Sum(log(h[t]), t, 1, T)),  # two factors of -1
        (sqrt(Product(h[t], t, 1, T) ** 2), Product(h[t], t, 1, T)),  # a factor of -1
        (Product(-alpha[t], t, 1, T), -Product(alpha[t], t, 1, T)),  # T = 2
        (Product(w * alpha[t], t, 1, T), w * Product(alpha[t], t, 1, T)),  # T = 2
        (Product(n - j, j, 1, 19) * x, 0 * x),  # n = 20
        (log(Sum(exp(k[i] + c), i, 1, n)), log(softmax) + n * c),  # n = 2
        (exp(k[1]) / Sum(exp(k[i] + c), i, 1, n), exp(k[1]) / softmax),  # c = 1
        (log(exp(k[1]) / softmax), k[1] + log(softmax)),  # the sign
        (Sum(exp(k[i]) / softmax, i, 1, n), n),  # n = 2: 1
        (log(softmax), Sum(k[i], i, 1, n)),  # n = 2
        (Grad(log(Sum(exp(w * k[i]), i, 1, n)), w), Sum(exp(w * k[i]), i, 1, n) / Sum(exp(w * k[i]), i, 1, n)),
    ],
)
def test_sums_of_open_length_keep_their_ends(before, line):
    refused((before, line))


# ------------------------------------------------------------ other relations


@pytest.mark.parametrize(
    ("before", "relation", "line"),
    [
        (x, "<=", 7),
        (x**2, "<=", 41),
        (exp(w), "<=", 600),
        (log(w), ">=", -3),
        (1 / w, "<=", 12),
        (u, ">=", frac(1, 12)),
        (u * (1 - u), ">=", frac(1, 20)),
        (n, "<=", 19),
        (n, ">=", 2),
        (2**n, "<=", 600000),
        ((x - half) ** 2, ">=", tiny),  # x = 1/2
        (x**4 + 1, ">=", 2 * x**2 + tiny),  # x = 1
        (x**2, ">=", x),  # x = 1/2
        (exp(x), ">=", 1 + x + tiny),  # x = 0
        (exp(x), ">=", (1 + x / 8) ** 8),  # x = -20
        (exp(x), ">=", 1 + x + x**2 / 2),  # x = -1
        (log(w), "<=", w - 1 - tiny),  # w = 1
        (half * (w + s), ">=", sqrt(w * s) + tiny),  # w = s
        (half * (x + y), ">=", sqrt(x * y)),  # x = y = -1
        (log(half * (w + s)), "<=", half * (log(w) + log(s))),  # the other way round
        (sqrt(x**2), "<=", x),  # x = -1
        (KL(q, p), "<=", 50),  # mu = 11
        (KL(q, p), ">=", tiny),  # q = p
        (Expect(exp(z), over=q), "<=", exp(mu)),  # Jensen the other way round
        (Expect(-log(q), over=q), ">=", -2),  # s = 1/1000
        (f(x), "<=", 7),
        (Sum(h[t] ** 2, t, 1, T), ">=", h[3] ** 2),  # T = 1
        (sqrt(w + s), ">=", sqrt(w) + sqrt(s)),  # w = s
    ],
)
def test_no_number_of_samples_makes_an_inequality(before, relation, line):
    refused((before, line, relation))


@pytest.mark.parametrize(
    ("before", "relation", "line"),
    [
        (one(x), "<=", 25),  # a narrow density
        (one(x), ">=", tiny),  # a wide one
        (Expect(-log(one(x)), over=one(x)), ">=", -5),  # a narrow one
        (Expect(x**4, over=one(x)), "<=", 10 * Expect(x**2, over=one(x)) ** 2),  # P(x = 1) = 1/1000, else 0
        (KL(other(x), one(x)), "<=", 10),  # q(A) = 1, p(A) = exp(-20)
        (KL(other(x), one(x)), ">=", tiny),  # p = q
        (KL(other(x), one(x)), ">=", KL(one(x), other(x))),  # the two laws changed
        (Expect(f(x) ** 2, over=one(x)), "<=", Expect(f(x), over=one(x)) ** 2 + 200),  # f = 20 and -20
        (log(Expect(psi(x), over=one(x))), "<=", Expect(log(psi(x)), over=one(x)) + 10),  # psi = 1 and exp(40)
        (-log(one(x)), "<=", -log(one(x)) - KL(other(x), one(x))),  # a divergence is not negative
    ],
)
def test_models_alone_make_no_inequality(before, relation, line):
    refused((before, line, relation), pair)


@pytest.mark.parametrize("line", [elbo + 10, elbo, Expect(log(model(x | z)), over=guide(z | x)) - 10**6])
def test_the_evidence_has_no_upper_bound_of_that_kind(line):
    refused((log(model(x)), line, "<="), laws)


@pytest.mark.parametrize(
    ("before", "relation", "line", "of"),
    [
        (theta * model(x | z), "propto", theta**2 * model(x), theta),  # theta = 1, 2
        (theta * model(x), "propto", model(x), (x, theta)),
        (theta**2 + log(model(x)), "const", log(model(x)), theta),
        (f(theta) + log(model(x)), "const", log(model(x)), theta),  # f(theta) = theta
        (bar[1] * model(x), "propto", model(x), bar[1]),
        (f(theta) * model(x), "propto", model(x), f(theta)),
        (model(z | x), "propto", model(x | z), z),  # the prior
        (model(x | z), "propto", model(z | x), x),  # p(x)
        (Sum(h[t] ** 2, t, 1, T), "const", 0 * x, h[1]),  # h_1 is one of the terms
        (exp(-((x - mu) ** 2) / 2), "propto", exp(-(x**2) / 2 - mu**2 / 2), x),  # exp(x mu)
        (log(Normal(x, mu, s**2)), "const", -((x - mu) ** 2) / (2 * s**2), s),  # log s
        (f(x), "propto", f(y), x),
    ],
)
def test_what_of_names_is_varied(before, relation, line, of):
    refused((before, line, relation, of), {"laws": [model], "sizes": {T: (1, 2, 3)}} if "p(" in repr(before) else {})


@pytest.mark.parametrize(
    "before",
    [
        Grad(network(x, t), theta),
        Grad((a - network(x)) ** 2, theta),
        Grad(log(named(x)), theta),
        Grad(log(Law("p", x, latex=r"p_\theta")(x)), theta),
        Grad(Expect(f(x), over=named(x)), theta),
        Grad(symbol("epsilon_theta") * x, theta),
        Grad(family("epsilon_theta")[t], theta),
        Grad(KL(Law("q_theta", z)(z), Law("p", z)(z)), theta),
    ],
)
def test_a_parameter_in_a_name_has_a_gradient(before):
    with pytest.raises(ValueError, match="a parameter must be an argument"):
        note(before, 0)


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (a * e1 + b * e2, (a + b) * e),  # variances add up, not deviations
        (w * e1 + s * e1, sqrt(w**2 + s**2) * e),  # one noise, twice
        (e1 - e1 + e2, sqrt(3) * e),
        (mu + s * e1, s * e2),  # the mean
        (e1**2, e2**2),  # no sum of noises
        (noises, e),  # a vector
        (Sum(family("eta", "noise")[t], t, 1, T) + family("eta", "noise")[1], Sum(family("eta", "noise")[t], t, 1, T)),
    ],
)
def test_laws_of_noises(before, line):
    refused((before, line, "law"))


# ------------------------------------------------------------ definitions and laws


@pytest.mark.parametrize(
    ("before", "line", "where"),
    [
        (Sum(h[t], t, 1, T), T, {h[t]: 1 + 0 * x, h[1]: 2}),  # h_1 has two values
        (f(x) * f(y), x**2 * y**3, {f(x): x**2, f(y): y**3}),  # x = y = 2
        (sqrt(s**2) + s, 0, {s: -1}),  # s is declared positive
        (log(1 - u), 0, {u: 2}),  # u lies between 0 and 1
        (2 * n, 1, {n: frac(1, 2)}),  # n is whole
        (Sum(1 + 0 * x, t, 1, T), -3, {T: -3}),
        (x - x + 1, 0, {x: x + 1}),
        (Expect(e * c, over=e), 0, {c: a + 1, a: b * e}),  # c holds the noise: b
        (Expect(e * h[2], over=e), 0, {h[t]: x + e}),  # so does h_2: 1
        (Grad(c * y, x), 0, {c: x**2}),  # 2 x y
        (Sum(t, t, 1, T), 6, {T: 2}),  # 3
        (Sum(h[t], t, 1, T), h[1], {T: 2}),  # + h_2
        (Integral(named(x), x), 2, {named(x): 2 * Normal(x, 0, 1)}),  # a density adds up to 1
        (log(named(x) ** 2), 2 * log(named(x)), {named(x): x}),  # no density
    ],
)
def test_definitions_mean_one_thing_each(before, line, where):
    refused((before, line), {"where": where})


def test_the_dimension_may_be_a_number():
    with pytest.raises(ValueError):
        note(Expect(squared_norm(noises), over=noises), 15, where={d: 16}, dimension=d)


def minor(row, column, entries):
    return [[x for k, x in enumerate(r) if k != column] for n, r in enumerate(entries) if n != row]


def determinant(entries):
    if len(entries) == 1:
        return entries[0][0]
    signed = [(-1) ** k * entries[0][k] * determinant(minor(0, k, entries)) for k in range(len(entries))]
    return sum(signed[1:], signed[0])


@pytest.mark.parametrize("states", [2, 3])
def test_what_is_true_of_few_states_is_refused(states):
    """The moments of a variable of n states are linearly dependent from the n-th on."""
    moments = [1 + 0 * y, *(Expect(x**k, over=one(x)) for k in range(1, 2 * states + 1))]
    rows = [[moments[i + j] for j in range(states + 1)] for i in range(states + 1)]
    refused((determinant(rows), 0), {"laws": [one]})


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (chain(state[1] | state[2]), chain(state[2] | state[1])),
        (chain(state[1] | state[2], state[0]), chain(state[1] | state[2])),
        (chain(state[1:3] | state[0]), Product(chain(state[t] | state[0]), t, 1, 3)),
        (chain(state[2] | state[0]), chain(state[2] | state[1])),
        (log(chain(state[0])), log(chain(state[0])) + (T - 2) * (T - 3)),  # 0 at the tested sizes
    ],
)
def test_chains(before, line):
    refused((before, line), {"laws": [chain], "sizes": {T: (2, 3) if "T" in repr(line) else (3,)}})


@pytest.mark.parametrize("size", [(2, 3), (2, 3, 4)])
def test_a_polynomial_that_vanishes_at_the_sizes_is_refused(size):
    zero = Product(T - n, n, 2, 4)
    for relation in ("=", ">="):
        refused((x**2 * zero, 0 * x, relation), {"sizes": {T: size}})


# ------------------------------------------------------------ true under a premise


@pytest.mark.parametrize(
    ("before", "line", "premise"),
    [
        (x / x, 1, r"where $x \ne 0$"),
        ((x**2 - y**2) / (x - y), x + y, r"where $x - y \ne 0$"),
        (x * x ** (-1), 1, r"where $x \ne 0$"),
        (f(x) / f(x), 1, r"where $f(x) \ne 0$"),
        (log(w) / log(w), 1, r"\ne 0$"),  # w = 1
        ((alpha[t] - bar[t]) / (alpha[t] - bar[t]), 1, r"where $\alpha_{t} - \bar{\alpha}_{t} \ne 0$"),
        (a * Expect(z / a, over=q), mu, r"where $a \ne 0$"),
        (Sum(w**t, t, 0, T - 1), (1 - w**T) / (1 - w), r"where $1 - w \ne 0$"),
        (Product(h[t], t, 1, T) / Product(h[t], t, 1, T - 1), h[T], r"where $\prod_{t=1}^{T - 1} h_{t} \ne 0$"),
        (Sum(h[t], t, 3, T), Sum(h[t], t, 1, T) - h[1] - h[2], r"for $T \ge 2$"),
        (Sum(log(alpha[t] / alpha[t - 1]), t, 5, T), log(alpha[T] / alpha[4]), r"for $T \ge 4$"),
        (Product(alpha[t], t, 3, T), Product(alpha[t], t, 1, T) / (alpha[1] * alpha[2]), r"for $T \ge 2$"),
        (Sum(c, t, n, T), c * (T - n + 1), r"for $T \ge n - 1$"),
        (Sum(h[t], t, 1, n) + Sum(h[t], t, n + 1, T), Sum(h[t], t, 1, T), r"for $T \ge n$"),
        (Sum(h[t], t, T, n), h[T] + Sum(h[t], t, T + 1, n), r"for $n \ge T$"),
        (Expect(y**2, over=Normal(y, 0, x)), x, "where $x > 0$"),
        (KL(Normal(z, a, b), Normal(z, 0, 1)), half * (a**2 + b - log(b) - 1), "where $b > 0$"),
        (Grad(h[1] * h[T], h[1]), h[T], r"for $T \ge 2$"),
        (Normal(x, 0, w / (1 - b)) * (1 - b), (1 - b) * Normal(x, 0, w / (1 - b)), r"where $\frac{w}{1 - b} > 0$"),
        (Expect(e * f(x), over=e), 0, r"taking $\epsilon$ to be independent of the arguments of $f$"),
    ],
)
def test_the_footnote_names_the_premise(before, line, premise):
    assert premise in note(before, line)


@pytest.mark.parametrize(
    ("before", "relation", "line", "premise"),
    [
        (log(x), "<=", x - 1, "where $x > 0$"),
        (log(f(x)), "<=", f(x) - 1, "where $f(x) > 0$"),
    ],
)
def test_the_footnote_of_a_bound_names_the_premise(before, relation, line, premise):
    assert premise in note(before, line, relation)


def test_of_laws_too():
    jensen = log(Expect(f(x), over=one(x))), Expect(log(f(x)), over=one(x)), ">="
    assert "where $f(x) > 0$" in note(*jensen, laws=[one])


def test_noises_of_one_name_are_one():
    vector_noise = noise("epsilon", vector=True)
    with pytest.raises(ValueError, match="names two things"):
        note(e + 0 * x, Expect(squared_norm(vector_noise), over=vector_noise))
