"""The forward process against its definition, Bayes' rule and two reference implementations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.diffusion import GaussianDiffusion, cosine_betas, linear_betas

REFERENCE = Path(__file__).parents[1] / "reference"
SCHEDULES = {"linear": linear_betas(1000), "cosine": cosine_betas(1000), "short": linear_betas(12, 0.05, 0.6)}


def load(name):
    """The tensors of a file of reference vectors."""
    with np.load(REFERENCE / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fi"}


@pytest.fixture(params=SCHEDULES)
def process(request):
    return GaussianDiffusion(SCHEDULES[request.param])


def pictures(seed=0, n=6, dtype=torch.float64):
    """Something shaped like images (n, 2, 3, 3) and noise for them."""
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(n, 2, 3, 3, generator=generator, dtype=torch.float64) * 2 - 1
    return x0.to(dtype), torch.randn(x0.shape, generator=generator, dtype=torch.float64).to(dtype)


def times(process, n=6, seed=0):
    """`n` times, the first and the last step among them."""
    drawn = torch.randint(process.T, (n,), generator=torch.Generator().manual_seed(seed))
    drawn[0], drawn[-1] = 0, process.T - 1
    return drawn


def all_times(process):
    return torch.arange(process.T)


# Reference vectors


@pytest.mark.parametrize(
    ("name", "betas"),
    [
        ("guided_linear_100", linear_betas(100, 1e-3, 0.2)),
        ("guided_linear_1000", linear_betas(1000)),
        ("guided_cosine_50", cosine_betas(50)),
        ("guided_cosine_1000", cosine_betas(1000)),
        ("guided_cosine_4000", cosine_betas(4000)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_coefficients_equal_the_reference(name, betas):
    process, reference = GaussianDiffusion(betas), load("schedules")
    names = {
        "betas": "betas", "alphas_cumprod": "alphas_bar", "alphas_cumprod_prev": "alphas_bar_prev",
        "posterior_variance": "posterior_variance", "posterior_log_variance_clipped": "posterior_log_variance",
        "posterior_mean_coef1": "posterior_mean_x0", "posterior_mean_coef2": "posterior_mean_xt",
    }  # fmt: skip
    for theirs, ours in names.items():
        ours = getattr(process, ours)
        assert ours.dtype == torch.float64
        assert torch.allclose(ours, reference[f"{name}.{theirs}"], rtol=0, atol=1e-9), theirs


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_alphas_bar_equal_diffusers(name):
    theirs = {"linear": "linear", "cosine": "squaredcos_cap_v2"}[name]
    theirs = load("schedules")[f"diffusers_{theirs}_1000.alphas_cumprod"]
    ours = GaussianDiffusion(SCHEDULES[name]).alphas_bar
    assert torch.allclose(ours, theirs.double(), rtol=0, atol=1e-6)  # theirs are float32


def test_noised_images_and_velocities_equal_diffusers():
    process, z = GaussianDiffusion(SCHEDULES["linear"]), load("sampler_steps")
    for t in z["t"].tolist():
        at = torch.tensor([t, t])
        assert torch.allclose(process.q_sample(z["x0"], at, z["eps"]), z[f"qsample_{t}"], rtol=0, atol=1e-5)
        assert torch.allclose(process.v_from_x0_eps(z["x0"], at, z["eps"]), z[f"velocity_{t}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_noised_images_and_posterior_equal_guided_diffusion(name):
    process, z = GaussianDiffusion(SCHEDULES[name]), load("improved_guided")
    xt = process.q_sample(z["x0"], z["t"], z["noise"])
    assert torch.allclose(xt, z[f"{name}.xt"], rtol=0, atol=1e-5)
    posterior = process.q_posterior(z["x0"], xt, z["t"])
    for ours, theirs in zip(posterior, ("q_mean", "q_var", "q_logvar")):
        assert torch.allclose(ours.expand_as(xt), z[f"{name}.{theirs}"], rtol=0, atol=1e-5), theirs


# The laws


def test_the_closed_form_is_the_composition_of_all_steps(process):
    """Row 0 carries an image without noise; row i the noise of step i alone. Steps are linear, so that says all."""
    T = process.T
    x = torch.zeros(T + 1, dtype=torch.float64)
    x[0] = 1
    for t in range(T):
        noise = torch.zeros(T + 1, dtype=torch.float64)
        noise[t + 1] = 1
        x = process.q_step(x, torch.full((T + 1,), t), noise)
        if t > 10 and t % 100 != 99:
            continue
        one, at = torch.ones(1, dtype=torch.float64), torch.tensor([t])
        signal, spread = process.q_sample(one, at, 0 * one), process.q_sample(0 * one, at, one)
        assert torch.allclose(x[:1], signal, rtol=1e-11, atol=0)
        assert torch.allclose(x[1:].norm(), spread, rtol=1e-11, atol=0)  # variances add
        assert torch.equal(x[t + 2 :], torch.zeros(T - t - 1, dtype=torch.float64))


def test_the_posterior_is_that_of_bayes(process):
    """Of the joint Gaussian of x_{t-1} and x_t, x0 given, by the general rule for conditioning."""
    t = all_times(process)[1:]
    n = len(t)
    zero, one = torch.zeros(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    x0, xt = 0.7 * one, -1.3 * one
    mean_prev, spread = process.q_sample(x0, t - 1, zero), process.q_sample(zero, t - 1, one)
    mean_now, step = process.q_step(mean_prev, t, zero), process.q_step(zero, t, one)
    carried = process.q_step(spread, t, zero)  # of the noise in x_{t-1}, what is left in x_t
    variance_now, covariance = carried**2 + step**2, spread * carried
    mean, variance, log_variance = process.q_posterior(x0, xt, t)
    assert torch.allclose(mean, mean_prev + covariance / variance_now * (xt - mean_now), rtol=0, atol=1e-9)
    assert torch.allclose(variance, spread**2 - covariance**2 / variance_now, rtol=1e-9, atol=1e-12)
    assert torch.allclose(log_variance, variance.log(), rtol=0, atol=1e-12)


def test_at_the_first_step_the_posterior_is_the_image(process):
    x0, xt = pictures()
    t = torch.zeros(6, dtype=torch.long)
    mean, variance, log_variance = process.q_posterior(x0, xt, t)
    assert torch.allclose(mean, x0, rtol=0, atol=1e-12)
    assert torch.equal(variance, torch.zeros(6, 1, 1, 1, dtype=torch.float64))
    second = process.q_posterior(x0, xt, t + 1)[1]
    assert torch.equal(log_variance, second.log())


def test_a_chain_of_one_step():
    process = GaussianDiffusion(torch.tensor([0.3]))
    one = torch.ones(1, dtype=torch.float64)
    mean, variance, log_variance = process.q_posterior(one, 0 * one, torch.tensor([0]))
    assert mean == 1 and variance == 0
    assert log_variance.exp() == pytest.approx(0.3, rel=1e-7)


def test_the_signal_to_noise_ratio_is_that_of_the_noised_image(process):
    t = all_times(process)
    one = torch.ones(process.T, dtype=torch.float64)
    ratio = process.q_sample(one, t, 0 * one) ** 2 / process.q_sample(0 * one, t, one) ** 2
    assert torch.allclose(process.snr(t), ratio, rtol=1e-12)
    assert (process.snr(t).diff() < 0).all()


@given(st.integers(1, 200), st.integers(0, 2**30))
def test_a_strided_chain_makes_the_same_images_at_the_times_it_visits(T, seed):
    process = GaussianDiffusion(linear_betas(T, 1e-3, 0.05))
    generator = torch.Generator().manual_seed(seed)
    visited = (
        torch.randperm(T, generator=generator)[: int(torch.randint(1, T + 1, (), generator=generator))].sort().values
    )
    chain = process.respaced(visited)
    assert len(visited) == chain.T
    x0, noise = pictures(seed)
    t = times(chain, seed=seed)
    assert torch.allclose(chain.q_sample(x0, t, noise), process.q_sample(x0, visited[t], noise), rtol=0, atol=1e-12)
    # One of its steps is the many in between: signal and spread as these compose them.
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    last = torch.tensor([chain.T - 1])
    signal, variance = one, zero
    for step in range(int(visited[-2]) + 1 if chain.T > 1 else 0, int(visited[-1]) + 1):
        at = torch.tensor([step])
        signal, variance = (
            process.q_step(signal, at, zero),
            process.q_step(variance.sqrt(), at, zero) ** 2 + process.betas[at],
        )
    assert torch.allclose(chain.q_step(one, last, zero), signal, rtol=1e-9)
    assert torch.allclose(chain.q_step(zero, last, one) ** 2, variance, rtol=1e-9)


def test_the_whole_chain_strided_is_itself(process):
    chain = process.respaced(all_times(process))
    for name, table in process.named_buffers():
        assert torch.allclose(getattr(chain, name), table, rtol=1e-9), name
    assert process.float().respaced(torch.tensor([3, 5])).betas.dtype == torch.float32


@pytest.mark.parametrize("visited", [[], [3, 3], [5, 2], [0, 12], [-1, 4]])
def test_bad_strides_are_named(visited):
    with pytest.raises(
        ValueError, match=r"^(times must be between 0 and 11|times must be at least one integer, each above)"
    ):
        GaussianDiffusion(SCHEDULES["short"]).respaced(torch.tensor(visited, dtype=torch.long))


def test_the_score_is_the_gradient_of_the_log_density(process):
    x0, noise = pictures()
    t = times(process)
    xt = process.q_sample(x0, t, noise).requires_grad_()
    zero = torch.zeros_like(x0)
    mean, std = process.q_sample(x0, t, zero), process.q_sample(zero, t, zero + 1)
    torch.distributions.Normal(mean, std).log_prob(xt).sum().backward()
    assert torch.allclose(process.score_from_eps(t, noise), xt.grad, rtol=1e-9)


@given(st.integers(1, 400), st.integers(0, 2**30), st.booleans())
def test_four_ways_to_say_where_the_image_was_are_one(T, seed, cosine):
    process = GaussianDiffusion(cosine_betas(T) if cosine else linear_betas(T))
    x0, eps = pictures(seed)
    t = times(process, seed=seed)
    xt, v = process.q_sample(x0, t, eps), process.v_from_x0_eps(x0, t, eps)
    signal = process.q_sample(torch.ones_like(x0), t, torch.zeros_like(x0))
    close = {"rtol": 0, "atol": 1e-12}
    assert torch.allclose(process.x0_from_v(xt, t, v), x0, **close)
    assert torch.allclose(process.eps_from_v(xt, t, v), eps, **close)
    # Dividing by what little is left of the image, or of the noise, makes rounding larger by as much.
    assert torch.allclose(signal * process.x0_from_eps(xt, t, eps), signal * x0, **close)
    spread = process.q_sample(torch.zeros_like(x0), t, torch.ones_like(x0))
    assert torch.allclose(spread * process.eps_from_x0(xt, t, x0), spread * eps, **close)


# Noise, types, devices


def test_noise_is_drawn_where_none_is_given():
    process = GaussianDiffusion(SCHEDULES["short"])
    x0, _ = pictures()
    for method in (process.q_sample, process.q_step):
        torch.manual_seed(0)
        drawn = method(x0, times(process))
        torch.manual_seed(0)
        assert torch.equal(drawn, method(x0, times(process), torch.randn_like(x0)))
        assert not torch.equal(drawn, method(x0, times(process)))


def everything(process, x0, t, noise):
    """The results of all methods that speak of images."""
    xt = process.q_sample(x0, t, noise)
    v = process.v_from_x0_eps(x0, t, noise)
    return [
        xt, v, process.q_step(x0, t, noise), *process.q_posterior(x0, xt, t), process.x0_from_eps(xt, t, noise),
        process.eps_from_x0(xt, t, x0), process.x0_from_v(xt, t, v), process.eps_from_v(xt, t, v),
        process.score_from_eps(t, noise),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_results_have_the_type_of_the_images(process, dtype):
    x0, noise = pictures(dtype=dtype)
    for result in everything(process, x0, times(process), noise):
        assert result.dtype == dtype and result.shape[0] == 6


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_tables_hold_more_than_float32(name):
    """1 - alpha_bar of the first steps is no difference of numbers that were rounded before."""
    process = GaussianDiffusion(SCHEDULES[name])
    x0, noise = pictures(dtype=torch.float32)
    t = torch.zeros(6, dtype=torch.long)
    exact = (process.betas[0].sqrt() * noise.double()).float()
    assert torch.allclose(process.q_sample(0 * x0, t, noise), exact, rtol=3e-7, atol=0)


def test_an_image_does_not_see_its_batch(process):
    x0, noise = pictures()
    t = times(process)
    together = everything(process, x0, t, noise)
    for i in range(6):
        alone = everything(process, x0[i : i + 1], t[i : i + 1], noise[i : i + 1])
        for ours, whole in zip(alone, together):
            assert torch.equal(ours, whole[i : i + 1])


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 2, 3, 3, 2), (0, 1, 4, 4)])
def test_images_may_have_any_number_of_sides(process, shape):
    x0 = torch.rand(shape)
    t = times(process)[: shape[0]]
    mean, variance, _ = process.q_posterior(x0, process.q_sample(x0, t), t)
    assert mean.shape == shape and variance.shape == (shape[0], *[1] * (len(shape) - 1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_times_may_be_any_integers(dtype):
    process = GaussianDiffusion(linear_betas(6, 0.05, 0.6))
    x0, noise = pictures()
    t = torch.arange(6)
    for ours, wanted in zip(everything(process, x0, t.to(dtype), noise), everything(process, x0, t, noise)):
        assert torch.equal(ours, wanted)
    assert torch.equal(process.snr(t.to(dtype)), process.snr(t))


def test_nothing_to_train_and_nothing_to_save(process):
    assert not list(process.parameters()) and not process.state_dict()
    assert process.betas.dtype == torch.float64 and process.float().betas.dtype == torch.float32


def test_betas_are_not_shared():
    betas = linear_betas(5).requires_grad_()
    process = GaussianDiffusion(betas)
    assert not any(table.requires_grad for table in process.buffers())
    with torch.no_grad():
        betas.fill_(0.5)
    assert torch.equal(process.betas, linear_betas(5))


def test_meta_compile_and_autocast():
    process = GaussianDiffusion(SCHEDULES["short"])
    x0, noise = pictures(dtype=torch.float32)
    t = times(process)
    compiled = torch.compile(process.q_sample, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x0, t, noise), process.q_sample(x0, t, noise))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(process.q_sample(x0, t, noise), compiled(x0, t, noise))
    process = process.to("meta")
    for result in everything(process, x0.to("meta"), t.to("meta"), noise.to("meta")):
        assert result.is_meta and result.shape[0] == 6


# What is refused


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        (torch.tensor([0.1, 0.0]), "betas must lie between 0 and 1, got values from 0 to 0.1"),
        (torch.tensor([0.1, 1.0]), "betas must lie between 0 and 1, got values from 0.1 to 1"),
        (torch.tensor([0.1, -0.2]), "betas must lie between 0 and 1"),
        (torch.tensor([0.1, 1.2]), "betas must lie between 0 and 1"),
        (torch.tensor([0.1, float("nan")]), "betas must lie between 0 and 1"),
        (torch.full((3, 1), 0.1), r"betas must be floating point \(T,\), got torch.float32 \(3, 1\)"),
        (torch.tensor(0.1), r"betas must be floating point \(T,\), got torch.float32 \(\)"),
        (torch.zeros(0), r"betas must be floating point \(T,\), got torch.float32 \(0,\)"),
        (torch.ones(3, dtype=torch.long), r"betas must be a floating-point tensor, got torch.int64 \(3,\)"),
    ],
)
def test_bad_betas_are_named(betas, message):
    with pytest.raises(ValueError, match=message):
        GaussianDiffusion(betas)


def calls(process, x, t):
    """Every method that takes times, as (name, call)."""
    return {
        "q_step": lambda: process.q_step(x, t), "q_sample": lambda: process.q_sample(x, t),
        "q_posterior": lambda: process.q_posterior(x, x, t), "x0_from_eps": lambda: process.x0_from_eps(x, t, x),
        "eps_from_x0": lambda: process.eps_from_x0(x, t, x), "v_from_x0_eps": lambda: process.v_from_x0_eps(x, t, x),
        "x0_from_v": lambda: process.x0_from_v(x, t, x), "eps_from_v": lambda: process.eps_from_v(x, t, x),
        "score_from_eps": lambda: process.score_from_eps(t, x), "snr": lambda: process.snr(t),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (torch.tensor([0, 12]), "t must be between 0 and 11, got values from 0 to 12"),
        (torch.tensor([-1, 3]), "t must be between 0 and 11, got values from -1 to 3"),
        (torch.tensor([0.0, 1.0]), r"t must be a tensor of integers, got torch.float32 \(2,\)"),
        (torch.tensor([True, False]), r"t must be a tensor of integers, got torch.bool \(2,\)"),
        (torch.tensor(3), r"t must be integers \(B,\), got torch.int64 \(\)"),
        (torch.tensor([[0], [1]]), r"t must be integers \(B,\), got torch.int64 \(2, 1\)"),
    ],
)
def test_bad_times_are_named(t, message):
    process = GaussianDiffusion(SCHEDULES["short"])
    for name, call in calls(process, torch.zeros(2, 1, 2, 2), t).items():
        with pytest.raises(ValueError, match=message):
            call()
            pytest.fail(f"{name} took it")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 1, 2, 2), r"images must be \(2, ...\), one image for each time of t, got \(3, 1, 2, 2\)"),
        (torch.zeros(1, 2), r"images must be \(2, ...\), one image for each time of t, got \(1, 2\)"),
        (torch.tensor(0.5), r"images must be \(2, ...\), one image for each time of t, got \(\)"),
        (torch.zeros(2, 3, dtype=torch.uint8), r"must be a floating-point tensor, got torch.uint8"),
    ],
)
def test_bad_images_are_named(x, message):
    process = GaussianDiffusion(SCHEDULES["short"])
    for name, call in calls(process, x, torch.tensor([0, 1])).items():
        if name != "snr":
            with pytest.raises(ValueError, match=message):
                call()
                pytest.fail(f"{name} took it")


def test_a_second_tensor_of_another_shape_is_named():
    process = GaussianDiffusion(SCHEDULES["short"])
    x, other, t = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 1), torch.tensor([0, 1])
    arguments = {
        "q_step": ("noise", (x, t, other)), "q_sample": ("noise", (x, t, other)), "q_posterior": ("xt", (x, other, t)),
        "x0_from_eps": ("eps", (x, t, other)), "eps_from_x0": ("x0", (x, t, other)),
        "v_from_x0_eps": ("eps", (x, t, other)), "x0_from_v": ("v", (x, t, other)), "eps_from_v": ("v", (x, t, other)),
    }  # fmt: skip
    for method, (name, values) in arguments.items():
        message = rf"{name} must have the shape \(2, 1, 2, 2\), got \(2, 1, 2, 1\)"
        with pytest.raises(ValueError, match=message):
            getattr(process, method)(*values)
