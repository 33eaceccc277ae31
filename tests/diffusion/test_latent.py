"""Latent diffusion's first stage and attention block: the release's numbers and names."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributions import Normal, kl_divergence

from lib.diffusion.latent import AutoencoderKL, CrossAttention, Encoder, Posterior, SpatialTransformer

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


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: AutoencoderKL(ch=0), "ch must be an integer of at least 1, got 0"),
        (lambda: AutoencoderKL(ch=48), "channels must be a multiple of 32 for group normalisation, got 48"),
        (lambda: AutoencoderKL(ch_mult=()), "length of ch_mult must be an integer of at least 1, got 0"),
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
