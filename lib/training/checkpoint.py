"""Checkpoints: everything a training needs to go on as if it had never stopped, in one safetensors file.

The tensors are the model's ("model."), the average's ("ema."), the optimiser's ("optimizer.") and the
random states ("random."); the file's metadata holds the step, the history and the settings, as JSON.
"""

import json
import os
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.training.ema import EMA

CONTIGUOUS = torch.contiguous_format
FORMAT = "ai-image-generation-book training 1"


class CheckpointError(ValueError):
    """A checkpoint is damaged or belongs to another training. The message names the file and the reason."""


def write(path: str | os.PathLike, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file so that, at any moment, the old file or the new one is there, and whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    own = {name: tensor.detach().cpu().clone(memory_format=CONTIGUOUS) for name, tensor in tensors.items()}
    save_file(own, unfinished, metadata)
    with open(unfinished, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def read(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. Raises CheckpointError where it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); delete it") from error


def save_training(
    path: str | os.PathLike,
    step: int,
    model: nn.Module,
    optimizer: Optimizer,
    ema: EMA | None,
    random_states: dict[str, Tensor],
    records: list[dict],
    settings: dict,
) -> None:
    """Writes a training as it stands after `step` steps."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in (ema.state_dict() if ema else {}).items()}
    tensors |= {f"random.{name}": tensor for name, tensor in random_states.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    content = {"step": step, "settings": settings, "records": records}
    write(path, tensors, {"format": FORMAT, "training": json.dumps(content)})


def load_training(
    path: str | os.PathLike, model: nn.Module, optimizer: Optimizer, ema: EMA | None, settings: dict
) -> tuple[int, list[dict], dict[str, Tensor]]:
    """Puts model, optimiser and average back; returns the step, the records and the random states.

    Raises CheckpointError, before anything is changed, for a damaged file, for a file that is no
    training's, and for a training with other settings: another model, other data, another learning rate.
    """
    tensors, metadata = read(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is a safetensors file but no checkpoint of a training ({FORMAT!r})")
    content = json.loads(metadata["training"])
    if differences := _differences(content["settings"], json.loads(json.dumps(settings))):
        raise CheckpointError(f"{path} belongs to another training: {'; '.join(differences)}")
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}, "random": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    model.load_state_dict(parts["model"])
    if ema:
        ema.load_state_dict(parts["ema"], content["step"])
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        if (
            key != "step" and tensor.shape == parameter.shape
        ):  # fused steps walk through both in the parameter's order of memory
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return content["step"], content["records"], parts["random"]


def fingerprint(model: nn.Module, data: tuple[Tensor, ...]) -> dict:
    """What tells models and data sets apart: names and shapes of the tensors, a checksum of the data."""
    return {
        "model": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
        "data": [[list(part.shape), str(part.dtype), _checksum(part)] for part in data],
    }


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def _differences(saved: dict, wanted: dict) -> list[str]:
    """One phrase for each setting that differs; long values are not spelled out."""
    phrases = []
    for name in sorted(saved.keys() | wanted.keys()):
        before, now = repr(saved.get(name)), repr(wanted.get(name))
        if before != now:
            short = len(before) + len(now) < 80
            phrases.append(f"{name} was {before}, now {now}" if short else f"{name} is not the same")
    return phrases
