"""DDIM's steps, walks and inversions of Hugging Face's diffusers, beside ours on the same numbers."""

import pytest
import torch

from lib.diffusion import GaussianDiffusion, cosine_betas, linear_betas
from lib.diffusion.ddim import ddim_step, invert, sample
from tests.peers.test_diffusers import exact

pytestmark = pytest.mark.slow  # importing diffusers takes seconds

SCHEDULES = {"linear": linear_betas(1000), "squaredcos_cap_v2": cosine_betas(1000)}
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


@pytest.fixture(params=SCHEDULES)
def peers(request):
    """Our process, and a function that makes one of their schedulers with the same tables."""
    process = GaussianDiffusion(SCHEDULES[request.param])

    def theirs(name="DDIMScheduler", **options):
        import diffusers

        scheduler = exact(getattr(diffusers, name)(1000, beta_schedule=request.param, **options), process)
        one = torch.tensor(1.0, dtype=torch.float64)
        if name == "DDIMScheduler":
            scheduler.final_alpha_cumprod = one
        else:
            scheduler.initial_alpha_cumprod = one
        return scheduler

    return process, theirs


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(x, t):
    """Without parameters: bounded, not linear, different at every time."""
    return (2 * x + torch.as_tensor(t).view(-1, *[1] * (x.ndim - 1))).sin()


@pytest.mark.parametrize("eta", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("eps_of_clipped", [False, True])
def test_one_step_back(peers, eta, clip, eps_of_clipped):
    process, theirs = peers
    scheduler = theirs(clip_sample=clip)
    scheduler.set_timesteps(50)
    xt, eps, noise = normal(3, 4, 1, 5, 5)
    for t in (0, 20, 500, 980):
        here = torch.full((4,), t)
        after, x0 = ddim_step(process, xt, here, (here - 20).clamp(min=-1), eps, eta, noise, clip, eps_of_clipped)
        wanted = scheduler.step(
            eps, t, xt, eta, use_clipped_model_output=eps_of_clipped, variance_noise=noise if eta else None
        )
        largest = max(1, wanted.pred_original_sample.abs().max().item())  # not clipped, it grows to thousands
        assert (x0 - wanted.pred_original_sample).abs().max() < 1e-6 * largest
        assert (after - wanted.prev_sample).abs().max() < 1e-6 * largest


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("target", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 10, 50])
def test_a_whole_walk(peers, spacing, target, steps):
    process, theirs = peers
    scheduler = theirs(clip_sample=True, timestep_spacing=spacing, prediction_type=PREDICTIONS[target])
    scheduler.set_timesteps(steps)
    start = x = normal(2, 1, 4, 4)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t), t, x, use_clipped_model_output=True).prev_sample
    ours = sample(model, process, start.shape, steps, start=start, target=target, spacing=spacing)
    assert torch.allclose(ours, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [10, 50])
def test_the_way_back_to_noise(peers, steps):
    process, theirs = peers
    scheduler = theirs("DDIMInverseScheduler", clip_sample=False)
    scheduler.set_timesteps(steps)
    x0 = x = normal(2, 1, 4, 4)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t), t, x).prev_sample
    assert torch.allclose(invert(model, process, x0, steps), x, rtol=1e-6, atol=1e-6)
