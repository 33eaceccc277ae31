r"""The diffusion process: what noise does to an image, what undoes it, and four ways to say where the image was.

Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (arXiv:2006.11239). In the code,
`betas` is $\beta$, `alphas` is $\alpha = 1 - \beta$, `alphas_bar` is $\bar\alpha$, the product of all $\alpha$ so far.

Time counts from 0 in the code and from 1 in the papers: `t = 0` is the first step, so `xt` at `t` has been noised
`t + 1` times, and `alphas_bar_prev[0]` is 1, the image before any noise.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib.checks import check_finite, check_floats, check_integers, check_option, described


class GaussianDiffusion(nn.Module):
    r"""The chain $q(x_t \mid x_{t-1}) = \mathcal N(\sqrt{1-\beta_t}\,x_{t-1}, \beta_t I)$ and what follows from it.

    Everything is computed once, in float64, and kept as buffers (T,). Results have the type of the images. A module
    that is cast to 16 bits keeps its buffers in float32, and so does one on a device that has no float64.

    In all methods `t` is a tensor of integers (B,), from 0 to T - 1, on the device of the buffers, and images,
    noise and predictions are floating point (B, ...), all of one shape.

    Args:
        betas: variances of the noise of each step (T,), each between 0 and 1.

    Raises:
        ValueError: for `betas` that are no such tensor; in the methods for what is no such tensor, for wrong shapes,
            and for `t` outside the schedule or noise that is not finite, where looking costs no waiting for a device.
    """

    def __init__(self, betas: Tensor):
        super().__init__()
        if check_floats("betas", betas).ndim != 1 or not len(betas):
            raise ValueError(f"betas must be floating point (T,), got {described(betas)}")
        if betas.is_meta:
            raise ValueError("betas must hold numbers, got a tensor on the device meta, which has none")
        betas = betas.detach().cpu().to(torch.float64, copy=True)  # in this order: the device may have no float64
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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "GaussianDiffusion":
        """What `to`, `half` and their kind do to each buffer; never below float32, where 1 - 0.9999 would be 0."""

        def keep(table: Tensor) -> Tensor:
            try:
                moved = fn(table)
            except TypeError:  # the device has no float64
                moved = fn(table.float())
            return moved if moved.element_size() >= 4 else table.to(moved.device, torch.float32)

        return super()._apply(keep, recurse)

    @property
    def T(self) -> int:
        """Number of steps."""
        return len(self.betas)

    def respaced(self, times: Tensor) -> "GaussianDiffusion":
        r"""The shorter chain that visits only `times` $\tau_i$, rising integers (S,).

        Its step `i` has the noise of step `times[i]` of this chain, so one network serves both:
        $\beta_i = 1 - \bar\alpha_{\tau_i} / \bar\alpha_{\tau_{i-1}}$ (Nichol and Dhariwal 2021, section 4).
        """
        alphas_bar = self.alphas_bar[self.check_times(times, name="times")]
        if not len(times) or not (times.diff() > 0).all():
            raise ValueError(f"times must be at least one integer, each above the one before, got {times.tolist()}")
        before = torch.cat([alphas_bar.new_ones(1), alphas_bar[:-1]])
        return GaussianDiffusion(1 - alphas_bar / before).to(self.betas.device, self.betas.dtype)

    def q_step(self, x_prev: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        r"""$x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\epsilon$: one step (equation 2)."""
        noise = noise_like(check_floats("x_prev", x_prev), noise)
        alpha, beta = self.extract("alphas", t, x_prev), self.extract("betas", t, x_prev)
        return alpha.sqrt() * x_prev + beta.sqrt() * noise

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        r"""$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$: all steps at once (equation 4)."""
        signal, spread = self.signal_and_spread(t, check_floats("x0", x0))
        return signal * x0 + spread * noise_like(x0, noise)

    def q_posterior(self, x0: Tensor, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""$q(x_{t-1} \mid x_t, x_0) = \mathcal N(\tilde\mu_t, \tilde\beta_t I)$ (equations 6 and 7).

        Returns:
            The mean, shaped as `x0`; the variance (B, 1, ...), 0 at the first step; its logarithm, which at the
            first step is that of the second.
        """
        check_floats("xt", xt, like=check_floats("x0", x0))
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
        signal, spread = self.signal_and_spread(t, check_floats("xt", xt))
        return (xt - spread * check_floats("eps", eps, like=xt)) / signal

    def eps_from_x0(self, xt: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        r"""$\epsilon = (x_t - \sqrt{\bar\alpha_t}\,x_0) / \sqrt{1-\bar\alpha_t}$."""
        signal, spread = self.signal_and_spread(t, check_floats("xt", xt))
        return (xt - signal * check_floats("x0", x0, like=xt)) / spread

    def v_from_x0_eps(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        r"""$v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,x_0$.

        Salimans and Ho, "Progressive Distillation", ICLR 2022 (arXiv:2202.00512), appendix D.
        """
        signal, spread = self.signal_and_spread(t, check_floats("x0", x0))
        return signal * check_floats("eps", eps, like=x0) - spread * x0

    def x0_from_v(self, xt: Tensor, t: Tensor, v: Tensor) -> Tensor:
        r"""$x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v$."""
        signal, spread = self.signal_and_spread(t, check_floats("xt", xt))
        return signal * xt - spread * check_floats("v", v, like=xt)

    def eps_from_v(self, xt: Tensor, t: Tensor, v: Tensor) -> Tensor:
        r"""$\epsilon = \sqrt{1-\bar\alpha_t}\,x_t + \sqrt{\bar\alpha_t}\,v$."""
        signal, spread = self.signal_and_spread(t, check_floats("xt", xt))
        return spread * xt + signal * check_floats("v", v, like=xt)

    def score_from_eps(self, t: Tensor, eps: Tensor) -> Tensor:
        r"""$\nabla_{x_t} \log q(x_t \mid x_0) = -\epsilon / \sqrt{1-\bar\alpha_t}$."""
        _, spread = self.signal_and_spread(t, check_floats("eps", eps))
        return -eps / spread

    def snr(self, t: Tensor) -> Tensor:
        r"""Signal-to-noise ratio $\bar\alpha_t / (1-\bar\alpha_t)$ (B,), in the type of the buffers."""
        alpha_bar = self.alphas_bar[self.check_times(t)]
        return alpha_bar / (1 - alpha_bar)

    def signal_and_spread(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""$\sqrt{\bar\alpha_t}$ and $\sqrt{1-\bar\alpha_t}$, shaped to multiply `x`."""
        alpha_bar = self.alphas_bar[self.check_times(t, check_floats("x", x))]
        return shaped(alpha_bar.sqrt(), x), shaped((1 - alpha_bar).sqrt(), x)

    def extract(self, name: str, t: Tensor, x: Tensor) -> Tensor:
        """Entries `t` of a table, (B, 1, ...), in the type of `x`."""
        check_option("name", name, tuple(self._buffers))
        return shaped(getattr(self, name)[self.check_times(t, check_floats("x", x))], x)

    def check_times(self, t: Tensor, x: Tensor | None = None, name: str = "t") -> Tensor:
        """`t` as int64, after checking that it holds times of the schedule (B,), one for each image of `x` (B, ...)."""
        times = check_integers(name, t, 0, self.T - 1)
        if times.ndim != 1:
            raise ValueError(f"{name} must be integers (B,), got {described(t)}")
        if x is not None and (x.ndim < 1 or len(x) != len(times)):
            wanted, got = f"({len(times)}, ...), one image for each time of {name}", tuple(x.shape)
            raise ValueError(f"images must be {wanted}, got {got}")
        return times


def shaped(values: Tensor, x: Tensor) -> Tensor:
    """Numbers (B,), one for each image of `x` (B, ...), as (B, 1, ...) in the type of `x`."""
    return values.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def gaussian(
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Noise of this shape on `device`, drawn where `generator` lives: one on the CPU gives the same on every device.

    Where no `dtype` is given it is float32, or wider if that is the default.
    """
    source = device if generator is None else generator.device
    dtype = torch.promote_types(torch.get_default_dtype(), torch.float32) if dtype is None else dtype
    return torch.randn(shape, generator=generator, device=source, dtype=dtype).to(device)


def noise_like(x: Tensor, noise: Tensor | None, name: str = "noise") -> Tensor:
    """`noise`, after checking that it is finite and has the shape of `x`; drawn from N(0, I) where None."""
    if noise is None:
        return torch.randn_like(x)
    check_finite(name, check_floats(name, noise, like=x))
    return noise


def check_process(process: GaussianDiffusion) -> None:
    """Raises `ValueError` unless `process` is one."""
    if not isinstance(process, GaussianDiffusion):
        raise ValueError(f"process must be a GaussianDiffusion, got {described(process)}")
