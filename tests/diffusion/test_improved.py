from pathlib import Path

import numpy as np
import pytest
import torch

from lib.diffusion import GaussianDiffusion, cosine_betas, linear_betas
from lib.diffusion.ddpm import prior_term, vlb_terms
from lib.diffusion.improved import LossAwareSampler, hybrid_loss, learned_mean_variance, vlb_loss
from tests.waits import waits

REFERENCE = dict(np.load(Path(__file__).parents[1] / "reference" / "improved_guided.npz"))
PROCESSES = {"linear": GaussianDiffusion(linear_betas(1000)), "cosine": GaussianDiffusion(cosine_betas(1000))}


def reference(name):
    return torch.tensor(REFERENCE[name])


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("clip", [True, False])
def test_learned_variance_is_that_of_guided_diffusion(name, clip):
    xt, t, out = reference(f"{name}.xt"), reference("t"), reference("model_out")
    kind = f"{name}.clip{int(clip)}"
    mean, log_variance, x0 = learned_mean_variance(out, PROCESSES[name], xt, t, clip)
    for found, wanted in ((mean, "mean"), (log_variance, "log_variance"), (x0, "pred_xstart")):
        wanted = reference(f"{kind}.{wanted}")
        largest = max(1, wanted.abs().max().item())  # unclipped, an image of the last times runs into thousands
        assert torch.allclose(found, wanted, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("kind, weight", [("hybrid", None), ("hybrid_unscaled", 1.0)])
def test_hybrid_loss_and_its_gradient_are_those_of_guided_diffusion(name, kind, weight):
    out = reference("model_out").requires_grad_()
    t, noise = reference("t"), reference("noise")
    losses = hybrid_loss(lambda xt, t: out, PROCESSES[name], reference("x0"), t, noise, weight)
    losses["loss"].sum().backward()
    for found, wanted in ((losses["vlb"], "vb"), (losses["simple"], "mse"), (losses["loss"], "loss")):
        assert torch.allclose(found, reference(f"{name}.{kind}.{wanted}"), rtol=0, atol=1e-5)
    assert torch.allclose(out.grad, reference(f"{name}.{kind}.grad_model_out"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", PROCESSES)
def test_bound_and_its_gradient_are_those_of_guided_diffusion(name):
    process, out = PROCESSES[name], reference("model_out").requires_grad_()
    loss = vlb_loss(lambda xt, t: out, process, reference("x0"), reference("t"), reference("noise"))
    loss.sum().backward()
    for wanted, scale in (("vlb", 1), ("vlb_rescaled", process.T)):  # what is T times as large is T times as inexact
        for found, key in ((loss, "loss"), (out.grad, "grad_model_out")):
            expected = reference(f"{name}.{wanted}.{key}") / scale
            assert torch.allclose(found / process.T, expected, rtol=0, atol=1e-5)


def test_times_are_drawn_as_by_guided_diffusion():
    sampler = LossAwareSampler(4, history=3)
    t, losses = reference("resample_hist_t"), reference("resample_hist_loss")
    missing = next(n for n in range(len(t)) if all((t[: n + 1] == time).sum() >= 3 for time in range(4)))
    sampler.update(t[:missing], losses[:missing])
    cold = reference("resample_cold")
    assert torch.allclose(sampler.probabilities(), cold / cold.sum(), rtol=0, atol=1e-12)
    sampler.update(t[missing:], losses[missing:])
    warm = reference("resample_warm")
    assert torch.allclose(sampler.probabilities(), warm / warm.sum(), rtol=0, atol=1e-12)


def test_weighted_draws_keep_the_expectation():
    sampler, losses = LossAwareSampler(4, history=1), torch.tensor([8.0, 1.0, 0.5, 0.1])
    sampler.update(torch.arange(4), losses)
    t, weight = sampler.draw(4000, torch.Generator().manual_seed(0))
    assert t.bincount(minlength=4).float().div(4000).allclose(sampler.probabilities().float(), rtol=0, atol=0.03)
    assert (weight * losses[t]).mean().item() == pytest.approx(losses.mean().item(), rel=0.02)
    sampler.update(torch.arange(4), torch.zeros(4))
    assert torch.equal(sampler.probabilities(), torch.full((4,), 0.25, dtype=torch.float64))


def test_bad_input_of_the_sampler_is_named():
    for name, value in {"T": 0, "history": 0, "uniform": 1.5}.items():
        with pytest.raises(ValueError, match=f"{name} must .* got {value}"):
            LossAwareSampler(**({"T": 4} | {name: value}))
    sampler = LossAwareSampler(4)
    with pytest.raises(ValueError, match="losses must be finite"):
        sampler.update(torch.arange(2), torch.tensor([1.0, float("nan")]))
    with pytest.raises(ValueError, match=r"losses must be \(B,\) as t \(2,\), got \(3,\)"):
        sampler.update(torch.arange(2), torch.ones(3))
    with pytest.raises(ValueError, match="n must be an integer"):
        sampler.draw(0)


def test_the_bound_is_weighted_by_the_length_of_the_chain():
    short = GaussianDiffusion(linear_betas(100))
    t = reference("t") // 10
    given = (lambda xt, t: reference("model_out"), short, reference("x0"), t, reference("noise"))
    default, whole = hybrid_loss(*given), hybrid_loss(*given, vlb_weight=1.0)
    assert torch.allclose(default["vlb"], 0.1 * whole["vlb"]) and torch.equal(default["simple"], whole["simple"])


def test_bad_input_is_named():
    process, x0, t = PROCESSES["linear"], reference("x0"), reference("t")
    with pytest.raises(ValueError, match=r"^out must have twice the channels"):
        learned_mean_variance(x0, process, x0, t)
    with pytest.raises(ValueError, match=r"^x0 must be finite"):
        hybrid_loss(lambda xt, t: reference("model_out"), process, 2 + x0, t)
    with pytest.raises(ValueError, match=r"^t must be between"):
        hybrid_loss(lambda xt, t: reference("model_out"), process, x0, t + 1000)


def remembered(t, losses, history):
    """The latest losses of each time, by a list for each."""
    lists = [[] for _ in range(4)]
    for time, loss in zip(t.tolist(), losses.tolist()):
        lists[time] = [*lists[time], loss][-history:]
    return torch.tensor(lists, dtype=torch.float64)


def test_only_the_latest_losses_of_a_time_count():
    """Also where one batch holds more losses of a time than are remembered."""
    source = torch.Generator().manual_seed(0)
    sampler, history = LossAwareSampler(4, history=3, uniform=0.0), 3
    t = torch.cat([torch.arange(4).repeat(3), torch.randint(4, (60,), generator=source)])
    losses = torch.rand(72, generator=source)
    for part in torch.arange(72).split(24):
        sampler.update(t[part], losses[part])
    weight = remembered(t, losses, history).square().mean(1).sqrt()
    assert torch.allclose(sampler.probabilities(), weight / weight.sum(), rtol=0, atol=1e-12)


def test_losses_are_waited_for_once(monkeypatch):
    sampler, t, losses = LossAwareSampler(4), torch.tensor([1, 2, 2]), torch.ones(3)
    found = waits(lambda: sampler.update(t, losses), monkeypatch)
    assert [name for name in found if name != "index"] == ["cpu"]  # the table that is indexed lies on the CPU


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_bound_of_narrow_images_is_taken_in_float32(dtype):
    process, source = GaussianDiffusion(linear_betas(20)), torch.Generator().manual_seed(0)
    x0 = (torch.randint(256, (3, 1, 4, 4), generator=source) / 127.5 - 1).to(dtype)
    noise, t = torch.randn(x0.shape, generator=source).to(dtype), torch.tensor([0, 5, 19])

    def model(x, t):
        return torch.cat([0.9 * x, 0 * x + 0.3], dim=1)

    def found(x0, noise):
        terms = vlb_terms(model, process, x0, noise, variance="learned")
        losses = hybrid_loss(model, process, x0, t, noise)
        return [*terms.values(), *losses.values(), vlb_loss(model, process, x0, t, noise), prior_term(process, x0)]

    for narrow, wide in zip(found(x0, noise), found(x0.double(), noise.double())):
        assert narrow.dtype == torch.float32
        assert torch.allclose(narrow.double(), wide, rtol=1e-3, atol=1e-5)
