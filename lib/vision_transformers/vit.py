r"""The Vision Transformer: an image as a sentence of patches.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021
(arXiv:2010.11929). In the code, `x` is $z_\ell$; section 3.1 gives the four equations:

1. $z_0 = [x_\text{class}; x_p^1 E; \dots; x_p^N E] + E_\text{pos}$
2. $z'_\ell = \mathrm{MSA}(\mathrm{LN}(z_{\ell-1})) + z_{\ell-1}$
3. $z_\ell = \mathrm{MLP}(\mathrm{LN}(z'_\ell)) + z'_\ell$
4. $y = \mathrm{LN}(z_L^0)$

Parameter names are those of timm, which the MAE release shares. N counts patches, D is the width of a token.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.attention import Attention
from lib.checks import cast_for, check_count, check_floats, check_number, check_sizes, upcast
from lib.vision_transformers.initialization import init_weights

EPS = 1e-6  # of every LayerNorm, as in the authors' code


class PatchEmbed(nn.Module):
    """Images (B, in_chans, H, W) to tokens (B, N, embed_dim), row by row: a convolution that takes a patch a step.

    Args:
        img_size: height and width of the images that the model is made for.
        patch_size: side of a patch; it must divide `img_size`.
        in_chans: channels of an image.
        embed_dim: width of a token.
        stem: convolutions that see the image first; the patches are then cut from what they return. This is the hybrid
            of the paper's section 3.1. They must have the attributes `stride` and `out_chans` (`ConvStem` has).

    Raises:
        ValueError: for a size or count below 1, patches that do not divide the image, and images they do not divide.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        stem: nn.Module | None = None,
    ):
        super().__init__()
        check_count(img_size=img_size, patch_size=patch_size, in_chans=in_chans, embed_dim=embed_dim)
        if not (stem is None or (hasattr(stem, "stride") and hasattr(stem, "out_chans"))):
            raise ValueError(f"stem must be None or a module with stride and out_chans, got {stem!r:.60}")
        self.in_chans, self.step = in_chans, patch_size * (stem.stride if stem else 1)
        if img_size % self.step:
            raise ValueError(f"img_size must be a multiple of the patches' {self.step} pixels, got {img_size}")
        self.grid_size = (img_size // self.step, img_size // self.step)
        self.stem = stem
        self.proj = nn.Conv2d(stem.out_chans if stem else in_chans, embed_dim, patch_size, patch_size)

    @property
    def num_patches(self) -> int:
        """N at the size that the model is made for."""
        return self.grid_size[0] * self.grid_size[1]

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, embed_dim) of images (B, in_chans, H, W)."""
        check_images("x", x, self.in_chans, self.step)
        x = cast_for(self, x)
        if self.stem is not None:
            x = self.stem(x)
        return self.proj(x).flatten(2).transpose(1, 2)


class ConvStem(nn.Sequential):
    """Convolutions with stride 2, each followed by normalisation and ReLU: images to maps (B, widths[-1], ...).

    What a transformer does not know by itself is built in here: a pixel's neighbours matter most, and a thing looks
    the same wherever it stands.
    """

    def __init__(self, in_chans: int = 3, widths: Sequence[int] = (32, 64)):
        check_count(in_chans=in_chans)
        check_sizes("widths", widths)
        widths = (in_chans, *widths)
        layers = []
        for into, out in pairwise(widths):
            layers += [nn.Conv2d(into, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        super().__init__(*layers)
        self.stride, self.out_chans = 2 ** (len(widths) - 1), widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, widths[-1], H / stride, W / stride) of images (B, in_chans, H, W)."""
        check_images("x", x, self[0].in_channels)
        return super().forward(x)


class Mlp(nn.Module):
    """Two linear layers with GELU between them, applied to each token by itself."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        check_count(dim=dim, hidden_dim=hidden_dim)
        self.dim = dim
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., dim) to tokens (..., dim)."""
        check_tokens("x", x, self.dim)
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """One layer of the encoder, equations (2) and (3): tokens (B, N, dim) to tokens (B, N, dim)."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, qkv_bias: bool = True):
        super().__init__()
        check_count(dim=dim, num_heads=num_heads)
        check_mlp_ratio(mlp_ratio)
        self.dim = dim
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = Attention(dim, num_heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """The tokens after this layer, shaped as `x`."""
        check_tokens("x", x, self.dim)
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """The model of figure 1: images (B, in_chans, H, W) to scores (B, num_classes).

    The defaults are ViT-B/16 on ImageNet, 86,567,656 parameters.

    Args:
        img_size: height and width of the images that the position embedding is made for. For others it is stretched.
        patch_size: side of a patch.
        in_chans: channels of an image.
        num_classes: number of scores; 0 returns the class token (B, embed_dim) as equation (4) leaves it.
        embed_dim: width of a token, D.
        depth: number of blocks, L.
        num_heads: heads of the attention; they must divide `embed_dim`.
        mlp_ratio: width of the hidden layer of a block's MLP, in units of `embed_dim`.
        qkv_bias: whether queries, keys and values have a bias.
        stem: see `PatchEmbed`.

    Raises:
        ValueError: for an argument out of range, and for images of another shape.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        stem: nn.Module | None = None,
    ):
        super().__init__()
        check_count(0, num_classes=num_classes)
        check_count(depth=depth, num_heads=num_heads)
        check_mlp_ratio(mlp_ratio)
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim, stem)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.patch_embed.num_patches, embed_dim))
        self.blocks = nn.Sequential(*(Block(embed_dim, num_heads, mlp_ratio, qkv_bias) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim, eps=EPS)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        init_weights(self)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, num_classes), read from the class token."""
        return self.head(self.forward_features(x)[:, 0])

    def forward_features(self, x: Tensor) -> Tensor:
        """All tokens after the last normalisation, (B, 1 + N, embed_dim), the class token first."""
        return self.norm(self.blocks(self.embed(x)))

    def embed(self, x: Tensor) -> Tensor:
        """Equation (1): the tokens $z_0$ (B, 1 + N, embed_dim), the class token first."""
        patches = self.patch_embed(x)
        height, width = (side // self.patch_embed.step for side in x.shape[2:])
        z = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        return z + resample_pos_embed(self.pos_embed, self.patch_embed.grid_size, (height, width))

    def attention_maps(self, x: Tensor) -> Tensor:
        """The attention weights of all layers, (depth, B, num_heads, 1 + N, 1 + N), for images (B, in_chans, H, W).

        Row i says how much token i takes from each token.
        """
        x, maps = self.embed(x), []
        for block in self.blocks:
            maps.append(block.attn.weights(block.norm1(x)))
            x = block(x)
        return torch.stack(maps)


def resample_pos_embed(pos_embed: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """A table of positions (1, 1 + N, D), class token first, stretched from a grid of `old` to `new` rows and columns.

    Bicubic with antialiasing, as timm does it, in float32 or wider; the row of the class token stays. The paper does
    this to fine-tune at higher resolution (section 3.2).

    Raises `ValueError` for grids that are no two positive integers, and a table of another shape than `old` says.
    """
    check_sizes("old", old, "height, width")
    check_sizes("new", new, "height, width")
    check_floats("pos_embed", pos_embed)
    if pos_embed.ndim != 3 or pos_embed.shape[:2] != (1, 1 + old[0] * old[1]):
        raise ValueError(f"pos_embed must have shape (1, {1 + old[0] * old[1]}, D), got {tuple(pos_embed.shape)}")
    if tuple(old) == tuple(new):
        return pos_embed
    of_class, of_grid = pos_embed[:, :1], upcast(pos_embed[:, 1:]).unflatten(1, old).permute(0, 3, 1, 2)
    of_grid = F.interpolate(of_grid, size=new, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([of_class, of_grid.flatten(2).transpose(1, 2).to(pos_embed.dtype)], dim=1)


def attention_rollout(maps: Tensor) -> Tensor:
    r"""How much of each input token reaches each token at the end: (B, 1 + N, 1 + N), rows summing to 1.

    Every layer mixes tokens by $\tfrac12(A + I)$, the mean of its heads and the residual path; the layers are
    multiplied. Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020 (arXiv:2005.00928),
    equation (1).

    Args:
        maps: attention weights (depth, B, heads, 1 + N, 1 + N), as `VisionTransformer.attention_maps` gives them.
    """
    if check_floats("maps", maps).ndim != 5 or not maps.shape[0] or maps.shape[-1] != maps.shape[-2]:
        raise ValueError(f"maps must have shape (depth, B, heads, tokens, tokens), got {tuple(maps.shape)}")
    mixed = (maps.mean(2) + torch.eye(maps.shape[-1], device=maps.device, dtype=maps.dtype)) / 2
    rollout = mixed[0]
    for layer in mixed[1:]:
        rollout = layer @ rollout
    return rollout


def check_mlp_ratio(mlp_ratio: float) -> None:
    """Raises `ValueError` unless the hidden layer of an MLP can have a width."""
    check_number(above=0, mlp_ratio=mlp_ratio)


def check_images(name: str, x: Tensor, in_chans: int, step: int = 1) -> None:
    """Raises `ValueError` unless `x` are floating-point images (B, in_chans, H, W), H and W multiples of `step`."""
    check_floats(name, x)
    if x.ndim != 4 or x.shape[1] != in_chans or any(side % step or not side for side in x.shape[2:]):
        wanted = f"(B, {in_chans}, H, W) with H and W positive multiples of {step}"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(x.shape)}")


def check_tokens(name: str, x: Tensor, dim: int) -> None:
    """Raises `ValueError` unless `x` is floating-point, with `dim` numbers a token (..., dim)."""
    if not check_floats(name, x).ndim or x.shape[-1] != dim:
        raise ValueError(f"{name} must have shape (..., {dim}), got {tuple(x.shape)}")
