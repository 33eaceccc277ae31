r"""Latent diffusion: an autoencoder makes images small, diffusion works there, and a condition enters by attention.

Rombach, Blattmann, Lorenz, Esser and Ommer, "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022
(arXiv:2112.10752), sections 3.1 to 3.3. Parameter names are those of the authors' release, so that its first stages
(`AutoencoderKL()` is kl-f8) and the attention blocks of its U-Nets load as they are. The residual block is `unet.py`'s,
in the autoencoder without time; `LatentDenoiser`, which puts both together on one size of map, is the book's own.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import cast_for, check_count, check_finite, check_floats, check_number, check_some, upcast
from lib.diffusion.process import noise_like
from lib.diffusion.unet import (
    AttnBlock,
    ChannelNorm,
    Downsample,
    Level,
    ResnetBlock,
    Upsample,
    check_labels,
    check_time_channels,
    check_widths,
    group_norm,
    timestep_embedding,
    unshuffled,
)

Norm = Callable[[int], nn.Module]
PART = 500  # images that are encoded at once


class Middle(nn.Module):
    """Residual block, attention, residual block, at the smallest size: (B, channels, h, w) to the same."""

    def __init__(self, channels: int, norm: Norm = group_norm):
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, norm=norm)
        self.attn_1 = AttnBlock(channels, norm)
        self.block_2 = ResnetBlock(channels, channels, norm=norm)

    def forward(self, h: Tensor) -> Tensor:
        """The features behind the second block."""
        return self.block_2(self.attn_1(self.block_1(h)))


class Encoder(nn.Module):
    """Images (B, in_channels, H, W) to maps (B, z_channels, H / s, W / s), s = 2 to the power of the levels less one.

    Args:
        in_channels: channels of the image.
        z_channels: channels of the answer.
        ch: channels at full size.
        ch_mult: for each level, how many times `ch` its channels are.
        num_res_blocks: residual blocks a level.
        norm: makes a normalisation layer, `group_norm` or `ChannelNorm`.
    """

    def __init__(
        self,
        in_channels: int,
        z_channels: int,
        ch: int,
        ch_mult: tuple[int, ...],
        num_res_blocks: int,
        norm: Norm = group_norm,
    ):
        super().__init__()
        widths = level_widths(ch, ch_mult, num_res_blocks, in_channels=in_channels, z_channels=z_channels)
        self.conv_in = nn.Conv2d(in_channels, ch, kernel_size=3, padding=1)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            into = widths[level - 1] if level else ch
            blocks = [ResnetBlock(width if i else into, width, norm=norm) for i in range(num_res_blocks)]
            smaller = Downsample(width) if level < len(widths) - 1 else None
            self.down.append(Level(blocks, [], smaller, "downsample"))
        self.mid = Middle(widths[-1], norm)
        self.norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], z_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The maps of images."""
        h = self.conv_in(x)
        for level in self.down:
            for block in level.block:
                h = block(h)
            if hasattr(level, "downsample"):
                h = level.downsample(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """Maps (B, z_channels, h, w) to images (B, out_channels, h * s, w * s); arguments as `Encoder`'s."""

    def __init__(
        self,
        out_channels: int,
        z_channels: int,
        ch: int,
        ch_mult: tuple[int, ...],
        num_res_blocks: int,
        norm: Norm = group_norm,
    ):
        super().__init__()
        widths = level_widths(ch, ch_mult, num_res_blocks, out_channels=out_channels, z_channels=z_channels)
        self.conv_in = nn.Conv2d(z_channels, widths[-1], kernel_size=3, padding=1)
        self.mid = Middle(widths[-1], norm)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            below = widths[min(level + 1, len(widths) - 1)]
            blocks = [ResnetBlock(width if i else below, width, norm=norm) for i in range(num_res_blocks + 1)]
            self.up.append(Level(blocks, [], Upsample(width) if level else None, "upsample"))
        self.norm_out = norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_channels, kernel_size=3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """The images of maps."""
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            for block in level.block:
                h = block(h)
            if hasattr(level, "upsample"):
                h = level.upsample(h)
        return self.conv_out(F.silu(self.norm_out(h)))


def level_widths(ch: int, ch_mult: tuple[int, ...], num_res_blocks: int, **channels: int) -> list[int]:
    """The channels of each level, after checking all arguments."""
    check_count(ch=ch, num_res_blocks=num_res_blocks, **channels)
    check_widths(ch_mult)
    return [ch * mult for mult in ch_mult]


class Posterior(NamedTuple):
    """The normal distribution of a latent map: mean and log variance (B, z, h, w)."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """A latent map (B, z, h, w), from standard normal `noise` of the same shape, drawn where none is given."""
        noise = noise_like(self.mean, noise)
        return self.mean + (0.5 * self.logvar).exp() * noise

    def kl(self) -> Tensor:
        """The KL divergence from the standard normal distribution, in nats an image (B,)."""
        mean, logvar = upcast(self.mean), upcast(self.logvar)
        return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1)


class AutoencoderKL(nn.Module):
    """A VAE whose code is a map, with a KL so light that it hardly blurs (section 3.1). The defaults are kl-f8's.

    Images are between -1 and 1.

    Args:
        in_channels: channels of the image.
        z_channels: channels of the code.
        ch, ch_mult, num_res_blocks, norm: as `Encoder`'s.
        patch: encoder and decoder see squares of so many pixels a side as one pixel with more channels; 1 in the
            release.

    Raises:
        ValueError: for an argument out of range, and images of other channels or of a size that `patch` and as many
            halvings as there are levels less one do not divide.
    """

    def __init__(
        self,
        in_channels: int = 3,
        z_channels: int = 4,
        ch: int = 128,
        ch_mult: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        norm: Norm = group_norm,
        patch: int = 1,
    ):
        super().__init__()
        check_count(patch=patch, in_channels=in_channels, z_channels=z_channels)
        level_widths(ch, ch_mult, num_res_blocks)
        self.in_channels, self.z_channels, self.patch = in_channels, z_channels, patch
        self.stride = patch * 2 ** (len(ch_mult) - 1)
        sizes = (ch, ch_mult, num_res_blocks, norm)
        self.encoder = Encoder(in_channels * patch**2, 2 * z_channels, *sizes)
        self.decoder = Decoder(in_channels * patch**2, z_channels, *sizes)
        self.quant_conv = nn.Conv2d(2 * z_channels, 2 * z_channels, kernel_size=1)
        self.post_quant_conv = nn.Conv2d(z_channels, z_channels, kernel_size=1)

    def encode(self, x: Tensor) -> Posterior:
        """The distribution of the code (B, z_channels, H / s, W / s) of images (B, in_channels, H, W).

        It is float32 or wider: in 16 bits a variance overflows, and so does a sum of a few thousand nats.
        """
        sides = check_floats("x", x).shape[2:]
        if x.ndim != 4 or x.shape[1] != self.in_channels or any(not side or side % self.stride for side in sides):
            wanted = f"(B, {self.in_channels}, H, W) with H and W divisible by {self.stride}"
            raise ValueError(f"x must have shape {wanted}, got {tuple(x.shape)}")
        x = unshuffled(cast_for(self.encoder, x), self.patch)
        mean, logvar = upcast(self.quant_conv(self.encoder(x))).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(-30, 20))

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) of codes (B, z_channels, H / s, W / s)."""
        if check_floats("z", z).ndim != 4 or z.shape[1] != self.z_channels or 0 in z.shape[2:]:
            raise ValueError(f"z must have shape (B, {self.z_channels}, h, w), got {tuple(z.shape)}")
        return F.pixel_shuffle(self.decoder(self.post_quant_conv(cast_for(self.decoder, z))), self.patch)

    def forward(self, x: Tensor) -> tuple[Tensor, Posterior]:
        """Images (B, in_channels, H, W) drawn from a sampled code, and the code's distribution."""
        posterior = self.encode(x)
        return self.decode(posterior.sample()), posterior

    def loss(self, x: Tensor, kl_weight: float = 1e-6) -> dict[str, Tensor]:
        """Squared error a pixel plus `kl_weight` times the KL in nats an image, in float32 or wider.

        The release adds a perceptual and an adversarial loss, which photographs need; digits do without. Raises
        `ValueError` for no images, a pixel outside [-1, 1], or a `kl_weight` below 0.
        """
        check_images(x)
        check_number(0, kl_weight=kl_weight)
        reconstruction, posterior = self(x)
        error, kl = F.mse_loss(upcast(reconstruction), upcast(x)), posterior.kl().mean()
        return {"loss": error + kl_weight * kl, "reconstruction": error, "kl": kl}


def check_images(x: Tensor) -> None:
    """Raises `ValueError` unless `x` holds images, of pixels in [-1, 1]."""
    check_some("x", check_floats("x", x))
    check_finite("x", x, -1, 1)


class FirstStage(AutoencoderKL):
    """An autoencoder that knows how large its codes are, and hands them on with variance 1 (appendix G).

    `scale_factor`, a buffer, is 1 until `measure_scale` has seen images. It stays float32 or wider whatever the module
    is cast to or loaded from. Arguments as `AutoencoderKL`'s.
    """

    scale_factor: Tensor

    def __init__(self, *sizes, **settings):
        super().__init__(*sizes, **settings)
        self.register_buffer("scale_factor", upcast(torch.ones(())))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FirstStage":
        """What `Module.to`, `half` and their like do, but the factor never falls below float32."""
        before = self.scale_factor
        super()._apply(fn, recurse)
        if self.scale_factor.dtype.itemsize < 4:
            self.scale_factor = before.to(self.scale_factor.device, torch.float32)
        return self

    def _load_from_state_dict(self, *args):
        """With `assign=True` what is loaded takes the buffer's place; of 16 bits it is widened."""
        super()._load_from_state_dict(*args)
        self.scale_factor = upcast(self.scale_factor)

    @torch.no_grad()
    def measure_scale(self, x: Tensor) -> None:
        """Sets the factor to 1 / the standard deviation of all numbers in codes drawn for images (B, C, H, W).

        Raises `ValueError` for no images, or a pixel outside [-1, 1].
        """
        check_images(x)
        codes = torch.cat([self.encode(part).sample() for part in x.split(PART)])
        self.scale_factor.copy_(1 / upcast(codes).std())

    def to_latent(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Scaled codes (B, z_channels, h, w) of images: the means, or draws where `noise` of their shape is given."""
        posterior = self.encode(x)
        return self.scale_factor * (posterior.mean if noise is None else posterior.sample(noise))

    def to_image(self, z: Tensor) -> Tensor:
        """Images (B, in_channels, H, W), between about -1 and 1, of scaled codes."""
        return self.decode(z / self.scale_factor)


def digit_first_stage(**settings) -> FirstStage:
    """The first stage that this book trains on MNIST's digits: (B, 1, 28, 28) to (B, 4, 7, 7) and back.

    `settings` are for variants: other arguments of `AutoencoderKL`. It works on squares of 2×2 pixels, with norms over
    channels, whose numbers lie side by side in memory, as `digit_unet` does, to be fast on a CPU.
    """
    sizes = {"in_channels": 1, "ch": 32, "ch_mult": (1, 1), "num_res_blocks": 1, "patch": 2, "norm": ChannelNorm}
    return FirstStage(**{**sizes, **settings}).to(memory_format=torch.channels_last)


class CrossAttention(nn.Module):
    """Queries from the tokens, keys and values from a context, or from the tokens themselves (section 3.3).

    Args:
        query_dim: width of the tokens.
        context_dim: width of the context; None for self-attention.
        heads: number of heads.
        dim_head: width of a head.

    Raises:
        ValueError: for an argument out of range; when called, for tokens or a context of another shape, and for no
            context where the attention is not among the tokens.
    """

    def __init__(self, query_dim: int, context_dim: int | None = None, heads: int = 8, dim_head: int = 64):
        super().__init__()
        check_count(query_dim=query_dim, heads=heads, dim_head=dim_head)
        inner, self.heads = heads * dim_head, heads
        self.query_dim, self.asks_itself = query_dim, context_dim is None
        self.context_dim = context_dim = query_dim if context_dim is None else context_dim
        check_count(context_dim=context_dim)
        self.to_q = nn.Linear(query_dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, query_dim))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Tokens (B, N, query_dim) that have read the context (B, M, context_dim), or each other."""
        if check_floats("x", x).ndim != 3 or x.shape[2] != self.query_dim:
            raise ValueError(f"x must be tokens (B, N, {self.query_dim}), got {tuple(x.shape)}")
        context = check_floats("context", x if context is None and self.asks_itself else context)
        if context.ndim != 3 or context.shape[::2] != (x.shape[0], self.context_dim):
            raise ValueError(
                f"context must be tokens ({x.shape[0]}, M, {self.context_dim}), got {tuple(context.shape)}"
            )
        q, k, v = (
            project(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project, tokens in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    """Half of a linear layer's output, gated by the GELU of the other: Shazeer, "GLU Variants" (arXiv:2002.05202)."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.proj = nn.Linear(dim, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, dim) to tokens (B, N, hidden)."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU to four times the width, and back: tokens (B, N, dim) to the same."""

    def __init__(self, dim: int):
        super().__init__()
        self.net = nn.Sequential(
            GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)
        )  # between them: dropout in the release

    def forward(self, x: Tensor) -> Tensor:
        """The tokens behind both layers."""
        return self.net(x)


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention, two layers, each behind a normalisation: tokens (B, N, dim) to the same."""

    def __init__(self, dim: int, heads: int, dim_head: int, context_dim: int | None):
        super().__init__()
        self.attn1 = CrossAttention(dim, None, heads, dim_head)
        self.attn2 = CrossAttention(dim, context_dim, heads, dim_head)
        self.ff = FeedForward(dim)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """The tokens behind this block, for a context (B, M, context_dim)."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Where a condition enters the U-Net: the pixels of a map (B, C, H, W) as tokens that read a context.

    Args:
        in_channels: C.
        n_heads: heads of each attention.
        d_head: width of a head.
        depth: number of blocks.
        context_dim: width of the context's tokens; None for a map that only reads itself.

    Raises:
        ValueError: for an argument out of range.
    """

    def __init__(self, in_channels: int, n_heads: int, d_head: int, depth: int = 1, context_dim: int | None = None):
        super().__init__()
        check_count(in_channels=in_channels, n_heads=n_heads, d_head=d_head, depth=depth)
        inner = n_heads * d_head
        self.norm = group_norm(in_channels)
        self.proj_in = nn.Conv2d(in_channels, inner, kernel_size=1)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(inner, n_heads, d_head, context_dim) for _ in range(depth)
        )
        self.proj_out = nn.Conv2d(inner, in_channels, kernel_size=1)
        nn.init.zeros_(self.proj_out.weight)  # it starts as the identity
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The map (B, C, H, W) that has read the context (B, M, context_dim)."""
        channels = self.proj_out.out_channels
        if check_floats("x", x).ndim != 4 or x.shape[1] != channels or 0 in x.shape[2:]:
            raise ValueError(f"x must be maps (B, {channels}, H, W), got {tuple(x.shape)}")
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))


class ClassEmbedder(nn.Module):
    """Classes as a context: each has so many tokens of its own, as if it were a short sentence, and so has silence.

    Args:
        num_classes: classes 0 to num_classes - 1.
        dim: width of a token.
        tokens: tokens of a class; 1 in the release, for which `CrossAttention` has nothing to choose from.
    """

    def __init__(self, num_classes: int, dim: int, tokens: int = 1):
        super().__init__()
        check_count(num_classes=num_classes, dim=dim, tokens=tokens)
        self.num_classes, self.tokens = num_classes, tokens
        self.embedding = nn.Embedding(num_classes + 1, tokens * dim)  # the last says nothing

    def forward(self, labels: Tensor) -> Tensor:
        """The context (B, tokens, dim) of classes (B,), -1 for none. Raises `ValueError` for other labels."""
        labels = check_labels(labels, -1, self.num_classes - 1)
        return self.embedding(labels % (self.num_classes + 1)).unflatten(1, (self.tokens, -1))


class LatentDenoiser(nn.Module):
    r"""$\epsilon_\theta(z_t, t, \tau(y))$, or $v_\theta$: a network for codes, told of a condition by cross-attention.

    The U-Net of section 3.3 has these parts at each of its sizes: a residual block that knows the time, then a
    `SpatialTransformer` that reads the context. A map of 7×7 needs one size only, so here they follow each other.

    Args:
        channels: channels of the code.
        width: channels inside.
        depth: how many times the two parts follow each other.
        heads: heads of each attention; they share `width`.
        num_classes: classes that `labels` may name.
        context_dim: width of the context's tokens.
        tokens: tokens of a class.

    Raises:
        ValueError: for an argument out of range, and codes, times, labels or contexts of other shapes.
    """

    def __init__(
        self,
        channels: int = 4,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        num_classes: int = 10,
        context_dim: int = 32,
        tokens: int = 4,
    ):
        super().__init__()
        check_count(channels=channels, width=width, depth=depth, heads=heads)
        check_count(num_classes=num_classes, context_dim=context_dim, tokens=tokens)
        check_time_channels(width, "width")
        if width % heads:
            raise ValueError(f"width must be a multiple of the {heads} heads, got {width}")
        self.channels, self.width, self.context_dim = channels, width, context_dim
        temb = 2 * width
        self.time_embed = nn.Sequential(nn.Linear(width, temb), nn.SiLU(), nn.Linear(temb, temb))
        self.cond_stage_model = ClassEmbedder(num_classes, context_dim, tokens)
        self.conv_in = nn.Conv2d(channels, width, kernel_size=3, padding=1)
        self.res = nn.ModuleList(ResnetBlock(width, width, temb, norm=ChannelNorm) for _ in range(depth))
        self.attn = nn.ModuleList(
            SpatialTransformer(width, heads, width // heads, context_dim=context_dim) for _ in range(depth)
        )
        self.norm_out = ChannelNorm(width)
        self.conv_out = nn.Conv2d(width, channels, kernel_size=3, padding=1)
        for last in (*(block.conv2 for block in self.res), self.conv_out):  # each starts as its shortcut, all as 0
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, z: Tensor, t: Tensor, labels: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """The answer, shaped as the codes z (B, channels, h, w), at times (B,), 0-based.

        The condition is `labels` (B,), -1 for none, or any `context` (B, M, context_dim); without both, none.
        """
        if check_floats("z", z).ndim != 4 or z.shape[1] != self.channels or 0 in z.shape[2:]:
            raise ValueError(f"z must be (B, {self.channels}, h, w), got {tuple(z.shape)}")
        if t.shape != z.shape[:1]:
            raise ValueError(f"t must have shape ({len(z)},), one time for each code, got {tuple(t.shape)}")
        if context is None:
            context = self.cond_stage_model(torch.full_like(t, -1, dtype=torch.long) if labels is None else labels)
        if context.ndim != 3 or context.shape[::2] != (z.shape[0], self.context_dim):  # len(z) would fix the number
            wanted = f"({len(z)}, M, {self.context_dim})"
            raise ValueError(
                f"the condition must be tokens {wanted}, one row for each code, got {tuple(context.shape)}"
            )
        temb = self.time_embed(timestep_embedding(t, self.width).to(z.dtype))
        h = self.conv_in(z)
        for res, attn in zip(self.res, self.attn):
            h = attn(res(h, temb), context)
        return self.conv_out(F.silu(self.norm_out(h)))


def digit_latent_denoiser(**settings) -> LatentDenoiser:
    """The network that this book trains on the codes (B, 4, 7, 7) of digits; `settings` are for variants."""
    return LatentDenoiser(**settings).to(memory_format=torch.channels_last)
