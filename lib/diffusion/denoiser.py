r"""What a model's answer says: the image $\hat x_0$ and the noise $\hat\epsilon$ in $x_t$, and how sure a step back is.

Every loss and every sampler asks its model here, whatever that model predicts. Ho, Jain and Abbeel (arXiv:2006.11239),
section 3.2, for "eps" and "x0"; Salimans and Ho (arXiv:2202.00512), appendix D, for "v"; Nichol and Dhariwal
(arXiv:2102.09672), section 3.1, for a variance that is learned.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lib.checks import check_flags, check_floats, check_generator, check_option, check_shape
from lib.diffusion.asking import Model, call_model, check_eval, in_own_type
from lib.diffusion.process import GaussianDiffusion, check_process

TARGETS = ("eps", "x0", "v")
VARIANCES = ("small", "large", "learned")


class Prediction:
    r"""An answer for $x_t = \text{signal}\,x_0 + \text{spread}\,\epsilon$, read as image and as noise.

    Args:
        output: what the model says, shaped as `xt`.
        xt: images (B, ...).
        signal, spread: numbers, or (B, 1, ...).
        target: what the model predicts, "eps", "x0" or "v".
        clip: keep the image in [-1, 1].

    Attributes:
        x0: the image $\hat x_0$, shaped as `xt`. From "v" it comes without a division by a signal close to 0.
    """

    def __init__(self, output: Tensor, xt: Tensor, signal, spread, target: str = "eps", clip: bool = True):
        if target == "eps":
            x0 = (xt - spread * output) / signal
        elif target == "v":
            x0 = signal * xt - spread * output
        else:
            x0 = output
        self.x0 = x0.clamp(-1, 1) if clip else x0
        self.output, self.xt, self.target, self.clip = output, xt, target, clip
        self.signal, self.spread = signal, spread

    @property
    def eps(self) -> Tensor:
        r"""The noise $\hat\epsilon$ that belongs to `x0`, shaped as `xt`."""
        if self.clip or self.target == "x0":
            return (self.xt - self.signal * self.x0) / self.spread
        return self.output if self.target == "eps" else self.spread * self.xt + self.signal * self.output


class Denoiser:
    r"""A model together with how its answers are to be read.

    Args:
        model: images (B, ...) and times (B,) to an answer shaped as the images; with a learned variance to twice their
            channels, first what is predicted, then $v$, a number for each pixel.
        process: whose noise is in the images.
        target: what the model predicts, "eps", "x0" or "v".
        variance: of $p_\theta(x_{t-1} \mid x_t)$: "small" is $\tilde\beta_t$, "large" is $\beta_t$, "learned" lies
            between them (`learned_log_variance`).
        clip: keep the image in [-1, 1].

    Raises:
        ValueError: for an unknown option, a `clip` that is not True or False, a model that cannot be called, and what
            is no process.
    """

    def __init__(
        self,
        model: Model,
        process: GaussianDiffusion,
        target: str = "eps",
        variance: str = "small",
        clip: bool = True,
    ):
        check_option("target", target, TARGETS)
        check_option("variance", variance, VARIANCES)
        check_flags(clip=clip)
        check_process(process)
        self.model = in_own_type(model)
        self.process, self.target, self.variance, self.clip = process, target, variance, clip

    def model_output(self, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the model predicts for `xt`, shaped as it, and the $v$ of a learned variance, else None."""
        if self.variance != "learned":
            return model_output(self.model, xt, t), None
        predicted, v = model_output(self.model, xt, t, variance="learned").chunk(2, dim=1)
        return predicted, v

    def __call__(self, xt: Tensor, t: Tensor) -> Prediction:
        """Image and noise in `xt` (B, ...) at times (B,)."""
        signal, spread = self.process.signal_and_spread(t, check_floats("xt", xt))
        return Prediction(self.model_output(xt, t)[0], xt, signal, spread, self.target, self.clip)

    def step_back(self, xt: Tensor, t: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Mean and log variance of $p_\theta(x_{t-1} \mid x_t)$, and $\hat x_0$; with the `coefficients` at `t`.

        The mean is that of $q(x_{t-1} \mid x_t, \hat x_0)$.
        """
        signal, spread, of_x0, of_xt, smallest, largest = coefficients
        predicted, v = self.model_output(xt, t)
        x0 = Prediction(predicted, xt, signal, spread, self.target, self.clip).x0
        if v is not None:
            log_variance = learned_log_variance(v, smallest, largest)
        else:
            log_variance = smallest if self.variance == "small" else largest
        return of_x0 * x0 + of_xt * xt, log_variance, x0

    def coefficients(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        r"""What `step_back` needs to know of times `t` (n,): (6, n), in the type of the images.

        $\sqrt{\bar\alpha_t}$ and $\sqrt{1-\bar\alpha_t}$; the factors of $x_0$ and of $x_t$ in $\tilde\mu_t$ (equation
        7 of DDPM); $\log\tilde\beta_t$ and $\log\beta_t$. In place of $\log 0$ at the first step stands
        $\log\tilde\beta_2$, and so it does for $\log\beta_1$, unless the variance is learned.
        """
        process, alpha_bar = self.process, self.process.alphas_bar[t]
        smallest, largest = process.posterior_log_variance[t].to(dtype), process.betas[t].to(dtype).log()
        if self.variance != "learned":
            largest = torch.where(t == 0, smallest, largest)
        factors = alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), process.posterior_mean_x0[t], process.posterior_mean_xt[t]
        return torch.stack([*(factor.to(dtype) for factor in factors), smallest, largest])


def learned_log_variance(v: Tensor, smallest: Tensor, largest: Tensor) -> Tensor:
    r"""Equation (15) of improved DDPM, with the fraction $(v + 1)/2$ of the way from $\log\tilde\beta$ to $\log\beta$.

    $v$ from -1, for the smallest, to 1, for the largest, is not clamped.
    """
    share = (v + 1) / 2
    return share * largest + (1 - share) * smallest


def model_output(model: Callable[..., Tensor], xt: Tensor, t: Tensor, *condition, variance: str = "small") -> Tensor:
    """What the model says of `xt`, as `call_model` gets it, with twice its channels where the variance is learned.

    Raises `ValueError` for an answer of another shape.
    """
    out = call_model(model, xt, t, *condition)
    wanted = xt.shape if variance != "learned" else (xt.shape[0], 2 * xt.shape[1], *xt.shape[2:])
    if out.shape != wanted:
        raise ValueError(f"the model's output must have the shape {tuple(wanted)}, got {tuple(out.shape)}")
    return out


def shifted(out: Tensor, shift: Tensor, variance: str) -> Tensor:
    """A model's answer with a `shift` of what it predicts; the $v$ of a learned variance behind that stays as it is."""
    if variance != "learned":
        return out + shift
    predicted, v = out.chunk(2, dim=1)
    return torch.cat([predicted + shift[:, : predicted.shape[1]], v], dim=1)


def slope(name: str, found: Tensor, x: Tensor, create_graph: bool = False) -> Tensor:
    """The gradient of the number `found` at `x`; `ValueError` where autograd saw no way from `found` back to `x`."""
    there = None
    if found.requires_grad:
        (there,) = torch.autograd.grad(found, x, create_graph=create_graph, allow_unused=True)
    if there is None:
        raise ValueError(f"{name} must depend on the images by steps that autograd follows, got one without gradient")
    return there


def check_walk(model: Model, process: GaussianDiffusion, shape: object, generator: torch.Generator | None) -> Model:
    """The model as `check_eval` has it. Raises `ValueError` for what no sampler can walk with."""
    check_process(process)
    check_shape(shape)
    check_generator(generator)
    return check_eval(model)
