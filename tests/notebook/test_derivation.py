"""Derivations: the right ones are displayed, every wrong one is refused, in words that help."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.notebook.derivation import Derivation, WrongStep, recording
from lib.notebook.formulas import (
    KL,
    Expect,
    Grad,
    Integral,
    Law,
    Normal,
    Sum,
    brace,
    every,
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
from lib.notebook.formulas.expression import wrap
from lib.notebook.formulas.vectors import is_vector

z, mu = symbols("z mu")
sigma = symbol("sigma", "positive")
q, p = Normal(z, mu, sigma**2), Normal(z, 0, 1)
half = frac(1, 2)
RELATIONS = ["le", "leq", "leqslant", "ge", "lt", "approx", "equiv", "propto", "ne", "neq", "sim", "coloneqq"]


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
    with pytest.raises(WrongStep, match="no square, no declared domain and no log a <= a - 1"):
        squares.step(3 * a * b, because="?", relation=">=")
    with pytest.raises(WrongStep, match=r"at a = \S+, b = "):
        squares.step(-3 * a**2 - b**2, because="?", relation="<=")
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


def expanded(**settings) -> Derivation:
    y, a, b = symbols("y a b")
    first = Derivation(y, name="first", where={y: (a + b) ** 2}, **settings)
    first.step(a**2 + 2 * a * b + b**2, because="Expand.")
    return first


def test_a_finished_derivation_serves_as_a_definition_with_all_that_it_took_for_granted():
    y, a, b, k = symbols("y a b k")
    second = Derivation(2 * y, name="second", given=[expanded()])
    second.step(2 * a**2 + 4 * a * b + 2 * b**2, because="From the first.")
    assert dict(second.where) == {y: a**2 + 2 * a * b + b**2} and "y := a^{2}" in repr(second._repr_mimebundle_())
    third = Derivation(k * a, name="third", where={a: 2})
    third.step(2 * k, because="The definition.")
    with pytest.raises(ValueError, match="where: wanted symbols, densities or calls as keys"):
        Derivation(k, name="d", given=[third])
    doubled = Derivation(y, name="doubled", where={y: k * a, a: 2})
    doubled.step(2 * k, because="The definitions.")
    assert dict(Derivation(y, name="d", given=[doubled]).where) == {a: wrap(2), y: 2 * k}
    with pytest.raises(ValueError, match="where: a is defined twice, as 3 and as 2"):
        Derivation(y, name="d", where={a: 3}, given=[doubled])
    with pytest.raises(ValueError, match="y is defined twice"):
        Derivation(y, name="d", where={y: 3}, given=[doubled])


def test_a_derivation_that_holds_elsewhere_or_was_only_tested_is_no_definition():
    x, n, d = symbol("x"), symbol("n", "integer"), symbol("d", "integer")
    y, a, b = symbols("y a b")
    squares = Derivation(a**2 + b**2, name="squares")
    squares.step(2 * a * b, because="Squares.", relation=">=")
    model = Law("p", z, x | z)
    joint = Derivation(model(x, z), name="joint", laws=[model])
    joint.step(model(z) * model(x | z), because="The chain rule.")
    for other, message in (
        (squares, "does not prove an equation"),
        (Derivation(y, name="empty"), "does not prove an equation"),
        (y, "wanted derivations"),
        (joint, "joint holds for its own laws"),
        (expanded(sizes={n: (2, 3)}), "first holds for its own laws, sizes"),
        (expanded(dimension=d), "first holds for its own laws, sizes and dimension"),
    ):
        with pytest.raises(ValueError, match=message):
            Derivation(y, name="d", given=[other])
    Derivation(y, name="d", dimension=d, given=[expanded(dimension=d)])
    Derivation(log(model(x, z)), name="d", laws=[model], given=[joint])
    tested = expanded()
    object.__setattr__(tested.lines[-1], "note", "where $a > 0$")  # as the checker would note it
    with pytest.raises(ValueError, match=r"only tested \(where \$a > 0\$\)"):
        Derivation(y, name="d", given=[tested])


def test_derivations_cannot_take_each_other_for_granted():
    """``given`` is settled when a derivation starts, and what it takes from there is finished by then."""
    first = expanded()
    second = Derivation(first.last, name="second", given=[first])
    before = dict(second.where)
    first.step(0 + first.last, because="Later.")
    assert dict(second.where) == before
    y, a = symbols("y a")
    knot = Derivation(a, name="knot", where={a: y})
    knot.step(y, because="The definition.")
    with pytest.raises(ValueError, match="leads back to itself"):
        Derivation(a, name="d", where={y: a}, given=[knot]).step(y, because="?")


def test_one_thing_has_one_definition():
    t, s = symbols("t s", "integer")
    alpha, beta, x = family("alpha", "unit"), family("beta", "unit"), family("x")
    chain = Law("q")
    Derivation(beta[2], name="d", where={beta[t]: 1 - alpha[t], beta[2]: 1 - alpha[2], beta[0]: 0})
    for where, twice in (
        ({beta[t]: 1 - alpha[t], beta[2]: 1 - alpha[1]}, r"beta\[2\]"),
        ({beta[1]: frac(1, 2), beta[t]: alpha[t]}, r"beta\[1\]"),
        ({beta[t]: 1 - alpha[t], beta[s]: alpha[s]}, r"beta\["),
        (
            {chain(x[t] | x[t - 1]): Normal(x[t], 0, 1), chain(x[2] | x[1]): Normal(x[2], 0, 2)},
            r"q\(x\[2\] \| x\[1\]\)",
        ),
        ({chain(z): Normal(z, 0, 1), chain.shown_as("r")(z): Normal(z, 0, 2)}, r"q\(z\)"),
    ):
        with pytest.raises(ValueError, match=f"where: {twice}.* is defined twice"):
            Derivation(mu, name="d", where=where)
    with pytest.raises(ValueError, match="pi is a constant"):
        Derivation(mu, name="d", where={pi: 3})
    other = Law("q", x[0])
    with pytest.raises(ValueError, match="laws: two laws are named q"):
        Derivation(mu, name="d", laws=[Law("q", x[0], x[1] | x[0]), other])
    Derivation(mu, name="d", laws=[other, other.shown_as("r")])


# ------------------------------------------------------------ one print, one thing


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (symbol("x"), symbol("x", latex="y")),
        (symbol("x"), symbol("x", "positive")),
        (symbol("x"), vector("x")),
        (symbol("x"), noise("x")),
        (symbol("x"), symbol("y", latex="x")),
        (symbol("s_1"), family("s")[1]),
        (symbol("s_1"), family("s")[symbol("t", "integer")] + family("s")[2]),
        (family("s")[1], family("s", "positive")[2]),
        (pi, symbol("ratio", latex=r"\pi")),
        (function("f")(z), symbol("f")),
        (function("f")(z), function("f", "positive")(z)),
        (function("f")(z), Law("f")(z)),
        (Law("p")(z), Law("q", latex="p")(z)),
        (Law("p").shown_as("q")(z), Law("q")(z)),
    ],
)
def test_two_things_that_look_alike_are_refused(first, second):
    message = "two things: the .* and the "
    d = Derivation(first, name="d")
    with pytest.raises(ValueError, match=message):
        d.step(second, because="They look the same.")
    with pytest.raises(ValueError, match=message):
        d.step(first, because="Nothing.", detail=[(first + 0 * second, "Nothing.")])
    with pytest.raises(ValueError, match=message):
        Derivation(first + second, name="d")
    with pytest.raises(ValueError, match=message):
        Derivation(first, name="d", where={symbol("c"): squared_norm(second) if is_vector(second) else second})
    lemma = Derivation(second, name="lemma")
    with pytest.raises(ValueError, match=message):
        d.step(first, because="A lemma.", detail=lemma)
    assert len(d.lines) == 1


@pytest.mark.parametrize("sign", [*"=<>≤≥≈≡≠∝∼", *(rf"\{name}" for name in RELATIONS)])
def test_labels_and_letters_hold_no_relation(sign):
    half_mu = half * mu**2
    d = Derivation(half_mu, name="d")
    for start, line, message in (
        (half_mu, brace(half_mu, f"{sign} 0"), "label: wanted a name .* write the value as a step"),
        (mu, symbol("mu_0", latex=f"x {sign} 0"), "latex: wanted a letter"),
        (mu, family("x", latex=f"x {sign} 0")[1], "latex: wanted a letter"),
        (mu, Law("p", latex=f"x {sign} p")(z), "latex: wanted a letter"),
    ):
        with pytest.raises(ValueError, match=message):
            d.step(line, because="?")
        with pytest.raises(ValueError, match=message):
            Derivation(start + line, name="d")


def test_labels_and_letters_are_names():
    for label in (r"\text{free of }\theta", "L_{t-1}", "-L_0", r"1\times1", "Q,K,V", r"\left(\text{old}\right)"):
        Derivation(brace(mu, label), name="d")
    for shown in (r"\nabla\log p(x_t\mid c-1)", r"x_{t-1}", r"\bar\alpha'", r"\epsilon_\varnothing"):
        Derivation(symbol("y", latex=shown), name="d")
    for shown in ("a + b", "-a"):
        with pytest.raises(ValueError, match="latex: wanted a letter"):
            Derivation(symbol("y", latex=shown), name="d")
    for named_log in (symbol("log"), function("log")(z), Law("KL")(z), family("exp")[1]):
        with pytest.raises(ValueError, match=r"name: .* has a fixed meaning"):
            Derivation(named_log, name="d")


def test_a_symbol_named_pi_is_not_the_constant():
    area = Integral(exp(-(z**2)), z)
    for weight in symbol("pi", "positive"), symbol("pi"), family("pi", "unit")[1], function("pi", "positive")(mu):
        with pytest.raises(WrongStep):
            Derivation(area, name="d").step(sqrt(weight), because="?")
        with pytest.raises(WrongStep):
            Derivation(log(weight**2) / 2, name="d").step(frac(114, 100), because="?", relation=">=")
    for weight in symbol("pi", "positive"), function("pi")(mu):
        with pytest.raises(ValueError, match="two things: the constant pi and the "):
            Derivation(pi * weight, name="d")
    with pytest.raises(ValueError, match=r"a density is of what can vary, got q\(z \| pi\)"):
        Derivation(Law("q")(z | pi), name="d")
    with pytest.raises(ValueError, match="first: wanted a density of what can vary"):
        KL(Normal(pi, 0, 1), Normal(pi, 0, 1))
    Derivation(area, name="d").step(sqrt(pi), because="The bell.")


def test_what_a_refused_step_held_is_not_remembered():
    x, y = symbols("x y")
    d = Derivation(x, name="d")
    with pytest.raises(WrongStep):
        d.step(y, because="?")
    d.step(x + 0 * symbol("y", "positive"), because="Nothing added.")


def test_things_that_differ_to_the_eye_may_share_a_name():
    t = symbol("t", "integer")
    x, p_theta = family("x", "positive"), Law("p", latex=r"p_\theta")
    d = Derivation(vector("x") + x[t] + x[1] + p_theta(z) + p_theta.shown_as("p")(z), name="d")
    assert len(d.lines) == 1


# ------------------------------------------------------------ parameters in names

theta, phi, x_ = symbols("theta phi x")
t_ = symbol("t", "integer")


@pytest.mark.parametrize(
    "body",
    [
        function("epsilon_theta")(x_, t_),
        (x_ - function("epsilon_theta")(x_)) ** 2,
        log(Law("p", latex=r"p_\theta")(x_)),
        log(Law("p_theta")(x_)),
        Expect(z, over=Law("q_theta")(z | x_)),
        Expect(phi, over=Law("q", latex=r"q_{\phi,\theta}")(z)),
        function("f_theta")(theta * x_),
        symbol("mu_theta") * theta,
    ],
)
def test_a_parameter_that_only_stands_in_a_name_is_refused(body):
    message = "carries theta only in its name; a parameter must be an argument"
    d = Derivation(Grad(body, theta), name="d")
    with pytest.raises(ValueError, match=f"variable: .* {message}"):
        d.step(0, because="?")
    hidden = Derivation(Grad(z, theta), name="d", where={z: phi * body, phi: theta})
    with pytest.raises(ValueError, match=f"variable: .* {message}"):
        hidden.step(0, because="?")
    outer = Derivation(mu, name="d", where={mu: Grad(body, theta)})
    with pytest.raises(ValueError, match=f"variable: .* {message}"):
        outer.step(0, because="?")
    for relation, line in (("propto", 2 * body), ("const", body + 1)):
        with pytest.raises(ValueError, match=f"of: .* {message}"):
            Derivation(body, name="d").step(line, because="?", relation=relation, of=(mu, theta))


def test_a_parameter_that_is_an_argument_or_defined_is_seen():
    f = function("f_theta")
    d = Derivation(Grad(theta * f(x_, theta), theta), name="d")
    d.step(f(x_, theta) + theta * Grad(f(x_, theta), theta), because="The product rule.")
    d = Derivation(Grad(f(x_), theta), name="d", where={f(x_): theta * x_})
    with pytest.raises(WrongStep):
        d.step(0, because="?")
    d.step(x_, because="The definition.")
    d = Derivation(Grad(f(x_) ** 2, x_), name="d")
    d.step(2 * f(x_) * Grad(f(x_), x_), because="By $x$, an argument.")


# ------------------------------------------------------------ the record


def test_the_record_cannot_be_altered():
    d = Derivation(mu, name="d", where={mu: sigma**2}, laws=[Law("p", z)])
    d.step(sigma**2, because="The definition.")
    with pytest.raises(AttributeError):
        d.lines.append(d.lines[0])
    for name, value in (("lines", ()), ("laws", ()), ("where", {}), ("steps", []), ("last", mu)):
        with pytest.raises(AttributeError):
            setattr(d, name, value)
    with pytest.raises(TypeError):
        d.where[mu] = z
    with pytest.raises(AttributeError):
        d.lines[1].expression = z
    with pytest.raises(AttributeError):
        d.lines[1].expression.power = z
    assert d.where[mu] == d.last == sigma**2


def test_recording_collects_what_is_made_inside_it_only():
    start()
    with recording() as outer:
        first = start()
        with recording() as inner:
            second = start()
    start()
    assert inner == [second] and outer == [first, second]
