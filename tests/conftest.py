"""Settings of every test run, and a device that several folders need."""

import os

import pytest
import torch
from hypothesis import settings

# The machine may be busy with other tests: how long an example takes says nothing.
settings.register_profile("book", deadline=None)
settings.load_profile("book")

os.environ["BOOK_FINDINGS_MUST_HOLD"] = "1"  # a sentence that `told` or `finding` finds untrue fails


@pytest.fixture
def without_float64(monkeypatch):
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
    return torch.device("mps")
