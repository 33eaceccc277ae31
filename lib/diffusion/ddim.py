r"""Denoising diffusion implicit models: one step of a family of walks that all share DDPM's training.

Song, Meng and Ermon, "Denoising Diffusion Implicit Models", ICLR 2021 (arXiv:2010.02502). The paper's $\alpha_t$ is
this library's $\bar\alpha_t$.
"""

import math

import torch
from torch import Tensor

from lib.checks import check_count, check_option
from lib.diffusion.process import GaussianDiffusion, like, shaped


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
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta!r}")
    t, x0 = process.check_times(t, xt), process.x0_from_eps(xt, t, eps)
    if before.shape != t.shape or not ((before >= -1) & (before < t)).all():
        raise ValueError(f"before must hold times from -1 to t - 1, one for each of t, got {before.tolist()}")
    if clip:
        x0 = x0.clamp(-1, 1)
        eps = process.eps_from_x0(xt, t, x0) if eps_of_clipped else eps
    now = process.alphas_bar[t]
    then = torch.where(before < 0, torch.ones_like(now), process.alphas_bar[before.clamp(min=0)])
    sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
    signal, towards, sigma = (shaped(factor, xt) for factor in (then.sqrt(), (1 - then - sigma**2).sqrt(), sigma))
    return signal * x0 + towards * eps + sigma * like(xt, noise, "noise"), x0


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
