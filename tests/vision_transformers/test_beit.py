"""BEiT: what is hidden is not seen, only what is hidden counts, and words can be learned."""

import pytest
import torch
import torch.nn.functional as F

from lib.vision_transformers import VisionTransformer
from lib.vision_transformers.beit import BEiT
from tests.waits import waits


def tiny(seed=0, **changes):
    torch.manual_seed(seed)
    arguments = {"img_size": 8, "patch_size": 2, "in_chans": 1, "num_classes": 5, "embed_dim": 16, "depth": 2}
    return BEiT(**{**arguments, "num_heads": 2, **changes}).eval()


@torch.no_grad()
def test_hidden_patches_are_not_seen():
    model, x = tiny(), torch.rand(1, 1, 8, 8)
    mask = torch.zeros(1, 16, dtype=torch.bool)
    mask[0, 5] = True  # the second patch of the second row
    other = x.clone()
    other[..., 2:4, 2:4] = 1 - other[..., 2:4, 2:4]
    assert torch.equal(model(x, mask), model(other, mask))
    assert not torch.allclose(model(x, ~mask & False), model(other, ~mask & False))


@torch.no_grad()
def test_with_nothing_hidden_it_is_a_vision_transformer():
    model, x = tiny(), torch.rand(2, 1, 8, 8)
    plain = VisionTransformer(8, 2, 1, 5, embed_dim=16, depth=2, num_heads=2)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name != "mask_token"})
    wanted = plain.head(plain.forward_features(x)[:, 1:])
    assert torch.allclose(model(x, torch.zeros(2, 16, dtype=torch.bool)), wanted, atol=1e-6)
    larger = torch.rand(1, 1, 12, 8)
    wanted = plain.head(plain.forward_features(larger)[:, 1:])
    assert torch.allclose(model(larger, torch.zeros(1, 24, dtype=torch.bool)), wanted, atol=1e-6)
    assert torch.equal(model.forward_features(x), plain.forward_features(x))


@torch.no_grad()
def test_only_hidden_patches_count():
    model, x, words = tiny(), torch.rand(3, 1, 8, 8), torch.randint(5, (3, 16))
    noise = torch.rand(3, 16)
    hidden = noise <= noise.kthvalue(4, dim=1, keepdim=True).values  # a quarter of 16
    wanted = F.cross_entropy(model(x, hidden)[hidden], words[hidden])
    assert model.loss(x, words, 0.25, noise).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert model.loss(x, torch.where(hidden, words, (words + 1) % 5), 0.25, noise).item() == pytest.approx(
        wanted.item()
    )


def test_learns_words_that_the_rest_of_the_image_tells():
    """Every patch of an image has the same grey, and that grey is the word of all patches, also of hidden ones."""
    model = tiny().train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(120):
        words = torch.randint(5, (16, 1)).expand(-1, 16)
        optimizer.zero_grad()
        loss = model.loss((words / 4).repeat_interleave(4, 1).view(16, 1, 8, 8), words, 0.5)
        loss.backward()
        optimizer.step()
    assert loss < 0.2
    missing = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert not [name for name in missing if not name.endswith("k.bias")]


def test_runs_compiled_and_under_autocast():
    model, x, mask = tiny(), torch.rand(2, 1, 8, 8), torch.rand(2, 16) < 0.5
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(x, mask), model(x, mask), atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x, mask).shape == (2, 16, 5)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.int8])
@torch.no_grad()
def test_words_may_be_any_integers(dtype):
    model, x, words, noise = tiny(), torch.rand(2, 1, 8, 8), torch.randint(5, (2, 16)), torch.rand(2, 16)
    assert torch.equal(model.loss(x, words.to(dtype), 0.5, noise), model.loss(x, words, 0.5, noise))


def test_a_training_step_waits_for_no_device(monkeypatch):
    model, x, words = tiny().train(), torch.rand(2, 1, 8, 8), torch.randint(5, (2, 16))
    assert not waits(lambda: model.loss(x, words).backward(), monkeypatch)


@torch.no_grad()
def test_in_16_bits_the_loss_is_float32():
    model, words, noise = tiny().bfloat16(), torch.randint(5, (60, 16)), torch.rand(60, 16)
    x, hidden = torch.rand(60, 1, 8, 8).bfloat16(), noise.argsort(1).argsort(1) < 6
    loss, wanted = model.loss(x, words, 0.4, noise), F.cross_entropy(model(x, hidden)[hidden].float(), words[hidden])
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize(
    "build, message",
    [
        (
            lambda: tiny()(torch.rand(1, 1, 8, 8), torch.zeros(1, 9).bool()),
            r"mask must be boolean \(1, 16\), got torch",
        ),
        (lambda: tiny()(torch.rand(1, 1, 8, 8), torch.zeros(1, 16)), "got torch.float32"),
        (
            lambda: tiny().loss(torch.rand(1, 1, 8, 8), torch.zeros(1, 16).long(), 0.0),
            r"mask_ratio must lie in \(0, 1\)",
        ),
        (lambda: tiny()(torch.rand(1, 3, 8, 8), torch.zeros(1, 16).bool()), "x must have shape"),
        (lambda: tiny().loss(torch.rand(1, 1, 8, 8), torch.full((1, 16), 5)), "words must be between 0 and 4, got"),
        (lambda: tiny().loss(torch.rand(0, 1, 8, 8), torch.zeros(0, 16).long()), "words must have shape"),
        (lambda: tiny(num_classes=0), "num_classes must be an integer of at least 1, got 0"),
    ],
)
def test_bad_input_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_noise_that_is_not_finite_is_named(bad):
    noise = torch.rand(2, 16)
    noise[1, 3] = bad
    with pytest.raises(ValueError, match="noise must be finite"):
        tiny().loss(torch.rand(2, 1, 8, 8), torch.zeros(2, 16).long(), 0.5, noise)
