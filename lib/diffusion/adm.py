r"""ADM, the U-Net of "Diffusion Models Beat GANs", and its classifier of noisy images.

Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021 (arXiv:2105.05233), section 3: the
U-Net of `unet` with attention on three sizes of map, in heads of 64 channels; residual blocks that change the size
themselves; and AdaGN, by which time and class scale and shift each normalised map. Section 4.3: the classifier is the
way down of such a network, with an attention pool at its end.

Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", ICML 2021 (arXiv:2102.09672), had AdaGN and
the heads before (appendix A), and the learned variance (`improved`): `UNetModel` is their network as well.

The parameters are named as in both releases (`input_blocks.0.0`, `middle_block.1.qkv`, `out.2`), whose weights load as
they are. What the paper calls $y$, a vector of time and class, is `emb`, as in the code of both.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import check_count, check_flags, check_floats, check_integers, check_number, described, upcast
from lib.diffusion.unet import Upsample

Levels = list[tuple[int, bool]]


def adm_timestep_embedding(t: Tensor, dim: int) -> Tensor:
    r"""Times (B,), whole or not, as cosines, then sines, of $\lfloor$`dim`/2$\rfloor$ frequencies: (B, dim), float32.

    The frequencies fall from 1 towards 1/10000 and stop one step before it; `unet`'s reach it, and its sines come
    first. Where `dim` is odd, a 0 stands at the end.

    Raises `ValueError` for what is no times (B,), and a `dim` below 2.
    """
    check_count(2, dim=dim)
    if not isinstance(t, Tensor) or t.ndim != 1 or t.dtype == torch.bool or t.is_complex():
        raise ValueError(f"t must be times (B,), got {described(t)}")
    half = dim // 2
    steps = torch.arange(half, device=t.device, dtype=torch.float32)
    angles = t.float()[:, None] * torch.exp(-math.log(10000) * steps / half)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))


class TimeEmbedding(nn.Sequential):
    """Two layers that make a vector (B, 4 dim) of the code (B, dim) of times (B,)."""

    def __init__(self, dim: int):
        super().__init__(nn.Linear(dim, 4 * dim), nn.SiLU(), nn.Linear(4 * dim, 4 * dim))

    def forward(self, t: Tensor) -> Tensor:
        """The vectors, in the type of the weights."""
        weight = self[0].weight
        return super().forward(adm_timestep_embedding(t, weight.shape[1]).to(weight.dtype))


class GroupNorm32(nn.GroupNorm):
    """Group normalisation with 32 groups, in float32 or wider whatever the maps (B, C, ...) are in."""

    def __init__(self, channels: int):
        check_count(channels=channels)
        if channels % 32:
            raise ValueError(f"channels must be a multiple of 32 for group normalisation, got {channels}")
        super().__init__(32, channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Maps shaped as `x` and of its type."""
        wide = upcast(x)
        return F.group_norm(wide, self.num_groups, self.weight.to(wide), self.bias.to(wide), self.eps).to(x.dtype)


class ADMDownsample(nn.Module):
    """Half the size by a 3×3 convolution of stride 2, padded on all sides, where `unet`'s is on two."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H / 2, W / 2) from maps (B, C, H, W)."""
        return self.op(x)


def convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def zero_module(layer: nn.Module) -> nn.Module:
    """The layer with 0 for all parameters: a block that ends in it starts as its shortcut."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResBlock(nn.Module):
    r"""Two convolutions and a shortcut; behind the first, AdaGN tells the block what time it is and of which class.

    Args:
        in_channels: channels that come in.
        out_channels: channels that go out. Where they differ, the shortcut is a 1×1 convolution.
        emb_channels: length of the vector of time and class.
        dropout: share of numbers dropped before the second convolution.
        resample: changes the size of maps, on the shortcut too; it has no parameters. None keeps the size.
    """

    def __init__(
        self, in_channels: int, out_channels: int, emb_channels: int, dropout: float, resample: nn.Module | None = None
    ):
        super().__init__()
        check_count(in_channels=in_channels, out_channels=out_channels, emb_channels=emb_channels)
        check_number(0, 1, dropout=dropout)
        self.in_layers = nn.Sequential(GroupNorm32(in_channels), nn.SiLU(), convolution(in_channels, out_channels))
        self.resample = nn.Identity() if resample is None else resample
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        last = zero_module(convolution(out_channels, out_channels))
        self.out_layers = nn.Sequential(GroupNorm32(out_channels), nn.SiLU(), nn.Dropout(dropout), last)
        same = in_channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        r"""Maps (B, out_channels, H', W') from maps (B, in_channels, H, W) and vectors (B, emb_channels).

        $\mathrm{AdaGN}(h, y) = y_s\,\mathrm{GroupNorm}(h) + y_b$ (section 3.1), where $y_s = 1 + {}$ the first half of
        what `emb_layers` answers, so that a small answer changes little.
        """
        norm, activation, first = self.in_layers
        h = first(self.resample(activation(norm(x))))
        norm, activation, dropout, second = self.out_layers
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
        h = second(dropout(activation(norm(h) * (1 + scale) + shift)))
        return self.skip_connection(self.resample(x)) + h


def each_pixel(layer: nn.Conv1d, tokens: Tensor) -> Tensor:
    """What a convolution of width 1 is: a linear layer, tokens (B, N, C) to tokens (B, N, C').

    So a head's numbers lie side by side in memory, which the fast kernels of attention ask for.
    """
    return F.linear(tokens, layer.weight[:, :, 0], layer.bias)


def split_heads(qkv: Tensor, num_heads: int, new_order: bool) -> tuple[Tensor, ...]:
    """Queries, keys and values, each (B, num_heads, N, d), of tokens (B, N, 3 num_heads d).

    In the new order the queries of all heads come first, then all keys, then all values; in the old, the releases'
    "legacy", queries, keys and values of the first head, then those of the second. Raises `ValueError` for tokens whose
    numbers cannot be shared among the heads.
    """
    check_count(num_heads=num_heads)
    check_flags(new_order=new_order)
    if check_floats("qkv", qkv).ndim != 3 or not qkv.shape[2] or qkv.shape[2] % (3 * num_heads):
        raise ValueError(f"qkv must be (B, N, 3 num_heads d) for {num_heads} heads, got {tuple(qkv.shape)}")
    if new_order:
        return qkv.unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    return qkv.unflatten(2, (num_heads, 3, -1)).permute(3, 0, 2, 1, 4).unbind()


def qkv_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    r"""$\mathrm{softmax}(q k^\top/\sqrt d)\,v$ of every head, joined again: (B, N, heads d).

    Queries (B, heads, N, d) read keys and values (B, heads, M, d); other shapes raise `ValueError`.
    """
    for name, given in (("q", q), ("k", k), ("v", v)):
        if check_floats(name, given).ndim != 4:
            raise ValueError(f"{name} must be (B, heads, tokens, d), got {tuple(given.shape)}")
    if k.shape != v.shape or k.shape[:2] != q.shape[:2] or k.shape[3] != q.shape[3]:
        got = f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        raise ValueError(f"q, k and v must be (B, heads, N, d) and twice (B, heads, M, d), got {got}")
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class AttentionBlock(nn.Module):
    """Self-attention among all pixels of a map, behind a normalisation and beside a shortcut.

    Args:
        channels: of the map.
        num_heads: number of heads, where `num_head_channels` is None.
        num_head_channels: channels of a head; there are as many heads as it takes.
        new_order: how `qkv` stacks its channels, see `split_heads`.
    """

    def __init__(self, channels: int, num_heads: int, num_head_channels: int | None, new_order: bool):
        super().__init__()
        check_count(channels=channels, num_heads=num_heads)
        check_count(num_head_channels=1 if num_head_channels is None else num_head_channels)
        check_flags(new_order=new_order)
        self.num_heads = num_heads if num_head_channels is None else channels // num_head_channels
        if channels % (num_head_channels or num_heads):
            what = f"num_heads={num_heads} and num_head_channels={num_head_channels}"
            raise ValueError(f"heads must share the {channels} channels of a map evenly, got {what}")
        self.new_order = new_order
        self.norm = GroupNorm32(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, kernel_size=1)
        self.proj_out = nn.Conv1d(channels, channels, kernel_size=1)
        zero_module(self.proj_out)

    def forward(self, x: Tensor) -> Tensor:
        """Maps shaped as `x`, (B, C, H, W)."""
        qkv = each_pixel(self.qkv, self.norm(x).flatten(2).transpose(1, 2))
        h = each_pixel(self.proj_out, qkv_attention(*split_heads(qkv, self.num_heads, self.new_order)))
        return x + h.transpose(1, 2).unflatten(2, x.shape[2:])


class AttentionPool2d(nn.Module):
    """Maps to vectors: the mean of all pixels asks, in each head, what the pixels, each with its place, have to say.

    As in CLIP (Radford et al., 2021), whose image encoder had it first.

    Args:
        size: height and width of the map.
        channels: of the map.
        num_head_channels: channels of a head; it must divide `channels`.
        outputs: length of the vectors.

    Raises:
        ValueError: for an argument out of range, heads that do not share the channels, and maps of another shape.
    """

    def __init__(self, size: int, channels: int, num_head_channels: int, outputs: int):
        super().__init__()
        check_count(size=size, channels=channels, num_head_channels=num_head_channels, outputs=outputs)
        if channels % num_head_channels:
            raise ValueError(f"num_head_channels must divide the {channels} channels, got {num_head_channels}")
        self.shape, self.num_heads = (channels, size, size), channels // num_head_channels
        self.positional_embedding = nn.Parameter(torch.randn(channels, size**2 + 1) / math.sqrt(channels))
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, kernel_size=1)
        self.c_proj = nn.Conv1d(channels, outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (B, outputs) of maps (B, channels, size, size)."""
        if check_floats("x", x).shape[1:] != self.shape:
            raise ValueError(f"x must be (B, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        pixels = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([pixels.mean(1, keepdim=True), pixels], dim=1) + self.positional_embedding.T.to(x.dtype)
        q, k, v = split_heads(each_pixel(self.qkv_proj, tokens), self.num_heads, new_order=True)
        return each_pixel(self.c_proj, qkv_attention(q[:, :, :1], k, v))[:, 0]


class Stage(nn.ModuleList):
    """What lies between two skips: a convolution or a residual block, and what stands behind it; None is left out."""

    def __init__(self, *layers: nn.Module | None):
        super().__init__(layer for layer in layers if layer is not None)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """The maps (B, C', H', W') behind all layers, of which residual blocks are told `emb` (B, emb_channels)."""
        for layer in self:
            h = layer(h, emb) if isinstance(layer, ResBlock) else layer(h)
        return h


def way_down(
    in_channels: int,
    levels: Levels,
    num_res_blocks: int,
    residual: Callable[..., ResBlock],
    attend: Callable[[int], nn.Module],
    resblock_updown: bool,
) -> tuple[nn.ModuleList, list[int]]:
    """The stages from the image to the smallest maps, and how many channels leave each.

    `levels` are as `levels_of` says; `residual` makes a block from so many channels to so many, `attend` the attention
    for so many; the rest as in `UNetModel`.
    """
    width = levels[0][0]
    stages, channels = [Stage(convolution(in_channels, width))], [width]
    for level, (out, attended) in enumerate(levels):
        for _ in range(num_res_blocks):
            stages.append(Stage(residual(width, out), attend(out) if attended else None))
            channels.append(out)
            width = out
        if level < len(levels) - 1:
            stages.append(
                Stage(residual(out, out, resample=nn.AvgPool2d(2)) if resblock_updown else ADMDownsample(out))
            )
            channels.append(out)
    return nn.ModuleList(stages), channels


class UNetModel(nn.Module):
    r"""ADM's U-Net: $\epsilon$ and $v$ for images at a time and of a class. The defaults are the release for 64×64.

    The release for 256×256 without classes is `UNetModel(256, model_channels=256, num_res_blocks=2, dropout=0.0,
    channel_mult=(1, 1, 2, 2, 4, 4), num_classes=0, use_new_attention_order=False)`. Improved DDPM's for CIFAR-10 is
    `UNetModel(32, model_channels=128, attention_resolutions=(16, 8), dropout=0.3, channel_mult=(1, 2, 2, 2),
    num_classes=0, num_head_channels=None, resblock_updown=False, use_new_attention_order=False)`; it wants its 4000
    times t as numbers below 1000, `t / 4`.

    Args:
        image_size: height and width of the image; it only says where attention goes, other sizes are welcome.
        in_channels: channels of the image.
        model_channels: what the channels of every level are multiples of.
        out_channels: channels of the answer: with learned variance twice the image's, first $\epsilon$, then $v$.
        num_res_blocks: residual blocks a level on the way down; the way up has one more.
        attention_resolutions: sizes of the maps behind whose blocks there is attention. The middle always has it.
        dropout: in the residual blocks.
        channel_mult: for each level, how many times `model_channels` its channels are; 0.5 for the first at 512×512.
            Each level has half the size of the one above.
        num_classes: classes of images that the network can be told of, 0 for none.
        num_heads: heads of every attention, where `num_head_channels` is None.
        num_head_channels: channels of a head; there are as many heads as it takes.
        resblock_updown: residual blocks change the size, by the mean of 2×2 pixels and by repeating each; otherwise
            convolutions do.
        use_new_attention_order: how attention's weights are stacked, see `split_heads`; True in the release for 64×64.

    Raises:
        ValueError: for an argument that is out of range or does not fit the others.
    """

    def __init__(
        self,
        image_size: int = 64,
        in_channels: int = 3,
        model_channels: int = 192,
        out_channels: int = 6,
        num_res_blocks: int = 3,
        attention_resolutions: Sequence[int] = (32, 16, 8),
        dropout: float = 0.1,
        channel_mult: Sequence[float] = (1, 2, 3, 4),
        num_classes: int = 1000,
        num_heads: int = 4,
        num_head_channels: int | None = 64,
        resblock_updown: bool = True,
        use_new_attention_order: bool = True,
    ):
        super().__init__()
        check_count(in_channels=in_channels, out_channels=out_channels, num_res_blocks=num_res_blocks)
        check_count(num_heads=num_heads, num_head_channels=1 if num_head_channels is None else num_head_channels)
        check_count(0, num_classes=num_classes)
        check_number(0, 1, dropout=dropout)
        check_flags(resblock_updown=resblock_updown, use_new_attention_order=use_new_attention_order)
        levels = levels_of(image_size, model_channels, channel_mult, attention_resolutions)
        self.in_channels, self.multiple, emb_channels = in_channels, 2 ** (len(levels) - 1), 4 * model_channels
        residual = partial(ResBlock, emb_channels=emb_channels, dropout=dropout)

        def attend(channels: int) -> AttentionBlock:
            return AttentionBlock(channels, num_heads, num_head_channels, use_new_attention_order)

        def larger(channels: int) -> nn.Module:
            twice = nn.Upsample(scale_factor=2)
            return residual(channels, channels, resample=twice) if resblock_updown else Upsample(channels)

        self.time_embed = TimeEmbedding(model_channels)
        self.label_emb = nn.Embedding(num_classes, emb_channels) if num_classes else None
        self.input_blocks, skips = way_down(in_channels, levels, num_res_blocks, residual, attend, resblock_updown)
        width = levels[-1][0]
        self.middle_block = Stage(residual(width, width), attend(width), residual(width, width))
        self.output_blocks = nn.ModuleList()
        for level, (out, attended) in reversed(list(enumerate(levels))):
            for i in range(num_res_blocks + 1):
                block, attention = residual(width + skips.pop(), out), attend(out) if attended else None
                last = level > 0 and i == num_res_blocks
                self.output_blocks.append(Stage(block, attention, larger(out) if last else None))
                width = out
        self.out = nn.Sequential(GroupNorm32(width), nn.SiLU(), zero_module(convolution(width, out_channels)))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The answer (B, out_channels, H, W) for images (B, in_channels, H, W) at times (B,), in the type of `x`.

        `labels` (B,) are their classes, -1 where nothing is said of an image; None says nothing of any.

        Raises:
            ValueError: for images of other channels or of a size that cannot be halved as often as there are levels,
                and for times or labels that are none or of another number.
        """
        check_noisy(x, t, self.in_channels, self.multiple)
        emb = self.time_embed(t)
        if labels is not None:
            emb = emb + self.class_code(labels, t)
        return self.walk(x.to(emb.dtype), emb).to(x.dtype)

    def walk(self, h: Tensor, emb: Tensor) -> Tensor:
        """The U: down, across and up again, each residual block told `emb` (B, 4 model_channels)."""
        skips = []
        for stage in self.input_blocks:
            h = stage(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), emb)
        return self.out(h)

    def class_code(self, labels: Tensor, t: Tensor) -> Tensor:
        """The vectors (B, 4 model_channels) of classes (B,), zeros for -1; as many as there are times `t`."""
        if self.label_emb is None:
            raise ValueError("labels were given to a network without classes: its num_classes is 0")
        labels = check_integers("labels", labels, -1, self.label_emb.num_embeddings - 1)
        if labels.shape != t.shape:
            raise ValueError(f"labels must be ({len(t)},), one for each image, got {tuple(labels.shape)}")
        return self.label_emb(labels.clamp(min=0)) * (labels >= 0)[:, None]


class EncoderUNetModel(nn.Module):
    r"""ADM's classifier of noisy images (section 4.3): logits, whose log-softmax is $\log p(y \mid x_t)$.

    The defaults are the release for 64×64. Those for other sizes have `num_res_blocks=2`, and `channel_mult` as the
    U-Nets for the same size. Arguments are `UNetModel`'s, but for

        image_size: height and width of the images; others are refused, since the pool knows places.
        out_channels: classes.
        num_head_channels: channels of a head, of the pool's too.

    Raises:
        ValueError: for an argument that is out of range or does not fit the others.
    """

    def __init__(
        self,
        image_size: int = 64,
        in_channels: int = 3,
        model_channels: int = 128,
        out_channels: int = 1000,
        num_res_blocks: int = 4,
        attention_resolutions: Sequence[int] = (32, 16, 8),
        channel_mult: Sequence[float] = (1, 2, 3, 4),
        num_head_channels: int = 64,
    ):
        super().__init__()
        check_count(in_channels=in_channels, out_channels=out_channels, num_res_blocks=num_res_blocks)
        check_count(num_head_channels=num_head_channels)
        levels = levels_of(image_size, model_channels, channel_mult, attention_resolutions)
        self.in_channels, self.image_size, width = in_channels, image_size, levels[-1][0]
        residual = partial(ResBlock, emb_channels=4 * model_channels, dropout=0.0)
        attend = partial(AttentionBlock, num_heads=1, num_head_channels=num_head_channels, new_order=False)
        self.time_embed = TimeEmbedding(model_channels)
        self.input_blocks, _ = way_down(in_channels, levels, num_res_blocks, residual, attend, True)
        self.middle_block = Stage(residual(width, width), attend(width), residual(width, width))
        pool = AttentionPool2d(image_size // 2 ** (len(levels) - 1), width, num_head_channels, out_channels)
        self.out = nn.Sequential(GroupNorm32(width), nn.SiLU(), pool)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Logits (B, out_channels) for images (B, in_channels, image_size, image_size) at times (B,).

        Raises:
            ValueError: for images of another shape, and for times that are none or of another number.
        """
        check_noisy(x, t, self.in_channels, self.image_size)
        if x.shape[2:] != (self.image_size, self.image_size):
            raise ValueError(f"x must be of height and width {self.image_size}, got {tuple(x.shape)}")
        emb = self.time_embed(t)
        h = x.to(emb.dtype)
        for stage in self.input_blocks:
            h = stage(h, emb)
        return self.out(self.middle_block(h, emb)).to(x.dtype)


def levels_of(
    image_size: int, model_channels: int, channel_mult: Sequence[float], attention_resolutions: Sequence[int]
) -> Levels:
    """Of each level, largest first, its channels and whether attention stands behind its residual blocks.

    Raises `ValueError` where the settings do not fit each other.
    """
    check_count(image_size=image_size)
    check_count(2, model_channels=model_channels)
    for name, given in (("channel_mult", channel_mult), ("attention_resolutions", attention_resolutions)):
        if not isinstance(given, list | tuple):
            raise ValueError(f"{name} must be a list or tuple of numbers, got {described(given)}")
    for mult in channel_mult:
        check_number(above=0, **{"each of channel_mult": mult})
        if model_channels * mult % 1:
            raise ValueError(f"channel_mult must make whole numbers of {model_channels} channels, got {mult!r}")
    if not channel_mult or image_size % 2 ** (len(channel_mult) - 1):
        wanted = f"have at least 1 number, and image_size {image_size} must be halved once for each further one"
        raise ValueError(f"channel_mult must {wanted}, got {channel_mult}")
    sizes = [image_size // 2**level for level in range(len(channel_mult))]
    if any(size not in sizes for size in attention_resolutions):
        raise ValueError(f"attention_resolutions must be among the sizes {sizes}, got {attention_resolutions}")
    return [(int(model_channels * mult), size in attention_resolutions) for mult, size in zip(channel_mult, sizes)]


def check_noisy(x: Tensor, t: Tensor, channels: int, multiple: int) -> None:
    """Raises `ValueError` unless `x` are images (B, channels, H, W), H and W multiples, and `t` their times (B,)."""
    check_floats("x", x)
    if x.ndim != 4 or x.shape[1] != channels or any(not size or size % multiple for size in x.shape[2:]):
        wanted = f"(B, {channels}, H, W) with H and W multiples of {multiple}"
        raise ValueError(f"x must be {wanted}, got {tuple(x.shape)}")
    if not isinstance(t, Tensor) or t.dtype == torch.bool or t.is_complex():
        raise ValueError(f"t must be a tensor of numbers, got {described(t)}")
    if t.shape != x.shape[:1]:
        raise ValueError(f"t must have shape ({len(x)},), one time for each image, got {tuple(t.shape)}")
