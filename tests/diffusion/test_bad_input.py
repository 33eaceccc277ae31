"""Every argument of every public function and network here, spoiled: each must end in an error that names it."""

import pytest
import torch

from lib.diffusion import (
    GaussianDiffusion,
    cosine_betas,
    ddim,
    ddpm,
    improved,
    latent,
    linear_betas,
    schedule,
    score,
    unet,
)
from lib.diffusion import guidance as g
from lib.diffusion.denoiser import Denoiser
from tests.bad_input import unclear

process = GaussianDiffusion(linear_betas(10))
X, NOISE = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
T, LABELS = torch.tensor([3, 7]), torch.tensor([1, 2])
SHAPE = (2, 1, 4, 4)
POINTS, SIGMA = torch.zeros(3, 2), torch.ones(3)
MIXTURE = score.GaussianMixture(torch.ones(2), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.ones(2))


def model(x, t, labels=None):
    return x.sin()


def double(x, t):
    return torch.cat([x.sin(), x.cos()], dim=1)


def level(x, t):
    return -x.square().flatten(1).sum(1)


asked = {"model": model, "process": process}
walked = {"shape": SHAPE, "target": "eps", "spacing": "trailing"}
sizes = {"in_channels": 1, "ch": 32, "ch_mult": (1, 2), "num_res_blocks": 1}
NO_CLASS, DRAWN = ("labels: -1",), ("noise: None",)
CASES = {
    "linear_betas": (linear_betas, {"T": 10, "start": 0.1, "end": 0.2}),
    "cosine_betas": (cosine_betas, {"T": 10, "s": 0.01, "max_beta": 0.9}),
    "times": (schedule.times, {"T": 10, "n": 3, "spacing": "leading"}),
    "GaussianDiffusion": (GaussianDiffusion, {"betas": linear_betas(10)}),
    "respaced": (process.respaced, {"times": T}),
    "q_step": (process.q_step, {"x_prev": X, "t": T, "noise": NOISE}, DRAWN),
    "q_sample": (process.q_sample, {"x0": X, "t": T, "noise": NOISE}, DRAWN),
    "q_posterior": (process.q_posterior, {"x0": X, "xt": X, "t": T}),
    "x0_from_eps": (process.x0_from_eps, {"xt": X, "t": T, "eps": X}),
    "eps_from_x0": (process.eps_from_x0, {"xt": X, "t": T, "x0": X}),
    "v_from_x0_eps": (process.v_from_x0_eps, {"x0": X, "t": T, "eps": X}),
    "x0_from_v": (process.x0_from_v, {"xt": X, "t": T, "v": X}),
    "eps_from_v": (process.eps_from_v, {"xt": X, "t": T, "v": X}),
    "score_from_eps of a process": (process.score_from_eps, {"t": T, "eps": X}),
    "snr": (process.snr, {"t": T}),
    "signal_and_spread": (process.signal_and_spread, {"t": T, "x": X}),
    "extract": (process.extract, {"name": "betas", "t": T, "x": X}),
    "Denoiser": (Denoiser, {**asked, "target": "eps", "variance": "small"}),
    "a Denoiser's answer": (Denoiser(model, process), {"xt": X, "t": T}),
    "simple_loss": (
        ddpm.simple_loss,
        {**asked, "x0": X, "t": T, "noise": NOISE, "target": "eps"},
        (*DRAWN, "t: None"),
    ),
    "predict_x0": (ddpm.predict_x0, {**asked, "xt": X, "t": T, "target": "v"}),
    "p_mean_variance": (ddpm.p_mean_variance, {**asked, "xt": X, "t": T, "target": "v", "variance": "small"}),
    "p_sample": (ddpm.p_sample, {**asked, "xt": X, "t": T, "noise": NOISE, "variance": "small"}, DRAWN),
    "ddpm.sample": (ddpm.sample, {**asked, **walked, "steps": 2, "variance": "small"}, ("steps: None",)),
    "vlb_terms": (ddpm.vlb_terms, {**asked, "x0": X, "noise": NOISE, "target": "x0", "variance": "large"}, DRAWN),
    "prior_term": (ddpm.prior_term, {"process": process, "x0": X}),
    "ddim_step": (
        ddim.ddim_step,
        {"process": process, "xt": X, "t": T, "before": T - 1, "eps": X, "eta": 0.5, "noise": NOISE},
        (*DRAWN, "before: -1"),
    ),
    "ddim.sample": (ddim.sample, {**asked, **walked, "steps": 2, "eta": 0.5, "start": NOISE}, ("start: None",)),
    "invert": (
        ddim.invert,
        {**asked, "x0": X, "steps": 2, "rounds": 1, "grain": NOISE, "target": "v", "spacing": "trailing"},
        ("grain: None",),
    ),
    "slerp": (ddim.slerp, {"a": NOISE, "b": X, "share": 0.5}, ("share: -1",)),
    "learned_mean_variance": (
        improved.learned_mean_variance,
        {"out": double(X, T), "process": process, "xt": X, "t": T},
    ),
    "hybrid_loss": (
        improved.hybrid_loss,
        {"model": double, "process": process, "x0": X, "t": T, "noise": NOISE, "vlb_weight": 0.5},
        (*DRAWN, "t: None", "vlb_weight: None", "vlb_weight: -1"),
    ),
    "vlb_loss": (improved.vlb_loss, {"model": double, "process": process, "x0": X, "t": T, "noise": NOISE}, DRAWN),
    "LossAwareSampler": (improved.LossAwareSampler, {"T": 10, "history": 2, "uniform": 0.5}),
    "draw": (improved.LossAwareSampler(10).draw, {"n": 3}),
    "update": (improved.LossAwareSampler(10).update, {"t": T, "losses": torch.ones(2)}),
    "classifier_guided": (
        g.classifier_guided,
        {**asked, "log_probability": level, "scale": 0.5},
        ("scale: -1",),
    ),
    "classifier_free": (
        g.classifier_free,
        {"model": model, "labels": LABELS, "scale": 0.5, "instead": LABELS},
        ("scale: -1", "instead: None", "instead: -1"),
    ),
    "drop_labels": (g.drop_labels, {"labels": LABELS, "share": 0.5}, NO_CLASS),
    "guided_mean": (
        g.guided_mean,
        {"mean": X, "log_variance": X, "slope": X, "scale": 0.5},
        ("scale: -1",),
    ),
    "gradient": (g.gradient, {"log_probability": level, "xt": X, "t": T}, ("t: -1",)),
    "towards_class": (g.towards_class, {"classifier": model, "labels": LABELS}),
    "towards_image": (g.towards_image, {"features": model, "process": process, "image": X, "noise": NOISE}, DRAWN),
    "gram": (g.gram, {"maps": X}),
    "EncoderUNet": (
        g.EncoderUNet,
        {"outputs": 3, "in_channels": 1, "ch": 16, "ch_mult": (1, 2), "resolution": 8, "patch": 2},
    ),
    "AdaGNBlock": (g.AdaGNBlock, {"in_channels": 32, "out_channels": 32, "temb_channels": 8}),
    "ResnetBlock": (unet.ResnetBlock, {"in_channels": 32, "out_channels": 32, "temb_channels": 8, "dropout": 0.1}),
    "timestep_embedding": (unet.timestep_embedding, {"t": T, "dim": 8}, ("t: fractions", "t: -1")),
    "UNet2015": (unet.UNet2015, {"in_channels": 1, "num_classes": 2, "width": 2}),
    "UNet": (unet.UNet, {**sizes, "out_channels": 1, "dropout": 0.1, "resolution": 8, "patch": 1, "num_classes": 3}),
    "AutoencoderKL": (latent.AutoencoderKL, {**sizes, "z_channels": 2, "patch": 1}),
    "Encoder": (latent.Encoder, {**sizes, "z_channels": 2}),
    "Decoder": (latent.Decoder, {"out_channels": 1, "z_channels": 2, "ch": 32, "ch_mult": (1, 2), "num_res_blocks": 1}),
    "CrossAttention": (
        latent.CrossAttention,
        {"query_dim": 8, "context_dim": 4, "heads": 2, "dim_head": 4},
        ("context_dim: None",),
    ),
    "SpatialTransformer": (
        latent.SpatialTransformer,
        {"in_channels": 32, "n_heads": 2, "d_head": 4, "depth": 1, "context_dim": 4},
        ("context_dim: None",),
    ),
    "ClassEmbedder": (latent.ClassEmbedder, {"num_classes": 3, "dim": 4, "tokens": 2}),
    "classes of a ClassEmbedder": (latent.ClassEmbedder(3, 4), {"labels": LABELS}, NO_CLASS),
    "LatentDenoiser": (
        latent.LatentDenoiser,
        {"channels": 2, "width": 32, "depth": 1, "heads": 2, "num_classes": 3, "context_dim": 4, "tokens": 2},
    ),
    "GaussianMixture": (
        score.GaussianMixture,
        {"weights": torch.ones(2), "means": torch.zeros(2, 3), "stds": torch.ones(2)},
    ),
    "score of a mixture": (MIXTURE.score, {"x": POINTS, "sigma": SIGMA}),
    "log_density": (MIXTURE.log_density, {"x": POINTS, "sigma": SIGMA}),
    "denoise": (MIXTURE.denoise, {"x": POINTS, "sigma": SIGMA}),
    "sample of a mixture": (MIXTURE.sample, {"count": 3, "sigma": 0.5}),
    "noise_levels": (score.noise_levels, {"largest": 2.0, "smallest": 0.5, "count": 3}),
    "score_matching": (score.score_matching, {"score": lambda x: -x, "x": POINTS}),
    "denoising_score_matching": (
        score.denoising_score_matching,
        {"score": MIXTURE.score, "x0": POINTS, "sigma": SIGMA, "noise": POINTS},
        DRAWN,
    ),
    "langevin": (score.langevin, {"score": MIXTURE.score, "x": POINTS, "sigma": 0.5, "step": 0.5, "steps": 2}),
    "annealed_langevin": (
        score.annealed_langevin,
        {"score": MIXTURE.score, "x": POINTS, "levels": torch.tensor([2.0, 1.0]), "step": 0.5, "steps": 2},
    ),
    "process_levels": (score.process_levels, {"process": process}),
    "eps_from_score": (score.eps_from_score, {"score": MIXTURE.score, "process": process}),
    "score_from_eps": (score.score_from_eps, {"model": model, "process": process}),
}


@pytest.mark.parametrize("name", CASES)
def test_each_argument_is_named(name):
    call, good, *fine = CASES[name]
    assert unclear(call, good, *fine) == []


NAN = torch.full(SHAPE, torch.nan)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: ddpm.simple_loss(model, process, X, T, NAN), "noise"),
        (lambda: ddpm.p_sample(model, process, X, T, NAN), "noise"),
        (lambda: ddim.ddim_step(process, X, T, T - 1, X, 1.0, NAN), "noise"),
        (lambda: ddim.sample(model, process, SHAPE, 2, start=NAN), "start"),
        (lambda: ddim.invert(model, process, NAN, 2), "x0"),
        (lambda: ddim.invert(model, process, X, 2, grain=NAN), "grain"),
        (lambda: improved.hybrid_loss(double, process, X, T, NAN), "noise"),
        (lambda: improved.vlb_loss(double, process, NAN, T), "x0"),
        (lambda: score.langevin(MIXTURE.score, POINTS + torch.nan, 0.5, 0.5, 2), "x"),
        (lambda: score.denoising_score_matching(model, X, torch.ones(2), NAN), "noise"),
        (lambda: g.towards_image(model, process, X, NAN), "noise"),
    ],
    ids=range(11),
)
def test_numbers_that_are_not_finite_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name} must be finite"):
        call()


@pytest.mark.parametrize(
    "answered", [None, "word", torch.zeros(SHAPE, dtype=torch.long)], ids=["nothing", "a word", "integers"]
)
@pytest.mark.parametrize(
    "call",
    [
        lambda forgetful: ddpm.simple_loss(forgetful, process, X, T),
        lambda forgetful: ddpm.sample(forgetful, process, SHAPE),
        lambda forgetful: ddpm.vlb_terms(forgetful, process, X),
        lambda forgetful: ddim.sample(forgetful, process, SHAPE, 2),
        lambda forgetful: ddim.invert(forgetful, process, X, 2),
        lambda forgetful: improved.hybrid_loss(forgetful, process, X, T),
        lambda forgetful: improved.vlb_loss(forgetful, process, X, T),
        lambda forgetful: g.classifier_free(forgetful, LABELS)(X, T),
        lambda forgetful: g.classifier_guided(forgetful, process, level)(X, T),
        lambda forgetful: score.langevin(forgetful, POINTS, 0.5, 0.5, 2),
        lambda forgetful: score.eps_from_score(forgetful, process)(X, T),
    ],
    ids=range(11),
)
def test_a_model_that_forgets_to_answer_is_named(call, answered):
    with pytest.raises(ValueError, match=r"^the model's output must be a floating-point tensor, got"):
        call(lambda *_: answered)
