import argparse

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lib.training import CheckpointError, checkpoint, fit, load_weights, pretrained


def made(outputs=2):
    return nn.Sequential(nn.Linear(3, outputs), nn.BatchNorm1d(outputs))


def loss(model, x):
    return model(x).square().mean()


def same(one, other):
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_training_is_loaded_as_fit_left_it(tmp_path, ema):
    model, other, path = made(), made(), tmp_path / "c.safetensors"
    options = {"images": 40, "batch_size": 8, "ema": ema, "settings": {"size": 2}, "show": False}
    history = fit(model, loss, torch.randn(64, 3), checkpoint=path, **options)
    told = load_weights(path, other.train())
    assert same(model, other) and not other.training
    assert told["size"] == "2" and told["images"] == "40" and told["loss"] == str(history["loss"][-1])


def test_each_tensor_is_read_once_and_none_to_say_how_far_a_training_is(tmp_path, monkeypatch):
    path, model = tmp_path / "c.safetensors", made()
    fit(model, loss, torch.randn(64, 3), images=40, batch_size=8, ema=0.9, checkpoint=path, show=False)
    asked, real = [], checkpoint.safe_open

    class Counting:
        """An opened file that notes which tensors it is asked for."""

        def __init__(self, *arguments):
            self.opened = real(*arguments)

        def __enter__(self):
            self.file = self.opened.__enter__()
            return self

        def __exit__(self, *error):
            return self.opened.__exit__(*error)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def get_tensor(self, name):
            asked.append(name)
            return self.file.get_tensor(name)

    monkeypatch.setattr(checkpoint, "safe_open", Counting)
    metadata, count = checkpoint.read_metadata(path)
    assert checkpoint.course(path, metadata, count).progress == "40 of 40 images" and not asked
    load_weights(tmp_path / "c.safetensors", model)
    assert len(asked) == len(set(asked)) == count


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_others_publish_is_loaded(tmp_path, wrapped):
    model, other = made(), made().train()
    nn.init.normal_(model[1].running_mean)
    weights = model.state_dict()
    content = {"model": weights, "args": argparse.Namespace(lr=1)} if wrapped else weights
    torch.save(content, tmp_path / "release.pth")
    assert load_weights(tmp_path / "release.pth", other) == {}
    assert same(model, other) and not other.training


def test_weights_that_ship_are_loaded_from_their_file(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    model, other = made(), made()
    assert load_weights(pretrained.publish("linear", model, {"made by": "a test"}), other) == {"made by": "a test"}
    assert same(model, other)


def test_what_does_not_fit_is_named_and_changes_nothing(tmp_path):
    path = tmp_path / "w.safetensors"
    weights = made().state_dict()
    del weights["1.bias"]
    save_file({**weights, "head.weight": torch.zeros(1)}, path)
    model = made(4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=r"w\.safetensors: 7 names differ: 0\.bias is \(2,\) in the file, \(4,\) in the model; 0\.weight is "
        r"\(2, 3\) in the file, \(4, 3\) in the model; the file has no 1\.bias; \.\.\.$",
    ):
        load_weights(path, model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match=r"2 names differ: the file has no 1\.bias; the model has no head\.weight$"):
        load_weights(path, made())
    with pytest.raises(ValueError, match=r"^model must be an nn\.Module, got 'vae'$"):
        load_weights(path, "vae")


class Harmful:
    def __reduce__(self):
        return print, ("code of a file runs",)


def test_what_is_no_file_of_weights_is_refused(tmp_path, capsys):
    model = made()
    with pytest.raises(CheckpointError, match=r"^there is no file .*gone\.pth, seen from /"):
        load_weights(tmp_path / "gone.pth", model)
    for name in ("torn.pth", "torn.safetensors"):
        (tmp_path / name).write_bytes(b"torn")
        with pytest.raises(CheckpointError, match=r"torn.* whole"):
            load_weights(tmp_path / name, model)
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="must hold tensors by name, also under model or state_dict"):
        load_weights(tmp_path / "list.pt", model)
    torch.save({"model": Harmful()}, tmp_path / "harmful.pt")
    with pytest.raises(CheckpointError, match="is no file of weights"):
        load_weights(tmp_path / "harmful.pt", model)
    assert "runs" not in capsys.readouterr().out
