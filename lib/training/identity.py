"""What tells one training from another: a checkpoint of the one is none of the other."""

import functools
import json
import re
import types
import zlib

import numpy as np
import torch
from torch import Tensor, nn

CHANGED = "changed in training"  # stands in a checkpoint for what cannot be compared with a model that begins
OF_EVERY_MODULE = vars(nn.Module()).keys()


def fingerprint(model: nn.Module, data: tuple[Tensor, ...]) -> dict:
    """What tells models and data sets apart, as JSON can hold it: `model_fingerprint`, and a checksum of the data."""
    return {"data": [_checksum(part) for part in data], **model_fingerprint(model)}


def model_fingerprint(model: nn.Module) -> dict:
    """Under "model" the names, shapes and types of the tensors, and whether they are trained; under "model.NAME" the
    kind of each module, what it keeps besides (a number of heads, the weight of a term, a function, a table), and a
    checksum of each tensor that is not trained: of buffers, stored or not, and of frozen parameters.

    The numbers of the parameters that are trained are left out. What else a training changes itself (the statistics of
    batches, codes that follow an average) `without_changes` finds.
    """
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    found: dict = {
        "model": {
            name: [list(tensor.shape), str(tensor.dtype), name in trained]
            for name, tensor in model.state_dict().items()
        }
    }
    for name, module in model.named_modules(prefix="model"):
        found[f"{name}.class"] = type(module).__name__
        kept = {key: value for key, value in vars(module).items() if key not in OF_EVERY_MODULE}
        found |= {f"{name}.{key}": _plain(value) for key, value in kept.items()}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name not in trained:
            found[f"model.{name}"] = _checksum(tensor)
    return found


def without_changes(settings: dict, model: nn.Module) -> dict:
    """`settings`, which hold the fingerprint of the model as it began: `CHANGED` stands for all that differs by now."""
    now = model_fingerprint(model)
    names = now.keys() | {name for name in settings if name.startswith("model.")}
    return settings | {name: CHANGED for name in names if not same(settings.get(name), now.get(name))}


def same(one: object, other: object) -> bool:
    """Whether JSON holds both as the same text."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _plain(value: object, deep: bool = True, inside: tuple[int, ...] = ()) -> object:
    """`value` as JSON can hold it. What functions and other objects hold themselves is looked at where they are `deep`.

    Numbers, words and containers stand for themselves, and many numbers are a checksum. Modules are only named, since
    those of a model are looked at one by one; so is what the value is `inside`, by the ids of what encloses it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    # Which device it is, `fit` says itself.
    if id(value) in inside or isinstance(value, nn.Module | nn.Parameter | torch.device):
        return type(value).__name__
    if isinstance(value, Tensor | np.generic) or (isinstance(value, np.ndarray) and value.dtype != object):
        return _checksum(value)
    plain = functools.partial(_plain, deep=deep, inside=(*inside, id(value)))
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(plain(entry)) for entry in value)
    if isinstance(value, functools.partial):
        return [plain(part) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, types.MethodType):
        return [plain(part) for part in (value.__func__, value.__self__)]
    if isinstance(value, types.CodeType):
        return [zlib.crc32(value.co_code), list(value.co_names), plain(value.co_consts)]
    if isinstance(value, types.FunctionType):
        cells = [cell for cell in value.__closure__ or () if cell != types.CellType()]  # an empty one holds nothing yet
        held = [value.__defaults__, value.__kwdefaults__, *(cell.cell_contents for cell in cells)]
        return [value.__name__, plain(value.__code__), plain(held, deep=False) if deep else None]
    if deep and (own := _attributes(value)) is not None:
        return [type(value).__name__, plain(own, deep=False)]
    return re.sub(r" at 0x\w+", "", getattr(value, "__qualname__", "") or repr(value))


def _attributes(value: object) -> dict[str, object] | None:
    """What an object holds under names of its own; None where it holds nothing, or says itself what it is."""
    if isinstance(value, type | types.ModuleType):
        return None
    if hasattr(value, "__dict__"):
        return vars(value)
    if type(value).__repr__ is not object.__repr__:
        return None
    slots = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    names = [name for each in slots for name in ([each] if isinstance(each, str) else each)]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _checksum(numbers: Tensor | np.ndarray | np.generic) -> list:
    """Shape, type and a checksum."""
    if isinstance(numbers, Tensor):
        raw = numbers.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
    else:
        raw = memoryview(numbers.tobytes())
    return [list(numbers.shape), str(numbers.dtype), zlib.crc32(raw)]
