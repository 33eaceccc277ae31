"""Parts 4 and 5: images as sequences of patches."""

from lib.vision_transformers.initialization import init_by_fan_in, scale_residual_branches
from lib.vision_transformers.mae import MaskedAutoencoderViT
from lib.vision_transformers.swin import SwinTransformer
from lib.vision_transformers.vit import ConvStem, VisionTransformer, attention_rollout
from lib.vision_transformers.windows import relative_position_index, shift_mask, window_partition, window_reverse

__all__ = [
    "ConvStem",
    "MaskedAutoencoderViT",
    "SwinTransformer",
    "VisionTransformer",
    "attention_rollout",
    "init_by_fan_in",
    "relative_position_index",
    "scale_residual_branches",
    "shift_mask",
    "window_partition",
    "window_reverse",
]
