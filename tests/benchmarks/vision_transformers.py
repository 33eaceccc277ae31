"""ViT, MAE and Swin against those of transformers: the time of a training step and of a forward pass.

`python -m tests.benchmarks.vision_transformers` measures both on the same architecture, weights, images and precision,
in turns, and prints the medians and their ratio. All times are of the processor, on one thread.
"""

import argparse
from functools import partial

import torch
from torch import Tensor, nn

from lib.training import load_photograph
from tests.benchmarks.timing import report
from tests.peers.unets import count, same_random_weights
from tests.peers.vision import OURS, SMALL, TransformersModel

BATCH = 8


def training_step(model: nn.Module, x: Tensor):
    """A function that goes forward and backward once."""

    def step() -> None:
        model.zero_grad()
        out = model(x)
        (out[0] if isinstance(out, tuple) else out.square().mean()).backward()

    return step


def main() -> None:
    """Prints a line for each kind of model."""
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks.vision_transformers", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=20, help="turns of each (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.stack([load_photograph("astronaut", 112), load_photograph("coffee", 112)]).repeat(BATCH // 2, 1, 1, 1)
    for kind, sizes in SMALL.items():
        models = {"ours": OURS[kind](**sizes), "transformers": TransformersModel(kind, **sizes)}
        same_random_weights(*models.values())
        steps = {name: training_step(model.train(), x) for name, model in models.items()}
        report(
            f"{kind}, {count(models['ours']):,} parameters, {BATCH} images, forward and backward", steps, options.rounds
        )
        with torch.no_grad():
            report("  forward alone", {name: partial(model, x) for name, model in models.items()}, options.rounds)


if __name__ == "__main__":
    main()
