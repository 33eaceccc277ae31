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
def apple(monkeypatch):
    """A device without float64, as Apple's GPUs are: moving such numbers there raises, all else stays on the CPU."""
    real = torch.Tensor.to

    def there(place):
        return isinstance(place, str | torch.device) and str(place).startswith("mps")

    def to(self, *args, **options):
        if there(options.get("device")) or any(map(there, args)):
            kinds = [kind for kind in (*args, options.get("dtype")) if isinstance(kind, torch.dtype)]
            if torch.float64 in (kinds or [self.dtype]):
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it")
            args = tuple("cpu" if there(place) else place for place in args)
            options = {name: value for name, value in options.items() if name != "device"}
        return real(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", to)
    caches = (metrics._against_test_images, module._loaded)
    for cache in caches:
        cache.cache_clear()
    yield torch.device("mps")
    for cache in caches:
        cache.cache_clear()
