r"""Boxes: two ways to write one, and how much two of them overlap.

"cxcywh" is centre and size, "xyxy" the corners left, top, right, bottom. x runs to the right and y downwards.

A box of no area overlaps nothing, not even itself: its IoU is 0, as in COCO's evaluation and in torchvision's losses,
and so is the second term of the generalised IoU where the smallest box around both has no area. Corners are crossed
where right lies left of left or bottom above top, as those of a box of negative size. They are refused, and so are
numbers that are not finite, where the numbers can be read without waiting for a device; elsewhere such a box has no
area. Areas are float32 or wider: in 16 bits those of pixels would overflow.

Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019 (arXiv:1902.09630).
"""

import torch
from torch import Tensor

from lib.checks import check_finite, described, readable, upcast


def box_cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Corners (..., 4) of boxes (..., 4) given by centre, width and height; `ValueError` as `check_centred`."""
    centre, size = check_centred("boxes", boxes).split(2, dim=-1)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def box_xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Centre, width and height (..., 4) of boxes (..., 4) given by their corners; `ValueError` as `check_corners`."""
    low, high = check_corners("boxes", boxes).split(2, dim=-1)
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4) given by their corners; `ValueError` as `check_corners`."""
    left, top, right, bottom = _sides(check_corners("boxes", boxes))
    return _product(right - left, bottom - top)


def box_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of every pair, and the area of the union: (N, M) each, for corners (N, 4) and (M, 4).

    Raises:
        ValueError: for other shapes, and for corners that are crossed or not finite.
    """
    a, b = _every_pair(a, b)
    return _overlap(_sides(a), _sides(b))


def generalized_box_iou(a: Tensor, b: Tensor) -> Tensor:
    """`generalized_iou` of every pair (N, M), for corners (N, 4) and (M, 4). Raises `ValueError` as `box_iou`."""
    return generalized_iou(*_every_pair(a, b))


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    r"""$\mathrm{IoU} - \frac{|C| - |A \cup B|}{|C|}$, with $C$ the smallest box around both.

    It is 1 for equal boxes, and falls towards -1 as they move apart: unlike the IoU it tells how far apart they are.

    Args:
        a: corners (..., 4).
        b: corners (..., 4), of the same number or one that broadcasts.

    Raises:
        ValueError: for other shapes, and for corners that are crossed or not finite.
    """
    _check_broadcast(check_corners("a", a), check_corners("b", b))
    a, b = _sides(a), _sides(b)
    iou, union = _overlap(a, b)
    (left, top, right, bottom), (left_b, top_b, right_b, bottom_b) = a, b
    width = torch.maximum(right, right_b) - torch.minimum(left, left_b)
    around = (width * (torch.maximum(bottom, bottom_b) - torch.minimum(top, top_b))).clamp(min=0)
    return iou - _share(around - union, around)


def _sides(boxes: Tensor) -> Tensor:
    """Left, top, right and bottom (4, ...) of corners (..., 4), each in one piece: so the loops over them are long."""
    return upcast(boxes).movedim(-1, 0).contiguous()


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and area of the union (...), of sides (4, ...) and (4, ...)."""
    (left, top, right, bottom), (left_b, top_b, right_b, bottom_b) = a, b
    width = torch.minimum(right, right_b) - torch.maximum(left, left_b)
    overlap = _product(width, torch.minimum(bottom, bottom_b) - torch.maximum(top, top_b))
    union = _product(right - left, bottom - top) + _product(right_b - left_b, bottom_b - top_b) - overlap
    return _share(overlap, union), union


def _product(width: Tensor, height: Tensor) -> Tensor:
    """The area (...) of sides (...); 0 where one is negative."""
    return width.clamp(min=0) * height.clamp(min=0)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """`part` of `whole` (...), 0 where the whole is too small to divide by; its gradient is finite everywhere."""
    return part / whole.masked_fill(whole < torch.finfo(whole.dtype).tiny, 1)


def _every_pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """`a` (N, 1, 4) and `b` (1, M, 4), checked."""
    for name, boxes in (("a", a), ("b", b)):
        if check_corners(name, boxes).ndim != 2:
            raise ValueError(f"{name} must be corners (N, 4), got {tuple(boxes.shape)}")
    return a[:, None], b[None]


def _check_broadcast(a: Tensor, b: Tensor) -> None:
    """Raises `ValueError` unless there is one number of boxes for both, or one box for many."""
    for n, m in zip(reversed(a.shape), reversed(b.shape)):
        if n != m and 1 not in (n, m):
            raise ValueError(f"a and b must have shapes that broadcast, got {tuple(a.shape)} and {tuple(b.shape)}")


def check_boxes(name: str, boxes: Tensor) -> Tensor:
    """`boxes` itself, after checking that it is floating point and (..., 4)."""
    if not isinstance(boxes, Tensor) or boxes.shape[-1:] != (4,) or not boxes.is_floating_point():
        raise ValueError(f"{name} must be floating point (..., 4), got {described(boxes)}")
    return boxes


def check_corners(name: str, boxes: Tensor) -> Tensor:
    """`boxes` itself: floating point (..., 4) and, where readable, finite and not crossed; else `ValueError`."""
    check_finite(name, check_boxes(name, boxes))
    if readable(boxes) and (crossed := boxes[..., 2:] < boxes[..., :2]).any():
        wrong = boxes[crossed.any(-1)][0].tolist()
        raise ValueError(f"{name} must have left <= right and top <= bottom, got the corners {wrong}")
    return boxes


def check_centred(name: str, boxes: Tensor) -> Tensor:
    """`boxes` itself: floating point (..., 4), where readable finite and of no negative size; else `ValueError`."""
    check_finite(name, check_boxes(name, boxes))
    if readable(boxes) and (boxes[..., 2:] < 0).any():
        raise ValueError(f"{name} must have no negative width or height, got {boxes[..., 2:].min():g}")
    return boxes


def check_of_objects(name: str, boxes: Tensor) -> None:
    """Raises `ValueError` unless all `boxes` (T, 4) are those of objects: (cx, cy, w, h) in units of the image."""
    right = ((boxes >= 0) & (boxes <= 1)).all(1) & (boxes[:, 2:] > 0).all(1)  # written so that NaN fails too
    if not right.all():
        wrong = boxes[~right][0].tolist()
        raise ValueError(f"{name} must be (cx, cy, w, h) in [0, 1] with w and h above 0, got {wrong}")
