"""What a device can do, and whether there is one of that name."""

import os
import warnings

import torch
from accelerate.utils import parse_flag_from_env

from lib.checks import described


def check_device(device: object) -> torch.device:
    """`device` as a `torch.device` that PyTorch can use here; else `ValueError`."""
    if not isinstance(device, str | torch.device):
        raise ValueError(f"device must be a device or its name, got {described(device)}")
    try:
        found = torch.device(device)
        torch.empty(0).to(found)
    except (RuntimeError, AssertionError) as error:  # torch raises the one or the other for a device that is not there
        reason = str(error).splitlines()[0]
        raise ValueError(f"device must be one that PyTorch finds here, got {device!r} ({reason})") from error
    return found


def has_float64(device: torch.device) -> bool:
    """Whether the device computes in float64, which Apple's GPUs and some of Intel's do not."""
    try:
        torch.zeros((), dtype=torch.float64).to(device)
    except (TypeError, RuntimeError):  # of the one and of the others
        return False
    return True


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the hardware has arithmetic in bfloat16: on a CPU the instructions AVX-512 BF16 or AMX.

    There autocast helps the book's MLPs and convolutions, if oneDNN computes them. Without, it converts back and forth:
    on a CPU with AVX2 alone it makes the MLP of the VAE chapter six to eight times slower and the ViT twelve times.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    instructions: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(instructions.get("avx512_bf16") or instructions.get("amx_bf16"))


def warn_of_one_process(processes: int) -> None:
    """Warns where one process runs though `accelerate launch` was asked for several: with --cpu it starts no more."""
    launched = parse_flag_from_env("ACCELERATE_USE_CPU") and "MASTER_ADDR" in os.environ  # set for several alone
    if processes == 1 and launched and "WORLD_SIZE" not in os.environ:  # which `torchrun` sets
        warnings.warn(
            "only one process runs: `accelerate launch --cpu` starts no more, whatever --num_processes says. "
            "For several on the CPU: torchrun --standalone --nproc_per_node 2 -m ...",
            stacklevel=3,
        )
