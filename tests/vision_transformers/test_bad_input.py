"""No public callable of this part takes in silence what it cannot use, or ends in an error that names nothing."""

import pytest
import torch

from lib.vision_transformers import (
    ConvStem,
    MaskedAutoencoderViT,
    SwinTransformer,
    VisionTransformer,
    attention_rollout,
    init_by_fan_in,
    relative_position_index,
    scale_residual_branches,
    shift_mask,
    window_partition,
    window_reverse,
)
from lib.vision_transformers.beit import BEiT
from lib.vision_transformers.digits import digit_mae
from lib.vision_transformers.initialization import init_weights
from lib.vision_transformers.mae import gather_tokens, random_masking, sincos_2d
from lib.vision_transformers.swin import BasicLayer, PatchMerging, SwinPatchEmbed, SwinTransformerBlock, WindowAttention
from lib.vision_transformers.vit import Block, Mlp, PatchEmbed, resample_pos_embed
from tests.bad_input import unclear

X, TOKENS, NOISE = torch.rand(2, 1, 8, 8), torch.rand(2, 5, 16), torch.rand(2, 16)
MAP, IDS = torch.rand(2, 4, 4, 16), torch.arange(16).expand(2, -1)
SIZES = {"img_size": 8, "patch_size": 2, "in_chans": 1, "embed_dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0}
DECODER = {"decoder_embed_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}
STAGES = {**SIZES, "depths": (2, 1), "num_heads": (2, 2), "window_size": 2}
del STAGES["depth"]
BLOCK = {"dim": 16, "num_heads": 2, "mlp_ratio": 2.0}
WINDOWED = {**BLOCK, "resolution": (4, 4), "window_size": 2}


def vit():
    return VisionTransformer(**SIZES, num_classes=5)


def beit():
    return BEiT(**SIZES, num_classes=5)


def mae():
    return MaskedAutoencoderViT(**SIZES, **DECODER)


def swin():
    return SwinTransformer(**STAGES, num_classes=5)


CALLS = {
    "PatchEmbed": (PatchEmbed, {"img_size": 8, "patch_size": 2, "in_chans": 1, "embed_dim": 16, "stem": ConvStem(1)}),
    "PatchEmbed.forward": (PatchEmbed(8, 2, 1, 16), {"x": X}),
    "ConvStem": (ConvStem, {"in_chans": 1, "widths": (4, 8)}),
    "ConvStem.forward": (ConvStem(1, (4, 8)), {"x": X}),
    "Mlp": (Mlp, {"dim": 16, "hidden_dim": 8}),
    "Mlp.forward": (Mlp(16, 8), {"x": TOKENS}),
    "Block": (Block, {**BLOCK, "qkv_bias": True}),
    "Block.forward": (Block(16, 2), {"x": TOKENS}),
    "VisionTransformer": (VisionTransformer, {**SIZES, "num_classes": 5, "qkv_bias": True}),
    "VisionTransformer.forward": (vit(), {"x": X}),
    "VisionTransformer.forward_features": (vit().forward_features, {"x": X}),
    "VisionTransformer.embed": (vit().embed, {"x": X}),
    "VisionTransformer.attention_maps": (vit().attention_maps, {"x": X}),
    "resample_pos_embed": (resample_pos_embed, {"pos_embed": torch.rand(1, 17, 8), "old": (4, 4), "new": (2, 3)}),
    "attention_rollout": (attention_rollout, {"maps": torch.rand(2, 3, 2, 5, 5)}),
    "BEiT": (BEiT, {**SIZES, "num_classes": 5, "qkv_bias": True}),
    "BEiT.forward": (beit(), {"x": X, "mask": NOISE < 0.5}),
    "BEiT.loss": (beit().loss, {"x": X, "words": IDS % 5, "mask_ratio": 0.4, "noise": NOISE}),
    "MaskedAutoencoderViT": (MaskedAutoencoderViT, {**SIZES, **DECODER, "norm_pix_loss": False}),
    "MaskedAutoencoderViT.forward": (mae(), {"imgs": X, "mask_ratio": 0.5, "noise": NOISE}),
    "MaskedAutoencoderViT.forward_encoder": (mae().forward_encoder, {"imgs": X, "mask_ratio": 0.5, "noise": NOISE}),
    "MaskedAutoencoderViT.forward_features": (mae().forward_features, {"imgs": X}),
    "MaskedAutoencoderViT.forward_decoder": (mae().forward_decoder, {"latent": TOKENS, "ids_restore": IDS}),
    "MaskedAutoencoderViT.forward_loss": (
        mae().forward_loss,
        {"imgs": X, "pred": torch.rand(2, 16, 4), "mask": (NOISE < 0.5).float()},
    ),
    "MaskedAutoencoderViT.patchify": (mae().patchify, {"imgs": X}),
    "MaskedAutoencoderViT.unpatchify": (mae().unpatchify, {"x": torch.rand(2, 16, 4)}),
    "digit_mae": (digit_mae, {"norm_pix_loss": False}),
    "random_masking": (random_masking, {"x": torch.rand(2, 16, 4), "mask_ratio": 0.5, "noise": NOISE}),
    "gather_tokens": (gather_tokens, {"x": torch.rand(2, 16, 4), "ids": IDS[:, :3]}),
    "sincos_2d": (sincos_2d, {"dim": 8, "rows": 2, "columns": 3}),
    "init_weights": (init_weights, {"model": vit()}),
    "init_by_fan_in": (init_by_fan_in, {"model": vit(), "places": 0.5}),
    "scale_residual_branches": (scale_residual_branches, {"model": vit(), "share": 0.2}),
    "window_partition": (window_partition, {"x": MAP, "window_size": 2}),
    "window_reverse": (window_reverse, {"windows": torch.rand(8, 2, 2, 16), "window_size": 2, "H": 4, "W": 4}),
    "shift_mask": (shift_mask, {"H": 4, "W": 4, "window_size": 2, "shift": 1}),
    "relative_position_index": (relative_position_index, {"window_size": 2}),
    "WindowAttention": (WindowAttention, {"dim": 16, "window_size": 2, "num_heads": 2, "qkv_bias": True}),
    "WindowAttention.forward": (
        WindowAttention(16, 2, 2),
        {"x": torch.rand(8, 4, 16), "mask": shift_mask(4, 4, 2, 1)},
    ),
    "WindowAttention.weights": (
        WindowAttention(16, 2, 2).weights,
        {"x": torch.rand(8, 4, 16), "mask": shift_mask(4, 4, 2, 1)},
    ),
    "SwinTransformerBlock": (SwinTransformerBlock, {**WINDOWED, "shift": 1, "qkv_bias": True}),
    "SwinTransformerBlock.forward": (SwinTransformerBlock(16, (4, 4), 2, 2, 1), {"x": MAP}),
    "SwinTransformerBlock.attend": (SwinTransformerBlock(16, (4, 4), 2, 2, 1).attend, {"x": MAP}),
    "PatchMerging": (PatchMerging, {"dim": 16}),
    "PatchMerging.forward": (PatchMerging(16), {"x": MAP}),
    "BasicLayer": (BasicLayer, {**WINDOWED, "depth": 2, "qkv_bias": True, "merge": True}),
    "BasicLayer.forward": (BasicLayer(16, (4, 4), 2, 2, 2, 2.0, True, True), {"x": MAP}),
    "swin.SwinPatchEmbed": (SwinPatchEmbed, {"patch_size": 2, "in_chans": 1, "embed_dim": 16}),
    "swin.SwinPatchEmbed.forward": (SwinPatchEmbed(2, 1, 16), {"x": X}),
    "SwinTransformer": (SwinTransformer, {**STAGES, "num_classes": 5, "qkv_bias": True}),
    "SwinTransformer.forward": (swin(), {"x": X}),
    "SwinTransformer.stages": (swin().stages, {"x": X}),
}
# Windows are cut and joined from maps of anything, such as the names of their pixels.
FINE = {
    "window_partition": ("x: integers", "x: complex"),
    "window_reverse": ("windows: integers", "windows: complex"),
    "BEiT.forward": ("mask: yes and no", "mask: -1"),  # of a mask both are masks
}
MAY_BE_NONE = ("noise: None", "stem: None")


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_refused_by_name(name):
    call, good = CALLS[name]
    fine = MAY_BE_NONE + FINE.get(name, ()) + (("mask: None",) if name.startswith("WindowAttention") else ())
    assert unclear(call, good, fine) == []
