r"""What DETR is trained with: the loss of each prediction against the object it was matched with.

Carion et al., "End-to-End Object Detection with Transformers" (DETR), ECCV 2020 (arXiv:2005.12872), equation (2) and
appendix A.2.
"""

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.detection.boxes import box_cxcywh_to_xyxy, generalized_iou
from lib.detection.matching import HungarianMatcher, Matches, Targets


class SetCriterion(nn.Module):
    r"""$\sum_i \big[-\log \hat p_{\hat\sigma(i)}(c_i) + \mathbb 1_{c_i \ne \varnothing} \mathcal L_\text{box}\big]$.

    The losses are: cross-entropy over all predictions, "no object" weighing `eos_coef`; L1 distance and one minus the
    generalised IoU of the matched boxes, each divided by the number of objects in the batch. Every earlier decoder
    layer is matched anew and has the same losses.

    Args:
        num_classes: classes of objects, without "no object".
        matcher: finds the pairs; another rule is a subclass with its own `assign`.
        weights: of "loss_ce", "loss_bbox" and "loss_giou" in the total.
        eos_coef: weight of "no object" in the cross-entropy, which would otherwise drown the rest.

    Raises:
        ValueError: for weights out of range, and as `HungarianMatcher`.
    """

    def __init__(
        self,
        num_classes: int,
        matcher: HungarianMatcher | None = None,
        weights: dict[str, float] | None = None,
        eos_coef: float = 0.1,
    ):
        super().__init__()
        self.num_classes, self.matcher = num_classes, matcher or HungarianMatcher()
        self.weights = {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0} if weights is None else weights
        for name, value in {**self.weights, "eos_coef": eos_coef}.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and at least 0, got {value!r}")
        class_weight = torch.ones(num_classes + 1)
        class_weight[-1] = eos_coef
        self.register_buffer("empty_weight", class_weight)

    def forward(self, outputs: dict, targets: Targets) -> dict[str, Tensor]:
        """All losses by name, unweighted: "loss_ce", "loss_bbox", "loss_giou", and "loss_ce_0" ... of earlier layers.

        With "enc_outputs", as `TwoStageDETR` gives them, there are also "loss_ce_enc" and so on. "class_error", the
        percentage of matched objects whose class is not the most probable one, and "cardinality_error", by how many
        objects the count is wrong, are there to be looked at. Weighted and added up: `total`.
        """
        layers = {"": outputs} | {f"_{i}": layer for i, layer in enumerate(outputs.get("aux_outputs", []))}
        if "enc_outputs" in outputs:
            layers["_enc"] = outputs["enc_outputs"]
        losses: dict[str, Tensor] = {}
        for (suffix, layer), pairs in zip(layers.items(), self.matcher.of_layers(list(layers.values()), targets)):
            found = self.of_layer(layer, pairs, targets)
            if suffix:
                del found["class_error"]
            losses |= {name + suffix: value for name, value in found.items()}
        return losses

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the losses of all layers, a scalar."""
        return sum(self.weights.get(re.sub(r"_(\d+|enc)$", "", name), 0.0) * value for name, value in losses.items())

    def of_layer(self, outputs: dict[str, Tensor], matches: Matches, targets: Targets) -> dict[str, Tensor]:
        """The losses of what one decoder layer found."""
        logits = outputs["pred_logits"]
        image, query, labels, boxes = self.matched(matches, targets, logits.device)
        wanted = torch.full(logits.shape[:2], self.num_classes, dtype=torch.long, device=logits.device)
        wanted[image, query] = labels
        predicted = outputs["pred_boxes"][image, query]
        boxes = boxes.to(predicted.dtype)
        overlap = generalized_iou(box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(boxes))
        objects = max(len(labels), 1)
        with torch.no_grad():
            right = (logits[image, query].argmax(-1) == labels).float()
            counts = torch.tensor([len(target["labels"]) for target in targets], device=logits.device)
            found = (logits.argmax(-1) != self.num_classes).sum(1)
        return {
            "loss_ce": F.cross_entropy(logits.transpose(1, 2), wanted, self.empty_weight.to(logits.dtype)),
            "loss_bbox": (predicted - boxes).abs().sum() / objects,
            "loss_giou": (1 - overlap).sum() / objects,
            "class_error": 100 - 100 * right.mean() if len(right) else logits.new_tensor(100.0),
            "cardinality_error": (found - counts).abs().float().mean(),
        }

    @staticmethod
    def matched(matches: Matches, targets: Targets, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For each pair of the batch: the image, the query, the object's label (n,), and its box (n, 4)."""
        image = torch.cat([torch.full_like(query, i) for i, (query, _) in enumerate(matches)]).to(device)
        query = torch.cat([query for query, _ in matches]).to(device)
        labels = torch.cat([target["labels"][found.to(device)] for target, (_, found) in zip(targets, matches)])
        boxes = torch.cat([target["boxes"][found.to(device)] for target, (_, found) in zip(targets, matches)])
        return image, query, labels, boxes
