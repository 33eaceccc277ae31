r"""The one training loop of the book: a batch, a loss, a step, and what must be kept and shown around them.

The optimiser is AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019); without
weight decay it is Adam (Kingma and Ba, ICLR 2015). Hugging Face Accelerate chooses the device and joins
several processes, so a cell of a chapter and `accelerate launch -m lib.run ...` run the same lines.
"""

import inspect
import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import islice
from numbers import Real
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from tqdm import tqdm

from lib.checks import check_count, described
from lib.training.arguments import check_checkpoint, check_device_takes, check_model_and_data, check_numbers
from lib.training.checkpoint import CheckpointError, load_training, save_training
from lib.training.devices import check_device, computes_in_bf16, warn_of_one_process
from lib.training.ema import EMA
from lib.training.finite import check_weights, finite_tensors, means
from lib.training.history import History, Progress
from lib.training.identity import fingerprint
from lib.training.interruption import uninterrupted
from lib.training.randomness import random_states, seeded, set_random_states
from lib.training.schedule import WARMUP, rate_at

RECORDS = 200  # about as many points as a curve needs
LONGEST_WINDOW = 50  # steps between two looks at the losses, each of which waits for the device
RESERVED = ("step", "images", "lr")  # what a record holds besides
STRIDE = 0x9E3779B9  # between the seeds of two processes; torch's generator on the CPU takes 32 bits of a seed


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
    settings: dict[str, Any] | None = None,
    may_differ: tuple[str, ...] = (),
    show: bool = True,
) -> History:
    r"""Trains `model` in place and returns the course of its losses.

    Afterwards the model is in eval mode, on the device that Accelerate chose, with averaged weights where
    `ema` is set. Everything random inside (of torch, numpy and Python) depends on `seed` alone, and the caller's
    random states are left as they were. On a CPU the same call gives the same weights, bit for bit, as long as the
    number of threads is the same: sums over several threads are rounded in another order.

    An interruption (Ctrl-C, the notebook's stop button) ends the training early: the model is left as at the end, the
    history so far is returned, `stopped` is set in it, and a line says so. While this is done a second interruption is
    not heard. Of several processes each raises it.

    Args:
        model: the module to train.
        loss: `loss(model, *batch)` gives a scalar to minimise, or a dict of scalars that holds it as "loss". Where it
            has a parameter `progress`, it is told how far training has come: 0 at the first step, 1 at the last.
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
        settings: what else decides the result, such as numbers hidden in `loss`: a dict of what JSON can hold. They
            are kept in the checkpoint, and a training with others does not go on from it.
        may_differ: in what a checkpoint may differ from this call all the same, of "device" and "precision". Noise
            on a device that the training comes to begins anew, and the results are not the same bit for bit.
        show: draw the loss while training.

    Raises:
        ValueError: for a bad argument, before any work, and for a loss that is no scalar.
        CheckpointError: where `checkpoint` is damaged, cannot be written or belongs to another training.
        NonFiniteLoss: at the first loss that is infinite or not a number.
        NonFiniteWeights: where the weights or their average became so, before they are evaluated, stored or returned.
    """
    data = (data,) if isinstance(data, Tensor) else data
    warmup = WARMUP.get(schedule, 0.0) if warmup is None and isinstance(schedule, str) else warmup
    check_count(images=images)
    every = max(1, images // 10) if every is None else every
    check_model_and_data(model, loss, data, batch_size, seed, every, evaluate, show)
    check_numbers(lr, weight_decay, schedule, warmup, ema, clip, precision)
    check_checkpoint(checkpoint, settings, may_differ)
    images, batch_size, every, seed = map(int, (images, batch_size, every, seed))  # of numpy's numbers those of Python
    lr, weight_decay, warmup = map(float, (lr, weight_decay, warmup))
    ema, clip = (None if value is None else float(value) for value in (ema, clip))
    accelerator = Accelerator(cpu=_on_cpu(), mixed_precision="no")  # precision: chosen below, for this call alone
    device, processes, rank = accelerator.device, accelerator.num_processes, accelerator.process_index
    if batch_size % processes:
        raise ValueError(f"batch_size must be a multiple of the {processes} processes, got {batch_size}")
    check_device_takes(device, model, data)
    warn_of_one_process(processes)
    bf16 = precision == "bf16" or (precision == "auto" and computes_in_bf16(device))
    steps = math.ceil(images / batch_size)
    window = max(1, min(steps // RECORDS, LONGEST_WINDOW))
    told = _asks_for_progress(loss, data)
    data = tuple(tensor.to(device) for tensor in data)
    step_loss = accelerator.prepare(_Loss(model, loss, device.type, bf16))
    identity: dict[str, Any] = {}
    if checkpoint is not None:
        identity = {
            "images": images, "batch_size": batch_size, "every": every, "seed": seed, "lr": lr,
            "weight_decay": weight_decay, "schedule": schedule, "warmup": warmup, "ema": ema, "clip": clip,
            "precision": "bf16" if bf16 else "no", "processes": processes, "device": device.type,
            **fingerprint(model, data), **{f"settings.{name}": value for name, value in (settings or {}).items()},
        }  # fmt: skip
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = _adamw(parameters, lr, weight_decay, device)
    average = EMA(model, ema) if ema is not None else None
    history, losses, start = History(), [], 0
    with ExitStack() as ending, seeded((seed + rank * STRIDE) % (1 << 32), device):
        if checkpoint is not None and os.path.exists(checkpoint):
            start, history.records = _resume(
                checkpoint, model, optimizer, average, identity, steps, may_differ, accelerator
            )
        names = finite_tensors(model)
        model.train()
        order = islice(batches(len(data[0]), batch_size, seed, device), start, steps)
        with Progress(history, steps * batch_size, show and accelerator.is_main_process) as progress:
            try:
                for step, chosen in enumerate(order, start + 1):
                    further = {"progress": (step - 1) / max(steps - 1, 1)} if told else {}
                    batch = (tensor.index_select(0, chosen[rank::processes]) for tensor in data)
                    values = step_loss(*batch, **further)
                    values["loss"].backward()
                    if all(parameter.grad is None for parameter in parameters):
                        raise ValueError(
                            "loss must depend on the parameters of the model, got one that depends on none"
                        )
                    if clip is not None:
                        nn.utils.clip_grad_norm_(parameters, clip)
                    rate = rate_at(step, steps, lr, schedule, warmup)
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
                    _record(history, losses, step, batch_size, rate, accelerator)
                    if pause:
                        check_weights(model, average, names, step, batch_size, accelerator)
                    if pause and evaluate is not None and accelerator.is_main_process:
                        with _evaluating(model, average), seeded(seed, device):
                            history.records[-1] |= _numbers(evaluate(model), history.records[-1])
                    if pause and checkpoint is not None:
                        states = _gathered_states(accelerator)
                        if accelerator.is_main_process:
                            save_training(
                                checkpoint, step, model, optimizer, average, states, history.records, identity
                            )
                    if pause:
                        accelerator.wait_for_everyone()
                    progress.update()
            except KeyboardInterrupt:
                if processes > 1:  # the others may wait for this one, and cannot know
                    raise
                history.stopped = True
            ending.enter_context(uninterrupted())  # a second Ctrl-C would leave half an average
            optimizer.zero_grad()
            if history.stopped:
                done = (history.records[-1]["step"] if history.records else 0) + len(losses)
                if losses:
                    _record(history, losses, done, batch_size, optimizer.param_groups[0]["lr"], accelerator)
                check_weights(model, average, names, done, batch_size, accelerator)
            if average:
                average.copy_to_model()
            model.eval()
    if history.stopped:
        tqdm.write(f"stopped after {done * batch_size:,} of {steps * batch_size:,} images")
    return history


def budget(*, cpu: int, gpu: int) -> int:
    """Images to train on: `cpu` of them, or `gpu` where an accelerator does the work."""
    check_count(cpu=cpu, gpu=gpu)
    return cpu if default_device().type == "cpu" else gpu


def default_device() -> torch.device:
    """The device on which `fit` trains: this process's GPU where there is one, else the CPU."""
    return PartialState(cpu=_on_cpu()).device


def _on_cpu() -> bool:
    """Whether Accelerate must be told to join several processes on the CPU, which it does not do by itself."""
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def batches(count: int, batch_size: int, seed: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Endless batches of indices below `count`: every epoch a new order, its incomplete batch left out.

    Raises ValueError for fewer than a batch, and for a seed that is no integer from 0 on.
    """
    check_count(count=count)
    check_count(1, count, batch_size=batch_size)
    check_count(0, 2**64 - 1, seed=seed)
    device = check_device(device)
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator)
        if device.type == "cuda":  # from pinned memory it comes without a wait
            order = order.pin_memory()
        order = order.to(device, non_blocking=True)
        yield from order[: count - count % batch_size].split(batch_size)


class _Loss(nn.Module):
    """Model and loss as one module: Accelerate wraps its forward, and with it every call the loss makes."""

    def __init__(self, model: nn.Module, loss: Callable, device_type: str, bf16: bool):
        super().__init__()
        self.model = model
        self.loss = loss
        self.device_type = device_type
        self.bf16 = bf16

    def forward(self, *batch: Tensor, **progress: float) -> dict[str, Tensor]:
        """The named losses of one batch."""
        with torch.autocast(self.device_type, torch.bfloat16, enabled=self.bf16):
            values = self.loss(self.model, *batch, **progress)
        values = values if isinstance(values, dict) else {"loss": values}
        if "loss" not in values:
            raise ValueError(f'loss must return a dict that holds "loss", got {sorted(map(str, values))}')
        for name, value in values.items():
            if not isinstance(value, Tensor) or value.dim():
                got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"loss must return scalar tensors, got {got} as {name!r}")
            if value.is_complex():
                raise ValueError(f"loss must return real numbers, got {value.dtype} as {name!r}")
            if not isinstance(name, str) or name in RESERVED:
                raise ValueError(f"loss must use names other than {', '.join(RESERVED)}, got {name!r}")
        if not values["loss"].requires_grad:
            raise ValueError("loss must depend on the parameters of the model, got one without a gradient")
        return values


def _adamw(parameters: list[nn.Parameter], lr: float, weight_decay: float, device: torch.device):
    """Weight decay for what multiplies (matrices, kernels), none for what is added or scales."""
    decayed = [parameter for parameter in parameters if parameter.dim() > 1]
    others = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, fused=device.type in ("cpu", "cuda"))


def _asks_for_progress(loss: Callable, data: tuple[Tensor, ...]) -> bool:
    """Whether `loss` has a parameter `progress` that is not taken by the model or a part of the batch."""
    try:
        signature = inspect.signature(loss)
        return "progress" in signature.parameters.keys() - signature.bind_partial(None, *data).arguments.keys()
    except (TypeError, ValueError):  # it takes other arguments, which its call will say, or has no signature
        return False


def _record(
    history: History, losses: list[dict[str, Tensor]], step: int, batch_size: int, rate: float, accelerator: Accelerator
) -> None:
    """Adds an entry at `step` for the losses since the last one, and forgets them."""
    entry = {"step": step, "images": step * batch_size, "lr": rate, **means(losses, step, batch_size, accelerator)}
    history.records.append(entry)
    losses.clear()


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
    if taken := sorted(map(str, values.keys() & record.keys())):
        raise ValueError(f"evaluate must use names that the losses do not, got {taken}")
    return {name: _number(name, value) for name, value in values.items()}


def _number(name: str, value: object) -> float:
    """`value` as a plain number: a real one, or a tensor or an array of one."""
    try:
        number = value.item() if isinstance(value, Tensor | np.ndarray | np.generic) else value
    except (RuntimeError, ValueError):  # torch's and numpy's word for more than one
        number = None
    if not isinstance(name, str) or not isinstance(number, Real):
        raise ValueError(f"evaluate must return numbers by name, got {described(value)} as {name!r}")
    return float(number)


def _gathered_states(accelerator: Accelerator) -> dict[str, Tensor]:
    """The states of the random number generators of every process, (processes, bytes)."""
    states = random_states(accelerator.device)
    return {name: accelerator.gather(state.to(accelerator.device)[None]).cpu() for name, state in states.items()}


def _resume(checkpoint, model, optimizer, average, identity, steps, may_differ, accelerator) -> tuple[int, list[dict]]:
    """Puts everything back as the checkpoint holds it; returns the step and the records."""
    now = _gathered_states(accelerator)
    step, records, states = load_training(checkpoint, model, optimizer, average, now, identity, steps, may_differ)
    own = {name: rows[accelerator.process_index].clone() for name, rows in states.items()}  # torch reads past a view
    try:
        set_random_states(own, accelerator.device)
    except (RuntimeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{checkpoint} is damaged: no random state ({error}); delete it") from error
    return step, records
