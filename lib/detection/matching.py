r"""Which prediction answers for which object: the assignment of least cost.

Carion et al., "End-to-End Object Detection with Transformers" (DETR), ECCV 2020 (arXiv:2005.12872), section 3.1,
equation (1). The assignment is scipy's, which solves it as Kuhn's Hungarian method does.

Targets are a dictionary an image: "labels" (T,), integers, and "boxes" (T, 4), centre and size in units of the image.
Everything is computed in float32 or wider, whatever the precision of the outputs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy  # and not its parts: each is imported when first used, and takes longer than this whole package
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lib.checks import INTEGERS, check_floats, check_integers, check_number, described, readable, upcast
from lib.detection.boxes import box_cxcywh_to_xyxy, check_centred, check_of_objects, generalized_iou

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
        ValueError: for weights that are negative, not finite, or all 0; for outputs and targets that `check_outputs`
            and `check_targets` refuse; for outputs that are infinite, not a number, or boxes of negative size.
    """

    def __init__(self, cost_class: float = 1.0, cost_bbox: float = 5.0, cost_giou: float = 2.0):
        super().__init__()
        check_number(0, cost_class=cost_class, cost_bbox=cost_bbox, cost_giou=cost_giou)
        if not (cost_class or cost_bbox or cost_giou):
            raise ValueError("cost_class, cost_bbox and cost_giou must not all be 0")
        self.cost_class, self.cost_bbox, self.cost_giou = cost_class, cost_bbox, cost_giou

    def forward(self, outputs: dict[str, Tensor], targets: Targets) -> Matches:
        """For each image the indices of predictions (T,) and of their objects (T,), on the CPU."""
        check_outputs("outputs", outputs)
        return self.of_layers([outputs], targets)[0]

    @torch.no_grad()
    def of_layers(self, layers: Sequence[dict[str, Tensor]], targets: Targets) -> list[Matches]:
        """The matches of each of several answers to the same images.

        Their costs travel to the CPU together. That is the one place where a step of training waits for its device.
        """
        cost = self.cost(layers, targets).cpu()
        if not np.isfinite(cost.numpy()).all():
            raise ValueError("outputs must be finite, got values that are infinite or not a number")
        counts = [outputs["pred_logits"].shape[1] for outputs in layers]
        blocks = [block[:, : len(target["labels"])].split(counts) for block, target in zip(cost, targets)]
        return [[check_pairs(self.assign(cost), *cost.shape) for cost in layer] for layer in zip(*blocks)]

    def assign(self, cost: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of one image, predictions (n,) and objects (n,), from its costs (Q, T). Another rule goes here.

        A rule may use a prediction or an object more than once, or not at all. What is no pair at all ends in an error.
        """
        if check_floats("cost", cost).ndim != 2:
            raise ValueError(f"cost must have shape (Q, T), got {tuple(cost.shape)}")
        predictions, objects = scipy.optimize.linear_sum_assignment(cost.numpy())
        return torch.from_numpy(predictions), torch.from_numpy(objects)

    @torch.no_grad()
    def cost(self, outputs: dict[str, Tensor] | Sequence[dict[str, Tensor]], targets: Targets) -> Tensor:
        """The cost (B, Q, T) of every prediction for every object of its image, T the most objects of an image.

        Of several answers to the same images, in a list, Q counts the predictions of all. What stands behind the last
        object of an image means nothing; T is at least 1.
        """
        layers = [outputs] if isinstance(outputs, Mapping) else outputs
        fewest = check_layers(layers)
        check_targets(layers[0], targets, fewest)
        labels = padded([target["labels"].long() for target in targets])[..., None]
        boxes = padded([target["boxes"] for target in targets])
        # Objects before predictions, (B, T, Q): these are many, so the loops over them are long.
        chances = [upcast(layer["pred_logits"]).softmax(-1).mT for layer in layers]
        chances = torch.cat([chance.gather(1, labels.expand(-1, -1, chance.shape[2])) for chance in chances], dim=2)
        predicted = upcast(torch.cat([layer["pred_boxes"] for layer in layers], dim=1))
        check_centred("pred_boxes of outputs", predicted)
        boxes = boxes.to(predicted.dtype)
        distance = torch.cdist(boxes, predicted, p=1)
        overlap = generalized_iou(box_cxcywh_to_xyxy(boxes)[:, :, None], box_cxcywh_to_xyxy(predicted)[:, None])
        return (self.cost_bbox * distance - self.cost_class * chances - self.cost_giou * overlap).mT


def check_pairs(pairs: tuple[Tensor, Tensor], queries: int, objects: int) -> tuple[Tensor, Tensor]:
    """What `assign` gave for one image, as int64; `ValueError` for what are no pairs of a prediction and an object."""
    wanted = "assign must give the indices of predictions and of objects, two tensors (n,) of integers on the CPU"
    if not isinstance(pairs, tuple | list) or len(pairs) != 2:
        raise ValueError(f"{wanted}, got {described(pairs)}")
    for part in pairs:
        if not isinstance(part, Tensor) or part.dtype not in INTEGERS or part.device.type != "cpu":
            raise ValueError(f"{wanted}, got {' and '.join(map(described, pairs))}")
    if pairs[0].ndim != 1 or pairs[0].shape != pairs[1].shape:
        raise ValueError(f"{wanted}, got {' and '.join(map(described, pairs))}")
    query, found = (part.long() for part in pairs)
    for name, part, count in (("predictions", query.numpy(), queries), ("objects", found.numpy(), objects)):
        if part.size and not 0 <= part.min() <= part.max() < count:
            raise ValueError(f"assign must give {name} from 0 to {count - 1}, got {part.min()} to {part.max()}")
    if len(np.unique(query.numpy() * objects + found.numpy())) < len(query):
        raise ValueError(f"assign must give each pair once, got {[*zip(query.tolist(), found.tolist())]!r:.60}")
    return query, found


def padded(parts: list[Tensor]) -> Tensor:
    """Tensors (T, ...) of different T as one (B, T, ...), the longest T but at least 1, with zeros behind each."""
    batch = pad_sequence(parts, batch_first=True)
    return batch if batch.shape[1] else batch.new_zeros(len(parts), 1, *batch.shape[2:])


def check_layers(layers: Sequence[dict[str, Tensor]]) -> int:
    """The fewest predictions of a layer, after checking the layers and that they answer to the same images."""
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        raise ValueError(f"outputs must be a dictionary, and layers a list of outputs, got {described(layers)}")
    shapes = [check_outputs(f"outputs of layers[{i}]", outputs).shape for i, outputs in enumerate(layers)]
    if any(shape[::2] != shapes[0][::2] for shape in shapes):
        raise ValueError(f"layers must have the same images and classes, got pred_logits {[*map(tuple, shapes)]}")
    return min(shape[1] for shape in shapes)


def check_outputs(name: str, outputs: dict[str, Tensor]) -> Tensor:
    """The "pred_logits" (B, Q, classes + 1) of `outputs`, after checking them and the "pred_boxes" (B, Q, 4).

    There must be an image at least.
    """
    if not isinstance(outputs, Mapping) or not {"pred_logits", "pred_boxes"} <= outputs.keys():
        got = [*outputs] if isinstance(outputs, Mapping) else described(outputs)
        raise ValueError(f"{name} must be a dictionary with pred_logits and pred_boxes, got {got}")
    logits = check_floats(f"pred_logits of {name}", outputs["pred_logits"])
    boxes = check_floats(f"pred_boxes of {name}", outputs["pred_boxes"])
    if logits.ndim != 3 or 0 in logits.shape or boxes.shape != (*logits.shape[:2], 4):
        got = f"pred_logits {tuple(logits.shape)} and pred_boxes {tuple(boxes.shape)}"
        raise ValueError(f"{name} must have pred_logits (B, Q, classes + 1) and pred_boxes (B, Q, 4), got {got}")
    return logits


def check_targets(outputs: dict[str, Tensor], targets: Targets, queries: int | None = None) -> None:
    """Raises `ValueError` for targets that do not fit the outputs.

    Boxes must lie in [0, 1] with positive width and height, labels among the classes, everything on one device; no
    image may have more objects than there are `queries`, those of the outputs unless told. Images without objects are
    fine. Labels and boxes are read where that costs no waiting for a device.
    """
    logits = outputs["pred_logits"]
    B, Q, classes = logits.shape
    if not isinstance(targets, Sequence) or len(targets) != B:
        got = len(targets) if isinstance(targets, Sequence) else described(targets)
        raise ValueError(f"targets must be one for each of the {B} images, got {got}")
    for i, target in enumerate(targets):
        count = check_target(f"targets[{i}]", target, logits.device)
        if count > (queries or Q):
            raise ValueError(f"targets[{i}] has {count} objects, more than the {queries or Q} queries")
    if not readable(logits):
        return
    check_integers("labels", torch.cat([target["labels"].long() for target in targets]), 0, classes - 2)
    check_of_objects("boxes", torch.cat([target["boxes"] for target in targets]))


def check_target(name: str, target: dict[str, Tensor], device: torch.device) -> int:
    """T, after checking that `target` has integer labels (T,) and boxes (T, 4) on `device`."""
    if not isinstance(target, Mapping) or not {"labels", "boxes"} <= target.keys():
        got = [*target] if isinstance(target, Mapping) else described(target)
        raise ValueError(f"{name} must be a dictionary with labels and boxes, got {got}")
    labels, boxes = target["labels"], target["boxes"]
    tensors = isinstance(labels, Tensor) and isinstance(boxes, Tensor)
    if not tensors or labels.ndim != 1 or labels.dtype not in INTEGERS or boxes.shape != (len(labels), 4):
        got = f"{described(labels)} and {described(boxes)}"
        raise ValueError(f"{name} must have integer labels (T,) and boxes (T, 4), got {got}")
    if not boxes.is_floating_point():
        raise ValueError(f"{name} must have boxes of floating point, got {boxes.dtype}")
    if labels.device != device or boxes.device != device:
        got = f"{labels.device} and {boxes.device}"
        raise ValueError(f"{name} must be on the device of the outputs, {device}, got {got}")
    return len(labels)
