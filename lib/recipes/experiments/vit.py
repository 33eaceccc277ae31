"""Chapter 4.1: what a convolution knows from birth, and which parts a transformer cannot do without."""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.attention import Attention
from lib.recipes.experiments import Experiment
from lib.training import DigitClassifier, Labelled, default_device, fit, load_mnist
from lib.training.classifier import accuracy, shifted
from lib.vision_transformers import ConvStem, VisionTransformer, init_by_fan_in

LOOKS = 4_000
ORDER = torch.randperm(16, generator=torch.Generator().manual_seed(1))  # in which scrambled digits have their patches


class MeanToken(VisionTransformer):
    """Reads the mean of the patches; the class token stands idle."""

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, 10) of images (B, 1, 16, 16)."""
        return self.head(self.forward_features(x)[:, 1:].mean(1))


class Undivided(Attention):
    """Attention whose scores are not divided by the root of d."""

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, larger by the root that they are divided by afterwards, keys and values."""
        q, k, v = super().heads(x)
        return q * q.shape[-1] ** 0.5, k, v


def small_vit(kind: type[VisionTransformer] = VisionTransformer, patch: int = 4, **settings) -> VisionTransformer:
    """A transformer of two blocks for digits of 16 × 16 pixels, as the library starts it."""
    return kind(16, patch, 1, 10, 64, 2, 4, **settings)


def without_positions() -> nn.Module:
    """A transformer that is not told where a patch is from."""
    model = init_by_fan_in(small_vit(), places=0)
    model.pos_embed.requires_grad_(False)
    return model


def without_root() -> nn.Module:
    """A transformer whose scores grow with the width of a head."""
    model = small_vit()
    for block in model.blocks:
        block.attn = Undivided(64, num_heads=4)
    return init_by_fan_in(model, places=0.5)


def build(kind: str) -> nn.Module:
    """The network of this name, ready to be trained. Raises KeyError for any other."""
    makers = {
        "CNN": lambda: DigitClassifier().to(memory_format=torch.channels_last),
        "ViT": lambda: init_by_fan_in(small_vit(), places=0.5),
        "hybrid": lambda: init_by_fan_in(small_vit(patch=2, stem=ConvStem(1, (32,))), places=0.5),
        "published start": small_vit,
        "no positions": without_positions,
        "mean of the patches": lambda: init_by_fan_in(small_vit(MeanToken), places=0.5),
        "no root of d": without_root,
    }
    return makers[kind]()


@lru_cache(2)
def coarse(split: str) -> Labelled:
    """Digits of 16 × 16 pixels, and their labels."""
    images, labels = load_mnist(split, default_device())
    return Labelled(F.avg_pool2d(F.pad(images, (2, 2, 2, 2)), 2), labels)


def scrambled(images: Tensor) -> Tensor:
    """The 16 patches of each digit in another order, the same for all."""
    return F.fold(F.unfold(images, 4, stride=4)[:, :, ORDER], 16, 4, stride=4)


def moved(images: Tensor, pixels: int) -> Tensor:
    """All digits moved to the right by so many pixels, or to the left where it is below 0."""
    return F.pad(images, (pixels, -pixels, 0, 0))


def moving_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of digits that are moved by up to a pixel at every look."""
    return F.cross_entropy(model(shifted(images)), labels)


def plain_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of digits as they are."""
    return F.cross_entropy(model(images), labels)


def train(kind: str, count: int = LOOKS, how: str = "plain", seed: int = 0) -> nn.Module:
    """A network after 4,000 looks at `count` different digits: "plain", "scrambled", or "moved" at every look."""
    torch.manual_seed(seed)
    model = build(kind).to(default_device())
    images, labels = coarse("train")
    chosen = torch.randperm(len(images))[:count].to(images.device)
    shown = scrambled(images[chosen]) if how == "scrambled" else images[chosen]
    fit(
        model,
        moving_loss if how == "moved" else plain_loss,
        (shown, labels[chosen]),
        images=LOOKS,
        batch_size=32,
        lr={"CNN": 6e-3, "hybrid": 3e-3}.get(kind, 2e-3),
        schedule="onecycle",
        weight_decay=0.02,
        clip=1.0,
        ema=0.98,
        precision="no",
        seed=seed,
        show=False,
    )
    return model


class Tests(NamedTuple):
    """Digits of the test set by what was done to them, and their labels."""

    pictures: dict[str, Tensor]
    labels: Tensor


@lru_cache(1)
def tests() -> Tests:
    """A thousand test digits: plain, scrambled, and moved to the right by one, two and four pixels."""
    images, labels = (part[:1000] for part in coarse("test"))
    by = {f"moved by {pixels}": moved(images, pixels) for pixels in (1, 2, 4)}
    return Tests({"plain": images, "scrambled": scrambled(images), **by}, labels)


def run(kind: str, seed: int, count: int = LOOKS, how: str = "plain") -> dict[str, float]:
    """Share of a thousand test digits that one network names, for each thing that is done to them."""
    model = train(kind, count, how, seed)
    pictures, labels = tests()
    return {name: accuracy(model, images, labels) for name, images in pictures.items()}


KINDS = ("CNN", "ViT", "hybrid")
ARMS: dict[str, dict] = {
    **{kind: {"kind": kind} for kind in KINDS},
    **{f"{kind}, {count:,} digits": {"kind": kind, "count": count} for kind in KINDS for count in (100, 1_000)},
    **{f"{kind}, learned scrambled": {"kind": kind, "how": "scrambled"} for kind in ("CNN", "ViT")},
    **{kind: {"kind": kind} for kind in ("no positions", "mean of the patches", "no root of d", "published start")},
}
EXPERIMENT = Experiment(run, ARMS, seeds=(1, 2, 3))  # the chapter's own runs have seed 0
