"""What `fit` asks of its arguments, before any work."""

import json
import os

import torch
from torch import Tensor, nn

from lib.checks import check_count, check_flags, check_option, described, is_number
from lib.training.checkpoint import check_place
from lib.training.devices import has_float64
from lib.training.schedule import WARMUP

PRECISIONS = ("auto", "no", "bf16")
MAY_DIFFER = ("device", "precision")  # in which a checkpoint may differ from a call, if asked


def check_model_and_data(model, loss, data, batch_size, seed, every, evaluate, show) -> None:
    """Raises ValueError for a model, data or count that cannot be trained on."""
    if not isinstance(model, nn.Module) or not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"model must be an nn.Module with parameters to train, got {type(model).__name__}")
    if not callable(loss):
        raise ValueError(f"loss must be callable as loss(model, *batch), got {loss!r}")
    if not (evaluate is None or callable(evaluate)):
        raise ValueError(f"evaluate must be callable as evaluate(model), or None, got {evaluate!r}")
    check_flags(show=show)
    check_count(batch_size=batch_size, every=every)
    check_count(0, 2**32 - 1, seed=seed)
    if not isinstance(data, tuple | list) or not data or not all(isinstance(part, Tensor) for part in data):
        raise ValueError(f"data must be a tensor or a tuple of tensors, got {type(data).__name__}")
    lengths = [len(part) if part.dim() else 0 for part in data]
    if len(set(lengths)) > 1 or lengths[0] < batch_size:
        raise ValueError(
            f"data must hold tensors of one length, at least batch_size = {batch_size}, got lengths {lengths}"
        )
    if not all(part.isfinite().all() for part in data if part.is_floating_point()):
        raise ValueError("data must be finite, got values that are infinite or not a number")


def check_numbers(lr, weight_decay, schedule, warmup, ema, clip, precision) -> None:
    """Raises ValueError for a setting outside its range."""
    check_option("schedule", schedule, tuple(WARMUP))
    check_option("precision", precision, PRECISIONS)
    for name, value in {"lr": lr, "clip": 1.0 if clip is None else clip}.items():
        if not is_number(value) or value <= 0:
            raise ValueError(f"{name} must be a number above 0, got {value!r}")
    if not is_number(weight_decay) or weight_decay < 0:
        raise ValueError(f"weight_decay must be a number of at least 0, got {weight_decay!r}")
    for name, value in {"warmup": warmup, "ema": 0.0 if ema is None else ema}.items():
        if not is_number(value) or not 0 <= value < 1:
            raise ValueError(f"{name} must be a number in [0, 1), got {value!r}")


def check_checkpoint(checkpoint, settings, may_differ) -> None:
    """Raises ValueError for what no checkpoint can hold, and CheckpointError for a place where none can lie."""
    try:
        if not (settings is None or (isinstance(settings, dict) and all(isinstance(name, str) for name in settings))):
            raise TypeError("not a dict with words as keys")
        json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"settings must be a dict of what JSON can hold, got {settings!r:.60} ({error})") from error
    if not isinstance(may_differ, tuple | list):
        raise ValueError(f"may_differ must be a tuple of names, got {may_differ!r:.60}")
    for name in may_differ:
        check_option("may_differ", name, MAY_DIFFER)
    if checkpoint is not None:
        if not isinstance(checkpoint, str | os.PathLike) or not os.fspath(checkpoint):
            raise ValueError(f"checkpoint must be the path of a file or None, got {described(checkpoint)}")
        check_place(checkpoint)


def check_device_takes(device: torch.device, model: nn.Module, data: tuple[Tensor, ...]) -> None:
    """Raises ValueError for float64 where the device has none."""
    tensors = {"data": data, "model": (*model.parameters(), *model.buffers())}
    for name, parts in tensors.items():
        if any(part.dtype == torch.float64 for part in parts) and not has_float64(device):
            raise ValueError(f"{name} must not be float64: {device.type} has no such numbers; call .float() on it")
