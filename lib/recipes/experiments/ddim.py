"""Chapter 2.8: how few steps are enough, with fresh noise and without, for one network and three sets of starts."""

import torch
from torch import Tensor, nn

from lib.diffusion import GaussianDiffusion, ddim, digit_unet, linear_betas
from lib.recipes.experiments import Experiment
from lib.training import default_device, frechet_distance, pretrained

STEPS = (5, 10, 20, 50)


def shipped_network() -> nn.Module:
    """The digits' network of DDPM, as it ships."""
    model = digit_unet().to(default_device())
    pretrained.load("ddpm", model)
    return model


def normal(*shape: int, seed: int) -> Tensor:
    """Numbers of N(0, 1), the same on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(default_device())


def drawn_by(model: nn.Module, start: Tensor, steps: int, eta: float = 0.0, clip: bool = True) -> Tensor:
    """Images in [-1, 1], shaped as `start`, from these noises in so many steps."""
    process, noises = GaussianDiffusion(linear_betas(1000)).to(default_device()), torch.Generator().manual_seed(1)
    return ddim.sample(
        model, process, start.shape, steps, eta, start=start, clip=clip, spacing="trailing", generator=noises
    )


def pixels(x: Tensor) -> Tensor:
    """Images in [0, 1], on the CPU."""
    return (x.clamp(-1, 1) + 1).cpu() / 2


def run(steps: int, eta: float, seed: int) -> dict[str, float]:
    """Fréchet distance of 66 drawings from the test digits."""
    start = normal(66, 1, 28, 28, seed=seed)
    return {"distance": frechet_distance(pixels(drawn_by(shipped_network(), start, steps, eta)))}


EXPERIMENT = Experiment(
    run,
    {f"η = {eta}, {steps} steps": {"steps": steps, "eta": float(eta)} for steps in STEPS for eta in (0, 1)},
    seeds=(1, 2, 3),  # the chapter's own starts are those of seed 0
)
