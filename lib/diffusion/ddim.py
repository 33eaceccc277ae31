r"""Denoising diffusion implicit models: a family of walks from noise to image that all share DDPM's training.

Song, Meng and Ermon, "Denoising Diffusion Implicit Models", ICLR 2021 (arXiv:2010.02502). The paper's $\alpha_t$ is
this library's $\bar\alpha_t$.

`model` is any callable that maps noised images (B, ...) and their times (B,) to a tensor of the images' shape, as in
`ddpm.py`; a condition is bound to it beforehand. What it predicts is its `target`: "eps", "x0" or "v".
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lib.checks import (
    check_count,
    check_finite,
    check_flags,
    check_floats,
    check_integers,
    check_number,
    described,
    readable,
    upcast,
)
from lib.diffusion.asking import Model, check_eval
from lib.diffusion.denoiser import Denoiser, Prediction, check_walk
from lib.diffusion.process import GaussianDiffusion, check_process, gaussian, noise_like, shaped
from lib.diffusion.schedule import times as times


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
        ValueError: for a wrong shape, a time outside the schedule, `before` not below `t`, `eta` not in [0, 1], or
            a flag that is not True or False.
    """
    check_number(0, 1, eta=eta)
    check_flags(clip=clip, eps_of_clipped=eps_of_clipped)
    check_process(process)
    t = process.check_times(t, check_floats("xt", xt))
    before = check_integers("before", before, -1)
    if before.shape != t.shape or (readable(before) and not (before < t).all()):
        raise ValueError(f"before must hold times from -1 to t - 1, one for each of t, got {described(before)}")
    numbers = coefficients(process, t, before, eta)
    check_floats("eps", eps, like=xt)
    noise = noise_like(xt, noise) if eta or noise is not None else None
    return ddim_update(xt, eps, *(shaped(n, xt) for n in numbers), noise, clip, eps_of_clipped)


def coefficients(process: GaussianDiffusion, t: Tensor, before: Tensor, eta: float) -> Tensor:
    r"""The numbers of equation (12) for steps from times `t` to times $s$ in `before`, both (n,): (5, n), in float64.

    They are $\sqrt{\bar\alpha_t}$ and $\sqrt{1-\bar\alpha_t}$, then $\sqrt{\bar\alpha_s}$ and
    $\sqrt{1-\bar\alpha_s-\sigma^2}$, and $\sigma$ from equation (16).
    """
    now, then = process.alphas_bar[t], process.alphas_bar_prev[before.long() + 1]  # no noise before the first step
    variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    room = (1 - then - variance).clamp(min=0)  # rounding may leave a little less than nothing
    return torch.stack([now, 1 - now, then, room, variance]).sqrt()


def ddim_update(
    xt,
    out,
    signal,
    spread,
    signal_before,
    spread_before,
    sigma,
    noise=None,
    clip=True,
    eps_of_clipped=True,
    target="eps",
):
    r"""Equation (12) from the model's output `out`, with its `coefficients` as numbers or (B, 1, ...): $x_s, \hat x_0$.

    The rest as for `ddim_step`; `target` is what the model predicts.
    """
    found = Prediction(out, xt, signal, spread, target, clip)
    eps = found.eps if eps_of_clipped else Prediction(out, xt, signal, spread, target, clip=False).eps
    after = signal_before * found.x0 + spread_before * eps
    return after if noise is None else after + sigma * noise, found.x0


@torch.no_grad()
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
    variance: str = "small",
    clip: bool = True,
    spacing: str = "leading",
) -> Iterator[tuple[int, Tensor, Tensor]]:
    r"""From $x_T$ to an image in so many `steps` (section 4.2): yields $t$, the $x_s$ it goes to, and $\hat x_0$.

    `t` falls through `schedule.times`. All noise comes from `generator`; one on the CPU gives the same noise on every
    device. With `eta` 0 none is drawn after $x_T$: the image is a function of it. Images and noise are float32 or
    wider, whatever the type of the network.

    Args:
        shape: of the images, (B, ...).
        eta: from 0, no noise on the way, to 1, as much as DDPM with $\tilde\beta$.
        start: $x_T$, of that shape; drawn from N(0, I) where None.
        target, clip: as in `ddpm.p_sample`.
        variance: "learned" for a model that answers with a variance too, of which DDIM makes no use.
        spacing: which times are visited, as in `schedule.times`.

    Raises:
        ValueError: for an unknown option, `steps` not in 1 ... T, `eta` not in [0, 1], a `start` of another shape,
            what is no generator, or a network in training mode, also one that the model asks.
    """
    check_number(0, 1, eta=eta)
    model = check_walk(model, process, shape, generator)
    check_count(1, process.T, steps=steps)
    denoiser = Denoiser(model, process, target, variance, clip)
    visited, device = times(process.T, steps, spacing), process.betas.device
    x = gaussian(shape, generator, device) if start is None else check_start(start, shape)
    before = torch.cat([visited.new_tensor([-1]), visited[:-1]])
    numbers = coefficients(process, visited.to(device), before.to(device), eta)
    steps_down = list(zip(visited.tolist(), numbers.T.tolist()))[::-1]  # so that nothing waits for the device below
    for t, (signal, spread, *after) in steps_down:
        here = torch.full((len(x),), t, device=device)
        noise = gaussian(shape, generator, device, x.dtype) if eta else None
        out, _ = denoiser.model_output(x, here)
        x, x0 = ddim_update(x, out, signal, spread, *after, noise, clip, True, target)
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
    variance: str = "small",
    spacing: str = "leading",
) -> Tensor:
    r"""The noise $x_T$ from which `sample` with `eta` 0, unclipped, comes back to `x0`: equation (13) run backwards.

    A step back from $x_t$ to $x_s$ uses $\epsilon_\theta(x_t, t)$. On the way up $x_t$ is not yet known, so the first
    round asks at $x_s$, and each further round at the $x_t$ of the round before: an iteration whose fixed point, where
    it converges, is the exact inverse of the step. With one round the steps are those of diffusers'
    `DDIMInverseScheduler`.

    Args:
        x0: images (B, ...).
        steps: how many, through the same times as those of `sample`.
        rounds: calls of the model for each step.
        grain: noise, shaped as `x0`, with which the first step is taken in place of the model's output.
        target, variance, spacing: as in `trajectory`.

    Returns:
        $x_T$, shaped as `x0`.

    Raises:
        ValueError: as `trajectory` does, and for `x0` that is not finite, `grain` of another shape, or no round.
    """
    check_count(rounds=rounds)
    check_process(process)
    check_count(1, process.T, steps=steps)
    model = check_eval(model)
    denoiser = Denoiser(model, process, target, variance, clip=False)
    check_finite("x0", check_floats("x0", x0))
    if grain is not None:
        grain = noise_like(x0, grain, "grain")
    visited, x = times(process.T, steps, spacing), upcast(x0)
    alphas_bar = process.alphas_bar[visited.to(process.betas.device)]
    levels = list(zip(alphas_bar.sqrt().tolist(), (1 - alphas_bar).sqrt().tolist()))
    signal_before, spread_before = 1.0, 0.0
    for i, (t, (signal, spread)) in enumerate(zip(visited.tolist(), levels)):
        here, xt = torch.full((len(x),), t, device=x.device), x
        if i == 0 and grain is not None:
            x = signal * x + spread * grain
        else:
            for _ in range(rounds):
                eps = Prediction(denoiser.model_output(xt, here)[0], xt, signal, spread, target, clip=False).eps
                xt = signal * (x - spread_before * eps) / signal_before + spread * eps
            x = xt
        signal_before, spread_before = signal, spread
    return x


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    r"""From each noise of `a` (0) to that of `b` (1) along a great circle, all (B, ...).

    $(\sin((1-u)\theta)\,a + \sin(u\theta)\,b) / \sin\theta$ with the angle $\theta$ between the two
    (Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985). Two of one length keep it all the way.
    Where they are parallel, the way is straight.

    Raises `ValueError` where the shapes differ, there is nothing in a noise, or a number is not finite.
    """
    check_floats("b", b, like=check_floats("a", a))
    if a.ndim < 2 or 0 in a.shape[1:]:
        raise ValueError(f"a and b must be (B, ...), got {tuple(a.shape)}")
    check_finite("a", a)
    check_finite("b", b)
    check_number(share=share)
    cosine = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1, 1)
    angle = shaped(cosine.acos(), a)
    parallel = angle.sin() < 1e-4
    sine = torch.where(parallel, torch.ones_like(angle), angle.sin())
    of_a = torch.where(parallel, 1 - share, ((1 - share) * angle).sin() / sine)
    of_b = torch.where(parallel, share, (share * angle).sin() / sine)
    return of_a * a + of_b * b


def check_start(start: Tensor, shape: tuple[int, ...]) -> Tensor:
    """$x_T$, float32 or wider, after checking that it is finite and of this shape; else `ValueError`."""
    if check_floats("start", start).shape != tuple(shape):
        raise ValueError(f"start must have the shape {tuple(shape)}, got {tuple(start.shape)}")
    check_finite("start", start)
    return upcast(start)
