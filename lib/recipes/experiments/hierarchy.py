"""Chapter 5.2: Swin against networks that keep one map, fine or coarse, and are as large as it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.recipes.experiments import Experiment
from lib.training import History, default_device, fit, load_mnist
from lib.training.classifier import accuracy, shifted
from lib.vision_transformers import SwinTransformer, VisionTransformer
from lib.vision_transformers.initialization import init_by_fan_in, scale_residual_branches

IMAGES, TEST = 9600, 5000


def small_swin(dim: int, depths: tuple[int, ...], heads: tuple[int, ...]) -> SwinTransformer:
    """A Swin Transformer for images of 32 × 32 pixels that starts at tokens of 4 × 4."""
    return SwinTransformer(32, 4, 1, 10, dim, depths, heads, window_size=4, mlp_ratio=2.0)


def small_vit(patch: int, dim: int, depth: int, heads: int) -> VisionTransformer:
    """A Vision Transformer for images of 32 × 32 pixels."""
    return VisionTransformer(32, patch, 1, 10, dim, depth, heads, mlp_ratio=2.0)


ARMS: dict[str, dict] = {
    "Swin": {"build": "swin", "sizes": (32, (2, 2), (2, 4))},
    "no merging": {"build": "swin", "sizes": (52, (4,), (2,))},
    "ViT, coarse map": {"build": "vit", "sizes": (8, 48, 5, 3)},
}


def build(arm: str) -> nn.Module:
    """The network of one arm, as PyTorch starts it."""
    return {"swin": small_swin, "vit": small_vit}[ARMS[arm]["build"]](*ARMS[arm]["sizes"])  # type: ignore[operator]


def prepared(model: nn.Module) -> nn.Module:
    """The network with tables that a few minutes need not grow, and every block as a small change."""
    places = 0.3 if isinstance(model, VisionTransformer) else 3.0
    scale_residual_branches(init_by_fan_in(model, places=places), share=0.3)
    nn.init.normal_(model.head.weight, std=model.head.in_features**-0.5)
    return model.to(default_device())


def shifting_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of digits that are moved by up to a pixel at every look."""
    return F.cross_entropy(model(shifted(images)), labels)


def padded_digits(split: str) -> tuple[Tensor, Tensor]:
    """Digits with two pixels of paper around them (N, 1, 32, 32), and their labels."""
    images, labels = load_mnist(split, default_device())
    return F.pad(images, (2, 2, 2, 2)), labels


def train(arm: str, seed: int = 0, show: bool = False) -> tuple[nn.Module, History]:
    """A network of the race after its digits, and how its loss fell."""
    torch.manual_seed(seed)
    model = prepared(build(arm))
    history = fit(
        model,
        shifting_loss,
        padded_digits("train"),
        images=IMAGES,
        batch_size=32,
        lr=3.5e-3,
        schedule="onecycle",
        weight_decay=0.02,
        clip=1.0,
        precision="no",
        seed=seed,
        show=show,
    )
    return model, history


def named(model: nn.Module) -> float:
    """Share of the first 5,000 test digits that the network names correctly."""
    return accuracy(model, *(part[:TEST] for part in padded_digits("test")))


def run(arm: str, seed: int) -> dict[str, float]:
    """Share of the first 5,000 test digits that one arm names."""
    return {"accuracy": named(train(arm, seed)[0])}


EXPERIMENT = Experiment(run, {arm: {"arm": arm} for arm in ARMS})
