"""Boxes and their overlap: torchvision's numbers, boxes computed by hand, and the laws of the generalised IoU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lib import checks
from lib.detection import boxes as boxes_module
from lib.detection.boxes import (
    box_area,
    box_cxcywh_to_xyxy,
    box_iou,
    box_xyxy_to_cxcywh,
    generalized_box_iou,
    generalized_iou,
)

STORED = np.load(Path(__file__).parents[1] / "reference" / "boxes.npz")
GIVEN = {name: torch.tensor(STORED[name]) for name in STORED if not name.startswith("_")}


def close(found, wanted):
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=0, atol=1e-6)


def test_overlaps_are_torchvisions():
    assert close(box_iou(GIVEN["a"], GIVEN["b"])[0], GIVEN["iou"])
    assert close(generalized_box_iou(GIVEN["a"], GIVEN["b"]), GIVEN["giou"])
    assert close(generalized_box_iou(GIVEN["c"], GIVEN["c"]), GIVEN["giou_c"])


def test_gradient_is_torchvisions():
    predicted = GIVEN["loss_pred"].clone().requires_grad_()
    loss = (1 - generalized_box_iou(predicted, GIVEN["loss_target"]).diagonal()).sum()
    loss.backward()
    assert close(loss, GIVEN["loss"]) and close(predicted.grad, GIVEN["loss_grad"])


def test_boxes_by_hand():
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    b = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [3.0, 0.0, 4.0, 2.0], [0.5, 0.5, 1.0, 1.5]])
    iou, union = box_iou(a, b)
    assert close(iou, torch.tensor([[1 / 7, 1.0, 0.0, 0.125]])) and close(union, torch.tensor([[7.0, 4.0, 6.0, 4.0]]))
    assert close(generalized_box_iou(a, b), torch.tensor([[1 / 7 - 2 / 9, 1.0, -2 / 8, 0.125]]))
    assert close(box_area(b), torch.tensor([4.0, 4.0, 2.0, 0.5]))


def test_both_ways_to_write_a_box_lead_to_each_other():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.1, 0.9, 0.2, 0.1]], dtype=torch.float64)
    corners = box_cxcywh_to_xyxy(boxes)
    assert close(corners, torch.tensor([[0.4, 0.3, 0.6, 0.7], [0.0, 0.85, 0.2, 0.95]], dtype=torch.float64))
    assert close(box_xyxy_to_cxcywh(corners), boxes)


def test_generalised_iou_falls_as_boxes_move_apart():
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    away = box + torch.arange(0, 20, 0.5, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0, 1, 0]).double()
    found = generalized_box_iou(box, away)[0]
    assert found[0] == 1 and (found.diff() < 0).all() and found[-1] > -1


@pytest.mark.parametrize("boxes", [torch.zeros(3, 5), torch.zeros(3), torch.zeros(2, 4, dtype=torch.long)])
def test_what_is_no_box_is_refused(boxes):
    for function in (box_cxcywh_to_xyxy, box_xyxy_to_cxcywh, box_area):
        with pytest.raises(ValueError, match=r"boxes must be floating point \(\.\.\., 4\), got"):
            function(boxes)


CROSSED = [[0.6, 0.6, 0.4, 0.4], [0.9, 0.9, 0.1, 0.1], [0.6, 0.4, 0.4, 0.6], [0.8, 0.8, 0.7, 0.7]]
EMPTY = [[0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0], [0.4, 0.4, 0.6, 0.4], [1e-30, 1e-30, 2e-30, 2e-30]]
MIDDLE = torch.tensor([[0.4, 0.4, 0.6, 0.6]])


@pytest.mark.parametrize("corners", CROSSED)
def test_crossed_corners_are_refused(corners):
    crossed = torch.tensor([corners])
    for call in (box_iou, generalized_box_iou, generalized_iou):
        with pytest.raises(ValueError, match="b must have left <= right and top <= bottom, got the corners"):
            call(MIDDLE, crossed)
    with pytest.raises(ValueError, match="boxes must have left <= right"):
        box_area(crossed)


def test_corners_that_are_no_numbers_are_refused():
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a must be finite"):
            box_iou(MIDDLE * value, MIDDLE)


@pytest.mark.parametrize("corners", CROSSED + EMPTY)
def test_overlaps_and_gradients_are_finite_where_corners_cannot_be_read(corners, monkeypatch):
    for module in (checks, boxes_module):
        monkeypatch.setattr(module, "readable", lambda value: False)
    for other in (MIDDLE, torch.tensor([corners])):
        box = torch.tensor([corners], requires_grad=True)
        iou, giou = box_iou(box, other)[0], generalized_box_iou(box, other)
        assert iou == 0 and -1 <= giou <= 0
        (iou + giou).sum().backward()
        assert box.grad.isfinite().all()


def test_boxes_of_no_area_overlap_nothing():
    """The generalised IoU of a point and a box is how little of the box around both the box fills, minus 1."""
    point, corner = torch.tensor([[0.5, 0.5, 0.5, 0.5]]), torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    assert box_iou(point, MIDDLE)[0] == box_iou(point, point)[0] == generalized_box_iou(point, point) == 0
    assert close(generalized_box_iou(corner, MIDDLE), torch.tensor([[0.04 / 0.36 - 1]]))
    assert generalized_box_iou(point, corner) == -1


def test_areas_in_pixels_do_not_overflow():
    boxes = torch.tensor([[0.0, 0.0, 640.0, 480.0]])
    assert box_area(boxes.half()) == 640 * 480 and generalized_box_iou(boxes.half(), boxes.half()) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", range(4))
def test_boxes_that_are_no_numbers_are_refused_by_all(value, place):
    spoiled = torch.tensor([[0.4, 0.4, 0.6, 0.6]])
    spoiled[0, place] = value
    for call in (box_cxcywh_to_xyxy, box_xyxy_to_cxcywh, box_area):
        with pytest.raises(ValueError, match="boxes must be finite"):
            call(spoiled)
    for call in (box_iou, generalized_box_iou, generalized_iou):
        with pytest.raises(ValueError, match="b must be finite"):
            call(MIDDLE, spoiled)


def test_negative_sizes_are_not_turned_to_crossed_corners_nor_back():
    with pytest.raises(ValueError, match="boxes must have no negative width or height, got -0"):
        box_cxcywh_to_xyxy(torch.tensor([[0.5, 0.5, 0.1, -0.2]]))
    with pytest.raises(ValueError, match="boxes must have left <= right"):
        box_xyxy_to_cxcywh(torch.tensor([CROSSED[0]]))
    for points in (torch.zeros(1, 4), torch.zeros(0, 4)):  # what has no size has no negative one
        assert torch.equal(box_xyxy_to_cxcywh(box_cxcywh_to_xyxy(points)), points)
