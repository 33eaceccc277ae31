import importlib
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lib.training import NonFiniteLoss, budget, default_device, fit

module = importlib.import_module("lib.training.fit")


def cross_entropy(model, images, labels):
    return F.cross_entropy(model(images), labels)


def squares(model, x):
    return model(x).square().mean()


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_learns_digits_and_leaves_the_model_ready(classifier, digits):
    model = classifier()
    history = fit(model, cross_entropy, digits, images=12_000, lr=1e-2, ema=0.9, show=False)
    assert not model.training
    assert history["loss"][0] > 2 and history["loss"][-1] < 0.5
    with torch.no_grad():
        assert (model(digits[0]).argmax(1) == digits[1]).float().mean() > 0.9


def test_finds_the_solution_of_least_squares():
    torch.manual_seed(0)
    x, truth = torch.randn(512, 3), torch.tensor([[1.0, -2.0, 0.5]])
    y = x @ truth.T + 0.1 * torch.randn(512, 1)
    model = nn.Linear(3, 1, bias=False)
    settings = {"images": 40_000, "lr": 0.05, "precision": "no", "show": False}
    fit(model, lambda model, x, y: F.mse_loss(model(x), y), (x, y), **settings)
    assert model.weight.detach().allclose(torch.linalg.lstsq(x, y).solution.T, atol=2e-3)


def test_is_plain_adamw_when_nothing_else_is_asked_for():
    """The same steps as a loop written out by hand, bit for bit."""
    torch.manual_seed(0)
    data = torch.randn(64, 5)
    model, other = nn.Linear(5, 2), nn.Linear(5, 2)
    other.load_state_dict(model.state_dict())
    fit(
        model, squares, data, images=160, batch_size=16, lr=0.01, weight_decay=0.1, schedule="constant", warmup=0,
        precision="no", seed=5, show=False,
    )  # fmt: skip
    groups = [{"params": [other.weight], "weight_decay": 0.1}, {"params": [other.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, fused=True)
    generator = torch.Generator().manual_seed(5)
    for step in range(10):
        if step % 4 == 0:
            order = torch.randperm(64, generator=generator).view(4, 16)
        squares(other, data[order[step % 4]]).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert same(weights(model), weights(other))


def test_same_seed_same_weights_another_seed_others(classifier, digits):
    runs = []
    for seed in (0, 0, 1):
        model = classifier()
        torch.rand(len(runs) + 1)  # what happened before must not matter
        history = fit(model, cross_entropy, digits, images=3000, seed=seed, ema=0.9, show=False)
        runs.append((weights(model), history.records))
    assert same(runs[0][0], runs[1][0]) and runs[0][1] == runs[1][1]
    assert not same(runs[0][0], runs[2][0])


def test_the_callers_random_numbers_go_on_untouched(classifier, digits):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit(classifier(), cross_entropy, digits, images=500, show=False)
    assert torch.rand(4).equal(expected)


def test_evaluation_sees_the_average_in_eval_mode_and_changes_nothing(classifier, digits):
    seen = []

    def evaluate(model):
        assert not torch.is_grad_enabled() and not any(part.training for part in model.modules())
        seen.append((weights(model), torch.rand(1).item()))
        return {"accuracy": (model(digits[0]).argmax(1) == digits[1]).float().mean()}

    plain, watched = classifier(), classifier()
    one = fit(plain, cross_entropy, digits, images=3000, every=1000, ema=0.9, show=False)
    two = fit(watched, cross_entropy, digits, images=3000, every=1000, ema=0.9, evaluate=evaluate, show=False)
    assert len(seen) == 3 and len({noise for _, noise in seen}) == 1
    assert same(seen[-1][0], weights(watched)) and not same(seen[0][0], seen[1][0])
    assert same(weights(plain), weights(watched)) and one["loss"] == two["loss"]
    images, accuracy = two.series("accuracy")
    assert images == [1024, 2048, 3072] and accuracy[-1] > accuracy[0] > 0.1


def test_evaluation_gives_each_part_its_mode_back():
    class Frozen(nn.Linear):
        def train(self, mode=True):
            return super().train(False)

    modes = []

    def loss(model, x):
        modes.append([part.training for part in model.modules()])
        return squares(model, x)

    model = nn.Sequential(nn.Linear(2, 2), Frozen(2, 2))
    fit(model, loss, torch.rand(8, 2), images=40, batch_size=4, every=8, evaluate=lambda model: None, show=False)
    assert modes == [[True, True, False]] * 10


def test_named_losses_and_evaluations_are_recorded_at_the_right_place():
    def loss(model, x):
        value = squares(model, x)
        return {"loss": value + 1, "square": value}

    history = fit(
        nn.Linear(2, 1), loss, torch.rand(64, 2), images=1000, batch_size=10, every=300,
        evaluate=lambda model: {"bias": model.bias.item()}, precision="no", show=False,
    )  # fmt: skip
    assert len(history.records) == 100 and history.records[-1]["images"] == 1000
    assert history.series("bias")[0] == [300, 600, 900, 1000]
    assert [a - b for a, b in zip(history["loss"], history["square"])] == pytest.approx([1] * 100)


def test_a_record_is_the_mean_of_the_steps_since_the_last():
    seen = []

    def loss(model, x):
        seen.append(squares(model, x))
        return seen[-1]

    history = fit(nn.Linear(2, 1), loss, torch.rand(64, 2), images=10_000, batch_size=10, show=False)
    assert [record["step"] for record in history.records] == list(range(5, 1001, 5))
    means = torch.stack(seen).detach().double().view(-1, 5).mean(1)
    assert history["loss"] == pytest.approx(means.tolist())


def test_each_epoch_shows_each_image_once_in_another_order():
    order = module.batches(10, 3, seed=0)
    epochs = [torch.cat([next(order) for _ in range(3)]) for _ in range(3)]
    for epoch in epochs:
        assert len(set(epoch.tolist())) == 9 and set(epoch.tolist()) <= set(range(10))
    assert not epochs[0].equal(epochs[1]) and not epochs[1].equal(epochs[2])


def test_gradients_are_clipped():
    norms = []

    class Watch(torch.optim.AdamW):
        def step(self, *args):
            norms.append(math.sqrt(sum(p.grad.square().sum() for g in self.param_groups for p in g["params"])))
            return super().step(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Watch)
        for clip in (None, 0.01):
            fit(nn.Linear(2, 1), squares, 10 * torch.rand(64, 2), images=640, batch_size=64, clip=clip, show=False)
    assert max(norms[:10]) > 1 and max(norms[10:]) <= 0.01 + 1e-6


def test_bfloat16_computes_in_bfloat16_and_keeps_the_weights():
    kinds = set()

    def loss(model, x):
        y = model(x)
        kinds.add(y.dtype)
        return y.float().square().mean()

    for precision in ("no", "bf16"):
        model = nn.Linear(8, 8)
        fit(model, loss, torch.rand(64, 8), images=128, precision=precision, batch_size=64, show=False)
        assert model.weight.dtype == torch.float32
    assert kinds == {torch.float32, torch.bfloat16}


def test_automatic_precision_asks_the_hardware(monkeypatch):
    cpu = torch.device("cpu")
    for instructions, expected in ({}, False), ({"avx512_f"}, False), ({"avx512_bf16"}, True), ({"amx_bf16"}, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=instructions: dict.fromkeys(has, True))
        assert module.computes_in_bf16(cpu) is expected
    with monkeypatch.context() as without:
        without.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert module.computes_in_bf16(cpu) is False
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert module.computes_in_bf16(torch.device("cuda")) is True
    assert module.computes_in_bf16(torch.device("mps")) is False


@pytest.mark.parametrize("bad", [7, 123])
def test_stops_at_the_first_loss_that_is_no_number(bad):
    calls = []

    def loss(model, x):
        calls.append(1)
        value = squares(model, x)
        return {"loss": value, "kl": value * (math.inf if len(calls) == bad else 1)}

    model = nn.Linear(2, 1)
    with pytest.raises(NonFiniteLoss, match=rf"at step {bad} \(image {bad * 10:,}\): loss = [\d.]+, kl = inf"):
        fit(model, loss, torch.rand(64, 2), images=10_000, batch_size=10, show=False)
    assert len(calls) < bad + 5


def test_a_loss_without_a_scalar_named_loss_is_refused():
    x, model = torch.rand(8, 2), nn.Linear(2, 1)
    for result, message in (
        ({"total": torch.zeros(())}, r'must return a dict that holds "loss", got \[\'total\'\]'),
        (torch.zeros(8), r"must return scalar tensors, got shape \(8,\) as 'loss'"),
        (0.5, r"must return scalar tensors, got float as 'loss'"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(model, lambda model, x, result=result: result, x, images=8, batch_size=8, show=False)


def test_a_loss_that_teaches_the_model_nothing_is_refused_before_the_step():
    x, elsewhere = torch.rand(8, 2), torch.ones((), requires_grad=True)
    for loss, message in (
        (lambda model, x: squares(model, x).detach(), "got one without a gradient"),
        (lambda model, x: torch.tensor(1.0), "got one without a gradient"),
        (lambda model, x: torch.tensor(1), "got one without a gradient"),
        (lambda model, x: 2 * elsewhere, "got one that depends on none"),
    ):
        model = nn.Linear(2, 1)
        before = weights(model)
        with pytest.raises(ValueError, match=f"^loss must depend on the parameters of the model, {message}"):
            fit(model, loss, x, images=8, batch_size=8, weight_decay=0.1, show=False)
        assert same(weights(model), before)
    with pytest.raises(ValueError, match=r"^loss must return real numbers, got torch\.complex64 as 'loss'"):
        fit(model, lambda model, x: squares(model, x) * 1j, x, images=8, batch_size=8, show=False)


@pytest.mark.parametrize("name", ["step", "images", "lr", 1])
def test_names_of_a_record_are_not_overwritten(name):
    settings = {"images": 8, "batch_size": 8, "show": False}
    with pytest.raises(ValueError, match=rf"^loss must use names other than step, images, lr, got {name!r}"):
        fit(nn.Linear(2, 1), lambda m, x: {"loss": squares(m, x), name: squares(m, x)}, torch.rand(8, 2), **settings)
    with pytest.raises(ValueError, match=r"^evaluate must (use names that the losses do not|return numbers by name)"):
        fit(nn.Linear(2, 1), squares, torch.rand(8, 2), evaluate=lambda model: {name: 1.0}, **settings)


@pytest.mark.parametrize("value", [None, "0.5", torch.zeros(2), np.zeros(2), torch.ones(()) * 1j, [1.0]])
def test_an_evaluation_that_holds_no_number_is_named(value):
    with pytest.raises(ValueError, match=r"^evaluate must return numbers by name, got .* as 'score'"):
        fit(
            nn.Linear(2, 1), squares, torch.rand(8, 2), images=8, batch_size=8, evaluate=lambda model: {"score": value},
            show=False,
        )  # fmt: skip


def test_numbers_of_numpy_and_of_single_elements_are_numbers(tmp_path):
    given = {
        "images": np.int64(64), "batch_size": np.int32(8), "seed": np.uint8(3), "every": np.int16(16),
        "lr": np.float32(0.125), "weight_decay": np.float16(0.5), "warmup": np.float32(0.25), "ema": np.float64(0.5),
        "clip": np.float32(2),
    }  # fmt: skip
    models = nn.Linear(2, 1), nn.Linear(2, 1)
    models[1].load_state_dict(models[0].state_dict())
    courses = [
        fit(
            model, squares, torch.arange(32.0).view(16, 2), checkpoint=tmp_path / f"{number}", show=False,
            evaluate=lambda model: {"a": np.float32(1), "b": torch.ones(1), "c": np.ones(()), "d": math.nan},
            **{name: value if number == 0 else value.item() for name, value in given.items()},
        ).records
        for number, model in enumerate(models)
    ]  # fmt: skip
    assert repr(courses[0]) == repr(courses[1]) and len(courses[0]) == 8
    assert same(weights(models[0]), weights(models[1]))
    with pytest.raises(ValueError, match=r"^settings must be a dict of what JSON can hold"):
        fit(models[0], squares, torch.rand(8, 2), images=8, batch_size=8, settings={"beta": np.int64(3)}, show=False)


def test_an_evaluation_that_returns_no_numbers_of_its_own_is_refused():
    for result, message in (([1], "must return a dict of numbers or None, got list"), ({"loss": 1.0}, r"\['loss'\]")):
        with pytest.raises(ValueError, match=message):
            fit(
                nn.Linear(2, 1), squares, torch.rand(8, 2), images=8, batch_size=8,
                evaluate=lambda model, result=result: result, show=False,
            )  # fmt: skip


NO_COUNT = st.one_of(st.integers(max_value=0), st.floats(), st.booleans(), st.text(), st.just([1]))
NO_NUMBER = st.one_of(st.just(math.nan), st.just(math.inf), st.booleans(), st.text(), st.just([1.0]))
BAD = {
    "images": st.one_of(NO_COUNT, st.none()),
    "batch_size": st.one_of(NO_COUNT, st.none(), st.just(65)),  # more than the data
    "every": NO_COUNT,
    "lr": st.one_of(NO_NUMBER, st.floats(max_value=0), st.none()),
    "weight_decay": st.one_of(NO_NUMBER, st.floats(max_value=-1e-9), st.none()),
    "schedule": st.one_of(st.sampled_from(["linear", "", ["cosine"]]), st.none(), st.integers()),
    "warmup": st.one_of(NO_NUMBER, st.floats(max_value=-1e-9), st.floats(min_value=1)),
    "ema": st.one_of(NO_NUMBER, st.floats(max_value=-1e-9), st.floats(min_value=1)),
    "clip": st.one_of(NO_NUMBER, st.floats(max_value=0)),
    "precision": st.one_of(st.sampled_from(["fp16", "", "BF16", ["no"]]), st.none(), st.booleans()),
    "seed": st.one_of(st.integers(max_value=-1), st.integers(min_value=1 << 32), st.floats(), st.text(), st.none()),
    "evaluate": st.one_of(st.text(), st.integers()),
}


@pytest.mark.parametrize("name", BAD)
@given(draw=st.data())
def test_refuses_a_bad_argument_before_any_work(name, draw):
    model = nn.Linear(2, 1)
    before = weights(model)
    value = draw.draw(BAD[name])
    wrong = "data" if name == "batch_size" and value == 65 else name
    with pytest.raises(ValueError, match=f"^{wrong} must "):
        fit(model, squares, torch.rand(64, 2), **{"images": 64, "batch_size": 8, "show": False, name: value})
    assert same(weights(model), before) and model.training


@pytest.mark.parametrize(
    "data",
    [
        torch.tensor(1.0), torch.rand(0, 2), (), [torch.rand(8, 2), [1]], (torch.rand(8, 2), torch.rand(9)), "data",
        None, torch.tensor([[1.0, math.nan]] * 8), torch.tensor([[1.0, -math.inf]] * 8),
    ],
)  # fmt: skip
def test_refuses_data(data):
    with pytest.raises(ValueError, match=r"^data must "):
        fit(nn.Linear(2, 1), squares, data, images=8, batch_size=8, show=False)


def test_refuses_a_model_or_loss_that_cannot_be_trained():
    for model in (nn.ReLU(), nn.Linear(2, 1).requires_grad_(False), lambda x: x):
        with pytest.raises(ValueError, match=r"^model must be an nn.Module with parameters to train"):
            fit(model, squares, torch.rand(8, 2), images=8, batch_size=8, show=False)
    with pytest.raises(ValueError, match=r"^loss must be callable"):
        fit(nn.Linear(2, 1), "mse", torch.rand(8, 2), images=8, batch_size=8, show=False)


def test_budget_follows_the_device(monkeypatch):
    assert budget(cpu=3, gpu=7) == (3 if default_device().type == "cpu" else 7)
    monkeypatch.setattr(module, "default_device", lambda: torch.device("cuda"))
    assert budget(cpu=3, gpu=7) == 7


def test_loop_waits_for_the_device_only_at_records(monkeypatch):
    """Reading a number from the device stalls a GPU: once a record, not once a step."""
    reads = []
    for name in ("item", "tolist", "cpu"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, real=real: (reads.append(1), real(self))[1])
    fit(nn.Linear(2, 1), squares, torch.rand(64, 2), images=1000, batch_size=1, ema=0.9, clip=1.0, show=False)
    assert 200 <= len(reads) < 3 * 210  # 1,000 steps, 200 records, 10 pauses
