r"""The diffusion process: what noise does to an image, what undoes it, and four ways to say where the image was.

Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (arXiv:2006.11239). In the code,
`betas` is $\beta$, `alphas` is $\alpha = 1 - \beta$, `alphas_bar` is $\bar\alpha$, the product of all $\alpha$ so far.

Time counts from 0 in the code and from 1 in the papers: `t = 0` is the first step, so `xt` at `t` has been noised
`t + 1` times, and `alphas_bar_prev[0]` is 1, the image before any noise.
"""

import torch
from torch import Tensor, nn


class GaussianDiffusion(nn.Module):
    r"""The chain $q(x_t \mid x_{t-1}) = \mathcal N(\sqrt{1-\beta_t}\,x_{t-1}, \beta_t I)$ and what follows from it.

    Everything is computed once, in float64, and kept as buffers (T,). Results have the type of the images. Where a
    device has no float64, convert before moving: `GaussianDiffusion(betas).float().to(device)`.

    In all methods `t` is a tensor of integers (B,), from 0 to T - 1, on the device of the buffers, and images,
    noise and predictions are floating point (B, ...), all of one shape.

    Args:
        betas: variances of the noise of each step (T,), each between 0 and 1.

    Raises:
        ValueError: for `betas` that are no such tensor; in the methods for wrong shapes, and for `t` outside the
            schedule.
    """

    def __init__(self, betas: Tensor):
        super().__init__()
        if betas.ndim != 1 or not len(betas) or not betas.is_floating_point():
            raise ValueError(f"betas must be floating point (T,), got {betas.dtype} {tuple(betas.shape)}")
        betas = betas.detach().to("cpu", torch.float64, copy=True)
        if not ((betas > 0) & (betas < 1)).all():  # written so that NaN fails too
            raise ValueError(f"betas must lie between 0 and 1, got values from {betas.min():g} to {betas.max():g}")
        alphas = 1 - betas
        alphas_bar = alphas.cumprod(0)
        alphas_bar_prev = torch.cat([alphas_bar.new_ones(1), alphas_bar[:-1]])
        variance = betas * (1 - alphas_bar_prev) / (1 - alphas_bar)
        # The posterior variance of the first step is 0. Its logarithm is replaced by that of the second, as in the
        # authors' code (the only step of a chain of one keeps its beta).
        log_variance = torch.cat([variance[1:2] if len(betas) > 1 else betas, variance[1:]]).log()
        tables = {
            "betas": betas,
            "alphas": alphas,
            "alphas_bar": alphas_bar,
            "alphas_bar_prev": alphas_bar_prev,
            "posterior_variance": variance,
            "posterior_log_variance": log_variance,
            "posterior_mean_x0": betas * alphas_bar_prev.sqrt() / (1 - alphas_bar),
            "posterior_mean_xt": alphas.sqrt() * (1 - alphas_bar_prev) / (1 - alphas_bar),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    @property
    def T(self) -> int:
        """Number of steps."""
        return len(self.betas)

    def strided(self, times: Tensor) -> "GaussianDiffusion":
        r"""The shorter chain that visits only `times` $\tau_i$, rising integers (S,).

        Its step `i` has the noise of step `times[i]` of this chain, so one network serves both:
        $\beta_i = 1 - \bar\alpha_{\tau_i} / \bar\alpha_{\tau_{i-1}}$ (Nichol and Dhariwal 2021, section 4).
        """
        alphas_bar = self.alphas_bar[self.check_times(times)]
        if not len(times) or not (times.diff() > 0).all():
            raise ValueError(f"times must be at least one integer, each above the one before, got {times.tolist()}")
        before = torch.cat([alphas_bar.new_ones(1), alphas_bar[:-1]])
        return GaussianDiffusion(1 - alphas_bar / before).to(self.betas.device, self.betas.dtype)

    def q_step(self, x_prev: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        r"""$x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\epsilon$: one step (equation 2)."""
        noise = like(x_prev, noise, "noise")
        alpha, beta = self.at("alphas", t, x_prev), self.at("betas", t, x_prev)
        return alpha.sqrt() * x_prev + beta.sqrt() * noise

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        r"""$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$: all steps at once (equation 4)."""
        signal, spread = self.signal_and_spread(t, x0)
        return signal * x0 + spread * like(x0, noise, "noise")

    def q_posterior(self, x0: Tensor, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""$q(x_{t-1} \mid x_t, x_0) = \mathcal N(\tilde\mu_t, \tilde\beta_t I)$ (equations 6 and 7).

        Returns:
            The mean, shaped as `x0`; the variance (B, 1, ...), 0 at the first step; its logarithm, which at the
            first step is that of the second.
        """
        like(x0, xt, "xt")
        t = self.check_times(t, x0)
        of_x0, of_xt, variance, log_variance = (
            shaped(table[t], x0)
            for table in (
                self.posterior_mean_x0,
                self.posterior_mean_xt,
                self.posterior_variance,
                self.posterior_log_variance,
            )
        )
        return of_x0 * x0 + of_xt * xt, variance, log_variance

    def x0_from_eps(self, xt: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        r"""$x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\epsilon) / \sqrt{\bar\alpha_t}$."""
        signal, spread = self.signal_and_spread(t, xt)
        return (xt - spread * like(xt, eps, "eps")) / signal

    def eps_from_x0(self, xt: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        r"""$\epsilon = (x_t - \sqrt{\bar\alpha_t}\,x_0) / \sqrt{1-\bar\alpha_t}$."""
        signal, spread = self.signal_and_spread(t, xt)
        return (xt - signal * like(xt, x0, "x0")) / spread

    def v_from_x0_eps(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        r"""$v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,x_0$.

        Salimans and Ho, "Progressive Distillation", ICLR 2022 (arXiv:2202.00512), appendix D.
        """
        signal, spread = self.signal_and_spread(t, x0)
        return signal * like(x0, eps, "eps") - spread * x0

    def x0_from_v(self, xt: Tensor, t: Tensor, v: Tensor) -> Tensor:
        r"""$x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v$."""
        signal, spread = self.signal_and_spread(t, xt)
        return signal * xt - spread * like(xt, v, "v")

    def eps_from_v(self, xt: Tensor, t: Tensor, v: Tensor) -> Tensor:
        r"""$\epsilon = \sqrt{1-\bar\alpha_t}\,x_t + \sqrt{\bar\alpha_t}\,v$."""
        signal, spread = self.signal_and_spread(t, xt)
        return spread * xt + signal * like(xt, v, "v")

    def score_from_eps(self, t: Tensor, eps: Tensor) -> Tensor:
        r"""$\nabla_{x_t} \log q(x_t \mid x_0) = -\epsilon / \sqrt{1-\bar\alpha_t}$."""
        return -eps / self.signal_and_spread(t, eps)[1]

    def snr(self, t: Tensor) -> Tensor:
        r"""Signal-to-noise ratio $\bar\alpha_t / (1-\bar\alpha_t)$ (B,), in the type of the buffers."""
        alpha_bar = self.alphas_bar[self.check_times(t)]
        return alpha_bar / (1 - alpha_bar)

    def signal_and_spread(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""$\sqrt{\bar\alpha_t}$ and $\sqrt{1-\bar\alpha_t}$, shaped to multiply `x`."""
        alpha_bar = self.alphas_bar[self.check_times(t, x)]
        return shaped(alpha_bar.sqrt(), x), shaped((1 - alpha_bar).sqrt(), x)

    def at(self, name: str, t: Tensor, x: Tensor) -> Tensor:
        """Entries `t` of a table, (B, 1, ...), in the type of `x`."""
        return shaped(getattr(self, name)[self.check_times(t, x)], x)

    def check_times(self, t: Tensor, x: Tensor | None = None) -> Tensor:
        """`t` itself, after checking that it holds times of the schedule, one for each image of `x`.

        The values are not looked at while compiling.
        """
        if t.ndim != 1 or t.is_floating_point() or t.dtype == torch.bool:
            raise ValueError(f"t must be integers (B,), got {t.dtype} {tuple(t.shape)}")
        if x is not None and (x.ndim < 1 or len(x) != len(t) or not x.is_floating_point()):
            raise ValueError(f"images must be floating point ({len(t)}, ...) as t, got {x.dtype} {tuple(x.shape)}")
        t = t.long()  # of 8 bits it would count as a mask
        if not (torch.compiler.is_compiling() or t.is_meta) and ((t < 0) | (t >= self.T)).any():
            raise ValueError(f"t must lie between 0 and {self.T - 1}, got values from {t.min()} to {t.max()}")
        return t


def shaped(values: Tensor, x: Tensor) -> Tensor:
    """Numbers (B,), one for each image of `x` (B, ...), as (B, 1, ...) in the type of `x`."""
    return values.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def gaussian(
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Noise of this shape on `device`, drawn where `generator` lives: one on the CPU gives the same on every device."""
    source = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=source, dtype=dtype).to(device)


def like(x: Tensor, other: Tensor | None, name: str) -> Tensor:
    """`other`, after checking that it has the shape of `x`; fresh Gaussian noise where it is None."""
    if not x.is_floating_point():
        raise ValueError(f"images must be floating point, got {x.dtype} {tuple(x.shape)}")
    if other is None:
        return torch.randn_like(x)
    if other.shape != x.shape:
        raise ValueError(f"{name} must have the shape of the images, {tuple(x.shape)}, got {tuple(other.shape)}")
    return other
