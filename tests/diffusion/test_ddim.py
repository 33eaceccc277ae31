"""Steps against reference vectors; walks against a mixture whose way from noise to data is known exactly."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal

from lib.diffusion import GaussianDiffusion, cosine_betas, ddpm, linear_betas, p_sample, schedule
from lib.diffusion.ddim import ddim_step, invert, sample, slerp, trajectory
from lib.diffusion.score import GaussianMixture, eps_from_score

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


def test_the_times_are_those_of_the_releases():
    for name, spacing in (("guided_ddim50", "leading"), ("diffusers_ddim50_leading", "leading")):
        assert schedule.times(1000, 50, spacing).tolist() == sorted(SCHEDULES[name])
    assert schedule.times(1000, 50, "trailing").tolist() == sorted(SCHEDULES["diffusers_ddim50_trailing"])


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
        ({"eta": 1.5}, "^eta must be a finite number, at least 0 and at most 1"),
        ({"eta": float("nan")}, "^eta must be a finite number, at least 0 and at most 1"),
        ({"before": times(20, 20)}, "^before must hold times"),
        ({"before": times(-2, 0)}, "^before must be at least -1"),
        ({"before": times(3)}, "^before must hold times"),
        ({"t": times(20, 1000)}, "^t must be between 0 and 999"),
        ({"eps": eps[:1]}, "^eps must have the shape"),
        ({"noise": noise[:1]}, "^noise must have the shape"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"xt": x, "t": times(20, 20), "before": times(0, 0), "eps": eps, **change}
    with pytest.raises(ValueError, match=message):
        ddim_step(process, **given)


@pytest.mark.parametrize("arguments, name", [((10, 0), "n"), ((10, 11), "n"), ((10, 5, "quad"), "spacing")])
def test_bad_strides_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must"):
        schedule.times(*arguments)


# Walks


MIXTURE = GaussianMixture(*(torch.tensor(v).double() for v in ([0.3, 0.7], [[-0.6], [0.5]], [0.1, 0.2])))
exact = eps_from_score(MIXTURE.score, process)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed)).double()


def share_below(x, alpha_bar=1.0):
    """The distribution function of the mixture's x_t, or of its x_0, at points (B, 1)."""
    means, stds = alpha_bar**0.5 * MIXTURE.means[:, 0], (alpha_bar * MIXTURE.stds**2 + 1 - alpha_bar).sqrt()
    return Normal(means, stds).cdf(x) @ MIXTURE.weights


def wavy(x, t):
    """A model without parameters: bounded, not linear, different at every time."""
    return (2 * x + t.view(-1, *[1] * (x.ndim - 1))).sin()


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_without_noise_each_point_keeps_its_place_in_the_order(spacing):
    """On a line the walk cannot overtake: a start with a share u below it ends where the data has u below it."""
    start = normal(200, 1)
    missed = []
    for steps in (50, 1000):
        end = sample(exact, process, (200, 1), steps, start=start, clip=False, spacing=spacing)
        top = schedule.times(1000, steps, spacing)[-1]
        missed.append((share_below(end) - share_below(start, process.alphas_bar[top])).abs().max().item())
    assert missed[1] < 0.002 and missed[1] < missed[0] / 10  # Euler's method: a twentieth of the step


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_samples_of_a_mixture_have_its_mean_its_variance_and_its_modes(eta):
    n = 10_000
    x = sample(exact, process, (n, 1), 250, eta, generator=generator(), clip=False).double()
    mean = (MIXTURE.weights @ MIXTURE.means).item()
    variance = (MIXTURE.weights @ (MIXTURE.stds**2 + MIXTURE.means[:, 0] ** 2)).item() - mean**2
    left = share_below(torch.zeros(1, 1)).item()
    slack = 0.005  # what 250 steps cost; beside it five standard errors
    assert abs(x.mean().item() - mean) < 5 * math.sqrt(variance / n) + slack
    assert abs(x.var().item() - variance) < 5 * variance * math.sqrt(2 / n) + slack
    assert abs((x < 0).double().mean().item() - left) < 5 * math.sqrt(left * (1 - left) / n) + slack


def test_each_point_may_have_its_own_condition():
    sides = torch.arange(2).repeat(100)
    halves = [GaussianMixture(torch.ones(1), MIXTURE.means[i : i + 1], MIXTURE.stds[i : i + 1]) for i in range(2)]
    models = [eps_from_score(half.score, process) for half in halves]

    def model(x, t):
        return torch.where(sides[:, None] == 0, *(one(x, t) for one in models))

    x = sample(model, process, (200, 1), 20, generator=generator())[:, 0]
    assert ((x > 0) == (sides == 1)).all()


@pytest.mark.parametrize("clip", [True, False])
def test_with_eta_1_and_all_steps_it_is_ddpm(clip):
    short = GaussianDiffusion(linear_betas(30, 0.01, 0.4))
    ours = sample(wavy, short, (3, 1, 4, 4), 30, 1.0, generator=generator(), clip=clip)
    theirs = ddpm.sample(wavy, short, (3, 1, 4, 4), generator=generator(), variance="small", clip=clip)
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_with_eta_1_a_long_step_is_that_of_the_shorter_chain():
    visited = schedule.times(1000, 10, "trailing")
    chain = process.respaced(visited)
    double = [tensor.double() for tensor in (x, eps, noise)]
    for i in range(10):
        before = visited[i - 1] if i else torch.tensor(-1)
        ours, _ = ddim_step(process, double[0], visited[[i, i]], before.repeat(2), double[1], 1.0, double[2])
        theirs, _ = p_sample(lambda *_: double[1], chain, double[0], times(i, i), double[2], variance="small")
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_a_walk_is_its_steps(eta):
    seen = list(trajectory(wavy, process, (2, 3), 4, eta, generator=generator(), spacing="trailing"))
    assert [t for t, _, _ in seen] == [999, 749, 499, 249]
    source = generator()
    here = torch.randn(2, 3, generator=source)
    for (t, after, guess), (now, before) in zip(seen, pairwise([999, 749, 499, 249, -1])):
        drawn = torch.randn(2, 3, generator=source) if eta else None
        here, x0 = ddim_step(process, here, times(now, now), times(before, before), wavy(here, times(t, t)), eta, drawn)
        assert torch.equal(after, here) and torch.equal(guess, x0)
    assert torch.equal(sample(wavy, process, (2, 3), 4, eta, generator=generator(), spacing="trailing"), here)


def test_without_noise_the_start_decides():
    start = normal(2, 3)
    first, second = (sample(wavy, process, (2, 3), 7, start=start, generator=generator(seed)) for seed in (0, 1))
    assert torch.equal(first, second) and first.dtype == start.dtype
    noisy = [sample(wavy, process, (2, 3), 7, 0.5, start=start, generator=generator(seed)) for seed in (0, 1)]
    assert not torch.allclose(*noisy)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_what_the_model_predicts_does_not_matter(target):
    def model(x, t):
        noise = exact(x, t)
        x0 = process.x0_from_eps(x, t, noise)
        return {"eps": noise, "x0": x0, "v": process.v_from_x0_eps(x0, t, noise)}[target]

    wanted = sample(exact, process, (50, 1), 20, start=normal(50, 1))
    assert torch.allclose(
        sample(model, process, (50, 1), 20, start=normal(50, 1), target=target), wanted, rtol=0, atol=1e-9
    )
    back = invert(model, process, wanted, 20, rounds=40, target=target)
    assert torch.allclose(back, invert(exact, process, wanted, 20, rounds=40), rtol=0, atol=1e-6)


def test_clipping_holds_the_image():
    large = sample(lambda x, t: -x, process, (4, 1), 10, start=normal(4, 1), clip=False)
    held = sample(lambda x, t: -x, process, (4, 1), 10, start=normal(4, 1))
    assert large.abs().max() > 1 and held.abs().max() <= 1


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_rounding_leaves_a_number(eta):
    """In float32 the variance that eta = 1 leaves over is less than rounding where nearly all is noise."""
    rounded = GaussianDiffusion(cosine_betas(1000)).float()
    for steps in (2, 10, 1000):
        assert sample(wavy, rounded, (2, 3), steps, eta, generator=generator(), spacing="trailing").isfinite().all()


# Back to noise


def test_the_way_back_is_exact_where_the_iteration_converges():
    start = normal(30, 1)
    end = sample(exact, process, (30, 1), 50, start=start, clip=False)
    errors = [(invert(exact, process, end, 50, rounds=rounds) - start).abs().max().item() for rounds in (1, 4, 40)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-6


def test_one_round_is_equation_13_backwards():
    data, steps = MIXTURE.sample(20, generator=generator()), 8
    by_hand, level = data, 0.0  # x / sqrt(alpha_bar) moves by eps times the change of sigma
    for t in schedule.times(1000, steps).tolist():
        alpha_bar = process.alphas_bar[t].item()
        sigma = math.sqrt(1 / alpha_bar - 1)
        here = by_hand * math.sqrt(1 / (1 + level**2))  # x of the time before
        by_hand, level = by_hand + (sigma - level) * exact(here, torch.full((20,), t)), sigma
    assert torch.allclose(invert(exact, process, data, steps), math.sqrt(alpha_bar) * by_hand, rtol=0, atol=1e-9)


def test_there_and_back_the_error_falls_with_the_steps():
    data, errors = MIXTURE.sample(200, generator=generator()), []
    for steps in (10, 40, 160):
        noise = invert(exact, process, data, steps)
        back = sample(exact, process, (200, 1), steps, start=noise, clip=False)
        errors.append((back - data).square().mean().item())
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and errors[2] < 2e-3  # of a variance of 0.28


def test_the_first_step_may_be_given_as_noise():
    data, grain, seen = normal(3, 2), normal(3, 2, seed=1), []

    def model(x, t):
        seen.append((x, t))
        return wavy(x, t)

    invert(model, process, data, 5, grain=grain, spacing="trailing")
    assert len(seen) == 4
    first = torch.full((3,), 199)
    assert torch.equal(seen[0][0], process.q_sample(data, first, grain)) and (seen[0][1] == 399).all()
    only = invert(model, process, data, 1, grain=grain, spacing="trailing")
    assert torch.equal(only, process.q_sample(data, torch.full((3,), 999), grain)) and len(seen) == 4


def test_each_round_asks_once_a_step():
    calls = []
    invert(lambda x, t: calls.append(t[0].item()) or 0 * x, process, normal(2, 3), 4, rounds=3)
    assert calls == [0, 0, 0, 250, 250, 250, 500, 500, 500, 750, 750, 750]


# Between two noises


def test_slerp_keeps_the_length_and_the_pace():
    a, b = normal(4, 1, 8, 8), normal(4, 1, 8, 8, seed=1)
    b = b * (a.flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
    way = torch.stack([slerp(a, b, share) for share in (0, 0.25, 0.5, 0.75, 1)])
    assert torch.allclose(way[0], a) and torch.allclose(way[-1], b)
    lengths = way.flatten(2).norm(dim=2)
    assert torch.allclose(lengths, lengths[:1].expand_as(lengths))
    paces = way.diff(dim=0).flatten(2).norm(dim=2)
    assert torch.allclose(paces, paces[:1].expand_as(paces))
    straight = (0.5 * (a + b)).flatten(1).norm(dim=1)
    assert (straight < 0.8 * lengths[2]).all()


def test_slerp_between_parallel_noises_is_straight():
    a = normal(2, 5)
    assert torch.allclose(slerp(a, a, 0.3), a)
    assert torch.allclose(slerp(a, -a, 0.25), 0.5 * a)


# Bad input


@pytest.mark.parametrize(
    "change, message",
    [
        ({"eta": 1.5}, "^eta must be a finite number, at least 0 and at most 1"),
        ({"eta": -0.1}, "^eta must be a finite number, at least 0 and at most 1"),
        ({"steps": 1001}, "^steps must be an integer from 1 to 1000"),
        ({"steps": 0}, "^steps must be an integer"),
        ({"start": torch.zeros(2, 4)}, "^start must have the shape"),
        ({"target": "noise"}, "^target must be one of"),
        ({"spacing": "even"}, "^spacing must be one of"),
        ({"model": nn.Linear(3, 3)}, "^model must be in eval mode"),
        ({"model": lambda x, t: x[:1]}, "^the model's output must have the shape"),
    ],
)
def test_bad_walks_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        sample(**{"model": wavy, "process": process, "shape": (2, 3), "steps": 5, **change})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": 1001}, "^steps must be an integer from 1 to 1000"),
        ({"rounds": 0}, "^rounds must be an integer of at least 1"),
        ({"x0": torch.full((2, 3), float("nan"))}, "^x0 must be finite"),
        ({"grain": torch.zeros(3)}, "^grain must have the shape"),
        ({"target": "noise"}, "^target must be one of"),
        ({"spacing": "even"}, "^spacing must be one of"),
        ({"model": nn.Linear(3, 3)}, "^model must be in eval mode"),
    ],
)
def test_bad_ways_back_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        invert(**{"model": wavy, "process": process, "x0": torch.zeros(2, 3), "steps": 5, **change})


def test_noises_of_two_shapes_are_named():
    with pytest.raises(ValueError, match=r"^b must have the shape"):
        slerp(torch.zeros(2, 3), torch.zeros(2, 4), 0.5)
