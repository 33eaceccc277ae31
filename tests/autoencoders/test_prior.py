"""The prior over code maps: nothing looks ahead, the cache changes nothing, and what is rare is drawn rarely."""

import pytest
import torch
from torch import nn

from lib.autoencoders import CodePrior, MaskedConv2d
from lib.autoencoders.prior import chances, draw
from tests.waits import waits


def prior(seed=0, **changes):
    torch.manual_seed(seed)
    arguments = {"num_codes": 7, "shape": (3, 4), "dim": 16, "depth": 2, "num_heads": 2, **changes}
    return CodePrior(arguments.pop("num_codes"), arguments.pop("shape"), **arguments).eval()


@torch.no_grad()
def test_a_code_depends_on_those_before_it_and_on_no_other():
    model, codes = prior(), torch.randint(7, (2, 3, 4))
    plain = model(codes).flatten(2)
    for i in range(12):
        other = codes.clone()
        other.view(2, 12)[:, i] = (other.view(2, 12)[:, i] + 1) % 7
        changed = (model(other).flatten(2) - plain).abs().amax((0, 1)) > 1e-6
        assert changed.tolist() == [k > i for k in range(12)]


@torch.no_grad()
def test_labels_and_the_upper_map_count_from_the_first_code_on():
    model = prior(num_classes=3, upper=(5, 2, 2))
    codes, labels, upper = torch.randint(7, (1, 3, 4)), torch.tensor([1]), torch.randint(5, (1, 2, 2))
    plain = model(codes, labels, upper)
    other = upper.clone()
    other[0, 1, 1] = (other[0, 1, 1] + 1) % 5
    for changed in (model(codes, labels + 1, upper), model(codes, labels, other)):
        assert ((changed - plain).abs().amax(1) > 1e-6).all()


@pytest.mark.parametrize("settings", [{}, {"num_classes": 3}, {"num_classes": 3, "upper": (5, 2, 2)}])
def test_cached_and_uncached_sampling_give_the_same_maps(settings):
    model, n = prior(**settings), 5
    labels = torch.arange(n) % 3 if "num_classes" in settings else None
    upper = torch.randint(5, (n, 2, 2)) if "upper" in settings else None
    drawn = [
        model.sample(n, labels, upper, cache=cache, generator=torch.Generator().manual_seed(3))
        for cache in (True, False)
    ]
    assert torch.equal(*drawn) and drawn[0].shape == (n, 3, 4)
    assert not torch.equal(drawn[0], model.sample(n, labels, upper, generator=torch.Generator().manual_seed(4)))


@torch.no_grad()
def test_logits_while_writing_are_those_of_reading():
    model = prior(num_classes=2)
    codes, labels = torch.randint(7, (2, 3, 4)), torch.tensor([0, 1])
    wanted = model(codes, labels).flatten(2)
    x, past = model.condition(2, labels, None), None
    for i in range(12):
        logits, past = model.next_code(x, past)
        assert torch.allclose(logits, wanted[:, :, i], atol=1e-5)
        x = model.code_embed(codes.view(2, 12)[:, i : i + 1])


def test_samples_follow_the_distribution():
    """Of a prior that has learned a distribution over maps of two codes, against its exact probabilities."""
    model = prior(num_codes=3, shape=(1, 2))
    with torch.no_grad():
        nn.init.normal_(model.head.weight, std=0.5)
        pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))[:, None]
        log_p = model(pairs).log_softmax(1).gather(1, pairs[:, None])[:, 0].sum((1, 2))
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)
    drawn = model.sample(20_000, generator=torch.Generator().manual_seed(0))[:, 0]
    share = torch.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9) / 20_000
    assert torch.allclose(share, log_p.exp(), atol=0.015)


def test_a_low_temperature_writes_the_likeliest_code():
    model = prior()
    cold = model.sample(50, temperature=1e-4, generator=torch.Generator().manual_seed(0))
    assert (cold == cold[:1]).all() and cold[0, 0, 0] == model(cold[:1])[0, :, 0, 0].argmax()


def test_learns_maps_by_heart():
    torch.manual_seed(0)
    model, labels = prior(num_classes=4).train(), torch.arange(4)
    codes = torch.randint(7, (4, 3, 4))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(codes, labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    model.eval()
    assert torch.equal(model.sample(4, labels, generator=torch.Generator().manual_seed(0)), codes)


def test_every_parameter_learns_and_it_compiles():
    model = prior(num_classes=3, upper=(5, 2, 2)).train()
    codes, labels, upper = torch.randint(7, (8, 3, 4)), torch.arange(8) % 3, torch.randint(5, (8, 2, 2))
    model.loss(codes, labels, upper).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(codes, labels, upper), model(codes, labels, upper), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.int8])
@torch.no_grad()
def test_codes_labels_and_upper_maps_may_be_any_integers(dtype):
    model = prior(num_classes=3, upper=(5, 2, 2))
    given = torch.randint(7, (2, 3, 4)), torch.tensor([2, 0]), torch.randint(5, (2, 2, 2))
    other = [part.to(dtype) for part in given]
    assert torch.equal(model(*other), model(*given)) and torch.equal(model.loss(*other), model.loss(*given))
    drawn = [model.sample(2, *parts[1:], generator=torch.Generator().manual_seed(0)) for parts in (given, other)]
    assert torch.equal(*drawn)


def test_training_and_writing_wait_for_no_device(monkeypatch):
    model, labels, upper = prior(num_classes=3, upper=(5, 2, 2)), torch.tensor([2, 0]), torch.randint(5, (2, 2, 2))
    assert not waits(lambda: model.loss(torch.randint(7, (2, 3, 4)), labels, upper).backward(), monkeypatch)
    assert not waits(lambda: model.sample(2, labels, upper), monkeypatch)


def test_a_draw_is_that_of_multinomial():
    probabilities = torch.randn(50, 9, generator=torch.Generator().manual_seed(1)).softmax(1)
    first, second = (torch.Generator().manual_seed(0) for _ in range(2))
    for _ in range(20):
        assert torch.equal(draw(probabilities, first), probabilities.multinomial(1, generator=second))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_in_16_bits_the_loss_is_float32(dtype):
    model, codes = prior().to(dtype), torch.randint(7, (50, 3, 4))
    loss, wanted = model.loss(codes), nn.functional.cross_entropy(model(codes).float(), codes)
    assert loss.dtype == torch.float32 and torch.equal(loss, wanted)
    assert model.sample(2).shape == (2, 3, 4)


def test_without_maps_there_are_logits_but_no_mean():
    model, none = prior(), torch.zeros(0, 3, 4).long()
    assert model(none).shape == (0, 7, 3, 4)
    with pytest.raises(ValueError, match=r"codes must hold something, got shape \(0, 3, 4\)"):
        model.loss(none)


@pytest.mark.parametrize("mask", ["A", "B"])
def test_masked_convolution_sees_what_is_written(mask):
    torch.manual_seed(0)
    layer = MaskedConv2d(mask, 1, 1, 5)
    x = torch.randn(1, 1, 7, 7, requires_grad=True)
    layer(x)[0, 0, 3, 3].backward()
    seen = x.grad[0, 0] != 0
    wanted = torch.zeros(7, 7, dtype=torch.bool)
    wanted[1:3, 1:6], wanted[3, 1:3], wanted[3, 3] = True, True, mask == "B"
    assert torch.equal(seen, wanted)


def test_masked_convolutions_leave_a_blind_spot():
    """However deep, a stack never sees all that is above and to the right: the flaw that gated PixelCNN mends."""
    torch.manual_seed(0)
    stack = nn.Sequential(MaskedConv2d("A", 1, 4, 3), *(MaskedConv2d("B", 4, 4, 3) for _ in range(6)))
    x = torch.randn(1, 1, 9, 9, requires_grad=True)
    stack(x)[0, :, 7, 2].sum().backward()
    seen = x.grad[0, 0] != 0
    assert not seen[7, 2:].any() and not seen[8].any()
    assert seen[6, 3] and not seen[6, 4] and seen[5, 4] and not seen[5, 5]


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: prior(num_codes=0), "num_codes must be an integer of at least 1, got 0"),
        (lambda: prior(shape=(0, 4)), r"shape must be positive integers \(height, width\), got \(0, 4\)"),
        (lambda: prior(num_heads=3), "num_heads must divide dim"),
        (lambda: prior(upper=(5, 0, 2)), r"upper must be positive integers \(num_codes, height, width\), got"),
        (lambda: prior()(torch.zeros(1, 4, 3).long()), r"codes must have shape \(B, 3, 4\), got \(1, 4, 3\)"),
        (lambda: prior()(torch.full((1, 3, 4), 7)), "codes must be between 0 and 6, got values from 7 to 7"),
        (lambda: prior()(torch.zeros(1, 3, 4).long(), torch.zeros(1).long()), "no labels and no upper map, got labels"),
        (lambda: prior(num_classes=2).sample(3), "wants labels and no upper map, got neither"),
        (lambda: prior(num_classes=2).sample(3, torch.tensor([0, 1, 2])), "labels must be between 0 and 1"),
        (lambda: prior(num_classes=2).sample(3, torch.tensor([0, 1])), "one for each of the 3 maps, got 2"),
        (lambda: prior(upper=(5, 2, 2)).sample(1, upper=torch.full((1, 2, 2), 5)), "upper must be between 0 and 4"),
        (lambda: prior().sample(0), "n must be an integer of at least 1, got 0"),
        (lambda: prior().sample(1, temperature=0.0), "temperature must be a finite number, above 0, got 0.0"),
        (lambda: MaskedConv2d("C", 1, 1, 3), "mask must be one of A, B, got 'C'"),
        (lambda: MaskedConv2d("A", 1, 1, 4), "kernel_size must be odd, got 4"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("temperature", [5e-324, 1e-39, 1e-30, 1e-5])
@torch.no_grad()
def test_near_temperature_0_the_likeliest_code_is_drawn(temperature, dtype):
    model = prior().to(dtype)
    model.head.bias.copy_(40 * torch.randperm(7, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(model.sample(3, temperature=temperature), model.sample(3, temperature=1e-3))
    assert torch.equal(model(codes := model.sample(3, temperature=temperature)).argmax(1), codes)


@torch.no_grad()
def test_at_the_highest_temperature_all_codes_are_as_likely():
    logits = torch.tensor([[-20.0, 0.0, 20.0]])
    for temperature in (1e30, 1e39, 1e308):
        assert torch.allclose(chances(logits, temperature), torch.tensor(1 / 3))
    assert torch.equal(chances(logits, 1.0), logits.softmax(-1))
    assert torch.allclose(chances(logits, 10), (logits / 10).softmax(-1))
