"""Chapter 2.5: what a network should name that has a minute to learn, the noise or the picture."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib.diffusion import GaussianDiffusion, digit_unet, linear_betas, sample, simple_loss
from lib.recipes.experiments import Experiment
from lib.training import History, default_device, fit, frechet_distance, load_mnist

IMAGES = 3_600


def draw(model: nn.Module, target: str = "eps", count: int = 100, seed: int = 5, **options) -> Tensor:
    """Digits (count, 1, 28, 28) in [0, 1] by Algorithm 2, in 20 steps of a chain of a thousand.

    `options` are those of `lib.diffusion.sample`, in place of 20 steps and the small variance.
    """
    process, noises = GaussianDiffusion(linear_betas(1000)).to(default_device()), torch.Generator().manual_seed(seed)
    how = {"steps": 20, "variance": "small", **options}
    drawn = sample(model, process, (count, 1, 28, 28), generator=noises, target=target, **how)
    return (drawn.clamp(-1, 1) + 1).cpu() / 2


def train(target: str, seed: int = 0, look: Callable | None = None, show: bool = False) -> tuple[nn.Module, History]:
    """A network after its digits, and how its loss fell; `look` sees it after every quarter."""
    torch.manual_seed(seed)
    device = default_device()
    model, process = digit_unet().to(device), GaussianDiffusion(linear_betas(1000)).to(device)
    history = fit(
        model,
        lambda net, x: simple_loss(net, process, x, target=target).mean(),
        2 * load_mnist("train", device).images - 1,
        images=IMAGES,
        batch_size=8,
        lr=2e-3,
        ema=0.99,
        precision="no",
        seed=seed,
        evaluate=look,
        every=IMAGES // 4,
        show=show,
    )
    return model, history


def run(target: str, seed: int) -> dict[str, float]:
    """Fréchet distance of a hundred drawings of one network from the test digits."""
    model, _ = train(target, seed)
    return {"distance": frechet_distance(draw(model, target))}


EXPERIMENT = Experiment(
    run, {"names the noise": {"target": "eps"}, "names the picture": {"target": "x0"}}, seeds=(1, 2, 3)
)  # the chapter's own run has seed 4
