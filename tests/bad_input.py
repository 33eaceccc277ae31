"""Spoils the arguments of a call, one at a time, and says what did not end in a clear error."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

NEVER = {"None": None, "a word": "word", "an object": object(), "a list of words": ["word"]}
NUMBERS = NEVER | {"nan": math.nan, "a tensor": torch.zeros(2, 3), "-1": -1, "True": True}


def spoiled(value: object) -> dict[str, object]:
    """Values that cannot stand where `value` can, by name."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return NEVER | {"a number": 0.5, "integers": torch.zeros(value.shape, dtype=torch.int64), "complex": value + 1j}
    if isinstance(value, Tensor):
        return NEVER | {
            "a number": 1,
            "fractions": value + 0.5,
            "yes and no": value > 0,
            "-1": torch.full_like(value, -1),
        }
    if isinstance(value, int) and not isinstance(value, bool):
        return NUMBERS | {"a fraction": 1.5}
    if isinstance(value, float):
        return NUMBERS | {"infinity": math.inf}
    if isinstance(value, str):
        return {"None": None, "a number": 3, "another word": "word"}
    if isinstance(value, tuple):
        return NEVER | {"a number below 0": tuple(-1 for _ in value)}
    return NEVER


def unclear(
    call: Callable, good: dict[str, object], fine: tuple[str, ...] = (), errors: tuple[type, ...] = (ValueError,)
) -> list[str]:
    """What happens where one of the `good` arguments of `call` is spoiled and no error of the `errors` names it.

    `fine` names what may stand there after all, as "argument: a number".
    """
    call(**good)
    found = []
    for name, value in good.items():
        for what, bad in spoiled(value).items():
            if f"{name}: {what}" in fine:
                continue
            try:
                call(**{**good, name: bad})
                found.append(f"{name}: {what}: accepted")
            except errors as error:
                if name not in str(error):
                    found.append(f"{name}: {what}: unnamed in {error}")
            except Exception as error:  # what the caller would see
                found.append(f"{name}: {what}: {type(error).__name__}: {error}")
    return found
