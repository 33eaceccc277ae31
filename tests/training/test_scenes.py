"""Digit scenes: reproducible, true boxes, disjoint digits, and options that do what they say."""

import pytest
import torch

from lib.training import scenes as module
from lib.training.data import load_mnist
from lib.training.scenes import INK, digit_scenes


def test_shapes_and_ranges():
    scenes = digit_scenes(50, digits=(2, 6))
    assert (
        scenes.images.shape == (50, 1, 64, 64) and scenes.labels.shape == (50, 6) and scenes.boxes.shape == (50, 6, 4)
    )
    assert scenes.images.min() == 0 and 0.8 < scenes.images.max() <= 1
    there = scenes.labels >= 0
    assert there.any(1).all() and scenes.labels.max() <= 9 and (scenes.boxes[~there] == 0).all()
    low, high = scenes.boxes[..., :2] - scenes.boxes[..., 2:] / 2, scenes.boxes[..., :2] + scenes.boxes[..., 2:] / 2
    assert low[there].min() > -1e-6 and high[there].max() < 1 + 1e-6 and scenes.boxes[there][:, 2:].min() > 0


def test_a_seed_gives_its_own_scenes():
    first, again, other = digit_scenes(5, seed=3), digit_scenes(5, seed=3), digit_scenes(5, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first, again)) and not torch.equal(first.images, other.images)


def test_boxes_surround_the_ink():
    scenes = digit_scenes(200, digits=(1, 1), sides=(28, 28))
    for image, box in zip(scenes.images[:, 0], scenes.boxes[:, 0] * 64):
        ink = (image > INK).nonzero().flip(1).float()  # (x, y)
        edges = torch.cat([ink.amin(0), ink.amax(0) + 1])
        wanted = torch.cat([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])
        assert (edges - wanted).abs().max() <= 1.5


@pytest.mark.parametrize("split", ["train", "test"])
def test_digits_are_named_right_and_of_their_split(split, monkeypatch):
    """With one digit in stock, every scene shows that one: its name, and nearly its pixels."""
    digits = load_mnist(split)
    one = type(digits)(digits.images[7:8], digits.labels[7:8])
    monkeypatch.setattr(module, "load_mnist", lambda asked, device: {split: one}[asked])
    module._stock.cache_clear()
    scenes = digit_scenes(20, 1, split, size=28, digits=(1, 1), sides=(28, 28))
    module._stock.cache_clear()
    assert (scenes.labels == digits.labels[7]).all()
    ink = digits.images[7].sum()
    assert ((scenes.images.sum((1, 2, 3)) - ink).abs() < 0.1 * ink).all()


def test_train_and_test_share_no_digit():
    train, test = load_mnist("train").images.flatten(1), load_mnist("test").images.flatten(1)
    assert not {row.tobytes() for row in train.numpy()} & {row.tobytes() for row in test.numpy()}


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.5])
def test_overlap_is_kept(overlap):
    scenes = digit_scenes(100, digits=(6, 6), overlap=overlap)
    most = 0.0
    for target in scenes.targets():
        boxes = target["boxes"]
        low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
        sides = (torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)).clamp(min=0)
        area = boxes[:, 2:].prod(1)
        share = sides.prod(2) / torch.minimum(area[:, None], area)
        most = max(most, (share - torch.eye(len(boxes))).max().item())
    assert most <= overlap + 1e-4 and (overlap == 0 or most > overlap / 2)


def test_clutter_adds_ink_and_no_objects():
    plain, messy = digit_scenes(50, 2), digit_scenes(50, 2, clutter=8)
    assert torch.equal(plain.labels, messy.labels) and torch.equal(plain.boxes, messy.boxes)
    assert (messy.images >= plain.images).all() and (messy.images > plain.images).flatten(1).any(1).all()


def test_number_of_digits_and_their_sizes():
    scenes = digit_scenes(400, digits=(1, 3), overlap=1.0)
    counts = (scenes.labels >= 0).sum(1).bincount(minlength=4)
    assert counts[0] == 0 and (counts[1:] > 90).all()
    small, large = (digit_scenes(200, digits=(1, 1), sides=(side, side)).boxes[:, 0, 3] for side in (14, 28))
    assert large.mean().item() == pytest.approx(2 * small.mean().item(), rel=0.05)


def test_targets_leave_out_what_is_not_there():
    scenes = digit_scenes(20, digits=(1, 4))
    for target, labels in zip(scenes.targets(), scenes.labels):
        assert torch.equal(target["labels"], labels[labels >= 0]) and target["boxes"].shape == (
            len(target["labels"]),
            4,
        )


@pytest.mark.parametrize(
    "given, message",
    [
        ({"n": 0}, "n must be an integer of at least 1, got 0"),
        ({"split": "dev"}, "split must be one of"),
        ({"digits": (0, 3)}, "fewest digits must be an integer of at least 1, got 0"),
        ({"digits": (4, 3)}, "most digits must be an integer of at least 4, got 3"),
        ({"sides": (20, 70)}, "sides must satisfy 0 < shortest <= longest <= size = 64"),
        ({"overlap": 1.5}, r"overlap must lie in \[0, 1\], got 1.5"),
        ({"clutter": -1}, "clutter must be an integer of at least 0, got -1"),
    ],
)
def test_bad_input_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        digit_scenes(**{"n": 2, **given})
