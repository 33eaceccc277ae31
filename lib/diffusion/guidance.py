r"""Guidance: a second opinion on what the image should show bends the walk from noise to picture.

Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021 (arXiv:2105.05233), section 4. The
second opinion is $\nabla_{x_t} \log p(y \mid x_t)$, the gradient of a classifier that knows noisy images.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lib.diffusion.ddpm import Model, answer
from lib.diffusion.process import GaussianDiffusion, like


def classifier_guided(
    model: Model, process: GaussianDiffusion, log_probability: Callable[[Tensor, Tensor], Tensor], scale: float = 1.0
) -> Model:
    r"""Algorithm 2's noise $\hat\epsilon = \epsilon - s\sqrt{1-\bar\alpha_t}\,\nabla_{x_t}\log p(y \mid x_t)$.

    Args:
        model: predicts the noise, (B, ...) and (B,) to (B, ...).
        log_probability: $\log p(y \mid x_t)$ of what is wanted, for images (B, ...) and times (B,): (B,).
        scale: $s$; 0 leaves the model as it is.

    Returns:
        A callable like `model`, for any sampler.
    """

    def guided(xt: Tensor, t: Tensor) -> Tensor:
        _, spread = process.signal_and_spread(t, xt)
        return answer(model, xt, t) - scale * spread * gradient(log_probability, xt, t)

    return guided


def guided_mean(mean: Tensor, log_variance: Tensor, slope: Tensor, scale: float = 1.0) -> Tensor:
    r"""The mean of a guided ancestral step, $\mu + s\,\Sigma\,\nabla_{x_t}\log p(y \mid x_t)$ (Algorithm 1).

    `mean` and `slope` are (B, ...); `log_variance` broadcasts to them.
    """
    return mean + scale * log_variance.exp() * like(mean, slope, "slope")


def gradient(log_probability: Callable[[Tensor, Tensor], Tensor], xt: Tensor, t: Tensor) -> Tensor:
    r"""$\nabla_{x_t}\log p(y \mid x_t)$, shaped as `xt`, also where gradients are switched off around it."""
    with torch.enable_grad():
        xt = xt.detach().requires_grad_()
        found = log_probability(xt, t)
        if found.shape != t.shape:
            raise ValueError(f"log_probability must give one number an image, (B,), got {tuple(found.shape)}")
        return torch.autograd.grad(found.sum(), xt)[0]
