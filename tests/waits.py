"""Counts the places where a device would be waited for, on a machine that has none."""

import sys

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Numbers that are read, sizes that depend on numbers, and lists that are copied to the device.
LOOKS = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "multinomial", "_unique",
         "unique", "repeat_interleave", "lift_fresh")  # fmt: skip


class Waits(TorchDispatchMode):
    """The names of all calls that must know a number of a tensor before they can go on."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        places = args[1] if name.startswith("index") and isinstance(args[1], (list, tuple)) else ()
        masks = any(place is not None and place.dtype in (torch.bool, torch.uint8) for place in places)
        if name.startswith(LOOKS) or masks:
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


def far(monkeypatch) -> None:
    """From here on all tensors count as those of a device that must be waited for."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith("lib.") and hasattr(module, "readable"):
            monkeypatch.setattr(module, "readable", lambda value: False)


def waits(run, monkeypatch) -> list[str]:
    """What `run()` would wait for on a device."""
    far(monkeypatch)
    with Waits() as mode, Readings(mode.found):
        run()
    return mode.found
