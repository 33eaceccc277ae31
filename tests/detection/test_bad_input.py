"""Whatever stands where something else belongs ends in an error that names the argument."""

import pytest
import torch

from lib.attention import Attention, attention
from lib.detection import (
    DETR,
    HungarianMatcher,
    PositionEmbeddingLearned,
    PositionEmbeddingSine,
    ResNet,
    SetCriterion,
    SmallBackbone,
    Transformer,
    TwoStageDETR,
    box_cxcywh_to_xyxy,
    box_iou,
    box_xyxy_to_cxcywh,
    generalized_box_iou,
    pad_images,
    postprocess,
)
from lib.detection.backbone import Backbone, Bottleneck, FrozenBatchNorm2d, resize_mask
from lib.detection.boxes import box_area, generalized_iou
from lib.detection.detr import BoxHead, box_offsets
from lib.detection.digits import digit_detr
from lib.detection.transformer import MultiheadAttention, TransformerDecoderLayer, TransformerEncoderLayer
from tests.bad_input import unclear

BOXES = torch.tensor([[0.2, 0.2, 0.4, 0.4], [0.1, 0.3, 0.5, 0.6]])
MASK = torch.zeros(1, 4, 4, dtype=torch.bool)
TOKENS, FEATURES = torch.zeros(1, 3, 8), torch.zeros(1, 8, 4, 4)
OUTPUTS = {"pred_logits": torch.zeros(1, 5, 4), "pred_boxes": torch.full((1, 5, 4), 0.5)}
TARGETS = [{"labels": torch.tensor([1]), "boxes": torch.full((1, 4), 0.5)}]
SIZES = {"num_classes": 3, "num_queries": 5}
ATTENTION = {"dim": 8, "num_heads": 2}
LAYER = {**ATTENTION, "dim_feedforward": 16, "dropout": 0.1}
MIXING = {"q": torch.zeros(1, 3, 8), "k": torch.zeros(1, 4, 8), "v": torch.zeros(1, 4, 8)}
DECODING = {"x": TOKENS, "query_pos": TOKENS, "memory": TOKENS, "pos": TOKENS}
SOUGHT = {"features": FEATURES, "mask": MASK, "query_embed": torch.zeros(5, 8), "pos": FEATURES}


def transformer():
    return Transformer(8, 2, 1, 1, 16)


def detr(kind=DETR):
    return kind(SmallBackbone(1, (4, 8)), transformer(), **SIZES).eval()


BOOLEAN = ("mask: yes and no", "mask: -1")  # still masks: of what is above 0, and of everything


def nowhere(*names):
    """What may be left out, or is looked at nowhere."""
    return tuple(f"{name}: None" for name in names)


CALLS = {
    "attention": (attention, MIXING, ()),
    "attention's mask": (lambda mask: attention(*MIXING.values(), mask), {"mask": torch.zeros(3, 4)}, nowhere("mask")),
    "Attention": (Attention, {**ATTENTION, "qkv_bias": True}, ()),
    "Attention.forward": (Attention(8, 2), {"x": TOKENS}, ()),
    "Attention.weights": (Attention(8, 2).weights, {"x": TOKENS}, ()),
    "boxes to corners": (box_cxcywh_to_xyxy, {"boxes": BOXES}, ()),
    "corners to boxes": (box_xyxy_to_cxcywh, {"boxes": BOXES}, ()),
    "box_area": (box_area, {"boxes": BOXES}, ()),
    "box_iou": (box_iou, {"a": BOXES, "b": BOXES}, ()),
    "generalized_box_iou": (generalized_box_iou, {"a": BOXES, "b": BOXES}, ()),
    "generalized_iou": (generalized_iou, {"a": BOXES, "b": BOXES}, ()),
    "FrozenBatchNorm2d": (FrozenBatchNorm2d, {"channels": 4}, ()),
    "FrozenBatchNorm2d.forward": (FrozenBatchNorm2d(8), {"x": FEATURES}, ()),
    "Bottleneck": (Bottleneck, {"channels": 4, "width": 2, "stride": 1}, ()),
    "Bottleneck.forward": (Bottleneck(8, 2), {"x": FEATURES}, ()),
    "ResNet": (ResNet, {"depths": (1, 1, 1, 1)}, ()),
    "ResNet.forward": (ResNet((1, 1, 1, 1)), {"x": torch.zeros(1, 3, 32, 32)}, ()),
    "SmallBackbone": (SmallBackbone, {"in_chans": 1, "widths": (4, 8)}, ()),
    "SmallBackbone.forward": (SmallBackbone(8, (4,)).eval(), {"x": FEATURES}, ()),
    "Backbone": (Backbone, {"body": SmallBackbone(1, (4,))}, ()),
    "Backbone.forward": (
        Backbone(SmallBackbone(1, (4,)).eval()),
        {"images": torch.zeros(1, 1, 8, 8), "mask": torch.zeros(1, 8, 8, dtype=torch.bool)},
        BOOLEAN,
    ),
    "resize_mask": (resize_mask, {"mask": MASK, "size": (2, 2)}, BOOLEAN),
    "pad_images": (pad_images, {"images": [torch.zeros(1, 4, 4)]}, ()),
    "PositionEmbeddingSine": (
        PositionEmbeddingSine,
        {"num_pos_feats": 4, "temperature": 10.0, "normalize": True, "scale": 1.0},
        (),
    ),
    "PositionEmbeddingSine.forward": (PositionEmbeddingSine(4), {"mask": MASK}, BOOLEAN),
    "PositionEmbeddingLearned": (PositionEmbeddingLearned, {"num_pos_feats": 4}, ()),
    "PositionEmbeddingLearned.forward": (PositionEmbeddingLearned(4), {"mask": MASK}, BOOLEAN),
    "MultiheadAttention": (MultiheadAttention, {**ATTENTION, "dropout": 0.1}, ()),
    "MultiheadAttention.forward": (
        MultiheadAttention(8, 2),
        {**MIXING, "padding": torch.zeros(1, 4, dtype=torch.bool)},
        ("padding: None", "padding: yes and no", "padding: -1"),
    ),
    "MultiheadAttention.weights": (MultiheadAttention(8, 2).weights, {name: MIXING[name] for name in "qk"}, ()),
    "TransformerEncoderLayer": (TransformerEncoderLayer, LAYER, ()),
    "TransformerEncoderLayer.forward": (
        lambda x, pos: TransformerEncoderLayer(*LAYER.values())(x, pos, None),
        {"x": TOKENS, "pos": TOKENS},
        (),
    ),
    "TransformerDecoderLayer": (TransformerDecoderLayer, LAYER, ()),
    "TransformerDecoderLayer.forward": (
        lambda **tokens: TransformerDecoderLayer(*LAYER.values())(**tokens, padding=None),
        DECODING,
        (),
    ),
    "Transformer": (
        Transformer,
        {"d_model": 8, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 8}
        | {"dropout": 0.1},
        (),
    ),
    "TransformerDecoderLayer.weights": (
        lambda **tokens: TransformerDecoderLayer(*LAYER.values()).weights(**tokens, padding=None),
        DECODING,
        (),
    ),
    "TransformerDecoder": (
        lambda query_pos, start: transformer().decoder(query_pos, TOKENS, TOKENS, None, start=start),
        {"query_pos": TOKENS, "start": TOKENS},
        nowhere("start"),
    ),
    "TransformerDecoder.weights": (
        lambda query_pos, start: transformer().decoder.weights(query_pos, TOKENS, TOKENS, None, start=start),
        {"query_pos": TOKENS, "start": TOKENS},
        nowhere("start"),
    ),
    "Transformer.encode": (
        transformer().encode,
        {"features": FEATURES, "mask": MASK, "pos": FEATURES},
        (*nowhere("mask"), *BOOLEAN),
    ),
    "Transformer.forward": (transformer(), SOUGHT, (*nowhere("mask"), *BOOLEAN)),
    "Transformer.weights": (transformer().weights, SOUGHT, (*nowhere("mask"), *BOOLEAN)),
    "BoxHead": (BoxHead, {"dim": 2, "hidden_dim": 2, "out_dim": 2, "depth": 2}, ()),
    "BoxHead.forward": (BoxHead(8, 8, 4, 2), {"x": TOKENS}, ()),
    "DETR": (
        DETR,
        {**SIZES, "body": SmallBackbone(1, (4,)), "transformer": transformer(), "position": PositionEmbeddingSine(4)},
        nowhere("position"),
    ),
    "TwoStageDETR": (
        lambda **settings: TwoStageDETR(SmallBackbone(1, (4,)), transformer(), **settings),
        {**SIZES, "anchor_size": 0.3},
        (),
    ),
    "digit_detr": (digit_detr, {"num_queries": 5}, ()),
    "box_offsets": (lambda tokens: box_offsets(BoxHead(8, 8, 4, 2), tokens), {"tokens": TOKENS}, ()),
    "TwoStageDETR.anchors": (detr(TwoStageDETR).anchors, {"mask": MASK}, BOOLEAN),
    "postprocess": (
        postprocess,
        {"outputs": OUTPUTS, "sizes": torch.tensor([[64, 64]]), "threshold": 0.5},
        ("sizes: fractions", "threshold: -1"),
    ),
    "HungarianMatcher": (HungarianMatcher, {"cost_class": 1.0, "cost_bbox": 5.0, "cost_giou": 2.0}, ()),
    "HungarianMatcher.forward": (HungarianMatcher(), {"outputs": OUTPUTS, "targets": TARGETS}, ()),
    "HungarianMatcher.of_layers": (HungarianMatcher().of_layers, {"layers": [OUTPUTS], "targets": TARGETS}, ()),
    "HungarianMatcher.cost": (HungarianMatcher().cost, {"outputs": OUTPUTS, "targets": TARGETS}, ()),
    "HungarianMatcher.assign": (HungarianMatcher().assign, {"cost": torch.zeros(3, 2)}, ()),
    "SetCriterion": (
        SetCriterion,
        {"num_classes": 3, "matcher": HungarianMatcher(), "weights": {"loss_ce": 1.0}, "eos_coef": 0.1},
        nowhere("matcher", "weights"),
    ),
    "SetCriterion.forward": (SetCriterion(3), {"outputs": OUTPUTS, "targets": TARGETS}, ()),
    "SetCriterion.total": (
        SetCriterion(3, weights={"loss_ce": 1.0}).total,
        {"losses": {"loss_ce": torch.zeros(())}},
        (),
    ),
}
for kind in (DETR, TwoStageDETR):
    for call in ("__call__", "attention_maps"):
        CALLS[f"{kind.__name__}.{call}"] = (
            getattr(detr(kind), call),
            {"images": torch.zeros(1, 1, 16, 16), "mask": torch.zeros(1, 16, 16, dtype=torch.bool)},
            (*nowhere("mask"), *BOOLEAN),
        )


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_named(name):
    assert unclear(*CALLS[name]) == []


def spoiled(key, **changes):
    """One of the outputs or of the targets, changed."""
    given = {"outputs": OUTPUTS, "targets": TARGETS}
    return {**given, key: {**OUTPUTS, **changes} if key == "outputs" else [{**TARGETS[0], **changes}]}


@pytest.mark.parametrize(
    "given, message",
    [
        (
            spoiled("outputs", pred_logits=torch.zeros(1, 5, 93)),
            r"outputs must have num_classes \+ 1 = 4 scores, got 93",
        ),
        (
            spoiled("outputs", pred_logits=torch.zeros(1, 5, 4).long()),
            "pred_logits of outputs must be a floating-point",
        ),
        (
            spoiled("outputs", pred_boxes=torch.zeros(1, 4, 4)),
            r"got pred_logits \(1, 5, 4\) and pred_boxes \(1, 4, 4\)",
        ),
        (
            spoiled("outputs", pred_boxes=torch.full((1, 5, 4), -0.5)),
            "pred_boxes of outputs must have no negative width",
        ),
        (
            spoiled("outputs", aux_outputs=[{}]),
            r"outputs of layers\[1\] must be a dictionary with pred_logits and pred_boxes",
        ),
        (spoiled("targets", labels=None), r"targets\[0\] must have integer labels \(T,\) and boxes \(T, 4\)"),
        (spoiled("targets", boxes=torch.ones(1, 4).long()), r"targets\[0\] must have boxes of floating point"),
        (spoiled("targets", labels=torch.tensor([True])), r"targets\[0\] must have integer labels"),
    ],
)
def test_parts_of_outputs_and_targets_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        SetCriterion(3)(**given)


@pytest.mark.parametrize("bad", [None, "word", 3, OUTPUTS])
def test_earlier_layers_must_be_a_list(bad):
    with pytest.raises(ValueError, match=r"^aux_outputs must be a list of outputs, got"):
        SetCriterion(3)(**spoiled("outputs", aux_outputs=bad))


@pytest.mark.parametrize("bad", [{}, {"loss_ce": torch.zeros(())}, {"lost": torch.zeros(())}])
def test_losses_must_be_all_of_them(bad):
    with pytest.raises(ValueError, match="losses must be a dictionary as the criterion gives it, got"):
        SetCriterion(3).total(bad)


@pytest.mark.parametrize("bad", [None, "word", 1.0, torch.tensor(1)])
def test_each_loss_must_be_a_number(bad):
    with pytest.raises(ValueError, match="losses: loss_giou must be a floating-point tensor, got"):
        SetCriterion(3).total({"loss_ce": torch.zeros(()), "loss_bbox": torch.zeros(()), "loss_giou": bad})


def test_no_images_are_refused():
    with pytest.raises(ValueError, match=r"outputs must have pred_logits .* got pred_logits \(0, 5, 4\)"):
        SetCriterion(3)({name: value[:0] for name, value in OUTPUTS.items()}, [])


def test_weights_are_those_of_losses_there_are():
    with pytest.raises(ValueError, match="weights must be one of loss_ce, loss_bbox, loss_giou, got 'ce'"):
        SetCriterion(3, weights={"ce": 1.0})
    with pytest.raises(ValueError, match="weights must not all be 0"):
        SetCriterion(3, weights={"loss_ce": 0.0})


def test_a_list_of_images_brings_its_own_mask():
    with pytest.raises(ValueError, match="mask must be None where images are a list"):
        detr()([torch.zeros(1, 16, 16)], torch.zeros(1, 16, 16, dtype=torch.bool))


@pytest.mark.parametrize("mask", [torch.ones(3, 3, dtype=torch.bool), torch.ones(3, 3).long()])
def test_masks_that_are_not_added_are_refused(mask):
    for call in (Attention(8, 2), Attention(8, 2).weights):
        with pytest.raises(ValueError, match="mask must be floating point"):
            call(TOKENS, mask)
