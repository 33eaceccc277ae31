"""DDPM, class-conditional and latent diffusion on digits (part 2)."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib.diffusion import GaussianDiffusion, UNet, cosine_betas, ddim, digit_unet, linear_betas, sample, simple_loss
from lib.diffusion.guidance import classifier_free, drop_labels
from lib.diffusion.latent import PART, FirstStage, LatentDenoiser, digit_first_stage, digit_latent_denoiser
from lib.training import default_device, pretrained


def build_ddpm() -> UNet:
    """The denoising diffusion model of chapters 2.1 to 2.5."""
    return digit_unet()


def build_conditional() -> UNet:
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


def build_first_stage() -> FirstStage:
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


def build_latent() -> LatentDenoiser:
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
