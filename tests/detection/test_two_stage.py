"""DETR with proposals: where they start, which become queries, and what padding must not change."""

import pytest
import torch
from torch import nn

from lib.detection import SetCriterion, SmallBackbone, Transformer, TwoStageDETR


def tiny(seed=0, **changes):
    torch.manual_seed(seed)
    arguments = {"num_classes": 10, "num_queries": 5, **changes}
    model = TwoStageDETR(SmallBackbone(1, (8, 16)), Transformer(32, 4, 1, 2, 64, dropout=0.0), **arguments)
    for head in (model.bbox_embed, model.enc_bbox_embed):  # boxes that differ
        nn.init.normal_(head.layers[-1].weight, std=0.1)
    return model.eval()


def test_anchors_are_the_middles_of_the_places():
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[1, 2:], mask[1, :, 2:] = True, True  # the second image has 2 × 2 places
    anchors = tiny(anchor_size=0.25).anchors(mask)
    assert anchors.shape == (2, 12, 4) and (anchors[..., 2:] == 0.25).all()
    assert torch.allclose(anchors[0, 7, :2], torch.tensor([3.5 / 4, 1.5 / 3]))  # row 1, column 3
    assert torch.allclose(anchors[1, [0, 1, 4, 5], :2], torch.tensor([[1, 1], [3, 1], [1, 3], [3, 3]]) / 4)


def test_untrained_boxes_are_the_anchors():
    torch.manual_seed(0)
    model = TwoStageDETR(SmallBackbone(1, (8, 16)), Transformer(32, 4, 1, 2, 64, dropout=0.0), 10, 5).eval()
    with torch.no_grad():
        outputs = model(torch.rand(2, 1, 24, 32))
    anchors = model.anchors(torch.zeros(2, 6, 8, dtype=torch.bool))
    assert torch.allclose(outputs["enc_outputs"]["pred_boxes"], anchors, atol=1e-6)
    assert torch.cdist(outputs["pred_boxes"], anchors, p=1).amin(2).max() < 1e-6


@torch.no_grad()
def test_the_surest_places_become_queries():
    model = tiny()
    model.enc_class_embed.bias[-1] += 5  # "no object" is likely everywhere, and being sure of it does not count
    features, mask, pos = model.image_features(torch.rand(2, 1, 24, 32))
    image = model.transformer.encode(features, mask, pos)
    found = model.propose(image, mask, features.shape[-2:])
    sure = found.all["pred_logits"].softmax(-1)[..., :-1].amax(-1)
    for i in range(2):
        best = sorted(range(48), key=lambda place: -sure[i, place].item())[:5]
        assert torch.equal(found.tokens[i], image[0][i, best])
        assert torch.equal(found.places[i], image[1][i, best])
        assert torch.equal(found.boxes[i], found.all["pred_boxes"][i, best])


@torch.no_grad()
def test_padding_changes_nothing():
    model = tiny()
    image, canvas = torch.rand(1, 1, 24, 32), torch.zeros(1, 1, 40, 48)
    mask = torch.ones(1, 40, 48, dtype=torch.bool)
    # The backbone's convolutions see the padding's zeros as they see those beyond an image's border.
    canvas[..., :24, :32], mask[:, :24, :32] = image, False
    model.backbone[0].body = nn.AvgPool2d(4)  # but their biases and normalisation do not leave it at zero
    model.input_proj = nn.Conv2d(1, 32, 1)
    alone, padded = model(image), model(canvas, mask)
    for key in ("pred_logits", "pred_boxes"):
        assert torch.allclose(alone[key], padded[key], atol=1e-5)


@torch.no_grad()
def test_padding_proposes_nothing():
    """However sure the head is of it; with as many places seen as there are queries, each of these becomes one."""
    model = tiny(num_queries=4)
    mask = torch.ones(2, 6, 8, dtype=torch.bool)
    mask[0, :2, :2], mask[1, :1, :4] = False, False
    memory = torch.where(mask.flatten(1)[..., None], 10.0, 0.1) * torch.randn(2, 48, 32)
    places = torch.arange(48.0).expand(2, 48)[..., None].expand(2, 48, 32)
    model.enc_class_embed.weight[:-1] *= 100
    found = model.propose((memory, places, None), mask, (6, 8))
    assert [sorted(image.tolist()) for image in found.places[..., 0]] == [[0, 1, 8, 9], [0, 1, 2, 3]]


def test_proposed_boxes_pass_no_gradient_on():
    """The answers move them; what the first stage proposes learns from its own losses."""
    model = tiny().train()
    features, mask, pos = model.image_features(torch.rand(2, 1, 24, 32))
    found = model.propose(model.transformer.encode(features, mask, pos), mask, features.shape[-2:])
    assert not found.boxes.requires_grad and found.all["pred_boxes"].requires_grad and found.tokens.requires_grad


@torch.no_grad()
def test_as_many_queries_as_places():
    assert tiny(num_queries=48)(torch.rand(1, 1, 24, 32))["pred_boxes"].shape == (1, 48, 4)


@torch.no_grad()
def test_answers_begin_at_the_proposals():
    """The decoder reads the best places' codes and tokens, and its answers move their boxes."""
    model = tiny()
    images = torch.rand(2, 1, 24, 32)
    features, mask, pos = model.image_features(images)
    image = model.transformer.encode(features, mask, pos)
    found = model.propose(image, mask, features.shape[-2:])
    answers = model.transformer.decoder(found.places, *image, start=found.tokens)[-1]
    boxes = (model.bbox_embed(answers) + found.boxes.logit(eps=1e-4)).sigmoid()
    outputs = model(images)
    assert torch.allclose(outputs["pred_boxes"], boxes, atol=1e-6)
    assert torch.allclose(outputs["pred_logits"], model.class_embed(answers), atol=1e-6)
    weights = model.transformer.decoder.weights(found.places, *image, start=found.tokens).unflatten(4, (6, 8))
    assert torch.allclose(model.attention_maps(images), weights, atol=1e-6)
    for other in (found._replace(tokens=torch.zeros_like(found.tokens)), found._replace(places=found.tokens)):
        turned = model.transformer.decoder(other.places, *image, start=other.tokens)[-1]
        assert not torch.allclose(turned, answers, atol=1e-4)  # so that the comparison above can fail


def test_every_parameter_learns():
    model, criterion = tiny().train(), SetCriterion(10)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
    targets = [{"labels": torch.tensor([3]), "boxes": torch.tensor([[0.5, 0.5, 0.3, 0.3]])}] * 2
    criterion.total(criterion(model(torch.rand(2, 1, 32, 32)), targets)).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]


@torch.no_grad()
def test_attention_maps_are_those_of_the_answers():
    """Each query's weights add up to 1, and a place of padding gets none."""
    model, mask = tiny(), torch.zeros(2, 24, 32, dtype=torch.bool)
    mask[1, :, 16:] = True
    maps = model.attention_maps(torch.rand(2, 1, 24, 32), mask)
    assert maps.shape == (2, 2, 4, 5, 6, 8)
    assert torch.allclose(maps.sum((4, 5)), torch.ones(2, 2, 4, 5), atol=1e-5)
    assert (maps[:, 1, ..., 4:] == 0).all() and (maps[:, 0, ..., 4:] > 0).all()


@torch.no_grad()
def test_runs_compiled():
    model, images = tiny(), torch.rand(1, 1, 24, 32)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(images)["pred_boxes"], model(images)["pred_boxes"], atol=1e-5)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: tiny(anchor_size=0.0), r"anchor_size must lie in \(0, 1\), got 0.0"),
        (lambda: tiny()(torch.rand(1, 1, 8, 8)), "images must give at least 5 places, one a query"),
        (lambda: tiny(num_queries=0), "num_queries must be an integer of at least 1, got 0"),
    ],
)
def test_bad_input_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
