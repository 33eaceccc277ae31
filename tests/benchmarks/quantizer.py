"""The quantiser against that of vector-quantize-pytorch: forward, backward and update of the averages.

`python -m tests.benchmarks.quantizer` takes both on the same codes and vectors, in turns, and prints the medians and
their ratio. All times are of the processor, on one thread.
"""

import argparse

import torch
from torch import Tensor

from tests.benchmarks.timing import report
from tests.peers.quantizers import same_quantizers

SIZES = ((64, 49, 256, 16), (16, 1024, 512, 64))  # images, places, codes, length of a code: MNIST's and the release's


def step(quantizer, z: Tensor):
    """A function that quantises once and goes backward through codes and loss."""

    def run() -> None:
        z.grad = None
        found = quantizer(z)
        quantised, loss = (found.z_q, found.commitment_loss) if hasattr(found, "z_q") else found[::2]
        (quantised.sum() + loss.sum()).backward()

    return run


def main() -> None:
    """Prints a line for each size."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.quantizer", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, help="turns of each (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for images, places, codes, dim in SIZES:
        ours, theirs = same_quantizers(codes, dim)
        z = torch.randn(images, places, dim, requires_grad=True)
        ways = {"ours": step(ours, z), "vector-quantize-pytorch": step(theirs, z)}
        report(f"{images} × {places} vectors of {dim}, {codes} codes", ways, options.rounds)


if __name__ == "__main__":
    main()
