import hashlib
import importlib
import lzma
import shutil
import sys
import time
import types

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.training import DataError, load, load_mnist, load_photograph

data = importlib.import_module("lib.training.data")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the shipped files that a test may damage, and no memory of those already read."""
    folder = shutil.copytree(data.FOLDER, tmp_path / "mnist")
    monkeypatch.setattr(data, "FOLDER", folder)
    data._published.cache_clear()
    yield folder
    data._published.cache_clear()


def test_mnist_holds_all_images_in_the_stated_range():
    for split, count in (("train", 60_000), ("test", 10_000)):
        images, labels = load_mnist(split)
        assert images.shape == (count, 1, 28, 28) and images.dtype == torch.float32
        assert labels.shape == (count,) and labels.dtype == torch.int64
        assert images.min() == 0 and images.max() == 1
        assert set(labels.tolist()) == set(range(10))


def test_mnist_is_the_published_data_bit_for_bit():
    """The pixels, written back into the published format, have the published checksum."""
    images, labels = load_mnist("test")
    pixels = (images * 255).round().to(torch.uint8).numpy().tobytes()
    header = np.array([0x803, 10_000, 28, 28], ">i4").tobytes()
    assert hashlib.md5(header + pixels).hexdigest() == data.MD5["t10k-images-idx3-ubyte"]
    header = np.array([0x801, 10_000], ">i4").tobytes()
    content = header + labels.to(torch.uint8).numpy().tobytes()
    assert hashlib.md5(content).hexdigest() == data.MD5["t10k-labels-idx1-ubyte"]
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_mnist_is_small_and_the_second_call_is_quick_and_separate():
    assert sum(file.stat().st_size for file in data.FOLDER.glob("*")) < 12e6
    first = load_mnist("test")
    started = time.process_time()
    second = load_mnist("test")
    assert time.process_time() - started < 0.5
    first.images.zero_()
    first.labels.zero_()
    assert second.images.sum() > 0 and second.labels.sum() > 0
    assert load_mnist("test").images.equal(second.images)


@given(st.one_of(st.text(), st.none(), st.integers(), st.lists(st.text())))
def test_mnist_refuses_another_split(split):
    if split not in ("train", "test"):
        with pytest.raises(ValueError, match=r"split must be one of 'train', 'test', got"):
            load_mnist(split)


def test_missing_file_is_named(copy):
    path = copy / "t10k-images-idx3-ubyte.xz"
    path.unlink()
    with pytest.raises(DataError, match=f"{path} is missing. .*python -m lib.training mnist"):
        load_mnist("test")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_damaged_file_is_named(copy, damage):
    path = copy / "t10k-images-idx3-ubyte.xz"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "empty":
        content = b""
    else:  # whole and well compressed, but not MNIST
        content = lzma.compress(b"\0\0\x08\x03" + bytes(7_840_012))
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path} is damaged.*python -m lib.training mnist"):
        load_mnist("test")


def test_build_refuses_what_was_not_published_and_writes_nothing(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is missing"):
        data.build(source, target)
    for name in data.MD5:
        (source / name).write_bytes(lzma.decompress((data.FOLDER / f"{name}.xz").read_bytes()))
    labels = bytearray((source / "t10k-labels-idx1-ubyte").read_bytes())
    labels[100] ^= 1
    (source / "t10k-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte has MD5 \w+, the published file has"):
        data.build(source, target)
    assert not target.exists()


def test_build_makes_files_that_load(tmp_path, monkeypatch):
    """With small stand-ins of known checksum: compressing the real ones takes half a minute."""
    monkeypatch.setattr(data, "MD5", {})
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for kind, header in (("images-idx3", [0x803, 2, 28, 28]), ("labels-idx1", [0x801, 2])):
        content = np.array(header, ">i4").tobytes() + bytes(range(2)) * (784 if kind == "images-idx3" else 1)
        (source / f"train-{kind}-ubyte").write_bytes(content)
        data.MD5[f"train-{kind}-ubyte"] = hashlib.md5(content).hexdigest()
    written = data.build(source, target)
    assert sorted(target.iterdir()) == sorted(written)  # and nothing unfinished
    monkeypatch.setattr(data, "FOLDER", target)
    data._published.cache_clear()
    images, labels = load_mnist("train")
    data._published.cache_clear()
    assert images.shape == (2, 1, 28, 28) and images.flatten()[:4].tolist() == pytest.approx([0, 1 / 255, 0, 1 / 255])
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize("name", data.PHOTOGRAPHS)
def test_photograph(name):
    whole = load_photograph(name)
    assert whole.dtype == torch.float32 and whole.shape[0] == 3
    assert whole.min() >= 0 and whole.max() <= 1 and whole.std() > 0.05
    cut = load_photograph(name, (32, 48))
    assert cut.shape == (3, 32, 48) and cut.min() >= 0 and cut.max() <= 1
    assert abs(load_photograph(name, 64).mean() - load_photograph(name, 32).mean()) < 0.01


def test_photograph_is_cut_from_the_middle():
    square = torch.zeros(1, 4, 8)
    square[:, :, 2:6] = 1
    assert data._cut(square, 4, 4).equal(torch.ones(1, 4, 4))
    assert data._cut(square.mT, 4, 4).equal(torch.ones(1, 4, 4))
    half = data._cut(square, 2, 4)  # the whole, scaled
    assert half.shape == (1, 2, 4) and half.allclose(half.flip(2)) and half[0, 0, 1] > 0.8 > 0.2 > half[0, 0, 0]


@given(
    st.one_of(
        st.integers(max_value=0), st.floats(), st.tuples(st.integers(1, 9)), st.tuples(st.just(3), st.just(-1)),
        st.tuples(st.just(2.0), st.just(2)), st.booleans(),
    )
)  # fmt: skip
def test_photograph_refuses_a_size(size):
    with pytest.raises(ValueError, match=r"size must be a whole number of at least 1"):
        load_photograph("astronaut", size)


@given(st.text())
def test_photograph_refuses_a_name_and_lists_the_others(name):
    if name not in data.PHOTOGRAPHS:
        with pytest.raises(ValueError, match="name must be one of astronaut, chelsea, coffee"):
            load_photograph(name)


def test_load_says_so_without_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs torchvision, which is not installed"):
        load("cifar10")
    assert load("mnist", "test").images.equal(load_mnist("test").images)


def test_load_through_torchvision(monkeypatch):
    """A stand-in with torchvision's interface: colour images come as (N, H, W, 3) arrays, grey ones as tensors."""

    class CIFAR10:
        def __init__(self, folder, train, download):
            assert download and not train
            self.data = np.full((2, 32, 32, 3), 51, np.uint8)
            self.targets = [3, 4]

    class FashionMNIST:
        def __init__(self, folder, train, download):
            raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    torchvision = types.ModuleType("torchvision")
    torchvision.datasets = types.SimpleNamespace(CIFAR10=CIFAR10, FashionMNIST=FashionMNIST)
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    images, labels = load("cifar10", "test")
    assert images.shape == (2, 3, 32, 32) and images.unique().tolist() == pytest.approx([0.2])
    assert labels.dtype == torch.int64 and labels.tolist() == [3, 4]
    with pytest.raises(DataError, match=r"fashion_mnist could not be downloaded.*needs the network"):
        load("fashion_mnist")


def test_load_refuses_unknown_names():
    with pytest.raises(ValueError, match="name must be one of mnist, cifar10"):
        load("imagenet")
    with pytest.raises(ValueError, match="split must be one of"):
        load("cifar10", "validation")
