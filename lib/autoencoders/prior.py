r"""Priors over code maps: they write new maps, code after code, for a decoder to draw.

The transformer is that of Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2, 2019), small;
van den Oord et al. (arXiv:1711.00937, section 3.3) used PixelCNN, whose masked convolution stands here for comparison:
van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016 (arXiv:1601.06759).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.attention import Attention
from lib.checks import (
    check_count,
    check_flags,
    check_floats,
    check_generator,
    check_integers,
    check_number,
    check_option,
    check_sizes,
    check_some,
    upcast,
)

Cache = list[tuple[Tensor, Tensor]]


class PriorBlock(nn.Module):
    """Causal self-attention, then two linear layers, each behind a normalisation: tokens (B, N, dim) to the same."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The tokens after this block, and all keys and values so far (B, heads, N, dim / heads).

        With the keys and values of the `past`, x is the one token that comes next.
        """
        q, k, v = self.attn.heads(self.norm1(x))
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        x = x + self.attn.proj(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x)), (k, v)


class CodePrior(nn.Module):
    r"""$p(s \mid c) = \prod_i p(s_i \mid s_{<i}, c)$ over maps of codes, read row by row.

    The condition c stands before the first code: a class and, for the lower level of VQ-VAE-2, the upper level's map.

    Args:
        num_codes: size of the vocabulary.
        shape: height and width of a map.
        num_classes: classes to write for, or 0 where there are none.
        upper: for a lower level, the level above: its vocabulary, height and width.
        dim: width of a token.
        depth: number of blocks.
        num_heads: heads of each attention; they must divide `dim`.

    Raises:
        ValueError: for an argument out of range; codes, labels and upper maps of another shape, out of range, missing
            or not wanted.
    """

    def __init__(
        self,
        num_codes: int,
        shape: tuple[int, int],
        *,
        num_classes: int = 0,
        upper: tuple[int, int, int] | None = None,
        dim: int = 128,
        depth: int = 3,
        num_heads: int = 4,
    ):
        super().__init__()
        check_count(num_codes=num_codes, dim=dim, depth=depth)
        check_count(0, num_classes=num_classes)
        self.num_codes, self.shape, self.num_classes = (
            num_codes,
            check_sizes("shape", shape, "height, width"),
            num_classes,
        )
        self.upper = None if upper is None else check_sizes("upper", upper, "num_codes, height, width")
        self.class_embed = nn.Embedding(max(1, num_classes), dim)  # without classes, one token to start from
        self.upper_embed = None
        before = 1
        if self.upper is not None:
            self.upper_embed = nn.Embedding(self.upper[0], dim)
            before += math.prod(self.upper[1:])
        self.code_embed = nn.Embedding(num_codes, dim)
        self.pos_embed = nn.Parameter(torch.empty(before + math.prod(shape) - 1, dim))  # the last code is not read
        self.blocks = nn.ModuleList(PriorBlock(dim, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_codes)
        for parameter in (
            self.pos_embed,
            *(layer.weight for layer in self.modules() if isinstance(layer, nn.Embedding)),
        ):
            nn.init.normal_(parameter, std=dim**-0.5)

    def forward(self, codes: Tensor, labels: Tensor | None = None, upper: Tensor | None = None) -> Tensor:
        """Logits (B, num_codes, h, w) of each code of maps (B, h, w), given those before it, labels and upper maps."""
        codes = check_map("codes", codes, self.num_codes, self.shape)
        condition = self.condition(codes.shape[0], labels, upper)
        x = torch.cat([condition, self.code_embed(codes.flatten(1)[:, :-1])], dim=1) + self.pos_embed
        for block in self.blocks:
            x, _ = block(x)
        logits = self.head(self.norm(x[:, condition.shape[1] - 1 :]))
        return logits.transpose(1, 2).unflatten(2, self.shape)

    def loss(self, codes: Tensor, labels: Tensor | None = None, upper: Tensor | None = None) -> Tensor:
        """Cross-entropy in nats a code, in float32 or wider, for maps (B, h, w), labels (B,) and upper maps."""
        codes = check_map("codes", codes, self.num_codes, self.shape)
        check_some("codes", codes)
        return F.cross_entropy(upcast(self(codes, labels, upper)), codes)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        labels: Tensor | None = None,
        upper: Tensor | None = None,
        *,
        temperature: float = 1.0,
        cache: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """`n` maps (n, h, w), each code drawn from its distribution after those before it.

        Args:
            n: how many.
            labels: classes (n,), where the prior has classes.
            upper: maps of the level above (n, h', w'), where the prior has one.
            temperature: divides the logits; below 1 likely codes become likelier.
            cache: keep the keys and values of what is written. Without it every code reads everything again: the same
                maps, more slowly.
            generator: of the random numbers, on the prior's device.

        Raises `ValueError` as `forward`, and for a temperature that is not finite or not above 0.
        """
        check_count(n=n)
        check_number(above=0, temperature=temperature)
        check_flags(cache=cache)
        check_generator(generator, self.pos_embed.device)
        x = self.condition(n, labels, upper)
        written, past = [], None
        for _ in range(math.prod(self.shape)):
            logits, past = self.next_code(x, past if cache else None)
            chosen = draw(chances(logits, temperature), generator)
            written.append(chosen)
            token = self.code_embed(chosen)
            x = token if cache else torch.cat([x, token], dim=1)
        return torch.cat(written, dim=1).unflatten(1, self.shape)

    def next_code(self, x: Tensor, past: Cache | None) -> tuple[Tensor, Cache]:
        """Logits (B, num_codes) after tokens (B, N, dim) that follow what `past` holds, and all keys and values."""
        start = 0 if past is None else past[0][0].shape[2]
        most, dim = self.pos_embed.shape
        if check_floats("x", x).ndim != 3 or x.shape[2] != dim or not 0 < x.shape[1] <= most - start:
            raise ValueError(f"x must have shape (B, N, {dim}), N from 1 to {most - start}, got {tuple(x.shape)}")
        x = x + self.pos_embed[start : start + x.shape[1]]
        seen = []
        for i, block in enumerate(self.blocks):
            x, kept = block(x, None if past is None else past[i])
            seen.append(kept)
        return self.head(self.norm(x[:, -1])), seen

    def condition(self, n: int, labels: Tensor | None, upper: Tensor | None) -> Tensor:
        """What stands before the first of `n` maps: tokens (n, 1 or 1 + h' * w', dim)."""
        if (labels is None) == bool(self.num_classes) or (upper is None) == (self.upper is not None):
            wanted = f"{'labels' if self.num_classes else 'no labels'} and {'an' if self.upper else 'no'} upper map"
            got = [name for name, value in (("labels", labels), ("upper", upper)) if value is not None]
            raise ValueError(f"this prior wants {wanted}, got {' and '.join(got) or 'neither'}")
        if labels is None:
            labels = torch.zeros(n, dtype=torch.long, device=self.pos_embed.device)
        labels = check_map("labels", labels, max(1, self.num_classes), ())
        if labels.shape[0] != n:
            raise ValueError(f"labels must be one for each of the {n} maps, got {labels.shape[0]}")
        tokens = self.class_embed(labels)[:, None]
        if upper is not None and self.upper is not None and self.upper_embed is not None:  # all or none, as seen above
            upper = check_map("upper", upper, self.upper[0], self.upper[1:])
            if upper.shape[0] != n:
                raise ValueError(f"upper must be one map for each of the {n} maps, got {upper.shape[0]}")
            tokens = torch.cat([tokens, self.upper_embed(upper.flatten(1))], dim=1)
        return tokens


def chances(logits: Tensor, temperature: float) -> Tensor:
    """What logits (B, ..., num_codes) say at a temperature, in float32 or wider: close to 0, the likeliest code alone.

    The largest logit is taken off first, so that none overflows.
    """
    logits = upcast(logits)
    below = logits - logits.amax(-1, keepdim=True)
    return (below / max(temperature, torch.finfo(below.dtype).tiny)).softmax(-1)


def draw(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One code (B, 1) from each distribution (B, num_codes): the first of clocks that ring at these rates.

    `torch.multinomial` draws the same, but looks at the probabilities first, for which it would wait for the device.
    """
    return (probabilities / torch.empty_like(probabilities).exponential_(generator=generator)).argmax(-1, keepdim=True)


def check_map(name: str, codes: Tensor, count: int, shape: tuple[int, ...]) -> Tensor:
    """`codes` as int64: integers (B, *shape) between 0 and count - 1; else `ValueError`."""
    codes = check_integers(name, codes, 0, count - 1)
    if not codes.ndim or codes.shape[1:] != tuple(shape):
        wanted = f"({', '.join(['B', *map(str, shape)])}{',' * (not shape)})"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(codes.shape)}")
    return codes


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees only what is written already: the rows above, and in its own row what lies to the left.

    PixelCNN's (figure 2, right): mask "A" hides the pixel itself, for the first layer; mask "B" shows it, for those
    behind. Maps (B, in_channels, H, W) to (B, out_channels, H, W).

    Args:
        mask: "A" or "B".
        in_channels: channels that come in.
        out_channels: channels that go out.
        kernel_size: side of the square kernel, odd.
    """

    def __init__(self, mask: str, in_channels: int, out_channels: int, kernel_size: int):
        check_option("mask", mask, ("A", "B"))
        check_count(in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        visible, middle = torch.zeros(kernel_size, kernel_size), kernel_size // 2
        visible[:middle] = 1
        visible[middle, : middle + (mask == "B")] = 1
        self.register_buffer("visible", visible)

    def forward(self, x: Tensor) -> Tensor:
        """The features of maps (B, in_channels, H, W)."""
        if check_floats("x", x).ndim != 4 or x.shape[1] != self.in_channels or 0 in x.shape[2:]:
            wanted = f"(B, {self.in_channels}, H, W) with H and W of at least 1"
            raise ValueError(f"x must have shape {wanted}, got {tuple(x.shape)}")
        return self._conv_forward(x, self.weight * self.visible, self.bias)
