r"""How much noise each step adds, the $\beta_t$ of the linear and the cosine schedule; which steps a short walk takes.

Linear: Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (arXiv:2006.11239), section 4.
Cosine: Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", ICML 2021 (arXiv:2102.09672),
section 3.2, equation (17).

All are made on the CPU, whatever the default device: it may have no float64, or no numbers.
"""

import math

import torch
from torch import Tensor

from lib.checks import check_count, check_number, check_option

SPACINGS = ("leading", "trailing", "linspace")


def linear_betas(T: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    r"""$\beta_1, \dots, \beta_T$ on a straight line from `start` to `end`: (T,), float64.

    Raises `ValueError` unless `T` is a positive integer and 0 < start <= end < 1.
    """
    check_count(T=T)
    check_number(start=start, end=end)
    if not 0 < start <= end < 1:
        raise ValueError(f"start and end must satisfy 0 < start <= end < 1, got start={start!r} and end={end!r}")
    return torch.linspace(start, end, T, dtype=torch.float64, device="cpu")


def cosine_betas(T: int, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    r"""The $\beta_t$ that make $\bar\alpha_t$ follow $\cos^2\big(\frac{t/T+s}{1+s}\cdot\frac\pi2\big)$: (T,), float64.

    Args:
        T: number of steps.
        s: keeps the first $\beta$ from being tiny; at least 0.
        max_beta: the last step would have $\beta_T = 1$, and is cut to this value, between 0 and 1.

    Raises:
        ValueError: for an argument outside these ranges.
    """
    check_count(T=T)
    check_number(0, s=s)
    check_number(max_beta=max_beta)
    if not 0 < max_beta < 1:
        raise ValueError(f"max_beta must lie between 0 and 1, got {max_beta!r}")
    time = torch.linspace(0, 1, T + 1, dtype=torch.float64, device="cpu")
    alphas_bar = ((time + s) / (1 + s) * math.pi / 2).cos().square()
    return (1 - alphas_bar[1:] / alphas_bar[:-1]).clamp(max=max_beta)


def times(T: int, n: int, spacing: str = "leading") -> Tensor:
    r"""`n` of the times 0 ... T - 1, rising, int64 (n,).

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", WACV 2024 (arXiv:2305.08891), table 2.

    Args:
        T: times of the whole chain.
        n: how many to take.
        spacing: "leading" takes the first of each of `n` parts of the chain: 0, T/n, 2T/n, ..., rounded down, as DDIM's
            authors do where T/n is whole. "trailing" takes the last of each part and ends at T - 1, so that a walk
            begins where nothing but noise is left. "linspace" spreads them evenly from 0 to T - 1; a single one is
            T - 1.

    Raises:
        ValueError: for a `T` below 1, `n` not in 1 ... T, or another spacing.
    """
    check_count(T=T)
    check_count(1, T, n=n)
    check_option("spacing", spacing, SPACINGS)
    if spacing == "leading":
        return torch.arange(n, device="cpu") * T // n
    if spacing == "trailing":
        return torch.tensor([math.ceil(T - i * T / n - 0.5) - 1 for i in reversed(range(n))], device="cpu")
    evenly = torch.linspace(0, T - 1, n, dtype=torch.float64, device="cpu").round().long()
    return evenly if n > 1 else evenly + T - 1
