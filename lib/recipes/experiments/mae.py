"""Chapter 4.2: what a hundred labels teach a transformer, with and without having filled in gaps before."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.recipes.experiments import Experiment
from lib.recipes.vision_transformers import mean_digit
from lib.training import Labelled, default_device, fit, load_mnist, pretrained
from lib.training.classifier import accuracy, shifted
from lib.vision_transformers import MaskedAutoencoderViT, VisionTransformer
from lib.vision_transformers.digits import digit_mae

TEST = 2000


@lru_cache(2)
def digits(split: str) -> Labelled:
    """MNIST with the mean digit taken off, an answer of zero is then that; 2,000 digits of the test set."""
    images, labels = load_mnist(split, default_device())
    count = TEST if split == "test" else len(images)
    return Labelled((images[:count] - mean_digit()) / 0.25, labels[:count])


def small(kind: type[MaskedAutoencoderViT] = MaskedAutoencoderViT, seed: int = 0, **settings) -> MaskedAutoencoderViT:
    """The chapter's masked autoencoder with a random start."""
    torch.manual_seed(seed)
    return digit_mae(kind, **settings).to(default_device())


class Reader(nn.Module):
    """A classifier that reads all patch tokens of an encoder, each in its place."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.vit = VisionTransformer(28, 7, 1, 0, embed_dim=128, depth=4, num_heads=4, mlp_ratio=2.0)
        weights = encoder.state_dict()  # the names are the same, key for key; a decoder may stand behind
        self.vit.load_state_dict({name: weights[name] for name in self.vit.state_dict()})
        self.head = nn.Linear(16 * 128, 10)
        nn.init.zeros_(self.head.weight)
        self.to(default_device())
        with torch.no_grad():
            self.std, self.mean = torch.std_mean(self.tokens(digits("train").images[:2000]), dim=0)

    def tokens(self, x: Tensor) -> Tensor:
        """All numbers of the patch tokens (B, 16 · 128) of digits (B, 1, 28, 28)."""
        return self.vit.forward_features(x)[:, 1:].flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, 10); each number of a token is first brought to mean 0 and variance 1."""
        return self.head((self.tokens(x) - self.mean) / self.std)


def moving_loss(reader: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of digits between 0 and 1, moved by up to a pixel at every look; it asks for 91 % certainty."""
    scores = reader((shifted(images) - mean_digit()) / 0.25)
    return F.cross_entropy(scores, labels, label_smoothing=0.1)


def learn_from(labels: int, encoder: nn.Module, seed: int = 0) -> float:
    """Share of the test digits that are named after training with so many labels, from these weights on.

    With seed 0 the first digits have a label, with another one as many others.
    """
    model = Reader(encoder)
    images, names = load_mnist("train", default_device())
    few = slice(labels * seed, labels * (seed + 1))
    fit(
        model,
        moving_loss,
        (images[few], names[few]),
        images=3000,
        batch_size=10,
        lr=1e-3,
        ema=0.99,
        precision="no",
        seed=seed,
        show=False,
    )
    return accuracy(model, *digits("test"))


@torch.no_grad()
def features(encoder: nn.Module, images: Tensor) -> Tensor:
    """The mean patch token (N, 128) of each image, encoded with nothing hidden."""
    return torch.cat([encoder.forward_features(part)[:, 1:].mean(1) for part in images.split(1000)])


def probe(encoder: nn.Module, count: int = 3000, seed: int = 0) -> float:
    """Share of the test digits that a linear layer names, trained on frozen features of so many digits."""
    images, labels = digits("train")
    test, answers = digits("test")
    x = features(encoder, images[:count])
    mean, std = x.mean(0), x.std(0)
    linear = nn.Linear(x.shape[1], 10).to(x.device)
    fit(
        linear,
        lambda model, x, y: F.cross_entropy(model(x), y),
        ((x - mean) / std, labels[:count]),
        images=60 * count,
        batch_size=200,
        lr=2e-2,
        precision="no",
        seed=seed,
        show=False,
    )
    return accuracy(linear, (features(encoder, test) - mean) / std, answers)


def run(start: str, seed: int) -> dict[str, float]:
    """Share of the test digits named after a hundred labels, and by a linear probe of the start."""
    encoder = small(seed=seed)
    if start == "shipped":
        pretrained.load("mae", encoder)
    return {"probe": probe(encoder, seed=seed), "hundred labels": learn_from(100, encoder, seed)}


EXPERIMENT = Experiment(
    run, {"from scratch": {"start": "random"}, "half a million images": {"start": "shipped"}}, seeds=(1, 2, 3)
)  # the chapter's own runs have seed 0
