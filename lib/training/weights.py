"""Weights from a file into a model: of a training, of those that ship, or as their authors publish them."""

import argparse
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from lib.checks import described
from lib.training.checkpoint import CheckpointError, course, is_training, read, trained_weights

PICKLED = (".pth", ".pt", ".ckpt", ".bin")  # what `torch.save` has written; all else is taken for safetensors
WRAPPERS = ("model", "state_dict")  # under which names releases put their weights, beside other things
PHRASES = 3  # names that do not fit, of which an error tells


def load_weights(path: str | os.PathLike, model: nn.Module) -> dict[str, str]:
    """Puts the weights in the file `path` into `model`, in eval mode; returns what the file says of their making.

    The file is a checkpoint of `fit` or of `python -m lib.run ... --checkpoint`, finished or not, whose averaged
    weights are taken where it holds an average; or any safetensors file; or what `torch.save` has written, of which
    nothing but tensors and plain values is read, and none of its code runs.

    Raises CheckpointError where there is no such file or it is damaged, and ValueError where its weights do not fit the
    model, of which it names the first. Then the model is as it was.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be an nn.Module, got {described(model)}")
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}, seen from {Path.cwd()}")
    weights, made = _unpickled(path) if path.suffix in PICKLED else _stored(path)
    if misfits := _misfits(weights, model.state_dict()):
        told = "; ".join(misfits[:PHRASES])
        raise ValueError(
            f"model does not fit {path}: {len(misfits)} names differ: {told}{'; ...' * (len(misfits) > PHRASES)}"
        )
    model.load_state_dict(weights)
    model.eval()
    return made


def _stored(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights in a safetensors file, and what it says of them."""
    tensors, metadata = read(path)
    if not is_training(metadata):
        return tensors, metadata
    settings, records = course(path, metadata, len(tensors))
    own = "settings."
    told = {name.removeprefix(own): value for name, value in settings.items() if name.startswith(own)}
    return trained_weights(tensors), {name: str(value) for name, value in {**told, **records[-1]}.items()}


def _unpickled(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights in a file of `torch.save`."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # how a release was trained
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises depends on where it is damaged
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(f"{path} is no file of weights, or not whole ({why})") from error
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path} must hold tensors by name, also under {' or '.join(WRAPPERS)}, got others")
    return content, {}


def _misfits(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    """One phrase for each name that only one side has, or that both have in different shapes."""
    phrases = []
    for name in sorted(found.keys() | wanted.keys()):
        if name not in found:
            phrases.append(f"the file has no {name}")
        elif name not in wanted:
            phrases.append(f"the model has no {name}")
        elif found[name].shape != wanted[name].shape:
            shapes = (tuple(tensors[name].shape) for tensors in (found, wanted))
            phrases.append("{} is {} in the file, {} in the model".format(name, *shapes))
    return phrases
