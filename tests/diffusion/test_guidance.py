from pathlib import Path

import numpy as np
import pytest
import torch

from lib.diffusion import GaussianDiffusion, cosine_betas, linear_betas
from lib.diffusion.guidance import classifier_guided, gradient, guided_mean
from lib.diffusion.improved import learned_mean_variance

REFERENCE = dict(np.load(Path(__file__).parents[1] / "reference" / "improved_guided.npz"))
PROCESSES = {"linear": GaussianDiffusion(linear_betas(1000)), "cosine": GaussianDiffusion(cosine_betas(1000))}


def reference(name):
    return torch.tensor(REFERENCE[name])


def log_probability(x, t):
    """Its gradient is the one of the reference, 0.3 cos(x)."""
    return 0.3 * x.sin().flatten(1).sum(1)


def close(found, wanted):
    return torch.allclose(found, wanted, rtol=0, atol=1e-5 * max(1, wanted.abs().max().item()))


@pytest.mark.parametrize("name", PROCESSES)
def test_guided_mean_is_that_of_guided_diffusion(name):
    xt, t = reference(f"{name}.xt"), reference("t")
    mean, log_variance, _ = learned_mean_variance(reference("model_out"), PROCESSES[name], xt, t)
    assert close(guided_mean(mean, log_variance, gradient(log_probability, xt, t)), reference(f"{name}.cond_mean"))


@pytest.mark.parametrize("name", PROCESSES)
def test_guided_noise_is_that_of_guided_diffusion(name):
    process, xt, t = PROCESSES[name], reference(f"{name}.xt"), reference("t")
    _, _, clipped = learned_mean_variance(reference("model_out"), process, xt, t)
    eps = classifier_guided(lambda xt, t: process.eps_from_x0(xt, t, clipped), process, log_probability)(xt, t)
    x0 = process.x0_from_eps(xt, t, eps)
    assert close(x0, reference(f"{name}.cond_score_x0"))
    assert close(process.q_posterior(x0, xt, t)[0], reference(f"{name}.cond_score_mean"))


def test_gradient_agrees_with_differences_even_without_grad():
    x, t = (
        torch.randn(2, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
        torch.zeros(2).long(),
    )
    with torch.no_grad():
        found = gradient(log_probability, x, t)
        bump = torch.zeros_like(x)
        bump[1, 0, 0, 1] = 1e-5
        difference = (log_probability(x + bump, t) - log_probability(x - bump, t)) / 2e-5
    assert difference[0] == 0 and found[1, 0, 0, 1].item() == pytest.approx(difference[1].item(), abs=1e-9)


def test_guidance_of_a_gaussian_is_exact():
    """Data N(0, 1) seen through y = x0 + noise of variance 1: the guided noise is that of the posterior N(y/2, 1/2)."""
    process, y = PROCESSES["linear"], 1.5
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    t = torch.full((9,), 400)
    alpha = process.alphas_bar[400]

    def log_likelihood(x, t):  # p(y | x_t): x0 given x_t is N(sqrt(alpha) x_t, 1 - alpha)
        return -0.5 * (y - alpha.sqrt() * x[:, 0]) ** 2 / (2 - alpha)

    guided = classifier_guided(lambda x, t: (1 - alpha).sqrt() * x, process, log_likelihood)(x, t)
    variance = alpha / 2 + 1 - alpha  # of x_t where x0 follows the posterior
    assert torch.allclose(guided, (1 - alpha).sqrt() * (x - alpha.sqrt() * y / 2) / variance, rtol=0, atol=1e-12)


def test_scale_zero_leaves_the_model_and_bad_input_is_named():
    process, x, t = PROCESSES["linear"], torch.randn(3, 1, 4, 4), torch.tensor([0, 5, 999])
    assert torch.equal(classifier_guided(lambda x, t: 2 * x, process, log_probability, scale=0)(x, t), 2 * x)
    with pytest.raises(ValueError, match=r"log_probability must give one number an image, \(B,\), got \(3, 1, 4, 4\)"):
        gradient(lambda x, t: x, x, t)
    with pytest.raises(ValueError, match="slope must have the shape"):
        guided_mean(x, x, x[:1])
    with pytest.raises(ValueError, match="the model's answer must have the shape"):
        classifier_guided(lambda x, t: x[:1], process, log_probability)(x, t)
