"""The U-Net of diffusers in the shape of ours, and the way from our names of its parameters to theirs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.peers.names import renamed

RULES = [
    (r"^temb\.dense\.(\d)", lambda found: f"time_embedding.linear_{int(found[1]) + 1}"),
    (r"^norm_out", "conv_norm_out"),
    (r"^mid\.block_(\d)", lambda found: f"mid_block.resnets.{int(found[1]) - 1}"),
    (r"^mid\.attn_1", "mid_block.attentions.0"),
    (r"^down\.(\d)", r"down_blocks.\1"),
    (r"\.block\.(\d)", r".resnets.\1"),
    (r"\.attn\.(\d)", r".attentions.\1"),
    (r"sample\.conv", "samplers.0.conv"),
    (r"\.temb_proj", ".time_emb_proj"),
    (r"\.nin_shortcut", ".conv_shortcut"),
    (r"(attentions\.\d)\.norm", r"\1.group_norm"),
    (r"(attentions\.\d)\.([qkv])\.", r"\1.to_\2."),
    (r"\.proj_out", ".to_out.0"),
]


class DiffusersUNet(nn.Module):
    """diffusers' `UNet2DModel` with the arguments of `lib.diffusion.UNet` and called as that one is.

    `ch_mult` begins with 1: theirs has no other width before the first level.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ch: int,
        ch_mult: tuple[int, ...],
        num_res_blocks: int,
        attn_resolutions: tuple[int, ...],
        dropout: float,
        resolution: int,
        patch: int = 1,
    ):
        from diffusers import UNet2DModel  # slow to import

        super().__init__()
        self.patch, self.levels, size = patch, len(ch_mult), resolution // patch
        kinds = ["Attn" if size // 2**level in attn_resolutions else "" for level in range(self.levels)]
        self.net = UNet2DModel(
            sample_size=size, in_channels=in_channels * patch**2, out_channels=out_channels * patch**2,
            block_out_channels=[ch * mult for mult in ch_mult], layers_per_block=num_res_blocks,
            down_block_types=[f"{kind}DownBlock2D" for kind in kinds],
            up_block_types=[f"{kind}UpBlock2D" for kind in reversed(kinds)], attention_head_dim=None,
            norm_num_groups=32, norm_eps=1e-6, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1,
            dropout=dropout,
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return F.pixel_shuffle(self.net(F.pixel_unshuffle(x, self.patch), t).sample, self.patch)

    def renamed(self, name: str) -> str:
        """What our parameter `name` is called in `net`."""
        up = (r"^up\.(\d)", lambda found: f"up_blocks.{self.levels - 1 - int(found[1])}")
        return renamed(name, [up, *RULES])

    def load_ours(self, weights: dict[str, Tensor]) -> None:
        """Copies the weights of a `lib.diffusion.UNet` of the same shape, all of them and no others."""
        shapes = {name: value.shape for name, value in self.net.state_dict().items()}
        renamed = {self.renamed(name): value for name, value in weights.items()}
        # Their attention has linear layers where ours has 1×1 convolutions.
        fitting = {name: value.reshape(shapes.get(name, value.shape)) for name, value in renamed.items()}
        self.net.load_state_dict(fitting, strict=True)


def count(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def same_random_weights(*models: nn.Module, seed: int = 0) -> None:
    """Gives the first model random weights, none 0 or 1, and the others, which are `DiffusersUNet`s, the same."""
    generator = torch.Generator().manual_seed(seed)
    first, *others = models
    with torch.no_grad():
        for parameter in first.parameters():
            matrix = parameter.ndim > 1
            fan = parameter[0].numel() if matrix else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5 + (not matrix))
    for model in others:
        model.load_ours(first.state_dict())
