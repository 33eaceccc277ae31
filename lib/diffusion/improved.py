r"""Improved DDPM: a network that learns its variance too, and the loss that teaches it.

Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", ICML 2021 (arXiv:2102.09672), section 3.1.
The network answers with twice the channels of the image: first $\epsilon$, then $v$, a number for each pixel that says
where the log variance lies between its two bounds.
"""

import torch
from torch import Tensor

from lib.checks import (
    check_count,
    check_finite,
    check_floats,
    check_generator,
    check_integers,
    check_number,
    upcast,
)
from lib.diffusion.asking import Model
from lib.diffusion.ddpm import p_mean_variance, vlb_term
from lib.diffusion.denoiser import model_output
from lib.diffusion.process import GaussianDiffusion, check_process, noise_like


def learned_mean_variance(
    out: Tensor, process: GaussianDiffusion, xt: Tensor, t: Tensor, clip: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    r"""$p_\theta(x_{t-1} \mid x_t)$ from an answer, with equation (15): `denoiser.learned_log_variance`.

    Args:
        out: the answer (B, 2C, H, W); $v$ from -1, for $\tilde\beta_t$, to 1, for $\beta_t$, and not clamped.
        xt: images (B, C, H, W).
        t: their times (B,).
        clip: keep the predicted image in [-1, 1].

    Returns:
        Mean, log variance and predicted image, all shaped as `xt`.

    Raises:
        ValueError: for a wrong shape or time.
    """
    check_floats("xt", xt)
    if check_floats("out", out).ndim != xt.ndim or out.shape[1] != 2 * xt.shape[1]:
        raise ValueError(f"out must have twice the channels of the images {tuple(xt.shape)}, got {tuple(out.shape)}")
    return p_mean_variance(lambda *_: out, process, xt, t, variance="learned", clip=clip)


def hybrid_loss(
    model: Model,
    process: GaussianDiffusion,
    x0: Tensor,
    t: Tensor | None = None,
    noise: Tensor | None = None,
    vlb_weight: float | None = None,
) -> dict[str, Tensor]:
    r"""$L_\text{hybrid} = L_\text{simple} + \lambda L_\text{vlb}$, equation (16).

    Returns "loss", "simple" and "vlb" of each image, (B,). The bound's term is in bits per dimension, already weighted,
    and teaches the variance alone: no gradient goes from it into $\epsilon$.

    Args:
        x0: images (B, C, H, W) in [-1, 1].
        t: their times (B,); drawn uniformly where None.
        noise: shaped as `x0`; drawn where None. Images and noise of 16 bits are taken in float32.
        vlb_weight: by default T / 1000, which makes it 0.001 for the whole sum of T terms, as in the paper.

    Raises:
        ValueError: for a wrong shape or time, a pixel outside [-1, 1], or a `vlb_weight` that is not finite.
    """
    check_process(process)
    check_finite("x0", check_floats("x0", x0), -1, 1)
    weight = process.T / 1000 if vlb_weight is None else vlb_weight
    check_number(vlb_weight=weight)
    if t is None:
        t = torch.randint(process.T, (len(x0),), device=x0.device)
    x0, noise = upcast(x0), upcast(noise_like(x0, noise))
    xt = process.q_sample(x0, t, noise)
    out = model_output(model, xt, t, variance="learned")
    eps, v = out.chunk(2, dim=1)
    frozen = torch.cat([eps.detach(), v], dim=1)
    mean, log_variance, _ = learned_mean_variance(frozen, process, xt, t, clip=False)
    vlb = weight * vlb_term(x0, xt, t, process, mean, log_variance)
    simple = (noise - eps).square().flatten(1).mean(1)
    return {"loss": simple + vlb, "simple": simple, "vlb": vlb}


def vlb_loss(model: Model, process: GaussianDiffusion, x0: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
    r"""$T$ times the bound's term at `t`, in bits per dimension (B,): its mean over all times is $L_\text{vlb} - L_T$.

    Arguments and errors are those of `hybrid_loss`. Here the bound teaches mean and variance alike.
    """
    check_process(process)
    check_finite("x0", check_floats("x0", x0), -1, 1)
    x0, noise = upcast(x0), upcast(noise_like(x0, noise))
    xt = process.q_sample(x0, t, noise)
    mean, log_variance, _ = learned_mean_variance(
        model_output(model, xt, t, variance="learned"), process, xt, t, clip=False
    )
    return process.T * vlb_term(x0, xt, t, process, mean, log_variance)


class LossAwareSampler:
    r"""Times drawn in proportion to the root mean square of their latest losses (section 3.3, equation 18).

    $L_\text{vlb}$ is noisy because its terms differ by orders of magnitude. Drawing the large ones more often, and
    weighting each by one over its probability, leaves the expectation as it is and calms the gradient. Until every time
    has `history` losses, all are equally likely.

    Args:
        T: number of times.
        history: how many losses of each time are remembered.
        uniform: share of the draws that ignores the losses, so that no time is forgotten; in [0, 1].

    Raises:
        ValueError: for an argument out of range, and for losses that are not finite and (B,).
    """

    def __init__(self, T: int, history: int = 10, uniform: float = 0.001):
        check_count(T=T, history=history)
        check_number(0, 1, uniform=uniform)
        self.history, self.uniform = history, uniform
        self.losses = torch.zeros(
            T, history, dtype=torch.float64, device="cpu"
        )  # of each time in turn: the oldest is replaced
        self.seen = torch.zeros(T, dtype=torch.long, device="cpu")  # how many losses of each time there were

    def probabilities(self) -> Tensor:
        """How likely each time is, (T,), float64."""
        T = len(self.losses)
        weight = self.losses.square().mean(1).sqrt()
        if (self.seen < self.history).any() or not weight.sum() > 0:
            return torch.full_like(weight, 1 / T)
        return (1 - self.uniform) * weight / weight.sum() + self.uniform / T

    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        r"""`n` times and the weights $1/(T p_t)$ of their losses, both (n,) on the CPU."""
        check_count(n=n)
        check_generator(generator, "cpu")
        p = self.probabilities()
        t = torch.multinomial(p, n, replacement=True, generator=generator)
        return t, (1 / (len(p) * p[t])).float()

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Remembers the losses (B,) of times (B,), unweighted; waits for their device once."""
        if check_integers("t", t).shape != check_floats("losses", losses).shape or t.ndim != 1:
            raise ValueError(f"losses must be (B,) as t {tuple(t.shape)}, got {tuple(losses.shape)}")
        both = torch.stack([t.to(losses.device), upcast(losses.detach())]).cpu().double()
        t, losses = check_integers("t", both[0].long(), 0, len(self.losses) - 1), both[1]
        check_finite("losses", losses)
        same = t[:, None] == t
        place = (self.seen[t] + same.tril(-1).sum(1)) % self.history  # behind those of its time that came before
        latest = same.triu(1).sum(1) < self.history
        self.losses[t[latest], place[latest]] = losses[latest]
        self.seen += t.bincount(minlength=len(self.seen))
