"""DETR against that of transformers: the time of a training step, and the share of the matching and the losses in ours.

`python -m tests.benchmarks.detection` takes both on the same architecture, weights, images and targets, in turns, and
prints the medians and their ratio. All times are of the processor, on one thread.
"""

import argparse

import torch
from torch import Tensor, nn

from lib.detection import SetCriterion, TwoStageDETR
from lib.detection.digits import digit_detr
from lib.training.scenes import digit_scenes
from tests.benchmarks.timing import interleaved, report
from tests.peers.detection import SMALL, TransformersDETR, ours
from tests.peers.unets import count, same_random_weights

BATCH, CLASSES, QUERIES = 8, 10, 20


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
