r"""Guidance: a second opinion on what the image should show bends the walk from noise to picture.

Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021 (arXiv:2105.05233), section 4: the
second opinion is $\nabla_{x_t} \log p(y \mid x_t)$, the gradient of a classifier that knows noisy images. Section 3 is
the network: `AdaGNBlock`, and `EncoderUNet` for the classifier.

Liu et al., "More Control for Free! Image Synthesis with Semantic Diffusion Guidance", WACV 2023 (arXiv:2112.05744):
it may be anything else that can be asked about a noisy image, such as how much it is like another one.

Ho and Salimans, "Classifier-Free Diffusion Guidance" (arXiv:2207.12598): it is the model's own, which is told of the
class in one answer and not in another.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import check_count, check_floats, check_integers, check_number, check_option, described
from lib.diffusion.asking import Model, call_model, check_model
from lib.diffusion.denoiser import VARIANCES, model_output, shifted, slope
from lib.diffusion.process import GaussianDiffusion, check_process, noise_like
from lib.diffusion.unet import (
    ChannelNorm,
    Downsample,
    ResnetBlock,
    check_labels,
    check_time_channels,
    check_widths,
    timestep_embedding,
    unshuffled,
)

Conditional = Callable[[Tensor, Tensor, Tensor], Tensor]
Guide = Callable[[Tensor, Tensor], Tensor]


def classifier_guided(
    model: Model, process: GaussianDiffusion, log_probability: Guide, scale: float = 1.0, variance: str = "small"
) -> Model:
    r"""Algorithm 2's noise $\hat\epsilon = \epsilon - s\sqrt{1-\bar\alpha_t}\,\nabla_{x_t}\log p(y \mid x_t)$.

    Args:
        model: predicts the noise, (B, ...) and (B,) to (B, ...).
        log_probability: $\log p(y \mid x_t)$ of what is wanted, for images (B, ...) and times (B,): (B,).
        scale: $s$; 0 leaves the model as it is.
        variance: "learned" for a model that answers with a variance too, as the samplers have it; it stays as it is.

    Returns:
        A callable like `model`, for any sampler.

    Raises:
        ValueError: for a model or a guide that cannot be called, what is no process, or a scale that is not finite.
    """
    check_model(model)
    check_model(log_probability, "log_probability")
    check_process(process)
    check_number(scale=scale)
    check_option("variance", variance, VARIANCES)

    def guided(xt: Tensor, t: Tensor) -> Tensor:
        _, spread = process.signal_and_spread(t, xt)
        out = model_output(model, xt, t, variance=variance)
        return shifted(out, -scale * spread * gradient(log_probability, xt, t), variance)

    return guided


def classifier_free(
    model: Conditional,
    labels: Tensor,
    scale: float = 1.0,
    instead: Tensor | None = None,
    variance: str = "small",
) -> Model:
    r"""Equation (6)'s answer $(1 + w)\,\epsilon(x_t, y) - w\,\epsilon(x_t)$, in one call of the model for both.

    Guidance is linear, so the model may answer with noise, image or velocity.

    Args:
        model: images (B, ...), times (B,) and labels (B,), -1 for none, to (B, ...), as `UNet` with classes.
        labels: the wanted classes (B,), integers.
        scale: $w$; 0 is the model told of its class, -1 the one told of none. Many releases write $1 + w$ instead.
        instead: classes (B,) to walk away from, in place of no class at all: negative prompts.
        variance: "learned" for a model that answers with a variance too, as the samplers have it; it stays as the model
            says it of the wanted classes, as in GLIDE (Nichol et al., arXiv:2112.10741).

    Returns:
        A callable (B, ...) and (B,) to (B, ...), for any sampler.

    Raises:
        ValueError: for labels that are not integers, a negative label among the wanted, `instead` of another shape, a
            model that cannot be called, or a scale that is not finite; when called, for images of another number.
    """
    check_model(model)
    check_option("variance", variance, VARIANCES)
    check_number(scale=scale)
    labels = check_labels(labels)
    others = torch.full_like(labels, -1) if instead is None else check_labels(instead, -1, name="instead")
    if others.shape != labels.shape:
        raise ValueError(f"instead must be {tuple(labels.shape)}, one for each label, got {tuple(others.shape)}")
    both = torch.cat([labels, others])

    def guided(xt: Tensor, t: Tensor) -> Tensor:
        nonlocal both
        check_one_each(labels, xt)
        both = both.to(xt.device)  # once: the next step finds them there
        out = model_output(model, torch.cat([xt, xt]), torch.cat([t, t]), both, variance=variance)
        told, untold = out.chunk(2)
        return shifted(told, scale * (told - untold), variance)

    return guided


def check_one_each(labels: Tensor, xt: Tensor) -> None:
    """Raises `ValueError` unless there is one label for each of the images `xt` (B, ...)."""
    if check_floats("xt", xt).shape[:1] != labels.shape:
        raise ValueError(f"labels must be one for each of the images {tuple(xt.shape)}, got {len(labels)}")


def drop_labels(labels: Tensor, share: float) -> Tensor:
    """Labels (B,) for a training step (Algorithm 1): each is replaced by -1, "no class", with probability `share`."""
    check_number(0, 1, share=share)
    labels = check_labels(labels, -1)
    return torch.where(torch.rand(labels.shape, device=labels.device) < share, -1, labels)


def guided_mean(mean: Tensor, log_variance: Tensor, slope: Tensor, scale: float = 1.0) -> Tensor:
    r"""The mean of a guided ancestral step, $\mu + s\,\Sigma\,\nabla_{x_t}\log p(y \mid x_t)$ (Algorithm 1).

    `mean` and `slope` are (B, ...); `log_variance` broadcasts to them.
    """
    check_floats("slope", slope, like=check_floats("mean", mean))
    check_number(scale=scale)
    return mean + scale * check_floats("log_variance", log_variance).exp() * slope


def gradient(log_probability: Guide, xt: Tensor, t: Tensor) -> Tensor:
    r"""$\nabla_{x_t}\log p(y \mid x_t)$, shaped as `xt`, also where gradients are switched off around it.

    Raises `ValueError` where autograd sees no way from the answer to `xt`.
    """
    check_model(log_probability, "log_probability")
    check_floats("xt", xt)
    t = check_integers("t", t)
    with torch.inference_mode(False), torch.enable_grad():
        xt, t = xt.detach().clone().requires_grad_(), t.clone()  # copies, as what inference mode made knows no gradient
        found = check_floats("log_probability", call_model(log_probability, xt, t))
        if found.shape != t.shape:
            raise ValueError(f"log_probability must give one number an image, (B,), got {tuple(found.shape)}")
        return slope("log_probability", found.sum(), xt)


class AdaGNBlock(ResnetBlock):
    r"""ADM's residual block, for `UNet(block=AdaGNBlock)`: the time, and the class with it, scales and shifts the maps.

    $\mathrm{AdaGN}(h, y) = y_s\,\mathrm{norm}(h) + y_b$ (section 3), with $y_s = 1 + {}$ the first half of
    what `temb_proj` answers, as in the authors' code, so that a small answer changes little. Needs a time code.
    """

    def __init__(self, in_channels: int, out_channels: int, temb_channels: int, *settings, **named):
        check_count(temb_channels=temb_channels)
        super().__init__(in_channels, out_channels, temb_channels, *settings, **named)
        self.temb_proj = nn.Linear(temb_channels, 2 * out_channels)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """Maps (B, out_channels, H, W) from maps (B, in_channels, H, W); `temb` (B, temb_channels): time, class."""
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.temb_proj(F.silu(temb))[:, :, None, None].chunk(2, dim=1)
        h = (1 + scale) * self.norm2(h) + shift
        h = self.conv2(self.dropout(F.silu(h)))
        return h + (x if self.in_channels == self.out_channels else self.nin_shortcut(x))


class EncoderUNet(nn.Module):
    """The U-Net's way down, with time, and numbers at its end: ADM's classifier of noisy images (section 4.3).

    The authors pool the last map by attention, which knows places; here a linear layer reads the whole map. The
    defaults are for MNIST's digits (B, 1, 28, 28), small and quick.

    Args:
        outputs: how many numbers: classes, or the length of a code.
        in_channels: channels of the image.
        ch: channels at full size.
        ch_mult: for each level, how many times `ch` its channels are. Each level has half the size of the one above.
        resolution: height and width of the image.
        patch: squares of so many pixels a side are one pixel for the network.
        norm: makes a normalisation layer, `group_norm` or `ChannelNorm`.
        block: the residual block, `ResnetBlock` or a subclass of it.

    Raises:
        ValueError: for a number below 1, an odd `ch`, a resolution that cannot be halved so often, and images of
            another shape.
    """

    def __init__(
        self,
        outputs: int = 10,
        in_channels: int = 1,
        ch: int = 16,
        ch_mult: tuple[int, ...] = (1, 2),
        resolution: int = 28,
        patch: int = 2,
        norm: Callable[[int], nn.Module] = ChannelNorm,
        block: type[ResnetBlock] = ResnetBlock,
    ):
        super().__init__()
        check_count(outputs=outputs, in_channels=in_channels, resolution=resolution, patch=patch)
        check_time_channels(ch)
        check_widths(ch_mult)
        multiple = patch * 2 ** (len(ch_mult) - 1)
        if resolution % multiple:
            raise ValueError(f"resolution must be a multiple of {multiple}, got {resolution}")
        widths, temb_ch = [ch, *(ch * mult for mult in ch_mult)], 4 * ch
        self.shape, self.ch, self.patch = (in_channels, resolution, resolution), ch, patch
        self.time = nn.Sequential(nn.Linear(ch, temb_ch), nn.SiLU(), nn.Linear(temb_ch, temb_ch))
        self.conv_in = nn.Conv2d(in_channels * patch**2, ch, kernel_size=3, padding=1)
        self.blocks = nn.ModuleList(block(into, out, temb_ch, 0.0, norm) for into, out in pairwise(widths))
        self.smaller = nn.ModuleList(Downsample(width) for width in widths[1:-1])
        self.norm_out = norm(widths[-1])
        self.head = nn.Linear(widths[-1] * (resolution // multiple) ** 2, outputs)

    def maps(self, xt: Tensor, t: Tensor) -> list[Tensor]:
        """The maps (B, C, H, W) at the end of each level, for images (B, in_channels, H, W) at times (B,)."""
        if xt.shape[1:] != self.shape or t.shape != xt.shape[:1]:
            wanted, got = ", ".join(map(str, self.shape)), f"{tuple(xt.shape)} and {tuple(t.shape)}"
            raise ValueError(f"xt and t must be (B, {wanted}) and (B,), got {got}")
        temb = self.time(timestep_embedding(t, self.ch).to(self.head.weight.dtype))
        h, maps = self.conv_in(unshuffled(xt, self.patch)), []
        for level, block in enumerate(self.blocks):
            h = block(h if level == 0 else self.smaller[level - 1](h), temb)
            maps.append(h)
        return maps

    def features(self, xt: Tensor, t: Tensor) -> Tensor:
        """The last map, normalised, in one row: (B, C H W)."""
        return F.silu(self.norm_out(self.maps(xt, t)[-1])).flatten(1)

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """The numbers (B, outputs) for images (B, in_channels, H, W) in [-1, 1], noised to times (B,)."""
        return self.head(self.features(xt, t))


def towards_class(classifier: Model, labels: Tensor) -> Guide:
    r"""$\log p(y \mid x_t)$ of the wanted classes (B,), from the logits (B, classes) that `classifier(xt, t)` gives.

    Raises:
        ValueError: for labels that are not integers or negative; when called, for a label that is no class, and for
            images of another number.
    """
    check_model(classifier, "classifier")
    wanted = check_labels(labels)

    def log_probability(xt: Tensor, t: Tensor) -> Tensor:
        nonlocal wanted
        check_one_each(wanted, xt)
        wanted = wanted.clone().to(xt.device)  # outside inference mode, should they come from it; moved once
        logits = call_model(classifier, xt, t)
        if logits.ndim != 2 or len(logits) != len(xt):
            raise ValueError(f"the classifier's output must be ({len(xt)}, classes), got {tuple(logits.shape)}")
        check_labels(wanted, 0, logits.shape[1] - 1)
        return logits.log_softmax(1).gather(1, wanted[:, None])[:, 0]

    return log_probability


def towards_image(features: Model, process: GaussianDiffusion, image: Tensor, noise: Tensor | None = None) -> Guide:
    r"""$-\frac12\Vert f(x_t, t) - f(x'_t, t)\Vert^2$: to be like an image $x'$, noised to the same time (Liu et al.).

    With `gram` of feature maps as `features` it asks for the image's style, not for what the image shows where.

    Args:
        features: images (B, ...) and times (B,) to numbers (B, ...).
        image: clean, shaped as the images that are guided or broadcasting to them.
        noise: of $x'$, shaped as `image`; drawn once where None.
    """
    check_model(features, "features")
    check_process(process)
    noise = noise_like(check_floats("image", image), noise)

    def log_probability(xt: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = call_model(features, process.q_sample(image.expand_as(xt), t, noise.expand_as(xt)), t)
        return -0.5 * (call_model(features, xt, t) - wanted).square().flatten(1).sum(1)

    return log_probability


def gram(maps: Tensor) -> Tensor:
    r"""Gram matrices (B, C, C) of maps (B, C, H, W): how often two features are strong in one place, wherever it is.

    Gatys, Ecker and Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016, equation (3), over
    the number of pixels.
    """
    if check_floats("maps", maps).ndim != 4:
        raise ValueError(f"maps must be (B, C, H, W), got {described(maps)}")
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]
