"""What many constructors and functions ask of their arguments: clear errors that name the argument and what came."""

import math
from numbers import Integral, Real


def check_count(least: int = 1, most: int | None = None, /, **numbers: int) -> None:
    """Raises `ValueError` unless all are integers of at least `least` and, where given, at most `most`."""
    for name, number in numbers.items():
        whole = isinstance(number, Integral) and not isinstance(number, bool)
        if not whole or number < least or (most is not None and number > most):
            wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise ValueError(f"{name} must be an integer {wanted}, got {number!r}")


def is_number(value: object) -> bool:
    """Whether `value` is a finite real number. True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_option(name: str, value: str, options: tuple[str, ...]) -> None:
    """Raises `ValueError` where `value` is none of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}")
