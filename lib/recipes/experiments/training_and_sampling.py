"""Chapter 2.5: what a network should name that has a minute to learn, the noise, the picture or the velocity."""

import torch
from torch import Tensor, nn

from lib.diffusion import GaussianDiffusion, digit_unet, linear_betas, sample, simple_loss
from lib.recipes.experiments import Experiment
from lib.training import History, default_device, fit, frechet_distance, load_mnist

IMAGES = 4_000


def chain() -> GaussianDiffusion:
    """DDPM's thousand steps."""
    return GaussianDiffusion(linear_betas(1000)).to(default_device())


def draw(model: nn.Module, target: str, count: int = 100, steps: int = 20, seed: int = 5) -> Tensor:
    """Digits (count, 1, 28, 28) in [0, 1], by Algorithm 2 on a shorter chain."""
    noises = torch.Generator().manual_seed(seed)
    options = {"steps": steps, "target": target, "variance": "small", "generator": noises}
    drawn = sample(model, chain(), (count, 1, 28, 28), **options)
    return (drawn.clamp(-1, 1) + 1).cpu() / 2


def train(target: str, seed: int = 0, show: bool = False) -> tuple[nn.Module, History, list[Tensor]]:
    """A network after its digits, how its loss fell, and what it drew from one noise on the way."""
    torch.manual_seed(seed)
    device, process, drawn = default_device(), chain(), []
    model = digit_unet().to(device)
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
        evaluate=lambda net: drawn.append(draw(net, target, count=8, seed=3)),
        every=IMAGES // 4,
        show=show,
    )
    return model, history, drawn


def run(target: str, seed: int) -> dict[str, float]:
    """Fréchet distance of a hundred drawings of one network from the test digits."""
    model, _, _ = train(target, seed)
    return {"distance": frechet_distance(draw(model, target))}


EXPERIMENT = Experiment(run, {"the noise": {"target": "eps"}, "the picture": {"target": "x0"}, "v": {"target": "v"}})
