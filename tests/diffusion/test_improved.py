from pathlib import Path

import numpy as np
import pytest
import torch

from lib.diffusion import GaussianDiffusion, cosine_betas, linear_betas
from lib.diffusion.improved import hybrid_loss, learned_mean_variance

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
    with pytest.raises(ValueError, match=r"^t must lie"):
        hybrid_loss(lambda xt, t: reference("model_out"), process, x0, t + 1000)
