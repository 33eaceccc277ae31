r"""What a model's answer says: the image $\hat x_0$ and the noise $\hat\epsilon$ in $x_t$, and how sure a step back is.

Every loss and every sampler asks its model here, whatever that model predicts. Ho, Jain and Abbeel (arXiv:2006.11239),
section 3.2, for "eps" and "x0"; Salimans and Ho (arXiv:2202.00512), appendix D, for "v"; Nichol and Dhariwal
(arXiv:2102.09672), section 3.1, for a variance that is learned.
"""

import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import _global_forward_pre_hooks, register_module_forward_pre_hook

from lib.checks import check_flags, check_floats, check_generator, check_option, check_shape, described
from lib.diffusion.process import GaussianDiffusion, check_process

Model = Callable[[Tensor, Tensor], Tensor]
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


def call_model(model: Callable[..., Tensor], xt: Tensor, *told) -> Tensor:
    """What the model, `told` times and more, says of `xt`, in the type of `xt`; a network is asked in its own type.

    So is each network that a function asks, at its door. A function that asks none may answer in a wider type. Raises
    `ValueError` where the answer is no floating-point tensor, as when the model forgets to return.
    """
    return in_own_type(model)(xt, *told)


class Asking(threading.local):
    """What is known, in one thread, of the function that is asked there.

    `entered` are the modules that the function asked, each under its own id and those of all its parts; None while no
    function is asked. `sampled` is what errors call the model, where no network may be in training mode. `found` tells
    whether a network was among the modules, and `inside` whether any door was passed.
    """

    entered: dict[int, nn.Module] | None = None
    sampled: str | None = None
    found = inside = False


HERE = Asking()


def door(module: nn.Module, given: tuple) -> Any:
    """The numbers `given` to a module in the type of its parameters; `ValueError` if it must not be in training mode.

    A hook that PyTorch calls before any module runs. It looks at those that a function asks, not at what these ask in
    turn. In a function that was compiled, it is compiled into every module.
    """
    if torch.compiler.is_compiling():
        if HERE.inside:
            return None
    else:
        if HERE.entered is None or HERE.entered.get(id(module), module) is not module:
            return None
        for part in module.modules() if any(map(is_float, given)) else [module]:  # images by name: its parts cast them
            HERE.entered.setdefault(id(part), module)
        HERE.inside = True
    if HERE.sampled is not None and learns(module):
        raise in_training(HERE.sampled)
    inside = own_type(module)
    if inside is None:
        return None
    if not torch.compiler.is_compiling():
        HERE.found = True
    return given if inside == torch.float32 and under_autocast(given) else in_type(given, inside)


DOOR = register_module_forward_pre_hook(door)  # one handle for good, as what is compiled knows it by its number
DOOR.remove()
# That a hook fires once more for a module that was compiled is what makes such a module seen.
ONCE_MORE = r"Using `torch\.compile\(module\)` when there are global hooks"
HUSHED = ("ignore", re.compile(ONCE_MORE, re.IGNORECASE), UserWarning, None, 0)
LOCK, ASKED = threading.Lock(), [0]  # functions that are asked now, in all threads


@contextmanager
def watched(sampled: str | None) -> Iterator[Asking]:
    """Lets `door` see every module that is asked meanwhile in this thread. Within a walk all is part of the walk."""
    before = vars(HERE).copy()
    if HUSHED not in warnings.filters:  # added anew at each ask, it would let other warnings be shown anew, too
        warnings.filterwarnings("ignore", ONCE_MORE, UserWarning)
    HERE.entered, HERE.sampled, HERE.found, HERE.inside = {}, sampled or HERE.sampled, False, False
    with LOCK:
        ASKED[0] += 1
        _global_forward_pre_hooks[DOOR.id] = door
    try:
        yield HERE
    finally:
        with LOCK:
            ASKED[0] -= 1
            if not ASKED[0]:
                DOOR.remove()
        vars(HERE).clear()
        vars(HERE).update(before)


def in_own_type(model: Callable[..., Tensor], sampled: str | None = None) -> Callable[..., Tensor]:
    """The model as `call_model` asks it; with `sampled`, its name, no network that it asks may be in training mode.

    A network is known, and a function's networks show when they are asked.
    """
    check_model(model)
    if getattr(model, "in_own_type", None) is True:
        return model
    owner = model if isinstance(model, nn.Module) else getattr(model, "__self__", None)
    inside = own_type(owner) if isinstance(owner, nn.Module) else None

    def ask(xt: Tensor, *told) -> Tensor:
        network, given = inside is not None, (xt, *told)
        if inside is not None:
            given = in_type(given, inside)
        if (network and isinstance(model, nn.Module)) or torch.compiler.is_compiling():
            out = model(*given)
        else:
            with watched(sampled) as seen:
                out = model(*given)
                network = network or seen.found
        out = check_floats("the model's output", out)
        return out.to(xt.dtype if network else torch.promote_types(out.dtype, xt.dtype))

    vars(ask)["in_own_type"] = True
    return ask


def own_type(network: nn.Module) -> torch.dtype | None:
    """Of a network's numbers: the type of its first floating-point parameter; None where it has none."""
    return next((parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()), None)


def is_float(value: object) -> bool:
    """Whether `value` is a floating-point tensor."""
    return isinstance(value, Tensor) and value.is_floating_point()


def in_type(given: tuple, dtype: torch.dtype) -> tuple:
    """All values, the floating-point tensors among them in this type."""
    return tuple(value.to(dtype) if is_float(value) else value for value in given)


def under_autocast(given: tuple) -> bool:
    """Whether autocast chooses the types of these tensors."""
    kinds = {value.device.type for value in given if isinstance(value, Tensor)}
    return any(torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind) for kind in kinds)


def learns(module: nn.Module) -> bool:
    """Whether a part is in training mode, in what has numbers to learn or measure, or drops some."""
    parts = [part for part in module.modules() if part.training]
    if not parts:
        return False
    numbers = next(module.parameters(), None) is not None or next(module.buffers(), None) is not None
    return numbers or any(isinstance(part, _DropoutNd) for part in parts)


def in_training(name: str) -> ValueError:
    """The error for a network in training mode."""
    return ValueError(f"{name} must be in eval mode to sample, call {name}.eval() first, on all networks it asks")


def shifted(out: Tensor, shift: Tensor, variance: str) -> Tensor:
    """A model's answer with a `shift` of what it predicts; the $v$ of a learned variance behind that stays as it is."""
    if variance != "learned":
        return out + shift
    predicted, v = out.chunk(2, dim=1)
    return torch.cat([predicted + shift[:, : predicted.shape[1]], v], dim=1)


def check_model(model: Callable, name: str = "model") -> None:
    """Raises `ValueError` unless `model` can be called."""
    if not callable(model):
        raise ValueError(f"{name} must be callable, got {described(model)}")


def slope(name: str, found: Tensor, x: Tensor, create_graph: bool = False) -> Tensor:
    """The gradient of the number `found` at `x`; `ValueError` where autograd saw no way from `found` back to `x`."""
    there = None
    if found.requires_grad:
        (there,) = torch.autograd.grad(found, x, create_graph=create_graph, allow_unused=True)
    if there is None:
        raise ValueError(f"{name} must depend on the images by steps that autograd follows, got one without gradient")
    return there


def check_eval(model: Model, name: str = "model") -> Model:
    """The model, to be asked by a sampler: `ValueError` where a network is in training mode, as dropout would spoil it.

    A network is looked at now, with all its parts, and what a function asks when it is asked, before that runs.
    """
    check_model(model, name)
    owner = model if isinstance(model, nn.Module) else getattr(model, "__self__", None)
    parts = model.modules() if isinstance(model, nn.Module) else [owner] if isinstance(owner, nn.Module) else []
    if any(part.training for part in parts):
        raise in_training(name)
    return in_own_type(model, name)


def check_walk(model: Model, process: GaussianDiffusion, shape: object, generator: torch.Generator | None) -> Model:
    """The model as `check_eval` has it. Raises `ValueError` for what no sampler can walk with."""
    check_process(process)
    check_shape(shape)
    check_generator(generator)
    return check_eval(model)
