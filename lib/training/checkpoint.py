"""Checkpoints: everything a training needs to go on as if it had never stopped, in one safetensors file.

The tensors are the model's ("model."), the average's ("ema."), the optimiser's ("optimizer.") and the
random states ("random."); the file's metadata holds the step, the history and the settings, as JSON.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.checks import described
from lib.training.ema import EMA
from lib.training.identity import CHANGED, same, without_changes

CONTIGUOUS = torch.contiguous_format
FORMAT = "ai-image-generation-book training 3"
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # what AdamW keeps of each parameter
PHRASES = 6  # differences that an error spells out


class CheckpointError(ValueError):
    """A checkpoint is damaged, cannot be written or belongs to another training. The message says which and why."""


def write(path: str | os.PathLike, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file so that, at any moment, the old file or the new one is there, and whole.

    Raises CheckpointError where it cannot be written.
    """
    path = _checked(path)
    for name, content, kind in (("tensors", tensors, Tensor), ("metadata", metadata, str)):
        right = isinstance(content, dict) and all(isinstance(value, kind) for value in content.values())
        if not right or not all(isinstance(key, str) for key in content):
            raise ValueError(f"{name} must be a dict of {kind.__name__} by str, got {described(content)}")
    unfinished = _unfinished(path)
    own = {name: tensor.detach().cpu().clone(memory_format=CONTIGUOUS) for name, tensor in tensors.items()}
    stored = save(own, metadata)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:  # not by `save_file`, whose files nobody else may read
            file.write(stored)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except (OSError, ValueError) as error:  # ValueError: of a name that no file can have
        raise CheckpointError(f"{path} cannot be written ({error})") from error


def check_place(path: str | os.PathLike) -> None:
    """Raises CheckpointError where `write` could not write: better before a training than after it."""
    path = _checked(path)
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        _unfinished(path).open("ab").close()
        _unfinished(path).unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # ValueError: of a name that no file can have
        raise CheckpointError(f"checkpoint {path} cannot be written ({error})") from error


def read(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. Raises CheckpointError where it is damaged."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - no dict


def read_metadata(path: str | os.PathLike) -> tuple[dict[str, str], int]:
    """The metadata of a safetensors file, and of how many tensors it is; these are not loaded.

    Raises CheckpointError where it is damaged.
    """
    with _opened(path) as file:
        return file.metadata() or {}, len(file.keys())


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator:
    path = _checked(path)
    try:
        with safe_open(path, "pt") as file:
            yield file
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
    """Writes a training as it stands after `step` steps. `settings` hold the fingerprint of the model as it began."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in (ema.state_dict() if ema else {}).items()}
    tensors |= {f"random.{name}": tensor for name, tensor in random_states.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    settings = without_changes(settings, model)
    content = {"step": step, "settings": settings, "records": records, "tensors": len(tensors)}
    write(path, tensors, {"format": FORMAT, "training": json.dumps(content)})


def load_training(
    path: str | os.PathLike,
    model: nn.Module,
    optimizer: Optimizer,
    ema: EMA | None,
    random_states: dict[str, Tensor],
    settings: dict,
    steps: int,
    may_differ: tuple[str, ...] = (),
) -> tuple[int, list[dict], dict[str, Tensor]]:
    """Puts model, optimiser and average back; returns the step, the records and the random states.

    Raises CheckpointError, before anything is changed, for a damaged file, for a file that is no training's, and for a
    training with other settings, those named in `may_differ` excepted: another model, other data, another learning
    rate. What the first training changed itself is not compared, and `settings` say so from now on.
    `random_states` (processes, bytes) are those of now: the file must hold the same kinds, but for a device that the
    training has left or come to. `steps` is how many the training has in all.
    """
    tensors, metadata = read(path)
    step, saved, records = _content(path, metadata, len(tensors))
    settings |= {name: CHANGED for name in saved if name.startswith("model.") and saved[name] == CHANGED}
    if differences := _differences(saved, settings, may_differ):
        raise CheckpointError(f"{path} belongs to another training: {'; '.join(differences)}")
    if step > steps:
        raise CheckpointError(f"{path} is damaged: it stands at step {step} of {steps}; delete it")
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}, "random": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise CheckpointError(f"{path} is damaged: {name} is of no part of a training; delete it")
        parts[part][rest] = tensor
    _check_part(path, "model", parts["model"], model.state_dict())
    _check_part(path, "ema", parts["ema"], ema.state_dict() if ema else {})
    moved = {saved.get("device"), settings["device"]} - {"cpu"} if saved.get("device") != settings["device"] else set()
    states, wanted = ({name: kind[name] for name in kind.keys() - moved} for kind in (parts["random"], random_states))
    _check_part(path, "random", states, wanted)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = _optimizer_state(path, parts["optimizer"], parameters)
    model.load_state_dict(parts["model"])
    if ema:
        ema.load_state_dict(parts["ema"], step)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step, records, states


class Course(NamedTuple):
    """What a checkpoint tells of its training."""

    settings: dict
    records: list[dict]

    @property
    def progress(self) -> str:
        """How far the training has come."""
        return f"{self.records[-1]['images']:,} of {self.settings['images']:,} images"


def is_training(metadata: dict[str, str]) -> bool:
    """Whether a safetensors file with this metadata is the checkpoint of a training."""
    return metadata.get("format") == FORMAT


def course(path: str | os.PathLike, metadata: dict[str, str], tensors: int) -> Course:
    """The training whose checkpoint `path` has this metadata and so many tensors.

    Raises CheckpointError where it is damaged, or no training's.
    """
    return Course(*_content(path, metadata, tensors)[1:])


def trained_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the tensors of a checkpoint the weights, by the model's names; averaged where an average was kept."""
    names = [name.removeprefix("model.") for name in tensors if name.startswith("model.")]
    return {name: tensors.get(f"ema.{name}", tensors[f"model.{name}"]) for name in names}


def _checked(path: object) -> Path:
    """`path` as a Path; else `ValueError`."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ValueError(f"path must be the path of a file, got {described(path)}")
    return Path(path)


def _unfinished(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(path.name + ".tmp")


def _content(path: str | os.PathLike, metadata: dict[str, str], tensors: int) -> tuple[int, dict, list[dict]]:
    """Step, settings and records, as `save_training` wrote them with so many tensors; else CheckpointError."""
    if not is_training(metadata):
        raise CheckpointError(f"{path} is a safetensors file but no checkpoint of a training ({FORMAT!r})")
    try:
        content = json.loads(metadata["training"])
        step, settings, records, written = (content[key] for key in ("step", "settings", "records", "tensors"))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its record of the training is not whole; delete it") from error
    right = isinstance(settings, dict) and isinstance(settings.get("device"), str)
    if not right or not isinstance(records, list) or not _is_course(records, step):
        raise CheckpointError(f"{path} is damaged: its record of the training makes no sense; delete it")
    if written != tensors:
        raise CheckpointError(f"{path} is damaged: it holds {tensors} of {written} tensors; delete it")
    return step, settings, records


def _is_course(records: list, step: object) -> bool:
    """Whether these are the records of a training that has come to `step`."""
    for record in records:
        if not isinstance(record, dict) or not {"step", "images", "lr", "loss"} <= record.keys():
            return False
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in record.values()):
            return False
    steps = [record["step"] for record in records]
    whole = bool(steps) and all(type(number) is int for number in (*steps, step))
    return whole and steps == sorted(set(steps)) and steps[0] >= 1 and steps[-1] == step


def _check_part(path: str | os.PathLike, part: str, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Raises CheckpointError unless the tensors have the names, shapes and dtypes wanted."""
    for name in sorted(found.keys() | wanted.keys()):
        if name not in found or name not in wanted:
            why = "is missing" if name in wanted else "belongs to nothing"
        elif found[name].shape != wanted[name].shape or found[name].dtype != wanted[name].dtype:
            why = f"is {described(found[name])}, wanted {described(wanted[name])}"
        else:
            continue
        raise CheckpointError(f"{path} is damaged: {part}.{name} {why}; delete it")


def _optimizer_state(
    path: str | os.PathLike, tensors: dict[str, Tensor], parameters: list[nn.Parameter]
) -> dict[int, dict[str, Tensor]]:
    """What AdamW keeps of each parameter, by its number. Parameters without a gradient so far have nothing."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)] if index.isdecimal() and int(index) < len(parameters) else None
        if parameter is None or key not in MOMENTS or tensor.shape != (() if key == "step" else parameter.shape):
            raise CheckpointError(f"{path} is damaged: optimizer.{name} fits no parameter; delete it")
        if key != "step":  # fused steps walk through both in the parameter's order of memory
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        state.setdefault(int(index), {})[key] = tensor
    for index, entry in state.items():
        if missing := MOMENTS - entry.keys():
            raise CheckpointError(f"{path} is damaged: optimizer.{index}.{min(missing)} is missing; delete it")
    return state


def _differences(saved: dict, wanted: dict, may_differ: tuple[str, ...]) -> list[str]:
    """One phrase for each setting that differs, the first few; long values are not spelled out."""
    phrases = []
    wanted = json.loads(json.dumps(wanted))
    for name in sorted((saved.keys() | wanted.keys()) - set(may_differ)):
        if name in saved and name in wanted and same(saved[name], wanted[name]):
            continue
        before, now = (repr(found[name]) if name in found else "not set" for found in (saved, wanted))
        short = len(before) + len(now) < 80
        phrases.append(f"{name} was {before}, now {now}" if short else f"{name} is not the same")
    return phrases[:PHRASES] + [f"and {len(phrases) - PHRASES} more"] * (len(phrases) > PHRASES)
