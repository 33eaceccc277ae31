"""Trains a model of the book from the command line, on one device or on many.

    python -m lib.run vae --latent-dim 16
    python -m lib.run experiment hierarchy --jobs 2
    accelerate launch --multi_gpu -m lib.run vae --latent-dim 16 --checkpoint vae.safetensors
    torchrun --standalone --nproc_per_node 2 -m lib.run vae --latent-dim 16

The same command goes on from its checkpoint, and `lib.training.load_weights(file, model)` loads it. `--publish` stores
the weights in the package, with how they were made; `lib.training.pretrained` loads them.

A chapter's training cell does the same with the same `fit`. Here no notebook is needed, and Accelerate spreads the
work over the GPUs of one or many machines (third line), or over processes on the CPU (fourth). The second line runs a
comparison of a chapter, all arms and all seeds, and keeps its numbers (`lib.recipes.experiments`).
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from accelerate import PartialState
from torch import Tensor, nn

from lib.recipes import autoencoders, detection, vision_transformers
from lib.recipes import diffusion as denoising
from lib.recipes.diffusion import diffusion as diffusion  # the noise in which they are trained
from lib.training import (
    CheckpointError,
    budget,
    default_device,
    digit_statistics,
    fit,
    frechet_distance,
    load_mnist,
    pretrained,
)
from lib.training.checkpoint import course, read_metadata

SAMPLES = 1000  # digits drawn to measure the Fréchet distance
# What `fit` is told itself, or what does not change the weights. All other options are part of a checkpoint's identity.
FIT_OPTIONS = ("images", "batch_size", "lr", "precision", "seed", "checkpoint", "may_differ", "publish", "overwrite")


class Recipe(NamedTuple):
    """How one model of the book is built, trained and judged."""

    build: Callable[..., nn.Module]  # takes the options of the command line that are the model's own
    # The first argument of the others is the model that `build` gives.
    loss: Callable[..., dict[str, Tensor]]  # of images (B, 1, 28, 28) and labels (B,)
    test: Callable[..., dict[str, float]]  # test images and labels -> named numbers
    sample: Callable[..., Tensor] | None = None  # for models that draw: so many digits
    cpu_images: int = 300_000  # seen where the command line does not say; ten times as many on a GPU
    batch_size: int = 128
    lr: float = 2e-3
    clip: float | None = None
    prepare: Callable[[Tensor], Tensor] | None = None  # what training sees in place of the images
    finish: Callable[..., None] | None = None  # what is left to do with a trained model and its images
    build_too: tuple[str, ...] = ()  # options of `fit` that `build` is told as well, since it trains a part


RECIPES = {
    "autoencoder": Recipe(
        autoencoders.build_autoencoder,
        autoencoders.autoencoder_loss,
        autoencoders.autoencoder_test,
        autoencoders.autoencoder_sample,
    ),
    "vae": Recipe(autoencoders.build_vae, autoencoders.vae_loss, autoencoders.vae_test, autoencoders.vae_sample),
    "vqvae": Recipe(autoencoders.build_vqvae, autoencoders.vq_loss, autoencoders.vq_test, batch_size=32),
    "vqvae2": Recipe(autoencoders.build_vqvae2, autoencoders.vq_loss, autoencoders.vq_test, batch_size=32),
    "ddpm": Recipe(
        denoising.build_ddpm,
        denoising.ddpm_loss,
        denoising.ddpm_test,
        denoising.ddpm_sample,
        cpu_images=400_000,
        batch_size=32,
    ),
    "conditional": Recipe(
        denoising.build_conditional,
        denoising.conditional_loss,
        denoising.conditional_test,
        denoising.conditional_sample,
        cpu_images=400_000,
        batch_size=32,
        lr=2.5e-3,
    ),
    "first_stage": Recipe(
        denoising.build_first_stage,
        denoising.first_stage_loss,
        denoising.first_stage_test,
        cpu_images=120_000,
        batch_size=32,
        clip=1.0,
        finish=denoising.first_stage_finish,
    ),
    "latent": Recipe(
        denoising.build_latent,
        denoising.latent_loss,
        denoising.latent_test,
        denoising.latent_sample,
        cpu_images=400_000,
        batch_size=32,
        prepare=denoising.latent_codes,
    ),
    "detr": Recipe(
        detection.build_detr,
        detection.detr_loss,
        detection.detr_test,
        cpu_images=100_000,
        batch_size=16,
        lr=1e-3,
        clip=0.1,
        build_too=("precision", "seed"),
    ),
    "vit": Recipe(
        vision_transformers.build_vit,
        vision_transformers.classifier_loss,
        vision_transformers.classifier_test,
        batch_size=64,
    ),
    "mae": Recipe(
        vision_transformers.build_mae,
        vision_transformers.mae_loss,
        vision_transformers.mae_test,
        cpu_images=500_000,
        batch_size=32,
    ),
    "swin": Recipe(
        vision_transformers.build_swin,
        vision_transformers.classifier_loss,
        vision_transformers.classifier_test,
        batch_size=64,
    ),
}


def parser() -> argparse.ArgumentParser:
    """The command line: a command for each model, with its own sizes and rates as defaults."""
    parser = argparse.ArgumentParser("python -m lib.run", description=__doc__.splitlines()[0])
    models = parser.add_subparsers(dest="model", required=True, help="the model; MODEL --help lists its options")
    for name, recipe in RECIPES.items():
        command = models.add_parser(name, help=recipe.build.__doc__, description=recipe.build.__doc__)
        seen = f"{recipe.cpu_images:,}, on a GPU {10 * recipe.cpu_images:,}"
        command.add_argument("--images", type=int, default=None, help=f"images to see in all (default: {seen})")
        command.add_argument(
            "--batch-size", type=int, default=recipe.batch_size, help="over all processes (default: %(default)s)"
        )
        command.add_argument("--lr", type=float, default=recipe.lr, help="highest learning rate (default: %(default)s)")
        command.add_argument(
            "--precision",
            choices=("auto", "no", "bf16"),
            default="auto",
            help="no: float32; bf16: bfloat16 where that is enough; auto: bf16 where it is quicker (default: auto)",
        )
        command.add_argument(
            "--seed", type=int, default=0, help="of the start, the order and all noise (default: %(default)s)"
        )
        command.add_argument("--checkpoint", help="safetensors file to write, and to go on from if it exists")
        command.add_argument(
            "--may-differ",
            choices=("device", "precision"),
            action="append",
            default=[],
            help="go on from a checkpoint made on another device, or in another precision",
        )
        command.add_argument("--publish", action="store_true", help="store the weights among those that ship")
        command.add_argument("--overwrite", action="store_true", help="with --publish: in place of those there are")
    command = models.add_parser("experiment", help="a comparison of a chapter: run all of it and keep the numbers")
    command.add_argument("name", help="a module of lib.recipes.experiments")
    command.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each (default: %(default)s)")
    for name in ("autoencoder", "vae"):
        command = models.choices[name]
        command.add_argument("--latent-dim", type=int, default=16, help="length of the code (default: %(default)s)")
        command.add_argument(
            "--network", choices=("mlp", "conv"), default="mlp", help="linear layers or convolutions (default: mlp)"
        )
    for name in ("vqvae", "vqvae2"):
        models.choices[name].add_argument(
            "--codes", type=int, default=256, help="size of the vocabulary (default: %(default)s)"
        )
    detr = models.choices["detr"]
    detr.add_argument("--two-stage", action="store_true", help="the encoder's proposals as queries")
    detr.add_argument(
        "--pretrain",
        type=int,
        default=10_000,
        help="digits that the backbone learns to name before (default: %(default)s)",
    )
    detr.add_argument("--queries", type=int, default=10, help="objects it can find (default: %(default)s)")
    models.choices["vae"].add_argument(
        "--beta", type=float, default=1.0, help="weight of the KL term (default: %(default)s)"
    )
    return parser


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line as options. Ends the command where weights that ship would be lost without a word."""
    command = parser()
    options = command.parse_args(arguments)
    if options.model == "experiment":
        return options
    file = pretrained.FOLDER / f"{options.model}.safetensors"
    if options.publish and not options.overwrite and file.exists():
        images = read_metadata(file)[0].get("images", "an unknown number of")
        command.error(f"--publish: {file} is there, made from {images} images; --overwrite replaces it")
    return options


def announce(checkpoint: str | None, images: int) -> None:
    """Says what a training of so many images goes on from, if it does.

    Raises CheckpointError where the training in the file has another end than this one.
    """
    if checkpoint is None or not os.path.exists(checkpoint):
        return
    training = course(checkpoint, *read_metadata(checkpoint))
    if images != (before := training.settings["images"]):
        raise CheckpointError(
            f"{checkpoint} is of a training of {before:,} images and cannot go on to {images:,}: the learning rate "
            "falls to zero over all its images, so that more or fewer are another training from the first step on. "
            f"Give --images {before}, or another --checkpoint"
        )
    if PartialState().is_main_process:
        print(f"goes on from {checkpoint}: {training.progress}", flush=True)


def how_to_go_on(checkpoint: str | None) -> str:
    """What is left of an interrupted training, and what to do with it."""
    if checkpoint is None:
        return "nothing was kept; with --checkpoint FILE the same command goes on where it was interrupted"
    if not os.path.exists(checkpoint):
        return f"interrupted before {checkpoint} was first written: the same command begins anew"
    return f"the same command goes on from {checkpoint}: {course(checkpoint, *read_metadata(checkpoint)).progress}"


def main(arguments: list[str] | None = None) -> None:
    """Trains the model that the command line names, and prints what came of it on the first process.

    An interruption ends the command, which says how to go on: nothing is made of half a training.
    """
    options = parse(arguments)
    if options.model == "experiment":
        from lib.publishing.record import record  # left out of the wheel: numbers are kept in the repository

        print(f"numbers in {record(options.name, options.jobs)}")
        return
    try:
        train(options)
    except KeyboardInterrupt:
        if PartialState().is_main_process:
            print(how_to_go_on(options.checkpoint), flush=True)
        raise


def train(options: argparse.Namespace) -> None:
    """Trains, judges, reports and publishes. Raises KeyboardInterrupt where it is interrupted."""
    own = {name: value for name, value in vars(options).items() if name not in FIT_OPTIONS}
    recipe = RECIPES[options.model]
    images = budget(cpu=recipe.cpu_images, gpu=10 * recipe.cpu_images) if options.images is None else options.images
    announce(options.checkpoint, images)
    torch.manual_seed(options.seed)
    model = recipe.build(**{name: getattr(options, name) for name in (*own, *recipe.build_too) if name != "model"})
    train, test = load_mnist("train"), load_mnist("test", default_device())
    started = time.monotonic()
    history = fit(
        model,
        recipe.loss,
        (train.images if recipe.prepare is None else recipe.prepare(train.images), train.labels),
        images=images,
        batch_size=options.batch_size,
        lr=options.lr,
        ema=0.999,
        clip=recipe.clip,
        precision=options.precision,
        seed=options.seed,
        evaluate=lambda model: recipe.test(model, test.images, test.labels),
        checkpoint=options.checkpoint,
        settings=own,
        may_differ=tuple(options.may_differ),
    )
    if history.stopped:
        raise KeyboardInterrupt
    if recipe.finish is not None:
        recipe.finish(model, train.images.to(default_device()))
    process = PartialState()  # as `fit` has set it up
    if process.is_main_process:
        last = history.records[-1]
        seen = f"{last['images']:,} images on {process.num_processes} × {process.device.type}"
        print(f"{options.model}: {seen}, {time.monotonic() - started:.1f} s")
        for name in list(last)[3:]:  # after step, images and lr
            print(f"  {name}: {history[name][0]:.4g} -> {last[name]:.4g}")
        measured = dict(last)
        if recipe.sample is not None:
            torch.manual_seed(options.seed)
            with torch.no_grad():
                samples = recipe.sample(model, SAMPLES)
            measured |= {"samples": SAMPLES, "frechet_distance": frechet_distance(samples), **digit_statistics(samples)}
            print(f"  Fréchet distance of {SAMPLES:,} samples: {measured['frechet_distance']:.3g}")
        if options.publish:
            private = ("checkpoint", "may_differ", "publish", "overwrite")
            settings = {name: value for name, value in vars(options).items() if name not in private}
            told = {name: str(value) for name, value in {**settings, **measured}.items()}
            print(f"  weights in {pretrained.publish(options.model, model, told)}")
    process.wait_for_everyone()
    process.destroy_process_group()


if __name__ == "__main__":
    main()
