"""Trains a model of the book from the command line, on one device or on many.

    python -m lib.run vae --latent-dim 16
    accelerate launch --multi_gpu -m lib.run vae --latent-dim 16 --checkpoint vae.safetensors
    torchrun --standalone --nproc_per_node 2 -m lib.run vae --latent-dim 16

`--publish` stores the weights in the package, with how they were made; `lib.training.pretrained` loads them.

A chapter's training cell does the same with the same `fit`. Here no notebook is needed, and Accelerate spreads the
work over the GPUs of one or many machines (second line), or over processes on the CPU (third).
"""

import argparse
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn

from lib.autoencoders import VAE, VQVAE, VQVAE2, Autoencoder
from lib.detection import DETR, SetCriterion, TwoStageDETR, postprocess
from lib.detection.digits import digit_detr
from lib.diffusion import GaussianDiffusion, UNet, cosine_betas, ddim, digit_unet, linear_betas, sample, simple_loss
from lib.diffusion.guidance import classifier_free, drop_labels
from lib.diffusion.latent import PART, FirstStage, LatentDenoiser, digit_first_stage, digit_latent_denoiser
from lib.training import (
    History,
    budget,
    default_device,
    digit_statistics,
    fit,
    frechet_distance,
    load_mnist,
    pretrained,
)
from lib.training.average_precision import average_precision
from lib.training.scenes import digit_scenes
from lib.vision_transformers import MaskedAutoencoderViT, SwinTransformer, VisionTransformer
from lib.vision_transformers.digits import digit_mae

SAMPLES = 1000  # digits drawn to measure the Fréchet distance
SCENES = 500  # scenes in which a detector is judged
# What `fit` is told itself, or what does not change the weights. All other options are part of a checkpoint's identity.
FIT_OPTIONS = ("images", "batch_size", "lr", "precision", "seed", "checkpoint", "may_differ", "publish")


class Recipe(NamedTuple):
    """How one model of the book is built, trained and judged."""

    build: Callable[[argparse.Namespace], nn.Module]
    # Their first argument is the model that `build` gives.
    loss: Callable[..., dict[str, Tensor]]  # of images (B, 1, 28, 28) and labels (B,)
    test: Callable[..., dict[str, float]]  # test images and labels -> named numbers
    sample: Callable[..., Tensor] | None = None  # for models that draw: so many digits
    cpu_images: int = 300_000  # seen where the command line does not say; ten times as many on a GPU
    batch_size: int = 128
    lr: float = 2e-3
    clip: float | None = None
    prepare: Callable[[Tensor], Tensor] | None = None  # what training sees in place of the images
    finish: Callable[..., None] | None = None  # what is left to do with a trained model and its images


def build_autoencoder(options: argparse.Namespace) -> Autoencoder:
    """The autoencoder of chapter 1.1."""
    return Autoencoder(options.latent_dim, options.network)


def autoencoder_loss(model: Autoencoder, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Squared error an image."""
    return model.loss(images)


def autoencoder_test(model: Autoencoder, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Squared error a pixel."""
    return {"test_error": (model(images) - images).square().mean().item()}


def autoencoder_sample(model: Autoencoder, count: int) -> Tensor:
    """What the decoder makes of random codes."""
    return model.decode(torch.randn(count, model.latent_dim, device=next(model.parameters()).device))


def build_vae(options: argparse.Namespace) -> VAE:
    """The VAE of chapter 1.2."""
    return VAE(options.latent_dim, options.network, beta=options.beta)


def vae_loss(model: VAE, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Minus the ELBO of images made black and white at random, each pixel as often white as it is grey."""
    return model.loss(torch.bernoulli(images))


def vae_test(model: VAE, images: Tensor, labels: Tensor) -> dict[str, float]:
    """The ELBO in nats an image."""
    return {"test_elbo": model.elbo(torch.bernoulli(images))["elbo"].mean().item()}


def vae_sample(model: VAE, count: int) -> Tensor:
    """Digits decoded from the prior."""
    return model.sample(count)


def build_vqvae(options: argparse.Namespace) -> VQVAE:
    """The VQ-VAE of chapter 1.3."""
    return VQVAE(options.codes, 16, num_blocks=1, restart=0.5)


def build_vqvae2(options: argparse.Namespace) -> VQVAE2:
    """The VQ-VAE-2 of chapter 1.4."""
    return VQVAE2(1, 64, num_blocks=1, dim=16, num_codes=options.codes, restart=0.5)


def vq_loss(model: VQVAE | VQVAE2, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Squared error a pixel and what the quantiser adds."""
    return model.loss(pad_to_stride(model, images))


def vq_test(model: VQVAE | VQVAE2, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Squared error a pixel, of the digits without their frame."""
    images = pad_to_stride(model, images[:2000])
    frame = (images.shape[-1] - 28) // 2
    error = (model(images)[0] - images)[..., frame : frame + 28, frame : frame + 28]
    return {"test_error": error.square().mean().item()}


def pad_to_stride(model: VQVAE | VQVAE2, images: Tensor) -> Tensor:
    """Images in a black frame, if they need one, so that the model's stride divides their sides."""
    frame = -images.shape[-1] % model.stride // 2
    return F.pad(images, (frame, frame, frame, frame))


def build_ddpm(options: argparse.Namespace) -> UNet:
    """The denoising diffusion model of chapters 2.1 to 2.5."""
    return digit_unet()


def build_conditional(options: argparse.Namespace) -> UNet:
    """The same network, which can be told which digit to draw, of chapter 2's guidance without a classifier."""
    return digit_unet(num_classes=10)


@functools.cache  # the loss asks for it at every step
def diffusion(betas: Callable[[int], Tensor] = linear_betas) -> GaussianDiffusion:
    """Noise in 1000 steps, by default DDPM's, linear."""
    return GaussianDiffusion(betas(1000)).to(default_device())


def ddpm_loss(model: UNet, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """How wrong the predicted noise is, a number."""
    return {"loss": simple_loss(model, diffusion(), 2 * images - 1).mean()}


def ddpm_test(model: UNet, images: Tensor, labels: Tensor) -> dict[str, float]:
    """The loss of 1,000 test images, one at each time."""
    return {"test_loss": loss_at_all_times(model, diffusion(), 2 * images[:1000] - 1)}


def loss_at_all_times(
    model: Callable[[Tensor, Tensor], Tensor], process: GaussianDiffusion, x0: Tensor, target: str = "eps"
) -> float:
    """The mean loss of images or codes `x0` (B, ...), the first at the first time, the second at the second, ..."""
    times = torch.arange(len(x0), device=x0.device) % process.T
    return simple_loss(model, process, x0, times, target=target).mean().item()


def ddpm_sample(model: UNet, count: int) -> Tensor:
    """Digits by ancestral sampling, in 100 of the 1000 steps."""
    images = sample(model, diffusion(), (count, 1, 28, 28), steps=100, variance="small")
    return (images.clamp(-1, 1) + 1) / 2


def conditional_loss(model: UNet, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """`class_conditional_loss` in improved DDPM's noise."""
    return class_conditional_loss(model, diffusion(cosine_betas), 2 * images - 1, labels)


def conditional_test(model: UNet, images: Tensor, labels: Tensor) -> dict[str, float]:
    """`class_conditional_test` of 1,000 test images."""
    return class_conditional_test(model, diffusion(cosine_betas), 2 * images[:1000] - 1, labels[:1000])


def conditional_sample(model: UNet, count: int) -> Tensor:
    """Digits, equally many of each class."""
    return (class_conditional_sample(model, diffusion(cosine_betas), (count, 1, 28, 28)).clamp(-1, 1) + 1) / 2


def class_conditional_loss(
    model: nn.Module, process: GaussianDiffusion, x0: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """How wrong the velocity is, of images or codes (B, ...); seven times in eight the network is told the label."""
    told = functools.partial(model, labels=drop_labels(labels, 1 / 8))
    return {"loss": simple_loss(told, process, x0, target="v").mean()}


def class_conditional_test(
    model: nn.Module, process: GaussianDiffusion, x0: Tensor, labels: Tensor
) -> dict[str, float]:
    """The error of the velocity, of one image or code at each time, with the labels and without."""
    told = functools.partial(model, labels=labels)
    return {
        "test_loss": loss_at_all_times(told, process, x0, "v"),
        "unconditional_test_loss": loss_at_all_times(model, process, x0, "v"),
    }


def class_conditional_sample(
    model: nn.Module, process: GaussianDiffusion, shape: tuple[int, ...], clip: bool = True
) -> Tensor:
    """Images or codes of classes 0, 1, ..., 9, 0, ..., in 20 steps of DDIM with guidance of scale 1."""
    guided = classifier_free(model, torch.arange(shape[0], device=default_device()) % 10, 1.0)
    return ddim.sample(guided, process, shape, 20, target="v", clip=clip, spacing="trailing")


def build_first_stage(options: argparse.Namespace) -> FirstStage:
    """The autoencoder in whose codes latent diffusion works, of chapter 2's last part."""
    return digit_first_stage()


def first_stage_loss(model: FirstStage, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Squared error a pixel, pixels between -1 and 1, and a light KL."""
    return model.loss(2 * images - 1)


def first_stage_test(model: FirstStage, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Squared error a pixel, pixels between 0 and 1, of 2,000 test digits decoded from their mean codes."""
    images = images[:2000]
    decoded = torch.cat([model.decode(model.encode(2 * part - 1).mean) for part in images.split(PART)])
    return {"test_error": ((decoded + 1) / 2 - images).square().mean().item()}


def first_stage_finish(model: FirstStage, images: Tensor) -> None:
    """Measures how large its codes are, on 10,000 training images."""
    model.measure_scale(2 * images[:10_000] - 1)


def build_latent(options: argparse.Namespace) -> LatentDenoiser:
    """Latent diffusion's denoiser, told which digit to draw; it draws in the codes of the shipped first stage."""
    return digit_latent_denoiser()


@functools.cache
def shipped_first_stage() -> FirstStage:
    """The first stage that ships, on the device that trains."""
    model = digit_first_stage()
    pretrained.load("first_stage", model)
    return model.to(default_device())


@torch.no_grad()
def latent_codes(images: Tensor) -> Tensor:
    """One draw of the scaled code (N, 4, 7, 7) of each image (N, 1, 28, 28), made once: the first stage is finished."""
    stage, device, codes = shipped_first_stage(), default_device(), []
    for part in images.split(PART):
        noise = torch.randn(len(part), 4, 7, 7, device=device)
        codes.append(stage.to_latent(2 * part.to(device) - 1, noise))
    return torch.cat(codes)


def latent_loss(model: LatentDenoiser, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """`class_conditional_loss` of codes."""
    return class_conditional_loss(model, diffusion(), codes, labels)


def latent_test(model: LatentDenoiser, images: Tensor, labels: Tensor) -> dict[str, float]:
    """`class_conditional_test` of the codes of 1,000 test images."""
    return class_conditional_test(model, diffusion(), latent_codes(images[:1000]), labels[:1000])


def latent_sample(model: LatentDenoiser, count: int) -> Tensor:
    """Decoded digits, equally many of each class."""
    codes = class_conditional_sample(model, diffusion(), (count, 4, 7, 7), clip=False)
    images = torch.cat([shipped_first_stage().to_image(part) for part in codes.split(PART)])
    return (images.clamp(-1, 1) + 1) / 2


def build_vit(options: argparse.Namespace) -> VisionTransformer:
    """The Vision Transformer of chapter 4.1."""
    return VisionTransformer(28, patch_size=7, in_chans=1, num_classes=10, embed_dim=128, depth=4, num_heads=4)


def build_swin(options: argparse.Namespace) -> SwinTransformer:
    """The Swin Transformer of chapter 5.2."""
    return SwinTransformer(
        28, patch_size=2, in_chans=1, num_classes=10, embed_dim=32, depths=(2, 2), num_heads=(2, 4), window_size=7
    )


def classifier_loss(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropy of the ten digits."""
    return {"loss": F.cross_entropy(model(images), labels)}


def classifier_test(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Share of 2,000 test digits that are named correctly."""
    return {"test_accuracy": (model(images[:2000]).argmax(1) == labels[:2000]).float().mean().item()}


def build_mae(options: argparse.Namespace) -> MaskedAutoencoderViT:
    """The masked autoencoder of chapter 4.2."""
    return digit_mae()


@functools.cache
def mean_digit() -> Tensor:
    """The mean of the training images (1, 1, 28, 28): an answer of zero is then that."""
    return load_mnist("train", default_device()).images.mean(0, keepdim=True)


def mae_loss(model: MaskedAutoencoderViT, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Squared error of the removed patches; by lot 8, 10 or 12 of 16 are removed."""
    removed = 8 + 2 * torch.randint(3, ()).item()
    return {"loss": model((images - mean_digit()) / 0.25, removed / 16)[0]}


def mae_test(model: MaskedAutoencoderViT, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Squared error of 12 removed patches of 2,000 test digits, always the same, in pixels between 0 and 1."""
    images = (images[:2000] - mean_digit()) / 0.25
    noise = torch.rand(len(images), 16, generator=torch.Generator().manual_seed(0)).to(images.device)
    return {"test_error": 0.25**2 * model(images, noise=noise)[0].item()}


def build_detr(options: argparse.Namespace) -> DETR:
    """The detector of chapter 3.4."""
    model = digit_detr(TwoStageDETR if options.two_stage else DETR, options.queries)
    if options.pretrain:
        name_digits(model.backbone[0].body, options)
    return model


def name_digits(body: nn.Module, options: argparse.Namespace) -> None:
    """Trains a backbone to name single digits of all sizes, as DETR's learns ImageNet's classes before it detects."""

    def loss(net: nn.ModuleList, seeds: Tensor) -> Tensor:
        scenes = digit_scenes(len(seeds), int(seeds[0]), size=32, digits=(1, 1), device=seeds.device)
        return F.cross_entropy(net[1](net[0](scenes.images).amax((2, 3))), scenes.labels[:, 0])

    net, seeds = nn.ModuleList([body, nn.Linear(body.num_channels, 10)]), torch.arange(1 << 20)
    sizes = {"images": options.pretrain, "batch_size": 32, "lr": 3e-3, "schedule": "onecycle", "ema": 0.99}
    finished(fit(net, loss, seeds, **sizes, precision=options.precision, seed=options.seed, show=False))


def detr_loss(model: DETR, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The set loss of new scenes, as many as there are images: each is made of training digits and seen once."""
    scenes = digit_scenes(len(images), seed=int(torch.randint(1 << 62, ())), device=images.device)
    criterion = set_criterion()
    return {"loss": criterion.total(criterion(model(scenes.images), scenes.targets()))}


@functools.cache
def set_criterion() -> SetCriterion:
    """DETR's matching and losses, with the paper's weights."""
    return SetCriterion(num_classes=10).to(default_device())


def detr_test(model: DETR, images: Tensor, labels: Tensor) -> dict[str, float]:
    """COCO's average precisions on scenes of test digits, always the same."""
    scenes = digit_scenes(SCENES, split="test", device=images.device)
    sizes = torch.full((SCENES, 2), scenes.images.shape[-1], device=images.device)
    found = average_precision(postprocess(model(scenes.images), sizes), scenes.targets(), scenes.images.shape[-1])
    return {name: found[name] for name in ("AP", "AP50", "AP75")}


RECIPES = {
    "autoencoder": Recipe(build_autoencoder, autoencoder_loss, autoencoder_test, autoencoder_sample),
    "vae": Recipe(build_vae, vae_loss, vae_test, vae_sample),
    "vqvae": Recipe(build_vqvae, vq_loss, vq_test, batch_size=32),
    "vqvae2": Recipe(build_vqvae2, vq_loss, vq_test, batch_size=32),
    "ddpm": Recipe(build_ddpm, ddpm_loss, ddpm_test, ddpm_sample, cpu_images=400_000, batch_size=32),
    "conditional": Recipe(
        build_conditional,
        conditional_loss,
        conditional_test,
        conditional_sample,
        cpu_images=400_000,
        batch_size=32,
        lr=2.5e-3,
    ),
    "first_stage": Recipe(
        build_first_stage,
        first_stage_loss,
        first_stage_test,
        cpu_images=120_000,
        batch_size=32,
        clip=1.0,
        finish=first_stage_finish,
    ),
    "latent": Recipe(
        build_latent, latent_loss, latent_test, latent_sample, cpu_images=400_000, batch_size=32, prepare=latent_codes
    ),
    "detr": Recipe(build_detr, detr_loss, detr_test, cpu_images=100_000, batch_size=16, lr=1e-3, clip=0.1),
    "vit": Recipe(build_vit, classifier_loss, classifier_test, batch_size=64),
    "mae": Recipe(build_mae, mae_loss, mae_test, cpu_images=500_000, batch_size=32),
    "swin": Recipe(build_swin, classifier_loss, classifier_test, batch_size=64),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line as options."""
    parser = argparse.ArgumentParser("python -m lib.run", description=__doc__.splitlines()[0])
    models = parser.add_subparsers(dest="model", required=True)
    for name, recipe in RECIPES.items():
        command = models.add_parser(name, help=recipe.build.__doc__)
        command.add_argument("--images", type=int, default=None, help="images to see in all")
        command.add_argument(
            "--batch-size", type=int, default=recipe.batch_size, help="over all processes (default: %(default)s)"
        )
        command.add_argument("--lr", type=float, default=recipe.lr, help="highest learning rate (default: %(default)s)")
        command.add_argument("--precision", choices=("auto", "no", "bf16"), default="auto")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--checkpoint", help="safetensors file to write, and to go on from if it exists")
        command.add_argument(
            "--may-differ",
            choices=("device", "precision"),
            action="append",
            default=[],
            help="go on from a checkpoint made on another device, or in another precision",
        )
        command.add_argument("--publish", action="store_true", help="store the weights among those that ship")
    for name in ("autoencoder", "vae"):
        models.choices[name].add_argument("--latent-dim", type=int, default=16, help="length of the code (default: 16)")
        models.choices[name].add_argument("--network", choices=("mlp", "conv"), default="mlp")
    for name in ("vqvae", "vqvae2"):
        models.choices[name].add_argument(
            "--codes", type=int, default=256, help="size of the vocabulary (default: 256)"
        )
    models.choices["detr"].add_argument("--two-stage", action="store_true", help="the encoder's proposals as queries")
    models.choices["detr"].add_argument(
        "--pretrain", type=int, default=10_000, help="digits that the backbone learns to name before (default: 10000)"
    )
    models.choices["detr"].add_argument("--queries", type=int, default=10, help="objects it can find (default: 10)")
    models.choices["vae"].add_argument("--beta", type=float, default=1.0, help="weight of the KL term")
    return parser.parse_args(arguments)


def finished(history: History) -> History:
    """The history itself, of a training that came to its end. An interrupted one ends the command: nothing is made of
    it, and the checkpoint tells where to go on.
    """
    if history.stopped:
        raise KeyboardInterrupt
    return history


def main(arguments: list[str] | None = None) -> None:
    """Trains the model that the command line names, and prints what came of it on the first process."""
    options = parse(arguments)
    own = {name: value for name, value in vars(options).items() if name not in FIT_OPTIONS}
    recipe = RECIPES[options.model]
    torch.manual_seed(options.seed)
    model = recipe.build(options)
    train, test = load_mnist("train"), load_mnist("test", default_device())
    started = time.monotonic()
    training = fit(
        model,
        recipe.loss,
        (train.images if recipe.prepare is None else recipe.prepare(train.images), train.labels),
        images=budget(cpu=recipe.cpu_images, gpu=10 * recipe.cpu_images) if options.images is None else options.images,
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
    history = finished(training)
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
            private = ("checkpoint", "may_differ", "publish")
            settings = {name: value for name, value in vars(options).items() if name not in private}
            told = {name: str(value) for name, value in {**settings, **measured}.items()}
            print(f"  weights in {pretrained.publish(options.model, model, told)}")
    process.wait_for_everyone()
    process.destroy_process_group()


if __name__ == "__main__":
    main()
