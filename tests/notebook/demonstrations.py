"""The derivations that the chapters need, written out in full: each builder returns finished derivations."""

from lib.notebook.derivation import Derivation
from lib.notebook.formulas import (
    KL,
    Expect,
    Grad,
    Integral,
    Law,
    Normal,
    bracket,
    frac,
    function,
    log,
    noise,
    pi,
    squared_norm,
    symbol,
    symbols,
    vector,
)
from tests.notebook import diffusion_demonstrations as diffusion

half = frac(1, 2)
t, T = symbols("t T", "integer")


def gaussian_kl() -> list[Derivation]:
    z, mu = symbols("z mu")
    sigma = symbol("sigma", "positive")
    q, p = Normal(z, mu, sigma**2), Normal(z, 0, 1)
    kl = Derivation(KL(q, p), name="kl", title="KL of a Gaussian from the standard one")
    kl.step(Integral(q * log(q / p), z), because="This is the definition of the divergence.")
    kl.step(Integral(q * (log(q) - log(p)), z), because="The logarithm of a quotient is a difference.")
    kl.step(
        Integral(q * log(q), z) - Integral(q * log(p), z),
        because="An integral of a difference is a difference.",
    )
    log_q = -half * log(2 * pi * sigma**2) - (z - mu) ** 2 / (2 * sigma**2)
    log_p = -half * log(2 * pi) - z**2 / 2
    kl.step(Integral(q * bracket(log_q), z) - Integral(q * bracket(log_p), z), because="Put both densities in.")
    kl.step(Integral(q * (log_q - bracket(log_p)), z), because="Back under one integral.")
    kl.step(
        Integral(q * half * (z**2 - (z - mu) ** 2 / sigma**2 - log(sigma**2)), z),
        because=r"$2\pi$ cancels.",
        detail=[
            (
                Integral(
                    q
                    * (
                        -half * log(2 * pi)
                        - half * log(sigma**2)
                        - (z - mu) ** 2 / (2 * sigma**2)
                        + half * log(2 * pi)
                        + z**2 / 2
                    ),
                    z,
                ),
                r"$\log 2\pi\sigma^2=\log 2\pi+\log\sigma^2$.",
            )
        ],
    )
    kl.step(
        half * Integral(q * z**2, z)
        - 1 / (2 * sigma**2) * Integral(q * (z - mu) ** 2, z)
        - half * log(sigma**2) * Integral(q, z),
        because="Constants leave the integral.",
    )
    kl.step(
        half * (mu**2 + sigma**2) - 1 / (2 * sigma**2) * sigma**2 - half * log(sigma**2),
        because="The second moment, the variance, and the total probability.",
    )
    kl.step(half * (mu**2 + sigma**2 - log(sigma**2) - 1), because="Collect.")

    m1, m2 = symbols("mu_1 mu_2")
    s1, s2 = symbols("sigma_1 sigma_2", "positive")
    two = Derivation(KL(Normal(z, m1, s1**2), Normal(z, m2, s2**2)), name="two", title="KL of two Gaussians")
    two.step(
        Expect(log(Normal(z, m1, s1**2)) - log(Normal(z, m2, s2**2)), over=Normal(z, m1, s1**2)),
        because="Definition.",
    )
    two.step(
        Expect(
            log(s2 / s1) - (z - m1) ** 2 / (2 * s1**2) + (z - m2) ** 2 / (2 * s2**2),
            over=Normal(z, m1, s1**2),
        ),
        because="Put the densities in.",
    )
    two.step(log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - half, because="Moments.")

    d = symbol("d", "integer")
    v, m = vector("z"), vector("mu")
    many = Derivation(KL(Normal(v, m, sigma**2), Normal(v, 0, 1)), name="many", dimension=d)
    many.step(half * (squared_norm(m) + d * (sigma**2 - log(sigma**2) - 1)), because="One such term a component.")
    return [kl, two, many]


def vae() -> list[Derivation]:
    x, z, mu = symbols("x z mu")
    sigma = symbol("sigma", "positive")
    p, q = Law("p", z, x | z, latex=r"p_\theta"), Law("q", z | x, latex=r"q_\phi")
    elbo = Derivation(log(p(x)), name="elbo", laws=[p, q])
    elbo.step(Expect(log(p(x)), over=q(z | x)), because=r"$\log p(x)$ does not depend on $z$.")
    elbo.step(Expect(log(p(x, z) / p(z | x)), over=q(z | x)), because="The definition of conditional probability.")
    elbo.step(Expect(log(p(x, z) / q(z | x) * (q(z | x) / p(z | x))), over=q(z | x)), because="Multiply and divide.")
    elbo.step(
        Expect(log(p(x, z) / q(z | x)), over=q(z | x)) + Expect(log(q(z | x) / p(z | x)), over=q(z | x)),
        because="Logarithm of a product.",
    )
    elbo.step(Expect(log(p(x, z) / q(z | x)), over=q(z | x)) + KL(q(z | x), p(z | x)), because="Definition of KL.")
    elbo.step(
        Expect(log(p(x | z)), over=q(z | x)) - KL(q(z | x), p(z)) + KL(q(z | x), p(z | x)),
        because="The joint factors.",
        detail=[
            (Expect(log(p(x | z) * p(z) / q(z | x)), over=q(z | x)) + KL(q(z | x), p(z | x)), "Chain rule."),
            (Expect(log(p(x | z)) - log(q(z | x) / p(z)), over=q(z | x)) + KL(q(z | x), p(z | x)), "Logs."),
        ],
    )
    elbo.step(
        Expect(log(p(x | z)), over=q(z | x)) - KL(q(z | x), p(z)),
        because="KL is not negative.",
        relation=">=",
    )

    jensen = Derivation(log(p(x)), name="jensen", laws=[p, q])
    jensen.step(log(Integral(p(x, z), z)), because="Marginal.")
    jensen.step(log(Expect(p(x, z) / q(z | x), over=q(z | x))), because="Divide and multiply.")
    jensen.step(Expect(log(p(x, z) / q(z | x)), over=q(z | x)), because="Jensen.", relation=">=")

    data = Law("p", x, z | x)
    aggregate = Derivation(data(z), name="aggregate", where={data(z | x): Normal(z, 0, 1)}, laws=[data])
    aggregate.step(Integral(data(z | x) * data(x), x), because="Marginalise.")
    aggregate.step(Integral(Normal(z, 0, 1) * data(x), x), because="Every posterior is the prior.")
    aggregate.step(Normal(z, 0, 1) * Integral(data(x), x), because="Free of $x$.")
    aggregate.step(Normal(z, 0, 1), because="Total probability one.")

    epsilon, f = noise("epsilon"), function("f")
    trick = Derivation(Expect(f(z), over=Normal(z, mu, sigma**2)), name="trick")
    trick.step(Expect(f(mu + sigma * epsilon), over=epsilon), because=r"Substitute $z=\mu+\sigma\epsilon$.")
    square = Derivation(Grad(Expect(z**2, over=Normal(z, mu, sigma**2)), mu), name="square")
    square.step(Grad(Expect((mu + sigma * epsilon) ** 2, over=epsilon), mu), because="The trick.")
    square.step(Expect(2 * (mu + sigma * epsilon), over=epsilon), because="The gradient passes inside.")
    square.step(2 * mu, because="The noise has mean zero.")
    return [elbo, jensen, aggregate, trick, square]


def everything() -> list[Derivation]:
    """All derivations, finished."""
    builders = (gaussian_kl, vae, diffusion.forward, diffusion.reverse, diffusion.objective, diffusion.guidance)
    return [derivation for build in builders for derivation in build()]
