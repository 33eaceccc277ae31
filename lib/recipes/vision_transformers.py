"""ViT and Swin that name digits, MAE that fills them in (chapters 4.1, 4.2 and 5.2)."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.training import default_device, load_mnist
from lib.vision_transformers import MaskedAutoencoderViT, SwinTransformer, VisionTransformer
from lib.vision_transformers.digits import digit_mae


def build_vit() -> VisionTransformer:
    """The Vision Transformer of chapter 4.1."""
    return VisionTransformer(28, patch_size=7, in_chans=1, num_classes=10, embed_dim=128, depth=4, num_heads=4)


def build_swin() -> SwinTransformer:
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


def build_mae() -> MaskedAutoencoderViT:
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
