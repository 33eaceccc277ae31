"""Trains a model of the book from the command line, on one device or on many.

    python -m lib.run vae --latent-dim 16
    accelerate launch --multi_gpu -m lib.run vae --latent-dim 16 --checkpoint vae.safetensors
    torchrun --standalone --nproc_per_node 2 -m lib.run vae --latent-dim 16

A chapter's training cell does the same with the same `fit`. Here no notebook is needed, and Accelerate spreads the
work over the GPUs of one or many machines (second line), or over processes on the CPU (third).
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from accelerate import PartialState
from torch import Tensor, nn

from lib.autoencoders import VAE, Autoencoder
from lib.training import budget, default_device, fit, frechet_distance, load_mnist

SAMPLES = 1000  # digits drawn to measure the Fréchet distance


class Recipe(NamedTuple):
    """How one model of the book is built, trained and judged."""

    build: Callable[[argparse.Namespace], nn.Module]
    loss: Callable[[nn.Module, Tensor], dict[str, Tensor]]
    test: Callable[[nn.Module, Tensor], dict[str, float]]  # test images (N, 1, 28, 28) -> named numbers
    sample: Callable[[nn.Module, int], Tensor]


def build_autoencoder(options: argparse.Namespace) -> Autoencoder:
    """The autoencoder of chapter 1.1."""
    return Autoencoder(options.latent_dim, options.network)


def autoencoder_loss(model: Autoencoder, images: Tensor) -> dict[str, Tensor]:
    """Squared error an image."""
    return model.loss(images)


def autoencoder_test(model: Autoencoder, images: Tensor) -> dict[str, float]:
    """Squared error a pixel."""
    return {"test_error": (model(images) - images).square().mean().item()}


def autoencoder_sample(model: Autoencoder, count: int) -> Tensor:
    """What the decoder makes of random codes."""
    return model.decode(torch.randn(count, model.latent_dim, device=next(model.parameters()).device))


def build_vae(options: argparse.Namespace) -> VAE:
    """The VAE of chapter 1.2."""
    return VAE(options.latent_dim, options.network, beta=options.beta)


def vae_loss(model: VAE, images: Tensor) -> dict[str, Tensor]:
    """Minus the ELBO of images made black and white at random, each pixel as often white as it is grey."""
    return model.loss(torch.bernoulli(images))


def vae_test(model: VAE, images: Tensor) -> dict[str, float]:
    """The ELBO in nats an image."""
    return {"test_elbo": model.elbo(torch.bernoulli(images))["elbo"].mean().item()}


def vae_sample(model: VAE, count: int) -> Tensor:
    """Digits decoded from the prior."""
    return model.sample(count)


RECIPES = {
    "autoencoder": Recipe(build_autoencoder, autoencoder_loss, autoencoder_test, autoencoder_sample),
    "vae": Recipe(build_vae, vae_loss, vae_test, vae_sample),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line as options."""
    parser = argparse.ArgumentParser("python -m lib.run", description=__doc__.splitlines()[0])
    models = parser.add_subparsers(dest="model", required=True)
    for name, recipe in RECIPES.items():
        command = models.add_parser(name, help=recipe.build.__doc__)
        command.add_argument("--latent-dim", type=int, default=16, help="length of the code (default: 16)")
        command.add_argument("--network", choices=("mlp", "conv"), default="mlp")
        command.add_argument("--images", type=int, default=None, help="images to see in all")
        command.add_argument("--batch-size", type=int, default=128, help="over all processes (default: 128)")
        command.add_argument("--lr", type=float, default=2e-3, help="highest learning rate (default: 0.002)")
        command.add_argument("--precision", choices=("auto", "no", "bf16"), default="auto")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--checkpoint", help="safetensors file to write, and to go on from if it exists")
    models.choices["vae"].add_argument("--beta", type=float, default=1.0, help="weight of the KL term")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Trains the model that the command line names, and prints what came of it on the first process."""
    options = parse(arguments)
    recipe = RECIPES[options.model]
    torch.manual_seed(options.seed)
    model = recipe.build(options)
    images, test = load_mnist("train").images, load_mnist("test", default_device()).images
    started = time.monotonic()
    history = fit(
        model,
        recipe.loss,
        images,
        images=budget(cpu=300_000, gpu=3_000_000) if options.images is None else options.images,
        batch_size=options.batch_size,
        lr=options.lr,
        ema=0.999,
        precision=options.precision,
        seed=options.seed,
        evaluate=lambda model: recipe.test(model, test),
        checkpoint=options.checkpoint,
    )
    process = PartialState()  # as `fit` has set it up
    if process.is_main_process:
        torch.manual_seed(options.seed)
        with torch.no_grad():
            distance = frechet_distance(recipe.sample(model, SAMPLES))
        last = history.records[-1]
        seen = f"{last['images']:,} images on {process.num_processes} × {process.device.type}"
        print(f"{options.model}: {seen}, {time.monotonic() - started:.1f} s")
        for name in list(last)[3:]:  # after step, images and lr
            print(f"  {name}: {history[name][0]:.4g} -> {last[name]:.4g}")
        print(f"  Fréchet distance of {SAMPLES:,} samples: {distance:.3g}")
    process.wait_for_everyone()
    process.destroy_process_group()


if __name__ == "__main__":
    main()
