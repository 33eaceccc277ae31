"""DETR: the release's numbers and names, padding, and what must hold whatever the weights are."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lib.detection import (
    DETR,
    PositionEmbeddingLearned,
    PositionEmbeddingSine,
    ResNet,
    SetCriterion,
    SmallBackbone,
    Transformer,
    TwoStageDETR,
    detr_resnet50,
    pad_images,
    postprocess,
)
from lib.detection.backbone import Bottleneck, resize_mask
from lib.detection.digits import digit_detr
from lib.detection.transformer import MultiheadAttention, TransformerDecoderLayer, TransformerEncoderLayer

REFERENCE = Path(__file__).parents[1] / "reference"


def stored(name):
    found = np.load(REFERENCE / f"{name}.npz")
    return {key: torch.tensor(found[key]) for key in found if not key.startswith("_")}


PARTS = stored("detr_parts")


class Given(nn.Module):
    """Stands for a backbone whose features are given."""

    num_channels = 24

    def forward(self, x):
        return x


def reference(dtype):
    """The model of the reference, and what the file holds."""
    found = load_file(REFERENCE / "detr.safetensors")
    model = DETR(Given(), Transformer(32, 4, 2, 2, 64), num_classes=6, num_queries=5)
    model.load_state_dict({key[3:]: value for key, value in found.items() if key.startswith("sd.")}, strict=True)
    return model.to(dtype).eval(), found


def tiny(seed=0, **changes):
    torch.manual_seed(seed)
    arguments = {"num_classes": 10, "num_queries": 7, **changes}
    return DETR(SmallBackbone(1, (8, 16)), Transformer(32, 4, 1, 2, 64, dropout=0.0), **arguments)


def close(found, wanted, tolerance):
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype, kind, tolerance", [(torch.float32, "out", 1e-5), (torch.float64, "out64", 1e-6)])
@torch.no_grad()
def test_outputs_are_those_of_the_release(dtype, kind, tolerance):
    model, found = reference(dtype)
    given = found["in.features"].to(dtype), found["in.mask"]
    outputs = model(*given)
    earlier = outputs["aux_outputs"][0]
    for what in ("logits", "boxes"):
        assert close(outputs[f"pred_{what}"], found[f"{kind}.pred_{what}"], tolerance)
        assert close(earlier[f"pred_{what}"], found[f"{kind}.aux0_{what}"], tolerance)
    features, mask, pos = model.image_features(*given)
    answers, memory = model.transformer(features, mask, model.query_embed.weight, pos)
    assert close(answers, found[f"{kind}.hs"], tolerance)
    seen = ~found["in.mask"][:, None]  # what the encoder makes of padding means nothing
    assert close(memory * seen, found[f"{kind}.memory"] * seen, tolerance)
    assert close(model.backbone[1](found["in.mask"]), found["out.pos"], 1e-6)


def test_bottlenecks_are_those_of_torchvision():
    found = load_file(REFERENCE / "detr_bottleneck_frozenbn.safetensors")
    blocks = nn.Sequential(Bottleneck(32, 16, stride=2), Bottleneck(64, 16))
    blocks.load_state_dict({key[3:]: value for key, value in found.items() if key.startswith("sd.")}, strict=True)
    assert close(blocks(found["in.x"]), found["out.y"], 1e-5)
    assert close(blocks.double()(found["in.x"].double()), found["out64.y"], 1e-9)


@pytest.mark.parametrize("name, normalize", [("sine_norm", True), ("sine_raw", False)])
def test_sine_code_is_that_of_the_release(name, normalize):
    assert close(PositionEmbeddingSine(6, normalize=normalize)(PARTS["mask"]), PARTS[name], 1e-6)


def test_sine_code_follows_its_formula():
    mask = torch.zeros(1, 3, 5, dtype=torch.bool)
    found = PositionEmbeddingSine(8)(mask)[0]
    for row, column, channel in ((0, 0, 0), (2, 4, 3), (1, 3, 6), (1, 3, 9), (2, 0, 15)):
        place = (row + 1) / 3 if channel < 8 else (column + 1) / 5
        i = channel % 8
        angle = 2 * math.pi * place / 10000 ** (2 * (i // 2) / 8)
        wanted = math.sin(angle) if i % 2 == 0 else math.cos(angle)
        assert found[channel, row, column].item() == pytest.approx(wanted, abs=1e-5)


def test_learned_code_is_that_of_the_release():
    learned = PositionEmbeddingLearned(4)
    learned.load_state_dict({f"{name}_embed.weight": PARTS[f"learned_{name}"] for name in ("row", "col")})
    assert close(learned(PARTS["mask"]), PARTS["learned"], 0)
    with pytest.raises(ValueError, match="mask must have at most 50 rows and columns, got 51 and 2"):
        learned(torch.zeros(1, 51, 2, dtype=torch.bool))


def test_padding_and_masks_are_those_of_the_release():
    mask = PARTS["pad_mask"]
    images = [image[:, ~hidden.all(1)][:, :, ~hidden.all(0)] for image, hidden in zip(PARTS["pad_tensor"], mask)]
    padded, found = pad_images(images)
    assert torch.equal(padded, PARTS["pad_tensor"]) and torch.equal(found, mask)
    assert torch.equal(resize_mask(PARTS["mask_full"], (2, 2)), PARTS["mask_small"])


def test_found_objects_are_those_of_the_release():
    given = stored("detr_loss")
    sizes = torch.tensor([[480, 640], [333, 500], [64, 64]])
    outputs = {"pred_logits": given["pred_logits"], "pred_boxes": given["pred_boxes"]}
    for i, image in enumerate(postprocess(outputs, sizes)):
        assert close(image["scores"], given[f"post{i}_scores"], 1e-6)
        assert torch.equal(image["labels"], given[f"post{i}_labels"])
        height, width = sizes[i].tolist()
        scale = torch.tensor([width, height, width, height])
        cx, cy, w, h = outputs["pred_boxes"][i].unbind(1)
        corners = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=1)
        assert close(image["boxes"] / scale, corners, 1e-6)
    kept = postprocess(outputs, sizes, threshold=0.5)[0]
    assert len(kept["scores"]) == (given["post0_scores"] >= 0.5).sum() and (kept["scores"] >= 0.5).all()


def published():
    """Names and shapes of DETR-R50's weights, as the release has them."""

    def norm(width):
        return {f".{name}": (width,) for name in ("weight", "bias", "running_mean", "running_var")}

    def linear(out, into):
        return {".weight": (out, into), ".bias": (out,)}

    def attention(name):
        return {f"{name}.in_proj_weight": (768, 256), f"{name}.in_proj_bias": (768,)} | {
            f"{name}.out_proj{key}": shape for key, shape in linear(256, 256).items()
        }

    def under(name, shapes):
        return {f"{name}{key}": shape for key, shape in shapes.items()}

    keys = under("class_embed", linear(92, 256)) | {"query_embed.weight": (100, 256)}
    keys |= {"input_proj.weight": (256, 2048, 1, 1), "input_proj.bias": (256,)}
    for i, out in enumerate((256, 256, 4)):
        keys |= under(f"bbox_embed.layers.{i}", linear(out, 256))
    for part, norms, attentions in (("encoder", 2, ["self_attn"]), ("decoder", 3, ["self_attn", "multihead_attn"])):
        for i in range(6):
            layer = under(".linear1", linear(2048, 256)) | under(".linear2", linear(256, 2048))
            for name in attentions:
                layer |= attention(f".{name}")
            for n in range(1, norms + 1):
                layer |= {f".norm{n}.weight": (256,), f".norm{n}.bias": (256,)}
            keys |= under(f"transformer.{part}.layers.{i}", layer)
    keys |= {"transformer.decoder.norm.weight": (256,), "transformer.decoder.norm.bias": (256,)}
    body = {"conv1.weight": (64, 3, 7, 7)} | under("bn1", norm(64))
    into = 64
    for stage, (depth, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for i in range(depth):
            block = {".conv1.weight": (width, into, 1, 1), ".conv2.weight": (width, width, 3, 3)}
            block |= {".conv3.weight": (4 * width, width, 1, 1)}
            block |= under(".bn1", norm(width)) | under(".bn2", norm(width)) | under(".bn3", norm(4 * width))
            if i == 0:
                block |= {".downsample.0.weight": (4 * width, into, 1, 1)} | under(".downsample.1", norm(4 * width))
            body |= under(f"layer{stage}.{i}", block)
            into = 4 * width
    return keys | under("backbone.0.body.", body)


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        model = detr_resnet50()
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == published()
    assert len(model.state_dict()) == 458
    assert sum(p.numel() for p in model.parameters()) == 41_524_768
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 41_302_368
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen and all(re.match(r"backbone\.0\.body\.(conv1|layer1)\.", name) for name in frozen)


@torch.no_grad()
def test_resnet50_runs_on_meta_images():
    with torch.device("meta"):
        outputs = detr_resnet50().eval()(torch.zeros(2, 3, 97, 130), torch.zeros(2, 97, 130, dtype=torch.bool))
    assert outputs["pred_logits"].shape == (2, 100, 92) and outputs["pred_boxes"].shape == (2, 100, 4)
    assert len(outputs["aux_outputs"]) == 5


def test_attention_is_that_of_pytorch():
    torch.manual_seed(0)
    ours, theirs = MultiheadAttention(24, 3).double(), nn.MultiheadAttention(24, 3, batch_first=True).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    q, k, v = torch.randn(2, 5, 24).double(), torch.randn(2, 7, 24).double(), torch.randn(2, 7, 24).double()
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 4:] = True
    for given in (None, padding):
        wanted, weights = theirs(q, k, v, key_padding_mask=given, average_attn_weights=False)
        assert close(ours(q, k, v, given), wanted, 1e-12) and close(ours.weights(q, k, given), weights, 1e-12)


@torch.no_grad()
def test_padding_changes_nothing():
    """An image alone gives what it gives in a batch with larger ones, up to what the convolutions see of the zeros."""
    model = DETR(Given(), Transformer(32, 4, 2, 2, 64, dropout=0.0), 6, 5).double().eval()
    features = torch.randn(1, 24, 4, 5, dtype=torch.float64)
    alone = model(features)
    wide = torch.randn(1, 24, 6, 8, dtype=torch.float64)
    wide[:, :, :4, :5] = features
    mask = torch.ones(1, 6, 8, dtype=torch.bool)
    mask[:, :4, :5] = False
    padded = model(wide, mask)
    for name in ("pred_logits", "pred_boxes"):
        assert close(padded[name], alone[name], 1e-6)  # the position code is computed in float32
    maps = model.attention_maps(wide, mask)
    assert maps.shape == (2, 1, 4, 5, 6, 8) and (maps[..., mask[0]] == 0).all()
    assert close(maps.sum((4, 5)), torch.ones(2, 1, 4, 5, dtype=torch.float64), 1e-9)


@torch.no_grad()
def test_a_list_of_images_is_padded():
    model = tiny().eval()
    images = [torch.rand(1, 32, 40), torch.rand(1, 28, 24)]
    found, wanted = model(images), model(*pad_images(images))
    assert torch.equal(found["pred_logits"], wanted["pred_logits"])


def test_every_parameter_learns_and_eval_is_deterministic():
    model, criterion = tiny().train(), SetCriterion(10)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # biases that are 0 would hide what stands before them
            nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
    images = torch.rand(2, 1, 32, 32)
    targets = [{"labels": torch.tensor([3]), "boxes": torch.tensor([[0.5, 0.5, 0.3, 0.3]])}] * 2
    criterion.total(criterion(model(images), targets)).backward()
    # Answers start at 0, so the first layer's queries attend to equal values: only these weights see no gradient.
    idle = {name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0}
    assert idle <= {"transformer.decoder.layers.0.self_attn.in_proj_weight"}
    model.eval()
    with torch.no_grad():
        both = model(images)["pred_boxes"]
        assert torch.equal(both, model(images)["pred_boxes"])
        assert close(model(images[1:])["pred_boxes"], both[1:], 1e-5)


@pytest.mark.parametrize("kind", [DETR, TwoStageDETR])
@torch.no_grad()
def test_boxes_keep_their_precision_under_autocast(kind):
    """In bfloat16 coordinates near 1/2 would be multiples of 1/256."""
    torch.manual_seed(0)
    model, images = digit_detr(kind).eval(), torch.rand(2, 1, 64, 64)
    nn.init.normal_(model.bbox_embed.layers[-1].weight, std=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(images)
    for layer in (outputs, *outputs["aux_outputs"]):
        boxes = layer["pred_boxes"]
        assert boxes.dtype == torch.float32 and not torch.equal(boxes, boxes.bfloat16().float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [DETR, TwoStageDETR])
@torch.no_grad()
def test_whole_models_in_16_bits(kind, dtype):
    model, images = digit_detr(kind).to(dtype).eval(), torch.rand(2, 1, 64, 64).to(dtype)
    outputs = model(images)
    assert outputs["pred_boxes"].dtype == torch.float32 and outputs["pred_boxes"].isfinite().all()
    assert model.attention_maps(images).isfinite().all()
    assert model.backbone[1](torch.zeros(1, 4, 4, dtype=torch.bool)).dtype == torch.float32


@pytest.mark.parametrize("kind", [DETR, TwoStageDETR])
@torch.no_grad()
def test_an_image_of_padding_alone_stays_finite_and_changes_no_other(kind):
    torch.manual_seed(0)
    model, images = digit_detr(kind).eval(), torch.rand(2, 1, 64, 64)
    mask = torch.zeros(2, 64, 64, dtype=torch.bool)
    mask[0, :, 32:] = mask[1] = True
    outputs, maps = model(images, mask), model.attention_maps(images, mask)
    assert outputs["pred_boxes"].isfinite().all() and outputs["pred_logits"].isfinite().all()
    assert close(maps.sum((4, 5)), torch.ones(maps.shape[:4]), 1e-5)
    assert close(model(images[:1], mask[:1])["pred_boxes"], outputs["pred_boxes"][:1], 1e-5)


@pytest.mark.parametrize("kind", [DETR, TwoStageDETR])
@torch.no_grad()
def test_exports_for_any_number_of_images(kind):
    model, images = digit_detr(kind).eval(), torch.rand(4, 1, 64, 64)
    exported = torch.export.export(model, (images[:3],), dynamic_shapes={"images": {0: torch.export.Dim("B")}})
    assert close(exported.module()(images)["pred_boxes"], model(images)["pred_boxes"], 1e-5)


def test_runs_under_autocast_and_compiled():
    model = tiny().eval()
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        plain = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            assert close(model(images)["pred_boxes"].float(), plain["pred_boxes"], 0.05)
        compiled = torch.compile(model, fullgraph=True, backend="eager")(images)
    assert close(compiled["pred_logits"], plain["pred_logits"], 1e-5)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: tiny(num_queries=0), "num_queries must be an integer of at least 1, got 0"),
        (lambda: tiny(num_classes=2.5), "num_classes must be an integer of at least 1, got 2.5"),
        (lambda: Transformer(30, 4), "num_heads must divide dim, got num_heads=4 and dim=30"),
        (lambda: Transformer(dropout=1.0), r"dropout must lie in \[0, 1\), got 1.0"),
        (lambda: Transformer(num_decoder_layers=0), "num_decoder_layers must be an integer of at least 1"),
        (lambda: PositionEmbeddingSine(5), "num_pos_feats must be even"),
        (lambda: SmallBackbone(1, (8, 0)), "widths must be an integer of at least 1, got 0"),
        (lambda: pad_images([]), r"images must be \(C, H, W\) with one C, got shapes \[\]"),
        (lambda: pad_images([torch.zeros(1, 4, 4), torch.zeros(3, 4, 4)]), r"images must be \(C, H, W\) with one C"),
        (lambda: tiny()(torch.zeros(1, 8, 8)), r"images must be \(B, C, H, W\) with H and W"),
        (
            lambda: tiny()(torch.zeros(1, 1, 8, 8), torch.zeros(1, 4, 8).bool()),
            r"got \(1, 1, 8, 8\) and mask \(1, 4, 8\)",
        ),
        (
            lambda: PositionEmbeddingSine(4)(torch.zeros(1, 4, 4)),
            r"mask must be boolean \(B, H, W\) with H and W of at least 1, got torch.float32",
        ),
        (lambda: postprocess(tiny().eval()(torch.rand(2, 1, 8, 8)), torch.ones(2)), r"sizes must have shape \(2, 2\)"),
    ],
)
def test_bad_input_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


NO_SIDES = {
    "ResNet": ResNet((1, 1, 1, 1)),
    "SmallBackbone": SmallBackbone(3, (4, 8)).eval(),
    "Bottleneck": Bottleneck(3, 2),
    "DETR": digit_detr().eval(),
    "TwoStageDETR": digit_detr(TwoStageDETR).eval(),
    "DETR.attention_maps": digit_detr().eval().attention_maps,
    "PositionEmbeddingSine": lambda x: PositionEmbeddingSine(4)(x[:, 0].bool()),
    "PositionEmbeddingLearned": lambda x: PositionEmbeddingLearned(4)(x[:, 0].bool()),
    "resize_mask": lambda x: resize_mask(x[:, 0].bool(), (2, 2)),
    "Transformer": lambda x: Transformer(3, 1, 1, 1, 8)(x, None, torch.zeros(5, 3), x),
}


@pytest.mark.parametrize("sides", [(0, 8), (8, 0)])
@pytest.mark.parametrize("name", NO_SIDES)
def test_images_without_height_or_width_are_named(name, sides):
    with pytest.raises(ValueError, match=r"^(x|images|mask|features) must .* of at least 1, got"):
        NO_SIDES[name](torch.zeros(2, 1 if "DETR" in name else 3, *sides))


@pytest.mark.parametrize("kind", [DETR, TwoStageDETR])
def test_without_images_there_are_answers_of_none(kind):
    outputs = digit_detr(kind)(torch.zeros(0, 1, 64, 64))
    assert outputs["pred_logits"].shape == (0, 10, 11) and outputs["pred_boxes"].shape == (0, 10, 4)


@pytest.mark.parametrize(
    "padding", [torch.zeros(2, 6).bool(), torch.zeros(1, 7).bool(), torch.zeros(7).bool(), torch.zeros(2, 7), "word"]
)
def test_padding_must_be_that_of_the_keys(padding):
    attention, q, k = MultiheadAttention(8, 2), torch.zeros(2, 5, 8), torch.zeros(2, 7, 8)
    for call in (lambda: attention(q, k, k, padding), lambda: attention.weights(q, k, padding)):
        with pytest.raises(ValueError, match=r"padding must be boolean \(2, 7\), got"):
            call()


def test_keys_values_and_codes_of_places_must_fit():
    attention, q, k = MultiheadAttention(8, 2), torch.zeros(2, 5, 8), torch.zeros(2, 7, 8)
    for other in (k[:1], k[:, :6], k[:, :0]):
        with pytest.raises(ValueError, match="v must hold for 2 images as many tokens as k, one at least, got"):
            attention(q, k, other)
    for other in (k[:1], k[:, :0]):
        for call in (lambda x=other: attention(q, x, x), lambda x=other: attention.weights(q, x)):
            with pytest.raises(ValueError, match="k must hold for 2 images as many tokens as k, one at least, got"):
                call()
    encoder, decoder = (kind(8, 2, 16, 0.0) for kind in (TransformerEncoderLayer, TransformerDecoderLayer))
    for call, name in (
        (lambda: encoder(k, k[:1], None), "pos"),
        (lambda: decoder(q, q[:1], k, k, None), "query_pos"),
        (lambda: decoder(q, q, k, k[:, :1], None), "pos"),
        (lambda: decoder.weights(q, q, k, k[:1], None), "pos"),
    ):
        with pytest.raises(ValueError, match=f"^{name} must have the shape of"):
            call()


@pytest.mark.parametrize("key", ["pred_logits", "pred_boxes"])
def test_found_objects_must_be_finite(key):
    outputs = {"pred_logits": torch.zeros(1, 5, 4), "pred_boxes": torch.full((1, 5, 4), 0.5)}
    outputs[key][0, 2, 1] = torch.nan
    with pytest.raises(ValueError, match=f"{key} of outputs must be finite"):
        postprocess(outputs, torch.tensor([[8, 8]]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int32, torch.float32])
def test_sizes_may_be_numbers_of_any_type(dtype):
    outputs = {"pred_logits": torch.randn(1, 3, 5), "pred_boxes": torch.rand(1, 3, 4)}
    (wanted,), (found,) = (postprocess(outputs, torch.tensor([[48, 64]]).to(kind)) for kind in (torch.int64, dtype))
    assert torch.equal(found["boxes"], wanted["boxes"])


def test_found_boxes_have_no_negative_size():
    outputs = {"pred_logits": torch.randn(1, 1, 5), "pred_boxes": torch.tensor([[[0.5, 0.5, -0.1, 0.2]]])}
    with pytest.raises(ValueError, match="pred_boxes of outputs must have no negative width or height, got -0"):
        postprocess(outputs, torch.tensor([[48, 64]]))


@pytest.mark.parametrize("kind", [DETR, TwoStageDETR])
def test_images_are_cast_at_the_door(kind):
    body, transformer = SmallBackbone(1, (8, 16)), Transformer(16, 2, 1, 2, 32)
    model = kind(body, transformer, 4, 3).bfloat16().eval()
    outputs = model(torch.rand(1, 1, 16, 16))
    assert outputs["pred_logits"].dtype == torch.bfloat16 and outputs["pred_boxes"].dtype == torch.float32
