import pytest
import torch
from torch import nn

from lib.training import classifier as module
from lib.training import load_mnist, metrics


@pytest.fixture
def digits():
    """2,000 real digits with their labels."""
    images, labels = load_mnist("test")
    return images[:2000], labels[:2000]


@pytest.fixture
def classifier():
    """A function that makes the same small network with noise inside (dropout) and batch statistics, each time anew."""

    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(
                nn.Flatten(), nn.Linear(784, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
            )

    return make


@pytest.fixture
def apple(without_float64):
    """A device without float64, to which no real images and no classifier have come before."""
    caches = (metrics._against_test_images, module._loaded)
    for cache in caches:
        cache.cache_clear()
    yield without_float64
    for cache in caches:
        cache.cache_clear()
