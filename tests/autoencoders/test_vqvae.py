"""Quantiser, VQ-VAE and VQ-VAE-2: the release's numbers and names, who receives which gradient, and dead codes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lib.autoencoders import VQVAE, VQVAE2, VectorQuantizer
from lib.autoencoders.vqvae import Decoder, Encoder

STORED = np.load(Path(__file__).parents[1] / "reference" / "vq.npz")
GIVEN = {name: torch.tensor(STORED[name]) for name in STORED if not name.startswith("_")}


def stored(**changes):
    """The reference's quantiser: 16 codes of 8 numbers."""
    quantizer = VectorQuantizer(16, 8, **changes)
    with torch.no_grad():
        quantizer.embed.copy_(GIVEN["codebook"].t())
        quantizer.cluster_size.copy_(GIVEN["cluster_size"])
        if quantizer.ema is not None:
            quantizer.embed_avg.copy_(GIVEN["embed_avg"].t())
    return quantizer


def close(found, wanted, tolerance=1e-6):
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("layout", ["features", "tokens"])
def test_codes_gradients_and_update_are_those_of_the_release(layout):
    quantizer, x = stored().train(), GIVEN["x"].clone().requires_grad_()
    z = x.movedim(-1, 1) if layout == "features" else x.flatten(1, 2)
    found = quantizer(z)
    quantised = found.quantised.movedim(1, -1) if layout == "features" else found.quantised.view_as(x)
    assert torch.equal(found.indices.view_as(GIVEN["indices"]), GIVEN["indices"])
    assert close(quantised, GIVEN["quantised"])
    assert found.commitment_loss.item() == pytest.approx(GIVEN["commit_mse"].item(), abs=1e-6)
    assert found.perplexity.item() == pytest.approx(GIVEN["perplexity"].item(), rel=1e-5)
    (gradient,) = torch.autograd.grad((quantised * GIVEN["upstream"]).sum(), x, retain_graph=True)
    assert close(gradient, GIVEN["grad_straight_through"])
    (gradient,) = torch.autograd.grad(found.commitment_loss, x)
    assert close(gradient, GIVEN["grad_commit"])
    assert close(quantizer.cluster_size, GIVEN["ema_cluster_size"], 1e-5)
    assert close(quantizer.embed_avg, GIVEN["ema_embed_avg"].t(), 1e-5)
    assert close(quantizer.embed, GIVEN["ema_codebook"].t(), 1e-5)


def test_loss_with_a_learned_codebook_is_the_papers():
    quantizer, x = stored(ema=None), GIVEN["x"].clone().requires_grad_()
    found = quantizer(x.movedim(-1, 1))
    loss = found.codebook_loss + 0.25 * found.commitment_loss
    assert loss.item() == pytest.approx(GIVEN["paper_loss"].item(), abs=1e-6)
    of_x, of_codes = torch.autograd.grad(loss, (x, quantizer.embed))
    assert close(of_x, GIVEN["paper_grad_x"])
    assert close(of_codes, GIVEN["paper_grad_codebook"].t())


@pytest.mark.parametrize("ema", [None, 0.9])
def test_in_float64_it_is_the_same_but_for_rounding(ema):
    torch.manual_seed(0)
    single = VectorQuantizer(20, 6, ema=ema, restart=0.1).train()
    double = VectorQuantizer(20, 6, ema=ema, restart=0.1).double().train()
    double.load_state_dict(single.state_dict())
    z, found = torch.randn(8, 6, 4, 4), []
    for quantizer in (single, double):
        torch.manual_seed(1)
        found.append(quantizer(z.to(quantizer.embed.dtype)))
    assert torch.equal(found[0].indices, found[1].indices) and found[1].quantised.dtype == torch.float64
    assert torch.allclose(found[0].quantised.double(), found[1].quantised, atol=1e-6)
    for name, value in double.state_dict().items():
        assert value.dtype == torch.float64 and torch.allclose(single.state_dict()[name].double(), value, atol=1e-5)


def test_nearest_code_is_that_of_all_distances():
    torch.manual_seed(0)
    quantizer, z = VectorQuantizer(50, 6).double(), torch.randn(3, 40, 6, dtype=torch.float64)
    quantizer.embed.copy_(torch.randn(6, 50))
    wanted = torch.cdist(z.flatten(0, 1), quantizer.embed.t()).argmin(1)
    assert torch.equal(quantizer.nearest(z.flatten(0, 1)), wanted)


@pytest.mark.parametrize("ema", [None, 0.99])
def test_who_receives_which_gradient(ema):
    """The decoder's gradient reaches the encoder as it is, and never the codes."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 4, ema=ema)
    z = torch.randn(2, 4, 3, 3, requires_grad=True)
    found = quantizer.eval()(z)
    found.quantised.retain_grad()
    (found.quantised**3).sum().backward()
    assert torch.equal(z.grad, found.quantised.grad) and z.grad.abs().max() > 0
    if ema is None:
        assert quantizer.embed.grad is None
        found.codebook_loss.backward()
        used = F.one_hot(found.indices, 8).sum((0, 1, 2)) > 0
        assert torch.equal(quantizer.embed.grad.abs().sum(0) > 0, used)
    else:
        assert found.codebook_loss == 0 and not list(quantizer.parameters())


def test_unused_codes_stay_where_they_are():
    """Over a long run, too, in which the smoothed count alone would draw them to zero."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(6, 4, ema=0.9).train()
    quantizer.embed[:, 3:] += 50  # out of reach
    quantizer.embed_avg.copy_(quantizer.embed)
    before = quantizer.embed.clone()
    for _ in range(2000):
        quantizer(torch.randn(4, 10, 4))
    assert torch.allclose(quantizer.embed[:, 3:], before[:, 3:], rtol=0.02)
    assert not torch.allclose(quantizer.embed[:, :3], before[:, :3], atol=0.1)
    assert quantizer.cluster_size[3:].max() < 1e-10


def test_averages_find_the_centres_of_clusters():
    torch.manual_seed(0)
    centres = torch.tensor([[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0]])
    quantizer = VectorQuantizer(3, 2, ema=0.9).train()
    quantizer.embed.copy_(0.2 * centres.t())
    for _ in range(200):
        chosen = torch.randint(3, (8, 20))
        quantizer(centres[chosen] + 0.1 * torch.randn(8, 20, 2))
    assert torch.cdist(centres, quantizer.embed.t()).amin(1).max() < 0.1


@pytest.mark.parametrize("ema", [None, 0.9])
def test_dead_codes_are_restarted_on_vectors_of_the_batch(ema):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(5, 3, ema=ema, restart=0.1).train()
    with torch.no_grad():
        quantizer.embed[:, 2:] += 100
    if ema is not None:
        quantizer.embed_avg.copy_(quantizer.embed)
    z = torch.randn(2, 30, 3)
    for _ in range(400):
        quantizer(z)
    assert torch.cdist(quantizer.embed.t()[2:], z.flatten(0, 1)).amin(1).max() < 2
    assert quantizer.embed.abs().max() < 10
    if ema is not None:
        assert torch.allclose(quantizer.embed_avg / quantizer.cluster_size, quantizer.embed, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_restart_sets_code_average_and_count_anew(ema):
    """In one update: dead codes lie on vectors drawn each by lot, with the count at which the next would be dead."""
    torch.manual_seed(0)
    plain, restarting = VectorQuantizer(40, 3, ema=ema), VectorQuantizer(40, 3, ema=ema, restart=0.95)
    restarting.load_state_dict(plain.state_dict())
    z = torch.randn(1, 60, 3)
    for quantizer in (plain, restarting):
        with torch.no_grad():
            quantizer.embed[:, 10:] += 100  # out of reach
            if ema is not None:
                quantizer.embed_avg.copy_(quantizer.embed)
            quantizer.cluster_size[10:] = 0.5
        quantizer.train()(z)
    dead = plain.cluster_size < 0.95
    assert dead[10:].all() and not dead.all()
    at = torch.cdist(restarting.embed.t()[dead], z[0]).argmin(1)
    assert torch.equal(restarting.embed.t()[dead], z[0][at])
    assert len(at.unique()) > len(at) / 2 and not torch.equal(at, torch.arange(40)[dead])
    assert torch.equal(restarting.embed[:, ~dead], plain.embed[:, ~dead])
    assert torch.equal(restarting.cluster_size, plain.cluster_size.clamp(min=0.95))
    if ema is not None:
        assert torch.allclose(restarting.embed_avg[:, dead], 0.95 * restarting.embed[:, dead])
        assert torch.equal(restarting.embed_avg[:, ~dead], plain.embed_avg[:, ~dead])


def test_counts_without_averages_forget_slowly():
    """Codes that are parameters are counted all the same, for the restart: a hundredth of a batch is news."""
    quantizer = VectorQuantizer(2, 1, ema=None).train()
    with torch.no_grad():
        quantizer.embed.copy_(torch.tensor([[0.0, 9.0]]))
    quantizer(torch.zeros(1, 11, 1))
    assert torch.allclose(quantizer.cluster_size, torch.tensor([0.99 + 0.11, 0.99]))


def test_perplexity_counts_codes():
    quantizer = VectorQuantizer(8, 1).eval()
    quantizer.embed.copy_(torch.arange(8.0)[None])
    for codes, wanted in (([3, 3, 3, 3], 1), ([0, 2, 5, 7], 4), (range(8), 8), ([1, 1, 2, 2], 2)):
        z = torch.tensor(list(codes), dtype=torch.float32).view(1, -1, 1)
        assert quantizer(z).perplexity.item() == pytest.approx(wanted, rel=1e-4)


def test_looking_up_undoes_encoding():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(9, 4)
    for indices in (torch.randint(9, (2, 3, 5)), torch.randint(9, (2, 7))):
        assert torch.equal(quantizer.encode(quantizer.lookup(indices)), indices)


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
        encoder, decoder = Encoder(3, 8, stride, 1, 4), Decoder(8, 3, 8, stride, 1, 4)
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


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: VectorQuantizer(0, 4), "num_codes must be an integer of at least 1, got 0"),
        (lambda: VectorQuantizer(4, 2.0), "dim must be an integer of at least 1, got 2.0"),
        (lambda: VectorQuantizer(4, 2, ema=1.0), r"ema must lie in \[0, 1\) or be None, got 1.0"),
        (lambda: VectorQuantizer(4, 2, restart=-1), "restart must be at least 0, got -1"),
        (lambda: VectorQuantizer(4, 2, restart=float("nan")), "restart must be at least 0, got nan"),
        (lambda: VectorQuantizer(4, 2)(torch.zeros(1, 3, 5, 5)), r"z must be floating point \(B, 2, H, W\)"),
        (lambda: VectorQuantizer(4, 2)(torch.zeros(1, 5, 3)), r"\(B, N, 2\), got torch.float32 \(1, 5, 3\)"),
        (lambda: VectorQuantizer(4, 2)(torch.full((1, 5, 2), torch.nan)), "z must be finite, got"),
        (lambda: VectorQuantizer(4, 2).encode(torch.full((1, 5, 2), torch.inf)), "z must be finite"),
        (lambda: VectorQuantizer(4, 2).lookup(torch.tensor([[4]])), "between 0 and 3, got values from 4 to 4"),
        (lambda: VectorQuantizer(4, 2).lookup(torch.tensor([[-1]])), "indices must lie between 0 and 3, got values"),
        (lambda: VectorQuantizer(4, 2).lookup(torch.tensor([[0.0]])), "indices must be integers"),
        (lambda: VQVAE(commitment=-0.1), "commitment must be at least 0, got -0.1"),
        (lambda: VQVAE()(torch.zeros(1, 1, 30, 28)), r"H and W divisible by 4, got \(1, 1, 30, 28\)"),
        (lambda: VQVAE()(torch.zeros(1, 3, 28, 28)), r"x must have shape \(B, 1, H, W\)"),
        (lambda: VQVAE().loss(torch.full((1, 1, 28, 28), torch.nan)), r"x must have pixels in \[0, 1\]"),
        (lambda: VQVAE2(1)(torch.zeros(1, 1, 28, 28)), "divisible by 8"),
        (lambda: VQVAE2().decode(torch.zeros(1, 4, 4).long(), torch.zeros(1, 4, 4).long()), "top and bottom must be"),
        (lambda: Encoder(1, stride=3), "stride must be 2 or 4, got 3"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
