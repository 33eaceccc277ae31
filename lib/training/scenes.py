"""Digit scenes: several handwritten digits of several sizes on one canvas, each with its box. Made as fast as used.

What COCO (Lin et al., ECCV 2014) is for a detector of real objects, in small: to be found, named and told apart. The
digits of training scenes are MNIST's training images, those of test scenes its test images, so the two share none.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.checks import check_count, described, is_number
from lib.training.data import load_mnist
from lib.training.devices import check_device

INK = 0.25  # a pixel darker than this belongs to the digit
TRIES = 12  # places that are tried for a digit before it is left out


class Scenes(NamedTuple):
    """Scenes and what is to be found in them; N scenes of at most K digits.

    images: float32 (N, 1, size, size), 0 paper and 1 ink.
    labels: int64 (N, K), the digits, -1 where there are fewer than K.
    boxes: float32 (N, K, 4), centre, width and height in units of the canvas; 0 where there is no digit.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor

    def targets(self) -> list[dict[str, Tensor]]:
        """For each scene "labels" (T,) and "boxes" (T, 4), as the set losses want them."""
        return [
            {"labels": labels[labels >= 0], "boxes": boxes[labels >= 0]}
            for labels, boxes in zip(self.labels, self.boxes)
        ]


def digit_scenes(
    n: int,
    seed: int = 0,
    split: str = "train",
    *,
    size: int = 64,
    digits: tuple[int, int] = (1, 4),
    sides: tuple[float, float] = (16.0, 32.0),
    overlap: float = 0.1,
    clutter: int = 0,
    device: str | torch.device = "cpu",
) -> Scenes:
    """`n` scenes, the same for the same arguments.

    Args:
        n: number of scenes.
        seed: a seed gives its own scenes; draw with a new one for every batch and no scene comes twice.
        split: "train" or "test", where the digits come from.
        size: side of the canvas in pixels.
        digits: fewest and most digits in a scene, drawn uniformly; a digit for which no place is found is left out, the
            first always has one.
        sides: shortest and longest side in pixels of the square that holds a digit with its margin of paper.
        overlap: how much of the smaller of two boxes may lie under the other, from 0 (they only touch) to 1 (anything).
        clutter: pieces of other digits, 6 pixels wide, that belong to no object.
        device: where the scenes are made and stay.

    Raises:
        ValueError: for an argument out of range.
    """
    check_count(n=n, size=size)
    check_count(0, clutter=clutter)
    check_count(0, 2**64 - 1, seed=seed)
    for name, pair in {"digits": digits, "sides": sides}.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(is_number, pair)):
            raise ValueError(f"{name} must be two numbers, got {described(pair)}")
    if not is_number(overlap) or not 0 <= overlap <= 1:
        raise ValueError(f"overlap must lie in [0, 1], got {overlap!r}")
    device = check_device(device)
    least, most = digits
    check_count(**{"fewest digits": least})
    check_count(least, **{"most digits": most})
    if not 0 < sides[0] <= sides[1] <= size:
        raise ValueError(f"sides must satisfy 0 < shortest <= longest <= size = {size}, got {sides}")
    stock = _stock(split, device)
    draw = torch.Generator().manual_seed(seed)  # on the CPU: the same scenes on every device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw).to(device)

    which = torch.randint(len(stock.labels), (n, most), generator=draw).to(device)
    wanted = torch.randint(least, most + 1, (n, 1), generator=draw).to(device)
    side = sides[0] + (sides[1] - sides[0]) * uniform(n, most)
    ink = stock.boxes[which] * side[..., None]  # left, top, right, bottom of the ink within the digit's square
    corner = (uniform(n, most, TRIES, 2) * (size - ink[..., 2:] + ink[..., :2])[:, :, None]) - ink[..., None, :2]
    boxes = ink[:, :, None] + corner.repeat(1, 1, 1, 2)  # all tries (n, most, TRIES, 4), the ink inside the canvas

    there = torch.zeros(n, most, dtype=torch.bool, device=device)
    chosen, place = torch.zeros(n, most, 4, device=device), torch.zeros(n, most, 2, device=device)
    rows = torch.arange(n, device=device)
    for k in range(most):
        covered = (_covered(boxes[:, k], chosen) * there[:, None]).amax(2)  # (n, TRIES)
        first = (covered <= overlap).float().argmax(1)
        there[:, k] = (covered[rows, first] <= overlap) & (k < wanted[:, 0])
        chosen[:, k], place[:, k] = boxes[rows, k, first], corner[rows, k, first]

    images = _paint(stock.images[which], place, side, there, size)
    if clutter:
        images = torch.maximum(images, _clutter(stock, n, clutter, size, draw))
    low, high = chosen.div(size).split(2, dim=2)
    boxes = torch.cat([(low + high) / 2, high - low], dim=2)
    return Scenes(images, torch.where(there, stock.labels[which], -1), boxes * there[..., None])


class Stock(NamedTuple):
    """The digits that scenes are made of: images (M, 1, 28, 28), labels (M,), and where their ink lies (M, 4)."""

    images: Tensor
    labels: Tensor
    boxes: Tensor  # left, top, right, bottom, in units of the image


@lru_cache
def _stock(split: str, device: torch.device) -> Stock:
    images, labels = load_mnist(split, device)
    ink = images[:, 0] > INK
    sides = []
    for dim in (1, 2):  # over rows, for left and right; over columns, for top and bottom
        line = ink.any(dim).float()
        sides.append((line.argmax(1), line.shape[1] - line.flip(1).argmax(1)))
    (left, right), (top, bottom) = sides
    return Stock(images, labels, torch.stack([left, top, right, bottom], dim=1) / images.shape[2])


def _covered(boxes: Tensor, others: Tensor) -> Tensor:
    """Which share of the smaller of two boxes lies under the other: (n, A, B) for corners (n, A, 4) and (n, B, 4)."""
    a, b = boxes[:, :, None], others[:, None]
    both = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    smaller = torch.minimum((a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1))
    return both / smaller.clamp(min=1e-6)


def _paint(images: Tensor, place: Tensor, side: Tensor, there: Tensor, size: int) -> Tensor:
    """Canvases (n, 1, size, size) with images (n, K, 1, 28, 28), each at its `place` and `side` pixels wide."""
    n, K = there.shape
    keep = there.flatten()
    place, side = place.flatten(0, 1)[keep], side.flatten()[keep]
    middles = torch.arange(size, device=images.device) + 0.5
    x, y = (2 * (middles - place[..., None]) / side[:, None, None] - 1).unbind(1)  # from -1 to 1 within the digit
    grid = torch.stack([x[:, None].expand(-1, size, -1), y[..., None].expand(-1, -1, size)], dim=-1)
    painted = F.grid_sample(images.flatten(0, 1)[keep], grid, align_corners=False)
    canvas = images.new_zeros(n * K, 1, size, size)
    canvas[keep] = painted
    return canvas.unflatten(0, (n, K)).amax(1)


def _clutter(stock: Stock, n: int, pieces: int, size: int, draw: torch.Generator) -> Tensor:
    """Canvases (n, 1, size, size) with squares of 6×6 pixels, cut from the middles of digits, at random places."""
    which = torch.randint(len(stock.labels), (n * pieces,), generator=draw)
    squares = stock.images[which.to(stock.images.device), 0, 11:17, 11:17]
    top, left = torch.randint(size - 5, (2, n * pieces, 1, 1), generator=draw).to(squares.device)
    row, column = torch.arange(6, device=squares.device)[:, None], torch.arange(6, device=squares.device)
    canvas = squares.new_zeros(n * pieces, size, size)
    canvas[torch.arange(n * pieces, device=squares.device)[:, None, None], top + row, left + column] = squares
    return canvas.unflatten(0, (n, pieces)).amax(1, keepdim=True)
