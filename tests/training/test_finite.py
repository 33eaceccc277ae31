"""Weights that stop being numbers while the loss is one: neither stored nor averaged nor returned."""

import math

import pytest
import torch
from torch import nn

from lib.training import NonFiniteLoss, NonFiniteWeights, fit
from lib.training.checkpoint import read

SETTINGS = {"images": 320, "batch_size": 16, "every": 80, "clip": 1.0, "ema": 0.9, "precision": "no", "show": False}


class BadGradient(torch.autograd.Function):
    """Stands for a root at 0, 0/0 in a loss of boxes: the value is right, its gradient no number."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * math.nan


def bad_at(step, spoil=BadGradient.apply):
    calls = []

    def loss(model, x):
        calls.append(1)
        value = (model(x) - x).square().mean()
        return spoil(value) if len(calls) == step else value

    return loss


@pytest.fixture
def data():
    return torch.rand(64, 5, generator=torch.Generator().manual_seed(0))


def test_no_training_ends_with_weights_that_are_none(data):
    model = nn.Linear(5, 5)
    with pytest.raises(NonFiniteWeights, match=r"by step 20 \(image 320\), though the loss was one: weight, bias\. "):
        fit(model, bad_at(20), data, **SETTINGS)


def test_a_good_checkpoint_is_not_replaced(data, tmp_path):
    path = tmp_path / "run.safetensors"
    seen = []
    with pytest.raises(NonFiniteWeights, match=r"by step 10 \(image 160\)"):
        fit(nn.Linear(5, 5), bad_at(10), data, checkpoint=path, evaluate=lambda model: seen.append(1), **SETTINGS)
    assert len(seen) == 1  # nor is it judged
    assert all(tensor.isfinite().all() for tensor in read(path)[0].values() if tensor.is_floating_point())
    assert fit(nn.Linear(5, 5), bad_at(None), data, checkpoint=path, **SETTINGS).records[-1]["step"] == 20


def test_between_two_pauses_the_next_loss_tells(data):
    with pytest.raises(NonFiniteLoss, match=r"at step 8 \(image 128\): loss = nan"):
        fit(nn.Linear(5, 5), bad_at(7), data, **SETTINGS)


def test_an_average_that_met_a_bad_number_is_not_kept(data):
    """A buffer is spoilt for one step and mended in the next: the weights are fine again, their average never."""

    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(5, 5)
            self.register_buffer("scale", torch.ones(()))

    def loss(model, x):
        calls.append(1)
        model.scale.fill_(math.inf if len(calls) == 7 else 1.0)
        return (model(x) - x).square().mean()

    calls = []
    with pytest.raises(NonFiniteWeights, match=r"by step 10 \(image 160\), though the loss was one: scale\. "):
        fit(Counting(), loss, data, **SETTINGS)


def test_a_mask_may_be_infinite_but_a_weight_may_not(data):
    model = nn.Linear(5, 5)
    model.register_buffer("mask", torch.full((2, 2), -math.inf))
    assert len(fit(model, bad_at(None), data, **SETTINGS).records) == 20
    with torch.no_grad():
        model.bias[2] = math.nan
    with pytest.raises(ValueError, match=r"^model must have finite weights, got infinite ones or no numbers in bias$"):
        fit(model, bad_at(None), data, **SETTINGS)


def test_an_interruption_does_not_return_them_either(data):
    def interrupted(model, x):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return (BadGradient.apply if len(calls) == 7 else torch.clone)((model(x) - x).square().mean())

    calls = []
    with pytest.raises(NonFiniteWeights, match=r"by step 7 \(image 112\)"):
        fit(nn.Linear(5, 5), interrupted, data, **SETTINGS)
