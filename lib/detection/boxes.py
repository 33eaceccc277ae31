r"""Boxes: two ways to write one, and how much two of them overlap.

"cxcywh" is centre and size, "xyxy" the corners left, top, right, bottom. x runs to the right and y downwards.

Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019 (arXiv:1902.09630).
"""

import torch
from torch import Tensor


def box_cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Corners (..., 4) of boxes (..., 4) given by centre, width and height."""
    centre, size = check_boxes("boxes", boxes).split(2, dim=-1)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def box_xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Centre, width and height (..., 4) of boxes (..., 4) given by their corners."""
    low, high = check_boxes("boxes", boxes).split(2, dim=-1)
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4) given by their corners."""
    low, high = check_boxes("boxes", boxes).split(2, dim=-1)
    return _area(high - low)


def box_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of every pair, and the area of the union: (N, M) each, for corners (N, 4) and (M, 4)."""
    return _overlap(a[:, None], b)


def generalized_box_iou(a: Tensor, b: Tensor) -> Tensor:
    """`generalized_iou` of every pair (N, M), for corners (N, 4) and (M, 4)."""
    return generalized_iou(a[:, None], b)


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    r"""$\mathrm{IoU} - \frac{|C| - |A \cup B|}{|C|}$, with $C$ the smallest box around both.

    It is 1 for equal boxes, and falls towards -1 as they move apart: unlike the IoU it tells how far apart they are.

    Args:
        a: corners (..., 4).
        b: corners (..., 4), of the same number or one that broadcasts.
    """
    iou, union = _overlap(a, b)
    around = _between(a, b, torch.minimum, torch.maximum)
    return iou - (around - union) / around


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and area of the union (...), of corners (..., 4) and (..., 4)."""
    overlap = _between(a, b, torch.maximum, torch.minimum)
    union = box_area(a) + box_area(b) - overlap
    return overlap / union, union


def _between(a: Tensor, b: Tensor, low, high) -> Tensor:
    """Area (...) between the corners that `low` and `high` choose of two boxes; 0 where they cross."""
    return _area((high(a[..., 2:], b[..., 2:]) - low(a[..., :2], b[..., :2])).clamp(min=0))


def _area(size: Tensor) -> Tensor:
    """Width times height (...) of sizes (..., 2): as a product, since the gradient of `prod` is slow."""
    return size[..., 0] * size[..., 1]


def check_boxes(name: str, boxes: Tensor) -> Tensor:
    """`boxes` itself, after checking that it is floating point and (..., 4)."""
    if boxes.shape[-1:] != (4,) or not boxes.is_floating_point():
        raise ValueError(f"{name} must be floating point (..., 4), got {boxes.dtype} {tuple(boxes.shape)}")
    return boxes
