"""Scores against autograd, Tweedie's formula, the theorems that learn them, and the walks that follow them."""

import math

import pytest
import torch

from lib.diffusion import GaussianDiffusion, linear_betas, sample, simple_loss
from lib.diffusion.ddim import ddim_step
from lib.diffusion.guidance import classifier_guided
from lib.diffusion.schedule import times
from lib.diffusion.score import (
    GaussianMixture,
    annealed_langevin,
    denoising_score_matching,
    eps_from_score,
    langevin,
    noise_levels,
    process_levels,
    score_from_eps,
    score_matching,
)

WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MEANS = torch.tensor([[-4.0, -3.0], [3.0, 4.0], [5.0, 0.0]], dtype=torch.float64)
STDS = torch.tensor([0.5, 0.8, 0.6], dtype=torch.float64)
MIXTURE = GaussianMixture(WEIGHTS, MEANS, STDS)
PROCESS = GaussianDiffusion(linear_betas(1000))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n=50, seed=0, dtype=torch.float64):
    """Places within and far outside of the mixture."""
    return 6 * torch.randn(n, 2, generator=generator(seed), dtype=dtype)


def levels_for(x, seed=1):
    """A noise level between 0.05 and about 8 for each point."""
    return (torch.rand(len(x), generator=generator(seed), dtype=x.dtype) * 5 - 3).exp()


def by_autograd(function, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


class Field(torch.nn.Module):
    """A smooth field of arrows that is nobody's score."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)).double()

    def forward(self, x, sigma):
        return self.layers(torch.cat([x / 5, sigma.log()[:, None]], dim=1))


def square(low=-16.0, high=17.0, n=661):
    """A grid over the plane (n², 2) and the area of one of its cells."""
    line = torch.linspace(low, high, n, dtype=torch.float64)
    return torch.cartesian_prod(line, line), (line[1] - line[0]).item() ** 2


# The mixture


def test_density_is_that_of_torch_and_adds_up_to_one():
    grid, area = square()
    for sigma in (0.0, 0.7, 2.0):
        levels = torch.full((len(grid),), sigma, dtype=torch.float64)
        assert (MIXTURE.log_density(grid, levels).exp().sum() * area).item() == pytest.approx(1, abs=1e-5)
    x, sigma = points(), levels_for(points())
    parts = [
        w.log() + torch.distributions.Normal(m, (s**2 + sigma**2).sqrt()[:, None]).log_prob(x).sum(1)
        for w, m, s in zip(WEIGHTS, MEANS, STDS)
    ]
    assert torch.allclose(MIXTURE.log_density(x, sigma), torch.stack(parts).logsumexp(0), rtol=1e-12)
    assert torch.allclose(MIXTURE.log_component(x, sigma), torch.stack(parts, dim=1).log_softmax(1), atol=1e-9)


def test_score_is_the_gradient_of_the_log_density():
    x = points()
    for sigma in (levels_for(x), torch.zeros(len(x), dtype=x.dtype)):
        wanted = by_autograd(lambda x, sigma=sigma: MIXTURE.log_density(x, sigma), x)
        assert torch.allclose(MIXTURE.score(x, sigma), wanted, rtol=1e-10, atol=1e-10)


def test_tweedie_gives_the_mean_of_what_was_there_before_the_noise():
    """By brute force: all clean points of a grid, weighed by how probable each is together with the noised one."""
    clean, _ = square()
    density = MIXTURE.log_density(clean, torch.zeros(len(clean), dtype=clean.dtype))
    for noised, sigma in ((torch.tensor([1.0, 1.0]), 1.5), (torch.tensor([3.5, 2.0]), 0.8), (torch.zeros(2), 4.0)):
        noised = noised.double()
        weight = (density - (noised - clean).square().sum(1) / (2 * sigma**2)).softmax(0)
        found = MIXTURE.denoise(noised[None], torch.tensor([sigma], dtype=torch.float64))[0]
        assert torch.allclose(found, weight @ clean, atol=1e-6)


def test_points_are_a_mixture_of_zero_width():
    """The best denoiser of a data set is a weighted mean of its points."""
    data = points(7, seed=3)
    mixture = GaussianMixture(torch.ones(7), data, torch.zeros(7))
    x, sigma = points(), torch.full((50,), 0.9, dtype=torch.float64)
    shares = (-torch.cdist(x, data).square() / (2 * 0.9**2)).softmax(1)
    assert torch.allclose(mixture.denoise(x, sigma), shares @ data, atol=1e-9)
    with pytest.raises(ValueError, match="above 0 where a component is a single point"):
        mixture.score(x, 0 * sigma)


def test_draws_follow_weights_means_and_widths():
    n, sigma = 40_000, 0.7
    x = MIXTURE.sample(n, sigma, generator())
    component = torch.cdist(x, MEANS).argmin(1)  # far enough apart to be told from one another, nearly always
    for k in range(3):
        own = x[component == k]
        assert abs(len(own) / n - WEIGHTS[k]) < 0.01
        assert torch.allclose(own.mean(0), MEANS[k], atol=0.05)
        assert own.var(0).mean().item() == pytest.approx(STDS[k].item() ** 2 + sigma**2, rel=0.05)


# Learning a score


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_three_objectives_differ_by_constants(sigma):
    """The distance from the true score, Hyvärinen's integral and Vincent's denoising, on a grid over the plane: the
    same but for two constants that no field of arrows changes."""
    grid, area = square()
    levels = torch.full((len(grid),), sigma, dtype=torch.float64)
    density, truth = MIXTURE.log_density(grid, levels).exp() * area, MIXTURE.score(grid, levels)
    clean = MIXTURE.denoise(grid, levels)
    spread = posterior_spread(grid, sigma)

    def objectives(field):
        found = field(grid, levels).detach()
        explicit = density @ (0.5 * (found - truth).square().sum(1))
        implicit = density @ score_matching(lambda x: field(x, levels), grid).detach()
        # E over x given the noised point: the square around the mean of x, and the spread of x around it
        denoising = density @ (0.5 * ((found + (grid - clean) / sigma**2).square().sum(1) + spread / sigma**4))
        return torch.stack([explicit, implicit, denoising])

    fields = [Field(0), Field(1), lambda x, sigma: -x / 3, MIXTURE.score]
    values = torch.stack([objectives(field) for field in fields])
    assert values[:, 0].std() > 0.05  # the fields do differ
    for other in (1, 2):
        gaps = values[:, 0] - values[:, other]
        assert (gaps - gaps[0]).abs().max() < 1e-5
    assert values[3, 0] < 1e-12


def posterior_spread(x, sigma):
    """Total variance of the clean point given the noised one."""
    variance = STDS**2 + sigma**2
    shares = MIXTURE.log_component(x, torch.full((len(x),), sigma, dtype=x.dtype)).exp()
    means = (MEANS[None] * sigma**2 + x[:, None] * STDS[None, :, None] ** 2) / variance[:, None]
    centre = (shares[..., None] * means).sum(1)
    return (shares * (2 * STDS**2 * sigma**2 / variance + (means - centre[:, None]).square().sum(2))).sum(1)


def test_denoising_loss_is_the_expected_one():
    """The loss of drawn noise agrees with the integral of the test above, and its weights are those of the paper."""
    sigma, n = 0.8, 200_000
    clean, levels = MIXTURE.sample(n, generator=generator()), torch.full((n,), sigma, dtype=torch.float64)
    noise = torch.randn(clean.shape, generator=generator(1), dtype=torch.float64)
    field = Field()
    plain = denoising_score_matching(field, clean, levels, noise, weighted=False).detach()
    by_hand = 0.5 * (field(clean + sigma * noise, levels) + noise / sigma).square().sum(1).detach()
    assert torch.allclose(plain, by_hand)
    assert torch.allclose(denoising_score_matching(field, clean, levels, noise).detach(), sigma**2 * by_hand)

    grid, area = square()
    on_grid = torch.full((len(grid),), sigma, dtype=torch.float64)
    density, clean_mean = MIXTURE.log_density(grid, on_grid).exp() * area, MIXTURE.denoise(grid, on_grid)
    error = (field(grid, on_grid).detach() + (grid - clean_mean) / sigma**2).square().sum(1)
    expected = density @ (0.5 * (error + posterior_spread(grid, sigma) / sigma**4))
    assert abs(plain.mean() - expected) < 5 * plain.std() / math.sqrt(n)


def test_the_answer_zero_costs_the_same_at_every_level():
    x = points(20_000)
    for sigma in (0.01, 1.0, 50.0):
        levels = torch.full((len(x),), sigma, dtype=x.dtype)
        loss = denoising_score_matching(lambda x, sigma: torch.zeros_like(x), x, levels)
        assert loss.mean().item() == pytest.approx(1, abs=0.05)  # D / 2


def test_score_matching_of_a_gaussian_finds_mean_and_variance():
    x = 0.7 + 1.3 * torch.randn(4000, 2, generator=generator(), dtype=torch.float64)
    mean, log_variance = (torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.LBFGS([mean, log_variance], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = score_matching(lambda x: (mean - x) / log_variance.exp(), x).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.allclose(mean, x.mean(0), atol=1e-4)
    assert torch.allclose(log_variance.exp(), x.var(0, correction=0), atol=1e-4)


# Walking along a score


def test_langevin_rests_where_the_algebra_says():
    """A Gaussian N(1, v): the walk is linear, and rests at variance v / (1 - step / 4v)."""
    gaussian = GaussianMixture(torch.ones(1), torch.ones(1, 1, dtype=torch.float64), torch.full((1,), 0.5))
    start = torch.zeros(40_000, 1, dtype=torch.float64)
    x = langevin(gaussian.score, start, 0.0, step=0.25, steps=60, generator=generator())
    assert x.mean().item() == pytest.approx(1, abs=0.02)
    assert x.var().item() == pytest.approx(0.25 / (1 - 0.25 / (4 * 0.25)), rel=0.03)


def test_langevin_keeps_the_mixture_and_does_not_mix_it():
    """Started in the mixture it stays there; started elsewhere it finds the modes, but not their weights."""
    options = {"sigma": 0.0, "step": 0.02, "steps": 300}
    kept = langevin(MIXTURE.score, MIXTURE.sample(4000, generator=generator()), generator=generator(1), **options)
    assert (shares(kept) - WEIGHTS).abs().max() < 0.03
    assert kept.mean(0).sub(WEIGHTS @ MEANS).abs().max() < 0.3
    lost = langevin(
        MIXTURE.score, 16 * torch.rand(4000, 2, generator=generator()).double() - 8, generator=generator(1), **options
    )
    assert torch.cdist(lost, MEANS).amin(1).mean() < 1.5
    assert (shares(lost) - WEIGHTS).abs().max() > 0.1


def test_annealed_langevin_draws_the_mixture():
    """From a start that knows nothing: weights, means and widths."""
    levels = noise_levels(20, 0.1, 15)
    start = 20 * torch.randn(6000, 2, generator=generator(), dtype=torch.float64)
    walk = annealed_langevin(MIXTURE.score, start, levels, step=0.1 * 0.1**2, steps=60, generator=generator(1))
    assert walk.shape == (15, 6000, 2)
    x = walk[-1]
    assert (shares(x) - WEIGHTS).abs().max() < 0.03
    for k in range(3):
        own = x[torch.cdist(x, MEANS).argmin(1) == k]
        assert torch.allclose(own.mean(0), MEANS[k], atol=0.1)
        assert own.std(0).mean().item() == pytest.approx(STDS[k].item(), rel=0.15)


def shares(x):
    return torch.bincount(torch.cdist(x, MEANS).argmin(1), minlength=3) / len(x)


def test_annealed_langevin_is_langevin_level_by_level():
    levels, x = noise_levels(4, 1, 3), points(5)
    walk = annealed_langevin(MIXTURE.score, x, levels, 0.1, 2, generator())
    noise = generator()
    for sigma, state in zip((4.0, 2.0, 1.0), walk):
        x = langevin(MIXTURE.score, x, sigma, 0.1 * sigma**2, 2, noise)
        assert torch.allclose(x, state)


def test_levels_are_geometric():
    levels = noise_levels(10, 0.01, 10)
    assert levels[0].item() == pytest.approx(10) and levels[-1].item() == pytest.approx(0.01)
    assert torch.allclose(levels[1:] / levels[:-1], (levels[1] / levels[0]).expand(9))


# The same as a diffusion


def test_score_of_a_diffusion_is_minus_noise_over_spread():
    """In DDPM's coordinates, for the mixture: autograd of log q(x_t), and the noise that `score_from_eps` names."""
    x, t = points(20), torch.randint(1000, (20,), generator=generator(2))
    signal, _ = PROCESS.signal_and_spread(t, x)
    sigma = process_levels(PROCESS)[t]
    # x_t = signal * x~, so log q(x_t) is log p_sigma(x_t / signal) and a constant
    wanted = by_autograd(lambda x: MIXTURE.log_density(x / signal, sigma), x)
    eps = eps_from_score(MIXTURE.score, PROCESS)
    assert torch.allclose(PROCESS.score_from_eps(t, eps(x, t)), wanted, rtol=1e-9, atol=1e-9)


def test_exact_noise_is_the_mean_of_the_noise():
    """Of all pairs of a clean point and a noise that lead near one x_t, the mean noise."""
    n, t = 4_000_000, 300
    clean, noise = (
        MIXTURE.sample(n, generator=generator()).float(),
        torch.randn(n, 2, generator=generator(1)),
    )
    signal, spread = PROCESS.alphas_bar[t].sqrt().item(), (1 - PROCESS.alphas_bar[t]).sqrt().item()
    place = torch.tensor([1.5, 2.0])
    near = (signal * clean + spread * noise - place).square().sum(1) < 0.05**2
    assert near.sum() > 500
    exact = eps_from_score(MIXTURE.score, PROCESS)(place[None].double(), torch.tensor([t]))[0]
    assert torch.allclose(noise[near].mean(0).double(), exact, atol=0.08)


def test_both_ways_between_noise_and_score_undo_each_other():
    t = torch.arange(1000)
    x, sigma = points(1000), process_levels(PROCESS)
    back = score_from_eps(eps_from_score(MIXTURE.score, PROCESS), PROCESS)
    assert torch.allclose(back(x, sigma[t]), MIXTURE.score(x, sigma[t]), rtol=1e-9, atol=1e-9)


def test_simple_loss_is_weighted_denoising_score_matching():
    """The same network, noise and times, in two systems of coordinates: equal but for the factor D / 2."""
    x, t = points(64), torch.randint(1000, (64,), generator=generator(2))
    noise = torch.randn(x.shape, generator=generator(3), dtype=torch.float64)
    field = Field()

    def network(xt, t):
        return field(xt, 1 + t / 1000)

    sigma = process_levels(PROCESS)[t]
    simple = simple_loss(network, PROCESS, x, t, noise)
    denoising = denoising_score_matching(score_from_eps(network, PROCESS), x, sigma, noise)
    assert torch.allclose(denoising, simple * x.shape[1] / 2, rtol=1e-9)


def test_an_ancestral_step_moves_along_the_score():
    """x~ goes by (sigma_t² - sigma_{t-1}²) times the score."""
    x, t = points(40), torch.randint(1, 1000, (40,), generator=generator(2))
    signal, before = PROCESS.alphas_bar[t].sqrt()[:, None], PROCESS.alphas_bar[t - 1].sqrt()[:, None]
    sigma, lower = process_levels(PROCESS)[t], process_levels(PROCESS)[t - 1]
    eps = eps_from_score(MIXTURE.score, PROCESS)(signal * x, t)
    mean, _, _ = PROCESS.q_posterior(PROCESS.x0_from_eps(signal * x, t, eps), signal * x, t)
    wanted = x + (sigma**2 - lower**2)[:, None] * MIXTURE.score(x, sigma)
    assert torch.allclose(mean / before, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [None, 0.0, 1.0])
def test_samplers_of_a_diffusion_draw_the_mixture_from_its_exact_noise(eta):
    """Ancestral sampling (None) and DDIM, with no noise and with all of it."""
    eps, n = eps_from_score(MIXTURE.score, PROCESS), 4000
    if eta is None:
        torch.set_default_dtype(torch.float64)
        try:
            x = sample(eps, PROCESS, (n, 2), steps=200, clip=False, variance="small", generator=generator())
        finally:
            torch.set_default_dtype(torch.float32)
    else:
        x, noise = torch.randn(n, 2, generator=generator(), dtype=torch.float64), generator(1)
        visited = times(1000, 200, "trailing")
        for now, then in zip(reversed(visited.tolist()), reversed([-1, *visited[:-1].tolist()])):
            t, s = torch.full((n,), now), torch.full((n,), then)
            z = torch.randn(x.shape, generator=noise, dtype=x.dtype)
            x, _ = ddim_step(PROCESS, x, t, s, eps(x, t), eta=eta, noise=z, clip=False)
    assert (shares(x) - WEIGHTS).abs().max() < 0.03
    for k in range(3):
        own = x[torch.cdist(x, MEANS).argmin(1) == k]
        assert torch.allclose(own.mean(0), MEANS[k], atol=0.1)
        assert own.std(0).mean().item() == pytest.approx(STDS[k].item(), rel=0.1)


def test_guidance_turns_the_mixture_into_its_component():
    """Bayes' rule for arrows: the score of one component is the mixture's plus the slope of log p(k | x)."""
    x, sigma = points(30), levels_for(points(30))
    alone = GaussianMixture(WEIGHTS[1:2], MEANS[1:2], STDS[1:2])
    slope = by_autograd(lambda x: MIXTURE.log_component(x, sigma)[:, 1], x)
    assert torch.allclose(MIXTURE.score(x, sigma) + slope, alone.score(x, sigma), rtol=1e-9, atol=1e-9)

    t = torch.randint(1000, (30,), generator=generator(2))

    def log_probability(xt, t):
        signal, _ = PROCESS.signal_and_spread(t, xt)
        return MIXTURE.log_component(xt / signal, process_levels(PROCESS)[t])[:, 1]

    guided = classifier_guided(eps_from_score(MIXTURE.score, PROCESS), PROCESS, log_probability)
    assert torch.allclose(guided(x, t), eps_from_score(alone.score, PROCESS)(x, t), rtol=1e-9, atol=1e-9)


# Types and bad input


def test_results_have_the_type_of_the_points():
    for dtype in (torch.float32, torch.float64):
        x, t = points(5, dtype=dtype), torch.tensor([0, 10, 200, 700, 999])
        sigma = process_levels(PROCESS)[t]  # float64
        eps = eps_from_score(MIXTURE.score, PROCESS)
        results = [
            MIXTURE.score(x, sigma), MIXTURE.log_density(x, sigma), MIXTURE.denoise(x, sigma), eps(x, t),
            score_from_eps(eps, PROCESS)(x, sigma), denoising_score_matching(MIXTURE.score, x, sigma),
            annealed_langevin(MIXTURE.score, x, noise_levels(2, 1, 3), 0.1, 2, generator()),
        ]  # fmt: skip
        assert {result.dtype for result in results} == {dtype}


def test_pictures_pass_through():
    def score(x, sigma):
        return -x / sigma.view(-1, 1, 1, 1) ** 2

    x = torch.randn(3, 1, 4, 4, generator=generator())
    assert denoising_score_matching(score, x, torch.ones(3)).shape == (3,)
    assert annealed_langevin(score, x, noise_levels(2, 1, 4), 0.1, 2).shape == (4, 3, 1, 4, 4)
    assert eps_from_score(score, PROCESS)(x, torch.tensor([1, 2, 3])).shape == x.shape


X, ONE = points(4), torch.ones(4, dtype=torch.float64)


BAD = [
    (lambda: GaussianMixture(WEIGHTS[:2], MEANS, STDS), r"weights, means and stds must be \(K,\), \(K, D\)"),
    (lambda: GaussianMixture(-WEIGHTS, MEANS, STDS), "weights must be positive"),
    (lambda: GaussianMixture(WEIGHTS, MEANS, -STDS), "stds at least 0"),
    (lambda: MIXTURE.score(X[:, :1], ONE), r"x and sigma must be \(B, 2\) and \(B,\)"),
    (lambda: MIXTURE.score(X, ONE[:2]), r"x and sigma must be \(B, 2\) and \(B,\)"),
    (lambda: MIXTURE.score(X, -ONE), "sigma must be at least 0"),
    (lambda: MIXTURE.sample(0), "count must be an integer of at least 1"),
    (lambda: noise_levels(1, 1, 5), "levels must fall and be positive"),
    (lambda: noise_levels(1, 0, 5), "levels must fall and be positive"),
    (lambda: noise_levels(2, 1, 1), "count must be an integer of at least 2"),
    (lambda: denoising_score_matching(MIXTURE.score, X, 0 * ONE), "sigma must be above 0"),
    (lambda: denoising_score_matching(MIXTURE.score, X, ONE * math.nan), "sigma must be above 0"),
    (lambda: denoising_score_matching(MIXTURE.score, X, ONE[:3]), r"sigma must be floating point \(4,\)"),
    (lambda: denoising_score_matching(MIXTURE.score, X, ONE, X[:2]), "noise must have the shape"),
    (lambda: denoising_score_matching(MIXTURE.score, X * math.inf, ONE), "x0 must be finite"),
    (lambda: denoising_score_matching(lambda x, sigma: x[:1], X, ONE), "output must have the shape"),
    (lambda: score_matching(lambda x: x[:1], X), "the score must have the shape"),
    (lambda: langevin(MIXTURE.score, X, 1, 0.1, 0), "steps must be an integer of at least 1"),
    (lambda: langevin(MIXTURE.score, X, 1, 0, 5), "step must be a finite number, above 0"),
    (lambda: langevin(MIXTURE.score, X, -1, 0.1, 5), "sigma must be a finite number, at least 0"),
    (lambda: annealed_langevin(MIXTURE.score, X, torch.tensor([1.0, 2.0]), 0.1, 5), "levels must be positive and"),
    (lambda: annealed_langevin(MIXTURE.score, X, torch.tensor([1.0, 0.0]), 0.1, 5), "levels must be positive and"),
    (lambda: annealed_langevin(MIXTURE.score, X, torch.tensor([1.0, 1.0]), 0.1, 5), "levels must be positive and"),
    (lambda: annealed_langevin(MIXTURE.score, X, torch.ones(1, 1), 0.1, 5), "levels must be positive and"),
    (lambda: score_from_eps(lambda x, t: x, PROCESS)(X, 1e-3 * ONE), "sigma must lie between 0.01 and"),
    (lambda: score_from_eps(lambda x, t: x, PROCESS)(X, 1e3 * ONE), "sigma must lie between"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
