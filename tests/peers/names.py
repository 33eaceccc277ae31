"""The way from our names of parameters to other people's."""

import re
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

Rules = Iterable[tuple[str, str | Callable[[re.Match], str]]]


def renamed(name: str, rules: Rules) -> str:
    """`name` after all rules, pairs of a pattern and what takes its place, in order."""
    for ours, theirs in rules:
        name = re.sub(ours, theirs, name)
    return name


def apart(name: str, value: Tensor, joint: str, single: str) -> Iterator[tuple[str, Tensor]]:
    """The parameter itself, or where `joint` stands in its name its three thirds, named `single` with q, k and v."""
    if joint not in name:
        yield name, value
    else:
        for part, third in zip("qkv", value.chunk(3)):
            yield name.replace(joint, single.format(part)), third
