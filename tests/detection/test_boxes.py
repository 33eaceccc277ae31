"""Boxes and their overlap: torchvision's numbers, boxes computed by hand, and the laws of the generalised IoU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.detection.boxes import box_area, box_cxcywh_to_xyxy, box_iou, box_xyxy_to_cxcywh, generalized_box_iou

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
