r"""Scores: learning $\nabla_x \log p(x)$ from noised data, walking along it, and DDPM seen as the same thing.

Song and Ermon, "Generative Modeling by Estimating Gradients of the Data Distribution", NeurIPS 2019
(arXiv:1907.05600). $\sigma$ is the standard deviation of the noise in $\tilde x = x + \sigma\epsilon$: the data keeps
its size, and $p_\sigma$ is the density of $\tilde x$.

A `Score` is any callable that maps points (B, ...) and their noise levels (B,) to $\nabla_{\tilde x} \log
p_\sigma(\tilde x)$, shaped as the points: a network, or the exact score of a `GaussianMixture`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lib.checks import (
    check_count,
    check_finite,
    check_flags,
    check_floats,
    check_generator,
    check_number,
    described,
    readable,
    upcast,
)
from lib.diffusion.asking import Model, call_model, check_eval, check_model
from lib.diffusion.denoiser import model_output, slope
from lib.diffusion.process import GaussianDiffusion, check_process, gaussian, noise_like, shaped

Score = Callable[[Tensor, Tensor], Tensor]


class GaussianMixture:
    r"""$\sum_k w_k\,\mathcal N(m_k, s_k^2 I)$, whose score is known at every noise level.

    In all methods `x` is (B, D) and `sigma` (B,), at least 0; everything is computed in the type of `x`.

    Args:
        weights: positive (K,); they are divided by their sum.
        means: (K, D).
        stds: (K,), at least 0. With 0 the component is one point, and has a density only where `sigma` is above 0.

    Raises:
        ValueError: for shapes or values other than these.
    """

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor):
        for name, part in (("weights", weights), ("means", means), ("stds", stds)):
            check_finite(name, check_floats(name, part))
        if means.ndim != 2 or weights.shape != means.shape[:1] or stds.shape != weights.shape or not len(weights):
            got = [tuple(part.shape) for part in (weights, means, stds)]
            raise ValueError(f"weights, means and stds must be (K,), (K, D) and (K,), got {got}")
        if not (weights > 0).all() or not (stds >= 0).all():
            raise ValueError("weights must be positive and stds at least 0")
        self.weights, self.means, self.stds = weights / weights.sum(), means, stds

    def log_joint(self, x: Tensor, sigma: Tensor) -> Tensor:
        r"""$\log w_k\,\mathcal N(\tilde x; m_k, (s_k^2 + \sigma^2) I)$ of each component, (B, K)."""
        variance = self.variances(x, sigma)
        squares = (x[:, None] - self.means.to(x)).square().sum(2)
        return self.weights.to(x).log() - 0.5 * (squares / variance + x.shape[1] * (2 * math.pi * variance).log())

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        r"""$\log p_\sigma(\tilde x)$ (B,)."""
        return self.log_joint(x, sigma).logsumexp(1)

    def log_component(self, x: Tensor, sigma: Tensor) -> Tensor:
        r"""$\log p(k \mid \tilde x)$: which component a noised point came from, (B, K)."""
        return self.log_joint(x, sigma).log_softmax(1)

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        r"""$\nabla_{\tilde x} \log p_\sigma(\tilde x)$: the arrows of the components, by their probability."""
        pull = self.log_component(x, sigma).exp() / self.variances(x, sigma)
        return pull @ self.means.to(x) - pull.sum(1, keepdim=True) * x

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        r"""$E[x \mid \tilde x] = \tilde x + \sigma^2\,\nabla \log p_\sigma(\tilde x)$ (Tweedie's formula)."""
        score = self.score(x, sigma)
        return x + shaped(sigma, x) ** 2 * score

    def sample(self, count: int, sigma: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
        r"""`count` draws of $\tilde x$, (count, D), on the device and in the type of the means."""
        check_count(count=count)
        check_number(0, sigma=sigma)
        check_generator(generator)
        source = generator.device if generator is not None else self.means.device
        which = torch.multinomial(self.weights.to(source), count, replacement=True, generator=generator)
        noise = gaussian((count, self.means.shape[1]), generator, self.means.device, self.means.dtype)
        which, spread = which.to(self.means.device), (self.stds**2 + sigma**2).sqrt()
        return self.means[which] + spread[which, None] * noise

    def variances(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Of each component at each level, (B, K); a `ValueError` where a component would be a bare point."""
        check_floats("x", x)
        check_floats("sigma", sigma)
        if x.ndim != 2 or x.shape[1] != self.means.shape[1] or sigma.shape != x.shape[:1]:
            wanted = f"(B, {self.means.shape[1]}) and (B,)"
            raise ValueError(f"x and sigma must be {wanted}, got {tuple(x.shape)} and {tuple(sigma.shape)}")
        variance = self.stds.to(x) ** 2 + shaped(sigma, x) ** 2
        check_finite("sigma", sigma)
        if readable(sigma) and not ((variance > 0).all() and (sigma >= 0).all()):
            raise ValueError("sigma must be at least 0, and above 0 where a component is a single point")
        return variance


def noise_levels(largest: float, smallest: float, count: int) -> Tensor:
    r"""$\sigma_1 > \dots > \sigma_L$, each the same multiple of the one before (section 4.1): (count,), float64."""
    check_count(2, count=count)
    check_number(largest=largest, smallest=smallest)
    if not (0 < smallest < largest < math.inf):
        raise ValueError(f"levels must fall and be positive, got largest={largest!r} and smallest={smallest!r}")
    ends = math.log10(largest), math.log10(smallest)
    return torch.logspace(*ends, count, dtype=torch.float64, device="cpu")  # the default device may have no float64


def score_matching(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    r"""$\mathrm{tr}(\nabla_x s(x)) + \frac12\Vert s(x)\Vert^2$ of each point (B, D), (B,): equation 1, without noise.

    Hyvärinen, "Estimation of Non-Normalized Statistical Models by Score Matching", JMLR 2005. The trace costs one
    backward pass for each of the D numbers of a point. Raises `ValueError` for a score that does not depend on `x`.
    """
    check_model(score, "score")
    if check_floats("x", x).ndim != 2:
        raise ValueError(f"x must be (B, D), got {described(x)}")
    check_finite("x", x)
    with torch.inference_mode(False), torch.enable_grad():
        x = upcast(x.detach().clone()).requires_grad_()  # a copy, as what inference mode made knows no gradient
        found = check_floats("the score", call_model(score, x), like=x)
        columns = enumerate(found.unbind(1))
        trace = sum(slope("the score", column.sum(), x, create_graph=True)[:, i] for i, column in columns)
    return trace + 0.5 * found.square().sum(1)


def denoising_score_matching(
    score: Score, x0: Tensor, sigma: Tensor, noise: Tensor | None = None, weighted: bool = True
) -> Tensor:
    r"""$\lambda(\sigma)\,\frac12\Vert s(\tilde x, \sigma) + (\tilde x - x_0)/\sigma^2\Vert^2$, one number a point (B,).

    The terms of equations 5 and 6, with $\lambda(\sigma) = \sigma^2$, so that the answer 0 costs about D/2 at every
    level; with `weighted=False`, $\lambda = 1$.

    Args:
        x0: clean data (B, ...).
        sigma: the level of each (B,), above 0.
        noise: $\epsilon$, shaped as `x0`; drawn from N(0, I) where None. Data and noise of 16 bits are taken in
            float32.
    """
    check_model(score, "score")
    check_flags(weighted=weighted)
    check_finite("x0", check_floats("x0", x0))
    check_levels(x0, sigma)
    x0, noise = upcast(x0), upcast(noise_like(x0, noise))
    level = shaped(sigma, x0)
    error = model_output(score, x0 + level * noise, sigma.to(x0)) + noise / level
    return 0.5 * ((level if weighted else 1) * error).square().flatten(1).sum(1)


@torch.no_grad()
def langevin(
    score: Score, x: Tensor, sigma: float, step: float, steps: int, generator: torch.Generator | None = None
) -> Tensor:
    r"""`steps` times $x \leftarrow x + \frac\alpha2 s(x, \sigma) + \sqrt\alpha\,z$, $\alpha$ being `step` (equation 4).

    `x` (B, ...) is where the walkers start. All noise comes from `generator`; one on the CPU gives the same noise on
    every device. Raises `ValueError` for numbers out of range, what is no generator, and a network in training mode.
    """
    check_count(steps=steps)
    check_number(above=0, step=step)
    check_number(0, sigma=sigma)
    check_finite("x", check_floats("x", x))
    check_generator(generator)
    score = check_eval(score, "score")
    x = upcast(x)
    levels = torch.full((len(x),), sigma, device=x.device, dtype=x.dtype)
    for _ in range(steps):
        z = gaussian(x.shape, generator, x.device, x.dtype)
        x = x + step / 2 * model_output(score, x, levels) + math.sqrt(step) * z
    return x


def annealed_langevin(
    score: Score, x: Tensor, levels: Tensor, step: float, steps: int, generator: torch.Generator | None = None
) -> Tensor:
    r"""Algorithm 1: `langevin` at one level after the other, with $\alpha_i = \varepsilon\,\sigma_i^2/\sigma_L^2$.

    Args:
        x: where the walkers start (B, ...).
        levels: $\sigma_1 > \dots > \sigma_L$ (L,), as `noise_levels` gives them.
        step: $\varepsilon$, the step at the last level.
        steps: $T$, at each level.

    Returns:
        Where the walkers are after each level, (L, B, ...); the last are the samples.

    Raises:
        ValueError: for levels that do not fall or are not positive, a step not above 0, steps below 1.
    """
    check_number(above=0, step=step)
    check_finite("levels", check_floats("levels", levels))
    sigmas = levels.tolist()
    if levels.ndim != 1 or not sigmas or not sigmas[-1] > 0 or not (levels.diff() < 0).all():
        raise ValueError(f"levels must be positive and fall, (L,), got {sigmas}")
    states = []
    for sigma in sigmas:
        x = langevin(score, x, sigma, step * (sigma / sigmas[-1]) ** 2, steps, generator)
        states.append(x)
    return torch.stack(states)


def process_levels(process: GaussianDiffusion) -> Tensor:
    r"""$\sigma_t = \sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$: the noise in $x_t/\sqrt{\bar\alpha_t}$, rising, (T,)."""
    check_process(process)
    return ((1 - process.alphas_bar) / process.alphas_bar).sqrt()


def eps_from_score(score: Score, process: GaussianDiffusion) -> Model:
    r"""$\epsilon(x_t, t) = -\sigma_t\,s(x_t/\sqrt{\bar\alpha_t}, \sigma_t)$: a score for a diffusion's samplers."""
    check_model(score, "score")
    check_process(process)

    def eps(xt: Tensor, t: Tensor) -> Tensor:
        signal, spread = process.signal_and_spread(t, xt)
        sigma = (spread / signal).flatten()
        return -shaped(sigma, xt) * model_output(score, xt / signal, sigma)

    return eps


def score_from_eps(model: Model, process: GaussianDiffusion) -> Score:
    r"""$s(\tilde x, \sigma) = -\epsilon(\sqrt{\bar\alpha_t}\,\tilde x, t)/\sigma$: a diffusion's network for Langevin.

    $t$ is the time whose $\sigma_t$ is nearest to `sigma`, as a ratio; the points are scaled by the $\bar\alpha$ that
    belongs to `sigma` itself. `sigma` must lie within the levels of the process, to 1 %.
    """
    check_model(model)
    logs = process_levels(process).log()

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        check_levels(x, sigma)
        wanted = sigma.to(logs).log()
        if readable(wanted) and not ((wanted > logs[0] - 0.01) & (wanted < logs[-1] + 0.01)).all():
            low, high = logs[[0, -1]].exp().tolist()
            raise ValueError(f"sigma must lie between {low:.4g} and {high:.4g}, got {sigma.tolist()}")
        t = (wanted[:, None] - logs).abs().argmin(1)
        level = shaped(sigma, x)
        return -model_output(model, x / (1 + level**2).sqrt(), t) / level

    return score


def check_levels(x: Tensor, sigma: Tensor) -> None:
    """Raises `ValueError` unless `sigma` (B,) holds a positive noise level for each of `x` (B, ...)."""
    if check_floats("sigma", sigma).shape != check_floats("x", x).shape[:1]:
        raise ValueError(f"sigma must be floating point ({len(x)},), got {described(sigma)}")
    if readable(sigma) and not ((sigma > 0) & sigma.isfinite()).all():
        raise ValueError(f"sigma must be above 0 and finite, got values from {sigma.min():g} to {sigma.max():g}")
