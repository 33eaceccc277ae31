"""A small digit classifier: no model of the book but a measuring instrument for the digits its models draw.

Its last hidden layer gives the 64 features in which `metrics.frechet_distance` compares two sets of digits,
as the Inception network's last layer does for photographs (Heusel et al., "GANs trained by a two time-scale
update rule", NIPS 2017). The weights ship with the package and name 99.47 % of MNIST's test images correctly;
`python -m lib.training classifier` trains them anew.
"""

import hashlib
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from lib.checks import check_count, check_floats, check_integers, described
from lib.training.data import DataError, load_mnist
from lib.training.devices import check_device
from lib.training.fit import fit

WEIGHTS = Path(__file__).with_name("classifier.safetensors")
SHA256 = "4c530e3996a2ff272ba500b0bb45dc564e54c4593dc55195d33087d6e45d1dbe"
LEAST_ACCURACY = 0.993  # of the 10,000 test images; weights below are not written


class DigitClassifier(nn.Module):
    """Four 3 × 3 convolutions with batch normalisation, about 60,000 parameters.

    The attribute `features` maps images (B, 1, 28, 28) in [0, 1] to features (B, 64), none of them negative.
    """

    def __init__(self):
        super().__init__()
        self.features = _Features(
            *_convolution(1, 24),
            nn.MaxPool2d(2),  # (B, 24, 14, 14)
            *_convolution(24, 48),
            *_convolution(48, 48),
            nn.MaxPool2d(2),  # (B, 48, 7, 7)
            *_convolution(48, 64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),  # (B, 64)
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10) of the ten digits for images (B, 1, 28, 28) in [0, 1]."""
        return self.head(self.features(x))


def digit_classifier(device: str | torch.device = "cpu") -> DigitClassifier:
    """The trained classifier on `device`, in eval mode, its weights frozen; one per device and process.

    Raises DataError where the weights are missing or are not those the book was made with, and ValueError for a device
    that is not there.
    """
    return _loaded(check_device(device))


@lru_cache
def stored() -> dict[str, Tensor]:
    """The tensors of the shipped file: the weights, and under "test." what `metrics` knows of the test images.

    Raises DataError where the file is missing or is not the one the book was made with.
    """
    remedy = "Install the package again, or train the classifier with `python -m lib.training classifier`"
    if not WEIGHTS.is_file():
        raise DataError(f"{WEIGHTS} is missing. {remedy}")
    content = WEIGHTS.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise DataError(f"{WEIGHTS} is damaged: SHA-256 {found}, expected {SHA256}. {remedy}")
    return load_tensors(content)


@lru_cache
def _loaded(device: torch.device) -> DigitClassifier:
    classifier = DigitClassifier()
    classifier.load_state_dict({name: tensor for name, tensor in stored().items() if not name.startswith("test.")})
    classifier.to(device, memory_format=torch.channels_last)  # nearly twice as fast on a CPU
    return classifier.eval().requires_grad_(False)


def shifted(images: Tensor) -> Tensor:
    """Each image (B, C, H, W) moved by -1, 0 or 1 pixels down and across, at random; what comes in is 0."""
    if check_floats("images", images).dim() != 4:
        raise ValueError(f"images must be a tensor (B, C, H, W), got {tuple(images.shape)}")
    height, width = images.shape[2:]
    offsets = torch.randint(0, 3, (2, len(images), 1), device=images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)  # (B, H)
    columns = offsets[1] + torch.arange(width, device=images.device)  # (B, W)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of shifted images (N, C, H, W), in nats an image; the labels are integers (N,) from 0 to 9."""
    return F.cross_entropy(model(shifted(images)), check_integers("labels", labels, 0, 9))


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images (N, ...) that the model classifies as the labels say, integers (N,)."""
    if not callable(model):
        raise ValueError(f"model must be callable as model(images), got {described(model)}")
    labels = check_integers("labels", labels, 0)
    if check_floats("images", images).shape[:1] != labels.shape or not len(images):
        raise ValueError(f"images must be one for each of labels {tuple(labels.shape)}, got {tuple(images.shape)}")
    guesses = torch.cat([model(part).argmax(1) for part in images.split(1000)])
    return (guesses == labels).float().mean().item()


def train(images: int, seed: int) -> tuple[DigitClassifier, float]:
    """A classifier trained on so many images, and its accuracy on the 10,000 test images."""
    check_count(images=images)
    check_count(0, 2**32 - 1, seed=seed)
    torch.manual_seed(seed)
    model = DigitClassifier().to(memory_format=torch.channels_last)
    test = load_mnist("test")

    def evaluate(model: nn.Module) -> dict:
        device = next(model.parameters()).device
        return {"accuracy": accuracy(model, test.images.to(device), test.labels.to(device))}

    history = fit(
        model, loss, load_mnist("train"), images=images, batch_size=64, lr=6e-3, schedule="onecycle",
        weight_decay=1e-2, ema=0.995, seed=seed, evaluate=evaluate, every=images // 5,
    )  # fmt: skip
    if history.stopped:  # half a training makes no instrument
        raise KeyboardInterrupt
    return model, history["accuracy"][-1]


class _Features(nn.Sequential):
    num_features = 64  # what torchmetrics asks a feature extractor for


def _convolution(channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]
