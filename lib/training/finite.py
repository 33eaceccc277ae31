"""What a training records and keeps is finite. Looked at rarely, since each look waits for the device."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from lib.training.ema import EMA


class NonFiniteLoss(ArithmeticError):
    """A loss became infinite or not a number. The message says which, and at which step."""


class NonFiniteWeights(NonFiniteLoss):
    """The weights became infinite or not a number while the loss still was one: the next would have been none."""


def means(losses: list[dict[str, Tensor]], step: int, batch_size: int, accelerator: Accelerator) -> dict[str, float]:
    """The mean of each loss over the last steps, the newest of which is `step`, and over all processes.

    Raises NonFiniteLoss where one of them is no finite number, and ValueError where the names changed.
    """
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


def finite_tensors(model: nn.Module) -> list[str]:
    """The names of the parameters and of those buffers that are finite now: a mask may be infinite from the start.

    Raises ValueError where a parameter is not.
    """
    tensors = _tensors(model)
    bad = {name for name, fine in zip(tensors, _finite(list(tensors.values())).tolist()) if not fine}
    if wrong := [name for name, _ in model.named_parameters() if name in bad]:
        raise ValueError(f"model must have finite weights, got infinite ones or no numbers in {_listed(wrong)}")
    return [name for name in tensors if name not in bad]


def check_weights(
    model: nn.Module, average: EMA | None, names: list[str], step: int, batch_size: int, accelerator: Accelerator
) -> None:
    """Raises NonFiniteWeights, on all processes, unless the tensors of these names and their average are finite."""
    tensors = _tensors(model)
    watched = {name: [tensors[name]] + ([average.average[name]] if average else []) for name in names}
    sums = torch.stack([tensor.sum() for pair in watched.values() for tensor in pair])
    if bool(accelerator.reduce(sums.isfinite().all().float(), "mean") == 1):
        return  # a sum may overflow where no number is infinite, but never hides one that is
    fine = torch.stack([_finite(pair).all() for pair in watched.values()])
    fine = accelerator.reduce(fine.float(), "sum").cpu() == accelerator.num_processes
    if bad := [name for name, well in zip(watched, fine.tolist()) if not well]:
        raise NonFiniteWeights(
            f"the weights stopped being numbers by step {step} (image {step * batch_size:,}), though the loss was one: "
            f"{_listed(bad)}. A gradient may be a root's or a quotient's at 0; or try a lower lr, or precision='no'"
        )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that hold real or complex numbers, by name."""
    tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        name: tensor.detach() for name, tensor in tensors.items() if tensor.is_floating_point() or tensor.is_complex()
    }


def _finite(tensors: list[Tensor]) -> Tensor:
    """Which of the tensors are finite everywhere, bool (n,)."""
    return torch.stack([tensor.isfinite().all() for tensor in tensors])


def _listed(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
