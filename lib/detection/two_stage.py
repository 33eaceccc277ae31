r"""DETR whose queries come from the image: every place of the encoder proposes a box, and the best become queries.

Zhu et al., "Deformable DETR", ICLR 2021 (arXiv:2010.04159), section 4.2 and appendix A.4: their two stages, with the
attention and the losses of plain DETR. A learned query has to find out where to look, and as long as it has not, it is
matched now with this object, now with that. Here a query begins at an object.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lib.checks import is_number
from lib.detection.detr import DETR, BoxHead, box_offsets
from lib.detection.position import check_mask


class Proposals(NamedTuple):
    """What the first stage finds in B images with S = h * w places, and its best Q.

    all: "pred_logits" (B, S, num_classes + 1) and "pred_boxes" (B, S, 4).
    tokens: of the best (B, Q, d), where their answers begin.
    places: codes of the best (B, Q, d), which the decoder's attention compares with those of the map.
    boxes: of the best (B, Q, 4), which their answers move and stretch; no gradient passes here.
    """

    all: dict[str, Tensor]
    tokens: Tensor
    places: Tensor
    boxes: Tensor


class TwoStageDETR(DETR):
    """`DETR` with proposals of the encoder in place of learned queries.

    Args:
        args, kwargs: as `DETR`'s.
        anchor_size: width and height of the box that every place starts from, in units of the image.

    Raises:
        ValueError: as `DETR`, for an `anchor_size` outside (0, 1), and for maps with fewer places than queries.
    """

    def __init__(self, *args, anchor_size: float = 0.3, **kwargs):
        super().__init__(*args, **kwargs)
        if not is_number(anchor_size) or not 0 < anchor_size < 1:
            raise ValueError(f"anchor_size must lie in (0, 1), got {anchor_size!r}")
        self.anchor_size, dim = anchor_size, self.transformer.d_model
        del self.query_embed
        self.enc_class_embed = nn.Linear(dim, self.num_classes + 1)
        self.enc_bbox_embed = BoxHead(dim, dim, 4, depth=3)
        for head in (self.bbox_embed, self.enc_bbox_embed):  # so that the first boxes are the anchors
            nn.init.zeros_(head.layers[-1].weight)
            nn.init.zeros_(head.layers[-1].bias)

    def forward(self, images: Tensor | Sequence[Tensor], mask: Tensor | None = None) -> dict:
        """As `DETR.forward`, and under "enc_outputs" what all places propose."""
        features, mask, pos = self.image_features(images, mask)
        image = self.transformer.encode(features, mask, pos)
        found = self.propose(image, mask, features.shape[-2:])
        answers = self.transformer.decoder(found.places, *image, start=found.tokens)
        boxes = (box_offsets(self.bbox_embed, answers) + found.boxes.logit(eps=1e-4)).sigmoid()
        outputs = [
            {"pred_logits": logits, "pred_boxes": boxes}
            for logits, boxes in zip(self.class_embed(answers), boxes, strict=True)
        ]
        return {**outputs[-1], "aux_outputs": outputs[:-1], "enc_outputs": found.all}

    def attention_maps(self, images: Tensor | Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """As `DETR.attention_maps`."""
        features, mask, pos = self.image_features(images, mask)
        image = self.transformer.encode(features, mask, pos)
        found = self.propose(image, mask, features.shape[-2:])
        weights = self.transformer.decoder.weights(found.places, *image, start=found.tokens)
        return weights.unflatten(4, features.shape[-2:])

    def propose(self, image: tuple, mask: Tensor | None, size: Sequence[int]) -> Proposals:
        """The first stage, from what `Transformer.encode` gives, the mask (B, h, w) of the map and its size (h, w)."""
        memory, pos, _ = image
        if memory.shape[1] < self.num_queries:
            raise ValueError(f"images must give at least {self.num_queries} places, one a query, got a map of {size}")
        if mask is None:
            mask = torch.zeros(memory.shape[0], *size, dtype=torch.bool, device=memory.device)
        logits = self.enc_class_embed(memory)
        boxes = (box_offsets(self.enc_bbox_embed, memory) + self.anchors(mask).logit(eps=1e-4)).sigmoid()
        surest = logits.softmax(-1)[..., :-1].amax(-1).masked_fill(mask.flatten(1), -1)
        best = surest.topk(self.num_queries, dim=1).indices[..., None]
        tokens, places, chosen = (x.gather(1, best.expand(-1, -1, x.shape[2])) for x in (memory, pos, boxes.detach()))
        return Proposals({"pred_logits": logits, "pred_boxes": boxes}, tokens, places, chosen)

    def anchors(self, mask: Tensor) -> Tensor:
        """A box at the middle of each place (B, h * w, 4), in units of the image without its padding."""
        check_mask(mask)
        middles = []
        for dim in (2, 1):  # x, then y
            count = (~mask).cumsum(dim, dtype=torch.float32)
            middles.append((count - 0.5) / count.narrow(dim, -1, 1).clamp(min=1))  # a row may be all padding
        x, y = middles
        side = torch.full_like(x, self.anchor_size)
        return torch.stack([x, y, side, side], dim=3).flatten(1, 2)
