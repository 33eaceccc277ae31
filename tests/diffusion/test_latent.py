"""Latent diffusion's first stage and attention block: the release's numbers and names."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributions import Normal, kl_divergence

from lib.diffusion import GaussianDiffusion, ddim, linear_betas
from lib.diffusion.guidance import classifier_free
from lib.diffusion.latent import (
    AutoencoderKL,
    ClassEmbedder,
    CrossAttention,
    Encoder,
    FirstStage,
    LatentDenoiser,
    Posterior,
    SpatialTransformer,
    digit_first_stage,
    digit_latent_denoiser,
)

REFERENCE = Path(__file__).parents[1] / "reference"


def stored(name, model):
    """The reference's tensors, and our model with its weights, in float64."""
    found = load_file(REFERENCE / f"{name}.safetensors")
    weights = {key[3:]: value.float() for key, value in found.items() if key.startswith("sd.")}
    model.load_state_dict(weights, strict=True)
    return found, model.double().eval()


@torch.no_grad()
def test_encoder_is_that_of_the_release():
    found, encoder = stored("ldm_autoencoder_enc", Encoder(3, 8, 32, (1, 1), 1))
    assert torch.allclose(encoder(found["in.x"].double()), found["out64.y"], rtol=0, atol=1e-9)


@torch.no_grad()
def test_attention_block_is_that_of_the_release():
    found, block = stored("ldm_spatial_transformer", SpatialTransformer(32, 2, 16, context_dim=12))
    answer = block(found["in.x"].double(), found["in.context"].double())
    assert torch.allclose(answer, found["out64.y"], rtol=0, atol=1e-9)


def test_first_stage_has_the_published_size_and_names():
    """kl-f8's: the numbers of diffusers' AutoencoderKL for Stable Diffusion, 83,653,863 parameters."""
    with torch.device("meta"):
        model = AutoencoderKL()
    assert sum(parameter.numel() for parameter in model.parameters()) == 83_653_863
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name, shape in {
        "encoder.down.1.block.0.nin_shortcut.weight": (256, 128, 1, 1),
        "encoder.down.2.downsample.conv.weight": (512, 512, 3, 3),
        "encoder.mid.attn_1.proj_out.weight": (512, 512, 1, 1),
        "encoder.conv_out.weight": (8, 512, 3, 3),
        "quant_conv.weight": (8, 8, 1, 1),
        "post_quant_conv.weight": (4, 4, 1, 1),
        "decoder.conv_in.weight": (512, 4, 3, 3),
        "decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        "decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
        "decoder.conv_out.weight": (3, 128, 3, 3),
    }.items():
        assert shapes[name] == shape, name
    assert "encoder.down.3.downsample.conv.weight" not in shapes and "decoder.up.0.upsample.conv.weight" not in shapes
    x = torch.empty(1, 3, 64, 48, device="meta")
    assert model.encode(x).mean.shape == (1, 4, 8, 6) and model(x)[0].shape == x.shape


def ask(z, **condition):
    return denoiser()(z, torch.tensor([3, 4]), **condition)


def small():
    torch.manual_seed(0)
    return AutoencoderKL(1, 2, 32, (1, 1), 1)


def test_every_parameter_learns():
    model, x = small().train(), torch.rand(2, 1, 8, 8) * 2 - 1
    losses = model.loss(x, kl_weight=0.1)
    losses["loss"].backward()
    assert losses["loss"].item() == pytest.approx((losses["reconstruction"] + 0.1 * losses["kl"]).item())
    # Each softmax ignores what is added to all its scores, so the keys' bias has no gradient but rounding errors.
    idle = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert not [name for name in idle if not name.endswith("attn_1.k.bias")]


def test_posterior_samples_and_kl_are_those_of_its_normal_distribution():
    torch.manual_seed(0)
    posterior = Posterior(torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4))
    normal = Normal(posterior.mean, (posterior.logvar / 2).exp())
    wanted = kl_divergence(normal, Normal(0.0, 1.0)).flatten(1).sum(1)
    assert torch.allclose(posterior.kl(), wanted, rtol=1e-5)
    noise = torch.randn(3, 2, 4, 4)
    assert torch.allclose(normal.cdf(posterior.sample(noise)), Normal(0.0, 1.0).cdf(noise), atol=1e-5)
    extreme = small()
    nn.init.constant_(extreme.quant_conv.bias, 1e4)
    assert extreme.encode(torch.zeros(1, 1, 8, 8)).logvar.max() == 20


@torch.no_grad()
def test_cross_attention_reads_the_context():
    """A query whose scores are all alike takes the mean of the values."""
    torch.manual_seed(0)
    layer, x, context = CrossAttention(6, 4, heads=2, dim_head=3), torch.randn(1, 5, 6), torch.randn(1, 7, 4)
    nn.init.zeros_(layer.to_q.weight)
    wanted = layer.to_out(layer.to_v(context).mean(1, keepdim=True)).expand(-1, 5, -1)
    assert torch.allclose(layer(x, context), wanted, atol=1e-6)
    layer = CrossAttention(6, None, heads=2, dim_head=3)
    scores = (layer.to_q(x)[0, :, :3] @ layer.to_k(x)[0, :, :3].t()) / math.sqrt(3)
    first = scores.softmax(1) @ layer.to_v(x)[0, :, :3]
    assert torch.allclose(layer(x)[0], layer.to_out[0](torch.cat([first, second_head(layer, x)], 1)), atol=1e-5)


def second_head(layer, x):
    scores = (layer.to_q(x)[0, :, 3:] @ layer.to_k(x)[0, :, 3:].t()) / math.sqrt(3)
    return scores.softmax(1) @ layer.to_v(x)[0, :, 3:]


@torch.no_grad()
def test_attention_block_starts_as_the_identity_and_compiles():
    torch.manual_seed(0)
    block, x, context = SpatialTransformer(32, 2, 8, context_dim=5), torch.randn(2, 32, 3, 4), torch.randn(2, 6, 5)
    assert torch.equal(block(x, context), x)
    nn.init.normal_(block.proj_out.weight)
    compiled = torch.compile(block, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(x, context), block(x, context), atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert block(x, context).shape == x.shape


@torch.no_grad()
def test_digits_become_maps_of_7_by_7_and_come_back():
    torch.manual_seed(0)
    stage, x = digit_first_stage(), torch.rand(3, 1, 28, 28) * 2 - 1
    assert sum(p.numel() for p in stage.parameters()) == 219_368 and stage.stride == 4
    assert stage.encode(x).mean.shape == (3, 4, 7, 7) and stage(x)[0].shape == x.shape
    other = digit_first_stage(patch=1, ch_mult=(1, 1, 1))
    assert other.encode(x).mean.shape == (3, 4, 7, 7) and other(x)[0].shape == x.shape


@torch.no_grad()
def test_patch_makes_channels_of_pixels_and_back():
    """Channel 4 i + j of a place holds the pixel in row i and column j of its square."""
    torch.manual_seed(0)
    model, plain = AutoencoderKL(1, 2, 32, (1,), 1, patch=4), AutoencoderKL(16, 2, 32, (1,), 1)
    plain.load_state_dict(model.state_dict())
    x, z = torch.rand(2, 1, 16, 12), torch.randn(2, 2, 4, 3)
    squares = x.view(2, 4, 4, 3, 4).permute(0, 2, 4, 1, 3).reshape(2, 16, 4, 3)
    assert torch.allclose(model.encode(x).mean, plain.encode(squares).mean, atol=1e-6)
    decoded = plain.decode(z).view(2, 4, 4, 4, 3).permute(0, 3, 1, 4, 2).reshape(2, 1, 16, 12)
    assert torch.allclose(model.decode(z), decoded, atol=1e-6)


@torch.no_grad()
def test_scaled_codes_have_variance_one_and_decode_to_the_same():
    torch.manual_seed(0)
    stage, x = FirstStage(1, 2, 32, (1, 1), 1), torch.rand(600, 1, 8, 8) * 2 - 1
    assert stage.scale_factor == 1 and "scale_factor" in stage.state_dict()
    nn.init.constant_(stage.quant_conv.bias[2:], -4.0)
    stage.measure_scale(x)
    codes = stage.to_latent(x, torch.randn(600, 2, 4, 4))
    assert abs(stage.scale_factor - 1) > 0.1 and abs(codes.std() - 1) < 0.02
    assert torch.allclose(stage.to_image(stage.to_latent(x)), stage.decode(stage.encode(x).mean), atol=1e-5)
    noise = torch.randn(600, 2, 4, 4)
    assert torch.equal(stage.to_latent(x, noise), stage.scale_factor * stage.encode(x).sample(noise))


def denoiser(**settings):
    """A small one whose answer depends on everything, unlike a fresh one's."""
    torch.manual_seed(0)
    model = LatentDenoiser(width=32, depth=2, heads=2, context_dim=8, tokens=3, **settings)
    for weight in model.parameters():
        if weight.abs().max() == 0:
            nn.init.normal_(weight, std=0.1)
    return model.eval()


@torch.no_grad()
def test_denoiser_starts_at_zero_and_then_hears_time_label_and_context():
    z, t, labels = torch.randn(3, 4, 7, 7), torch.tensor([0, 500, 999]), torch.tensor([3, -1, 9])
    assert not digit_latent_denoiser()(z, t, labels).any()
    assert sum(p.numel() for p in digit_latent_denoiser().parameters()) == 370_500
    model = denoiser()
    answer = model(z, t, labels)
    assert answer.shape == z.shape
    assert torch.equal(model(z, t), model(z, t, torch.full_like(labels, -1)))
    for other in (model(z, t.flip(0), labels), model(z, t, labels.flip(0)), model(z, t)):
        assert (other - answer).abs().amax((1, 2, 3))[0] > 1e-4
    assert torch.equal(model(z, t, context=model.cond_stage_model(labels)), answer)
    assert model(z, t, context=torch.randn(3, 11, 8)).shape == z.shape  # a longer sentence
    assert model(torch.randn(3, 4, 6, 10), t, labels).shape == (3, 4, 6, 10)


@torch.no_grad()
def test_context_is_a_set_of_tokens():
    model, z, t = denoiser(), torch.randn(2, 4, 7, 7), torch.tensor([1, 700])
    tokens = torch.randn(2, 5, 8)
    assert torch.allclose(model(z, t, context=tokens), model(z, t, context=tokens.flip(1)), atol=1e-5)


def test_each_part_of_the_denoiser_learns():
    model = denoiser()
    model(torch.randn(4, 4, 7, 7), torch.arange(4), torch.tensor([0, 4, 9, -1])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    used = model.cond_stage_model.embedding.weight.grad.abs().sum(1) > 0
    assert used.nonzero()[:, 0].tolist() == [0, 4, 9, 10]


def test_one_token_leaves_nothing_to_ask():
    """The softmax over a single token is 1, so queries and keys get no gradient."""
    torch.manual_seed(0)
    for tokens in (1, 4):
        layer, embedder = CrossAttention(8, 6, heads=2, dim_head=4), ClassEmbedder(10, 6, tokens)
        layer(torch.randn(2, 5, 8), embedder(torch.tensor([3, -1]))).square().sum().backward()
        asked = max(layer.to_q.weight.grad.abs().max(), layer.to_k.weight.grad.abs().max())
        assert asked < 1e-6 if tokens == 1 else asked > 1e-3


@torch.no_grad()
def test_denoiser_fits_guidance_samplers_and_compiler():
    model, process = denoiser(), GaussianDiffusion(linear_betas(1000))
    labels = torch.tensor([1, 7])
    start = torch.randn(2, 4, 7, 7)
    options = {"start": start, "target": "v", "clip": False, "spacing": "trailing"}
    drawn = {w: ddim.sample(classifier_free(model, labels, w), process, start.shape, 3, **options) for w in (-1.0, 2.0)}
    assert torch.allclose(drawn[-1.0], ddim.sample(model, process, start.shape, 3, **options), atol=1e-4)
    assert (drawn[2.0] - drawn[-1.0]).abs().max() > 1e-3
    t = torch.tensor([5, 800])
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(start, t, labels), model(start, t, labels), atol=1e-5)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: AutoencoderKL(patch=0), "patch must be an integer of at least 1, got 0"),
        (lambda: digit_first_stage()(torch.zeros(1, 1, 30, 28)), r"H and W divisible by 4, got \(1, 1, 30, 28\)"),
        (lambda: ClassEmbedder(10, 8, 0), "tokens must be an integer of at least 1, got 0"),
        (
            lambda: ClassEmbedder(10, 8)(torch.tensor([10])),
            "labels must be between -1 and 9, got values from 10",
        ),
        (
            lambda: ClassEmbedder(10, 8)(torch.tensor([1.0])),
            r"labels must be a tensor of integers, got torch.float32 \(1,\)",
        ),
        (lambda: LatentDenoiser(width=64, heads=5), "width must be a multiple of the 5 heads, got 64"),
        (lambda: ask(torch.zeros(2, 3, 7, 7)), r"z must be \(B, 4, h, w\), got \(2, 3, 7, 7\)"),
        (lambda: ask(torch.zeros(3, 4, 7, 7)), r"t must have shape \(3,\), one time for each code, got \(2,\)"),
        (
            lambda: ask(torch.zeros(2, 4, 7, 7), labels=torch.tensor([1])),
            r"must be tokens \(2, M, 8\).* got \(1, 3, 8\)",
        ),
        (lambda: ask(torch.zeros(2, 4, 7, 7), context=torch.zeros(2, 8)), r"must be tokens \(2, M, 8\).* got \(2, 8\)"),
        (lambda: AutoencoderKL(ch=0), "ch must be an integer of at least 1, got 0"),
        (lambda: AutoencoderKL(ch=48), "channels must be a multiple of 32 for group normalisation, got 48"),
        (lambda: AutoencoderKL(ch_mult=()), "ch_mult must hold an integer for each level"),
        (lambda: small()(torch.zeros(1, 1, 9, 8)), r"H and W divisible by 2, got \(1, 1, 9, 8\)"),
        (lambda: small()(torch.zeros(1, 3, 8, 8)), r"x must have shape \(B, 1, H, W\)"),
        (lambda: small().decode(torch.zeros(1, 4, 4, 4)), r"z must have shape \(B, 2, h, w\), got \(1, 4, 4, 4\)"),
        (lambda: SpatialTransformer(32, 2, 8, depth=0), "depth must be an integer of at least 1, got 0"),
        (lambda: CrossAttention(8, heads=0), "heads must be an integer of at least 1, got 0"),
    ],
)
def test_bad_input_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("whole", [True, False])
def test_in_16_bits_losses_and_the_scale_stay_wide(dtype, whole):
    torch.manual_seed(0)
    model, x = digit_first_stage(), torch.rand(2, 1, 28, 28) * 2 - 1
    wanted, codes = model.loss(x), model.encode(x).mean
    with torch.autocast("cpu", dtype, enabled=not whole):
        model = model.to(dtype) if whole else model
        losses, posterior = model.loss(x), model.encode(x)
        model.measure_scale(x)
        scaled = model.to_latent(x)
        assert model.to_image(scaled).isfinite().all()
    assert {value.dtype for value in losses.values()} == {torch.float32} == {scaled.dtype, model.scale_factor.dtype}
    assert posterior.mean.dtype == posterior.logvar.dtype == posterior.kl().dtype == torch.float32
    assert torch.allclose(posterior.mean, codes, atol=0.05)
    assert losses["kl"].item() == pytest.approx(wanted["kl"].item(), rel=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_kl_larger_than_16_bits_hold_is_finite(dtype):
    model, x = digit_first_stage().to(dtype), torch.rand(1, 1, 28, 28)
    torch.nn.init.constant_(model.quant_conv.bias, 20.0)  # a variance of 5e8
    kl = model.loss(x)["kl"]
    assert kl.isfinite() and kl > 1e6


def test_a_scale_is_kept_as_it_was_measured():
    model = digit_first_stage()
    model.scale_factor.fill_(0.18215)
    factor = model.scale_factor.clone()
    assert torch.equal(model.bfloat16().scale_factor, factor) and torch.equal(model.float().scale_factor, factor)
    assert model.double().scale_factor.dtype == torch.float64
    narrow = {name: value.bfloat16() for name, value in model.state_dict().items()}
    for assign in (False, True):
        model.load_state_dict(narrow, assign=assign)
        assert model.scale_factor.dtype.itemsize >= 4
