r"""Where a place of the feature map lies, told in numbers that attention can use.

Carion et al., "End-to-End Object Detection with Transformers" (DETR), ECCV 2020 (arXiv:2005.12872), appendix A.4.
A mask is True where an image was padded; padded places do not count.
"""

import math

import torch
from torch import Tensor, nn

from lib.checks import check_count, check_flags, check_number, described


class PositionEmbeddingSine(nn.Module):
    r"""Sines and cosines of the row, then of the column: masks (B, H, W) to codes (B, 2 * num_pos_feats, H, W).

    Channel $2i$ of a half is $\sin(p / \tau^{2i/F})$ and channel $2i + 1$ the cosine, with F = `num_pos_feats` and
    $\tau$ the temperature. The place $p$ counts the rows or columns that are not padding, from 1, and runs to `scale`
    at the far end, whatever the size of the image.

    Args:
        num_pos_feats: channels of the row and of the column each, an even number.
        temperature: the largest wavelength, in units of $2\pi$ places.
        normalize: let every image end at `scale`; without it, $p$ is the count itself.
        scale: where an image ends.

    Raises:
        ValueError: for an odd number of channels, a temperature or scale not above 0, and masks of another kind.
    """

    def __init__(
        self,
        num_pos_feats: int = 128,
        temperature: float = 10000.0,
        normalize: bool = True,
        scale: float = 2 * math.pi,
    ):
        super().__init__()
        check_count(num_pos_feats=num_pos_feats)
        check_number(above=0, temperature=temperature, scale=scale)
        check_flags(normalize=normalize)
        if num_pos_feats % 2:
            raise ValueError(f"num_pos_feats must be even, for sines and cosines, got {num_pos_feats}")
        self.num_pos_feats, self.temperature, self.normalize, self.scale = num_pos_feats, temperature, normalize, scale

    def forward(self, mask: Tensor) -> Tensor:
        """Codes (B, 2 * num_pos_feats, H, W), float32 whatever the precision of the network."""
        check_mask(mask)
        place = torch.arange(self.num_pos_feats, dtype=torch.float32, device=mask.device)
        wavelength = self.temperature ** (2 * (place // 2) / self.num_pos_feats)
        halves = []
        for dim in (1, 2):
            p = (~mask).cumsum(dim, dtype=torch.float32)
            if self.normalize:
                p = p / (p.narrow(dim, -1, 1) + 1e-6) * self.scale
            angle = p[..., None] / wavelength
            halves.append(torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=4).flatten(3))
        return torch.cat(halves, dim=3).permute(0, 3, 1, 2)


class PositionEmbeddingLearned(nn.Module):
    """A learned vector for each column, then for each row: masks (B, H, W) to codes (B, 2 * num_pos_feats, H, W).

    It knows 50 rows and columns; larger maps raise `ValueError`.
    """

    def __init__(self, num_pos_feats: int = 128):
        super().__init__()
        check_count(num_pos_feats=num_pos_feats)
        self.row_embed = nn.Embedding(50, num_pos_feats)
        self.col_embed = nn.Embedding(50, num_pos_feats)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, mask: Tensor) -> Tensor:
        """Codes (B, 2 * num_pos_feats, H, W)."""
        B, H, W = check_mask(mask).shape
        if max(H, W) > len(self.row_embed.weight):
            raise ValueError(f"mask must have at most {len(self.row_embed.weight)} rows and columns, got {H} and {W}")
        columns, rows = self.col_embed.weight[:W].expand(H, -1, -1), self.row_embed.weight[:H, None].expand(-1, W, -1)
        return torch.cat([columns, rows], dim=2).permute(2, 0, 1).expand(B, -1, -1, -1)


def check_mask(mask: Tensor) -> Tensor:
    """`mask` itself, after checking that it is boolean (B, H, W) with H and W of at least 1."""
    if not isinstance(mask, Tensor) or mask.ndim != 3 or mask.dtype != torch.bool or 0 in mask.shape[1:]:
        raise ValueError(f"mask must be boolean (B, H, W) with H and W of at least 1, got {described(mask)}")
    return mask
