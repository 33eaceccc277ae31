import math
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lib.training import digit_classifier, digit_statistics, frechet_distance, load_mnist
from lib.training.classifier import accuracy, loss, stored
from lib.training.metrics import SUMS, sums_over_test_images


@pytest.fixture(scope="module")
def train():
    return load_mnist("train").images[:2000]


def direct(one, two):
    """The formula with numpy and scipy alone."""
    first, second = (digit_classifier().features(images).double().numpy() for images in (one, two))
    cov_1, cov_2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(cov_1 @ cov_2).real
    return ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(cov_1 + cov_2 - 2 * root)


def test_agrees_with_the_formula(train):
    one, two = train[:300], train[300:800]
    noisy = (one + 0.2 * torch.rand(one.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert frechet_distance(noisy, two) == pytest.approx(direct(noisy, two), rel=1e-4)
    assert frechet_distance(one, two) == pytest.approx(direct(one, two), rel=1e-3)


def test_stored_sums_are_those_of_the_test_images(train):
    """So that the default reference and the test images given as a reference are the same thing."""
    found, kept = sums_over_test_images(digit_classifier().features), stored()
    for name in SUMS:
        assert found[f"test.{name}"].allclose(kept[f"test.{name}"], rtol=1e-4)
    assert kept["test.real_features_num_samples"] == 10_000


def test_is_zero_for_equal_sets_symmetric_and_blind_to_order(train):
    one, two = train[:500], (train[500:1000] * 0.8)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-3)
    assert frechet_distance(one, two) == pytest.approx(frechet_distance(two, one), rel=1e-3)
    shuffled = one[torch.randperm(500, generator=torch.Generator().manual_seed(0))]
    assert frechet_distance(shuffled, two) == pytest.approx(frechet_distance(one, two), rel=1e-3)
    assert frechet_distance(one.double()) == pytest.approx(frechet_distance(one), rel=1e-3)


def test_orders_pictures_as_the_eye_does(train):
    """Real digits, fewer of them, a blur, one digit only, noise."""
    torch.manual_seed(0)
    blurred = F.avg_pool2d(train[:500], 3, stride=1, padding=1)
    ones = load_mnist("train")
    same = ones.images[ones.labels == 3][:500]
    noise = torch.rand(500, 1, 28, 28)
    distances = [frechet_distance(images) for images in (train, train[:500], blurred, same, noise)]
    assert distances == sorted(distances)
    assert distances[0] < 0.2 and distances[1] < 0.6 and distances[2] > 5 and distances[4] > 100


def test_one_measurement_leaves_no_trace_in_the_next(train):
    first = frechet_distance(train[:300])
    frechet_distance(torch.zeros(100, 1, 28, 28))
    assert frechet_distance(train[:300]) == first
    features = digit_classifier().features
    assert not features.training and all(p.dtype == torch.float32 for p in features.parameters())


def test_two_thousand_samples_take_seconds(train):
    frechet_distance(train[:100])
    started = time.process_time()
    frechet_distance(train)
    assert time.process_time() - started < 4  # seconds of one core; about 1 measured


def test_statistics_of_real_digits():
    images, labels = load_mnist("test")
    statistics = digit_statistics(images[:1000], labels[:1000])
    guesses = digit_classifier()(images[:1000]).argmax(1)
    assert statistics["accuracy"] == pytest.approx((guesses == labels[:1000]).float().mean().item())
    assert statistics["accuracy"] > 0.98 and 0.97 < statistics["confidence"] <= 1
    assert 2.27 < statistics["class_entropy"] <= math.log(10) + 1e-6
    assert digit_statistics(images[:10], (labels[:10] + 1) % 10)["accuracy"] < 0.2


def test_entropy_is_that_of_the_classes():
    images, labels = load_mnist("test")
    pick = [int((labels == digit).nonzero()[0]) for digit in (0, 0, 1, 6)]
    statistics = digit_statistics(images[pick])
    assert statistics["class_entropy"] == pytest.approx(1.5 * math.log(2), rel=1e-5)
    assert digit_statistics(images[pick[:2]])["class_entropy"] == 0
    assert statistics.keys() == {"confidence", "class_entropy"}


SHAPES = st.lists(st.integers(0, 30), max_size=5).filter(lambda shape: len(shape) != 4 or shape[1:] != [1, 28, 28])


@given(SHAPES)
def test_refuses_another_shape(shape):
    for measure in (frechet_distance, digit_statistics):
        with pytest.raises(ValueError, match=r"^samples must be a tensor \(N, 1, 28, 28\), got"):
            measure(torch.zeros(shape))


@given(st.floats().filter(lambda value: not 0 <= value <= 1), st.integers(0, 784 * 70 - 1))
def test_refuses_a_value_outside_its_range_wherever_it_is(value, place):
    images = torch.zeros(70, 1, 28, 28, dtype=torch.float64)
    images.view(-1)[place] = value
    for arguments, name in (((images,), "samples"), ((images.new_zeros(70, 1, 28, 28), images), "reference")):
        with pytest.raises(ValueError, match=rf"^{name} must be real numbers in \[0, 1\]"):
            frechet_distance(*arguments)
    with pytest.raises(ValueError, match=r"^samples must be real numbers in \[0, 1\]"):
        digit_statistics(images)


def test_refuses_too_few_images_bytes_and_lists(train):
    for images, message in (
        (train[:64], "must hold at least 65 images, got 64"),
        ((train[:70] * 255).byte(), "must be real numbers"),
        ([0.5], r"must be a tensor \(N, 1, 28, 28\), got list"),
    ):
        with pytest.raises(ValueError, match=f"^samples {message}"):
            frechet_distance(images)
        with pytest.raises(ValueError, match=f"^reference {message}"):
            frechet_distance(train, images)


@pytest.mark.parametrize(
    "labels", [[1, 2], torch.tensor([1]), torch.tensor([1.0, 2.0]), torch.tensor([1, 10]), torch.tensor([-1, 0])]
)
def test_refuses_labels(train, labels):
    with pytest.raises(ValueError, match=r"^labels must "):
        digit_statistics(train[:2], labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_may_be_integers_of_any_size(dtype):
    images, labels = load_mnist("test")
    expected = digit_statistics(images[:50], labels[:50])
    assert digit_statistics(images[:50], labels[:50].to(dtype)) == expected
    assert accuracy(digit_classifier(), images[:50], labels[:50].to(dtype)) == pytest.approx(expected["accuracy"])
    right = loss(digit_classifier(), images[:50], labels[:50].to(dtype))
    assert right.isfinite() and right < 1


def test_where_there_is_no_float64_only_the_features_are_computed_there(train, apple):
    """Nothing is lost: the sums are float64 all the same."""
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(1, dtype=torch.float64).to(apple)
    on_the_cpu = [frechet_distance(train[:300], device="cpu"), frechet_distance(train[:300], train[300:600], "cpu")]
    assert [
        frechet_distance(train[:300], device=apple),
        frechet_distance(train[:300], train[300:600], apple),
    ] == on_the_cpu
    assert digit_statistics(train[:300], device=apple) == digit_statistics(train[:300], device="cpu")


@pytest.mark.slow
def test_needs_neither_torchvision_nor_torch_fidelity():
    program = (
        "import sys\n"
        "sys.modules['torchvision'] = sys.modules['torch_fidelity'] = None\n"
        "from lib.training import load_mnist, frechet_distance, digit_statistics\n"
        "images, labels = load_mnist('test')\n"
        "assert frechet_distance(images[:100]) > 0 and digit_statistics(images[:100], labels[:100])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
