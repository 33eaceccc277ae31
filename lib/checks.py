"""What functions ask of their arguments: clear errors that name the argument, what came and what was wanted.

Below them: in which precision numbers are added up, and in which a network is asked.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor, nn

INTEGERS = tuple(getattr(torch, f"{sign}int{bits}") for bits in (64, 32, 16, 8) for sign in ("", "u"))


def check_count(least: int = 1, most: int | None = None, /, **numbers: int) -> None:
    """Raises `ValueError` unless all are integers of at least `least` and, where given, at most `most`."""
    for name, number in numbers.items():
        whole = isinstance(number, Integral) and not isinstance(number, bool)
        if not whole or number < least or (most is not None and number > most):
            wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise ValueError(f"{name} must be an integer {wanted}, got {number!r}")


def check_number(low: float = -math.inf, high: float = math.inf, /, *, above: float = -math.inf, **numbers) -> None:
    """Raises `ValueError` unless all are finite real numbers from `low` to `high`, and more than `above`."""
    for name, number in numbers.items():
        if not is_number(number) or not low <= number <= high or not number > above:
            bounds = [f"at least {low:g}"] * math.isfinite(low) + [f"at most {high:g}"] * math.isfinite(high)
            wanted = " and ".join([f"above {above:g}"] * math.isfinite(above) + bounds)
            raise ValueError(f"{name} must be a finite number{wanted and ', ' + wanted}, got {number!r}")


def is_number(value: object) -> bool:
    """Whether `value` is a finite real number that fits a float. True and False are none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer larger than any float
        return False


def check_option(name: str, value: str, options: tuple[str, ...]) -> None:
    """Raises `ValueError` where `value` is none of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}")


def check_flags(**flags: bool) -> None:
    """Raises `ValueError` unless all are True or False."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ValueError(f"{name} must be True or False, got {described(flag)}")


def check_sizes(name: str, sizes: Sequence[int], wanted: str = "") -> tuple[int, ...]:
    """`sizes` as a tuple of positive integers, as many as `wanted` ("C, H, W") names, else at least one.

    Raises `ValueError` for anything else. While a model is exported with free sizes, these count as integers.
    """
    listed = isinstance(sizes, Sequence) and not isinstance(sizes, str) and len(sizes) > 0
    if not listed or (wanted and len(sizes) != len(wanted.split(", "))) or not all(map(is_size, sizes)):
        raise ValueError(f"{name} must be positive integers{wanted and f' ({wanted})'}, got {sizes!r:.60}")
    return tuple(sizes)


def is_size(value: object) -> bool:
    """Whether `value` is a positive integer, or one that is left free while a model is exported."""
    if isinstance(value, torch.SymInt):
        return True
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def check_shape(shape: object) -> None:
    """Raises `ValueError` unless `shape` is one of images, (B, ...), of which there may be none."""
    if not isinstance(shape, Sequence) or isinstance(shape, str) or not shape:
        raise ValueError(f"shape must be (B, ...), got {shape!r}")
    for size in shape:
        check_count(0, **{"each of shape": size})


def check_generator(generator: torch.Generator | None, device: torch.device | str | None = None) -> None:
    """Raises `ValueError` unless `generator` is None or a generator, one of this kind of `device` where it is given."""
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator must be a torch.Generator or None, got {described(generator)}")
    if device is not None and generator.device.type != (kind := torch.device(device).type):
        raise ValueError(f"generator must be a torch.Generator on {kind}, got {generator.device}")


def check_some(name: str, value: Tensor) -> None:
    """Raises `ValueError` where a mean over `value` would be one over nothing."""
    if not value.numel():
        raise ValueError(f"{name} must hold something, got shape {tuple(value.shape)}")


def check_floats(name: str, value: object, *, like: Tensor | None = None) -> Tensor:
    """`value` itself: a floating-point tensor, where `like` is given of its shape; else `ValueError`."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, got {described(value)}")
    if like is not None and value.shape != like.shape:
        raise ValueError(f"{name} must have the shape {tuple(like.shape)}, got {tuple(value.shape)}")
    return value


def check_integers(name: str, value: object, low: int | None = None, high: int | None = None) -> Tensor:
    """`value` as int64: a tensor of integers from `low` to `high`, both included; else `ValueError`.

    Of 8 bits integers would count as a mask or wrap around, and not all functions take 16 or 32, or those without a
    sign. Whether they lie in the range is seen only where that costs no waiting for a device.
    """
    if not isinstance(value, Tensor) or value.dtype not in INTEGERS:
        raise ValueError(f"{name} must be a tensor of integers, got {described(value)}")
    if value.dtype == torch.uint64:
        low = max(low or 0, 0)  # what int64 does not hold turns negative
    value = value.long()
    if value.numel() and readable(value):
        least, most = (int(end) for end in value.aminmax())
        if (low is not None and least < low) or (high is not None and most > high):
            wanted = f"between {low} and {high}" if high is not None else f"at least {low}"
            raise ValueError(f"{name} must be {wanted}, got values from {least} to {most}")
    return value


def check_finite(name: str, value: Tensor, low: float = -math.inf, high: float = math.inf) -> None:
    """Raises `ValueError` where a number of `value` is not finite or not in [low, high], if it is `readable`."""
    if not value.numel() or not readable(value):
        return
    least, most = (float(end) for end in value.detach().aminmax())
    if not (math.isfinite(least) and math.isfinite(most) and low <= least and most <= high):
        bounds = f" and lie in [{low:g}, {high:g}]" if math.isfinite(low) or math.isfinite(high) else ""
        raise ValueError(f"{name} must be finite{bounds}, got values from {least:g} to {most:g}")


def readable(value: Tensor) -> bool:
    """Whether the numbers of `value` can be looked at without waiting for a device, and not while compiling."""
    return value.device.type == "cpu" and not torch.compiler.is_compiling()


def described(value: object) -> str:
    """What came in place of a tensor, in a few words: type and shape of a tensor, anything else as it is written."""
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.60}"


def upcast(x: Tensor) -> Tensor:
    """`x` in float32 or wider: of a sum over pixels, or of a walk of small steps, 16 bits keep two or three figures."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def cast_for(network: nn.Module, x: Tensor) -> Tensor:
    """`x` in the precision of the network's parameters: what stands at its door."""
    parameter = next(network.parameters(), None)
    return x if parameter is None else x.to(parameter.dtype)
