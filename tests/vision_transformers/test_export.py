"""Every model exports for batches of any size."""

import pytest
import torch

from lib.vision_transformers import MaskedAutoencoderViT, SwinTransformer, VisionTransformer
from lib.vision_transformers.beit import BEiT
from tests.autoencoders.test_export import assert_exports

MODELS = {
    "ViT": lambda: VisionTransformer(28, 7, 1, 10, 32, 2, 4),
    "Swin": lambda: SwinTransformer(28, 2, 1, 10, 16, (2, 2), (2, 4)),
    "BEiT": lambda: BEiT(28, 7, 1, 16, 32, 2, 4),
    "MAE": lambda: MaskedAutoencoderViT(28, 7, 1, 32, 2, 4, 16, 1, 4),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_exports_for_any_batch(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for size in (28, 42) if name != "MAE" else (28,):
        x, patches = torch.rand(5, 1, size, size), (size // 7) ** 2
        given = {"ViT": {"x": x}, "Swin": {"x": x}, "BEiT": {"x": x, "mask": torch.rand(5, patches) < 0.5}}
        given["MAE"] = {"imgs": x, "mask_ratio": 0.5, "noise": torch.rand(5, patches)}
        assert_exports(model, given[name])
