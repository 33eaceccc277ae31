import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR

from lib.training import learning_rate

SCHEDULES = ("constant", "cosine", "onecycle")


def rates(steps, peak, schedule, warmup):
    return [learning_rate(step, steps, peak, schedule, warmup) for step in range(1, steps + 1)]


def torch_rates(steps, make):
    """The rates of the steps under one of torch's own schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler, found = make(optimizer), [optimizer.param_groups[0]["lr"]]
    for _ in range(steps - 1):
        optimizer.step()
        with warnings.catch_warnings():  # SequentialLR calls its parts in a way that torch itself deprecates
            warnings.simplefilter("ignore")
            scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("steps", [10, 37, 200])
@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.3, 0.55])
def test_onecycle_is_torchs(steps, warmup):
    expected = torch_rates(steps, lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=steps, pct_start=warmup))
    assert rates(steps, 0.1, "onecycle", warmup) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("steps", [10, 40, 200])
def test_warm_up_then_constant_or_cosine_is_torchs(schedule, steps):
    rising = round(0.1 * steps)

    def make(optimizer):
        first = LinearLR(optimizer, 1 / (rising + 1), 1.0, total_iters=rising)
        if schedule == "constant":
            return SequentialLR(optimizer, [first, ConstantLR(optimizer, 1.0)], [rising])
        return SequentialLR(optimizer, [first, CosineAnnealingLR(optimizer, steps - rising)], [rising])

    assert rates(steps, 0.1, schedule, 0.1) == pytest.approx(torch_rates(steps, make), rel=1e-9)


@given(st.sampled_from(SCHEDULES), st.integers(1, 300), st.floats(0, 0.99), st.floats(1e-6, 10))
def test_rises_once_then_never_again_and_stays_in_bounds(schedule, steps, warmup, peak):
    course = rates(steps, peak, schedule, warmup)
    top = course.index(max(course))
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in course)
    assert course[: top + 1] == sorted(course[: top + 1])
    assert course[top:] == sorted(course[top:], reverse=True)


@given(st.sampled_from(SCHEDULES), st.integers(20, 300))
def test_reaches_its_peak(schedule, steps):
    assert max(rates(steps, 2.0, schedule, 0.2)) == pytest.approx(2.0, rel=0.1)
    if schedule == "constant":
        assert rates(steps, 2.0, schedule, 0.2)[-1] == 2.0
    else:
        assert rates(steps, 2.0, schedule, 0.2)[-1] < 0.02 * 2.0
