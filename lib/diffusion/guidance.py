r"""Guidance: a second opinion on what the image should show bends the walk from noise to picture.

Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021 (arXiv:2105.05233), section 4: the
second opinion is $\nabla_{x_t} \log p(y \mid x_t)$, the gradient of a classifier that knows noisy images.

Ho and Salimans, "Classifier-Free Diffusion Guidance" (arXiv:2207.12598): it is the model's own, which is told of the
class in one answer and not in another.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lib.diffusion.ddpm import Model, answer
from lib.diffusion.process import GaussianDiffusion, like

Conditional = Callable[[Tensor, Tensor, Tensor], Tensor]


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


def classifier_free(model: Conditional, labels: Tensor, scale: float = 1.0, instead: Tensor | None = None) -> Model:
    r"""Equation (6)'s answer $(1 + w)\,\epsilon(x_t, y) - w\,\epsilon(x_t)$, in one call of the model for both.

    Guidance is linear, so the model may answer with noise, image or velocity.

    Args:
        model: images (B, ...), times (B,) and labels (B,), -1 for none, to (B, ...), as `UNet` with classes.
        labels: the wanted classes (B,), integers.
        scale: $w$; 0 is the model told of its class, -1 the one told of none. Many releases write $1 + w$ instead.
        instead: classes (B,) to walk away from, in place of no class at all: negative prompts.

    Returns:
        A callable (B, ...) and (B,) to (B, ...), for any sampler.

    Raises:
        ValueError: for labels that are not integers, a negative label among the wanted, or `instead` of another shape;
            when called, for images of another number.
    """
    if labels.ndim != 1 or labels.is_floating_point() or (labels < 0).any():
        raise ValueError(f"labels must be integers (B,) of at least 0, got {labels.dtype} {labels.tolist()}")
    others = torch.full_like(labels, -1) if instead is None else instead
    if others.shape != labels.shape or others.is_floating_point():
        wanted, got = tuple(labels.shape), f"{others.dtype} {tuple(others.shape)}"
        raise ValueError(f"instead must be integers {wanted}, one for each label, got {got}")
    both = torch.cat([labels, others])

    def guided(xt: Tensor, t: Tensor) -> Tensor:
        if len(xt) != len(labels):
            raise ValueError(f"labels must be one for each of the {len(xt)} images, got {len(labels)}")
        said = both.to(xt.device)
        told, untold = answer(lambda x, t: model(x, t, said), torch.cat([xt, xt]), torch.cat([t, t])).chunk(2)
        return told + scale * (told - untold)

    return guided


def drop_labels(labels: Tensor, share: float) -> Tensor:
    """Labels (B,) for a training step (Algorithm 1): each is replaced by -1, "no class", with probability `share`."""
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share!r}")
    return torch.where(torch.rand(labels.shape, device=labels.device) < share, -1, labels)


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
