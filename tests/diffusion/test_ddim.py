from pathlib import Path

import numpy as np
import pytest
import torch

from lib.diffusion import GaussianDiffusion, linear_betas, p_sample
from lib.diffusion.ddim import ddim_step, strided_times

REFERENCE = Path(__file__).parents[1] / "reference"
STEPS = dict(np.load(REFERENCE / "sampler_steps.npz"))
SCHEDULES = dict(np.load(REFERENCE / "schedules.npz"))
process = GaussianDiffusion(linear_betas(1000))
x, eps, noise = (torch.tensor(STEPS[name]) for name in ("x", "eps", "ddim_noise"))


def times(*values):
    return torch.tensor(values)


@pytest.mark.parametrize("name", [name for name in STEPS if name.startswith(("ddim_leading_eta", "ddim_trailing"))])
def test_steps_are_those_of_diffusers(name):
    _, _, eta, kind, t = name.split("_")
    t = times(int(t), int(t))
    before = (t - 20).clamp(min=-1)
    if kind == "useclipped":
        after, _ = ddim_step(process, x, t, before, eps, float(eta[3:]), noise)
    else:
        clip = kind == "clip1"
        after, _ = ddim_step(process, x, t, before, eps, float(eta[3:]), noise, clip, eps_of_clipped=False)
    assert torch.allclose(after, torch.tensor(STEPS[name]), rtol=0, atol=1e-5)


def test_strided_times_are_those_of_the_releases():
    for name, spacing in (("guided_ddim50", "leading"), ("diffusers_ddim50_leading", "leading")):
        assert strided_times(1000, 50, spacing).tolist() == sorted(SCHEDULES[name])
    assert strided_times(1000, 50, "trailing").tolist() == sorted(SCHEDULES["diffusers_ddim50_trailing"])


@pytest.mark.parametrize("t", [1, 10, 500, 999])
@pytest.mark.parametrize("clip", [True, False])
def test_with_eta_1_neighbouring_steps_are_those_of_ddpm(t, clip):
    double = [tensor.double() for tensor in (x, eps, noise)]
    after, guess = ddim_step(process, double[0], times(t, t), times(t - 1, t - 1), double[1], 1.0, double[2], clip)
    wanted = p_sample(
        lambda xt, _: double[1], process, double[0], times(t, t), noise=double[2], variance="small", clip=clip
    )
    assert torch.allclose(after, wanted[0], rtol=1e-9, atol=1e-9) and torch.equal(guess, wanted[1])


def test_without_noise_neighbouring_steps_keep_the_marginals_of_a_gaussian():
    """For x0 ~ N(m, s^2) the best eps is linear in x_t, so a step is a straight line: q(x_t) goes to q(x_{t-1})."""
    m, s = 0.3, 0.5
    here = torch.tensor([[-1.0], [2.0]], dtype=torch.float64)  # two points tell where a straight line goes
    for t in (900, 500, 400, 50):
        signal, spread = (factor.item() for factor in process.signal_and_spread(times(t), here[:1]))
        width = (signal**2 * s**2 + spread**2) ** 0.5
        best = spread * (here - signal * m) / width**2
        after, _ = ddim_step(process, here, times(t, t), times(t - 1, t - 1), best, clip=False)
        then = process.alphas_bar[t - 1].item()
        slope = ((after[1] - after[0]) / (here[1] - here[0])).item()
        assert after[0].item() + slope * (signal * m + 1) == pytest.approx(then**0.5 * m, rel=1e-9)
        assert slope * width == pytest.approx((then * s**2 + 1 - then) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"eta": 1.5}, "^eta must lie in"),
        ({"eta": float("nan")}, "^eta must lie in"),
        ({"before": times(20, 20)}, "^before must hold times"),
        ({"before": times(-2, 0)}, "^before must hold times"),
        ({"before": times(3)}, "^before must hold times"),
        ({"t": times(20, 1000)}, "^t must lie"),
        ({"eps": eps[:1]}, "^eps must have the shape"),
        ({"noise": noise[:1]}, "^noise must have the shape"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"xt": x, "t": times(20, 20), "before": times(0, 0), "eps": eps, **change}
    with pytest.raises(ValueError, match=message):
        ddim_step(process, **given)


@pytest.mark.parametrize("arguments, name", [((10, 0), "steps"), ((10, 11), "steps"), ((10, 5, "quad"), "spacing")])
def test_bad_strides_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must"):
        strided_times(*arguments)
