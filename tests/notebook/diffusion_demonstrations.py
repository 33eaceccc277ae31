"""The derivations that the diffusion chapters need: forward, reverse, objective, guidance."""

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
    every,
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

half = frac(1, 2)
t, T = symbols("t T", "integer")
alpha, alphabar, beta = (family(name, "unit") for name in ("alpha", "alphabar", "beta"))
x, epsilon = family("x"), family("epsilon", "noise")
schedule = {alphabar[t]: alpha[t] * alphabar[t - 1], beta[t]: 1 - alpha[t]}


def forward() -> list[Derivation]:
    where = {
        x[t]: sqrt(alpha[t]) * x[t - 1] + sqrt(1 - alpha[t]) * epsilon[t],
        x[t - 1]: sqrt(alpha[t - 1]) * x[t - 2] + sqrt(1 - alpha[t - 1]) * epsilon[t - 1],
    }
    merged = noise("epsilonbar")
    two = Derivation(x[t], name="two-steps", where=where)
    two.step(sqrt(alpha[t]) * x[t - 1] + sqrt(1 - alpha[t]) * epsilon[t], because="One step.")
    two.step(
        sqrt(alpha[t]) * bracket(sqrt(alpha[t - 1]) * x[t - 2] + sqrt(1 - alpha[t - 1]) * epsilon[t - 1])
        + sqrt(1 - alpha[t]) * epsilon[t],
        because="Substitute the step before.",
    )
    two.step(
        sqrt(alpha[t] * alpha[t - 1]) * x[t - 2]
        + sqrt(alpha[t] * (1 - alpha[t - 1])) * epsilon[t - 1]
        + sqrt(1 - alpha[t]) * epsilon[t],
        because="Expand.",
    )
    two.step(
        sqrt(alpha[t] * alpha[t - 1]) * x[t - 2] + sqrt(alpha[t] * (1 - alpha[t - 1]) + (1 - alpha[t])) * merged,
        because="Variances add.",
        relation="law",
    )
    two.step(
        sqrt(alpha[t] * alpha[t - 1]) * x[t - 2] + sqrt(1 - alpha[t] * alpha[t - 1]) * merged,
        because="Simplify.",
    )

    closed = {
        x[t]: sqrt(alpha[t]) * x[t - 1] + sqrt(1 - alpha[t]) * epsilon[t],
        x[t - 1]: sqrt(alphabar[t - 1]) * x[0] + sqrt(1 - alphabar[t - 1]) * epsilon[t - 1],
        **schedule,
    }
    induction = Derivation(x[t], name="induction", where=closed)
    induction.step(
        sqrt(alpha[t]) * (sqrt(alphabar[t - 1]) * x[0] + sqrt(1 - alphabar[t - 1]) * epsilon[t - 1])
        + sqrt(1 - alpha[t]) * epsilon[t],
        because="The hypothesis.",
    )
    induction.step(sqrt(alphabar[t]) * x[0] + sqrt(1 - alphabar[t]) * merged, because="Merge.", relation="law")
    products = Derivation(Product(alpha[t], t, 1, T), name="products")
    products.step(alpha[T] * Product(alpha[t], t, 1, T - 1), because="Split off the last factor.")

    y, u, m = symbols("y u m")
    a, b = symbols("a b", "positive")
    convolution = Derivation(Integral(Normal(y, u, b**2) * Normal(u, m, a**2), u), name="convolution")
    convolution.step(Normal(y, m, a**2 + b**2), because="Variances add.")
    return [two, induction, products, convolution]


def reverse() -> list[Derivation]:
    a = symbol("a", "positive")
    y, b = symbols("y b")
    toy = Derivation(exp(-half * (a * y**2 - 2 * b * y)), name="toy")
    toy.step(exp(-half * a * (y**2 - 2 * b / a * y)), because="Take $a$ out.")
    toy.step(exp(-half * a * ((y - b / a) ** 2 - b**2 / a**2)), because="Complete the square.")
    toy.step(exp(-half * a * (y - b / a) ** 2), because="The rest is free of $y$.", relation="propto", of=y)
    toy.step(Normal(y, b / a, 1 / a), because="A Gaussian.", relation="propto", of=y)

    q = Law("q", x[0], every(t, 1, T, x[t] | x[t - 1]))
    before, now, start = x[t - 1], x[t], x[0]
    gaussians = {
        q(now | before, start): Normal(now, sqrt(alpha[t]) * before, beta[t]),
        q(before | start): Normal(before, sqrt(alphabar[t - 1]) * start, 1 - alphabar[t - 1]),
        q(now | start): Normal(now, sqrt(alphabar[t]) * start, 1 - alphabar[t]),
        **schedule,
    }
    bayes = Derivation(
        q(before | now, start), name="posterior", laws=[q], where=gaussians, sizes={T: (4,), t: (2, 3, 4)}
    )
    bayes.step(q(before, now, start) / q(now, start), because="7.1 Definition of conditional probability.")
    bayes.step(
        q(now | before, start) * q(before | start) * q(start) / (q(now | start) * q(start)),
        because="7.2 Chain.",
    )
    bayes.step(q(now | before, start) * (q(before | start) / q(now | start)), because="7.3 Cancel $q(x_0)$.")
    bayes.step(
        exp(
            -half
            * (
                (now - sqrt(alpha[t]) * before) ** 2 / beta[t]
                + (before - sqrt(alphabar[t - 1]) * start) ** 2 / (1 - alphabar[t - 1])
                - (now - sqrt(alphabar[t]) * start) ** 2 / (1 - alphabar[t])
            )
        ),
        because="7.4 Three Gaussians.",
        relation="propto",
        of=(before, now, start),
    )
    square, linear = (
        alpha[t] / beta[t] + 1 / (1 - alphabar[t - 1]),
        (2 * sqrt(alpha[t]) / beta[t] * now + 2 * sqrt(alphabar[t - 1]) / (1 - alphabar[t - 1]) * start),
    )
    bayes.step(
        exp(-half * (bracket(square) * before**2 - bracket(linear) * before + function("C")(now, start))),
        because="7.5 Collect powers.",
        relation="propto",
        of=before,
    )
    variance = (1 - alphabar[t - 1]) / (1 - alphabar[t]) * beta[t]
    mean = (
        sqrt(alpha[t]) * (1 - alphabar[t - 1]) / (1 - alphabar[t]) * now
        + sqrt(alphabar[t - 1]) * beta[t] / (1 - alphabar[t]) * start
    )
    bayes.step(Normal(before, mean, variance), because="Read off.", relation="propto", of=before)

    width = Derivation(1 / (alpha[t] / beta[t] + 1 / (1 - alphabar[t - 1])), name="width", where=schedule)
    width.step(1 / ((alpha[t] * (1 - alphabar[t - 1]) + beta[t]) / (beta[t] * (1 - alphabar[t - 1]))), because="Add.")
    width.step(beta[t] * (1 - alphabar[t - 1]) / (alpha[t] - alpha[t] * alphabar[t - 1] + beta[t]), because="Invert.")
    width.step(beta[t] * (1 - alphabar[t - 1]) / (1 - alphabar[t]), because="Two identities.")

    noise_t = symbol("epsilon_t")
    centre = Derivation(
        mean,
        name="centre",
        where={start: (now - sqrt(1 - alphabar[t]) * noise_t) / sqrt(alphabar[t]), **schedule},
    )
    centre.step(
        sqrt(alpha[t]) * (1 - alphabar[t - 1]) / (1 - alphabar[t]) * now
        + sqrt(alphabar[t - 1])
        * beta[t]
        / (1 - alphabar[t])
        * ((now - sqrt(1 - alphabar[t]) * noise_t) / sqrt(alphabar[t])),
        because="Put in.",
    )
    centre.step(
        (sqrt(alpha[t]) * (1 - alphabar[t - 1]) / (1 - alphabar[t]) + beta[t] / (sqrt(alpha[t]) * (1 - alphabar[t])))
        * now
        - beta[t] * sqrt(1 - alphabar[t]) / (sqrt(alpha[t]) * (1 - alphabar[t])) * noise_t,
        because="Collect.",
    )
    centre.step(
        (alpha[t] * (1 - alphabar[t - 1]) + beta[t]) / (sqrt(alpha[t]) * (1 - alphabar[t])) * now
        - beta[t] / (sqrt(alpha[t]) * sqrt(1 - alphabar[t])) * noise_t,
        because="One denominator.",
    )
    centre.step(
        1 / sqrt(alpha[t]) * (now - beta[t] / sqrt(1 - alphabar[t]) * noise_t),
        because="The numerator cancels.",
    )
    return [toy, bayes, width, centre]


def objective() -> list[Derivation]:
    q = Law("q", x[0], every(t, 1, T, x[t] | x[t - 1]))
    p = Law("p", x[T], every(t, 1, T, x[t - 1] | x[t]), latex=r"p_\theta")
    prior, path = p.shown_as("p"), q(x[1:T] | x[0])
    many = {"laws": [q, p], "sizes": {T: (2, 3, 4)}}
    bound = Derivation(-log(p(x[0])), name="bound", **many)
    bound.step(-log(p(x[0])) + KL(path, p(x[1:T] | x[0])), because="KL is not negative.", relation="<=")
    bound.step(
        -log(p(x[0])) + Expect(log(q(x[1:T] | x[0]) / (p(x[0:T]) / p(x[0]))), over=path),
        because="Write it out.",
    )
    bound.step(-log(p(x[0])) + Expect(log(q(x[1:T] | x[0]) / p(x[0:T])) + log(p(x[0])), over=path), because="Split.")
    bound.step(Expect(log(q(x[1:T] | x[0]) / p(x[0:T])), over=path), because="Cancel.")

    forward_step, reverse_step = q(x[t] | x[t - 1]), p(x[t - 1] | x[t])
    posterior = q(x[t - 1] | x[t], x[0])
    first, end = log(q(x[1] | x[0]) / p(x[0] | x[1])), log(prior(x[T]))
    swap = Derivation(forward_step, name="swap", laws=[q], sizes={T: (4,), t: (2, 3, 4)})
    swap.step(q(x[t] | x[t - 1], x[0]), because="Markov.")
    swap.step(q(x[t], x[t - 1], x[0]) / q(x[t - 1], x[0]), because="Definition.")
    swap.step(q(x[t - 1] | x[t], x[0]) * q(x[t], x[0]) / q(x[t - 1], x[0]), because="Chain.")
    swap.step(
        q(x[t - 1] | x[t], x[0]) * q(x[t] | x[0]) * q(x[0]) / (q(x[t - 1] | x[0]) * q(x[0])),
        because="Chain twice.",
    )
    swap.step(q(x[t - 1] | x[t], x[0]) * q(x[t] | x[0]) / q(x[t - 1] | x[0]), because="Cancel.")

    nine = Derivation(Expect(log(q(x[1:T] | x[0]) / p(x[0:T])), over=path), name="nine", **many)
    nine.step(
        Expect(log(Product(forward_step, t, 1, T) / (prior(x[T]) * Product(reverse_step, t, 1, T))), over=path),
        because="Factor both chains.",
    )
    nine.step(Expect(-end + Sum(log(forward_step / reverse_step), t, 1, T), over=path), because="Logs.")
    nine.step(
        Expect(-end + Sum(log(forward_step / reverse_step), t, 2, T) + first, over=path),
        because="Split off $t=1$.",
    )
    nine.step(
        Expect(
            -end + Sum(log(posterior / reverse_step * (q(x[t] | x[0]) / q(x[t - 1] | x[0]))), t, 2, T) + first,
            over=path,
        ),
        because="Markov, then Bayes.",
        detail=swap,
    )
    nine.step(
        Expect(
            -end
            + Sum(log(posterior / reverse_step), t, 2, T)
            + Sum(log(q(x[t] | x[0]) / q(x[t - 1] | x[0])), t, 2, T)
            + first,
            over=path,
        ),
        because="Two sums.",
    )
    nine.step(
        Expect(
            -end + Sum(log(posterior / reverse_step), t, 2, T) + log(q(x[T] | x[0]) / q(x[1] | x[0])) + first,
            over=path,
        ),
        because="The second sum telescopes.",
    )
    nine.step(
        Expect(
            log(q(x[T] | x[0]) / prior(x[T])) + Sum(log(posterior / reverse_step), t, 2, T) - log(p(x[0] | x[1])),
            over=path,
        ),
        because="Combine.",
    )
    nine.step(
        Expect(
            brace(KL(q(x[T] | x[0]), prior(x[T])), "L_T")
            + Sum(brace(KL(posterior, reverse_step), "L_{t-1}"), t, 2, T)
            - brace(log(p(x[0] | x[1])), "-L_0"),
            over=path,
        ),
        because="Recognise the divergences.",
    )

    m, d, s = vector("mutilde"), symbol("d", "integer"), symbol("sigma_t", "positive")
    theta, state = vector("mu_theta"), vector("x_prev", latex=r"x_{t-1}")
    term = Derivation(KL(Normal(state, m, s**2), Normal(state, theta, s**2)), name="term", dimension=d)
    term.step(1 / (2 * s**2) * squared_norm(m - theta), because="Equal variances.")
    eps, guess, here = vector("epsilon"), function("epsilon_theta", vector=True), vector("x_t")
    both = {
        m: 1 / sqrt(alpha[t]) * (here - beta[t] / sqrt(1 - alphabar[t]) * eps),
        theta: 1 / sqrt(alpha[t]) * (here - beta[t] / sqrt(1 - alphabar[t]) * guess(here, t)),
    }
    weight = Derivation(1 / (2 * s**2) * squared_norm(m - theta), name="weight", where=both)
    weight.step(
        beta[t] ** 2 / (2 * s**2 * alpha[t] * (1 - alphabar[t])) * squared_norm(eps - guess(here, t)),
        because="The states cancel.",
    )
    return [bound, swap, nine, term, weight]


def guidance() -> list[Derivation]:
    state, label = symbols("x_t y")
    p = Law("p")
    score = Derivation(Grad(log(p(state | label)), state), name="score", laws=[p])
    score.step(Grad(log(p(label | state) * p(state) / p(label)), state), because="Bayes.")
    score.step(Grad(log(p(label | state)), state) + Grad(log(p(state)), state), because="$p(y)$ is free of $x_t$.")
    where = {state: sqrt(alphabar[t]) * x[0] + sqrt(1 - alphabar[t]) * symbol("epsilon")}
    y = symbol("u")
    gauss = Derivation(Grad(log(Normal(y, sqrt(alphabar[t]) * x[0], 1 - alphabar[t])), y), name="gauss", where=where)
    gauss.step(-(y - sqrt(alphabar[t]) * x[0]) / (1 - alphabar[t]), because="Differentiate.")
    h, width, C, M = symbols("h w C M", "integer")
    tiles = Derivation(
        4 * h * width * C**2 + 2 * (h * width) ** 2 * C - bracket(4 * h * width * C**2 + 2 * M**2 * h * width * C),
        name="tiles",
    )
    tiles.step(2 * h * width * C * (h * width - M**2), because="Swin: the saving.")
    return [score, gauss, tiles]
