r"""Two U-Nets: the one of 2015, which gave the shape its name, and the one that DDPM trains.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015
(arXiv:1505.04597), figure 1. Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020
(arXiv:2006.11239), appendix B.

The parameters of `UNet` are named as in the published PyTorch weights of DDPM (`temb.dense.0`, `down.0.block.0.conv1`,
`mid.attn_1`, `up.0.upsample.conv`), which load into `UNet()` as they are.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import check_count, check_integers, check_number, described


class UNet2015(nn.Module):
    """The U-Net of figure 1: 23 convolutions, none of them padded, so that maps shrink and skips are cropped.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the answer, one score for each class and pixel.
        width: channels of the first level; each of the four levels below has twice as many.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 2, width: int = 64):
        super().__init__()
        check_count(in_channels=in_channels, num_classes=num_classes, width=width)
        widths = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(map(two_convolutions, [in_channels, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, kernel_size=2, stride=2) for w in reversed(widths[:-1]))
        self.join = nn.ModuleList(two_convolutions(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, num_classes, H - 184, W - 184) for the middle of images (B, in_channels, H, W).

        Raises `ValueError` where a map of odd size would meet the pooling, or nothing would be left: H and W must be
        188, 204, 220, ..., 572 and so on in steps of 16.
        """
        channels = self.down[0][0].in_channels
        if x.ndim != 4 or x.shape[1] != channels or any(size < 188 or (size - 188) % 16 for size in x.shape[2:]):
            raise ValueError(
                f"x must be (B, {channels}, H, W) with H and W one of 188, 204, 220, ..., got {tuple(x.shape)}"
            )
        skips = []
        for level, convolve in enumerate(self.down):
            x = convolve(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for enlarge, convolve, skip in zip(self.up, self.join, reversed(skips[:-1])):
            x = enlarge(x)
            x = convolve(torch.cat([centre(skip, x.shape[2:]), x], dim=1))
        return self.head(x)


def two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two unpadded 3×3 convolutions, a ReLU behind each: every side loses 4 pixels."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3), nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=3), nn.ReLU(),
    )  # fmt: skip


def centre(x: Tensor, size: Sequence[int]) -> Tensor:
    """The middle of maps (B, C, H, W), of the given height and width."""
    top, left = (x.shape[2] - size[0]) // 2, (x.shape[3] - size[1]) // 2
    return x[:, :, top : top + size[0], left : left + size[1]]


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    r"""Times (B,) as sines, then cosines, of `dim`/2 frequencies from 1 down to 1/10000: (B, dim), float32.

    As in Vaswani et al. (2017), section 3.5, except that all sines come first and the last frequency is 1/10000.
    """
    check_time_channels(dim, "dim")
    if not isinstance(t, Tensor) or t.ndim != 1 or t.is_complex() or t.dtype == torch.bool:
        raise ValueError(f"t must be times (B,), got {described(t)}")
    half = dim // 2
    steps = torch.arange(half, device=t.device, dtype=torch.float32)
    frequencies = torch.exp(-math.log(10000) * steps / (half - 1))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def unshuffled(x: Tensor, patch: int) -> Tensor:
    """`F.pixel_unshuffle`, (B, C, H, W) to (B, C patch², H / patch, W / patch), which fails for B = 0."""
    squares = x.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    return squares.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def check_labels(labels: Tensor, least: int = 0, most: int | None = None, name: str = "labels") -> Tensor:
    """`labels` as int64: integers (B,) of at least `least` and, where given, at most `most`; else `ValueError`.

    Their values are looked at only where that costs no waiting for a device, and not while compiling.
    """
    checked = check_integers(name, labels, least, most)
    if checked.ndim != 1:
        raise ValueError(f"{name} must be integers (B,), got {described(labels)}")
    return checked


def check_time_channels(ch: int, name: str = "ch") -> None:
    """Raises `ValueError` unless `ch` is a length for `timestep_embedding`."""
    check_count(**{name: ch})
    if ch < 4 or ch % 2:
        raise ValueError(f"{name} must be even and at least 4, for the sines and cosines of the time, got {ch}")


def check_widths(ch_mult: Sequence[int]) -> None:
    """Raises `ValueError` unless `ch_mult` holds a count for each of one or more levels."""
    if not isinstance(ch_mult, Sequence) or isinstance(ch_mult, str) or not ch_mult:
        raise ValueError(f"ch_mult must hold an integer for each level, got {ch_mult!r}")
    for mult in ch_mult:
        check_count(**{"each of ch_mult": mult})


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu and He, 2018) with the 32 groups and the eps of the published weights."""
    if channels % 32:
        raise ValueError(f"channels must be a multiple of 32 for group normalisation, got {channels}")
    return nn.GroupNorm(32, channels, eps=1e-6)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of each pixel over its channels, for maps (B, C, H, W). On a CPU much faster than groups."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps shaped as `x`."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResnetBlock(nn.Module):
    """Two convolutions and a shortcut; between the convolutions the block learns what time it is.

    Args:
        in_channels: channels that come in.
        out_channels: channels that go out. Where they differ, the shortcut is a 1×1 convolution.
        temb_channels: length of the time code; 0 for a block without time, as in latent diffusion's autoencoder.
        dropout: share of numbers dropped before the second convolution.
        norm: makes the normalisation layer for so many channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        temb_channels: int = 0,
        dropout: float = 0.0,
        norm: Callable[[int], nn.Module] = group_norm,
    ):
        super().__init__()
        check_count(in_channels=in_channels, out_channels=out_channels)
        check_count(0, temb_channels=temb_channels)
        check_number(0, 1, dropout=dropout)
        self.norm1 = norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        if temb_channels:
            self.temb_proj = nn.Linear(temb_channels, out_channels)
        self.norm2 = norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=1)
        self.in_channels, self.out_channels = in_channels, out_channels

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        """Maps (B, out_channels, H, W) from maps (B, in_channels, H, W) and time codes (B, temb_channels)."""
        h = self.conv1(F.silu(self.norm1(x)))
        if temb is not None:
            h = h + self.temb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return h + (x if self.in_channels == self.out_channels else self.nin_shortcut(x))


class AttnBlock(nn.Module):
    """Self-attention with one head among all pixels of a map, behind a normalisation and beside a shortcut.

    The projections are 1×1 convolutions, as in the published weights.
    """

    def __init__(self, channels: int, norm: Callable[[int], nn.Module] = group_norm):
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, kernel_size=1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Maps shaped as `x`, (B, C, H, W)."""
        h = self.norm(x)
        q, k, v = (project(h).flatten(2).transpose(1, 2) for project in (self.q, self.k, self.v))  # (B, HW, C)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.proj_out(h)


class Downsample(nn.Module):
    """Half the size by a 3×3 convolution of stride 2. The padding is all at the right and the bottom, as published."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H / 2, W / 2) from maps (B, C, H, W)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the size: every pixel four times, then a 3×3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, 2 H, 2 W) from maps (B, C, H, W)."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Level(nn.Module):
    """One size of the U, on the way down or up: residual blocks, attention behind each or none, a change of size."""

    def __init__(self, blocks: list[ResnetBlock], attention: list[AttnBlock], resample: nn.Module | None, name: str):
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.attn = nn.ModuleList(attention)
        if resample is not None:
            self.add_module(name, resample)

    def step(self, i: int, h: Tensor, temb: Tensor) -> Tensor:
        """Block `i` and, where there is one, the attention behind it."""
        h = self.block[i](h, temb)
        return self.attn[i](h) if len(self.attn) else h


class UNet(nn.Module):
    r"""The U-Net of DDPM: $\epsilon_\theta(x_t, t)$. The defaults are the model for CIFAR-10, 35.7 million parameters.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the answer.
        ch: channels at full size.
        ch_mult: for each level, how many times `ch` its channels are. Each level has half the size of the one above.
        num_res_blocks: residual blocks a level on the way down; the way up has one more.
        attn_resolutions: sizes of the maps behind whose blocks there is attention. The middle always has it.
        dropout: in the residual blocks.
        resolution: height and width of the image; it only says where attention goes, other sizes are welcome.
        patch: the network sees squares of so many pixels a side as one pixel with more channels, which makes it
            `patch`² times cheaper; 1 in the paper.
        norm: makes a normalisation layer, `group_norm` or `ChannelNorm`.
        num_classes: classes of images that the network can be told of; 0 in the paper. A class is a vector that is
            added to the time code, as in Dhariwal and Nichol (arXiv:2105.05233), section 4.
        block: the residual block, `ResnetBlock` or a subclass of it.

    Raises:
        ValueError: for an argument that is out of range, images of other channels or of a size that cannot be halved as
            often as there are levels, and labels out of range.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        ch: int = 128,
        ch_mult: tuple[int, ...] = (1, 2, 2, 2),
        num_res_blocks: int = 2,
        attn_resolutions: tuple[int, ...] = (16,),
        dropout: float = 0.1,
        resolution: int = 32,
        patch: int = 1,
        norm: Callable[[int], nn.Module] = group_norm,
        num_classes: int = 0,
        block: type[ResnetBlock] = ResnetBlock,
    ):
        super().__init__()
        check_count(in_channels=in_channels, out_channels=out_channels, ch=ch, num_res_blocks=num_res_blocks)
        check_count(0, num_classes=num_classes)
        check_count(resolution=resolution, patch=patch)
        check_number(0, 1, dropout=dropout)
        check_time_channels(ch)
        check_widths(ch_mult)
        self.in_channels, self.ch, self.patch, levels = in_channels, ch, patch, len(ch_mult)
        self.multiple = patch * 2 ** (levels - 1)
        temb_ch, widths = 4 * ch, [ch * mult for mult in ch_mult]
        before = [ch, *widths[:-1]]  # what comes into each level from above
        sizes = [resolution // patch // 2**level for level in range(levels)]

        def residual(into: int, out: int) -> ResnetBlock:
            return block(into, out, temb_ch, dropout, norm)

        def attention(level: int, count: int) -> list[AttnBlock]:
            return [AttnBlock(widths[level], norm) for _ in range(count) if sizes[level] in attn_resolutions]

        self.temb = nn.Module()
        self.temb.dense = nn.ModuleList([nn.Linear(ch, temb_ch), nn.Linear(temb_ch, temb_ch)])
        self.label_emb = nn.Embedding(num_classes, temb_ch) if num_classes else None
        self.conv_in = nn.Conv2d(in_channels * patch**2, ch, kernel_size=3, padding=1)

        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            blocks = [residual(before[level] if i == 0 else width, width) for i in range(num_res_blocks)]
            smaller = Downsample(width) if level < levels - 1 else None
            self.down.append(Level(blocks, attention(level, num_res_blocks), smaller, "downsample"))

        self.mid = nn.Module()
        self.mid.block_1 = residual(widths[-1], widths[-1])
        self.mid.attn_1 = AttnBlock(widths[-1], norm)
        self.mid.block_2 = residual(widths[-1], widths[-1])

        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            below = widths[min(level + 1, levels - 1)]
            skips = [width] * num_res_blocks + [before[level]]
            blocks = [residual((below if i == 0 else width) + skip, width) for i, skip in enumerate(skips)]
            larger = Upsample(width) if level > 0 else None
            self.up.append(Level(blocks, attention(level, num_res_blocks + 1), larger, "upsample"))

        self.norm_out = norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_channels * patch**2, kernel_size=3, padding=1)
        self.zero_output()

    @torch.no_grad()
    def zero_output(self) -> None:
        """Each block starts as its shortcut, and the network as the answer 0, as in the authors' code."""
        last = [module.conv2 for module in self.modules() if isinstance(module, ResnetBlock)]
        last += [module.proj_out for module in self.modules() if isinstance(module, AttnBlock)]
        for convolution in [*last, self.conv_out]:
            convolution.weight.zero_()
            convolution.bias.zero_()

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The answer (B, out_channels, H, W) for images (B, in_channels, H, W) at times (B,), 0-based.

        `labels` (B,) are their classes, -1 where nothing is said of an image; None says nothing of any.
        """
        if (
            x.ndim != 4
            or x.shape[1] != self.in_channels
            or any(not size or size % self.multiple for size in x.shape[2:])
        ):
            raise ValueError(
                f"x must be (B, {self.in_channels}, H, W) with H and W multiples of {self.multiple}, "
                f"got {tuple(x.shape)}"
            )
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have shape ({len(x)},), one time for each image, got {tuple(t.shape)}")
        first, second = self.temb.dense
        temb = second(F.silu(first(timestep_embedding(t, self.ch).to(first.weight.dtype))))
        if labels is not None:
            temb = temb + self.class_code(labels, t)

        h = self.conv_in(unshuffled(x, self.patch))
        skips = [h]
        for level in self.down:
            for i in range(len(level.block)):
                h = level.step(i, h, temb)
                skips.append(h)
            if hasattr(level, "downsample"):
                h = level.downsample(h)
                skips.append(h)

        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h, temb)), temb)

        for level in reversed(self.up):
            for i in range(len(level.block)):
                h = level.step(i, torch.cat([h, skips.pop()], dim=1), temb)
            if hasattr(level, "upsample"):
                h = level.upsample(h)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h))), self.patch)

    def class_code(self, labels: Tensor, t: Tensor) -> Tensor:
        """The vectors (B, 4 ch) of classes (B,), zeros for -1; as many as there are times `t`."""
        if self.label_emb is None:
            raise ValueError("labels were given to a network without classes: its num_classes is 0")
        labels = check_labels(labels, -1, self.label_emb.num_embeddings - 1)
        if labels.shape != t.shape:
            raise ValueError(f"labels must be {len(t)}, one for each image, got {len(labels)}")
        return self.label_emb(labels.clamp(min=0)) * (labels >= 0)[:, None]


def digit_unet(**settings) -> UNet:
    """The network that this book trains on MNIST's digits (B, 1, 28, 28): 650,000 parameters, on two levels.

    `settings` are for variants: other arguments of `UNet`.

    It looks at the image in squares of 2×2 pixels and normalises over channels, whose numbers lie side by side in
    memory: all three save time on a CPU.
    """
    sizes = {"ch": 32, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (), "resolution": 28, "patch": 2}
    unet = UNet(1, **{"out_channels": 1, "dropout": 0.0, "norm": ChannelNorm, **sizes, **settings})
    return unet.to(memory_format=torch.channels_last)
