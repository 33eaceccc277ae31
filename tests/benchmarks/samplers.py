"""The samplers' own arithmetic against that of diffusers: whole walks with a model that answers at no cost.

`python -m tests.benchmarks.samplers` takes both in turns and prints the medians and their ratio. All times are of the
processor, on one thread.
"""

import argparse
from functools import partial

import torch
from torch import Tensor

from lib.diffusion import GaussianDiffusion, ddpm, linear_betas
from lib.diffusion.ddim import sample
from tests.benchmarks.timing import report

SHAPE, STEPS = (64, 1, 28, 28), 50
PROCESS = GaussianDiffusion(linear_betas(1000))


def silent(x: Tensor, t: Tensor) -> Tensor:
    """The model: what comes in goes out."""
    return x


def ours(eta: float | None) -> None:
    """DDIM's walk with this `eta`, DDPM's where None."""
    if eta is None:
        ddpm.sample(silent, PROCESS, SHAPE, steps=STEPS, variance="small")
    else:
        sample(silent, PROCESS, SHAPE, STEPS, eta)


def theirs(scheduler, **options) -> None:
    """The same with diffusers' loop."""
    x = torch.randn(SHAPE)
    for t in scheduler.timesteps:
        x = scheduler.step(silent(x, t), t, x, **options).prev_sample


def main() -> None:
    """Prints a line for each sampler."""
    from diffusers import DDIMScheduler, DDPMScheduler

    parser = argparse.ArgumentParser("python -m tests.benchmarks.samplers", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="turns of each (default: %(default)s)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for name, eta in (("DDIM, eta 0", 0.0), ("DDIM, eta 1", 1.0), ("DDPM", None)):
        scheduler = (DDPMScheduler if eta is None else DDIMScheduler)(1000)
        scheduler.set_timesteps(STEPS)
        options = {} if eta is None else {"eta": eta, "use_clipped_model_output": True}
        ways = {"ours": partial(ours, eta), "diffusers": partial(theirs, scheduler, **options)}
        report(f"{name}, {STEPS} steps of {SHAPE[0]} images", ways, rounds)


if __name__ == "__main__":
    main()
