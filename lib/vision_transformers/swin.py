r"""Swin Transformer: attention in windows that shift, on maps that grow coarser.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021 (arXiv:2103.14030).
Parameter names and buffers are those of the authors' release.

A map (B, H, W, C) is cut into windows of M×M tokens, N = M * M. In code M is `window_size` and the shift, half a
window, is `shift`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.attention import Attention, attention
from lib.checks import check_count
from lib.vision_transformers.start import start_small
from lib.vision_transformers.vit import Mlp, check_mlp_ratio

APART = -100.0  # added to a score, it leaves nothing of the pair: exp(-100) is 4e-44


def window_partition(x: Tensor, window_size: int) -> Tensor:
    """Windows (B * windows, M, M, C) of a map (B, H, W, C), row by row; M must divide H and W."""
    check_count(window_size=window_size)
    if x.ndim != 4 or x.shape[1] % window_size or x.shape[2] % window_size:
        wanted = f"(B, H, W, C) with H and W multiples of window_size={window_size}"
        raise ValueError(f"x must have shape {wanted}, got {tuple(x.shape)}")
    x = x.unflatten(2, (-1, window_size)).unflatten(1, (-1, window_size))  # (B, rows, M, columns, M, C)
    return x.transpose(2, 3).flatten(0, 2)


def window_reverse(windows: Tensor, window_size: int, H: int, W: int) -> Tensor:
    """The map (B, H, W, C) whose windows (B * windows, M, M, C) are given."""
    check_count(window_size=window_size, H=H, W=W)
    rows, columns = H // window_size, W // window_size
    whole = rows * window_size == H and columns * window_size == W and windows.shape[0] % (rows * columns) == 0
    if windows.ndim != 4 or windows.shape[1:3] != (window_size, window_size) or not whole:
        raise ValueError(f"windows of size {window_size} cannot fill {H}×{W}, got shape {tuple(windows.shape)}")
    return windows.unflatten(0, (-1, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shift_mask(H: int, W: int, window_size: int, shift: int) -> Tensor:
    """What is added to the scores after the cyclic shift: (windows, N, N), 0 within a region and -100 between two.

    The map was rolled up and left by `shift`. Both sides of a window's seam came from opposite ends of the map, so the
    last window of each row and column holds two regions, the one in the corner four: nine regions in all (figure 4).

    Raises `ValueError` unless M divides H and W, and 0 <= shift < M.
    """
    check_count(window_size=window_size)
    check_count(0, window_size - 1, shift=shift)
    if not shift:
        windows = window_partition(torch.zeros(1, H, W, 1), window_size)
        return torch.zeros(len(windows), window_size**2, window_size**2)

    def band(size: int) -> Tensor:  # 0, 1 or 2: before the last window, in it before the seam, behind the seam
        place = torch.arange(size)
        return (place >= size - window_size).long() + (place >= size - shift)

    region = 3 * band(H)[:, None] + band(W)
    region = window_partition(region[None, ..., None], window_size).flatten(1)  # (windows, N)
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, APART)


def relative_position_index(window_size: int) -> Tensor:
    """Which row of the bias table belongs to a pair of tokens of a window: (N, N), from 0 to (2M - 1)**2 - 1.

    It numbers the offsets from key to query, first by rows, then by columns, both from -(M - 1) to M - 1.
    """
    check_count(window_size=window_size)
    y, x = torch.meshgrid(torch.arange(window_size), torch.arange(window_size), indexing="ij")
    dy, dx = (place.flatten()[:, None] - place.flatten() for place in (y, x))  # query minus key
    return (dy + window_size - 1) * (2 * window_size - 1) + dx + window_size - 1


class WindowAttention(Attention):
    """Multi-head self-attention within windows, with a learned bias for each relative position (equation 4).

    Args:
        dim: width of a token.
        window_size: side of a window, M.
        num_heads: number of heads; it must divide `dim`.
        qkv_bias: whether queries, keys and values have a bias.
    """

    def __init__(self, dim: int, window_size: int, num_heads: int, qkv_bias: bool = True):
        super().__init__(dim, num_heads, qkv_bias)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window_size))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixed tokens of windows (B * windows, N, dim); `mask` (windows, N, N) is that of `shift_mask`."""
        mixed, _ = self.attend(x, mask)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The attention weights (B * windows, heads, N, N) that `forward` uses and does not keep."""
        return self.attend(x, mask)[1]

    def attend(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mixed values (B * windows, heads, N, dim / heads) and their weights.

        As written in the paper: for so few tokens and a bias that learns, PyTorch's fused attention is slower.
        """
        q, k, v = self.heads(x)  # (B * windows, heads, N, dim / heads)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # (heads, N, N)
        if mask is None:
            return attention(q, k, v, bias)
        q, k, v = (part.unflatten(0, (-1, len(mask))) for part in (q, k, v))  # the mask is the same for all images
        mixed, weights = attention(q, k, v, bias + mask[:, None])
        return mixed.flatten(0, 1), weights.flatten(0, 1)


class SwinTransformerBlock(nn.Module):
    """One layer: attention within windows, shifted by `shift`, then an MLP (figure 3b): (B, H, W, dim) to the same.

    A map that M does not divide is padded with zeros behind the normalisation, right and below, as in the authors'
    detection release; what was padded takes part in the attention and is cut off again. A map of one window is never
    shifted.

    Args:
        dim: width of a token.
        resolution: height and width of the map, for which the mask is stored; for others it is made anew.
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
        self.window_size, self.shift = window_size, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window_size, num_heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.stored_for = self.padded(*resolution)
        shifted = shift and max(self.stored_for) > window_size
        self.register_buffer("attn_mask", shift_mask(*self.stored_for, window_size, shift) if shifted else None)

    def forward(self, x: Tensor) -> Tensor:
        """The map after this layer, shaped as `x` (B, H, W, dim)."""
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def attend(self, x: Tensor) -> Tensor:
        """The windows' attention on a map (B, H, W, dim): pad, roll, cut into windows, attend, and back."""
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
        return shift_mask(H, W, self.window_size, self.shift).to(self.norm1.weight)

    def padded(self, H: int, W: int) -> tuple[int, int]:
        """Height and width of a map after padding to whole windows."""
        return -(-H // self.window_size) * self.window_size, -(-W // self.window_size) * self.window_size


class PatchMerging(nn.Module):
    """Four neighbours become one token: (B, H, W, dim) to (B, H / 2, W / 2, 2 * dim) (section 3.1).

    Each 2×2 square is laid in depth, the inverse of a pixel shuffle, and projected. Odd sides are padded with zeros.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The coarser map (B, H / 2, W / 2, 2 * dim)."""
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


class PatchEmbed(nn.Module):
    """Images (B, in_chans, H, W) to a map of normalised tokens (B, H / p, W / p, embed_dim).

    Where p does not divide the image, it is padded with zeros, right and below.
    """

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int):
        super().__init__()
        self.patch_size, self.in_chans = patch_size, in_chans
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """The map (B, H / p, W / p, embed_dim)."""
        if x.ndim != 4 or x.shape[1] != self.in_chans:
            raise ValueError(f"images must have shape (B, {self.in_chans}, H, W), got {tuple(x.shape)}")
        x = F.pad(x, (0, -x.shape[3] % self.patch_size, 0, -x.shape[2] % self.patch_size))
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
        if not depths or len(depths) != len(num_heads):
            raise ValueError(f"depths and num_heads must have one entry a stage, got {depths!r} and {num_heads!r}")
        for depth, heads in zip(depths, num_heads):
            check_count(**{"each of depths": depth, "each of num_heads": heads})
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim)
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
        start_small(self)

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
