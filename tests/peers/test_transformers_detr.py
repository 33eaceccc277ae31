"""DETR of Hugging Face's transformers beside ours: the same weights, the same answers, matches and losses."""

import pytest
import torch

from lib.detection import HungarianMatcher, SetCriterion, pad_images
from lib.training import load_photograph
from tests.peers.detection import TINY, TransformersDETR, ours
from tests.peers.unets import same_random_weights

pytestmark = pytest.mark.slow  # importing transformers takes seconds
CLASSES, QUERIES = 10, 7


@torch.no_grad()
def test_answers():
    """In float64, for a batch of two photographs of different sizes."""
    models = ours(CLASSES, QUERIES, **TINY), TransformersDETR(CLASSES, QUERIES, **TINY)
    same_random_weights(*models)
    images = [load_photograph("astronaut", (96, 128)).double(), load_photograph("coffee", (64, 80)).double()]
    images, mask = pad_images(images)
    model, theirs = (model.double().eval() for model in models)
    for given in ((images, mask), (images, None)):
        found, wanted = model(*given), theirs(*given)
        assert torch.allclose(found["pred_logits"], wanted.logits, rtol=0, atol=1e-4)
        assert torch.allclose(found["pred_boxes"], wanted.pred_boxes, rtol=0, atol=1e-4)
        assert found["pred_logits"].std() > 0.01  # not a constant that anything would equal


def boxes(n, draw):
    size = 0.1 + 0.3 * torch.rand(n, 2, generator=draw, dtype=torch.float64)
    return torch.cat([size / 2 + (1 - size) * torch.rand(n, 2, generator=draw, dtype=torch.float64), size], dim=1)


def scene(seed):
    draw = torch.Generator().manual_seed(seed)
    return [{"labels": torch.randint(CLASSES, (n,), generator=draw), "boxes": boxes(n, draw)} for n in (3, 5)]


@pytest.mark.parametrize("seed", range(5))
def test_losses_and_their_gradients(seed):
    from transformers import DetrConfig
    from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

    draw, targets = torch.Generator().manual_seed(200 + seed), scene(seed)
    logits = torch.randn(2, 2, QUERIES, CLASSES + 1, generator=draw, requires_grad=True)  # of two layers
    predicted = torch.stack([boxes(QUERIES, draw) for _ in range(4)]).unflatten(0, (2, 2)).float().requires_grad_()
    layers = [{"pred_logits": logits[i], "pred_boxes": predicted[i]} for i in range(2)]
    targets = [{"labels": target["labels"], "boxes": target["boxes"].float()} for target in targets]
    criterion = SetCriterion(CLASSES)
    losses = criterion({**layers[1], "aux_outputs": layers[:1]}, targets)

    config = DetrConfig(num_labels=CLASSES, auxiliary_loss=True)
    labels = [{"class_labels": target["labels"], "boxes": target["boxes"]} for target in targets]
    loss, wanted, _ = ForObjectDetectionLoss(logits[1], labels, "cpu", predicted[1], config, logits, predicted)
    compared = [name for name in wanted if name.startswith("loss_")]
    assert len(compared) == 6
    for name in compared:
        assert losses[name].item() == pytest.approx(wanted[name].item(), rel=1e-5), name
    total = criterion.total(losses)
    assert total.item() == pytest.approx(loss.item(), rel=1e-5)
    for mine, other in zip(*(torch.autograd.grad(value, (logits, predicted)) for value in (total, loss)), strict=True):
        assert mine.abs().max() > 0 and torch.allclose(mine, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_matches_on_random_batches(seed):
    from transformers.loss.loss_for_object_detection import HungarianMatcher as TheirMatcher

    draw, targets = torch.Generator().manual_seed(100 + seed), scene(seed)
    logits = torch.randn(2, QUERIES, CLASSES + 1, generator=draw, dtype=torch.float64)
    predicted = torch.stack([boxes(QUERIES, draw), boxes(QUERIES, draw)])
    found = HungarianMatcher()({"pred_logits": logits, "pred_boxes": predicted}, targets)
    wanted = TheirMatcher(class_cost=1, bbox_cost=5, giou_cost=2)(
        {"logits": logits, "pred_boxes": predicted},
        [{"class_labels": target["labels"], "boxes": target["boxes"]} for target in targets],
    )
    for mine, other in zip(found, wanted, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))
