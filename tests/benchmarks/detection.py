"""DETR against that of transformers: the time of a training step, and the share of the matching and the losses in ours.

`python -m tests.benchmarks.detection` takes both on the same architecture, weights, images and targets, in turns, and
prints the medians and their ratio. The matching is also compared with one written out for images of one number of
objects, and matching and losses with theirs. All times are of the processor, on one thread.
"""

import argparse

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from lib.detection import HungarianMatcher, SetCriterion, TwoStageDETR, box_cxcywh_to_xyxy
from lib.detection.digits import digit_detr
from lib.training.scenes import digit_scenes
from tests.benchmarks.timing import interleaved, report
from tests.peers.detection import SMALL, TransformersDETR, ours
from tests.peers.unets import count, same_random_weights

BATCH, CLASSES, QUERIES = 8, 10, 20
LAYERS, OBJECTS, COCO = 6, 8, 91  # of a batch for the matching alone, each layer with DETR's 100 queries


def our_step(model: nn.Module, images: Tensor, targets: list[dict[str, Tensor]]):
    """A function that answers, matches and goes backward once."""
    criterion = SetCriterion(CLASSES)

    def step() -> None:
        model.zero_grad()
        criterion.total(criterion(model(images), targets)).backward()

    return step


def their_step(model: TransformersDETR, images: Tensor, targets: list[dict[str, Tensor]]):
    """The same for theirs, with the losses of every layer, as ours has them."""
    labels = [{"class_labels": target["labels"], "boxes": target["boxes"]} for target in targets]

    def step() -> None:
        model.zero_grad()
        model.net(images, labels=labels).loss.backward()

    return step


def losses_alone(model: nn.Module, images: Tensor, targets: list[dict[str, Tensor]]):
    """A function that only matches, and goes backward to the answers."""
    criterion = SetCriterion(CLASSES)
    with torch.no_grad():
        outputs = leaves(model(images))

    def step() -> None:
        criterion.total(criterion(outputs, targets)).backward()

    return step


def random_batch(images: int) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Answers of all layers, which take a gradient, and targets."""
    draw = torch.Generator().manual_seed(images)

    def boxes(*shape: int) -> Tensor:
        return 0.2 + 0.5 * torch.rand(*shape, 4, generator=draw)

    logits = [torch.randn(images, 100, COCO + 1, generator=draw) for _ in range(LAYERS)]
    layers = [{"pred_logits": leaves(x), "pred_boxes": leaves(boxes(images, 100))} for x in logits]
    labels = torch.randint(COCO, (images, OBJECTS), generator=draw)
    return layers, [{"labels": label, "boxes": boxes(OBJECTS)} for label in labels]


@torch.no_grad()
def written_out(layers: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> list:
    """Matches of layers of one number of queries and images of one number of objects, without any checks."""
    labels, boxes = (torch.stack([target[key] for target in targets]) for key in ("labels", "boxes"))
    logits, predicted = (torch.cat([layer[key] for layer in layers], 1) for key in ("pred_logits", "pred_boxes"))
    chance = logits.softmax(-1).gather(2, labels[:, None].expand(-1, logits.shape[1], -1))
    a, b = box_cxcywh_to_xyxy(predicted)[:, :, None], box_cxcywh_to_xyxy(boxes)[:, None]
    inside, around = (
        high(a[..., 2:], b[..., 2:]) - low(a[..., :2], b[..., :2])
        for low, high in ((torch.maximum, torch.minimum), (torch.minimum, torch.maximum))
    )
    sizes = inside.clamp(min=0), around, a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    overlap, around, area_a, area_b = (size[..., 0] * size[..., 1] for size in sizes)
    union = area_a + area_b - overlap
    cost = 5 * torch.cdist(predicted, boxes, p=1) - chance - 2 * (overlap / union + union / around - 1)
    cost = cost.unflatten(1, (len(layers), -1)).numpy()
    return [[linear_sum_assignment(image[i]) for image in cost] for i in range(len(layers))]


def their_losses(layers: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]):
    """A function that matches as transformers does and goes backward to the answers."""
    from transformers import DetrConfig
    from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

    config = DetrConfig(num_labels=COCO, auxiliary_loss=True)
    labels = [{"class_labels": target["labels"], "boxes": target["boxes"]} for target in targets]

    def step() -> None:
        logits, boxes = (torch.stack([layer[key] for layer in layers]) for key in ("pred_logits", "pred_boxes"))
        ForObjectDetectionLoss(logits[-1], labels, "cpu", boxes[-1], config, logits, boxes)[0].backward()

    return step


def our_losses(layers: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]):
    """The same as ours does."""
    criterion, outputs = SetCriterion(COCO), {**layers[-1], "aux_outputs": layers[:-1]}
    return lambda: criterion.total(criterion(outputs, targets)).backward()


def leaves(outputs):
    """Answers cut off from the network that gave them, so that a gradient ends there."""
    if isinstance(outputs, Tensor):
        return outputs.clone().requires_grad_()
    if isinstance(outputs, dict):
        return {name: leaves(value) for name, value in outputs.items()}
    return [leaves(value) for value in outputs]


def main() -> None:
    """Prints a line for each comparison."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.detection", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="turns of each (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    matcher = HungarianMatcher()
    for images in (8, 32, 128):
        given = random_batch(images)
        ways = {"ours": lambda given=given: matcher.of_layers(*given), "written out": lambda g=given: written_out(*g)}
        report(f"matching, {images} images", ways, options.rounds)
    for images in (8, 32):
        given = random_batch(images)
        ways = {"ours": our_losses(*given), "transformers": their_losses(*given)}
        report(f"matching and losses, {images} images", ways, min(options.rounds, 5))
    scenes = digit_scenes(BATCH, size=128, sides=(32.0, 64.0))
    images, targets = scenes.images.expand(-1, 3, -1, -1), scenes.targets()
    models = ours(CLASSES, QUERIES, **SMALL), TransformersDETR(CLASSES, QUERIES, **SMALL, auxiliary_loss=True)
    same_random_weights(*models)
    for model in models:
        model.requires_grad_(True)  # theirs comes with a frozen backbone
    steps = {
        "ours": our_step(models[0].train(), images, targets),
        "transformers": their_step(models[1].train(), images, targets),
    }
    report(f"training step, {count(models[0]):,} parameters, {BATCH} images", steps, options.rounds)
    scenes = digit_scenes(16)
    for kind, model in (("plain", digit_detr()), ("two stages", digit_detr(TwoStageDETR))):
        given = model.train(), scenes.images, scenes.targets()
        times = interleaved({"step": our_step(*given), "losses": losses_alone(*given)}, options.rounds)
        print(
            f"digit_detr, {kind}, 16 scenes: step {times['step']:.1f} ms, of it matching and losses "
            f"{times['losses']:.1f} ms, {times['losses'] / times['step']:.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
