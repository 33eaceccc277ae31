r"""Swin Transformer: attention in windows that shift, on maps that grow coarser.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021 (arXiv:2103.14030).
Parameter names and buffers are those of the authors' release. The windows themselves have a page of their own,
`windows.py`. In code their side M is `window_size` and the shift, half a window, is `shift`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import cast_for, check_count, check_flags, check_floats, check_sizes
from lib.vision_transformers.initialization import init_weights
from lib.vision_transformers.vit import Mlp, check_images, check_mlp_ratio
from lib.vision_transformers.windows import WindowAttention, put, shift_mask, window_partition, window_reverse


class SwinTransformerBlock(nn.Module):
    """One layer: attention within windows, shifted by `shift`, then an MLP (figure 3b): (B, H, W, dim) to the same.

    A map that M does not divide is padded with zeros behind the normalisation, right and below, as in the authors'
    detection release; what was padded takes part in the attention and is cut off again. A map of one window is never
    shifted.

    Args:
        dim: width of a token.
        resolution: height and width of the map, for which the mask is stored; for others it is made anew. It follows
            from the sizes, so weights of a block for maps of any size load into this one.
        num_heads: number of heads.
        window_size: M.
        shift: how far the windows are shifted.
        mlp_ratio: width of the hidden layer of the MLP, in units of `dim`.
        qkv_bias: whether queries, keys and values have a bias.
    """

    def __init__(
        self,
        dim: int,
        resolution: tuple[int, int],
        num_heads: int,
        window_size: int,
        shift: int = 0,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
    ):
        super().__init__()
        check_count(window_size=window_size)
        check_count(0, window_size - 1, shift=shift)
        check_count(dim=dim, num_heads=num_heads)
        check_sizes("resolution", resolution, "height, width")
        check_mlp_ratio(mlp_ratio)
        self.dim, self.window_size, self.shift = dim, window_size, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window_size, num_heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.stored_for = self.padded(*resolution)
        self.register_buffer("attn_mask", self.stored_mask())

    def stored_mask(self) -> Tensor | None:
        """The mask for `resolution`, None where nothing is shifted."""
        if not self.shift or max(self.stored_for) <= self.window_size:
            return None
        return shift_mask(*self.stored_for, self.window_size, self.shift)

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        """The mask follows from the sizes; the release stores it, but it is not read and may be missing."""
        put(state_dict, prefix, "attn_mask", self.stored_mask())
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, x: Tensor) -> Tensor:
        """The map after this layer, shaped as `x` (B, H, W, dim)."""
        check_map(x, self.dim)
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def attend(self, x: Tensor) -> Tensor:
        """The windows' attention on a map (B, H, W, dim): pad, roll, cut into windows, attend, and back."""
        check_map(x, self.dim)
        H, W = x.shape[1:3]
        high, wide = self.padded(H, W)
        shift = self.shift if max(high, wide) > self.window_size else 0
        x = F.pad(x, (0, 0, 0, wide - W, 0, high - H))
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
        windows = window_partition(x, self.window_size).flatten(1, 2)  # (B * windows, N, dim)
        windows = self.attn(windows, self.mask(high, wide) if shift else None)
        x = window_reverse(windows.unflatten(1, (self.window_size, self.window_size)), self.window_size, high, wide)
        if shift:
            x = x.roll((shift, shift), dims=(1, 2))
        return x[:, :H, :W]

    def mask(self, H: int, W: int) -> Tensor:
        """`shift_mask` for a map of this size, on the block's device."""
        if self.stored_for == (H, W):
            return self.attn_mask
        weight = self.norm1.weight
        return shift_mask(H, W, self.window_size, self.shift, weight.device).to(weight.dtype)

    def padded(self, H: int, W: int) -> tuple[int, int]:
        """Height and width of a map after padding to whole windows."""
        return -(-H // self.window_size) * self.window_size, -(-W // self.window_size) * self.window_size


class PatchMerging(nn.Module):
    """Four neighbours become one token: (B, H, W, dim) to (B, H / 2, W / 2, 2 * dim) (section 3.1).

    Each 2×2 square is laid in depth, the inverse of a pixel shuffle, and projected. Odd sides are padded with zeros.
    """

    def __init__(self, dim: int):
        super().__init__()
        check_count(dim=dim)
        self.dim = dim
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The coarser map (B, H / 2, W / 2, 2 * dim)."""
        check_map(x, self.dim)
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=3)))


class BasicLayer(nn.Module):
    """A stage: `depth` blocks of which every second is shifted, then patch merging, except in the last stage."""

    def __init__(
        self,
        dim: int,
        resolution: tuple[int, int],
        depth: int,
        num_heads: int,
        window_size: int,
        mlp_ratio: float,
        qkv_bias: bool,
        merge: bool,
    ):
        super().__init__()
        check_count(dim=dim, depth=depth, num_heads=num_heads, window_size=window_size)
        check_sizes("resolution", resolution, "height, width")
        check_flags(merge=merge)
        window_size = min(window_size, *resolution)
        self.blocks = nn.ModuleList(
            SwinTransformerBlock(dim, resolution, num_heads, window_size, shift, mlp_ratio, qkv_bias)
            for shift in (window_size // 2 * (i % 2) for i in range(depth))
        )
        self.downsample = PatchMerging(dim) if merge else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The stage's map (B, H, W, dim), and what the next stage starts from: (B, H / 2, W / 2, 2 * dim)."""
        for block in self.blocks:
            x = block(x)
        return x, x if self.downsample is None else self.downsample(x)


class SwinPatchEmbed(nn.Module):
    """Images (B, in_chans, H, W) to a map of normalised tokens (B, H / p, W / p, embed_dim).

    Where p does not divide the image, it is padded with zeros, right and below.
    """

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int):
        super().__init__()
        check_count(patch_size=patch_size, in_chans=in_chans, embed_dim=embed_dim)
        self.patch_size, self.in_chans = patch_size, in_chans
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """The map (B, H / p, W / p, embed_dim)."""
        check_images("x", x, self.in_chans)
        x = F.pad(cast_for(self.proj, x), (0, -x.shape[3] % self.patch_size, 0, -x.shape[2] % self.patch_size))
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class SwinTransformer(nn.Module):
    """The model of figure 3a: images (B, in_chans, H, W) to scores (B, num_classes). The defaults are Swin-T.

    Images may have any size: what patches or windows do not divide is padded. The sizes of the windows are fixed
    by `img_size`; where a stage's map is smaller than a window, that stage has one window, as large as the map.

    Args:
        img_size: height and width of the images that the stored masks are made for.
        patch_size: side of a patch, p.
        in_chans: channels of an image.
        num_classes: number of scores; 0 returns the mean token (B, num_features).
        embed_dim: width of the first stage's tokens, C; each stage doubles it.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        window_size: side of a window, M.
        mlp_ratio: width of the hidden layer of a block's MLP, in units of its tokens' width.
        qkv_bias: whether queries, keys and values have a bias.

    Raises:
        ValueError: for an argument out of range, and for images with other channels.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
    ):
        super().__init__()
        check_count(img_size=img_size, patch_size=patch_size, in_chans=in_chans, embed_dim=embed_dim)
        check_count(0, num_classes=num_classes)
        check_count(window_size=window_size)
        check_mlp_ratio(mlp_ratio)
        check_sizes("depths", depths)
        check_sizes("num_heads", num_heads)
        if len(depths) != len(num_heads):
            raise ValueError(f"depths and num_heads must have one entry a stage, got {depths!r} and {num_heads!r}")
        self.patch_embed = SwinPatchEmbed(patch_size, in_chans, embed_dim)
        side, last = -(-img_size // patch_size), len(depths) - 1
        self.layers = nn.ModuleList()
        for stage, (depth, heads) in enumerate(zip(depths, num_heads)):
            dim = embed_dim * 2**stage
            self.layers.append(
                BasicLayer(dim, (side, side), depth, heads, window_size, mlp_ratio, qkv_bias, merge=stage < last)
            )
            side = -(-side // 2)
        self.num_features = dim
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, num_classes), read from the mean of all tokens."""
        return self.head(self.norm(self.stages(x)[-1]).mean(dim=(1, 2)))

    def stages(self, x: Tensor) -> list[Tensor]:
        """The maps that the stages end with, finest first: each half as high and wide as the one before, and deeper.

        For images (B, in_chans, H, W) they are (B, H / p, W / p, C), (B, H / 2p, W / 2p, 2C) and so on: what a feature
        pyramid takes.
        """
        x, maps = self.patch_embed(x), []
        for layer in self.layers:
            found, x = layer(x)
            maps.append(found)
        return maps


def check_map(x: Tensor, dim: int) -> None:
    """Raises `ValueError` unless `x` is a floating-point map (B, H, W, dim) with H and W of at least 1."""
    if check_floats("x", x).ndim != 4 or x.shape[3] != dim or 0 in x.shape[1:3]:
        raise ValueError(f"x must have shape (B, H, W, {dim}) with H and W of at least 1, got {tuple(x.shape)}")
