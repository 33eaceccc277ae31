"""What a checkpoint knows of the model it was made with, and what it must not hold against another."""

import copy
import dataclasses
import functools
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.training import CheckpointError, fit
from lib.training.checkpoint import read

X = torch.linspace(0, 1, 64).view(32, 2)


def train(path, model, loss=lambda model, x: model(x).square().mean(), **options):
    settings = {"images": 64, "batch_size": 8, "every": 32, "ema": 0.9, "precision": "no", "show": False}
    return fit(model, loss, X.to(model.weight.dtype), checkpoint=path, **settings | options)


def keeps(value):
    model = nn.Linear(2, 1)
    model.kept = value
    return model


def holds(numbers, persistent):
    model = nn.Linear(2, 1)
    model.register_buffer("table", torch.tensor(numbers), persistent)
    return model


def frozen(numbers):
    model = nn.Linear(2, 1)
    model.table = nn.Parameter(torch.tensor(numbers), requires_grad=False)
    return model


def hidden(number):
    model = nn.Linear(2, 1)
    model._kept = number
    return model


def power(number):
    return lambda x: x**number


@dataclasses.dataclass
class Schedule:
    name: str
    of: object = None


class Table:
    def __init__(self, numbers):
        self.numbers = torch.tensor(numbers)

    def at(self, place):
        return self.numbers[place]


class Slotted:
    __slots__ = ("numbers", "unset")

    def __init__(self, numbers):
        self.numbers = numbers


def itself(kind):
    """An object or a list that holds itself."""
    if kind is list:
        made = [1]
        made.append(made)
    else:
        made = Schedule("linear")
        made.around = {"it": made}
    return made


PAIRS = {
    "a slot": (keeps(Slotted(1)), keeps(Slotted(2))),
    "a place": (keeps(Path("a")), keeps(Path("b"))),
    "a buffer that is not stored": (holds([1.0, 2.0], False), holds([1.0, 3.0], False)),
    "another type of it": (holds([1.0], False), holds([1], False)),
    "a buffer more": (holds([1.0], False), nn.Linear(2, 1)),
    "a buffer that is stored": (holds([1.0, -math.inf], True), holds([1.0, 0.0], True)),
    "a frozen parameter": (frozen([1.0, 2.0]), frozen([1.0, 3.0])),
    "a private number": (hidden(1.0), hidden(4.0)),
    "a dict": (keeps({"beta": 1.0, "of": [1, {"a": 2}]}), keeps({"beta": 1.0, "of": [1, {"a": 3}]})),
    "a set": (keeps({"a", "b"}), keeps({"a", "c"})),
    "a tensor": (keeps(torch.zeros(3)), keeps(torch.ones(3))),
    "an array": (keeps(np.arange(3)), keeps(np.arange(3) + 1)),
    "an array of objects": (keeps(np.array(["a", None])), keeps(np.array(["b", None]))),
    "a number of numpy": (keeps(np.int64(3)), keeps(np.int64(4))),
    "a type of numbers": (keeps(torch.float32), keeps(torch.bfloat16)),
    "a type of numbers of numpy": (keeps(np.dtype("f4")), keeps(np.dtype("f8"))),
    "a function": (keeps(F.relu), keeps(F.gelu)),
    "a function of C": (keeps(torch.sin), keeps(torch.cos)),
    "a class": (keeps(nn.ReLU), keeps(nn.GELU)),
    "a constant in a function": (keeps(lambda x: 2 * x), keeps(lambda x: 3 * x)),
    "a name in a function": (keeps(lambda x: x.sin()), keeps(lambda x: x.cos())),
    "a constant in a function in a function": (keeps(lambda: lambda x: 2 * x), keeps(lambda: lambda x: 3 * x)),
    "what a function remembers": (keeps(power(2)), keeps(power(3))),
    "a default": (keeps(lambda x, to=2: x**to), keeps(lambda x, to=3: x**to)),
    "a partial function": (keeps(functools.partial(F.elu, alpha=1.0)), keeps(functools.partial(F.elu, alpha=2.0))),
    "a method of an object": (keeps(Table([1.0]).at), keeps(Table([2.0]).at)),
    "an object": (keeps(Schedule("linear")), keeps(Schedule("cosine"))),
    "an object in an object": (keeps(Schedule("", Schedule("a"))), keeps(Schedule("", Schedule("b")))),
    "a range": (keeps(range(3)), keeps(range(4))),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_differs_is_named_and_what_does_not_goes_on(name, tmp_path):
    one, other = map(copy.deepcopy, PAIRS[name])
    train(tmp_path / "c", one)
    train(tmp_path / "c", copy.deepcopy(PAIRS[name][0]))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(CheckpointError, match=r"belongs to another training: .*model\.(table|_?kept)"):
        train(tmp_path / "c", other)
    assert all(other.state_dict()[key].equal(tensor) for key, tensor in before.items())


ALIKE = {
    "a bare object": object, "an object": lambda: Table([1.0]), "a method": lambda: Table([1.0]).at,
    "modules": lambda: [nn.Linear(2, 2)], "nan": lambda: math.nan, "a generator": torch.Generator,
    "a logger": lambda: logging.getLogger("a"), "a function with a memory": lambda: functools.cache(power(2)),
    "no numbers": lambda: torch.zeros(0, 3), "a set": lambda: {"x", "y", "z"},
    "a method of C": lambda: torch.rand(3).to, "an empty memory": lambda: early(),
    "a slot": lambda: Slotted(1), "a place": lambda: Path("a/b"), "an object that holds itself": lambda: itself(object),
    "a list that holds itself": lambda: itself(list),
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_where_things_lie_in_memory_is_no_difference(name, tmp_path):
    for _ in range(2):
        logging.getLogger(str(tmp_path))
        train(tmp_path / "c", keeps(ALIKE[name]()))


def early():
    """A function that remembers what is not there yet."""
    if False:
        later = 0
    return lambda: later


class Learning(nn.Linear):
    """Keeps what training changes: codes that follow the input, a frozen teacher, a count, a table made when asked."""

    def __init__(self):
        super().__init__(2, 1)
        self.teacher = nn.Parameter(torch.rand(2), requires_grad=False)
        self.register_buffer("codes", torch.rand(2))
        self.table = None
        self.calls = 0

    def forward(self, x):
        if self.table is None:
            self.table = torch.ones(2)
        if self.training:
            self.calls += 1
            self.codes += 0.1 * (x.detach().mean(0) - self.codes)
            self.teacher.data.lerp_(self.weight.detach()[0], 0.1)
        return super().forward(x) + self.codes.sum() + self.teacher.sum()


def test_what_training_changes_is_not_held_against_a_model_that_begins(tmp_path):
    def stop(model, x):
        calls.append(1)
        if len(calls) == 6:
            raise InterruptedError
        return model(x).square().mean()

    models = [Learning() for _ in range(3)]  # of random numbers, none as the other
    models[1].load_state_dict(models[0].state_dict())
    expected = train(tmp_path / "one", models[0])
    calls = []
    with pytest.raises(InterruptedError):
        train(tmp_path / "two", models[1], stop)
    for model in (models[1], models[2]):  # the one that began, and one as after a restart
        content = (tmp_path / "two").read_bytes()
        assert train(tmp_path / "two", model).records == expected.records
        for name, tensor in models[0].state_dict().items():
            assert model.state_dict()[name].equal(tensor), name
        train(tmp_path / "two", Learning())
        (tmp_path / "two").write_bytes(content)


def test_a_model_in_16_bits_goes_on_exactly_with_its_wide_average_and_its_mask(tmp_path):
    def make():
        model = holds([0.0, -math.inf], True).to(torch.bfloat16)
        with torch.no_grad():
            model.weight.fill_(1)
        return model

    def stop(model, x):
        calls.append(1)
        if len(calls) == 6:
            raise InterruptedError
        return model(x).square().mean()

    straight, resumed, calls = make(), make(), []
    resumed.load_state_dict(straight.state_dict())
    expected = train(tmp_path / "one", straight)
    with pytest.raises(InterruptedError):
        train(tmp_path / "two", copy.deepcopy(resumed), stop)
    assert train(tmp_path / "two", resumed).records == expected.records
    assert resumed.weight.dtype == torch.bfloat16 and resumed.weight.equal(straight.weight)
    assert resumed.table.equal(torch.tensor([0.0, -math.inf], dtype=torch.bfloat16))
    one, two = (read(tmp_path / name)[0] for name in ("one", "two"))
    assert one["ema.weight"].dtype == torch.float32 and all(one[name].equal(two[name]) for name in one)
