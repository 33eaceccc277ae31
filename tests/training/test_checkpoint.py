import json
import os
import re
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
    """A loss that fails in the middle, as by a crash or a power cut."""
    left = [calls]

    def loss(model, images, labels):
        left[0] -= 1
        if left[0] < 0:
            raise InterruptedError
        return cross_entropy(model, images, labels)

    return loss


@pytest.mark.parametrize("calls", [16, 25, 44])
def test_resuming_is_bit_for_bit_the_same_training(classifier, digits, tmp_path, calls):
    """2,000 images an epoch, dropout, batch statistics, three epochs: weights, history, optimiser and average agree."""
    straight, resumed = classifier(), classifier()
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    expected = fit(straight, cross_entropy, digits, checkpoint=one, evaluate=evaluate, **SETTINGS)
    with pytest.raises(InterruptedError):
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
    with pytest.raises(InterruptedError):
        fit(make(), stop_after(20), digits, checkpoint=path, **SETTINGS)
    assert fit(resumed, cross_entropy, digits, checkpoint=path, **SETTINGS).records == expected.records
    for name, tensor in straight.state_dict().items():
        assert resumed.state_dict()[name].equal(tensor), name


def test_interruption_before_the_first_checkpoint_starts_anew(classifier, digits, tmp_path):
    path = tmp_path / "new" / "run.safetensors"
    with pytest.raises(InterruptedError):
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


def test_settings_are_part_of_the_identity(finished):
    """Those that the model keeps, those that the loss hides, and which parameters learn."""
    path, again = finished

    def fresh(**changes):
        path.unlink()
        again(**changes)

    fresh(settings={"beta": 1.0, "levels": (1, 2)})
    again(settings={"levels": [1, 2], "beta": 1.0})
    for settings, message in (
        ({"beta": 4.0, "levels": (1, 2)}, r"settings\.beta was 1\.0, now 4\.0"),
        ({"beta": 1.0}, r"settings\.levels was \[1, 2\], now not set"),
        (None, r"settings\.beta was 1\.0, now not set; settings\.levels was"),
    ):
        with pytest.raises(CheckpointError, match=f"belongs to another training: {message}"):
            again(settings=settings)
    for one, other, message in (
        (nn.Dropout(0.1), nn.Dropout(0.2), r"model\.1\.p was 0\.1, now 0\.2"),
        (nn.ReLU(), nn.GELU(), r"model\.1\.class was 'ReLU', now 'GELU'"),
    ):
        fresh(model=nn.Sequential(nn.Linear(2, 1), one))
        with pytest.raises(CheckpointError, match=message):
            again(model=nn.Sequential(nn.Linear(2, 1), other))
    fresh()
    frozen = nn.Linear(2, 1)
    frozen.bias.requires_grad_(False)
    for model in (frozen, nn.Linear(2, 1).double()):
        with pytest.raises(CheckpointError, match=r"model is not the same|model was"):
            again(model=model, data=torch.linspace(0, 1, 64, dtype=model.weight.dtype).view(32, 2))


def test_settings_that_json_cannot_hold_and_unknown_permissions_are_refused(finished):
    _, again = finished
    for settings in ({"x": object()}, {1: 2}, [1], "beta"):
        with pytest.raises(ValueError, match=r"^settings must be a dict of what JSON can hold, got"):
            again(settings=settings)
    for may_differ in ("device", ("lr",), (["device"],), None):
        with pytest.raises(ValueError, match=r"^may_differ must be"):
            again(may_differ=may_differ)


def test_another_device_and_precision_are_allowed_by_name(finished):
    """The file as another device would have left it."""
    path, again = finished
    tensors, metadata = read(path)
    content = json.loads(metadata["training"])
    content["settings"] |= {"device": "cuda", "precision": "bf16"}
    content["tensors"] += 1
    states = {"random.cuda": torch.zeros(1, 16, dtype=torch.uint8)}
    write(path, tensors | states, metadata | {"training": json.dumps(content)})
    for allowed, message in (
        ((), "device was 'cuda', now 'cpu'; precision was"),
        (("device",), "training: precision was"),
    ):
        with pytest.raises(CheckpointError, match=message):
            again(may_differ=allowed)
    assert len(again(may_differ=("device", "precision")).records) == 8


@pytest.mark.parametrize("place", [
    "/proc/nowhere/c.safetensors", "file/c.safetensors", "folder", "x" * 252, "x" * 300, "x\0", "taken",
])  # fmt: skip
def test_a_place_that_cannot_be_written_is_found_before_the_first_step(place, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken.tmp").mkdir()
    path = tmp_path / place
    with pytest.raises(CheckpointError, match=f"^checkpoint {re.escape(str(path))} cannot be written"):
        fit(nn.Linear(2, 1), stop_after(0), torch.rand(8, 2), images=8, batch_size=8, checkpoint=path, show=False)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))} cannot be written"):
        write(path, {}, {})
    for wrong in (3, "", object()):
        with pytest.raises(ValueError, match=r"^checkpoint must be the path of a file or None"):
            fit(nn.Linear(2, 1), stop_after(0), torch.rand(8, 2), images=8, batch_size=8, checkpoint=wrong, show=False)


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_rights_that_the_user_gives_new_files(mask, mode, tmp_path):
    before = os.umask(mask)
    try:
        write(tmp_path / "file.safetensors", {"a": torch.zeros(1)}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "file.safetensors").stat().st_mode & 0o777 == mode


def without(tensors, name):
    return {key: tensor for key, tensor in tensors.items() if key != name}


CHANGES = (
    {"step": "8"}, {"step": 10**13}, {"step": 9}, {"step": 7}, {"step": -1}, {"step": 0}, {"step": True}, {"step": 8.0},
    {"step": None}, {"records": [1]}, {"records": []}, {"records": {}}, {"records": None}, {"records": [{}]},
    {"settings": []}, {"settings": {}}, {"settings": {"device": []}}, {"tensors": None},
)  # fmt: skip


def test_a_step_beyond_the_last_is_refused_at_once(finished):
    path, again = finished
    tensors, metadata = read(path)
    content = json.loads(metadata["training"])
    content["records"][-1]["step"] = content["step"] = 10**13
    write(path, tensors, metadata | {"training": json.dumps(content)})
    with pytest.raises(CheckpointError, match=f"^{path} is damaged: it stands at step 10000000000000 of 8"):
        again()


def test_a_record_that_is_damaged_is_refused(finished):
    path, again = finished
    tensors, metadata = read(path)
    content = json.loads(metadata["training"])
    broken = [None, "{", "[]", "3", json.dumps(content)[:-9]]
    broken += [json.dumps(content | change) for change in CHANGES]
    broken += [json.dumps({key: content[key] for key in content if key != name}) for name in content]
    *first, last = content["records"]
    broken += [json.dumps(content | {"records": [*first, {k: v for k, v in last.items() if k != n}]}) for n in last]
    broken += [json.dumps(content | {"records": [*first, last | {name: "1"}]}) for name in last]
    broken += ["[" * 100_000, json.dumps(content | {"step": 8, "records": [last, *first]})]
    for record in broken:
        write(path, tensors, {"format": metadata["format"], **({} if record is None else {"training": record})})
        with pytest.raises(CheckpointError, match=f"^{path} is damaged: "):
            again()


def test_tensors_that_are_missing_misshapen_or_too_many_are_refused_and_nothing_is_changed(finished):
    path, again = finished
    path.unlink()
    again(ema=0.9)
    tensors, metadata = read(path)
    assert {"model.weight", "ema.bias", "optimizer.1.step", "random.numpy", "random.python"} <= tensors.keys()
    cases = [without(tensors, name) for name in tensors]
    cases += [without(tensors, name) | {f"{name}x": tensor} for name, tensor in tensors.items()]
    cases += [tensors | {name: torch.cat([tensor.reshape(-1)] * 2)} for name, tensor in tensors.items()]
    cases += [tensors | {name: tensor.half()} for name, tensor in tensors.items() if name[0] in "em"]
    cases += [
        tensors | {"else.x": torch.zeros(1)},
        without(tensors, "model.bias") | {"optimizer.-1.step": torch.zeros(())},
    ]
    for case in cases:
        model = nn.Linear(2, 1)
        before = model.weight.detach().clone()
        write(path, case, metadata)
        with pytest.raises(CheckpointError, match=f"^{path} is damaged: "):
            again(ema=0.9, model=model)
        assert model.weight.equal(before)
    for name in ("random.cpu", "random.numpy", "random.python"):
        write(path, tensors | {name: torch.full_like(tensors[name], 255)}, metadata)
        with pytest.raises(CheckpointError, match=f"^{path} is damaged: no random state"):
            again(ema=0.9)


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
