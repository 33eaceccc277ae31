r"""Denoising diffusion implicit models: a family of walks from noise to image that all share DDPM's training.

Song, Meng and Ermon, "Denoising Diffusion Implicit Models", ICLR 2021 (arXiv:2010.02502). The paper's $\alpha_t$ is
this library's $\bar\alpha_t$.

`model` is any callable that maps noised images (B, ...) and their times (B,) to a tensor of the images' shape, as in
`ddpm.py`; a condition is bound to it beforehand. What it predicts is its `target`: "eps", "x0" or "v".
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from lib.checks import check_count, check_option
from lib.diffusion.ddpm import Model, answer, check_sampling, check_values
from lib.diffusion.process import GaussianDiffusion, gaussian, like, shaped


def ddim_step(
    process: GaussianDiffusion,
    xt: Tensor,
    t: Tensor,
    before: Tensor,
    eps: Tensor,
    eta: float = 0.0,
    noise: Tensor | None = None,
    clip: bool = True,
    eps_of_clipped: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""From $x_t$ to $x_s$ at an earlier time $s$: equation (12), with $\sigma$ from equation (16).

    Args:
        xt: images (B, ...).
        t: their times (B,).
        before: the times $s$ to go to (B,), each below `t`; -1 is the image before any noise.
        eps: the predicted noise, shaped as `xt`.
        eta: 0 adds no noise; 1 adds as much as DDPM with $\tilde\beta$.
        noise: what is added where `eta` is not 0, shaped as `xt`; drawn where None.
        clip: keep the predicted image in [-1, 1].
        eps_of_clipped: where the image was clipped, walk on with the noise that belongs to the clipped one.

    Returns:
        $x_s$ and the predicted image, both shaped as `xt`.

    Raises:
        ValueError: for a wrong shape, a time outside the schedule, `before` not below `t`, or `eta` not in [0, 1].
    """
    check_eta(eta)
    if before.shape != t.shape or not ((before >= -1) & (before < t)).all():
        raise ValueError(f"before must hold times from -1 to t - 1, one for each of t, got {before.tolist()}")
    numbers = coefficients(process, process.check_times(t, xt), before, eta)
    noise = like(xt, noise, "noise") if eta or noise is not None else None
    return move(xt, like(xt, eps, "eps"), *(shaped(n, xt) for n in numbers), noise, clip, eps_of_clipped)


def coefficients(process: GaussianDiffusion, t: Tensor, before: Tensor, eta: float) -> Tensor:
    r"""The numbers of equation (12) for steps from times `t` to times $s$ in `before`, both (n,): (5, n), in float64.

    They are $\sqrt{\bar\alpha_t}$ and $\sqrt{1-\bar\alpha_t}$, then $\sqrt{\bar\alpha_s}$ and
    $\sqrt{1-\bar\alpha_s-\sigma^2}$, and $\sigma$ from equation (16).
    """
    now, then = process.alphas_bar[t], process.alphas_bar_prev[before.long() + 1]  # no noise before the first step
    variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    room = (1 - then - variance).clamp(min=0)  # rounding may leave a little less than nothing
    return torch.stack([now, 1 - now, then, room, variance]).sqrt()


def move(xt, eps, signal, spread, signal_before, spread_before, sigma, noise=None, clip=True, eps_of_clipped=True):
    """Equation (12) with its `coefficients`, as numbers or (B, 1, ...); the rest as for `ddim_step`."""
    x0 = (xt - spread * eps) / signal
    if clip:
        x0 = x0.clamp(-1, 1)
        eps = (xt - signal * x0) / spread if eps_of_clipped else eps
    after = signal_before * x0 + spread_before * eps
    return after if noise is None else after + sigma * noise, x0


def strided_times(T: int, steps: int, spacing: str = "leading") -> Tensor:
    r"""`steps` of the times 0 ... T - 1, rising, int64 (steps,).

    "leading" takes 0, T/steps, 2T/steps, ... as the authors do; "trailing" ends at T - 1.

    Raises `ValueError` where `steps` is not in 1 ... T, or the spacing is unknown.
    """
    check_count(1, T, steps=steps)
    check_option("spacing", spacing, ("leading", "trailing"))
    if spacing == "leading":
        return torch.arange(steps) * (T // steps)
    return torch.tensor([math.ceil(T - i * T / steps - 0.5) - 1 for i in reversed(range(steps))])


def trajectory(
    model: Model,
    process: GaussianDiffusion,
    shape: tuple[int, ...],
    steps: int,
    eta: float = 0.0,
    *,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
    target: str = "eps",
    clip: bool = True,
    spacing: str = "leading",
) -> Iterator[tuple[int, Tensor, Tensor]]:
    r"""From $x_T$ to an image in so many `steps` (section 4.2): yields $t$, the $x_s$ it goes to, and $\hat x_0$.

    `t` falls through `strided_times`. All noise comes from `generator`; one on the CPU gives the same noise on every
    device. With `eta` 0 none is drawn after $x_T$: the image is a function of it.

    Args:
        shape: of the images, (B, ...).
        eta: from 0, no noise on the way, to 1, as much as DDPM with $\tilde\beta$.
        start: $x_T$, of that shape; drawn from N(0, I) where None.
        target, clip: as in `ddpm.p_sample`.

    Raises:
        ValueError: for an unknown option, `steps` not in 1 ... T, `eta` not in [0, 1], a `start` of another shape, or
            a network in training mode.
    """
    check_eta(eta)
    check_sampling(model, target)
    times = strided_times(process.T, steps, spacing)
    device = process.betas.device

    if start is not None and tuple(start.shape) != tuple(shape):
        raise ValueError(f"start must have the shape {tuple(shape)}, got {tuple(start.shape)}")
    x = gaussian(shape, generator, device) if start is None else start
    before = torch.cat([times.new_tensor([-1]), times[:-1]])
    numbers = coefficients(process, times.to(device), before.to(device), eta)
    for t, five in reversed(list(zip(times.tolist(), numbers.T.tolist()))):  # no waiting for the device on the way
        here = torch.full((len(x),), t, device=device)
        noise = gaussian(shape, generator, device, x.dtype) if eta else None
        x, x0 = move(x, predict_eps(model, process, x, here, target), *five, noise, clip)
        yield t, x, x0


def sample(
    model: Model, process: GaussianDiffusion, shape: tuple[int, ...], steps: int, eta: float = 0.0, **options
) -> Tensor:
    r"""Images of this `shape` (B, ...) in so many `steps`; the options are those of `trajectory`."""
    for _, x, _ in trajectory(model, process, shape, steps, eta, **options):
        images = x
    return images


@torch.no_grad()
def invert(
    model: Model,
    process: GaussianDiffusion,
    x0: Tensor,
    steps: int,
    *,
    rounds: int = 1,
    grain: Tensor | None = None,
    target: str = "eps",
    spacing: str = "leading",
) -> Tensor:
    r"""The noise $x_T$ from which `sample` with `eta` 0, unclipped, comes back to `x0`: equation (13) run backwards.

    A step back from $x_t$ to $x_s$ uses $\epsilon_\theta(x_t, t)$. On the way up $x_t$ is not yet known, so the first
    round asks at $x_s$, and each further round at the $x_t$ of the round before: an iteration whose fixed point, where
    it converges, is the exact inverse of the step. With one round the steps are those of diffusers'
    `DDIMInverseScheduler`.

    Args:
        x0: images (B, ...).
        steps: how many, through the same `strided_times` as those of `sample`.
        rounds: calls of the model for each step.
        grain: noise, shaped as `x0`, with which the first step is taken in place of the model's answer.
        target: what the model predicts.

    Returns:
        $x_T$, shaped as `x0`.

    Raises:
        ValueError: as `trajectory` does, and for `x0` that is not finite, `grain` of another shape, or no round.
    """
    check_sampling(model, target)
    check_count(rounds=rounds)
    check_values(x0)
    times, x = strided_times(process.T, steps, spacing).tolist(), x0
    for before, t in pairwise([-1, *times]):
        here = torch.full((len(x0),), t, device=x0.device)
        if before < 0 and grain is not None:
            x = process.q_sample(x0, here, grain)
            continue
        signal, spread = process.signal_and_spread(here, x)
        signal_before, spread_before = (1, 0) if before < 0 else process.signal_and_spread(here - t + before, x)
        xt = x
        for _ in range(rounds):
            eps = predict_eps(model, process, xt, here, target)
            xt = signal * (x - spread_before * eps) / signal_before + spread * eps
        x = xt
    return x


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    r"""From each noise of `a` (0) to that of `b` (1) along a great circle, all (B, ...).

    $(\sin((1-u)\theta)\,a + \sin(u\theta)\,b) / \sin\theta$ with the angle $\theta$ between the two
    (Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985). Two of one length keep it all the way.
    Where they are parallel, the way is straight.

    Raises `ValueError` where the shapes differ.
    """
    like(a, b, "b")
    cosine = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1, 1)
    angle = shaped(cosine.acos(), a)
    parallel = angle.sin() < 1e-4
    sine = torch.where(parallel, torch.ones_like(angle), angle.sin())
    of_a = torch.where(parallel, 1 - share, ((1 - share) * angle).sin() / sine)
    of_b = torch.where(parallel, share, (share * angle).sin() / sine)
    return of_a * a + of_b * b


@torch.no_grad()
def predict_eps(model: Model, process: GaussianDiffusion, xt: Tensor, t: Tensor, target: str = "eps") -> Tensor:
    r"""The noise $\hat\epsilon$ that the model's answer for $x_t$ amounts to, shaped as `xt`."""
    out = answer(model, xt, t)
    if target == "eps":
        return out
    return process.eps_from_v(xt, t, out) if target == "v" else process.eps_from_x0(xt, t, out)


def check_eta(eta: float) -> None:
    """Raises `ValueError` unless `eta` is in [0, 1]."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta!r}")
