"""What the stop button leaves, and what a loss is told of the way so far."""

import functools
import importlib
import os
import random
import signal
import threading

import numpy as np
import pytest
import torch
from torch import nn

from lib.training import EMA, digit_classifier, fit
from lib.training.classifier import train

SETTINGS = {"images": 320, "batch_size": 16, "every": 80, "precision": "no", "show": False}


def squares(model, x):
    return (model(x) - x).square().mean()


def stop_at(step, error=KeyboardInterrupt):
    calls = []

    def loss(model, x):
        calls.append(1)
        if len(calls) == step:
            raise error
        return squares(model, x)

    return loss


def linear():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.1))


X = torch.rand(64, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("done", [0, 3, 5, 12])
def test_an_interruption_keeps_what_was_learned(done, capsys):
    """The weights, averaged, and the history are those of a training with a constant rate that ends there."""
    settings = {**SETTINGS, "schedule": "constant", "warmup": 0, "ema": 0.9}
    stopped, ended = linear(), linear()
    history = fit(stopped, stop_at(done + 1), X, **settings)
    assert history.stopped and not stopped.training and all(p.grad is None for p in stopped.parameters())
    assert capsys.readouterr().out == f"stopped after {16 * done} of 320 images\n"
    if done:
        expected = fit(ended, squares, X, **{**settings, "images": 16 * done})
        assert history.records == expected.records and not expected.stopped
    for name, tensor in ended.state_dict().items():
        assert stopped.state_dict()[name].equal(tensor), name


def test_steps_since_the_last_record_are_recorded_too():
    history = fit(linear(), stop_at(1024), X, **{**SETTINGS, "images": 16_000 * 2, "every": 16_000 * 2})
    assert [record["step"] for record in history.records][-2:] == [1020, 1023]


def test_an_interrupted_evaluation_gives_the_average_not_the_last_step():
    def evaluate(model):
        raise KeyboardInterrupt

    model, ended = linear(), linear()
    history = fit(model, squares, X, ema=0.9, evaluate=evaluate, **{**SETTINGS, "schedule": "constant", "warmup": 0})
    fit(ended, squares, X, ema=0.9, **{**SETTINGS, "schedule": "constant", "warmup": 0, "images": 80})
    assert history.stopped and len(history.records) == 5 and model[0].weight.equal(ended[0].weight)


def test_the_checkpoint_goes_on_as_if_nothing_had_happened(tmp_path):
    straight, resumed = linear(), linear()
    expected = fit(straight, squares, X, **SETTINGS)
    fit(linear(), stop_at(14), X, checkpoint=tmp_path / "run.safetensors", **SETTINGS)
    history = fit(resumed, squares, X, checkpoint=tmp_path / "run.safetensors", **SETTINGS)
    assert history.records == expected.records and not history.stopped
    assert resumed[0].weight.equal(straight[0].weight)


def test_other_errors_stay_errors():
    with pytest.raises(ZeroDivisionError):
        fit(linear(), stop_at(3, ZeroDivisionError), X, **SETTINGS)


def test_half_a_classifier_is_none(monkeypatch):
    monkeypatch.setattr("lib.training.classifier.loss", lambda model, images, labels: stop_at(1)(model, images))
    with pytest.raises(KeyboardInterrupt):
        train(320, 0)
    assert digit_classifier()  # the stored one is not touched


def test_a_loss_that_asks_is_told_how_far_training_has_come(tmp_path):
    def told(model, x, progress):
        seen.append(progress)
        if len(seen) == stop:
            raise InterruptedError
        return squares(model, x)

    def keyword(model, x, *, progress=2.0):
        return told(model, x, progress)

    everything = [step / 19 for step in range(20)]
    for loss in (told, keyword, functools.partial(told)):
        seen, stop = [], None
        fit(linear(), loss, X, **SETTINGS)
        assert seen == everything
    seen, stop = [], 14
    with pytest.raises(InterruptedError):
        fit(linear(), told, X, checkpoint=tmp_path / "run.safetensors", **SETTINGS)
    seen, stop = [], None
    fit(linear(), told, X, checkpoint=tmp_path / "run.safetensors", **SETTINGS)
    assert seen == everything[10:]
    seen = []
    fit(linear(), told, X, **{**SETTINGS, "images": 16})
    assert seen == [0]


def test_a_part_of_the_batch_may_be_called_progress():
    def loss(model, x, progress):
        assert progress.shape == (16, 5)
        return squares(model, progress)

    fit(linear(), loss, (X, X), **SETTINGS)
    fit(linear(), lambda model, *batch, **more: squares(model, *batch) + len(more), X, **SETTINGS)


def draws():
    return torch.rand(1).item(), np.random.rand(), np.random.randn(), random.random(), random.gauss(0, 1)


def test_all_random_numbers_depend_on_the_seed_and_go_on_after_a_checkpoint(tmp_path):
    def loss(model, x):
        seen.append(draws())
        if len(seen) == stop:
            raise InterruptedError
        return squares(model, x)

    courses = []
    for seed in (0, 0, 1):
        seen, stop = [], None
        fit(linear(), loss, X, seed=seed, **SETTINGS)
        courses.append(seen)
        draws()
    assert courses[0] == courses[1] and not set(courses[0]) & set(courses[2])
    seen, stop = [], 14  # after an odd number of pairs of normal numbers
    with pytest.raises(InterruptedError):
        fit(linear(), loss, X, checkpoint=tmp_path / "run.safetensors", **SETTINGS)
    seen, stop = [], None
    draws()
    fit(linear(), loss, X, checkpoint=tmp_path / "run.safetensors", **SETTINGS)
    assert seen == courses[0][10:]


def test_the_callers_random_numbers_of_numpy_and_python_go_on_untouched():
    def start():
        random.seed(3)
        np.random.seed(3)
        random.gauss(0, 1), np.random.randn()  # the second of each pair is left over

    start()
    expected = draws()[1:]
    start()
    fit(linear(), squares, X, evaluate=lambda model: draws() and None, **SETTINGS)
    assert draws()[1:] == expected


def interrupt(*arguments, **options):
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("place, stopped", [
    ("EMA.copy_to_model", True), ("check_weights", True), ("_record", True), ("Progress.__exit__", True),
    ("EMA.copy_to_model", False), ("Progress.__exit__", False),
])  # fmt: skip
def test_a_second_interruption_is_not_heard_while_the_first_is_dealt_with(place, stopped, monkeypatch):
    """Nor one that comes when training is done: the average is whole in the model, and the history is returned."""
    ended = linear()
    images = 80 if stopped else 320
    settings = {**SETTINGS, "schedule": "constant", "warmup": 0, "ema": 0.9}
    expected = fit(ended, squares, X, **{**settings, "images": images})
    module = importlib.import_module("lib.training.fit")
    *owner, name = place.split(".")
    owner = getattr(module, *owner) if owner else module
    real, finishing = getattr(owner, name), []

    def disturbed(*arguments, **options):
        if finishing:
            interrupt()
        result = real(*arguments, **options)
        if finishing:
            interrupt()
        return result

    def loss(model, x):
        if stopped and len(seen) == 5:
            finishing.append(1)
            raise KeyboardInterrupt
        seen.append(1)
        if len(seen) == 20:
            finishing.append(1)
        return squares(model, x)

    seen, model = [], linear()
    monkeypatch.setattr(owner, name, disturbed)
    history = fit(model, loss, X, **settings)
    assert history.records == expected.records and history.stopped is stopped and not model.training
    assert model[0].weight.equal(ended[0].weight) and model[0].bias.equal(ended[0].bias)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interruption_while_a_checkpoint_is_written_leaves_the_last_one_whole(monkeypatch, tmp_path):
    def fsync(file):
        calls.append(1)
        if len(calls) == 2:
            interrupt()

    path, calls, model, ended = tmp_path / "c", [], linear(), linear()
    monkeypatch.setattr(os, "fsync", fsync)
    settings = {**SETTINGS, "schedule": "constant", "warmup": 0, "ema": 0.9}
    history = fit(model, squares, X, checkpoint=path, **settings)
    expected = fit(ended, squares, X, **{**settings, "images": 160})
    assert history.stopped and history.records == expected.records and model[0].weight.equal(ended[0].weight)
    straight, resumed = linear(), linear()
    expected = fit(straight, squares, X, **settings)
    assert fit(resumed, squares, X, checkpoint=path, **settings).records == expected.records
    assert resumed[0].weight.equal(straight[0].weight)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_average_that_is_applied_is_taken_out_again_whenever_the_interruption_comes(moment, monkeypatch):
    model = linear()
    average = EMA(model, 0.9)
    with torch.no_grad():
        model[0].weight += 1
    own, real = model[0].weight.detach().clone(), EMA.copy_to_model

    def copy(self):
        if moment == "after":
            real(self)
        interrupt()

    monkeypatch.setattr(EMA, "copy_to_model", copy)
    with pytest.raises(KeyboardInterrupt), average.applied():
        pass
    assert model[0].weight.equal(own)


def test_outside_the_main_thread_nothing_is_changed():
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(linear(), squares, X, ema=0.9, **SETTINGS)))
    thread.start()
    thread.join()
    assert len(found[0].records) == 20
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
