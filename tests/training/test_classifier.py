import importlib
import shutil

import pytest
import torch
from torch import nn

from lib.training import DataError, Labelled, digit_classifier, load_mnist
from lib.training.__main__ import main, make_classifier
from lib.training.classifier import LEAST_ACCURACY, WEIGHTS, DigitClassifier, accuracy, shifted

module = importlib.import_module("lib.training.classifier")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the shipped file that a test may damage, and no memory of the one already read."""
    path = tmp_path / "classifier.safetensors"
    shutil.copy(WEIGHTS, path)
    monkeypatch.setattr(module, "WEIGHTS", path)
    for cache in (module.stored, module._loaded):
        cache.cache_clear()
    yield path
    for cache in (module.stored, module._loaded):
        cache.cache_clear()


def test_reads_the_ten_thousand_test_images_as_well_as_promised():
    assert accuracy(digit_classifier(), *load_mnist("test")) >= LEAST_ACCURACY


def test_is_small_and_cannot_be_trained_by_accident():
    assert WEIGHTS.stat().st_size < 300_000
    model = digit_classifier()
    assert sum(p.numel() for p in model.parameters()) < 65_000
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    assert digit_classifier("cpu") is model


def test_features_are_what_the_head_reads():
    model, (images, _) = digit_classifier(), load_mnist("test")
    features = model.features(images[:10])
    assert features.shape == (10, 64) and features.min() >= 0
    assert model(images[:10]).equal(model.head(features))
    single = torch.cat([model(image[None]) for image in images[:10]])
    assert model(images[:10]).allclose(single, atol=1e-4)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_damaged_weights_are_named(copy, damage):
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.unlink()
    if damage != "missing":
        copy.write_bytes(content if damage == "flipped" else content[:1000])
    reason = "missing" if damage == "missing" else "damaged: SHA-256"
    with pytest.raises(DataError, match=f"{copy} is {reason}.*python -m lib.training classifier"):
        digit_classifier()


def test_shifts_are_all_nine_and_nothing_wraps_around():
    image = torch.zeros(1, 1, 28, 28)
    image[..., 0, 5] = 1
    torch.manual_seed(0)
    moved = shifted(image.expand(400, 1, 28, 28))
    places = {tuple(place[1:]) for place in moved.squeeze(1).nonzero().tolist()}
    assert places == {(row, column) for row in (0, 1) for column in (4, 5, 6)}
    assert 200 < moved.sum() < 330  # a third of them moved up and out of the picture


def test_every_parameter_learns():
    model = DigitClassifier()
    images, labels = load_mnist("test")
    module.loss(model, images[:16], labels[:16]).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_training_command_stores_what_it_trained(tmp_path, monkeypatch, capsys):
    """With a stand-in for the minutes of training: the shipped weights themselves."""
    path = tmp_path / "made.safetensors"
    model, few = digit_classifier(), load_mnist("test").images[:100]
    monkeypatch.setattr("lib.training.metrics.load_mnist", lambda split: Labelled(few, None))
    monkeypatch.setattr(module, "train", lambda images, seed: (model, 0.95))
    with pytest.raises(SystemExit, match=r"accuracy 95.00% is below 99.30%; nothing written"):
        make_classifier(10, 0, path)
    assert not path.exists()
    monkeypatch.setattr(module, "train", lambda images, seed: (model, 0.996))
    make_classifier(10, 0, path)
    assert f'SHA256 = "{module.SHA256}"' not in capsys.readouterr().out  # the accuracy in the file differs
    assert {*module.stored()} == {*module.load_tensors(path.read_bytes())}


@pytest.mark.slow
def test_train_learns_digits(monkeypatch):
    train, test = load_mnist("train"), load_mnist("test")
    parts = {"train": (train.images[:5000], train.labels[:5000]), "test": (test.images[:500], test.labels[:500])}
    monkeypatch.setattr(module, "load_mnist", lambda split: type(test)(*parts[split]))
    model, share = module.train(5000, 0)
    assert isinstance(model, DigitClassifier) and share > 0.85
    assert isinstance(model.head, nn.Linear) and not model.training


def test_command_line(capsys, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("lib.training.__main__.make_classifier", lambda images, seed: calls.append((images, seed)))
    main(["classifier", "--images", "5", "--seed", "2"])
    assert calls == [(5, 2)]
    with pytest.raises(DataError, match="train-images-idx3-ubyte is missing"):
        main(["mnist", str(tmp_path)])
    with pytest.raises(SystemExit):
        main([])
    assert "usage: python -m lib.training" in capsys.readouterr().err
