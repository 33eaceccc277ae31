r"""Denoising diffusion probabilistic models: the losses, the bound in bits per dimension, and ancestral sampling.

Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (arXiv:2006.11239).

`model` is any callable that maps noised images (B, ...) and their times (B,) to a tensor of the images' shape: a
network, or a formula. What it predicts is its `target`: "eps", the noise (as in the paper), "x0", the image, or "v",
the mixture of both that `GaussianDiffusion.v_from_x0_eps` defines. Images lie in [-1, 1], and times start at 0, as
`process.py` says.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lib.checks import check_count, check_option
from lib.diffusion.process import GaussianDiffusion, gaussian, like, shaped

Model = Callable[[Tensor, Tensor], Tensor]
TARGETS = ("eps", "x0", "v")
VARIANCES = ("small", "large")


def simple_loss(
    model: Model,
    process: GaussianDiffusion,
    x0: Tensor,
    t: Tensor | None = None,
    noise: Tensor | None = None,
    target: str = "eps",
) -> Tensor:
    r"""$L_\text{simple}$, equation (14): the squared error of what the model says of $x_t$, one number an image (B,).

    It is the mean over the numbers of an image, not their sum, so that answering nothing costs about 1 whatever the
    size of the image.

    Args:
        x0: images (B, ...).
        t: their times (B,); drawn uniformly where None.
        noise: what is added, shaped as `x0`; drawn from N(0, I) where None.
        target: what the model predicts.

    Raises:
        ValueError: for a wrong shape or time, an unknown target, or a number in `x0` that is not finite.
    """
    check_option("target", target, TARGETS)
    check_values(x0)
    if t is None:
        t = torch.randint(process.T, (len(x0),), device=x0.device)
    noise = like(x0, noise, "noise")
    xt = process.q_sample(x0, t, noise)
    if target == "eps":
        wanted = noise
    elif target == "x0":
        wanted = x0
    else:
        wanted = process.v_from_x0_eps(x0, t, noise)
    return (wanted - answer(model, xt, t)).square().flatten(1).mean(1)


def predict_x0(model: Model, process: GaussianDiffusion, xt: Tensor, t: Tensor, target: str = "eps") -> Tensor:
    r"""The image $\hat x_0$ that the model's answer for $x_t$ amounts to, shaped as `xt`."""
    check_option("target", target, TARGETS)
    out = answer(model, xt, t)
    if target == "eps":
        return process.x0_from_eps(xt, t, out)
    return process.x0_from_v(xt, t, out) if target == "v" else out


def p_mean_variance(
    model: Model,
    process: GaussianDiffusion,
    xt: Tensor,
    t: Tensor,
    target: str = "eps",
    variance: str = "large",
    clip: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""$p_\theta(x_{t-1} \mid x_t)$: its mean, its log variance, and the predicted $\hat x_0$ (section 3.2).

    The mean is that of $q(x_{t-1} \mid x_t, \hat x_0)$. Without clipping, this is the formula of Algorithm 2.

    Args:
        variance: "small" is $\tilde\beta_t$, "large" is $\beta_t$: right for data that is one point, and for data that
            is $\mathcal N(0, I)$ already. At the first step both are $\tilde\beta_2$.
        clip: keep $\hat x_0$ in [-1, 1], where images are.

    Returns:
        Mean and $\hat x_0$, shaped as `xt`; log variance (B, 1, ...).
    """
    check_option("variance", variance, VARIANCES)
    x0 = predict_x0(model, process, xt, t, target)
    if clip:
        x0 = x0.clamp(-1, 1)
    mean, _, log_variance = process.q_posterior(x0, xt, t)
    if variance == "large":
        log_variance = torch.where(shaped(t, xt) == 0, log_variance, process.at("betas", t, xt).log())
    return mean, log_variance, x0


@torch.no_grad()
def p_sample(
    model: Model,
    process: GaussianDiffusion,
    xt: Tensor,
    t: Tensor,
    noise: Tensor | None = None,
    target: str = "eps",
    variance: str = "large",
    clip: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""One step of Algorithm 2: a draw from $p_\theta(x_{t-1} \mid x_t)$ and $\hat x_0$, both shaped as `xt`.

    `noise` is $z$, shaped as `xt`, drawn where None. At the last step, `t = 0`, none is added.
    """
    noise = like(xt, noise, "noise")
    mean, log_variance, x0 = p_mean_variance(model, process, xt, t, target, variance, clip)
    sigma = (0.5 * log_variance).exp() * (shaped(t, xt) > 0)
    return mean + sigma * noise, x0


def trajectory(
    model: Model,
    process: GaussianDiffusion,
    shape: tuple[int, ...],
    *,
    steps: int | None = None,
    generator: torch.Generator | None = None,
    target: str = "eps",
    variance: str = "large",
    clip: bool = True,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    r"""Algorithm 2, step by step: from $x_T \sim \mathcal N(0, I)$ it yields $t$, $x_{t-1}$ and $\hat x_0$.

    `t` runs from T - 1 to 0. All noise comes from `generator`; one on the CPU gives the same noise on every device.

    Args:
        shape: of the images, (B, ...).
        steps: visit only so many times, spread evenly from T - 1 to 0 (`GaussianDiffusion.strided`); all where None.

    Raises:
        ValueError: for an unknown option, `steps` not in 1 ... T, or a network in training mode: its dropout would
            spoil the samples.
    """
    check_sampling(model, target)
    check_option("variance", variance, VARIANCES)
    steps = process.T if steps is None else steps
    check_count(1, process.T, steps=steps)
    device = process.betas.device
    visited = torch.linspace(0, process.T - 1, steps, dtype=torch.float64).round().long()
    visited = visited if steps > 1 else visited + process.T - 1
    times = visited.to(device)
    chain = process if steps == process.T else process.strided(times)

    def ask(x: Tensor, i: Tensor) -> Tensor:
        return model(x, times[i])  # the model knows the times of the whole chain

    x = gaussian(shape, generator, device)
    for i, t in reversed(list(enumerate(visited.tolist()))):
        here, noise = torch.full((shape[0],), i, device=device), gaussian(shape, generator, device)
        x, x0 = p_sample(ask, chain, x, here, noise, target, variance, clip)
        yield t, x, x0


def sample(model: Model, process: GaussianDiffusion, shape: tuple[int, ...], **options) -> Tensor:
    r"""Images of this `shape` (B, ...) by Algorithm 2; the options are those of `trajectory`."""
    for _, x, _ in trajectory(model, process, shape, **options):
        images = x
    return images


@torch.no_grad()
def vlb_terms(
    model: Model,
    process: GaussianDiffusion,
    x0: Tensor,
    noise: Tensor | None = None,
    target: str = "eps",
    variance: str = "small",
    clip: bool = True,
) -> dict[str, Tensor]:
    r"""Equation (5), $L_T + \sum_t L_{t-1} + L_0$, in bits per dimension: an upper bound of $-\log_2 p_\theta(x_0)$.

    Each expectation over $x_t$ is one draw, with the same `noise` for all times.

    Args:
        x0: images (B, ...) in [-1, 1] of 256 grey values.

    Returns:
        "terms" (B, T), term `t` being the cost of going from $x_t$ one step back (so `t = 0` holds $L_0$), "prior"
        (B,), which is $L_T$, and "total" (B,).
    """
    check_values(x0, -1, 1)
    noise, terms = like(x0, noise, "noise"), []
    for step in range(process.T):
        t = torch.full((len(x0),), step, device=x0.device)
        xt = process.q_sample(x0, t, noise)
        terms.append(vlb_term(x0, xt, t, process, *p_mean_variance(model, process, xt, t, target, variance, clip)[:2]))
    prior = prior_term(process, x0)
    terms = torch.stack(terms, dim=1)
    return {"terms": terms, "prior": prior, "total": terms.sum(1) + prior}


def vlb_term(
    x0: Tensor, xt: Tensor, t: Tensor, process: GaussianDiffusion, mean: Tensor, log_variance: Tensor
) -> Tensor:
    r"""$L_{t-1}$, or $L_0$ where `t` is 0, in bits per dimension (B,).

    `mean` and `log_variance` are those of $p_\theta(x_{t-1} \mid x_t)$, as `p_mean_variance` gives them.
    """
    true_mean, _, true_log_variance = process.q_posterior(x0, xt, t)
    kl = normal_kl(true_mean, true_log_variance, mean, log_variance)
    nll = -discretized_log_likelihood(x0, mean, 0.5 * log_variance)
    return torch.where(t == 0, bits_per_dim(nll), bits_per_dim(kl))


def prior_term(process: GaussianDiffusion, x0: Tensor) -> Tensor:
    r"""$L_T = \mathrm{KL}(q(x_T \mid x_0) \Vert \mathcal N(0, I))$ in bits per dimension (B,), free of the model."""
    signal, spread = process.signal_and_spread(torch.full((len(x0),), process.T - 1, device=process.betas.device), x0)
    zero = torch.zeros_like(x0)
    return bits_per_dim(normal_kl(signal * x0, 2 * spread.log(), zero, zero))


def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    r"""$\mathrm{KL}(\mathcal N(\mu_1, \sigma_1^2) \Vert \mathcal N(\mu_2, \sigma_2^2))$ of each number, in nats.

    Shapes broadcast.
    """
    ratio = (log_variance1 - log_variance2).exp() + (mean1 - mean2).square() * (-log_variance2).exp()
    return 0.5 * (log_variance2 - log_variance1 + ratio - 1)


def discretized_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    r"""Log probability in nats of each of 256 grey values `x` in [-1, 1] under a Gaussian (equation 13).

    A grey value owns the interval of half-width 1/255 around it, the darkest and the brightest all that lies beyond
    them. The normal distribution function is the tanh approximation of the authors' code, and no probability counts
    as less than 1e-12.
    """
    upper = normal_cdf((x - mean + 1 / 255) * (-log_scale).exp())
    lower = normal_cdf((x - mean - 1 / 255) * (-log_scale).exp())
    probability = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return probability.clamp(min=1e-12).log()


def normal_cdf(x: Tensor) -> Tensor:
    """The distribution function of N(0, 1), to within 2e-4."""
    return 0.5 * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())


def bits_per_dim(nats: Tensor) -> Tensor:
    """Mean over the numbers of each image (B, ...), in bits: (B,)."""
    return nats.flatten(1).mean(1) / math.log(2)


def answer(model: Model, xt: Tensor, t: Tensor) -> Tensor:
    """What the model says of `xt`, after checking its shape."""
    return like(xt, model(xt, t), "the model's answer")


def check_sampling(model: Model, target: str) -> None:
    """Raises `ValueError` for an unknown target, and for a network in training mode: dropout would spoil the walk."""
    check_option("target", target, TARGETS)
    if getattr(model, "training", False):
        raise ValueError("model must be in eval mode to sample, call model.eval() first")


def check_values(x: Tensor, low: float = -math.inf, high: float = math.inf) -> None:
    """Raises `ValueError` where a number of `x` is not finite or not in [low, high]. Not looked at while compiling."""
    if torch.compiler.is_compiling() or x.is_meta or x.numel() == 0:
        return
    least, most = torch.stack(x.detach().aminmax()).tolist()
    if not (math.isfinite(least) and math.isfinite(most) and low <= least and most <= high):
        raise ValueError(f"x0 must be finite and lie in [{low:g}, {high:g}], got values from {least:g} to {most:g}")
