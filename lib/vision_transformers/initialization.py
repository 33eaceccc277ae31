"""The numbers that a transformer's matrices start with: as published, or for a short training of a small one."""

import torch
from torch import nn

from lib.checks import check_number


def init_weights(model: nn.Module) -> None:
    """Linear layers as the published ViT and Swin start: weights normal with deviation 0.02, biases 0."""
    check_model(model)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_by_fan_in(model: nn.Module, places: float) -> nn.Module:
    r"""Makes a small ViT or Swin ready for a short training; returns `model` itself.

    A sum of n products of noise has size $\sqrt n$. So the weights of a linear layer with n inputs are drawn with
    deviation $1/\sqrt n$: what comes out is as large as what goes in, at any width. The last layer, `head`, stays as
    it is.

    Args:
        model: a `VisionTransformer` or `SwinTransformer`.
        places: deviation of what tells places apart: ViT's position embedding, Swin's tables of relative positions.

    Raises `ValueError` where they are something else, or `places` is below 0.
    """
    check_model(model)
    check_number(0, places=places)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "head":
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    for name, parameter in model.named_parameters():
        if name == "pos_embed" or name.endswith("relative_position_bias_table"):
            nn.init.normal_(parameter, std=places)
    return model


@torch.no_grad()
def scale_residual_branches(model: nn.Module, share: float) -> nn.Module:
    """Lets each block start as a small change to its tokens; returns `model` itself.

    The last weights of its attention and of its MLP are multiplied by `share`. Raises `ValueError` where `model` is no
    module or `share` no number of at least 0.
    """
    check_model(model)
    check_number(0, share=share)
    for name, weight in model.named_parameters():
        if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
            weight *= share
    return model


def check_model(model: nn.Module) -> None:
    """Raises `ValueError` unless `model` is a module."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be an nn.Module, got {model!r:.60}")
