"""Average precision: perfect, empty and hand-computed answers."""

import math

import pytest
import torch

from lib.training.average_precision import average_precision

TARGETS = [
    {"labels": torch.tensor([3, 5]), "boxes": torch.tensor([[0.25, 0.25, 0.2, 0.2], [0.7, 0.7, 0.4, 0.4]])},
    {"labels": torch.tensor([3]), "boxes": torch.tensor([[0.5, 0.5, 0.3, 0.3]])},
    {"labels": torch.zeros(0).long(), "boxes": torch.zeros(0, 4)},
]


def answers(score=0.9, shift=0.0):
    """What is there, with one score, each box moved to the right by `shift` of its width."""
    found = []
    for target in TARGETS:
        centre, size = target["boxes"].split(2, dim=1)
        centre = centre + size * torch.tensor([shift, 0.0])
        boxes = 64 * torch.cat([centre - size / 2, centre + size / 2], dim=1)
        found.append({"labels": target["labels"], "scores": torch.full((len(boxes),), score), "boxes": boxes})
    return found


def test_everything_found():
    found = average_precision(answers(), TARGETS, 64)
    assert math.isnan(found.pop("AP_large"))  # none is that large
    assert all(value == pytest.approx(1) for value in found.values())


def test_nothing_found():
    empty = {"labels": torch.zeros(0).long(), "scores": torch.zeros(0), "boxes": torch.zeros(0, 4)}
    assert set(average_precision([empty] * 3, TARGETS, 64).values()) == {0.0}


def test_boxes_that_are_a_little_off():
    found = average_precision(answers(shift=0.2), TARGETS, 64)  # intersection over union 0.8 / 1.2
    assert found["AP50"] == pytest.approx(1) and found["AP75"] == 0
    assert found["AP"] == pytest.approx(0.4)  # IoUs .50, .55, .60 and .65 of ten


def test_a_false_alarm_costs_what_stands_behind_it():
    found = answers()
    alarm = {"labels": torch.tensor([3]), "scores": torch.tensor([0.95]), "boxes": torch.tensor([[0.0, 0, 9, 9]])}
    found[2] = alarm
    assert average_precision(found, TARGETS, 64)["AP50"] == pytest.approx((2 / 3 + 1) / 2, abs=0.01)
    alarm["scores"] = torch.tensor([0.1])
    assert average_precision(found, TARGETS, 64)["AP50"] == pytest.approx(1)


def test_a_wrong_class_is_not_found():
    found = answers()
    found[1]["labels"] = torch.tensor([4])
    assert average_precision(found, TARGETS, 64)["AP50"] == pytest.approx((0.5 + 1) / 2, abs=0.01)


def test_sizes_without_objects_are_nan():
    found = average_precision(answers(), TARGETS, 64, areas=(1.0, 2.0))
    assert math.isnan(found["AP_small"]) and math.isnan(found["AP_medium"]) and found["AP_large"] == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64])
def test_labels_may_be_integers_of_any_size(dtype):
    found, targets = (
        [{**e, "labels": e["labels"].to(dtype)} for e in entries] for entries in (answers(0.9, 0.2), TARGETS)
    )
    assert average_precision(found, targets, 64)["AP"] == average_precision(answers(0.9, 0.2), TARGETS, 64)["AP"]


@pytest.mark.parametrize("key, value", [
    ("labels", torch.tensor([3.0, 5.0])), ("labels", torch.tensor([3])), ("labels", torch.tensor([3, -1])),
    ("labels", [3, 5]), ("boxes", torch.rand(2, 3)), ("boxes", torch.rand(1, 4)),
    ("boxes", torch.full((2, 4), math.nan)), ("boxes", torch.ones(2, 4).long()),
    ("scores", torch.rand(1)), ("scores", torch.tensor([0.1, math.inf])), ("scores", None),
])  # fmt: skip
def test_an_image_with_wrong_tensors_is_named(key, value):
    found, targets = answers(), list(TARGETS)
    found[0] = {**found[0], key: value}
    targets[0] = {**targets[0], key: value}
    with pytest.raises(ValueError, match=rf"^found\[0\] .*{key}"):
        average_precision(found, TARGETS, 64)
    if key != "scores":
        with pytest.raises(ValueError, match=rf"^targets\[0\] .*{key}"):
            average_precision(answers(), targets, 64)


def test_bad_input_is_refused():
    for areas in ((2.0, 1.0), (0.0, 1.0), (1.0,)):
        with pytest.raises(ValueError, match=r"^areas must be two numbers"):
            average_precision(answers(), TARGETS, 64, areas)
    with pytest.raises(ValueError, match="found must be one for each of the 3 images, got 2"):
        average_precision(answers()[:2], TARGETS, 64)
    with pytest.raises(ValueError, match="targets must hold at least one object"):
        average_precision(answers()[2:], TARGETS[2:], 64)


@pytest.mark.parametrize("boxes, message", [
    ([[20.0, 0, 10, 30]], r"found\[2\] boxes must have left <= right and top <= bottom"),
    ([[0.0, 30, 10, 20]], r"found\[2\] boxes must have left <= right and top <= bottom"),
    ([[0.0, 0, math.nan, 30]], r"found\[2\] boxes must be finite"),
])  # fmt: skip
def test_found_boxes_are_corners(boxes, message):
    found = answers()
    found[2] = {"labels": torch.tensor([3]), "scores": torch.tensor([0.9]), "boxes": torch.tensor(boxes)}
    with pytest.raises(ValueError, match=message):
        average_precision(found, TARGETS, 64)


@pytest.mark.parametrize("box", [[32.0, 32, 10, 10], [0.5, 0.5, -0.1, 0.1], [0.5, 0.5, 0.1, 0], [-0.5, 0.5, 0.1, 0.1]])
def test_targets_are_in_units_of_the_image_and_have_a_size(box):
    targets = [*TARGETS[:2], {"labels": torch.tensor([3]), "boxes": torch.tensor([box])}]
    with pytest.raises(
        ValueError, match=r"targets\[2\] boxes must be \(cx, cy, w, h\) in \[0, 1\] with w and h above 0"
    ):
        average_precision(answers(), targets, 64)
