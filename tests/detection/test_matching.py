"""Matching and losses: the release's numbers, brute force over permutations, and what must not change them."""

from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.detection import HungarianMatcher, SetCriterion
from lib.detection.digits import digit_detr
from tests.waits import far, waits

STORED = np.load(Path(__file__).parents[1] / "reference" / "detr_loss.npz")
GIVEN = {name: torch.tensor(STORED[name]) for name in STORED if not name.startswith("_")}


def stored_targets():
    sizes = GIVEN["sizes"].tolist()
    parts = zip(GIVEN["labels"].split(sizes), GIVEN["boxes"].split(sizes))
    return [{"labels": labels, "boxes": boxes} for labels, boxes in parts]


def stored_outputs():
    layers = [
        {f"pred_{kind}": GIVEN[f"{name}_{kind}"].clone() for kind in ("logits", "boxes")} for name in ("pred", "aux")
    ]
    return {**layers[0], "aux_outputs": layers[1:]}


def random_case(seed, queries=6, objects=(4, 0, 2), classes=5):
    draw = torch.Generator().manual_seed(seed)

    def boxes(*shape):
        size = 0.1 + 0.3 * torch.rand(*shape, 2, generator=draw)
        return torch.cat([size / 2 + (1 - size) * torch.rand(*shape, 2, generator=draw), size], dim=-1)

    outputs = {
        "pred_logits": torch.randn(len(objects), queries, classes + 1, generator=draw),
        "pred_boxes": boxes(len(objects), queries),
    }
    targets = [{"labels": torch.randint(classes, (n,), generator=draw), "boxes": boxes(n)} for n in objects]
    return outputs, targets


def test_matches_are_those_of_the_release():
    outputs = stored_outputs()
    for layer, prefix in ((outputs, ""), (outputs["aux_outputs"][0], "aux_")):
        for i, (query, found) in enumerate(HungarianMatcher()(layer, stored_targets())):
            assert torch.equal(query, GIVEN[f"{prefix}match{i}_pred"])
            assert torch.equal(found, GIVEN[f"{prefix}match{i}_tgt"])


def test_losses_and_gradients_are_those_of_the_release():
    outputs, criterion = stored_outputs(), SetCriterion(6)
    leaves = [outputs[key].requires_grad_() for key in ("pred_logits", "pred_boxes")]
    leaves += [outputs["aux_outputs"][0][key].requires_grad_() for key in ("pred_logits", "pred_boxes")]
    losses = criterion(outputs, stored_targets())
    wanted = {name.removeprefix("loss."): value for name, value in GIVEN.items() if name.startswith("loss.")}
    assert losses.keys() == wanted.keys()
    for name, value in wanted.items():
        assert losses[name].item() == pytest.approx(value.item(), abs=1e-6), name
    total = criterion.total(losses)
    total.backward()
    assert total.item() == pytest.approx(GIVEN["total"].item(), abs=1e-5)
    for leaf, name in zip(leaves, ("logits", "boxes", "aux_logits", "aux_boxes")):
        assert torch.allclose(leaf.grad, GIVEN[f"grad_{name}"], rtol=0, atol=1e-6), name


@pytest.mark.parametrize("seed", range(10))
def test_no_permutation_is_cheaper(seed):
    outputs, targets = random_case(seed)
    matcher = HungarianMatcher()
    for i, (query, found) in enumerate(matcher(outputs, targets)):
        objects = len(targets[i]["labels"])
        cost = matcher.cost(outputs, targets)[i, :, :objects]
        least = min(
            sum(cost[row, column].item() for column, row in enumerate(rows))
            for rows in permutations(range(len(cost)), objects)
        )
        assert len(query) == objects == len(set(query.tolist())) == len(set(found.tolist()))
        assert cost[query, found].sum().item() == pytest.approx(least, abs=1e-6)


def test_layers_are_matched_each_by_itself():
    """Also layers with different numbers of predictions."""
    (few, targets), (many, _) = random_case(4), random_case(5, queries=9)
    matcher = HungarianMatcher()
    together = matcher.of_layers([many, few, many], targets)
    for layer, matches in zip((many, few, many), together, strict=True):
        for (query, found), (wanted_query, wanted_found) in zip(matches, matcher(layer, targets), strict=True):
            assert torch.equal(query, wanted_query) and torch.equal(found, wanted_found)
    with pytest.raises(ValueError, match=r"targets\[0\] has 4 objects, more than the 3 queries"):
        matcher.of_layers([many, random_case(6, queries=3)[0]], targets)


def test_another_rule_of_assignment_reaches_every_layer():
    class First(HungarianMatcher):
        """The k-th prediction answers for the k-th object."""

        def assign(self, cost):
            return torch.arange(cost.shape[1]), torch.arange(cost.shape[1])

    outputs, targets = random_case(4)
    layers = {**outputs, "aux_outputs": [random_case(5)[0]]}
    losses = SetCriterion(5, First())(layers, targets)
    for suffix, layer in (("", outputs), ("_0", layers["aux_outputs"][0])):
        boxes = torch.cat([layer["pred_boxes"][i, : len(target["labels"])] for i, target in enumerate(targets)])
        wanted = (boxes - torch.cat([target["boxes"] for target in targets])).abs().sum() / len(boxes)
        assert losses[f"loss_bbox{suffix}"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_proposals_have_their_own_losses():
    (outputs, targets), (proposals, _) = random_case(4), random_case(5, queries=9)
    criterion = SetCriterion(5)
    losses, alone = criterion({**outputs, "enc_outputs": proposals}, targets), criterion(proposals, targets)
    for name in ("loss_ce", "loss_bbox", "loss_giou"):
        assert losses[f"{name}_enc"].item() == pytest.approx(alone[name].item(), rel=1e-6)
    both = criterion.total(criterion(outputs, targets)) + criterion.total(alone)
    assert criterion.total(losses).item() == pytest.approx(both.item(), rel=1e-6)


def test_cost_is_minus_probability_and_distance_and_overlap():
    outputs, targets = random_case(3)
    classes = HungarianMatcher(1, 0, 0).cost(outputs, targets)
    assert classes.shape == (3, 6, 4)
    assert torch.allclose(classes[2, 1, :2], -outputs["pred_logits"][2, 1].softmax(0)[targets[2]["labels"]])
    distance = HungarianMatcher(0, 1, 0).cost(outputs, targets)
    assert distance[2, 5, 1].item() == pytest.approx(
        (outputs["pred_boxes"][2, 5] - targets[2]["boxes"][1]).abs().sum().item(), abs=1e-6
    )
    same = {**outputs, "pred_boxes": outputs["pred_boxes"].clone()}
    same["pred_boxes"][0, 0] = targets[0]["boxes"][1]
    assert HungarianMatcher(0, 0, 1).cost(same, targets)[0, 0, 1].item() == pytest.approx(-1, abs=1e-5)


def test_order_of_objects_and_queries_does_not_matter():
    outputs, targets = random_case(7)
    criterion = SetCriterion(5)
    losses = criterion(outputs, targets)
    turned = {name: value[:, torch.tensor([4, 2, 0, 5, 1, 3])] for name, value in outputs.items()}
    mixed = [{name: value.flip(0) for name, value in target.items()} for target in targets]
    for name, value in criterion(turned, mixed).items():
        assert value.item() == pytest.approx(losses[name].item(), abs=1e-6), name


def test_box_losses_are_divided_by_the_objects_alone():
    """Not by the images: empty ones beside an object leave its losses as they are."""
    outputs, targets = random_case(3, objects=(0, 1, 0))
    losses = SetCriterion(5)(outputs, targets)
    alone = SetCriterion(5)({name: value[1:2] for name, value in outputs.items()}, targets[1:2])
    for name in ("loss_bbox", "loss_giou", "class_error"):
        assert losses[name].item() == pytest.approx(alone[name].item(), rel=1e-5), name
    assert losses["loss_bbox"] > 0


def test_images_without_objects():
    outputs, targets = random_case(1, objects=(0, 0))
    outputs = {name: value.requires_grad_() for name, value in outputs.items()}
    criterion = SetCriterion(5)
    losses = criterion(outputs, targets)
    criterion.total(losses).backward()
    assert losses["loss_bbox"] == losses["loss_giou"] == 0 and losses["loss_ce"] > 0
    assert losses["class_error"] == 100
    assert losses["cardinality_error"] == (outputs["pred_logits"].argmax(-1) != 5).sum().item() / 2
    assert (outputs["pred_boxes"].grad == 0).all() and outputs["pred_logits"].grad.abs().sum() > 0


def test_a_perfect_answer_costs_nothing_but_its_doubt():
    _, targets = random_case(2)
    logits, boxes = torch.full((3, 6, 6), -20.0), torch.full((3, 6, 4), 0.5)
    logits[..., 5] = 20
    for i, target in enumerate(targets):
        for q, (label, box) in enumerate(zip(target["labels"], target["boxes"])):
            logits[i, q], boxes[i, q] = -20, box
            logits[i, q, label] = 20
    losses = SetCriterion(5)({"pred_logits": logits, "pred_boxes": boxes}, targets)
    for name in ("loss_ce", "loss_bbox", "loss_giou", "class_error", "cardinality_error"):
        assert losses[name].item() == pytest.approx(0, abs=1e-5), name


def test_weights_scale_their_losses_in_every_layer():
    outputs, targets = stored_outputs(), stored_targets()
    criterion = SetCriterion(6, weights={"loss_ce": 0.0, "loss_bbox": 3.0, "loss_giou": 0.0})
    losses = criterion(outputs, targets)
    assert criterion.total(losses).item() == pytest.approx(3 * (losses["loss_bbox"] + losses["loss_bbox_0"]).item())


def test_layers_are_weighted_however_many():
    criterion = SetCriterion(6, weights={"loss_bbox": 3.0})
    losses = {f"loss_bbox{layer}": torch.tensor(1.0) for layer in ("", "_0", "_9", "_10", "_123", "_enc")}
    assert criterion.total({**losses, "class_error": torch.tensor(50.0)}) == 18


def test_too_many_objects_and_too_few_are_errors_alike():
    _, targets = random_case(4, objects=(3, 1))
    logits = torch.zeros(2, 6, 6)
    logits[..., 5], logits[0, 0, 0], logits[1, :3, 1] = 1, 2, 2  # one is found of three, three are of one
    losses = SetCriterion(5)({"pred_logits": logits, "pred_boxes": torch.full((2, 6, 4), 0.5)}, targets)
    assert losses["cardinality_error"] == 2


def bad(**changes):
    """Targets of one image with one object, changed."""
    target = {"labels": torch.tensor([2]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}
    return [{**target, **changes}]


@pytest.mark.parametrize(
    "targets, message",
    [
        ([], r"targets must be one for each of the 1 images, got 0"),
        (bad(labels=torch.tensor([5])), r"labels must be between 0 and 4, got values from 5 to 5"),
        (bad(labels=torch.tensor([-1])), r"labels must be between 0 and 4, got values from -1 to -1"),
        (bad(labels=torch.tensor([2.0])), r"targets\[0\] must have integer labels \(T,\) and boxes \(T, 4\)"),
        (bad(boxes=torch.zeros(2, 4)), r"targets\[0\] must have integer labels \(T,\) and boxes \(T, 4\)"),
        (bad(boxes=torch.tensor([[0.5, 1.5, 0.2, 0.2]])), r"boxes must be \(cx, cy, w, h\) in \[0, 1\]"),
        (bad(boxes=torch.tensor([[0.5, 0.5, -0.2, 0.2]])), r"boxes must be \(cx, cy, w, h\) in \[0, 1\]"),
        (bad(boxes=torch.tensor([[0.5, 0.5, 0.0, 0.2]])), r"boxes must be .* with w and h above 0, got \[0\.5"),
        (bad(boxes=torch.tensor([[0.5, 0.5, float("nan"), 0.2]])), r"boxes must be \(cx, cy, w, h\)"),
        (bad(labels=torch.zeros(7).long(), boxes=torch.full((7, 4), 0.5)), r"has 7 objects, more than the 6 queries"),
        (bad(labels=torch.zeros(1, device="meta").long()), r"targets\[0\] must be on the device of the outputs, cpu"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets, message):
    outputs, _ = random_case(0, objects=(1,))
    for judge in (HungarianMatcher(), SetCriterion(5)):
        with pytest.raises(ValueError, match=message):
            judge(outputs, targets)


def test_bad_settings_and_bad_outputs_are_refused():
    with pytest.raises(ValueError, match="cost_class, cost_bbox and cost_giou must not all be 0"):
        HungarianMatcher(0, 0, 0)
    with pytest.raises(ValueError, match="cost_class must be a finite number, at least 0, got -1"):
        HungarianMatcher(-1)
    with pytest.raises(ValueError, match=r"eos_coef must be a finite number, at least 0, got -0\.1"):
        SetCriterion(5, eos_coef=-0.1)
    with pytest.raises(ValueError, match="loss_bbox must be a finite number"):
        SetCriterion(5, weights={"loss_bbox": float("inf")})
    outputs, targets = random_case(0)
    outputs["pred_logits"][0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="outputs must be finite"):
        HungarianMatcher()(outputs, targets)


def test_a_step_waits_for_its_device_only_where_costs_go_to_the_processor(monkeypatch):
    model, criterion, targets = digit_detr(), SetCriterion(10), random_case(1, classes=10)[1]

    def step():
        criterion.total(criterion(model(torch.rand(3, 1, 64, 64)), targets)).backward()

    found = Counter(waits(step, monkeypatch))
    assert found.pop("cpu") == 1 and not found.keys() - {"numpy", "lift_fresh"}, (
        found
    )  # what came to the processor is read
    by_mask = waits(lambda: targets[0]["boxes"][targets[0]["labels"] >= 0].sum().item(), monkeypatch)
    assert len(by_mask) >= 2  # the counter counts


@pytest.mark.parametrize("objects", [(4, 0, 2), (0, 0, 0)])
@pytest.mark.parametrize("name", ["pred_logits", "pred_boxes"])
def test_outputs_that_are_no_numbers_end_in_an_error_on_every_device(monkeypatch, name, objects):
    """Also where no image has an object."""
    outputs, targets = random_case(0, objects=objects)
    outputs[name][1, 2, 3] = float("nan")
    for _ in range(2):
        with pytest.raises(ValueError, match="outputs must be finite"):
            SetCriterion(5)(outputs, targets)
        far(monkeypatch)


@pytest.mark.parametrize(
    "dtype", [torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64]
)
def test_labels_are_integers_of_any_width(dtype):
    outputs, targets = random_case(2)
    narrow = [{**target, "labels": target["labels"].to(dtype)} for target in targets]
    wanted, found = SetCriterion(5)(outputs, targets), SetCriterion(5)(outputs, narrow)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_images_are_matched_each_by_itself():
    outputs, targets = random_case(6)
    for i, (query, found) in enumerate(HungarianMatcher()(outputs, targets)):
        alone = {name: value[i : i + 1] for name, value in outputs.items()}
        ((wanted_query, wanted_found),) = HungarianMatcher()(alone, targets[i : i + 1])
        assert torch.equal(query, wanted_query) and torch.equal(found, wanted_found)


def test_layers_with_too_few_predictions_are_refused():
    (few, targets), (many, _) = random_case(4, queries=3), random_case(5)
    with pytest.raises(ValueError, match=r"targets\[0\] has 4 objects, more than the 3 queries"):
        HungarianMatcher().of_layers([many, few], targets)


def test_no_object_without_weight_and_no_objects_cost_nothing():
    outputs, targets = random_case(1, objects=(0, 0))
    logits = outputs["pred_logits"].requires_grad_()
    loss = SetCriterion(5, eos_coef=0)(outputs, targets)["loss_ce"]
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_float32_inside_and_outside_autocast(dtype):
    outputs, targets = random_case(3)
    narrow = {**outputs, "pred_logits": outputs["pred_logits"].to(dtype)}
    with torch.autocast("cpu", dtype):
        inside = SetCriterion(5)(narrow, targets)
    outside = SetCriterion(5)(narrow, targets)
    wide = SetCriterion(5)({**narrow, "pred_logits": narrow["pred_logits"].float()}, targets)
    for name, value in wide.items():
        assert value.dtype == inside[name].dtype == outside[name].dtype == torch.float32
        assert torch.equal(inside[name], value) and torch.equal(outside[name], value), name


@pytest.mark.parametrize("cast", [torch.nn.Module.half, torch.nn.Module.bfloat16])
def test_losses_of_a_cast_criterion_are_the_same(cast):
    outputs, targets = random_case(3)
    wanted, found = SetCriterion(5)(outputs, targets), cast(SetCriterion(5))(outputs, targets)
    for name, value in wanted.items():
        assert found[name].dtype == torch.float32 and torch.equal(found[name], value), name


PAIR = torch.arange(2)


@pytest.mark.parametrize("pairs, message", [
    (None, "assign must give the indices of predictions and of objects, two tensors"),
    ((PAIR, PAIR, PAIR), "two tensors"),
    (([0, 1], [0, 1]), "two tensors"),
    ((PAIR, PAIR.float()), "two tensors"),
    ((PAIR, PAIR > 0), "two tensors"),
    ((PAIR, torch.arange(1)), "two tensors"),
    ((PAIR[None], PAIR[None]), "two tensors"),
    ((PAIR, PAIR.to("meta")), "two tensors"),
    ((PAIR - 1, PAIR), "assign must give predictions from 0 to 5, got -1 to 0"),
    ((PAIR + 5, PAIR), "assign must give predictions from 0 to 5, got 5 to 6"),
    ((PAIR, PAIR + 1), "assign must give objects from 0 to 1, got 1 to 2"),
    ((PAIR, PAIR - 1), "assign must give objects from 0 to 1, got -1 to 0"),
    ((torch.tensor([3, 0, 3]), torch.tensor([1, 0, 1])), "assign must give each pair once"),
    ((torch.arange(6).repeat(2), torch.zeros(12).long()), "assign must give each pair once"),
])  # fmt: skip
def test_a_rule_that_gives_no_pairs_is_refused(pairs, message):
    class Wrong(HungarianMatcher):
        def assign(self, cost):
            return pairs

    outputs, targets = random_case(4, objects=(2, 2))
    for judge in (Wrong(), SetCriterion(5, Wrong())):
        with pytest.raises(ValueError, match=message):
            judge(outputs, targets)


@pytest.mark.parametrize(
    "query, found", [([2, 2], [0, 1]), ([0, 1, 2, 3, 4, 5], [0, 1, 1, 0, 0, 1]), ([], []), ([4], [1])]
)
def test_a_rule_may_take_predictions_and_objects_more_than_once_or_not_at_all(query, found):
    class Own(HungarianMatcher):
        def assign(self, cost):
            return torch.tensor(query, dtype=torch.int32), torch.tensor(found, dtype=torch.uint8)

    outputs, targets = random_case(4, objects=(2, 2))
    assert all(a.tolist() == query and b.tolist() == found for a, b in Own()(outputs, targets))
    assert all(value.isfinite() for value in SetCriterion(5, Own())(outputs, targets).values())
