"""Autoencoder, VAE, VQ-VAE and VQ-VAE-2 on digits (chapters 1.1 to 1.4)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.autoencoders import VAE, VQVAE, VQVAE2, Autoencoder


def build_autoencoder(latent_dim: int = 16, network: str = "mlp") -> Autoencoder:
    """The autoencoder of chapter 1.1."""
    return Autoencoder(latent_dim, network)


def autoencoder_loss(model: Autoencoder, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Squared error an image."""
    return model.loss(images)


def autoencoder_test(model: Autoencoder, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Squared error a pixel."""
    return {"test_error": (model(images) - images).square().mean().item()}


def autoencoder_sample(model: Autoencoder, count: int) -> Tensor:
    """What the decoder makes of random codes."""
    return model.decode(torch.randn(count, model.latent_dim, device=next(model.parameters()).device))


def build_vae(latent_dim: int = 16, network: str = "mlp", beta: float = 1.0) -> VAE:
    """The VAE of chapter 1.2."""
    return VAE(latent_dim, network, beta=beta)


def vae_loss(model: VAE, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Minus the ELBO of images made black and white at random, each pixel as often white as it is grey."""
    return model.loss(torch.bernoulli(images))


def vae_test(model: VAE, images: Tensor, labels: Tensor) -> dict[str, float]:
    """The ELBO in nats an image."""
    return {"test_elbo": model.elbo(torch.bernoulli(images))["elbo"].mean().item()}


def vae_sample(model: VAE, count: int) -> Tensor:
    """Digits decoded from the prior."""
    return model.sample(count)


def build_vqvae(codes: int = 256) -> VQVAE:
    """The VQ-VAE of chapter 1.3."""
    return VQVAE(codes, 16, num_blocks=1, restart=0.5)


def build_vqvae2(codes: int = 256) -> VQVAE2:
    """The VQ-VAE-2 of chapter 1.4."""
    return VQVAE2(1, 64, num_blocks=1, dim=16, num_codes=codes, restart=0.5)


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
