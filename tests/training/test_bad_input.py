"""Every public function of the folder, each argument spoiled in turn: a clear error names it."""

import functools

import pytest
import torch
from torch import nn

from lib import training
from lib.training import classifier, data, metrics, pretrained, scenes
from lib.training.average_precision import average_precision
from lib.training.checkpoint import read, write
from lib.training.fit import batches
from tests.bad_input import unclear

IMAGES, LABELS = torch.rand(66, 1, 28, 28), torch.arange(66) % 10
DEVICE = {"device": "cpu"}
PICTURES = {"samples": IMAGES, **DEVICE}
MODEL = classifier.DigitClassifier()
TARGETS = [{"labels": torch.tensor([3]), "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]])}]
FOUND = [{"labels": torch.tensor([3]), "boxes": torch.tensor([[16.0, 16, 48, 48]]), "scores": torch.tensor([0.9])}]
HISTORY = training.History([{"step": n, "images": n, "lr": 0.1, "loss": 1.0} for n in range(1, 9)])
FIT = {
    "model": nn.Linear(2, 1), "loss": lambda model, x: model(x).square().mean(), "data": torch.rand(8, 2),
    "images": 16, "batch_size": 8, "lr": 1e-3, "weight_decay": 0.1, "schedule": "cosine", "warmup": 0.1, "ema": 0.9,
    "clip": 1.0, "precision": "no", "seed": 1, "evaluate": lambda model: {}, "every": 8, "checkpoint": None,
    "settings": {}, "may_differ": ("device",), "show": False,
}  # fmt: skip
SPLIT = {"split": "test"}

CALLS = {
    "fit": (training.fit, FIT, "warmup ema clip evaluate every checkpoint settings"),
    "budget": (training.budget, {"cpu": 1, "gpu": 2}, ""),
    "EMA": (training.EMA, {"model": nn.Linear(2, 1), "decay": 0.9}, ""),
    "EMA.load_state_dict": (
        training.EMA(nn.Linear(2, 1)).load_state_dict,
        {"state": dict(nn.Linear(2, 1).state_dict()), "step": 3},
        "",
    ),
    "learning_rate": (
        training.learning_rate,
        {"step": 1, "steps": 2, "peak": 0.1, "schedule": "cosine", "warmup": 0.1},
        "",
    ),
    "batches": (lambda **k: next(batches(**k)), {"count": 8, "batch_size": 2, "seed": 0, **DEVICE}, ""),
    "load_mnist": (training.load_mnist, SPLIT | DEVICE, ""),
    "load": (training.load, {"name": "mnist", **SPLIT, **DEVICE, "folder": None}, "folder"),
    "load_photograph": (training.load_photograph, {"name": "coffee", "size": 8, **DEVICE}, "size"),
    "parse_idx": (data.parse_idx, {"content": b"\0\0\x08\1\0\0\0\2ab"}, ""),
    "digit_scenes": (
        scenes.digit_scenes,
        {"n": 1, "seed": 0, "split": "test", "size": 64, "digits": (1, 2), "sides": (16.0, 32.0), "overlap": 0.1,
         "clutter": 1, **DEVICE},
        "",
    ),
    "digit_classifier": (training.digit_classifier, DEVICE, ""),
    "classifier.loss": (functools.partial(classifier.loss, MODEL), {"images": IMAGES, "labels": LABELS}, ""),
    "classifier.accuracy": (classifier.accuracy, {"model": MODEL, "images": IMAGES, "labels": LABELS}, ""),
    "digit_statistics": (training.digit_statistics, PICTURES | {"labels": LABELS}, "labels device"),
    "frechet_distance": (training.frechet_distance, PICTURES | {"reference": IMAGES}, "reference device"),
    "average_precision": (
        average_precision,
        {"found": FOUND, "targets": TARGETS, "size": 64, "areas": (400.0, 784.0)},
        "",
    ),
    "History.series": (HISTORY.series, {"name": "loss"}, ""),
    "History.plot": (functools.partial(HISTORY.plot, "loss"), {"title": "A title"}, "title"),
}  # fmt: skip
FINE = {
    "load": ("folder: a word",),
    "History.series": ("name: another word",),  # whose error lists the names there are
    "fit": ("data: integers", "data: complex", "checkpoint: a word"),  # the loss may want such data
    "load_photograph": ("name: another word",),
    "History.plot": ("title: another word",),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_bad_argument_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a word names a file
    call, good, optional = CALLS[name]
    fine = tuple(f"{argument}: None" for argument in optional.split()) + FINE.get(name, ())
    assert unclear(call, good, fine) == []


def test_files_and_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    model, path = nn.Linear(2, 1), str(tmp_path / "x.safetensors")
    wrong = {"tensors": {"a": torch.zeros(1)}, "metadata": {"a": "b"}}
    assert unclear(write, {"path": path, **wrong}, ("path: another word",)) == []
    assert unclear(read, {"path": path}, ("path: another word",)) == []
    publish = {"name": "linear", "model": model, "metadata": {"a": "b"}}
    assert unclear(pretrained.publish, publish, ("name: another word",)) == []
    assert unclear(pretrained.load, {"name": "linear", "model": model}) == []
    assert unclear(pretrained.path, {"name": "linear"}) == []
    with pytest.raises(ValueError, match=r"^source must be the path"):
        data.build(None, tmp_path)
    with pytest.raises(ValueError, match=r"^folder must be the path"):
        data.build(tmp_path, None)


def test_what_only_looks_right_is_refused():
    for content in (
        b"",
        b"\0\0\x08\1",
        b"\0\0\x08\1\0\0\0\3ab",
        b"\0\0\x08\1\xff\xff\xff\xffab",
        b"\0\0\x09\1\0\0\0\2ab",
    ):
        with pytest.raises(ValueError, match=r"^content must"):
            data.parse_idx(content)
    state = training.EMA(nn.Linear(2, 2)).state_dict()
    average = training.EMA(nn.Linear(2, 2))
    for other in ({**state, "bias": torch.zeros(1)}, {"bias": state["bias"]}):  # the first would be spread over both
        with pytest.raises(ValueError, match=r"^state must hold the tensors of this average"):
            average.load_state_dict(other, 1)
    with pytest.raises(ValueError, match=r"^batch_size must be an integer from 1 to 3"):
        next(batches(3, 4, 0))
    with pytest.raises(ValueError, match=r"^step must be an integer from 1 to 5"):
        training.learning_rate(6, 5, 0.1, "cosine", 0.0)
    with pytest.raises(ValueError, match=r"^images must be one for each of labels"):
        classifier.accuracy(nn.Flatten(), IMAGES[:3], LABELS)


def test_an_unknown_keyword_stays_a_type_error():
    for call in (
        training.fit,
        training.frechet_distance,
        average_precision,
        training.learning_rate,
        metrics.digit_statistics,
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument 'word'"):
            call(word=1)
