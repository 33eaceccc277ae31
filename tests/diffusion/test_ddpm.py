"""The losses, the bound and the sampler against reference vectors, laws, and toys whose answers are known exactly."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from lib.diffusion import (
    GaussianDiffusion,
    cosine_betas,
    linear_betas,
    p_sample,
    predict_x0,
    sample,
    simple_loss,
    trajectory,
    vlb_terms,
)
from lib.diffusion.ddpm import (
    discretized_log_likelihood,
    normal_cdf,
    normal_kl,
    p_mean_variance,
    prior_term,
    vlb_term,
)

REFERENCE = Path(__file__).parents[1] / "reference"
SCHEDULES = {"linear": linear_betas(1000), "cosine": cosine_betas(1000)}


def load(name):
    """The tensors of a file of reference vectors."""
    with np.load(REFERENCE / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fi"}


@pytest.fixture(scope="module")
def steps():
    return load("sampler_steps")


@pytest.fixture(scope="module")
def guided():
    return load("improved_guided")


@pytest.fixture(params=SCHEDULES)
def name(request):
    return request.param


def short(T=12):
    """A process of few steps that ends close to pure noise."""
    return GaussianDiffusion(linear_betas(T, 0.02, 0.6))


def pictures(n=5, shape=(2, 3, 3), dtype=torch.float64, seed=0):
    """Something shaped like images (n, 2, 3, 3) in [-1, 1], and noise for them."""
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(n, *shape, generator=generator, dtype=torch.float64) * 2 - 1
    return x0.to(dtype), torch.randn(x0.shape, generator=generator, dtype=torch.float64).to(dtype)


def constant(t, x):
    return torch.full((len(x),), t)


def wavy(x, t):
    """A model without parameters: bounded, not linear, different at every time."""
    return (2 * x + t.view(-1, *[1] * (x.ndim - 1))).sin()


def gaussian(process, mean=0.0, std=1.0):
    r"""$E[\epsilon \mid x_t]$ for data that is N(mean, std²): the best that any model can say."""

    def eps(x, t):
        signal, spread = process.signal_and_spread(t, x)
        return spread * (x - signal * mean) / ((signal * std) ** 2 + spread**2)

    return eps


# Reference vectors


def given_answer(out):
    return lambda x, t: out


def difference(ours, theirs):
    """The largest difference in an image, as a share of its largest number where that is above 1.

    A predicted image that is not clipped grows to 14730, and neighbours in float32 are 1e-3 apart there.
    """
    return ((ours - theirs).flatten(1).abs().amax(1) / theirs.flatten(1).abs().amax(1).clamp(min=1)).max()


def rounded():
    """The linear process with tables computed in float32, as diffusers does.

    That leaves four digits of 1 - alpha_bar at the first steps, and of what is divided by it.
    """
    process = GaussianDiffusion(SCHEDULES["linear"])
    alpha_bar = load("schedules")["diffusers_linear_1000.alphas_cumprod"]
    before = torch.cat([torch.ones(1), alpha_bar[:-1]])
    alpha = alpha_bar / before
    rest = (1 - before) / (1 - alpha_bar)
    process.alphas_bar, process.betas = alpha_bar, 1 - alpha
    process.posterior_mean_x0 = before.sqrt() * (1 - alpha) / (1 - alpha_bar)
    process.posterior_mean_xt = alpha.sqrt() * rest
    process.posterior_log_variance = ((1 - alpha) * rest).clamp(min=1e-20).log()
    return process


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("tables", ["ours", "theirs"])
def test_steps_equal_diffusers(steps, variance, clip, tables):
    process = rounded() if tables == "theirs" else GaussianDiffusion(SCHEDULES["linear"])
    for t in steps["t"].tolist():
        if tables == "ours" and t in (1, 10):
            continue
        options = {"noise": steps[f"noise_{t}"], "variance": variance, "clip": clip}
        x, x0 = p_sample(given_answer(steps["eps"]), process, steps["x"], constant(t, steps["x"]), **options)
        for ours, theirs in ((x, f"ddpm_fixed_{variance}_clip{clip:d}_{t}"), (x0, f"ddpm_x0_clip{clip:d}_{t}")):
            assert difference(ours, steps[theirs]) < 1e-5, theirs


@pytest.mark.parametrize(("target", "theirs"), [("x0", "sample"), ("v", "v_prediction")])
def test_other_targets_equal_diffusers(steps, target, theirs):
    process = GaussianDiffusion(SCHEDULES["linear"])
    options = {"noise": steps["noise_500"], "variance": "small", "target": target, "clip": False}
    x, x0 = p_sample(given_answer(steps["eps"]), process, steps["x"], constant(500, steps["x"]), **options)
    assert torch.allclose(x, steps[f"ddpm_{theirs}_500"], rtol=0, atol=1e-5)
    assert torch.allclose(x0, steps[f"ddpm_{theirs}_x0_500"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_mean_and_variance_equal_guided_diffusion(guided, name, variance):
    process, answer = GaussianDiffusion(SCHEDULES[name]), given_answer(guided["model_out"][:, :3])
    mean, log_variance, _ = p_mean_variance(answer, process, guided[f"{name}.xt"], guided["t"], variance=variance)
    for ours, theirs in ((mean, "mean"), (log_variance, "log_variance")):
        theirs = guided[f"{name}.fixed_{variance}.{theirs}"]
        assert torch.allclose(ours.expand_as(theirs), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("clip", [False, True])
def test_predicted_images_equal_guided_diffusion(guided, name, clip):
    process, answer = GaussianDiffusion(SCHEDULES[name]), given_answer(guided["model_out"][:, :3])
    mean, _, x0 = p_mean_variance(answer, process, guided[f"{name}.xt"], guided["t"], clip=clip)
    for ours, theirs in ((mean, "mean"), (x0, "pred_xstart")):  # their learned variance leaves both alone
        assert difference(ours, guided[f"{name}.clip{clip:d}.{theirs}"]) < 1e-5


@pytest.mark.parametrize("clip", [False, True])
def test_the_bound_equals_guided_diffusion(guided, name, clip):
    process, kind = GaussianDiffusion(SCHEDULES[name]), f"{name}.clip{clip:d}"
    mean, log_variance = guided[f"{kind}.mean"], guided[f"{kind}.log_variance"]
    bits = vlb_term(guided["x0"], guided[f"{name}.xt"], guided["t"], process, mean, log_variance)
    assert torch.allclose(bits, guided[f"{kind}.vb_bits_per_dim"], rtol=1e-6, atol=1e-7)
    assert torch.allclose(prior_term(process, guided["x0"]), guided[f"{name}.prior_bpd"], rtol=0, atol=1e-7)


def test_densities_equal_guided_diffusion(guided):
    kl = normal_kl(*(guided[f"kl_{name}"] for name in ("m1", "l1", "m2", "l2")))
    assert torch.allclose(kl, guided["kl"], rtol=1e-6, atol=1e-5)
    likelihood = discretized_log_likelihood(guided["dg_x"], guided["dg_mu"], guided["dg_ls"])
    assert torch.allclose(likelihood, guided["dg"], rtol=0, atol=1e-5)


# The simple loss


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_the_loss_is_the_mean_square_of_what_was_not_said(target):
    process = short()
    x0, noise = pictures()
    t = torch.tensor([0, 3, 3, 8, 11])
    wanted = {"eps": noise, "x0": x0, "v": process.v_from_x0_eps(x0, t, noise)}[target]
    seen = []

    def model(x, times):
        seen.append((x, times))
        return wanted

    assert torch.equal(simple_loss(model, process, x0, t, noise, target), torch.zeros(5).double())
    assert torch.equal(seen[0][0], process.q_sample(x0, t, noise)) and torch.equal(seen[0][1], t)
    by_hand = [sum(v**2 for v in image.flatten().tolist()) / 18 for image in wanted]
    assert simple_loss(lambda x, t: 0 * x, process, x0, t, noise, target).tolist() == pytest.approx(by_hand, rel=1e-12)


def test_the_loss_speaks_of_the_noise_unless_told():
    process = short()
    x0, noise = pictures()
    t = torch.tensor([0, 3, 3, 8, 11])
    assert torch.equal(simple_loss(wavy, process, x0, t, noise), simple_loss(wavy, process, x0, t, noise, "eps"))


def test_all_times_are_drawn_equally_often():
    process, drawn = GaussianDiffusion(linear_betas(8)), []
    torch.manual_seed(0)
    loss = simple_loss(lambda x, t: drawn.append(t) or x, process, torch.zeros(8000, 1))
    assert loss.shape == (8000,)
    counts = drawn[0].bincount().tolist()
    assert len(counts) == 8
    assert all(abs(count - 1000) < 5 * math.sqrt(8000 / 8 * 7 / 8) for count in counts)  # 5 standard errors


def test_the_loss_draws_fresh_noise():
    process = GaussianDiffusion(linear_betas(8))
    torch.manual_seed(0)
    loss = simple_loss(lambda x, t: 0 * x, process, torch.zeros(4000, 3))
    assert abs(loss.mean() - 1) < 5 * math.sqrt(2 / 12000)  # E eps² = 1, its variance 2: 5 standard errors
    assert len(loss.unique()) > 3900


def test_the_loss_teaches_the_model():
    w = torch.ones(1, requires_grad=True)
    x0, noise = pictures(dtype=torch.float32)
    simple_loss(lambda x, t: w * x, short(), x0, torch.arange(5), noise).mean().backward()
    xt = short().q_sample(x0, torch.arange(5), noise)
    assert torch.allclose(w.grad, 2 * ((xt - noise) * xt).mean())


# Laws


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("betas", [linear_betas(40, 0.003, 0.3), cosine_betas(40)], ids=["linear", "cosine"])
def test_the_kl_form_is_the_weighted_regression_on_the_noise(betas, variance):
    r"""Equation (12): $\frac{\beta_t^2}{2\sigma_t^2\alpha_t(1-\bar\alpha_t)}|\epsilon-\epsilon_\theta|^2 + C$."""
    process = GaussianDiffusion(betas)
    x0, noise = pictures()
    bits = vlb_terms(wavy, process, x0, noise, variance=variance, clip=False)["terms"]
    assert bits.shape == (5, 40) and bits.dtype == torch.float64
    alpha_bar = (1 - betas).cumprod(0)
    for t in range(1, 40):
        posterior = betas[t] * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
        sigma2 = posterior if variance == "small" else betas[t]
        rest = 0.5 * (posterior / sigma2 - 1 - (posterior / sigma2).log())  # nothing in it depends on the model
        weight = betas[t] ** 2 / (2 * sigma2 * (1 - betas[t]) * (1 - alpha_bar[t]))
        loss = simple_loss(wavy, process, x0, constant(t, x0), noise)
        assert torch.allclose(bits[:, t] * math.log(2), weight * loss + rest, rtol=1e-9, atol=1e-13)


def quadrature(nodes):
    """Points and weights with which sums are expectations over N(0, 1), exact for polynomials of degree < 2 nodes."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return torch.from_numpy(points), torch.from_numpy(weights / weights.sum())


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("std", [0.05, 0.2])
def test_the_terms_add_up_to_the_exact_bound(std, variance):
    """Data N(0, std²) and a linear model: q and p are Gaussians of all x_0, ..., x_T together.

    The bound, averaged over the data, is the entropy of the data plus the KL between the two. The terms are
    quadratic in image and noise, so three points of quadrature in each are exact. Only L_0 is the test's own: that of
    the library asks for the probability of a grey value, not for a density.
    """
    process, T = short(), 12
    model = gaussian(process, 0.02, 1.5 * std)  # not quite right, so that every term matters
    points, weight = quadrature(3)
    x0 = (std * points).repeat_interleave(3).view(9, 1)
    noise, weights = points.repeat(3).view(9, 1), (weight[:, None] * weight).flatten()
    parts = vlb_terms(model, process, x0, noise, variance=variance, clip=False)
    first = torch.zeros(9, dtype=torch.long)
    mean, log_variance, _ = p_mean_variance(
        model, process, process.q_sample(x0, first, noise), first, variance=variance, clip=False
    )
    reconstruction = -Normal(mean, (0.5 * log_variance).exp()).log_prob(x0)[:, 0]
    nats = (parts["terms"][:, 1:].sum(1) + parts["prior"]) * math.log(2) + reconstruction
    bound = (weights * nats).sum()

    # q: every x_t as a linear map of what is drawn, (x_0, the noise of each step).
    rows = torch.zeros(T + 1, T + 1, dtype=torch.float64)
    rows[0, 0] = std
    for t in range(T):
        rows[t + 1] = (1 - process.betas[t]).sqrt() * rows[t]
        rows[t + 1, t + 1] = process.betas[t].sqrt()
    q = MultivariateNormal(torch.zeros(T + 1, dtype=torch.float64), rows @ rows.T)
    # p: the same, from x_T down, with the steps of the model.
    shift, rows = torch.zeros(T + 1, dtype=torch.float64), torch.zeros(T + 1, T + 1, dtype=torch.float64)
    rows[T, T] = 1
    for t in reversed(range(T)):
        ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        (zero, one), log_variance, _ = p_mean_variance(
            model, process, ends, torch.tensor([t, t]), variance=variance, clip=False
        )
        shift[t] = (one - zero) * shift[t + 1] + zero
        rows[t] = (one - zero) * rows[t + 1]
        rows[t, t] = (0.5 * log_variance[0]).exp()
    p = MultivariateNormal(shift, rows @ rows.T)
    exact = Normal(*torch.tensor([0, std], dtype=torch.float64)).entropy() + kl_divergence(q, p)
    assert bound.item() == pytest.approx(exact.item(), abs=1e-9)


def test_each_variance_is_right_for_its_data():
    """Large for data that is N(0, I), small for data that is one point: the true way back, so nothing is lost."""
    process = short()
    x, _ = pictures()
    options = {"variance": "large", "clip": False}
    for t in range(1, 12):
        mean, log_variance, _ = p_mean_variance(gaussian(process), process, x, constant(t, x), **options)
        assert torch.allclose(mean, (1 - process.betas[t]).sqrt() * x, rtol=0, atol=1e-12)
        assert torch.allclose(log_variance.exp(), process.betas[t].expand(5, 1, 1, 1), rtol=1e-12)
    point = torch.full((5, 2, 3, 3), 0.4, dtype=torch.float64)
    terms = vlb_terms(gaussian(process, 0.4, 0), process, point, variance="small", clip=False)["terms"]
    assert terms[:, 1:].abs().max() < 1e-12


def test_the_bound_is_above_the_exact_likelihood():
    """One pixel, data near N(0, 0.3²): p(x_1) is a Gaussian known exactly, P(x_0) an integral over it."""
    process = GaussianDiffusion(linear_betas(60, 0.002, 0.2))
    options = {"variance": "large", "clip": False}
    model, width = gaussian(process, 0, 0.3), torch.ones(1, 1, dtype=torch.float64)  # standard deviation of x_t under p
    for t in reversed(range(1, 60)):
        mean, log_variance, _ = p_mean_variance(model, process, width, torch.tensor([t]), **options)
        width = (mean**2 + log_variance.exp()).sqrt()  # the mean is a multiple of x_t
    x1 = torch.linspace(-8, 8, 4001, dtype=torch.float64).view(-1, 1) * width
    mean, log_variance, _ = p_mean_variance(model, process, x1, constant(0, x1), **options)
    grey = (torch.arange(0, 256, 15, dtype=torch.float64) / 127.5 - 1).view(-1, 1)
    chance = discretized_log_likelihood(grey, mean.T, 0.5 * log_variance.T).exp()
    exact = -torch.trapezoid(chance * Normal(0 * width, width).log_prob(x1).exp().T, x1.T).log2()

    points, weights = quadrature(40)
    x0, noise = grey.repeat_interleave(40, 0), points.repeat(len(grey)).view(-1, 1)
    bound = vlb_terms(model, process, x0, noise, **options)["total"].view(-1, 40) @ weights
    assert (bound > exact).all()
    assert (bound - exact)[1:-1].max() < 0.15  # measured: 0.123, for 60 steps; at the edges 1.24


def test_the_parts_of_the_bound():
    """Every term is that of its own step, they add up, and an image is worth the mean of its numbers."""
    process = short()
    x0, noise = pictures()
    parts = vlb_terms(wavy, process, x0, noise)
    assert set(parts) == {"terms", "prior", "total"}
    assert torch.allclose(parts["total"], parts["terms"].sum(1) + parts["prior"], rtol=1e-12)
    for t in range(12):
        xt = process.q_sample(x0, constant(t, x0), noise)
        mean, log_variance, _ = p_mean_variance(wavy, process, xt, constant(t, x0), variance="small")
        term = vlb_term(x0, xt, constant(t, x0), process, mean, log_variance)
        assert torch.equal(parts["terms"][:, t], term)
    signal, spread = process.signal_and_spread(constant(11, x0), x0)
    prior = kl_divergence(Normal(signal * x0, spread.expand_as(x0)), Normal(0.0, 1.0)) / math.log(2)
    assert torch.allclose(parts["prior"], prior.flatten(1).mean(1), rtol=1e-9)
    numbers = vlb_terms(wavy, process, x0.view(-1, 1), noise.view(-1, 1))
    assert torch.allclose(parts["total"], numbers["total"].view(5, -1).mean(1), rtol=1e-12)


def test_the_first_term_is_a_probability_in_bits():
    process = short()
    x0, noise = pictures()
    x0 = ((x0 + 1) * 127.5).round() / 127.5 - 1
    xt = process.q_sample(x0, constant(0, x0), noise)
    mean, log_variance, _ = p_mean_variance(wavy, process, xt, constant(0, x0), variance="small")
    probability = discretized_log_likelihood(x0, mean, 0.5 * log_variance).exp()
    bits = vlb_terms(wavy, process, x0, noise)["terms"][:, 0]
    assert torch.allclose(bits, -probability.log2().flatten(1).mean(1), rtol=1e-12)


def test_the_bound_takes_its_own_options():
    process = short()
    x0, noise = pictures()
    default = vlb_terms(wavy, process, x0, noise)["total"]
    assert torch.equal(default, vlb_terms(wavy, process, x0, noise, "eps", "small", True)["total"])
    others = [{"target": "x0"}, {"target": "v"}, {"variance": "large"}, {"clip": False}]
    totals = [vlb_terms(wavy, process, x0, noise, **options)["total"] for options in others]
    assert all(not torch.allclose(total, default) for total in totals)
    torch.manual_seed(0)
    drawn = vlb_terms(wavy, process, x0)["total"]
    torch.manual_seed(0)
    assert torch.equal(drawn, vlb_terms(wavy, process, x0, torch.randn_like(x0))["total"])


@given(st.floats(-1.5, 1.5), st.floats(-4, 0.5))
def test_the_probabilities_of_all_grey_values_add_up_to_1(mean, log_scale):
    grey = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    mean, log_scale = (torch.tensor(value, dtype=torch.float64) for value in (mean, log_scale))
    probability = discretized_log_likelihood(grey, mean, log_scale).exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-9)
    exact = Normal(mean, log_scale.exp()).cdf(torch.cat([grey[:1] - 9, grey[1:] - 1 / 255, grey[-1:] + 9])).diff()
    assert torch.allclose(probability, exact, rtol=0, atol=4e-4)  # twice the error of the distribution function


def test_the_normal_distribution_function():
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    assert (normal_cdf(x) - Normal(0.0, 1.0).cdf(x)).abs().max() < 2e-4


@given(st.floats(-3, 3), st.floats(-6, 3), st.floats(-3, 3), st.floats(-6, 3))
def test_the_kl_of_two_gaussians(mean1, log1, mean2, log2):
    values = [torch.tensor(value, dtype=torch.float64) for value in (mean1, log1, mean2, log2)]
    theirs = kl_divergence(Normal(values[0], (values[1] / 2).exp()), Normal(values[2], (values[3] / 2).exp()))
    assert torch.allclose(normal_kl(*values), theirs, rtol=1e-9, atol=1e-12)


# One step back


def answers(process, xt, t):
    """The same answer said in three ways."""
    eps = wavy(xt, t)
    x0 = process.x0_from_eps(xt, t, eps)
    return {"eps": eps, "x0": x0, "v": process.v_from_x0_eps(x0, t, eps)}


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("clip", [False, True])
def test_targets_that_agree_take_the_same_step(clip, variance):
    process = short()
    xt, z = pictures()
    t = torch.tensor([0, 1, 5, 8, 11])
    said = answers(process, xt, t)
    results = {
        target: p_sample(given_answer(answer), process, xt, t, z, target, variance, clip)
        for target, answer in said.items()
    }
    for x, x0 in results.values():
        assert torch.allclose(x, results["eps"][0], rtol=0, atol=1e-12)
        assert torch.allclose(x0, results["eps"][1], rtol=0, atol=1e-12)
    for target, answer in said.items():
        assert torch.allclose(predict_x0(given_answer(answer), process, xt, t, target), said["x0"], rtol=0, atol=1e-12)
    wanted = said["x0"].clamp(-1, 1) if clip else said["x0"]
    assert torch.allclose(results["x0"][1], wanted, rtol=0, atol=1e-12)
    assert clip == (results["x0"][1].abs().max() <= 1)


def test_without_clipping_the_step_is_algorithm_2():
    process = GaussianDiffusion(SCHEDULES["linear"])
    xt, z = pictures()
    for t in (0, 1, 2, 500, 999):
        beta, alpha_bar = process.betas[t], (1 - process.betas[: t + 1]).prod()
        mean = (xt - beta / (1 - alpha_bar).sqrt() * wavy(xt, constant(t, xt))) / (1 - beta).sqrt()
        wanted = mean + beta.sqrt() * z if t else mean
        x, _ = p_sample(wavy, process, xt, constant(t, xt), z, clip=False)
        assert torch.allclose(x, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_no_noise_at_the_last_step(variance):
    process = short()
    xt, z = pictures()
    t = torch.tensor([0, 0, 1, 1, 11])
    with_noise, without = (p_sample(wavy, process, xt, t, noise, variance=variance)[0] for noise in (z, 0 * z))
    assert torch.equal(with_noise[:2], without[:2])
    std = (process.betas if variance == "large" else process.posterior_variance)[t[2:]].sqrt()
    assert torch.allclose(with_noise[2:] - without[2:], std.view(3, 1, 1, 1) * z[2:], rtol=0, atol=1e-12)


def test_a_step_takes_its_own_options():
    process = short()
    xt, z = pictures()
    t = torch.tensor([1, 2, 5, 8, 11])
    default = p_sample(wavy, process, xt, t, z)
    for ours, wanted in zip(default, p_sample(wavy, process, xt, t, z, "eps", "large", True)):
        assert torch.equal(ours, wanted)
    torch.manual_seed(0)
    drawn = p_sample(wavy, process, xt, t)[0]
    torch.manual_seed(0)
    assert torch.equal(drawn, p_sample(wavy, process, xt, t, torch.randn_like(xt))[0])


def test_an_image_does_not_see_its_batch():
    process = short()
    xt, z = pictures()
    t = torch.tensor([0, 1, 5, 8, 11])
    together = p_sample(wavy, process, xt, t, z)[0]
    bits = vlb_terms(wavy, process, xt.clamp(-1, 1), z)["total"]
    for i in range(5):
        one = slice(i, i + 1)
        assert torch.equal(p_sample(wavy, process, xt[one], t[one], z[one])[0], together[one])
        assert torch.allclose(vlb_terms(wavy, process, xt[one].clamp(-1, 1), z[one])["total"], bits[one], rtol=1e-12)


# The sampler


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_trajectory_hands_on_what_it_makes():
    process, seen = short(), []

    def model(x, t):
        seen.append((x.clone(), t))
        return wavy(x, t)

    items = list(trajectory(model, process, (4, 1, 5, 5), generator=generator()))
    assert [t for t, _, _ in items] == list(range(11, -1, -1))
    assert [t.tolist() for _, t in seen] == [[t] * 4 for t in range(11, -1, -1)]
    assert all(t.dtype == torch.int64 for _, t in seen)
    for (_, x, _), (handed, _) in zip(items, seen[1:]):
        assert torch.equal(x, handed)
    assert torch.equal(items[-1][1], sample(wavy, process, (4, 1, 5, 5), generator=generator()))
    assert torch.equal(items[-1][1], items[-1][2])  # the last step goes to the predicted image
    for _, x, x0 in items:
        assert x.shape == x0.shape == (4, 1, 5, 5) and x.dtype == torch.float32 and x0.abs().max() <= 1


@pytest.mark.parametrize(("steps", "visited"), [(1, [11]), (2, [0, 11]), (4, [0, 4, 7, 11]), (12, list(range(12)))])
def test_fewer_steps_are_a_shorter_chain_and_the_model_hears_its_own_times(steps, visited):
    process, seen = short(), []

    def model(x, t):
        seen.append(t.tolist())
        return wavy(x, t)

    items = list(trajectory(model, process, (4, 1, 5, 5), steps=steps, generator=generator()))
    assert [t for t, _, _ in items] == visited[::-1]
    assert seen == [[t] * 4 for t in visited[::-1]]
    chain, noise = process.respaced(torch.tensor(visited)), generator()
    x = torch.randn(4, 1, 5, 5, generator=noise)
    for i, (t, ours, x0) in zip(reversed(range(steps)), items):
        z = torch.randn(x.shape, generator=noise)
        x, wanted = p_sample(given_answer(wavy(x, constant(t, x))), chain, x, constant(i, x), z)
        assert torch.allclose(ours, x, atol=1e-6) and torch.allclose(x0, wanted, atol=1e-6)
    assert torch.equal(items[-1][1], sample(wavy, process, (4, 1, 5, 5), steps=steps, generator=generator()))


@pytest.mark.parametrize("steps", [0, 13, -1, 2.0, True])
def test_bad_numbers_of_steps_are_named(steps):
    for call in (
        lambda **options: next(trajectory(wavy, short(), (1,), **options)),
        lambda **o: sample(wavy, short(), (1,), **o),
    ):
        with pytest.raises(ValueError, match=f"steps must be an integer from 1 to 12, got {steps!r}"):
            call(steps=steps)


def test_every_step_has_noise_of_its_own():
    """With a model for which x_{t-1} is 0 plus noise, what comes out is the noise itself."""
    process = short()

    def model(x, t):  # the x0 that puts the posterior's mean at 0
        return -process.extract("posterior_mean_xt", t, x) / process.extract("posterior_mean_x0", t, x) * x

    options = {"generator": generator(), "target": "x0", "clip": False}
    draws = [x / process.betas[t].sqrt().float() for t, x, _ in trajectory(model, process, (2000,), **options) if t]
    correlation = torch.stack(draws).corrcoef()
    assert (correlation - torch.eye(11)).abs().max() < 5 / math.sqrt(2000)  # 5 standard errors
    assert abs(torch.stack(draws).std() - 1) < 5 / math.sqrt(2 * 22000)


def test_samples_follow_their_generator():
    process = short()
    first, again, other = (sample(wavy, process, (3, 1, 4, 4), generator=generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.manual_seed(1)
    free = sample(wavy, process, (3, 1, 4, 4))
    torch.manual_seed(1)
    assert torch.equal(free, sample(wavy, process, (3, 1, 4, 4)))
    torch.manual_seed(2)
    assert torch.equal(first, sample(wavy, process, (3, 1, 4, 4), generator=generator(5)))


class Network(torch.nn.Module):
    """A network whose dropout would show."""

    def __init__(self):
        super().__init__()
        self.scale, self.dropout = torch.nn.Parameter(torch.tensor(0.5)), torch.nn.Dropout(0.5)

    def forward(self, x, t):
        return self.dropout(self.scale * x)


def test_a_network_in_training_mode_is_refused():
    process, network = short(), Network()
    message = r"model must be in eval mode to sample, call model.eval\(\) first"
    with pytest.raises(ValueError, match=message):
        sample(network, process, (2, 1, 4, 4))
    with pytest.raises(ValueError, match=message):
        next(trajectory(network, process, (2, 1, 4, 4)))
    x = sample(network.eval(), process, (2, 1, 4, 4))
    assert not x.requires_grad
    assert not any(part.requires_grad for part in vlb_terms(network, process, x.clamp(-1, 1)).values())


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize(("target", "steps"), [("eps", None), ("x0", None), ("v", None), ("eps", 7)])
def test_samples_of_a_gaussian_have_the_exact_mean_and_variance(target, variance, steps):
    """Data N(0.3, 0.4²): all steps are linear, so mean and variance of the samples follow by hand, step by step."""
    process = short(30)
    mean, std = 0.3, 0.4
    eps = gaussian(process, mean, std)
    kept = [1, *(1 - process.betas).cumprod(0).tolist()]  # alpha_bar, the image itself first
    visited = [0, *(range(1, 31) if steps is None else (1, 6, 11, 16, 20, 25, 30))]  # 29 i / 6, rounded, plus 1
    centre, spread2 = 0.0, 1.0
    for before, alpha_bar in reversed([*pairwise(kept[i] for i in visited)]):
        beta = 1 - alpha_bar / before
        gain = math.sqrt(alpha_bar) * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)  # of E[x0 | x_t], a straight line
        to_x0 = beta * math.sqrt(before) / (1 - alpha_bar)
        slope = to_x0 * gain + math.sqrt(1 - beta) * (1 - before) / (1 - alpha_bar)
        centre = slope * centre + to_x0 * (mean - gain * math.sqrt(alpha_bar) * mean)
        noise = 0 if before == 1 else beta if variance == "large" else beta * (1 - before) / (1 - alpha_bar)
        spread2 = slope**2 * spread2 + noise

    def model(x, t):
        x0 = process.x0_from_eps(x, t, eps(x, t))
        return {"eps": eps(x, t), "x0": x0, "v": process.v_from_x0_eps(x0, t, eps(x, t))}[target]

    options = {"target": target, "variance": variance, "clip": False, "steps": steps}
    x = sample(model, process, (40000,), generator=generator(), **options).double()
    assert abs(x.mean().item() - centre) < 5 * math.sqrt(spread2 / 40000)  # 5 standard errors
    assert abs(x.var().item() - spread2) < 5 * spread2 * math.sqrt(2 / 40000)
    assert (spread2 > std**2) == (variance == "large")  # too wide or too narrow, since the steps are few


def mixture(process, weights, means, stds):
    r"""$E[\epsilon \mid x_t]$ for data that is a mixture of Gaussians: each component's answer, by its probability."""

    def eps(x, t):
        signal, spread = process.signal_and_spread(t, x)
        x = x.unsqueeze(-1)
        signal, spread = signal.unsqueeze(-1), spread.unsqueeze(-1)
        variance = (signal * stds) ** 2 + spread**2
        log = weights.log() - 0.5 * variance.log() - 0.5 * (x - signal * means) ** 2 / variance
        return (log.softmax(-1) * spread * (x - signal * means) / variance).sum(-1)

    return eps


@pytest.mark.parametrize("variance", ["small", "large"])
def test_samples_of_a_mixture_have_its_mean_its_variance_and_its_modes(variance):
    """The exact density of what the chain makes is carried from grid to grid; the samples must agree with it, and it
    must agree with the data but for what a hundred steps cost."""
    process, options = GaussianDiffusion(linear_betas(100, 1e-3, 0.2)), {"variance": variance, "clip": False}
    weights, means, stds = (torch.tensor(values) for values in ((0.3, 0.7), (-0.6, 0.5), (0.1, 0.2)))
    model = mixture(process, weights, means, stds)

    grid = torch.linspace(-6.25, 6.25, 501, dtype=torch.float64)  # no step is finer than 0.027
    density = Normal(0.0, 1.0).log_prob(grid).exp()
    step = (grid[1] - grid[0]).item()
    for t in reversed(range(100)):
        centre, log_variance, _ = p_mean_variance(model, process, grid, constant(t, grid), **options)
        if t:
            density = step * Normal(centre, (0.5 * log_variance).exp()).log_prob(grid[:, None]).exp() @ density
    mass = density * step  # of x_1; the last step adds no noise and takes it to `centre`
    assert mass.sum().item() == pytest.approx(1, abs=1e-6)
    exact = {
        "mean": (mass * centre).sum().item(),
        "left": mass[centre < 0].sum().item(),
    }
    exact["variance"] = (mass * centre**2).sum().item() - exact["mean"] ** 2
    fourth = (mass * (centre - exact["mean"]) ** 4).sum().item()

    true_mean = (weights * means).sum().item()
    true_variance = (weights * (stds**2 + means**2)).sum().item() - true_mean**2
    true_left = (weights * Normal(means, stds).cdf(torch.tensor(0.0))).sum().item()
    assert exact["mean"] == pytest.approx(true_mean, abs=0.005)  # measured: 0.004, 0.016 and 0.008
    assert exact["variance"] == pytest.approx(true_variance, abs=0.02)
    assert exact["left"] == pytest.approx(true_left, abs=0.01)

    n = 20000
    x = sample(model, process, (n,), generator=generator(), **options).double()
    error = {  # standard errors
        "mean": math.sqrt(exact["variance"] / n),
        "variance": math.sqrt((fourth - exact["variance"] ** 2) / n),
        "left": math.sqrt(exact["left"] * (1 - exact["left"]) / n),
    }
    found = {"mean": x.mean().item(), "variance": x.var().item(), "left": (x < 0).double().mean().item()}
    for key, value in found.items():
        assert abs(value - exact[key]) < 5 * error[key], key


# Where it runs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_type_of_the_images(dtype):
    process = short()
    x, z = pictures(dtype=dtype)
    t = torch.tensor([0, 1, 5, 8, 11])
    results = [simple_loss(wavy, process, x, t, z, target) for target in ("eps", "x0", "v")]
    results += [*p_sample(wavy, process, x, t, z), *vlb_terms(wavy, process, x, z).values()]
    assert {result.dtype for result in results} == {dtype}


def test_meta_compile_and_autocast():
    process, network = short(), Network().eval()
    x0, noise = pictures(dtype=torch.float32)
    t = torch.arange(5)
    for target in ("eps", "x0", "v"):
        wanted = simple_loss(network, process, x0, t, noise, target)
        compiled = torch.compile(simple_loss, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(network, process, x0, t, noise, target), wanted)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.allclose(simple_loss(network, process, x0, t, noise, target), wanted, rtol=0.02)
    network, process = network.to("meta"), process.to("meta")
    with torch.device("meta"):
        assert simple_loss(network, process, torch.empty(3, 1, 4, 4)).shape == (3,)
        assert p_sample(network, process, torch.empty(3, 1, 4, 4), torch.empty(3, dtype=torch.long))[0].is_meta
        assert vlb_terms(network, process, torch.empty(3, 1, 4, 4))["terms"].shape == (3, 12)
    assert sample(network, process, (2, 1, 4, 4)).is_meta


# What is refused


def doors(process, x, model=wavy, **options):
    """Every public way in that takes a model and options."""
    t = torch.zeros(len(x), dtype=torch.long)
    return {
        "simple_loss": lambda: simple_loss(model, process, x, **options),
        "predict_x0": lambda: predict_x0(model, process, x, t, **options),
        "p_sample": lambda: p_sample(model, process, x, t, **options),
        "vlb_terms": lambda: vlb_terms(model, process, x, **options),
        "sample": lambda: sample(model, process, x.shape, **options),
        "trajectory": lambda: next(trajectory(model, process, x.shape, **options)),
    }


def test_unknown_options_are_named():
    x = torch.zeros(2, 1, 4, 4)
    for name, call in doors(short(), x, target="noise").items():
        with pytest.raises(ValueError, match="target must be one of eps, x0, v, got 'noise'"):
            call()
            pytest.fail(f"{name} took it")
    for name, call in doors(short(), x, variance="medium").items():
        if name not in ("simple_loss", "predict_x0"):
            with pytest.raises(ValueError, match="variance must be one of small, large, learned, got 'medium'"):
                call()
                pytest.fail(f"{name} took it")


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (), (2, 2, 4, 4)], ids=str)
def test_an_answer_of_another_shape_is_named(shape):
    def answer(x, t):
        return torch.zeros(shape)

    message = r"the model's output must have the shape \(2, 1, 4, 4\), got"
    for name, call in doors(short(), torch.zeros(2, 1, 4, 4), answer).items():
        with pytest.raises(ValueError, match=message):
            call()
            pytest.fail(f"{name} took it")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_images_that_are_not_finite_are_named(value):
    x0 = torch.zeros(2, 1, 4, 4)
    x0[1, 0, 2, 3] = value
    with pytest.raises(ValueError, match=r"x0 must be finite, got values from"):
        simple_loss(wavy, short(), x0)
    with pytest.raises(ValueError, match=r"x0 must be finite and lie in \[-1, 1\], got values from"):
        vlb_terms(wavy, short(), x0)


@given(st.one_of(st.floats(1.001, 1e6), st.floats(-1e6, -1.001)))
def test_pixels_outside_their_range_are_named(value):
    x0 = torch.zeros(2, 1, 4, 4)
    x0[1, 0, 2, 3] = value
    with pytest.raises(ValueError, match=r"x0 must be finite and lie in \[-1, 1\], got values from"):
        vlb_terms(wavy, short(), x0)
    assert simple_loss(wavy, short(), x0).isfinite().all()  # latents of other models may lie anywhere


def test_integer_images_are_named():
    x = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    for name, call in doors(short(), x).items():
        if name not in ("sample", "trajectory"):
            with pytest.raises(ValueError, match=r"must be a floating-point tensor, got torch.uint8"):
                call()
                pytest.fail(f"{name} took it")


@pytest.mark.parametrize("t", [torch.tensor([0, 12]), torch.tensor([-1, 0]), torch.tensor([0.0, 1.0]), torch.tensor(3)])
def test_bad_times_are_named(t):
    x = torch.zeros(2, 1, 4, 4)
    for call in (simple_loss, p_sample, predict_x0):
        with pytest.raises(ValueError, match=r"^t must "):
            call(wavy, short(), x, t)


def test_noise_of_another_shape_is_named():
    x, noise, t = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 3), torch.tensor([0, 1])
    message = r"noise must have the shape \(2, 1, 4, 4\), got \(2, 1, 4, 3\)"
    calls = [
        lambda: simple_loss(wavy, short(), x, t, noise),
        lambda: p_sample(wavy, short(), x, t, noise),
        lambda: vlb_terms(wavy, short(), x, noise),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()
