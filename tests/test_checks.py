"""Arguments are refused with their name, what came and what was wanted."""

import numpy as np
import pytest
import torch

from lib.checks import check_count, check_integers, check_option


def test_counts_that_pass():
    check_count(a=1, b=np.int64(7))
    check_count(0, 3, first=0, last=3)


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, True, "3", None, float("nan")])
def test_counts_refused(value):
    with pytest.raises(ValueError, match=f"depth must be an integer of at least 1, got {value!r}"):
        check_count(width=4, depth=value)


@pytest.mark.parametrize("value", [-1, 4, 3.0, False])
def test_counts_outside_their_range(value):
    with pytest.raises(ValueError, match=f"step must be an integer from 0 to 3, got {value!r}"):
        check_count(0, 3, step=value)


def test_options():
    check_option("target", "eps", ("eps", "x0"))
    with pytest.raises(ValueError, match="target must be one of eps, x0, got 'noise'"):
        check_option("target", "noise", ("eps", "x0"))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.uint8])
def test_integers_without_a_sign_are_integers(dtype):
    found = check_integers("words", torch.tensor([3, 7]).to(dtype), 0, 9)
    assert found.dtype == torch.int64 and found.tolist() == [3, 7]
    with pytest.raises(ValueError, match="words must be between 0 and 5, got values from 3 to 7"):
        check_integers("words", found.to(dtype), 0, 5)


def test_integers_that_int64_does_not_hold_are_refused():
    huge = torch.tensor([-1]).view(torch.uint64)
    for low in (None, 0, -5):
        with pytest.raises(ValueError, match="words must be"):
            check_integers("words", huge, low)
