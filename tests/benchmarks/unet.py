"""Our U-Net against the one of diffusers: the time of a training step, and what is learned in equal time.

`python -m tests.benchmarks.unet` measures a training step of both on the same architecture, weights, batch and
precision, in turns, and prints the medians and their ratio. With `--seconds 40` it also trains the book's small network
and diffusers' blocks, at equal parameter count and in turns, on MNIST for so many seconds each, and prints their errors
on held-out images and the Fréchet distance of what they draw. All times are of the processor, on one thread: other
programs disturb them little.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lib.diffusion import GaussianDiffusion, UNet, digit_unet, linear_betas, sample, simple_loss
from lib.training import EMA, frechet_distance, load_mnist
from tests.benchmarks.timing import report
from tests.peers.unets import DiffusersUNet, count, same_random_weights

PROCESS = GaussianDiffusion(linear_betas(1000))
# Channels in and out, ch, ch_mult, num_res_blocks, attn_resolutions, dropout, resolution, patch.
DIGITS = (1, 1, 32, (1, 2), 1, (), 0.0, 28, 2)  # the shape of `digit_unet`
BATCH = 32  # of the timed steps


def trainer(model: nn.Module, lr: float) -> Callable[[Tensor], float]:
    """A function that trains on a batch and returns the seconds that it took."""
    optimiser = torch.optim.AdamW(model.parameters(), lr)

    def step(x0: Tensor) -> float:
        start = time.process_time()
        optimiser.zero_grad()
        simple_loss(model, PROCESS, x0).mean().backward()
        optimiser.step()
        return time.process_time() - start

    return step


def compare_steps(shape: tuple, rounds: int, layout: torch.memory_format) -> None:
    """Prints the median time of a training step of both, taken in turns."""
    torch.manual_seed(0)
    models = {"ours": UNet(*shape), "diffusers": DiffusersUNet(*shape)}
    same_random_weights(*models.values())
    steps = {name: trainer(model.to(memory_format=layout).train(), 1e-4) for name, model in models.items()}
    x0 = torch.rand(BATCH, shape[0], shape[7], shape[7]) * 2 - 1
    what = f"train step, {BATCH} images, {count(models['ours']):,} parameters each, {str(layout).split('.')[-1]}"
    report(what, {name: partial(step, x0) for name, step in steps.items()}, rounds)


@torch.no_grad()
def held_out(model: nn.Module, x0: Tensor) -> float:
    """The simple loss of images never trained on, at times and with noise that are always the same."""
    generator = torch.Generator().manual_seed(0)
    t = torch.randint(PROCESS.T, (len(x0),), generator=generator)
    noise = torch.randn(x0.shape, generator=generator)
    parts = zip(x0.split(250), t.split(250), noise.split(250))
    return torch.cat([simple_loss(model.eval(), PROCESS, x, at, z) for x, at, z in parts]).mean().item()


@torch.no_grad()
def drawn(model: nn.Module) -> float:
    """The Fréchet distance of 500 digits, drawn in 20 steps from noise that is always the same."""
    generator = torch.Generator().manual_seed(0)
    digits = sample(model.eval(), PROCESS, (500, 1, 28, 28), steps=20, generator=generator)
    return frechet_distance((digits.clamp(-1, 1) + 1) / 2)


def compare_learning(seconds: float, lr: float, batch_size: int, seed: int, looks: int = 3) -> None:
    """Prints what the averaged weights of each network are worth after equal times of training."""
    images, test = load_mnist("train").images * 2 - 1, load_mnist("test").images[:1000] * 2 - 1
    models = {}
    for name, make in {
        "ours": digit_unet,
        "diffusers on patches": lambda: DiffusersUNet(*DIGITS),
        "diffusers on pixels": lambda: DiffusersUNet(*DIGITS[:-1]),
    }.items():
        torch.manual_seed(seed)
        models[name] = make().to(memory_format=torch.channels_last)
    steps = {name: trainer(model, lr) for name, model in models.items()}
    averages = {name: EMA(model, 0.99) for name, model in models.items()}
    order = {name: torch.Generator().manual_seed(seed) for name in models}
    spent, seen = dict.fromkeys(models, 0.0), dict.fromkeys(models, 0)
    found = {name: [] for name in models}
    for look in range(1, looks + 1):
        for name, model in models.items():
            model.train()
            while spent[name] < seconds * look / looks:
                batch = images[torch.randint(len(images), (batch_size,), generator=order[name])]
                spent[name] += steps[name](batch)
                averages[name].update()
                seen[name] += batch_size
            with averages[name].applied():
                found[name].append((held_out(model, test), drawn(model)))
    print(f"held-out loss and Fréchet distance after equal times, {seconds:g} s in all, batches of {batch_size}:")
    for name, pairs in found.items():
        print(f"  {name}: {count(models[name]):,} parameters, {seen[name]:,} images")
        print("    ", *(f"{loss:.4f} / {distance:.1f}" for loss, distance in pairs), sep="  ")
    ours, *others = found
    for name in others:
        for i, what in enumerate(("loss", "Fréchet distance")):
            reached = next((n for n, pair in enumerate(found[ours], 1) if pair[i] <= found[name][-1][i]), None)
            when = f"after {reached / looks:.0%} of the time" if reached else "not in this time"
            print(f"  {what}: ours is as good as {name} at its end {when}", flush=True)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.unet", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="training steps of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0, help="training time of each network (default: none)")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate of all (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="images of a learning step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.rounds:
        for layout in (torch.contiguous_format, torch.channels_last):
            compare_steps(DIGITS, options.rounds, layout)
    if options.seconds:
        compare_learning(options.seconds, options.lr, options.batch_size, options.seed)


if __name__ == "__main__":
    main()
