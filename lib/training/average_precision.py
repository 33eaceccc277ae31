"""How well objects are found: COCO's average precision, by the COCO authors' own program.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014 (arXiv:1405.0312). pycocotools computes it.
"""

import contextlib
import io
from collections.abc import Sequence

import torch
from torch import Tensor

from lib.checks import check_count, check_finite, check_floats, check_integers, described, is_number
from lib.detection.boxes import check_corners, check_of_objects

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


def average_precision(
    found: Sequence[dict[str, Tensor]],
    targets: Sequence[dict[str, Tensor]],
    size: int,
    areas: tuple[float, float] = (20.0**2, 28.0**2),
) -> dict[str, float]:
    """Average precision over all classes, from 0 to 1: its mean over IoUs .50 to .95, at .50, at .75, and by size.

    A measure of a size without objects is nan.

    Args:
        found: for each image "scores" (n,), "labels" (n,) and "boxes" (n, 4), corners in pixels, as `postprocess` gives
            them. At most the 100 best of an image count.
        targets: for each image "labels" (T,) and "boxes" (T, 4), centre, width and height in units of the image.
        size: side of the images in pixels.
        areas: where small ends and where large begins, in pixels; COCO's own are 32² and 96².

    Raises:
        ValueError: where the images are not as many, or hold no object at all; for labels that are no integers, for
            boxes and scores of other shapes or that are no numbers, for corners that are crossed, and targets that do
            not lie in [0, 1] or have no size.
    """
    check_count(size=size)
    if (
        not isinstance(areas, tuple | list)
        or len(areas) != 2
        or not all(map(is_number, areas))
        or not 0 < areas[0] <= areas[1]
    ):
        raise ValueError(f"areas must be two numbers with 0 < the first <= the second, got {described(areas)}")
    for name, images in {"found": found, "targets": targets}.items():
        if not isinstance(images, tuple | list):
            raise ValueError(f"{name} must be a list with a dict for each image, got {described(images)}")
    if len(found) != len(targets):
        raise ValueError(f"found must be one for each of the {len(targets)} images, got {len(found)}")
    found = [_checked(f"found[{image}]", entry, ("labels", "scores", "boxes")) for image, entry in enumerate(found)]
    targets = [_checked(f"targets[{image}]", entry, ("labels", "boxes")) for image, entry in enumerate(targets)]
    for image, (answer, target) in enumerate(zip(found, targets)):
        check_corners(f"found[{image}] boxes", answer["boxes"])
        check_of_objects(f"targets[{image}] boxes", target["boxes"])
    if not sum(len(target["labels"]) for target in targets):
        raise ValueError("targets must hold at least one object, got none")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth: list[dict] = []
    answers: list[dict] = []
    for image, (answer, target) in enumerate(zip(found, targets)):
        boxes = target["boxes"].double() * size
        for label, (cx, cy, w, h) in zip(target["labels"].tolist(), boxes.tolist()):
            truth.append(
                {"id": len(truth) + 1, "image_id": image, "category_id": label, "bbox": [cx - w / 2, cy - h / 2, w, h]}
                | {"area": w * h, "iscrowd": 0}
            )
        corners, scores = answer["boxes"].double(), answer["scores"].tolist()
        for label, score, (x0, y0, x1, y1) in zip(answer["labels"].tolist(), scores, corners.tolist()):
            answers.append(
                {"image_id": image, "category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            )
    with contextlib.redirect_stdout(io.StringIO()):  # it reports every step
        coco = COCO()
        labels = sorted({entry["category_id"] for entry in truth})
        coco.dataset = {
            "images": [{"id": image} for image in range(len(targets))],
            "annotations": truth,
            "categories": [{"id": label} for label in labels],
        }
        coco.createIndex()
        answers = [answer for answer in answers if answer["category_id"] in labels]
        if not answers:
            return dict.fromkeys(NAMES, 0.0)
        judge = COCOeval(coco, coco.loadRes(answers), "bbox")
        judge.params.areaRng = [[0, 1e10], [0, areas[0]], [areas[0], areas[1]], [areas[1], 1e10]]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    values = torch.tensor(judge.stats[: len(NAMES)])
    return dict(zip(NAMES, torch.where(values < 0, torch.nan, values).tolist()))


def _checked(name: str, entry: object, keys: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of these names, on the CPU, the labels as int64; else `ValueError`."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), Tensor) for key in keys):
        raise ValueError(f"{name} must be a dict with the tensors {', '.join(keys)}, got {described(entry)}")
    tensors = {key: entry[key].cpu() for key in keys}
    tensors["labels"] = labels = check_integers(f"{name} labels", tensors["labels"], 0)
    for key in keys[1:]:
        check_floats(f"{name} {key}", tensors[key])
        check_finite(f"{name} {key}", tensors[key])
        wanted = (labels.numel(), 4) if key == "boxes" else (labels.numel(),)
        if labels.dim() != 1 or tuple(tensors[key].shape) != wanted:
            got = f"{tuple(tensors[key].shape)} and labels {tuple(labels.shape)}"
            raise ValueError(
                f"{name} must hold labels (n,) and {key} {'(n, 4)' if key == 'boxes' else '(n,)'}, got {got}"
            )
    return tensors
