r"""Attention, the one block that the transformers of this book share.

Vaswani et al., "Attention Is All You Need", NIPS 2017 (arXiv:1706.03762), section 3.2. Parameter names are those of
timm and of the MAE and Swin releases: one projection `qkv` for queries, keys and values, and `proj` behind the heads.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import check_count, check_flags, check_floats, described


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""$\mathrm{softmax}(QK^\top/\sqrt d)\,V$ and its weights, as equation (1) says it: to read, draw and test.

    Args:
        q: queries (..., N, d).
        k: keys (..., M, d).
        v: values (..., M, d_v).
        mask: what is added to the scores, broadcastable to their shape (..., N, M); `-inf` forbids a pair. A query all
            of whose keys are forbidden looks at all, as an image of padding alone does: softmax needs one.

    Returns:
        The mixed values (..., N, d_v) and the weights (..., N, M), each row of which sums to 1.

    Raises:
        ValueError: for tensors that are not floating point or do not fit.
    """
    check_heads(q, k, v)
    scores = torch.einsum("...nd,...md->...nm", q / math.sqrt(q.shape[-1]), k)  # fewer divisions than of N×M scores
    if mask is not None:
        check_added(mask, scores.shape)
        scores = scores + opened(mask)
    weights = scores.softmax(dim=-1)
    return torch.einsum("...nm,...md->...nd", weights.to(v.dtype), v), weights


def check_heads(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raises `ValueError` unless queries (..., N, d), keys (..., M, d) and values (..., M, d_v) fit together."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        if check_floats(name, x).ndim < 2:
            raise ValueError(f"{name} must have shape (..., N, d), got {tuple(x.shape)}")
    got = f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
    if k.shape[-1] != q.shape[-1] or v.shape[-2] != k.shape[-2]:
        raise ValueError(f"q, k and v must have shapes (..., N, d), (..., M, d) and (..., M, d_v), got {got}")
    for x, y in ((q, k), (q, v), (k, v)):
        if not all(n == m or n == 1 or m == 1 for n, m in zip(x.shape[-3::-1], y.shape[-3::-1])):
            raise ValueError(f"q, k and v must have shapes that broadcast, got {got}")


def check_added(mask: Tensor, scores: Sequence[int]) -> None:
    """Raises `ValueError` for a mask that cannot be added to scores of this shape and leave it as it is.

    One of True and False would count as 1 and 0.
    """
    if not isinstance(mask, Tensor) or not mask.is_floating_point():
        raise ValueError(f"mask must be floating point, what is added to the scores, got {described(mask)}")
    fits = all(n == m or n == 1 for n, m in zip(reversed(mask.shape), reversed(scores)))
    if mask.ndim > len(scores) or not fits:
        raise ValueError(f"mask must broadcast to the scores {tuple(scores)}, got {described(mask)}")


def opened(mask: Tensor) -> Tensor:
    """`mask` with 0 in each row that forbids all keys, of which softmax would make what is no number."""
    return mask.masked_fill((mask == -torch.inf).all(dim=-1, keepdim=True), 0.0)


class Attention(nn.Module):
    """Multi-head self-attention (section 3.2.2) over tokens (B, N, dim).

    Args:
        dim: width of a token.
        num_heads: number of heads; it must divide `dim`.
        qkv_bias: whether the projection to queries, keys and values has a bias.

    Raises:
        ValueError: where `num_heads` does not divide `dim`, one of them is below 1, the tokens have another width, or a
            mask does not fit.
    """

    def __init__(self, dim: int, num_heads: int = 8, qkv_bias: bool = True):
        super().__init__()
        check_count(dim=dim, num_heads=num_heads)
        check_flags(qkv_bias=qkv_bias)
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got num_heads={num_heads} and dim={dim}")
        self.dim = dim
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixed tokens (B, N, dim); `mask` is added to the scores and broadcasts to (B, heads, N, N)."""
        q, k, v = self.heads(x)
        if mask is not None:
            check_added(mask, (*q.shape[:3], k.shape[2]))
            mask = opened(mask.to(q.dtype))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, heads, N, dim / heads)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The attention weights (B, heads, N, N) that `forward` uses and does not keep."""
        return attention(*self.heads(x), mask)[1]

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens (B, N, dim), each (B, heads, N, dim / heads)."""
        if check_floats("x", x).ndim != 3 or x.shape[-1] != self.dim:
            raise ValueError(f"x must have shape (B, N, {self.dim}), got {tuple(x.shape)}")
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, dim / heads)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)
