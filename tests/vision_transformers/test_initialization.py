"""How the matrices of a small transformer start."""

import math

import pytest
import torch
from torch import nn

from lib.vision_transformers import (
    SwinTransformer,
    VisionTransformer,
    init_by_fan_in,
    scale_residual_branches,
)


@pytest.mark.parametrize(
    ("model", "tables"),
    [
        (lambda: VisionTransformer(16, 4, 1, 10, 64, 2, 4), {"pos_embed"}),
        (
            lambda: SwinTransformer(16, 2, 1, 10, 32, (2, 1), (2, 4), 4),
            {f"layers.{name}.attn.relative_position_bias_table" for name in ("0.blocks.0", "0.blocks.1", "1.blocks.0")},
        ),
    ],
    ids=["ViT", "Swin"],
)
def test_matrices_start_by_the_width_of_their_inputs_and_places_as_told(model, tables):
    torch.manual_seed(0)
    before = model()
    torch.manual_seed(0)
    after = init_by_fan_in(model(), places=3.0)
    matrices = {f"{name}.weight" for name, part in after.named_modules() if isinstance(part, nn.Linear)}
    matrices -= {"head.weight"}
    assert len(matrices) >= 8
    for (name, old), new in zip(before.named_parameters(), after.parameters()):
        if name not in matrices | tables:
            assert torch.equal(old, new), name
            continue
        wanted = 3.0 if name in tables else 1 / math.sqrt(new.shape[1])
        within = 5 / math.sqrt(2 * new.numel())  # five standard errors of a deviation
        assert abs(new.std() / wanted - 1) < within and abs(new.mean() / wanted) < 1.5 * within, name


def test_what_comes_out_is_as_large_as_what_goes_in():
    torch.manual_seed(0)
    for width in (16, 256):
        block = init_by_fan_in(VisionTransformer(8, 4, 1, 0, width, 1, 2), places=1.0).blocks[0]
        x = torch.randn(500, width)
        assert abs(block.mlp.fc1(x).std() - 1) < 0.2
        assert abs(block.attn.qkv(x).std() - 1) < 0.2


def test_quiet_blocks_change_their_tokens_little():
    torch.manual_seed(0)
    for model in (VisionTransformer(8, 4, 1, 0, 64, 2, 2), SwinTransformer(8, 2, 1, 0, 32, (2,), (2,), 4)):
        before = {name: value.clone() for name, value in model.named_parameters()}
        assert scale_residual_branches(model, 0.2) is model
        changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
        assert len(changed) == 4 and {name.split("blocks.")[1][2:] for name in changed} == {
            "attn.proj.weight",
            "mlp.fc2.weight",
        }
        for name, value in model.named_parameters():
            assert torch.equal(value, before[name] * (0.2 if name in changed else 1)), name


def test_it_is_the_model_itself_that_is_changed():
    model = VisionTransformer(8, 4, 1, 0, 8, 1, 2)
    assert scale_residual_branches(init_by_fan_in(model, places=1.0), 0.5) is model
    assert all(parameter.requires_grad for parameter in model.parameters())
