"""Nothing in a step of `fit` reads a number from the device: a GPU would stand still for it."""

import pytest
import torch
from torch import nn

from lib.training import EMA, fit
from lib.training.fit import batches
from tests.waits import Waits


def waits(steps, every, loss=lambda model, x: model(x).square().mean(), **options):
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 1))
    settings = {"images": 8 * steps, "batch_size": 8, "every": 8 * every, "show": False, "precision": "no"}
    with Waits() as found:
        history = fit(model, loss, torch.rand(16, 2), **settings, **options)
    return len(found.found), len(history.records)


@pytest.mark.parametrize("options", [{}, {"ema": 0.9, "clip": 1.0, "weight_decay": 0.1}, {"schedule": "onecycle"}])
def test_steps_do_not_wait(options):
    """Each training has 200 records and a pause at the end: more steps between them, no more waits."""
    found = [waits(steps, steps, **options) for steps in (200, 400, 1000)]
    assert [records for _, records in found] == [200] * 3
    assert len({count for count, _ in found}) == 1


def test_a_step_that_waits_would_be_seen():
    def waiting(model, x):
        value = model(x).square().mean()
        return value * (1 + 0 * value.item())

    assert waits(400, 400, waiting)[0] - waits(200, 200, waiting)[0] == 200


def test_a_pause_and_a_record_wait_a_fixed_number_of_times():
    """A record reads its losses once, and a pause the weights once, however many there are."""
    (few, _), (many, _) = waits(200, 200), waits(200, 20)
    assert few <= 3 * 200 and many - few <= 9 * 3


def test_average_and_order_do_not_wait():
    average, order = EMA(nn.Linear(2, 1), 0.9), batches(8, 2, 0)
    with Waits() as found:
        for _ in range(20):
            average.update()
            next(order)
    assert not found.found
