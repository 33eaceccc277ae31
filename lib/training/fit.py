r"""The one training loop of the book: a batch, a loss, a step, and what must be kept and shown around them.

The optimiser is AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019); without
weight decay it is Adam (Kingma and Ba, ICLR 2015). Hugging Face Accelerate chooses the device and joins
several processes, so a cell of a chapter and `accelerate launch -m lib.run ...` run the same lines.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn

from lib.checks import check_count, is_number
from lib.training.checkpoint import fingerprint, load_training, save_training
from lib.training.ema import EMA
from lib.training.history import History, Progress
from lib.training.schedule import WARMUP, learning_rate

PRECISIONS = ("auto", "no", "bf16")
RECORDS = 200  # about as many points as a curve needs
LONGEST_WINDOW = 50  # steps between two looks at the losses, each of which waits for the device
STRIDE = 0x9E3779B9  # between the seeds of two processes; torch's generator on the CPU takes 32 bits of a seed


class NonFiniteLoss(ArithmeticError):
    """A loss became infinite or not a number. The message says which, and at which step."""


def fit(
    model: nn.Module,
    loss: Callable[..., Tensor | dict[str, Tensor]],
    data: Tensor | tuple[Tensor, ...],
    *,
    images: int,
    batch_size: int = 128,
    lr: float = 2e-3,
    weight_decay: float = 0.0,
    schedule: str = "cosine",
    warmup: float | None = None,
    ema: float | None = None,
    clip: float | None = None,
    precision: str = "auto",
    seed: int = 0,
    evaluate: Callable[[nn.Module], dict | None] | None = None,
    every: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    show: bool = True,
) -> History:
    r"""Trains `model` in place and returns the course of its losses.

    Afterwards the model is in eval mode, on the device that Accelerate chose, with averaged weights where
    `ema` is set. Everything random inside depends on `seed` alone, and the caller's random state is left as
    it was. On a CPU the same call gives the same weights, bit for bit.

    Args:
        model: the module to train.
        loss: `loss(model, *batch)` gives a scalar to minimise, or a dict of scalars that holds it as "loss".
        data: one tensor or several of equal length, (N, ...). They move to the device as a whole.
        images: how many images to see, repetitions included (see `budget`), rounded up to whole batches.
        batch_size: images a step, over all processes together. The incomplete batch of an epoch is left out.
        lr: the highest learning rate.
        weight_decay: of matrices and kernels; biases, gains and other vectors are left alone.
        schedule: "cosine", "constant" or "onecycle", see `learning_rate`.
        warmup: share of the steps in which the learning rate rises, in [0, 1); by default `WARMUP[schedule]`.
        ema: decay of the average of the weights, in [0, 1), or None for no average.
        clip: largest norm of the gradient, or None.
        precision: "no" (float32), "bf16" (autocast to bfloat16), or "auto": bf16 where `computes_in_bf16`.
        seed: of the order of the images and of the noise inside model and loss, at least 0.
        evaluate: `evaluate(model)`, called every `every` images and at the end, on the first process. It sees
            the averaged weights, in eval mode, without gradients; the numbers it returns join the history. It
            draws its own random numbers, the same each time, so that training does not depend on it.
        every: images between two evaluations and between two checkpoints; a tenth of `images` by default.
        checkpoint: safetensors file to write every `every` images. Where it exists, training goes on from it.
        show: draw the loss while training.

    Raises:
        ValueError: for a bad argument, before any work, and for a loss that is no scalar.
        CheckpointError: where `checkpoint` is damaged or belongs to another training.
        NonFiniteLoss: at the first loss that is infinite or not a number.
    """
    data = (data,) if isinstance(data, Tensor) else data
    warmup = WARMUP.get(schedule, 0.0) if warmup is None and isinstance(schedule, str) else warmup
    check_count(images=images)
    every = max(1, images // 10) if every is None else every
    _check(model, loss, data, batch_size, seed, every, evaluate)
    _check_numbers(lr, weight_decay, schedule, warmup, ema, clip, precision)
    accelerator = Accelerator(cpu=_on_cpu(), mixed_precision="no")  # precision: chosen below, for this call alone
    device, processes, rank = accelerator.device, accelerator.num_processes, accelerator.process_index
    if batch_size % processes:
        raise ValueError(f"batch_size must be a multiple of the {processes} processes, got {batch_size}")
    bf16 = precision == "bf16" or (precision == "auto" and computes_in_bf16(device))
    settings: dict[str, Any] = {}
    if checkpoint is not None:
        settings = {
            "images": images, "batch_size": batch_size, "every": every, "seed": seed, "lr": lr,
            "weight_decay": weight_decay, "schedule": schedule, "warmup": warmup, "ema": ema, "clip": clip,
            "bf16": bf16, "processes": processes, "device": device.type, **fingerprint(model, data),
        }  # fmt: skip

    steps = math.ceil(images / batch_size)
    window = max(1, min(steps // RECORDS, LONGEST_WINDOW))
    data = tuple(tensor.to(device) for tensor in data)
    step_loss = accelerator.prepare(_Loss(model, loss, device.type, bf16))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = _adamw(parameters, lr, weight_decay, device)
    average = EMA(model, ema) if ema is not None else None
    history, losses, start = History(), [], 0
    with seeded((seed + rank * STRIDE) % (1 << 32), device):
        if checkpoint is not None and os.path.exists(checkpoint):
            start, history.records, states = load_training(checkpoint, model, optimizer, average, settings)
            _set_random_states(states, accelerator)
        model.train()
        order = islice(batches(len(data[0]), batch_size, seed, device), start, steps)
        with Progress(history, steps * batch_size, show and accelerator.is_main_process) as progress:
            for step, chosen in enumerate(order, start + 1):
                values = step_loss(*(tensor.index_select(0, chosen[rank::processes]) for tensor in data))
                accelerator.backward(values["loss"])
                if clip is not None:
                    accelerator.clip_grad_norm_(parameters, clip)
                rate = learning_rate(step, steps, lr, schedule, warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad()
                if average:
                    average.update()
                losses.append({name: value.detach() for name, value in values.items()})

                pause = step == steps or step * batch_size // every > (step - 1) * batch_size // every
                if not pause and step % window:
                    continue
                means = _means(losses, step, batch_size, accelerator)
                history.records.append({"step": step, "images": step * batch_size, "lr": rate, **means})
                losses = []
                if pause and evaluate is not None and accelerator.is_main_process:
                    with _evaluating(model, average), seeded(seed, device):
                        history.records[-1] |= _numbers(evaluate(model), history.records[-1])
                if pause and checkpoint is not None:
                    states = _random_states(accelerator)
                    if accelerator.is_main_process:
                        save_training(checkpoint, step, model, optimizer, average, states, history.records, settings)
                if pause:
                    accelerator.wait_for_everyone()
                progress.update()
    if average:
        average.copy_to_model()
    model.eval()
    return history


def budget(*, cpu: int, gpu: int) -> int:
    """Images to train on: `cpu` of them, or `gpu` where an accelerator does the work."""
    return cpu if default_device().type == "cpu" else gpu


def default_device() -> torch.device:
    """The device on which `fit` trains: this process's GPU where there is one, else the CPU."""
    return PartialState(cpu=_on_cpu()).device


def _on_cpu() -> bool:
    """Whether Accelerate must be told to join several processes on the CPU, which it does not do by itself."""
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def batches(count: int, batch_size: int, seed: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Endless batches of indices below `count`: every epoch a new order, its incomplete batch left out."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator).to(device)
        yield from order[: count - count % batch_size].split(batch_size)


@contextmanager
def seeded(seed: int, device: torch.device):
    """Inside the block torch's random numbers depend on `seed` alone; outside they go on as without it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the hardware has arithmetic in bfloat16: on a CPU the instructions AVX-512 BF16 or AMX.

    There autocast helps the book's MLPs and convolutions. Without them it converts back and forth: on a CPU
    with AVX2 alone it makes the MLP of the VAE chapter eight times slower.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    instructions: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return bool(instructions.get("avx512_bf16") or instructions.get("amx_bf16"))


class _Loss(nn.Module):
    """Model and loss as one module: Accelerate wraps its forward, and with it every call the loss makes."""

    def __init__(self, model: nn.Module, loss: Callable, device_type: str, bf16: bool):
        super().__init__()
        self.model = model
        self.loss = loss
        self.device_type = device_type
        self.bf16 = bf16

    def forward(self, *batch: Tensor) -> dict[str, Tensor]:
        """The named losses of one batch."""
        with torch.autocast(self.device_type, torch.bfloat16, enabled=self.bf16):
            values = self.loss(self.model, *batch)
        values = values if isinstance(values, dict) else {"loss": values}
        if "loss" not in values:
            raise ValueError(f'loss must return a dict that holds "loss", got {sorted(map(str, values))}')
        for name, value in values.items():
            if not isinstance(value, Tensor) or value.dim():
                got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"loss must return scalar tensors, got {got} as {name!r}")
        return values


def _adamw(parameters: list[nn.Parameter], lr: float, weight_decay: float, device: torch.device):
    """Weight decay for what multiplies (matrices, kernels), none for what is added or scales."""
    decayed = [parameter for parameter in parameters if parameter.dim() > 1]
    others = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, fused=device.type in ("cpu", "cuda"))


def _means(losses: list[dict[str, Tensor]], step: int, batch_size: int, accelerator: Accelerator) -> dict:
    """The mean of each loss over the last steps, the newest of which is `step`, and over all processes."""
    names = list(losses[0])
    if any(list(entry) != names for entry in losses):
        raise ValueError(f"loss must return the same names at every step, got others than {names} by step {step}")
    table = torch.stack([torch.stack([value.float() for value in entry.values()]) for entry in losses])
    table = accelerator.reduce(table, "mean").cpu()
    bad = (~table.isfinite()).nonzero()
    if len(bad):
        row = int(bad[0, 0])
        what = ", ".join(f"{name} = {value}" for name, value in zip(names, table[row].tolist()))
        at = step - len(losses) + 1 + row
        raise NonFiniteLoss(
            f"the loss stopped being a number at step {at} (image {at * batch_size:,}): {what}. "
            "Try a lower lr, clip=1.0 or precision='no'"
        )
    return dict(zip(names, table.double().mean(0).tolist()))


@contextmanager
def _evaluating(model: nn.Module, average: EMA | None):
    """Inside the block: averaged weights, eval mode, no gradients. Afterwards each module is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), average.applied() if average else nullcontext():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _numbers(values: dict | None, record: dict) -> dict[str, float]:
    """What `evaluate` returned, as plain numbers."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"evaluate must return a dict of numbers or None, got {type(values).__name__}")
    if taken := sorted(values.keys() & record.keys()):
        raise ValueError(f"evaluate must use names that the losses do not, got {taken}")
    return {name: float(value) for name, value in values.items()}


def _random_states(accelerator: Accelerator) -> dict[str, Tensor]:
    """The states of the random number generators of every process, (processes, bytes)."""
    states = {"cpu": torch.get_rng_state()}
    if accelerator.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(accelerator.device)
    return {name: accelerator.gather(state.to(accelerator.device)[None]) for name, state in states.items()}


def _set_random_states(states: dict[str, Tensor], accelerator: Accelerator) -> None:
    """Puts this process's generators back."""
    own = {name: rows[accelerator.process_index].clone() for name, rows in states.items()}  # torch reads past a view
    torch.set_rng_state(own["cpu"])
    if accelerator.device.type == "cuda":
        torch.cuda.set_rng_state(own["cuda"], accelerator.device)


def _check(model, loss, data, batch_size, seed, every, evaluate) -> None:
    """Raises ValueError for a model, data or count that cannot be trained on."""
    if not isinstance(model, nn.Module) or not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"model must be an nn.Module with parameters to train, got {type(model).__name__}")
    if not callable(loss):
        raise ValueError(f"loss must be callable as loss(model, *batch), got {loss!r}")
    if not (evaluate is None or callable(evaluate)):
        raise ValueError(f"evaluate must be callable as evaluate(model), or None, got {evaluate!r}")
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


def _check_numbers(lr, weight_decay, schedule, warmup, ema, clip, precision) -> None:
    """Raises ValueError for a setting outside its range."""
    if schedule not in tuple(WARMUP):
        raise ValueError(f"schedule must be one of {', '.join(WARMUP)}, got {schedule!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    for name, value in {"lr": lr, "clip": 1.0 if clip is None else clip}.items():
        if not is_number(value) or value <= 0:
            raise ValueError(f"{name} must be a number above 0, got {value!r}")
    if not is_number(weight_decay) or weight_decay < 0:
        raise ValueError(f"weight_decay must be a number of at least 0, got {weight_decay!r}")
    for name, value in {"warmup": warmup, "ema": 0.0 if ema is None else ema}.items():
        if not is_number(value) or not 0 <= value < 1:
            raise ValueError(f"{name} must be a number in [0, 1), got {value!r}")
