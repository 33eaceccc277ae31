import os
import signal
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from lib.training import CheckpointError, fit
from lib.training.checkpoint import read, write

SETTINGS = {"images": 6000, "every": 2000, "ema": 0.95, "clip": 1.0, "weight_decay": 0.01, "seed": 4, "show": False}


def cross_entropy(model, images, labels):
    return F.cross_entropy(model(images), labels)


def evaluate(model):
    return {"norm": model[1].weight.norm(), "noise": torch.rand(1)}


def stop_after(calls):
    """A loss that is interrupted in the middle, as by the reader, a crash or a power cut."""
    left = [calls]

    def loss(model, images, labels):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return cross_entropy(model, images, labels)

    return loss


@pytest.mark.parametrize("calls", [16, 25, 44])
def test_resuming_is_bit_for_bit_the_same_training(classifier, digits, tmp_path, calls):
    """2,000 images an epoch, dropout, batch statistics, three epochs: weights, history, optimiser and average agree."""
    straight, resumed = classifier(), classifier()
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    expected = fit(straight, cross_entropy, digits, checkpoint=one, evaluate=evaluate, **SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        fit(resumed, stop_after(calls), digits, checkpoint=two, evaluate=evaluate, **SETTINGS)
    fresh = classifier()  # as after a restart: nothing is left but the file
    torch.rand(calls)
    history = fit(fresh, cross_entropy, digits, checkpoint=two, evaluate=evaluate, **SETTINGS)
    assert history.records == expected.records and len(history.records) > 40
    for name, tensor in straight.state_dict().items():
        assert fresh.state_dict()[name].equal(tensor), name
    before, after = load_file(one), load_file(two)
    assert before.keys() == after.keys()
    assert {"optimizer.0.exp_avg_sq", "ema.1.weight", "model.2.running_mean", "random.cpu"} <= before.keys()
    for name in before:
        assert before[name].equal(after[name]), name


def test_resuming_keeps_to_the_memory_layout(digits, tmp_path):
    """A model in channels_last has its optimiser's state in channels_last, and the fused step relies on it."""

    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(nn.Conv2d(1, 4, 5, 4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(128, 10))
            return net.to(memory_format=torch.channels_last)

    straight, resumed = make(), make()
    path = tmp_path / "run.safetensors"
    expected = fit(straight, cross_entropy, digits, **SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        fit(make(), stop_after(20), digits, checkpoint=path, **SETTINGS)
    assert fit(resumed, cross_entropy, digits, checkpoint=path, **SETTINGS).records == expected.records
    for name, tensor in straight.state_dict().items():
        assert resumed.state_dict()[name].equal(tensor), name


def test_interruption_before_the_first_checkpoint_starts_anew(classifier, digits, tmp_path):
    path = tmp_path / "new" / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(classifier(), stop_after(5), digits, checkpoint=path, **SETTINGS)
    assert not path.exists()
    assert fit(classifier(), cross_entropy, digits, checkpoint=path, **SETTINGS)["loss"][-1] < 2


def test_a_finished_training_is_not_run_again(classifier, digits, tmp_path):
    path = tmp_path / "run.safetensors"
    trained, loaded = classifier(), classifier()
    expected = fit(trained, cross_entropy, digits, checkpoint=path, **SETTINGS)
    assert fit(loaded, stop_after(0), digits, checkpoint=path, **SETTINGS).records == expected.records
    assert not loaded.training
    for name, tensor in trained.state_dict().items():
        assert loaded.state_dict()[name].equal(tensor), name


@pytest.fixture
def finished(tmp_path):
    """A small finished training: its file and how to call it again."""
    path = tmp_path / "small.safetensors"

    def again(model=None, data=None, **changes):
        settings = {"images": 64, "batch_size": 8, "show": False, "checkpoint": path, **changes}
        data = torch.linspace(0, 1, 64).view(32, 2) if data is None else data
        return fit(model or nn.Linear(2, 1), lambda model, x: model(x).square().mean(), data, **settings)

    again()
    return path, again


def test_another_training_is_refused_and_nothing_is_changed(finished):
    path, again = finished
    content = path.read_bytes()
    cases = [
        ({"lr": 0.1}, r"lr was 0\.002, now 0\.1"),
        ({"images": 128, "seed": 1}, r"every was 6, now 12; images was 64, now 128; seed was 0, now 1"),
        ({"ema": 0.9}, r"ema was None, now 0\.9"),
        ({"model": nn.Linear(2, 2)}, "model is not the same|model was"),
        ({"model": nn.Sequential(nn.Linear(2, 1))}, "model is not the same|model was"),
        ({"data": torch.linspace(0, 2, 64).view(32, 2)}, "data is not the same|data was"),
        ({"data": torch.zeros(16, 2)}, "data is not the same|data was"),
    ]
    for changes, message in cases:
        model = changes.setdefault("model", nn.Linear(2, 1))
        before = model.state_dict()[next(iter(model.state_dict()))].clone()
        with pytest.raises(CheckpointError, match=rf"^{path} belongs to another training: .*({message})"):
            again(**changes)
        assert model.state_dict()[next(iter(model.state_dict()))].equal(before)
    assert path.read_bytes() == content


@given(share=st.floats(0, 0.999))
def test_a_truncated_checkpoint_is_refused_wherever_it_ends(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "cut.safetensors"
    write(path, {"a": torch.arange(100.0), "b": torch.ones(3)}, {"x": "y"})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=f"^{path} is not a whole safetensors file"):
        read(path)


def test_fit_refuses_a_truncated_checkpoint_and_other_files(finished):
    path, again = finished
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=f"^{path} is not a whole safetensors file"):
        again()
    path.write_bytes(b"PK\x03\x04 not ours at all")
    with pytest.raises(CheckpointError, match=f"^{path} is not a whole safetensors file"):
        again()
    save_file({"weight": torch.zeros(1, 2)}, path)
    with pytest.raises(CheckpointError, match=f"^{path} is a safetensors file but no checkpoint of a training"):
        again()
    path.write_bytes(content)
    assert len(again().records) == 8


def test_read_gives_back_what_write_took(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b": torch.tensor(7), "tied": torch.zeros(2, 2).T}
    tensors["tied too"] = tensors["tied"]
    write(tmp_path / "deep" / "file.safetensors", tensors, {"key": "value"})
    found, metadata = read(tmp_path / "deep" / "file.safetensors")
    assert metadata == {"key": "value"} and found.keys() == tensors.keys()
    assert all(found[name].equal(tensors[name]) for name in tensors)
    assert os.listdir(tmp_path / "deep") == ["file.safetensors"]


def test_a_process_killed_before_the_last_step_of_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.safetensors"
    write(path, {"a": torch.zeros(3)}, {})
    program = (
        "import os, signal, torch\n"
        "from lib.training.checkpoint import write\n"
        "os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write({str(path)!r}, {{'a': torch.ones(3)}}, {{}})\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=os.getcwd(), capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "file.safetensors.tmp").exists()  # it had come that far
    assert read(path)[0]["a"].equal(torch.zeros(3))
    write(path, {"a": torch.ones(3)}, {})  # the next attempt is not disturbed
    assert read(path)[0]["a"].equal(torch.ones(3)) and os.listdir(tmp_path) == ["file.safetensors"]
