r"""Swin's windows: a map cut into squares whose tokens attend to one another, and the mask for shifted ones.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021 (arXiv:2103.14030),
section 3.2. Parameter names and buffers are those of the authors' release.

A map (B, H, W, C) is cut into windows of M×M tokens, N = M * M. In code M is `window_size` and the shift, half a
window, is `shift`.
"""

import torch
from torch import Tensor, nn

from lib.attention import Attention, attention
from lib.checks import check_count, check_floats, described

OTHER_WINDOWS = "these weights are of other windows, which are also smaller where a map is smaller than window_size"
APART = -100.0  # added to a score, it leaves nothing of the pair: exp(-100) is 4e-44


def window_partition(x: Tensor, window_size: int) -> Tensor:
    """Windows (B * windows, M, M, C) of a map (B, H, W, C), row by row; M must divide H and W."""
    check_count(window_size=window_size)
    if not isinstance(x, Tensor):
        raise ValueError(f"x must be a tensor, got {described(x)}")
    if x.ndim != 4 or any(side % window_size or not side for side in x.shape[1:3]):
        wanted = f"(B, H, W, C) with H and W positive multiples of window_size={window_size}"
        raise ValueError(f"x must have shape {wanted}, got {tuple(x.shape)}")
    x = x.unflatten(2, (-1, window_size)).unflatten(1, (-1, window_size))  # (B, rows, M, columns, M, C)
    return x.transpose(2, 3).flatten(0, 2)


def window_reverse(windows: Tensor, window_size: int, H: int, W: int) -> Tensor:
    """The map (B, H, W, C) whose windows (B * windows, M, M, C) are given."""
    check_count(window_size=window_size, H=H, W=W)
    if not isinstance(windows, Tensor):
        raise ValueError(f"windows must be a tensor, got {described(windows)}")
    rows, columns = H // window_size, W // window_size
    whole = H and W and not H % window_size and not W % window_size and windows.ndim == 4
    if not whole or windows.shape[1:3] != (window_size, window_size) or windows.shape[0] % (rows * columns):
        raise ValueError(f"windows of size {window_size} cannot fill {H}×{W}, got shape {tuple(windows.shape)}")
    return windows.unflatten(0, (-1, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shift_mask(H: int, W: int, window_size: int, shift: int, device: torch.device | None = None) -> Tensor:
    """What is added to the scores after the cyclic shift: (windows, N, N), 0 within a region and -100 between two.

    The map was rolled up and left by `shift`. Both sides of a window's seam came from opposite ends of the map, so the
    last window of each row and column holds two regions, the one in the corner four: nine regions in all (figure 4).
    It is made on the `device`.

    Raises `ValueError` unless M divides H and W, and 0 <= shift < M.
    """
    check_count(window_size=window_size, H=H, W=W)
    check_count(0, window_size - 1, shift=shift)
    if not shift:
        windows = window_partition(torch.zeros(1, H, W, 1, device=device), window_size)
        return torch.zeros(len(windows), window_size**2, window_size**2, device=device)

    def band(size: int) -> Tensor:  # 0, 1 or 2: before the last window, in it before the seam, behind the seam
        place = torch.arange(size, device=device)
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
        check_count(window_size=window_size)
        super().__init__(dim, num_heads, qkv_bias)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window_size))
        self.window_size = window_size

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        """The index follows from the window's size; the release stores it, but it is not read and may be missing."""
        put(state_dict, prefix, "relative_position_index", relative_position_index(self.window_size))
        table = state_dict.get(name := prefix + "relative_position_bias_table")
        if table is not None and len(table) != len(self.relative_position_bias_table):
            M, rows = self.window_size, len(self.relative_position_bias_table)
            raise ValueError(f"{name} must have {rows} rows, of windows of {M}×{M}, got {len(table)}: {OTHER_WINDOWS}")
        super()._load_from_state_dict(state_dict, prefix, *rest)

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
        self.check(x, mask)
        q, k, v = self.heads(x)  # (B * windows, heads, N, dim / heads)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # (heads, N, N)
        if mask is None:
            return attention(q, k, v, bias)
        q, k, v = (part.unflatten(0, (-1, mask.shape[0])) for part in (q, k, v))  # the mask is the same for all images
        mixed, weights = attention(q, k, v, bias + mask[:, None])
        return mixed.flatten(0, 1), weights.flatten(0, 1)

    def check(self, x: Tensor, mask: Tensor | None) -> None:
        """Raises `ValueError` for windows and masks of other sizes than this attention's."""
        N = self.window_size**2
        if check_floats("x", x).ndim != 3 or tuple(x.shape[1:]) != (N, self.dim):
            raise ValueError(f"x must have shape (B * windows, {N}, {self.dim}), got {tuple(x.shape)}")
        if mask is None:
            return
        windows = len(mask) if check_floats("mask", mask).ndim == 3 else 0
        if not windows or tuple(mask.shape[1:]) != (N, N) or x.shape[0] % windows:
            wanted = f"(windows, {N}, {N}), with windows a divisor of {x.shape[0]}"
            raise ValueError(f"mask must have shape {wanted}, got {tuple(mask.shape)}")


def put(state_dict: dict[str, Tensor], prefix: str, name: str, own: Tensor | None) -> None:
    """Puts what follows from a module's sizes in the place of what was stored; None leaves nothing there.

    It goes to device and precision of the weights it is loaded with, which with `assign=True` become the module's.
    """
    state_dict.pop(prefix + name, None)
    if own is not None:
        weights = (value for key, value in state_dict.items() if key.startswith(prefix) and value.is_floating_point())
        like = next(weights, own)
        state_dict[prefix + name] = own.to(like.device, like.dtype if own.is_floating_point() else own.dtype)
