"""Every argument of every public function and network here, spoiled: each must end in an error that names it."""

import pytest
import torch

from lib.diffusion import (
    GaussianDiffusion,
    adm,
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


STAGE = latent.FirstStage(1, 2, 32, (1,), 1)
GENERATOR = torch.Generator()
flags = {"clip": True, "eps_of_clipped": True}
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
    "p_mean_variance": (
        ddpm.p_mean_variance,
        {**asked, "xt": X, "t": T, "target": "v", "variance": "small", "clip": True},
    ),
    "p_sample": (ddpm.p_sample, {**asked, "xt": X, "t": T, "noise": NOISE, "variance": "small", "clip": True}, DRAWN),
    "ddpm.sample": (
        ddpm.sample,
        {**asked, **walked, "steps": 2, "variance": "small", "clip": True, "generator": GENERATOR},
        ("steps: None", "generator: None"),
    ),
    "vlb_terms": (ddpm.vlb_terms, {**asked, "x0": X, "noise": NOISE, "target": "x0", "variance": "large"}, DRAWN),
    "prior_term": (ddpm.prior_term, {"process": process, "x0": X}),
    "ddim_step": (
        ddim.ddim_step,
        {"process": process, "xt": X, "t": T, "before": T - 1, "eps": X, "eta": 0.5, "noise": NOISE, **flags},
        (*DRAWN, "before: -1"),
    ),
    "ddim.sample": (
        ddim.sample,
        {**asked, **walked, "steps": 2, "eta": 0.5, "start": NOISE, "clip": True, "generator": GENERATOR},
        ("start: None", "generator: None"),
    ),
    "invert": (
        ddim.invert,
        {**asked, "x0": X, "steps": 2, "rounds": 1, "grain": NOISE, "target": "v", "spacing": "trailing"},
        ("grain: None",),
    ),
    "slerp": (ddim.slerp, {"a": NOISE, "b": X, "share": 0.5}, ("share: -1",)),
    "learned_mean_variance": (
        improved.learned_mean_variance,
        {"out": double(X, T), "process": process, "xt": X, "t": T, "clip": True},
    ),
    "hybrid_loss": (
        improved.hybrid_loss,
        {"model": double, "process": process, "x0": X, "t": T, "noise": NOISE, "vlb_weight": 0.5},
        (*DRAWN, "t: None", "vlb_weight: None", "vlb_weight: -1"),
    ),
    "vlb_loss": (improved.vlb_loss, {"model": double, "process": process, "x0": X, "t": T, "noise": NOISE}, DRAWN),
    "LossAwareSampler": (improved.LossAwareSampler, {"T": 10, "history": 2, "uniform": 0.5}),
    "draw": (improved.LossAwareSampler(10).draw, {"n": 3, "generator": GENERATOR}, ("generator: None",)),
    "update": (improved.LossAwareSampler(10).update, {"t": T, "losses": torch.ones(2)}),
    "classifier_guided": (
        g.classifier_guided,
        {**asked, "log_probability": level, "scale": 0.5, "variance": "small"},
        ("scale: -1",),
    ),
    "classifier_free": (
        g.classifier_free,
        {"model": model, "labels": LABELS, "scale": 0.5, "instead": LABELS, "variance": "small"},
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
    "loss of an AutoencoderKL": (STAGE.loss, {"x": X, "kl_weight": 0.5}),
    "measure_scale": (STAGE.measure_scale, {"x": X}),
    "tokens of CrossAttention": (
        latent.CrossAttention(8, 4, 2, 4),
        {"x": torch.zeros(2, 3, 8), "context": torch.zeros(2, 5, 4)},
    ),
    "maps of SpatialTransformer": (
        latent.SpatialTransformer(32, 2, 4, context_dim=4),
        {"x": torch.zeros(2, 32, 2, 2), "context": torch.zeros(2, 5, 4)},
    ),
    "adm_timestep_embedding": (adm.adm_timestep_embedding, {"t": T, "dim": 8}, ("t: fractions", "t: -1")),
    "GroupNorm32": (adm.GroupNorm32, {"channels": 32}),
    "ResBlock": (adm.ResBlock, {"in_channels": 32, "out_channels": 32, "emb_channels": 8, "dropout": 0.1}),
    "split_heads": (adm.split_heads, {"qkv": torch.zeros(2, 3, 12), "num_heads": 2, "new_order": True}),
    "qkv_attention": (adm.qkv_attention, dict.fromkeys("qkv", torch.zeros(2, 2, 3, 4))),
    "AttentionBlock": (
        adm.AttentionBlock,
        {"channels": 32, "num_heads": 2, "num_head_channels": 16, "new_order": True},
        ("num_head_channels: None",),
    ),
    "AttentionPool2d": (adm.AttentionPool2d, {"size": 2, "channels": 32, "num_head_channels": 16, "outputs": 3}),
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
    "sample of a mixture": (
        MIXTURE.sample,
        {"count": 3, "sigma": 0.5, "generator": GENERATOR},
        ("generator: None",),
    ),
    "noise_levels": (score.noise_levels, {"largest": 2.0, "smallest": 0.5, "count": 3}),
    "score_matching": (score.score_matching, {"score": lambda x: -x, "x": POINTS}),
    "denoising_score_matching": (
        score.denoising_score_matching,
        {"score": MIXTURE.score, "x0": POINTS, "sigma": SIGMA, "noise": POINTS, "weighted": True},
        DRAWN,
    ),
    "langevin": (
        score.langevin,
        {"score": MIXTURE.score, "x": POINTS, "sigma": 0.5, "step": 0.5, "steps": 2, "generator": GENERATOR},
        ("generator: None",),
    ),
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
        (lambda: ddim.slerp(NAN, X, 0.5), "a"),
        (lambda: ddim.slerp(X, NAN, 0.5), "b"),
        (lambda: score.score_matching(lambda x: -x, POINTS + torch.nan), "x"),
        (lambda: MIXTURE.score(POINTS, SIGMA * torch.inf), "sigma"),
        (lambda: score.annealed_langevin(MIXTURE.score, POINTS, torch.tensor([torch.inf, 1]), 0.5, 2), "levels"),
        (lambda: STAGE.loss(NAN), "x"),
        (lambda: STAGE.loss(X + 2), "x"),
        (lambda: STAGE.measure_scale(NAN), "x"),
    ],
    ids=range(19),
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: STAGE.loss(X[:0]), "^x must hold something"),
        (lambda: STAGE.measure_scale(X[:0]), "^x must hold something"),
        (lambda: STAGE.loss(X.expand(2, 3, 4, 4)), r"^x must have shape \(B, 1, H, W\)"),
        (lambda: STAGE.encode(X[:, :, :0]), r"^x must have shape \(B, 1, H, W\)"),
        (lambda: STAGE.decode(torch.zeros(2, 2, 0, 4)), r"^z must have shape \(B, 2, h, w\)"),
        (lambda: latent.LatentDenoiser(2, 32)(torch.zeros(2, 2, 0, 4), T), r"^z must be \(B, 2, h, w\)"),
        (lambda: latent.CrossAttention(8, 8)(torch.zeros(2, 3, 8)), "^context must be a floating-point tensor"),
        (
            lambda: latent.CrossAttention(8, 4)(torch.zeros(2, 3, 8), torch.zeros(1, 3, 4)),
            r"^context must be tokens \(2, M, 4\), got",
        ),
        (lambda: latent.CrossAttention(8)(torch.zeros(2, 3, 7)), r"^x must be tokens \(B, N, 8\), got"),
        (lambda: latent.SpatialTransformer(32, 2, 4)(torch.zeros(2, 16, 2, 2)), r"^x must be maps \(B, 32, H, W\)"),
        (lambda: adm.adm_timestep_embedding(X, 8), r"^t must be times \(B,\)"),
        (lambda: adm.split_heads(torch.zeros(2, 3, 10), 2, True), r"^qkv must be \(B, N, 3 num_heads d\)"),
        (
            lambda: adm.qkv_attention(*torch.zeros(2, 2, 2, 3, 4), torch.zeros(2, 2, 2, 4)),
            r"^q, k and v must be \(B, heads, N, d\)",
        ),
        (lambda: adm.AttentionPool2d(2, 32, 15, 3), "^num_head_channels must divide"),
        (lambda: adm.AttentionPool2d(2, 32, 16, 3)(torch.zeros(1, 32, 3, 3)), r"^x must be \(B, 32, 2, 2\)"),
        (lambda: ddim.slerp(NOISE.flatten(), NOISE.flatten(), 0.5), r"^a and b must be \(B, ...\)"),
        (lambda: g.classifier_free(model, LABELS)(None, T), "^xt must be a floating-point tensor"),
        (
            lambda: g.towards_class(lambda x, t: x.flatten(1).sum(1), LABELS)(X, T),
            r"^the classifier's output must be \(2, classes\)",
        ),
    ],
    ids=range(18),
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


TIMES = torch.zeros(0, dtype=torch.long)
ADM = {
    "image_size": 16,
    "model_channels": 32,
    "num_res_blocks": 1,
    "attention_resolutions": (8,),
    "channel_mult": (1, 2),
}


@pytest.mark.parametrize(
    ("network", "shape", "answer"),
    [
        (unet.UNet(1, 1, 32, (1, 2), 1, (4,), resolution=8), (1, 8, 8), (1, 8, 8)),
        (unet.digit_unet(), (1, 28, 28), (1, 28, 28)),
        (unet.UNet2015(width=2), (1, 188, 188), (2, 4, 4)),
        (adm.UNetModel(**ADM, num_head_channels=16), (3, 16, 16), (6, 16, 16)),
        (adm.EncoderUNetModel(**ADM, out_channels=7, num_head_channels=16), (3, 16, 16), (7,)),
        (g.EncoderUNet(), (1, 28, 28), (10,)),
        (latent.LatentDenoiser(2, 32), (2, 7, 7), (2, 7, 7)),
    ],
    ids=["UNet", "digits", "2015", "ADM", "ADM's classifier", "EncoderUNet", "latent"],
)
def test_no_images_get_no_answers(network, shape, answer):
    given = (torch.zeros(0, *shape),) if isinstance(network, unet.UNet2015) else (torch.zeros(0, *shape), TIMES)
    assert network(*given).shape == (0, *answer)


def test_no_images_have_no_codes():
    stage = latent.digit_first_stage()
    codes = stage.to_latent(torch.zeros(0, 1, 28, 28))
    assert codes.shape == (0, 4, 7, 7) and stage.to_image(codes).shape == (0, 1, 28, 28)
