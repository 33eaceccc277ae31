"""How a model is asked: each network in the type of its own numbers, and by a sampler in eval mode only.

A model may be a network or any function that asks some. What a function asks shows only when it runs, so it is watched.
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

from lib.checks import check_floats, described

Model = Callable[[Tensor, Tensor], Tensor]


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


def check_model(model: Callable, name: str = "model") -> None:
    """Raises `ValueError` unless `model` can be called."""
    if not callable(model):
        raise ValueError(f"{name} must be callable, got {described(model)}")


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
