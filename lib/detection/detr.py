r"""DETR: an image goes in, a set of boxes comes out, all at once.

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020 (arXiv:2005.12872), section 3.2. Parameter
names are those of the authors' release. Boxes are centre, width and height, in units of the image, from 0 to 1.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import INTEGERS, check_count, check_finite, check_floats, check_number, described, upcast
from lib.detection.backbone import Backbone, ResNet, pad_images
from lib.detection.boxes import box_cxcywh_to_xyxy, check_centred
from lib.detection.matching import check_outputs
from lib.detection.position import PositionEmbeddingSine, check_mask
from lib.detection.transformer import Transformer


class BoxHead(nn.Module):
    """Linear layers with ReLU between them: tokens (..., dim) to (..., out_dim)."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int, depth: int):
        super().__init__()
        check_count(dim=dim, hidden_dim=hidden_dim, out_dim=out_dim, depth=depth)
        widths = [dim, *[hidden_dim] * (depth - 1), out_dim]
        self.layers = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """The last layer's output, without ReLU."""
        *hidden, last = self.layers
        if check_floats("x", x).shape[-1:] != (self.layers[0].in_features,):
            raise ValueError(f"x must have shape (..., {self.layers[0].in_features}), got {tuple(x.shape)}")
        for layer in hidden:
            x = F.relu(layer(x))
        return last(x)


def box_offsets(head: BoxHead, tokens: Tensor) -> Tensor:
    """What `head` says of tokens (..., dim), before the sigmoid that makes it boxes: (..., 4), in float32 or wider.

    Autocast is left here: in bfloat16 a coordinate near 1/2 moves in steps of 1/256, a quarter of a pixel in 64.
    """
    device = check_floats("tokens", tokens).device.type
    autocast = torch.amp.is_autocast_available(device)  # the meta device has none
    with torch.autocast(device, enabled=False) if autocast else nullcontext():
        return upcast(head(tokens.to(head.layers[0].weight.dtype)))


class DETR(nn.Module):
    """Backbone, transformer and two heads (figure 2).

    Args:
        body: maps images to features and knows its `num_channels`: `ResNet()`, or `SmallBackbone()` for minutes.
        transformer: reads the features.
        num_classes: classes of objects; one more score is given, the last, for "no object".
        num_queries: most objects that can be found in an image, Q.
        position: maps masks (B, h, w) to codes (B, d, h, w); by default the sine code.

    Raises:
        ValueError: for an argument out of range, and for images and masks that do not fit.
    """

    def __init__(
        self,
        body: nn.Module,
        transformer: Transformer,
        num_classes: int,
        num_queries: int = 100,
        position: nn.Module | None = None,
    ):
        super().__init__()
        check_count(num_classes=num_classes, num_queries=num_queries)
        if not isinstance(transformer, Transformer):
            raise ValueError(f"transformer must be a Transformer, got {described(transformer)}")
        if position is not None and not isinstance(position, nn.Module):
            raise ValueError(f"position must be a module, got {described(position)}")
        backbone = Backbone(body)
        dim = transformer.d_model
        self.num_queries, self.num_classes = num_queries, num_classes
        self.transformer = transformer
        self.class_embed = nn.Linear(dim, num_classes + 1)
        self.bbox_embed = BoxHead(dim, dim, 4, depth=3)
        self.query_embed = nn.Embedding(num_queries, dim)
        self.input_proj = nn.Conv2d(body.num_channels, dim, kernel_size=1)
        self.backbone = nn.Sequential(backbone, PositionEmbeddingSine(dim // 2) if position is None else position)

    def forward(self, images: Tensor | Sequence[Tensor], mask: Tensor | None = None) -> dict:
        """What the last decoder layer finds, and under "aux_outputs" what each layer before it finds.

        Args:
            images: (B, C, H, W), or a list of images (C, H, W) of different sizes, which are padded.
            mask: (B, H, W), True where an image was padded; None where none was.

        Returns:
            "pred_logits" (B, Q, num_classes + 1), "pred_boxes" (B, Q, 4) in [0, 1], relative to the image without its
            padding and float32 also under autocast, and "aux_outputs", a list of the same two for each earlier layer.
        """
        features, mask, pos = self.image_features(images, mask)
        answers, _ = self.transformer(features, mask, self.query_embed.weight, pos)
        boxes = box_offsets(self.bbox_embed, answers).sigmoid()
        outputs = [
            {"pred_logits": logits, "pred_boxes": boxes}
            for logits, boxes in zip(self.class_embed(answers), boxes, strict=True)
        ]
        return {**outputs[-1], "aux_outputs": outputs[:-1]}

    def attention_maps(self, images: Tensor | Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """How much each query takes from each place: (layers, B, heads, Q, h, w), for the arguments of `forward`."""
        features, mask, pos = self.image_features(images, mask)
        return self.transformer.weights(features, mask, self.query_embed.weight, pos)

    def image_features(self, images: Tensor | Sequence[Tensor], mask: Tensor | None = None) -> tuple:
        """What the transformer reads: features (B, d, h, w), their mask (B, h, w) or None, and the places' codes."""
        if not isinstance(images, Tensor):
            if mask is not None:
                raise ValueError("mask must be None where images are a list, whose padding is known")
            images, mask = pad_images(images)
        padded = mask is not None
        if check_floats("images", images).ndim != 4 or 0 in images.shape[2:]:
            raise ValueError(f"images must be (B, C, H, W) with H and W of at least 1, got {tuple(images.shape)}")
        if mask is None:
            mask = torch.zeros(images.shape[0], *images.shape[2:], dtype=torch.bool, device=images.device)
        if check_mask(mask).shape != (images.shape[0], *images.shape[2:]):
            got = f"{tuple(images.shape)} and mask {tuple(mask.shape)}"
            raise ValueError(f"images must be (B, C, H, W) and their mask (B, H, W), got {got}")
        backbone, position = self.backbone
        features, mask = backbone(images, mask)
        return self.input_proj(features), mask if padded else None, position(mask)


def detr_resnet50(num_classes: int = 91) -> DETR:
    """DETR-R50 as published for COCO, 41,524,768 parameters; its ids run from 0 to 90, so 92 scores.

    The backbone's first convolution and first stage stay as they are while training, as in the release.
    """
    body = ResNet()
    body.conv1.requires_grad_(False)
    body.layer1.requires_grad_(False)
    return DETR(body, Transformer(), num_classes)


@torch.no_grad()
def postprocess(outputs: dict, sizes: Tensor, threshold: float = 0.0) -> list[dict[str, Tensor]]:
    """What was found in each image: "scores" (n,), "labels" (n,) and "boxes" (n, 4), corners in pixels.

    Nothing is suppressed: a query answers with its most probable class other than "no object".

    Args:
        outputs: of `DETR`.
        sizes: height and width of each image without padding (B, 2).
        threshold: leave out what is less probable.

    Raises:
        ValueError: for outputs, sizes or a threshold of another kind or shape, outputs that are not finite, and sizes
            of images or boxes below 0.
    """
    logits, boxes = upcast(check_outputs("outputs", outputs)), upcast(outputs["pred_boxes"])
    check_finite("pred_logits of outputs", logits)
    check_centred("pred_boxes of outputs", boxes)
    check_number(threshold=threshold)
    numbers = isinstance(sizes, Tensor) and (sizes.is_floating_point() or sizes.dtype in INTEGERS)
    if not numbers or sizes.shape != (len(logits), 2):
        raise ValueError(f"sizes must have shape {(len(logits), 2)}, got {described(sizes)}")
    sizes = sizes.to(boxes)
    check_finite("sizes", sizes, 0)
    scores, labels = logits.softmax(-1)[..., :-1].max(-1)
    height, width = sizes.unbind(1)
    boxes = box_cxcywh_to_xyxy(boxes) * torch.stack([width, height, width, height], dim=1)[:, None]
    keep = scores >= threshold
    return [
        {"scores": scores[i, keep[i]], "labels": labels[i, keep[i]], "boxes": boxes[i, keep[i]]}
        for i in range(len(scores))
    ]
