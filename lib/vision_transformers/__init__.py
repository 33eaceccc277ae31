"""Parts 4 and 5: images as sequences of patches."""

from lib.vision_transformers.mae import MaskedAutoencoderViT
from lib.vision_transformers.start import quiet_blocks, start_by_width
from lib.vision_transformers.swin import SwinTransformer
from lib.vision_transformers.vit import ConvStem, VisionTransformer, attention_rollout
from lib.vision_transformers.windows import relative_position_index, shift_mask, window_partition, window_reverse

__all__ = [
    "ConvStem",
    "MaskedAutoencoderViT",
    "SwinTransformer",
    "VisionTransformer",
    "attention_rollout",
    "quiet_blocks",
    "relative_position_index",
    "shift_mask",
    "start_by_width",
    "window_partition",
    "window_reverse",
]
