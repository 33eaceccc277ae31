r"""Which prediction answers for which object: the assignment of least cost.

Carion et al., "End-to-End Object Detection with Transformers" (DETR), ECCV 2020 (arXiv:2005.12872), section 3.1,
equation (1). The assignment is scipy's, which solves it as Kuhn's Hungarian method does.

Targets are a dictionary an image: "labels" (T,), integers, and "boxes" (T, 4), centre and size in units of the image.
"""

import math
from collections.abc import Sequence

import scipy  # and not its parts: each is imported when first used, and takes longer than this whole package
import torch
from torch import Tensor, nn

from lib.detection.boxes import box_cxcywh_to_xyxy, generalized_box_iou

Targets = Sequence[dict[str, Tensor]]
Matches = list[tuple[Tensor, Tensor]]


class HungarianMatcher(nn.Module):
    r"""$\hat\sigma = \arg\min_\sigma \sum_i \mathcal L_\text{match}(y_i, \hat y_{\sigma(i)})$.

    The cost of a pair is $-\hat p(c)$, the *probability* of the object's class, plus the L1 distance of the boxes,
    minus their generalised IoU, each times its weight.

    Args:
        cost_class: weight of the probability.
        cost_bbox: weight of the L1 distance.
        cost_giou: weight of the generalised IoU.

    Raises:
        ValueError: for weights that are negative, not finite, or all 0, and for targets that `check_targets` refuses.
    """

    def __init__(self, cost_class: float = 1.0, cost_bbox: float = 5.0, cost_giou: float = 2.0):
        super().__init__()
        weights = (cost_class, cost_bbox, cost_giou)
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise ValueError(f"costs must be finite, at least 0 and not all 0, got {weights}")
        self.cost_class, self.cost_bbox, self.cost_giou = weights

    def forward(self, outputs: dict[str, Tensor], targets: Targets) -> Matches:
        """For each image the indices of predictions (T,) and of their objects (T,), on the CPU."""
        return self.of_layers([outputs], targets)[0]

    @torch.no_grad()
    def of_layers(self, layers: Sequence[dict[str, Tensor]], targets: Targets) -> list[Matches]:
        """The matches of each of several answers to the same images; their costs travel to the CPU together."""
        counts = [outputs["pred_logits"].shape[1] for outputs in layers]
        check_targets(layers[counts.index(min(counts))], targets)
        joined = {key: torch.cat([outputs[key] for outputs in layers], dim=1) for key in ("pred_logits", "pred_boxes")}
        cost = self.cost(joined, targets).cpu()
        if not cost.isfinite().all():
            raise ValueError("outputs must be finite, got values that are infinite or not a number")
        sizes = [len(target["labels"]) for target in targets]
        blocks = [block[i] for i, block in enumerate(cost.split(sizes, dim=2))]  # each image with its own objects
        return [list(map(self.assign, layer)) for layer in zip(*(block.split(counts) for block in blocks))]

    def assign(self, cost: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of one image, predictions (n,) and objects (n,), from its costs (Q, T). Another rule goes here."""
        predictions, objects = scipy.optimize.linear_sum_assignment(cost)
        return torch.from_numpy(predictions), torch.from_numpy(objects)

    @torch.no_grad()
    def cost(self, outputs: dict[str, Tensor], targets: Targets) -> Tensor:
        """The cost (B, Q, all objects of the batch) of every prediction for every object, also of other images."""
        labels = torch.cat([target["labels"] for target in targets])
        boxes = torch.cat([target["boxes"] for target in targets])
        B, Q = outputs["pred_logits"].shape[:2]
        predicted = outputs["pred_boxes"].flatten(0, 1)
        probability = outputs["pred_logits"].softmax(-1)[..., labels]
        distance = torch.cdist(predicted, boxes.to(predicted.dtype), p=1).view(B, Q, -1)
        overlap = generalized_box_iou(box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(boxes.to(predicted.dtype)))
        return self.cost_bbox * distance - self.cost_class * probability - self.cost_giou * overlap.view(B, Q, -1)


def check_targets(outputs: dict[str, Tensor], targets: Targets) -> None:
    """Raises `ValueError` for targets that do not fit the outputs.

    Boxes must lie in [0, 1] with positive width and height, labels among the classes, everything on one device; no
    image may have more objects than there are queries. Images without objects are fine.
    """
    logits = outputs["pred_logits"]
    B, Q, classes = logits.shape
    if len(targets) != B:
        raise ValueError(f"targets must be one for each of the {B} images, got {len(targets)}")
    for i, target in enumerate(targets):
        labels, boxes = target["labels"], target["boxes"]
        if labels.ndim != 1 or labels.is_floating_point() or boxes.shape != (len(labels), 4):
            got = f"{labels.dtype} {tuple(labels.shape)} and {tuple(boxes.shape)}"
            raise ValueError(f"targets[{i}] must have integer labels (T,) and boxes (T, 4), got {got}")
        if labels.device != logits.device or boxes.device != logits.device:
            got = f"{labels.device} and {boxes.device}"
            raise ValueError(f"targets[{i}] must be on the device of the outputs, {logits.device}, got {got}")
        if len(labels) > Q:
            raise ValueError(f"targets[{i}] has {len(labels)} objects, more than the {Q} queries")
    labels = torch.cat([target["labels"] for target in targets])
    boxes = torch.cat([target["boxes"] for target in targets])
    if not len(labels):
        return
    if labels.min() < 0 or labels.max() >= classes - 1:
        got = f"values from {labels.min()} to {labels.max()}"
        raise ValueError(f"labels must lie between 0 and {classes - 2}, got {got}")
    if not ((boxes >= 0) & (boxes <= 1)).all() or not (boxes[:, 2:] > 0).all():  # written so that NaN fails too
        wrong = boxes[~(((boxes >= 0) & (boxes <= 1)).all(1) & (boxes[:, 2:] > 0).all(1))][0].tolist()
        raise ValueError(f"boxes must be (cx, cy, w, h) in [0, 1] with w and h above 0, got {wrong}")
