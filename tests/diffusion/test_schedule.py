"""The noise schedules against three implementations, and against their own definitions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.diffusion import cosine_betas, linear_betas

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "schedules.npz")


@pytest.mark.parametrize(
    ("name", "betas", "tolerance"),
    [
        ("guided_linear_1000", linear_betas(1000), 1e-9),
        ("guided_linear_100", linear_betas(100, 1e-3, 0.2), 1e-9),  # for other T their ends are scaled by 1000 / T
        ("guided_cosine_50", cosine_betas(50), 1e-9),
        ("guided_cosine_1000", cosine_betas(1000), 1e-9),
        ("guided_cosine_4000", cosine_betas(4000), 1e-9),
        ("ldm_cosine_1000", cosine_betas(1000), 1e-9),
        ("ldm_linear_1000", linear_betas(1000, 0.00085**0.5, 0.012**0.5).square(), 1e-9),  # straight in its root
        ("diffusers_linear_1000", linear_betas(1000), 1e-6),  # float32
        ("diffusers_squaredcos_cap_v2_1000", cosine_betas(1000), 1e-6),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_equals_the_reference(name, betas, tolerance):
    assert betas.dtype == torch.float64
    wanted = torch.tensor(REFERENCE[f"{name}.betas"], dtype=torch.float64)
    assert torch.allclose(betas, wanted, rtol=0, atol=tolerance)


@given(st.integers(1, 300), st.floats(1e-6, 0.5), st.floats(0, 0.4))
def test_linear_is_a_straight_line(T, start, more):
    betas = linear_betas(T, start, start + more)
    assert betas.shape == (T,) and betas[0] == start
    if T > 1:
        assert betas[-1] == start + more
        assert torch.allclose(betas.diff(), torch.full((T - 1,), more / (T - 1), dtype=torch.float64), atol=1e-12)


@given(st.integers(1, 300), st.floats(0, 0.2))
def test_cosine_makes_alphas_bar_follow_the_cosine(T, s):
    betas = cosine_betas(T, s)
    assert betas.shape == (T,) and (betas > 0).all() and betas[-1] == 0.999
    kept = (1 - betas).cumprod(0)[:-1]  # the last beta is cut
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    assert torch.allclose(kept, torch.tensor(f[1:-1], dtype=torch.float64) / f[0], rtol=1e-9, atol=1e-12)


def test_cosine_cuts_its_steps_where_told():
    assert torch.equal(cosine_betas(20, max_beta=0.3), cosine_betas(20).clamp(max=0.3))


@pytest.mark.parametrize("schedule", [linear_betas, cosine_betas])
@pytest.mark.parametrize("T", [0, -1, 10.0, True, None])
def test_bad_numbers_of_steps_are_named(schedule, T):
    with pytest.raises(ValueError, match=f"T must be an integer of at least 1, got {T!r}"):
        schedule(T)


@pytest.mark.parametrize("ends", [(0, 0.02), (-0.1, 0.02), (0.02, 1e-4), (0.1, 1)])
def test_bad_ends_are_named(ends):
    message = f"start and end must satisfy 0 < start <= end < 1, got start={ends[0]!r} and end={ends[1]!r}"
    with pytest.raises(ValueError, match=message):
        linear_betas(10, *ends)


@pytest.mark.parametrize(("ends", "name"), [((math.nan, 0.02), "start"), ((1e-4, math.nan), "end")])
def test_ends_that_are_no_numbers_are_named(ends, name):
    with pytest.raises(ValueError, match=f"^{name} must be a finite number"):
        linear_betas(10, *ends)


@pytest.mark.parametrize("s", [-0.1, math.nan, math.inf])
def test_a_bad_offset_is_named(s):
    with pytest.raises(ValueError, match=r"^s must be a finite number, at least 0, got"):
        cosine_betas(10, s)


@pytest.mark.parametrize("max_beta", [0, 1, -0.5, 1.5, math.nan])
def test_a_bad_largest_step_is_named(max_beta):
    with pytest.raises(ValueError, match=r"^max_beta must (lie between 0 and 1|be a finite number), got"):
        cosine_betas(10, max_beta=max_beta)
