r"""Denoising diffusion probabilistic models: the losses, the bound in bits per dimension, and ancestral sampling.

Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (arXiv:2006.11239).

`model` is any callable that maps noised images (B, ...) and their times (B,) to a tensor of the images' shape: a
network, or a formula. What it predicts is its `target`: "eps", the noise (as in the paper), "x0", the image, or "v",
the mixture of both that `GaussianDiffusion.v_from_x0_eps` defines. Images lie in [-1, 1], and times start at 0, as
`process.py` says. A network may be of another type than the images, such as bfloat16: `denoiser.py` asks it in its own.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lib.checks import check_count, check_finite, check_floats, check_option, upcast
from lib.diffusion.asking import Model, check_eval
from lib.diffusion.denoiser import TARGETS, Denoiser, check_walk, model_output
from lib.diffusion.process import GaussianDiffusion, check_process, gaussian, noise_like, shaped
from lib.diffusion.schedule import times


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
        noise: what is added, shaped as `x0`; drawn from N(0, I) where None. Images and noise of 16 bits are taken in
            float32.
        target: what the model predicts.

    Raises:
        ValueError: for a wrong shape or time, an unknown target, a number in `x0` that is not finite, or a model that
            answers with no tensor of the images' shape.
    """
    check_option("target", target, TARGETS)
    check_process(process)
    check_finite("x0", check_floats("x0", x0))
    if t is None:
        t = torch.randint(process.T, (len(x0),), device=x0.device)
    x0, noise = upcast(x0), upcast(noise_like(x0, noise))
    xt = process.q_sample(x0, t, noise)
    if target == "eps":
        wanted = noise
    elif target == "x0":
        wanted = x0
    else:
        wanted = process.v_from_x0_eps(x0, t, noise)
    return (wanted - model_output(model, xt, t)).square().flatten(1).mean(1)


def predict_x0(model: Model, process: GaussianDiffusion, xt: Tensor, t: Tensor, target: str = "eps") -> Tensor:
    r"""The image $\hat x_0$ that the model's output for $x_t$ amounts to, shaped as `xt`."""
    return Denoiser(model, process, target, clip=False)(xt, t).x0


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
            is $\mathcal N(0, I)$ already. At the first step both are $\tilde\beta_2$. "learned" lies between them, as a
            model with twice the channels says (`improved.py`).
        clip: keep $\hat x_0$ in [-1, 1], where images are.

    Returns:
        Mean and $\hat x_0$, shaped as `xt`; log variance (B, 1, ...), or shaped as `xt` where it is learned.
    """
    denoiser = Denoiser(model, process, target, variance, clip)
    t = process.check_times(t, check_floats("xt", xt))
    coefficients = denoiser.coefficients(t, xt.dtype)
    return denoiser.step_back(xt, t, coefficients.view(len(coefficients), -1, *[1] * (xt.ndim - 1)))


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

    `noise` is $z$, shaped as `xt`, drawn where None. At the last step, `t = 0`, none is added. Raises `ValueError` as
    `trajectory` does.
    """
    model = check_eval(model)
    noise = noise_like(check_floats("xt", xt), noise)
    mean, log_variance, x0 = p_mean_variance(model, process, xt, t, target, variance, clip)
    sigma = (0.5 * log_variance).exp() * (shaped(t, xt) > 0)
    return mean + sigma * noise, x0


@torch.no_grad()
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
    spacing: str = "linspace",
) -> Iterator[tuple[int, Tensor, Tensor]]:
    r"""Algorithm 2, step by step: from $x_T \sim \mathcal N(0, I)$ it yields $t$, $x_{t-1}$ and $\hat x_0$.

    `t` falls. All noise comes from `generator`; one on the CPU gives the same noise on every device.

    Args:
        shape: of the images, (B, ...).
        steps: visit only so many times, spread evenly from T - 1 to 0 (`GaussianDiffusion.respaced`); all where None.
        target, variance, clip: as in `p_mean_variance`.
        spacing: which times those are, as in `schedule.times`.

    Raises:
        ValueError: for an unknown option, `steps` not in 1 ... T, what is no generator, or a network in training mode,
            also one that the model asks: its dropout would spoil the samples.
    """
    model = check_walk(model, process, shape, generator)
    steps = process.T if steps is None else steps
    check_count(1, process.T, steps=steps)
    visited, device = times(process.T, steps, spacing), process.betas.device
    chain = process if steps == process.T else process.respaced(visited.to(device))
    denoiser = Denoiser(model, chain, target, variance, clip)
    x = gaussian(shape, generator, device)
    coefficients = denoiser.coefficients(torch.arange(chain.T, device=device), x.dtype)
    for i, (t, row) in reversed(list(enumerate(zip(visited.tolist(), coefficients.unbind(1))))):
        z = gaussian(shape, generator, device)
        mean, log_variance, x0 = denoiser.step_back(x, torch.full((shape[0],), t, device=device), row)
        x = mean + (0.5 * log_variance).exp() * z if i > 0 else mean
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
        x0: images (B, ...) in [-1, 1] of 256 grey values. Those of 16 bits are taken in float32.

    Returns:
        "terms" (B, T), term `t` being the cost of going from $x_t$ one step back (so `t = 0` holds $L_0$), "prior"
        (B,), which is $L_T$, and "total" (B,).

    Raises:
        ValueError: as `trajectory` does, and for a pixel outside [-1, 1].
    """
    check_process(process)
    model = check_eval(model)
    check_finite("x0", check_floats("x0", x0), -1, 1)
    x0, terms = upcast(x0), []
    noise = noise_like(x0, noise)
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
    check_process(process)
    x0 = upcast(check_floats("x0", x0))
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
