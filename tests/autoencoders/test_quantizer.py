"""The quantiser: the release's numbers, who receives which gradient, dead codes, and 16 bits."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.autoencoders import VectorQuantizer
from tests.waits import waits

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
    quantised = found.z_q.movedim(1, -1) if layout == "features" else found.z_q.view_as(x)
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
    assert torch.equal(found[0].indices, found[1].indices) and found[1].z_q.dtype == torch.float64
    assert torch.allclose(found[0].z_q.double(), found[1].z_q, atol=1e-6)
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
    found.z_q.retain_grad()
    (found.z_q**3).sum().backward()
    assert torch.equal(z.grad, found.z_q.grad) and z.grad.abs().max() > 0
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


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: VectorQuantizer(0, 4), "num_codes must be an integer of at least 1, got 0"),
        (lambda: VectorQuantizer(4, 2.0), "dim must be an integer of at least 1, got 2.0"),
        (lambda: VectorQuantizer(4, 2, ema=1.0), r"ema must lie in \[0, 1\) or be None, got 1.0"),
        (lambda: VectorQuantizer(4, 2, restart=-1), "restart must be a finite number, at least 0, got -1"),
        (lambda: VectorQuantizer(4, 2, restart=float("nan")), "restart must be a finite number, at least 0, got nan"),
        (lambda: VectorQuantizer(4, 2)(torch.zeros(1, 3, 5, 5)), r"z must have shape \(B, 2, H, W\) or \(B, N, 2\)"),
        (lambda: VectorQuantizer(4, 2)(torch.zeros(1, 5, 3)), r"\(B, N, 2\), got \(1, 5, 3\)"),
        (lambda: VectorQuantizer(4, 2)(torch.full((1, 5, 2), torch.nan)), "z must be finite, got"),
        (lambda: VectorQuantizer(4, 2).encode(torch.full((1, 5, 2), torch.inf)), "z must be finite"),
        (lambda: VectorQuantizer(4, 2).lookup(torch.tensor([[4]])), "be between 0 and 3, got values from 4 to 4"),
        (lambda: VectorQuantizer(4, 2).lookup(torch.tensor([[-1]])), "indices must be between 0 and 3"),
        (lambda: VectorQuantizer(4, 2).lookup(torch.tensor([[0.0]])), "indices must be a tensor of integers"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# 16 bits, and several kinds of numbers

SHORT = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


@SHORT
@pytest.mark.parametrize("ema", [None, 0.99])
def test_in_16_bits_only_the_vectors_are_rounded(ema, dtype):
    """All that is counted, averaged or summed is what it is for the same vectors in 32 bits."""
    torch.manual_seed(0)
    single = VectorQuantizer(8, 4, ema=ema, restart=0.3).train()
    with torch.no_grad():
        single.embed.copy_(single.embed.to(dtype))
    short = VectorQuantizer(8, 4, ema=ema, restart=0.3).train()
    short.load_state_dict(single.state_dict())
    short.to(dtype)
    for step in range(3):
        z, found = torch.randn(50, 10, 4).to(dtype), []
        for quantizer in (single, short):
            torch.manual_seed(step)
            found.append(quantizer(z.to(torch.float32 if quantizer is single else dtype)))
        wanted, rounded = found
        assert torch.equal(wanted.indices, rounded.indices)
        for name in ("codebook_loss", "commitment_loss", "perplexity"):
            assert torch.equal(getattr(wanted, name), getattr(rounded, name)), name
        assert rounded.z_q.dtype == dtype and torch.equal(rounded.z_q, wanted.z_q.to(dtype))
    for name, value in single.named_buffers():
        assert torch.equal(dict(short.named_buffers())[name], value), name


@SHORT
def test_counts_in_16_bits_reach_what_they_count(dtype):
    """A hundredth of news is less than 8 bits can add to a count of 250."""
    torch.manual_seed(0)
    quantizer, z = VectorQuantizer(8, 4).to(dtype).train(), torch.randn(2000, 1, 4).to(dtype)
    for _ in range(600):
        quantizer(z)
    assert quantizer.cluster_size.sum().item() == pytest.approx(2000, rel=0.003)


def test_counts_and_averages_are_never_narrower_than_float32():
    for ema, kept in ((None, {"cluster_size"}), (0.9, {"embed", "embed_avg", "cluster_size"})):
        quantizer = nn.Sequential(VectorQuantizer(8, 4, ema=ema))
        before = {name: value.clone() for name, value in quantizer[0].state_dict().items()}
        for cast in (quantizer.half, quantizer.bfloat16, lambda model=quantizer: model.to(torch.float16)):
            cast()
            state = quantizer[0].state_dict()
            assert {name for name, value in state.items() if value.dtype == torch.float32} == kept
            assert all(torch.equal(state[name], before[name]) for name in kept)
        assert {value.dtype for value in quantizer.double().state_dict().values()} == {torch.float64}
        assert {value.dtype for value in quantizer.half()[0].buffers()} == {torch.float32}
        assert all(value.is_meta for value in quantizer.to("meta").state_dict().values())


@SHORT
@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_file_in_16_bits_leaves_counts_and_averages_wide(ema, assign, dtype):
    torch.manual_seed(0)
    quantizer = nn.Sequential(VectorQuantizer(8, 4, ema=ema)).train()
    quantizer.load_state_dict({k: v.to(dtype) for k, v in quantizer.state_dict().items()}, assign=assign)
    assert {value.dtype for value in quantizer.buffers()} == {torch.float32}
    found = quantizer(torch.randn(2, 5, 4).to(dtype))
    assert found.z_q.dtype == dtype and found.commitment_loss.dtype == torch.float32
    quantizer.load_state_dict({k: v.double() for k, v in quantizer.state_dict().items()}, assign=True)
    assert {value.dtype for value in quantizer.buffers()} == {torch.float64}


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.int8])
def test_indices_may_be_any_integers(dtype):
    quantizer, indices = VectorQuantizer(9, 4), torch.tensor([[[0, 1, 0], [8, 1, 1]]])
    assert torch.equal(quantizer.lookup(indices.to(dtype)), quantizer.lookup(indices))


@pytest.mark.parametrize("settings", [{}, {"restart": 0.5}, {"ema": None, "restart": 0.5}])
def test_training_waits_for_no_device(settings, monkeypatch):
    quantizer, z = VectorQuantizer(9, 4, **settings).train(), torch.randn(2, 4, 3, 3, requires_grad=True)

    def step():
        found = quantizer(z)
        (found.z_q.sum() + found.codebook_loss + found.commitment_loss + found.perplexity).backward()

    assert not waits(step, monkeypatch)
    assert waits(lambda: quantizer.cluster_size.max().item(), monkeypatch)  # the counter counts


def test_without_vectors_there_are_indices_but_no_mean():
    quantizer = VectorQuantizer(9, 4).eval()
    assert quantizer.encode(torch.zeros(0, 4, 3, 3)).shape == (0, 3, 3)
    assert quantizer.lookup(torch.zeros(0, 7).long()).shape == (0, 7, 4)
    for z in (torch.zeros(0, 4, 3, 3), torch.zeros(2, 0, 4)):
        with pytest.raises(ValueError, match=r"z must hold something, got shape"):
            quantizer(z)


@pytest.mark.parametrize("ema", [0.99, None])
def test_statistics_are_wide_also_where_16_bits_are_the_default(ema):
    torch.set_default_dtype(torch.bfloat16)
    try:
        quantizer = VectorQuantizer(8, 4, ema=ema)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {buffer.dtype for buffer in quantizer.buffers()} == {torch.float32}
