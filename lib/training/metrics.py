"""How good a set of drawn digits is: judged by a classifier that no model of the book has seen.

The Fréchet distance is that of Heusel et al., "GANs trained by a two time-scale update rule", NIPS 2017, eq.
(6), on the 64 features of `classifier.digit_classifier` instead of Inception's: an FID that knows digits. Its
values compare with one another, never with an FID of photographs, and only at equal numbers of samples: fewer
make it larger.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lib.checks import check_integers
from lib.training.classifier import digit_classifier, stored
from lib.training.data import load_mnist
from lib.training.devices import check_device, has_float64
from lib.training.fit import default_device

if TYPE_CHECKING:  # torchmetrics takes as long to import as torch: only who measures waits for it
    from torchmetrics.image.fid import FrechetInceptionDistance

PART = 500  # images that go through the classifier at once
SUMS = ("real_features_sum", "real_features_cov_sum", "real_features_num_samples")
LEAST_IMAGES = 65  # fewer than 65 images cannot span 64 features, and their covariance says nothing


def frechet_distance(
    samples: Tensor, reference: Tensor | None = None, device: str | torch.device | None = None
) -> float:
    r"""$\Vert\mu_1 - \mu_2\Vert^2 + \mathrm{tr}(C_1 + C_2 - 2(C_1C_2)^{1/2})$ of two sets of digits.

    $\mu$ and $C$ are mean and covariance of the classifier's features; 0 means that both are equal.

    Args:
        samples: images (N, 1, 28, 28) in [0, 1], at least 65.
        reference: the images to compare with, by default the 10,000 test images of MNIST, whose sums are stored.
        device: where to compute, by default where `fit` trains. The sums are float64; where the device has no such
            numbers, only the features are computed there and the rest on the CPU.

    Raises:
        ValueError: for another shape, too few images, or a pixel outside [0, 1].
    """
    _check("samples", samples, LEAST_IMAGES)
    device = check_device(device) if device is not None else default_device()
    if reference is None:
        metric = _against_test_images(device)
    else:
        _check("reference", reference, LEAST_IMAGES)
        metric = _metric(digit_classifier(device).features, device, reference)
    metric.reset()
    _update(metric, samples, real=False)
    return max(metric.compute().item(), 0.0)  # two equal sets may end a rounding error below


@torch.no_grad()
def digit_statistics(
    samples: Tensor, labels: Tensor | None = None, device: str | torch.device | None = None
) -> dict[str, float]:
    r"""What the classifier sees in images (N, 1, 28, 28) in [0, 1].

    Returns:
        "confidence": the mean probability of the likeliest class, near 1 where every image is a clear digit.
        "class_entropy": entropy, in nats, of how often each class is the likeliest: $\log 10 = 2.30$ where
            all ten digits are equally frequent, 0 where all images are the same digit.
        "accuracy": with `labels`, integers (N,) from 0 to 9, the share of images that the classifier reads as labelled.

    Raises:
        ValueError: for another shape, a pixel outside [0, 1], or labels that do not fit.
    """
    _check("samples", samples, 1)
    if labels is not None:
        labels = _checked_labels(labels, len(samples))
    from torchmetrics import MeanMetric
    from torchmetrics.classification import MulticlassAccuracy

    device = check_device(device) if device is not None else default_device()
    classifier = digit_classifier(device)
    logits = torch.cat([classifier(part.to(device).float()) for part in samples.split(PART)])
    confidence, guesses = logits.softmax(1).max(1)
    mean = MeanMetric(sync_on_compute=False).to(device)
    statistics = {"confidence": mean(confidence).item()}
    shares = guesses.bincount(minlength=10) / len(guesses)
    statistics["class_entropy"] = torch.special.entr(shares).sum().item()
    if labels is not None:
        accuracy = MulticlassAccuracy(10, average="micro", sync_on_compute=False).to(device)
        statistics["accuracy"] = accuracy(guesses, labels.to(device)).item()
    return statistics


def sums_over_test_images(features: nn.Module) -> dict[str, Tensor]:
    """What the Fréchet distance must know of the 10,000 test images under `features`; shipped with the classifier."""
    metric = _metric(features, next(features.parameters()).device, load_mnist("test").images)
    return {f"test.{name}": getattr(metric, name) for name in SUMS}


@lru_cache
def _against_test_images(device: torch.device) -> FrechetInceptionDistance:
    metric = _metric(digit_classifier(device).features, device)
    for name in SUMS:
        setattr(metric, name, stored()[f"test.{name}"].to(metric.device))
    return metric


class _BroughtBack(nn.Module):
    """Features computed on a device and brought back to the CPU, where float64 is."""

    def __init__(self, features: nn.Module, device: torch.device):
        super().__init__()
        self.features = features
        self.device = device
        self.num_features = features.num_features  # what torchmetrics asks for

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, n) of images (B, 1, 28, 28)."""
        return self.features(images.to(self.device)).cpu()


def _metric(features: nn.Module, device: torch.device, reference: Tensor | None = None) -> FrechetInceptionDistance:
    """torchmetrics' Fréchet distance on `features`, its sums in float64, which has seen the reference images.

    Each process computes for itself (`sync_on_compute`), since only the first of several evaluates.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    at_home = has_float64(device)
    features = features if at_home else _BroughtBack(features, device)
    metric = FrechetInceptionDistance(features, reset_real_features=False, sync_on_compute=False)
    if at_home:
        metric.to(device)
    if reference is not None:
        _update(metric, reference, real=True)
    return metric


@torch.no_grad()
def _update(metric: FrechetInceptionDistance, images: Tensor, real: bool) -> None:
    for part in images.split(PART):
        metric.update(part.to(metric.device).float(), real=real)


def _check(name: str, images: Tensor, least: int) -> None:
    if not isinstance(images, Tensor) or images.dim() != 4 or tuple(images.shape[1:]) != (1, 28, 28):
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"{name} must be a tensor (N, 1, 28, 28), got {got}")
    if len(images) < least:
        raise ValueError(f"{name} must hold at least {least} images, got {len(images)}")
    if not images.is_floating_point() or not ((images >= 0) & (images <= 1)).all():  # a NaN fails too
        raise ValueError(f"{name} must be real numbers in [0, 1], got others, or {images.dtype}")


def _checked_labels(labels: Tensor, count: int) -> Tensor:
    """The labels as int64 on the CPU."""
    labels = check_integers("labels", labels.cpu() if isinstance(labels, Tensor) else labels, 0, 9)
    if tuple(labels.shape) != (count,):
        raise ValueError(f"labels must be ({count},), one per image, got {tuple(labels.shape)}")
    return labels
