"""Schedules, steps and the U-Net of Hugging Face's diffusers, beside ours on the same numbers."""

import pytest
import torch

from lib.diffusion import GaussianDiffusion, UNet, cosine_betas, linear_betas, p_sample
from lib.diffusion.improved import learned_mean_variance
from tests.peers.unets import DiffusersUNet, count, same_random_weights

pytestmark = pytest.mark.slow  # importing diffusers takes seconds

SCHEDULES = {"linear": linear_betas(1000), "squaredcos_cap_v2": cosine_betas(1000)}


@pytest.fixture(params=SCHEDULES)
def schedulers(request):
    """Our process, and a function that makes their scheduler with the same betas."""
    from diffusers import DDPMScheduler

    def theirs(**options):
        return DDPMScheduler(1000, beta_schedule=request.param, **options)

    return GaussianDiffusion(SCHEDULES[request.param]), theirs


def exact(scheduler, process):
    """Their scheduler with tables in float64, which it otherwise has in float32."""
    scheduler.betas = scheduler.betas.double().copy_(process.betas)
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    return scheduler


def test_tables(schedulers):
    process, theirs = schedulers
    scheduler = theirs()
    assert torch.allclose(process.betas, scheduler.betas.double(), rtol=0, atol=1e-6)
    assert torch.allclose(process.alphas_bar, scheduler.alphas_cumprod.double(), rtol=0, atol=1e-6)
    for precise in (False, True):
        if precise:
            scheduler = exact(scheduler, process)
        variance = torch.stack([scheduler._get_variance(t) for t in range(1000)]).double()
        tolerance = 1e-15 if precise else 1e-6
        # They keep the variance of the first step, which is 0, above 1e-20.
        assert torch.allclose(process.posterior_variance, variance, rtol=0, atol=tolerance)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(("target", "prediction"), [("eps", "epsilon"), ("x0", "sample"), ("v", "v_prediction")])
def test_one_step_back(schedulers, variance, clip, target, prediction):
    process, theirs = schedulers
    options = {"variance_type": f"fixed_{variance}", "clip_sample": clip, "prediction_type": prediction}
    scheduler = exact(theirs(**options), process)
    generator = torch.Generator().manual_seed(0)
    x, answer = torch.randn(2, 4, 1, 5, 5, generator=generator).double()
    for t in (0, 1, 2, 10, 500, 998, 999):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
        wanted = scheduler.step(answer, t, x, generator=torch.Generator().manual_seed(t))
        prev, x0 = p_sample(lambda x, t: answer, process, x, torch.full((4,), t), noise, target, variance, clip)
        largest = max(1, wanted.pred_original_sample.abs().max().item())  # not clipped, it grows to thousands
        assert (x0 - wanted.pred_original_sample).abs().max() < 1e-6 * largest
        assert (prev - wanted.prev_sample).abs().max() < 1e-6 * largest


def twins(*shape):
    """Our U-Net and theirs, of the same shape and with the same random weights."""
    ours, theirs = UNet(*shape), DiffusersUNet(*shape)
    same_random_weights(ours, theirs)
    return ours.eval(), theirs.eval()


@pytest.mark.parametrize(
    "shape",
    [
        (3, 3, 32, (1, 2), 1, (8,), 0.0, 16),
        (1, 2, 32, (1, 2, 2), 2, (8,), 0.0, 16),
        (3, 3, 64, (1, 1), 1, (16, 8), 0.0, 16),
        (3, 3, 64, (1, 3), 2, (), 0.0, 8),
        (1, 1, 32, (1, 2), 2, (7,), 0.0, 28, 2),
    ],
    ids=str,
)
def test_the_unet_on_the_same_weights(shape):
    ours, theirs = twins(*shape)
    assert count(ours) == count(theirs)
    x = torch.randn(3, shape[0], shape[7], shape[7], generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0, 500, 999])
    with torch.no_grad():
        assert torch.allclose(ours(x, t), theirs(x, t), rtol=0, atol=1e-5)
        ours, theirs, x = ours.double(), theirs.double(), x.double()
        assert torch.allclose(ours(x, t), theirs(x, t), rtol=0, atol=1e-9)


def test_the_unet_has_the_same_gradients():
    ours, theirs = (model.double() for model in twins(3, 3, 64, (1, 2), 1, (8,), 0.0, 16))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    t = torch.tensor([3, 700])
    for model in (ours, theirs):
        model(x, t).square().mean().backward()
    gradients = {name: parameter.grad.flatten() for name, parameter in theirs.net.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter.grad.flatten(), gradients[theirs.renamed(name)], rtol=1e-6, atol=1e-9), name


@pytest.mark.parametrize("clip", [False, True])
def test_one_step_back_with_a_learned_variance(schedulers, clip):
    process, theirs = schedulers
    scheduler = exact(theirs(variance_type="learned_range", clip_sample=clip), process)
    generator = torch.Generator().manual_seed(0)
    x, eps, v = torch.randn(3, 4, 1, 5, 5, generator=generator).double()
    out = torch.cat([eps, v], dim=1)
    for t in (1, 2, 10, 500, 998, 999):  # at the first step they add noise of variance 1e-20 to a variance of 0
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
        wanted = scheduler.step(out, t, x, generator=torch.Generator().manual_seed(t))
        mean, log_variance, x0 = learned_mean_variance(out, process, x, torch.full((4,), t), clip)
        largest = max(1, wanted.pred_original_sample.abs().max().item())  # not clipped, it grows to thousands
        assert torch.allclose(x0, wanted.pred_original_sample, rtol=0, atol=1e-6 * largest)
        ours = mean + (0.5 * log_variance).exp() * noise
        assert torch.allclose(ours, wanted.prev_sample, rtol=0, atol=1e-6 * largest)
