"""What holds at the doors of every loss and sampler: types of numbers, modes, devices, and what is never waited for."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from lib.diffusion import GaussianDiffusion, cosine_betas, ddim, ddpm, digit_unet, linear_betas, sample, simple_loss
from lib.diffusion.ddim import ddim_step, invert
from lib.diffusion.guidance import (
    EncoderUNet,
    classifier_free,
    classifier_guided,
    drop_labels,
    towards_class,
    towards_image,
)
from lib.diffusion.improved import LossAwareSampler, hybrid_loss, learned_mean_variance, vlb_loss
from lib.diffusion.latent import FirstStage, Posterior, digit_latent_denoiser
from lib.diffusion.schedule import times
from lib.diffusion.score import (
    GaussianMixture,
    denoising_score_matching,
    eps_from_score,
    langevin,
    noise_levels,
    score_from_eps,
    score_matching,
)
from lib.diffusion.unet import ChannelNorm
from tests.waits import waits

SHAPE = (2, 1, 28, 28)
process = GaussianDiffusion(linear_betas(1000))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(seed=0):
    return torch.rand(SHAPE, generator=generator(seed)) * 2 - 1


def stirred(network, seed=0):
    """The network with random numbers everywhere: fresh ones answer 0."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05, generator=generator(seed))
    return network.eval()


def double(x, t):
    """A model with a variance: twice the channels."""
    return torch.cat([x.sin(), 0 * x + 0.5], dim=1)


# Types of numbers


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("place", ["by itself", "in a module"])
def test_a_schedule_keeps_its_digits_in_a_module_of_16_bits(dtype, place):
    cast = GaussianDiffusion(cosine_betas(1000))
    (cast if place == "by itself" else nn.ModuleList([cast])).to(dtype)
    assert all(table.dtype == torch.float32 for table in cast.buffers())
    x, t, noise = torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), torch.ones(2, 3)
    exact = GaussianDiffusion(cosine_betas(1000)).q_sample(x.double(), t, noise.double())
    assert torch.allclose(cast.q_sample(x, t, noise).double(), exact, rtol=0.01, atol=0)


def test_a_schedule_stays_in_64_bits_and_may_be_asked_for_32():
    whole = GaussianDiffusion(linear_betas(10))
    assert whole.to("cpu").betas.dtype == torch.float64 and whole.float().betas.dtype == torch.float32


def test_a_device_without_float64_gets_float32(without_float64):
    there = GaussianDiffusion(linear_betas(1000)).to(without_float64)
    assert all(table.dtype == torch.float32 for table in there.buffers())
    network = stirred(digit_unet(num_classes=10)).to(without_float64)
    reader, codes = EncoderUNet().to(without_float64).eval(), digit_latent_denoiser().to(without_float64).eval()
    labels = torch.tensor([3, 4]).to(without_float64)
    free = classifier_free(network, labels, 1.0)
    guided = classifier_guided(network, there, towards_class(reader, labels))
    for model, shape in ((free, SHAPE), (guided, SHAPE), (codes, (2, 4, 7, 7))):
        assert sample(model, there, shape, steps=2).isfinite().all()
        assert ddim.sample(model, there, shape, 2, 1.0).isfinite().all()
    assert there.respaced(torch.tensor([3, 5])).betas.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("way", ["plain", "free", "guided", "partial", "method"])
def test_a_network_of_another_type_is_asked_in_its_own(dtype, way):
    network, reader = stirred(digit_unet(num_classes=10)).to(dtype), stirred(EncoderUNet(), seed=1).to(dtype)
    labels = torch.tensor([3, 4])

    def by_hand(network):
        return lambda x, t, *labels: network(x.to(dtype), t, *labels).float()

    def model_of(network, reader):
        return {
            "plain": network,
            "free": classifier_free(network, labels, 1.0),
            "guided": classifier_guided(network, process, towards_class(reader, labels)),
            "partial": functools.partial(network),
            "method": getattr(network, "forward", network),
        }[way]

    for draw in (
        lambda model: sample(model, process, SHAPE, steps=2, generator=generator()),
        lambda model: ddim.sample(model, process, SHAPE, 2, 0.5, generator=generator()),
        lambda model: invert(model, process, images(), 2),
    ):
        found, wanted = draw(model_of(network, reader)), draw(model_of(by_hand(network), by_hand(reader)))
        assert found.dtype == torch.float32 and torch.equal(found, wanted)


def test_a_walk_from_a_narrow_start_is_wide():
    start = images().bfloat16()
    found = ddim.sample(lambda x, t: 0 * x, process, SHAPE, 3, start=start, clip=False)
    assert found.dtype == torch.float32
    assert torch.equal(found, ddim.sample(lambda x, t: 0 * x, process, SHAPE, 3, start=start.float(), clip=False))


def test_the_image_is_read_from_v_directly():
    """Through the noise it would be divided by a signal close to 0, and lose two digits."""
    v, x = torch.randn(SHAPE, generator=generator()), torch.randn(SHAPE, generator=generator(1))
    for steps in (5, 50):
        narrow, wide = (
            list(ddim.trajectory(lambda x, t: v.to(x), process, SHAPE, steps, start=start, target="v", clip=False))
            for start in (x, x.double())
        )
        errors = [(a.double() - b).abs().max().item() for (_, _, a), (_, _, b) in zip(narrow, wide)]
        assert max(errors) < 5e-6


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.uint8])
def test_labels_and_times_may_be_any_integers(dtype):
    network, codes = stirred(digit_unet(num_classes=10)), stirred(digit_latent_denoiser())
    t, labels, x, z = torch.tensor([0, 200]), torch.tensor([3, 9]), images(), torch.randn(2, 4, 7, 7)
    short = GaussianDiffusion(linear_betas(250))
    reader = stirred(EncoderUNet())
    for call in (
        lambda t, labels: network(x, t, labels),
        lambda t, labels: codes(z, t, labels),
        lambda t, labels: codes(z, t),
        lambda t, labels: short.q_sample(x, t, x),
        lambda t, labels: simple_loss(network, short, x, t, x),
        lambda t, labels: ddpm.p_mean_variance(network, short, x, t)[0],
        lambda t, labels: ddim_step(short, x, t + 1, t, x)[0],
        lambda t, labels: classifier_free(network, labels, 1.0)(x, t),
        lambda t, labels: classifier_guided(network, short, towards_class(reader, labels))(x, t),
        lambda t, labels: drop_labels(labels, 1.0),
        lambda t, labels: short.respaced(t).betas,
    ):
        assert torch.equal(call(t.to(dtype), labels.to(dtype)), call(t, labels))
    assert (drop_labels(labels.to(dtype), 1.0) == -1).all()


@pytest.fixture
def default(request):
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float16, torch.float64], indirect=True)
def test_a_walk_is_wide_whatever_the_default(default):
    wide = torch.promote_types(default, torch.float32)
    asked = []

    def model(x, t):
        asked.append(x.dtype)
        return x.sin()

    for found in (
        sample(model, process, SHAPE, steps=2),
        ddim.sample(model, process, SHAPE, 2, 1.0),
        simple_loss(model, process, torch.zeros(SHAPE)),
    ):
        assert found.dtype == wide
    assert set(asked) == {wide}
    assert FirstStage(1, 1, 8, (1,), 1, norm=ChannelNorm).scale_factor.dtype == wide


def test_a_schedule_is_made_on_the_cpu_whatever_the_default_device():
    with torch.device("meta"):
        made = GaussianDiffusion(linear_betas(10)), GaussianDiffusion(cosine_betas(10))
        levels, losses = noise_levels(1.0, 0.1, 3), LossAwareSampler(10)
        assert all(chain.betas.device.type == "cpu" for chain in made)
        assert {str(times(10, 3, spacing).device) for spacing in ("leading", "trailing", "linspace")} == {"cpu"}
        assert levels.device.type == losses.losses.device.type == losses.draw(2)[0].device.type == "cpu"
        assert sample(lambda x, t: 0 * x, made[0], (1, 2), steps=2).isfinite().all()
    with pytest.raises(ValueError, match=r"^betas must hold numbers"):
        GaussianDiffusion(linear_betas(10).to("meta"))


class ScoreNetwork(nn.Module):
    """Reads the level as it comes."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x, sigma):
        return self.layer(torch.stack([x[:, 0], sigma], dim=1)) - x


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("way", ["plain", "lambda"])
def test_noise_levels_come_in_the_type_of_the_network(dtype, way):
    network = ScoreNetwork().to(dtype).eval()
    score = network if way == "plain" else lambda x, sigma: network(x, sigma)
    assert langevin(score, POINTS, 0.1, 0.1, 2).dtype == torch.float32
    assert denoising_score_matching(score, POINTS, SIGMA).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_images_of_16_bits_are_added_up_in_32(dtype):
    x, noise = images().to(dtype), images(1).to(dtype)
    for found, wanted in (
        (simple_loss(wavy, process, x, T, noise), simple_loss(wavy, process, x.float(), T, noise.float())),
        (
            denoising_score_matching(wavy, x, SIGMA[:2], noise),
            denoising_score_matching(wavy, x.float(), SIGMA[:2], noise.float()),
        ),
        (Posterior(x, noise).kl(), Posterior(x.float(), noise.float()).kl()),
    ):
        assert torch.equal(found, wanted)


def test_the_scale_of_codes_keeps_its_digits():
    stage = FirstStage(1, 1, 8, (1,), 1, norm=ChannelNorm)
    stage.scale_factor.fill_(0.18215)
    assert stage.bfloat16().scale_factor.dtype == torch.float32 and stage.scale_factor == torch.tensor(0.18215)
    assert stage.to_image(torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


# Answers without gradient


@pytest.mark.parametrize(
    "ignores",
    [lambda x, *t: torch.ones(len(x)), lambda x, *t: WEIGHT.expand(len(x)), lambda x, *t: x.detach().flatten(1).sum(1)],
    ids=["constant", "weights alone", "detached"],
)
def test_an_answer_that_does_not_depend_on_the_images_is_named(ignores):
    with pytest.raises(ValueError, match=r"^log_probability must depend on the images"):
        classifier_guided(wavy, process, ignores)(X, T)
    with pytest.raises(ValueError, match=r"^the score must depend on the images"):
        score_matching(lambda x: ignores(x)[:, None], POINTS)


def test_score_matching_works_in_inference_mode():
    wanted = score_matching(lambda x: -x.sin(), SIGMA[:, None])
    with torch.inference_mode():
        assert torch.equal(score_matching(lambda x: -x.sin(), SIGMA[:, None].clone()), wanted)


# Modes


def dropping():
    return digit_unet(num_classes=10, dropout=0.5)


@pytest.mark.parametrize("way", ["plain", "free", "guided", "partial", "method", "both", "score", "noise"])
def test_a_network_in_training_mode_is_refused_through_wrappers(way):
    network, labels = dropping(), torch.tensor([3, 4])
    bound = functools.partial(network, labels=labels)
    model = {
        "plain": network,
        "free": classifier_free(network, labels),
        "guided": classifier_guided(network, process, lambda x, t: x.flatten(1).sum(1)),
        "partial": bound,
        "method": network.forward,
        "both": classifier_guided(bound, process, lambda x, t: x.flatten(1).sum(1)),
        "score": eps_from_score(network, process),
        "noise": eps_from_score(score_from_eps(network, process), process),
    }[way]
    for draw in (
        lambda: sample(model, process, SHAPE, steps=1),
        lambda: ddim.sample(model, process, SHAPE, 1),
        lambda: invert(model, process, images(), 1),
    ):
        network.train()
        with pytest.raises(ValueError, match=r"^model must be in eval mode"):
            draw()
        network.eval()
        if way not in ("score", "noise"):
            assert draw().shape == SHAPE


def test_guidance_works_in_inference_mode():
    network, reader = stirred(digit_unet()), stirred(EncoderUNet())

    def draw():
        labels, other = torch.tensor([3, 4]), images(5)
        found = []
        for guide in (towards_class(reader, labels), towards_image(reader, process, other, other)):
            model = classifier_guided(network, process, guide, 2.0)
            found.append(ddim.sample(model, process, SHAPE, 3, generator=generator()))
        return torch.stack(found)

    wanted = draw()
    with torch.inference_mode():
        assert torch.equal(draw(), wanted)


# A variance that is learned


@pytest.mark.parametrize("steps", [4, 1000])
def test_samplers_know_a_learned_variance(steps):
    shape = (2, 1, 4, 4)
    visited = times(1000, steps, "linspace")
    chain, source = (process if steps == 1000 else process.respaced(visited)), generator()
    x = torch.randn(shape, generator=source)
    for i in reversed(range(steps)):
        z, here = torch.randn(shape, generator=source), torch.full((2,), i)
        mean, log_variance, _ = learned_mean_variance(double(x, visited[i].expand(2)), chain, x, here)
        x = mean + (i > 0) * (0.5 * log_variance).exp() * z
    found = sample(double, process, shape, steps=steps, variance="learned", generator=generator())
    assert torch.equal(found, x)


def test_ddim_has_no_use_for_a_learned_variance():
    found, wanted = (
        ddim.sample(model, process, (2, 1, 4, 4), 5, variance=variance, generator=generator())
        for model, variance in ((double, "learned"), (lambda x, t: x.sin(), "small"))
    )
    assert torch.equal(found, wanted)
    with pytest.raises(ValueError, match=r"^the model's output must have the shape"):
        ddim.sample(double, process, (2, 1, 4, 4), 5)


# Which times


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(("T", "n"), [(1000, 600), (1000, 999), (1000, 30), (1000, 1), (7, 7), (7, 3)])
def test_times_rise_and_leave_no_part_of_the_chain_out(spacing, T, n):
    found = times(T, n, spacing)
    assert len(found) == n and (found.diff() > 0).all() and found[0] >= 0 and found[-1] < T
    gaps = np.diff([-1, *found.tolist(), T])
    assert gaps.max() <= 2 * np.ceil(T / n) if n > 1 else True
    if spacing != "leading":
        assert found[-1] == T - 1
    else:
        assert found[-1] >= T - 1 - T / n


# What is never waited for


def wavy(x, t):
    return (2 * x + t.view(-1, *[1] * (x.ndim - 1))).sin()


def level(x, t):
    return -0.5 * x.square().flatten(1).sum(1)


MIXTURE = GaussianMixture(*map(torch.tensor, ([0.3, 0.7], [[-0.6], [0.5]], [0.1, 0.2])))
WEIGHT = nn.Parameter(torch.ones(1))
X, T, POINTS, SIGMA = images(), torch.tensor([5, 900]), torch.zeros(3, 1), torch.ones(3)
STEPS = {
    "simple_loss": lambda: simple_loss(wavy, process, X),
    "simple_loss, v": lambda: simple_loss(wavy, process, X, T, X, "v"),
    "hybrid_loss": lambda: hybrid_loss(double, process, X),
    "vlb_loss": lambda: vlb_loss(double, process, X, T),
    "p_sample": lambda: ddpm.p_sample(wavy, process, X, T),
    "ddim_step": lambda: ddim_step(process, X, T, T - 1, X, 0.5),
    "guided": lambda: classifier_guided(wavy, process, level)(X, T),
    "drop_labels": lambda: drop_labels(T, 0.5),
    "score matching": lambda: denoising_score_matching(MIXTURE.score, POINTS, SIGMA),
    "score_from_eps": lambda: score_from_eps(wavy, process)(POINTS, SIGMA),
    "eps_from_score": lambda: eps_from_score(MIXTURE.score, process)(POINTS, SIGMA.long()),
    "langevin": lambda: langevin(MIXTURE.score, POINTS, 0.1, 0.1, 3),
}


@pytest.mark.parametrize("step", STEPS)
def test_no_step_waits_for_the_device(monkeypatch, step):
    assert not waits(STEPS[step], monkeypatch)


@pytest.mark.parametrize(
    "walk",
    [
        lambda steps: sample(wavy, process, SHAPE, steps=steps),
        lambda steps: sample(double, process, SHAPE, steps=steps, variance="learned"),
        lambda steps: ddim.sample(wavy, process, SHAPE, steps, 0.5),
        lambda steps: invert(wavy, process, X, steps, rounds=2),
        lambda steps: ddim.sample(classifier_free(lambda x, t, y: wavy(x, t), T, 2.0), process, SHAPE, steps),
    ],
    ids=["ddpm", "learned variance", "ddim", "back to noise", "guided"],
)
def test_a_walk_waits_before_it_starts_and_never_on_the_way(monkeypatch, walk):
    few, many = (waits(lambda steps=steps: walk(steps), monkeypatch) for steps in (2, 20))
    assert few == many


# Compilation


def test_a_step_compiles_in_one_piece():
    def step(x, t, eps):
        return ddim_step(process, x, t, t - 1, eps, 0.5, eps)[0]

    x, t, eps = images(), torch.tensor([5, 900]), images(1)
    assert torch.equal(torch.compile(step, fullgraph=True, backend="eager")(x, t, eps), step(x, t, eps))
    whole = torch.compile(ddim_step, fullgraph=True, backend="eager")
    assert torch.equal(whole(process, x, t, t - 1, eps)[0], ddim_step(process, x, t, t - 1, eps)[0])


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(("network", "shape"), [(digit_unet, (1, 28, 28)), (digit_latent_denoiser, (4, 7, 7))])
def test_networks_are_exported_for_any_number_of_images(network, shape, labels):
    model = stirred(network(num_classes=10))
    free = {0: torch.export.Dim("b")}

    def batch(n):
        given = torch.randn(n, *shape, generator=generator()), torch.arange(n)
        return (*given, torch.arange(n) - 1) if labels else given

    names = ("x" if network is digit_unet else "z", "t", "labels")[: 2 + labels]
    exported = torch.export.export(model, batch(3), dynamic_shapes=dict.fromkeys(names, free))
    assert torch.allclose(exported.module()(*batch(5)), model(*batch(5)), atol=1e-5)


@pytest.mark.parametrize("ch", [0, 1, 2, 15, 16.0])
def test_a_reader_of_odd_width_is_named(ch):
    with pytest.raises(ValueError, match=r"^ch must be"):
        EncoderUNet(ch=ch)
