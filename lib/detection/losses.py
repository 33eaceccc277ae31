r"""What DETR is trained with: the loss of each prediction against the object it was matched with.

Carion et al., "End-to-End Object Detection with Transformers" (DETR), ECCV 2020 (arXiv:2005.12872), equation (2) and
appendix A.2.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import check_count, check_floats, check_number, check_option, described, upcast
from lib.detection.boxes import box_cxcywh_to_xyxy, generalized_iou
from lib.detection.matching import HungarianMatcher, Matches, Targets, check_outputs

WEIGHTS = {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}  # appendix A.4


class Pairs(NamedTuple):
    """What one layer's predictions answer for, on their device: n pairs of a prediction and an object, in B images.

    image: of each pair (n,).
    query: of each pair (n,).
    labels: of the objects (n,), int64.
    boxes: of the objects (n, 4).
    counts: objects of each image (B,), int64, matched or not.
    """

    image: Tensor
    query: Tensor
    labels: Tensor
    boxes: Tensor
    counts: Tensor


class SetCriterion(nn.Module):
    r"""$\sum_i \big[-\log \hat p_{\hat\sigma(i)}(c_i) + \mathbb 1_{c_i \ne \varnothing} \mathcal L_\text{box}\big]$.

    The losses are: cross-entropy over all predictions, "no object" weighing `eos_coef`; L1 distance and one minus the
    generalised IoU of the matched boxes, each divided by the number of objects in the batch. Every earlier decoder
    layer is matched anew and has the same losses. They are float32 or wider, whatever the precision of the outputs.

    Args:
        num_classes: classes of objects, without "no object".
        matcher: finds the pairs; another rule is a subclass with its own `assign`.
        weights: of "loss_ce", "loss_bbox" and "loss_giou" in the total; what is left out does not count.
        eos_coef: weight of "no object" in the cross-entropy, which would otherwise drown the rest.

    Raises:
        ValueError: for weights out of range or of other losses, for outputs with another number of classes, and as
            `HungarianMatcher`.
    """

    def __init__(
        self,
        num_classes: int,
        matcher: HungarianMatcher | None = None,
        weights: dict[str, float] | None = None,
        eos_coef: float = 0.1,
    ):
        super().__init__()
        check_count(num_classes=num_classes)
        check_number(0, eos_coef=eos_coef)
        if matcher is not None and not isinstance(matcher, HungarianMatcher):
            raise ValueError(f"matcher must be a HungarianMatcher, got {described(matcher)}")
        if weights is not None and not isinstance(weights, Mapping):
            raise ValueError(f"weights must be a dictionary, got {described(weights)}")
        self.num_classes, self.matcher, self.eos_coef = num_classes, matcher or HungarianMatcher(), eos_coef
        self.weights = dict(WEIGHTS if weights is None else weights)
        for name, value in self.weights.items():
            check_option("weights", name, tuple(WEIGHTS))
            check_number(0, **{f"weights: {name}": value})
        if not any(self.weights.values()):
            raise ValueError(f"weights must not all be 0, got {self.weights}")

    def forward(self, outputs: dict, targets: Targets) -> dict[str, Tensor]:
        """All losses by name, unweighted: "loss_ce", "loss_bbox", "loss_giou", and "loss_ce_0" ... of earlier layers.

        With "enc_outputs", as `TwoStageDETR` gives them, there are also "loss_ce_enc" and so on. "class_error", the
        percentage of matched objects whose class is not the most probable one, and "cardinality_error", by how many
        objects the count is wrong, are there to be looked at. Weighted and added up: `total`.
        """
        classes = check_outputs("outputs", outputs).shape[2] - 1
        if classes != self.num_classes:
            raise ValueError(f"outputs must have num_classes + 1 = {self.num_classes + 1} scores, got {classes + 1}")
        earlier = check_earlier(outputs.get("aux_outputs", []))
        layers = {"": outputs} | {f"_{i}": layer for i, layer in enumerate(earlier)}
        if "enc_outputs" in outputs:
            layers["_enc"] = outputs["enc_outputs"]
        matches = self.matcher.of_layers(list(layers.values()), targets)
        losses: dict[str, Tensor] = {}
        for (suffix, layer), pairs in zip(layers.items(), pair_up(matches, targets)):
            found = self.of_layer(layer, pairs)
            if suffix:
                del found["class_error"]
            losses |= {name + suffix: value for name, value in found.items()}
        return losses

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the losses of all layers, a scalar."""
        if not isinstance(losses, Mapping) or not losses.keys() >= WEIGHTS.keys() & self.weights.keys():
            got = [*losses] if isinstance(losses, Mapping) else described(losses)
            raise ValueError(f"losses must be a dictionary as the criterion gives it, got {got}")
        for name, value in losses.items():
            check_floats(f"losses: {name}", value)
        return sum(self.weights.get(re.sub(r"_(\d+|enc)$", "", name), 0.0) * value for name, value in losses.items())

    def of_layer(self, outputs: dict[str, Tensor], pairs: Pairs) -> dict[str, Tensor]:
        """The losses of what one decoder layer found."""
        logits, (image, query, labels, boxes, counts) = upcast(outputs["pred_logits"]), pairs
        wanted = torch.full(logits.shape[:2], self.num_classes, dtype=torch.long, device=logits.device)
        wanted[image, query] = labels
        predicted = upcast(outputs["pred_boxes"])[image, query]
        boxes = boxes.to(predicted.dtype)
        overlap = generalized_iou(box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(boxes))
        objects = max(len(labels), 1)
        with torch.no_grad():
            right = (logits[image, query].argmax(-1) == labels).float()
            found = (logits.argmax(-1) != self.num_classes).sum(1)
        return {
            "loss_ce": self.classification(logits, wanted, len(labels)),
            "loss_bbox": (predicted - boxes).abs().sum() / objects,
            "loss_giou": (1 - overlap).sum() / objects,
            "class_error": 100 - 100 * right.mean() if len(right) else logits.new_full((), 100.0),
            "cardinality_error": (found - counts).abs().float().mean(),
        }

    def classification(self, logits: Tensor, wanted: Tensor, objects: int) -> Tensor:
        """The weighted mean of the cross-entropies; 0 where nothing has a weight."""
        if not objects and self.eos_coef == 0:
            return 0 * logits.sum()
        weight = F.pad(logits.new_ones(self.num_classes), (0, 1), value=self.eos_coef)
        return F.cross_entropy(logits.transpose(1, 2), wanted, weight)


def check_earlier(layers: Sequence[dict]) -> Sequence[dict]:
    """`layers` itself, after checking that it is a list of outputs; there may be none."""
    if not isinstance(layers, Sequence) or isinstance(layers, str):
        raise ValueError(f"aux_outputs must be a list of outputs, got {described(layers)}")
    return layers


def pair_up(layers: Sequence[Matches], targets: Targets) -> list[Pairs]:
    """The pairs of each layer. All indices travel to the targets' device in one piece, for which nothing waits."""
    counts = np.array([len(target["labels"]) for target in targets])
    starts = counts.cumsum() - counts  # where the objects of each image begin among all
    rows = [np.stack([counts] * 3)]
    for matches in layers:
        image = np.repeat(np.arange(len(matches)), [len(query) for query, _ in matches])
        query, found = (np.concatenate([part.numpy() for part in column]) for column in zip(*matches))
        rows.append(np.stack([image, query, found + starts[image]]))
    labels = torch.cat([target["labels"].long() for target in targets])
    boxes = torch.cat([target["boxes"] for target in targets])
    sent = torch.from_numpy(np.concatenate(rows, axis=1)).to(labels.device, non_blocking=True)
    (counts, *_), *pairs = sent.split([row.shape[1] for row in rows], dim=1)
    return [Pairs(image, query, labels[found], boxes[found], counts) for image, query, found in pairs]
