"""The random numbers of torch, numpy and Python: sown together, kept together, put back together."""

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

# A Mersenne twister, which numpy and Python both use: its 624 words and the place among them; whether one of a pair of
# normal numbers is left over, and that number.
TWISTER = struct.Struct("=625I?d")


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside the block all random numbers depend on `seed` alone; outside they go on as without it."""
    before = random_states(device)
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        set_random_states(before, device)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of the generators by name, each uint8 (bytes,): "cpu", "numpy", "python" and that of the device."""
    _, words, left = random.getstate()
    twister = np.random.get_state(legacy=False)
    keys, place = twister["state"]["key"].tolist(), twister["state"]["pos"]
    states = {
        "cpu": torch.get_rng_state(),
        "numpy": _packed(*keys, place, bool(twister["has_gauss"]), twister["gauss"]),
        "python": _packed(*words, left is not None, left or 0.0),
    }
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state(*_which(device))
    return states


def set_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Puts the generators back that `states` names."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "numpy" in states:
        *keys, place, is_left, number = _unpacked(states["numpy"])
        np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), place, int(is_left), number))
    if "python" in states:
        *words, is_left, number = _unpacked(states["python"])
        random.setstate((3, tuple(words), number if is_left else None))
    if device.type in states and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[device.type], *_which(device))


def _which(device: torch.device) -> tuple[torch.device, ...]:
    """What to tell the device's module besides: of Apple's GPU there is only one, and its functions take no name."""
    return () if device.type == "mps" else (device,)


def _packed(*values: float) -> Tensor:
    return torch.frombuffer(bytearray(TWISTER.pack(*values)), dtype=torch.uint8)


def _unpacked(state: Tensor) -> tuple:
    return TWISTER.unpack(bytes(state.tolist()))
