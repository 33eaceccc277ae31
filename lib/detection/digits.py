"""The detector that this book trains on scenes of digits."""

import torch

from lib.detection.backbone import SmallBackbone
from lib.detection.detr import DETR
from lib.detection.transformer import Transformer


def digit_detr(kind: type[DETR] = DETR, num_queries: int = 10, **settings) -> DETR:
    """A small DETR for scenes (B, 1, 64, 64): 64 places of 8×8 pixels, two encoder and three decoder layers.

    `kind` and `settings` are for variants: `TwoStageDETR`, and other arguments of it.
    """
    transformer = Transformer(96, nhead=4, num_encoder_layers=2, num_decoder_layers=3, dim_feedforward=192, dropout=0.0)
    model = kind(SmallBackbone(1, (24, 48, 96)), transformer, num_classes=10, num_queries=num_queries, **settings)
    return model.to(memory_format=torch.channels_last)  # quicker on a CPU
