"""Counts the places where a device would be waited for, on a machine that has none."""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

LOOKS = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "multinomial", "_unique2")


class Waits(TorchDispatchMode):
    """The names of all calls that must know a number of a tensor before they can go on.

    Use it with `lib.checks.readable` patched to say no, as it does of tensors on a device.
    """

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = name.startswith("index") and any(
            part is not None and part.dtype == torch.bool for part in indices(args)
        )
        if name in LOOKS or masks:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


class Readings(TorchFunctionMode):
    """The names of all calls by which Python reads a tensor as a whole, in a list that is given."""

    def __init__(self, found: list[str]):
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.__array__):
            self.found.append(function.__name__)
        return function(*args, **(kwargs or {}))


def indices(args) -> list:
    """What an indexing call indexes with."""
    return list(args[1]) if len(args) > 1 and isinstance(args[1], (list, tuple)) else []


def waits(run, monkeypatch) -> list[str]:
    """What `run()` would wait for on a device."""
    monkeypatch.setattr("lib.checks.readable", lambda value: False)
    with Waits() as mode, Readings(mode.found):
        run()
    return mode.found
