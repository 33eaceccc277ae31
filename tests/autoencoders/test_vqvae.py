"""VQ-VAE and VQ-VAE-2: the release's names and shapes, and codes that say all that is drawn."""

import pytest
import torch

from lib.autoencoders import VQVAE, VQVAE2, MaskedConv2d
from lib.autoencoders.vqvae import VQDecoder, VQEncoder, VQResBlock
from tests.waits import waits


def small(kind):
    torch.manual_seed(0)
    sizes = {"in_channels": 1, "channels": 16, "num_blocks": 1, "hidden": 8, "dim": 4, "num_codes": 12}
    return kind(**sizes)


def published():
    """Names and shapes of rosinality's VQ-VAE-2."""

    def block(name, outside):
        return {f"{name}.conv.1": (32, 128, 3, 3), f"{name}.conv.3": (outside, 32, 1, 1)}

    layers = {
        "enc_b.blocks.0": (64, 3, 4, 4), "enc_b.blocks.2": (128, 64, 4, 4), "enc_b.blocks.4": (128, 128, 3, 3),
        **block("enc_b.blocks.5", 128), **block("enc_b.blocks.6", 128),
        "enc_t.blocks.0": (64, 128, 4, 4), "enc_t.blocks.2": (128, 64, 3, 3),
        **block("enc_t.blocks.3", 128), **block("enc_t.blocks.4", 128),
        "quantize_conv_t": (64, 128, 1, 1), "quantize_conv_b": (64, 192, 1, 1),
        "dec_t.blocks.0": (128, 64, 3, 3), **block("dec_t.blocks.1", 128), **block("dec_t.blocks.2", 128),
        "dec_t.blocks.4": (128, 64, 4, 4), "upsample_t": (64, 64, 4, 4),
        "dec.blocks.0": (128, 128, 3, 3), **block("dec.blocks.1", 128), **block("dec.blocks.2", 128),
        "dec.blocks.4": (128, 64, 4, 4), "dec.blocks.6": (64, 3, 4, 4),
    }  # fmt: skip
    transposed = ("dec_t.blocks.4", "upsample_t", "dec.blocks.4", "dec.blocks.6")
    wanted = {}
    for name, shape in layers.items():
        wanted[f"{name}.weight"] = shape
        wanted[f"{name}.bias"] = (shape[1 if name in transposed else 0],)
    for level in "tb":
        wanted |= {f"quantize_{level}.embed": (64, 512), f"quantize_{level}.cluster_size": (512,)}
        wanted[f"quantize_{level}.embed_avg"] = (64, 512)
    return wanted


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        model = VQVAE2()
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == published()
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_388_867
    reconstruction, top, bottom = model(torch.empty(2, 3, 64, 32, device="meta"))
    assert reconstruction.shape == (2, 3, 64, 32)
    assert top.indices.shape == (2, 8, 4) and bottom.indices.shape == (2, 16, 8)


def test_encoder_and_decoder_fit_each_other():
    for stride in (2, 4):
        encoder, decoder = VQEncoder(3, 8, stride, 1, 4), VQDecoder(8, 3, 8, stride, 1, 4)
        features = encoder(torch.zeros(2, 3, 16, 24))
        assert features.shape == (2, 8, 16 // stride, 24 // stride)
        assert decoder(features).shape == (2, 3, 16, 24)


@pytest.mark.parametrize("kind", [VQVAE, VQVAE2])
@torch.no_grad()
def test_codes_say_all_that_is_drawn(kind):
    model, x = small(kind).eval(), torch.rand(3, 1, 16, 24)
    codes = model.encode(x)
    codes = codes if isinstance(codes, tuple) else (codes,)
    assert torch.allclose(model.decode(*codes), model(x)[0], atol=1e-5)
    assert [tuple(code.shape) for code in codes] == [(3, 2, 3), (3, 4, 6)][-len(codes) :]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train().encode(x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", [VQVAE, VQVAE2])
def test_every_parameter_learns_and_eval_is_deterministic(kind):
    model, x = small(kind).train(), torch.rand(4, 1, 16, 16)
    losses = model.loss(x)
    losses["loss"].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    weighted = losses["reconstruction"] + losses["codebook"] + 0.25 * losses["commitment"]
    assert losses["loss"].item() == pytest.approx(weighted.item())
    model.eval()
    with torch.no_grad():
        both = model(x)[0]
        assert torch.equal(both, model(x)[0]) and torch.allclose(model(x[1:2])[0], both[1:2], atol=1e-5)


@pytest.mark.parametrize("kind", [VQVAE, VQVAE2])
def test_runs_under_autocast_and_compiled(kind):
    model, x = small(kind).eval(), torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        plain = model(x)[0]
        with torch.autocast("cpu", torch.bfloat16):
            assert model(x)[0].shape == plain.shape
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert torch.allclose(compiled(x)[0], plain, atol=1e-5)
    model.train()
    torch.compile(model, fullgraph=True, backend="eager").loss(x)["loss"].backward()


def test_vqvae2_bottom_is_told_of_the_top():
    model, x = small(VQVAE2).eval(), torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        below = model.enc_b(x)
        tops = [model.quantize_t.lookup(torch.full((1, 2, 2), code)) for code in (0, 1)]
        first, second = (model.features_b(below, top) for top in tops)
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [VQVAE, VQVAE2])
def test_a_training_step_waits_for_no_device(kind, monkeypatch):
    model, x = small(kind).train(), torch.rand(4, 1, 16, 16)
    assert not waits(lambda: model.loss(x)["loss"].backward(), monkeypatch)


@pytest.mark.parametrize("kind", [VQVAE, VQVAE2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_round_the_networks_and_not_the_losses(kind, dtype):
    model, x = small(kind).train(), torch.rand(4, 1, 16, 16)
    state, wanted = {name: value.clone() for name, value in model.state_dict().items()}, model.loss(x)
    for cast in (False, True):
        model = small(kind).train()
        model.load_state_dict(state)
        model.to(dtype if cast else torch.float32)
        with torch.autocast("cpu", dtype, enabled=not cast):
            found = model.loss(x.to(dtype) if cast else x)
            found["loss"].backward()
        assert {value.dtype for value in found.values()} == {torch.float32}
        assert found["reconstruction"].item() == pytest.approx(wanted["reconstruction"].item(), rel=0.02)
        assert all(1 <= found[name] <= 12 for name in found if name.startswith("perplexity"))
        codes = model.eval().encode(x.to(dtype))
        assert model.decode(*(codes if isinstance(codes, tuple) else (codes,))).dtype == (dtype if cast else x.dtype)


@pytest.mark.parametrize("kind", [VQVAE, VQVAE2])
def test_without_images_there_are_codes_but_no_loss(kind):
    model, none = small(kind).eval(), torch.zeros(0, 1, 16, 16)
    codes = model.encode(none)
    assert model.decode(*(codes if isinstance(codes, tuple) else (codes,))).shape == none.shape
    with pytest.raises(ValueError, match=r"x must hold something, got shape \(0, 1, 16, 16\)"):
        model.loss(none)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: VQVAE(commitment=-0.1), "commitment must be a finite number, at least 0, got -0.1"),
        (lambda: VQVAE()(torch.zeros(1, 1, 30, 28)), r"H and W positive multiples of 4, got \(1, 1, 30, 28\)"),
        (lambda: VQVAE()(torch.zeros(1, 3, 28, 28)), r"x must have shape \(B, 1, H, W\)"),
        (lambda: VQVAE().loss(torch.full((1, 1, 28, 28), torch.nan)), r"x must be finite and lie in \[0, 1\]"),
        (lambda: VQVAE2(1)(torch.zeros(1, 1, 28, 28)), "multiples of 8"),
        (lambda: VQVAE2().decode(torch.zeros(1, 4, 4).long(), torch.zeros(1, 4, 4).long()), "top and bottom must be"),
        (lambda: VQVAE2(1).loss(torch.full((1, 1, 16, 16), torch.nan)), "x must be finite, got values from nan to nan"),
        (lambda: VQEncoder(1, stride=3), "stride must be 2 or 4, got 3"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


SIZES = {"channels": 8, "num_blocks": 1, "hidden": 4}


MODELS = {
    "VQEncoder": VQEncoder(1, 8),
    "VQDecoder": VQDecoder(1, 1, 8),
    "VQResBlock": VQResBlock(1, 4),
    "VQVAE": VQVAE(7, 4, **SIZES),
    "VQVAE.encode": VQVAE(7, 4, **SIZES).encode,
    "VQVAE2": VQVAE2(1, **SIZES),
    "VQVAE2.encode": VQVAE2(1, **SIZES).encode,
    "MaskedConv2d": MaskedConv2d("A", 1, 2, 3),
}


@pytest.mark.parametrize("height, width", [(0, 8), (8, 0)])
@pytest.mark.parametrize("name", MODELS)
def test_images_without_height_or_width_are_named(name, height, width):
    with pytest.raises(ValueError, match=rf"x must have shape .* got \(2, 1, {height}, {width}\)"):
        MODELS[name](torch.zeros(2, 1, height, width))
