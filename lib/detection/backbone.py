r"""The convolutions in front of the transformer: images in, one coarse map of features out.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv:1512.03385), in the form that torchvision
publishes: the stride lies on the 3×3 convolution. Parameter names are torchvision's, and inside `DETR` those of the
DETR release.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import cast_for, check_count, check_floats, described
from lib.detection.position import check_mask


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics, scale and shift, which batches of a few images would spoil."""

    def __init__(self, channels: int):
        super().__init__()
        check_count(channels=channels)
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        """`x` (B, channels, H, W), scaled and shifted."""
        check_maps("x", x, len(self.weight))
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution around a shortcut: (B, channels, H, W) to (B, 4 * width, H / stride, W / stride)."""

    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__()
        check_count(channels=channels, width=width, stride=stride)
        out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), FrozenBatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), FrozenBatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), FrozenBatchNorm2d(out)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), FrozenBatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """The features after this block."""
        check_maps("x", x, self.conv1.in_channels)
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Module):
    """Images (B, 3, H, W) to the last map of features (B, 2048, H / 32, W / 32). The default depths are ResNet-50's."""

    num_channels, stride = 2048, 32

    def __init__(self, depths: Sequence[int] = (3, 4, 6, 3)):
        super().__init__()
        if not isinstance(depths, Sequence) or isinstance(depths, str) or len(depths) != 4:
            raise ValueError(f"depths must be those of 4 stages, got {depths!r}")
        for depth in depths:
            check_count(depths=depth)
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), FrozenBatchNorm2d(64)
        channels = 64
        for stage, depth in enumerate(depths):
            width, blocks = 64 * 2**stage, []
            for i in range(depth):
                blocks.append(Bottleneck(channels, width, stride=2 if stage and not i else 1))
                channels = 4 * width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        """The features of the last stage."""
        check_maps("x", x, 3)
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class SmallBackbone(nn.Sequential):
    """A few convolutions for training in minutes: images (B, in_chans, H, W) to (B, widths[-1], H / s, W / s).

    Each width halves the map, so s is 2 to the power of their number.
    """

    def __init__(self, in_chans: int = 1, widths: Sequence[int] = (32, 64, 128)):
        if not isinstance(widths, Sequence) or isinstance(widths, str) or not widths:
            raise ValueError(f"widths must be a channel count for each stage, got {widths!r}")
        layers = []
        for into, out in zip((in_chans, *widths[:-1]), widths, strict=True):
            check_count(in_chans=into, widths=out)
            layers += [nn.Conv2d(into, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            layers += [nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        super().__init__(*layers)
        self.num_channels, self.stride = widths[-1], 2 ** len(widths)

    def forward(self, x: Tensor) -> Tensor:
        """The features of the last stage."""
        check_maps("x", x, self[0].in_channels)
        return super().forward(x)


class Backbone(nn.Module):
    """Features of images together with the mask that goes with them.

    Args:
        body: maps images to features and knows its `num_channels`, as `ResNet` and `SmallBackbone` do.
    """

    def __init__(self, body: nn.Module):
        super().__init__()
        if not isinstance(body, nn.Module) or not hasattr(body, "num_channels"):
            raise ValueError(f"body must be a module that knows its num_channels, got {described(body)}")
        self.body, self.num_channels = body, body.num_channels

    def forward(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, num_channels, h, w) and the mask (B, h, w) of images (B, C, H, W) and their mask (B, H, W)."""
        if check_floats("images", images).ndim != 4:
            raise ValueError(f"images must be (B, C, H, W), got {tuple(images.shape)}")
        features = self.body(cast_for(self.body, images))
        return features, resize_mask(mask, features.shape[-2:])


def check_maps(name: str, x: Tensor, channels: int) -> None:
    """Raises `ValueError` unless `x` is floating point (B, channels, H, W) with H and W of at least 1."""
    if check_floats(name, x).ndim != 4 or x.shape[1] != channels or 0 in x.shape[2:]:
        wanted = f"(B, {channels}, H, W) with H and W of at least 1"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(x.shape)}")


def resize_mask(mask: Tensor, size: Sequence[int]) -> Tensor:
    """A mask (B, H, W) at another height and width: each place takes the value of the pixel at its corner."""
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise ValueError(f"size must be a height and a width, got {size!r}")
    for side in size:
        if not isinstance(side, torch.SymInt):  # while exporting
            check_count(size=side)
    return F.interpolate(check_mask(mask)[:, None].float(), size=tuple(size)).bool()[:, 0]


def pad_images(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Images (C, H, W) of different sizes as one batch (B, C, H, W), and its mask (B, H, W), True where padded.

    Zeros are added on the right and below, so images are normalised before: they are floating point.
    """
    if not isinstance(images, Sequence) or not all(isinstance(image, Tensor) for image in images):
        raise ValueError(f"images must be a list of tensors (C, H, W), got {described(images)}")
    if not images or any(image.ndim != 3 or image.shape[0] != images[0].shape[0] for image in images):
        raise ValueError(f"images must be (C, H, W) with one C, got shapes {[tuple(image.shape) for image in images]}")
    if any(0 in check_floats("images", image).shape for image in images):
        raise ValueError(f"images must not be empty, got shapes {[tuple(image.shape) for image in images]}")
    height, width = (max(image.shape[dim] for image in images) for dim in (1, 2))
    batch = images[0].new_zeros(len(images), images[0].shape[0], height, width)
    mask = torch.ones(len(images), height, width, dtype=torch.bool, device=batch.device)
    for i, image in enumerate(images):
        batch[i, :, : image.shape[1], : image.shape[2]] = image
        mask[i, : image.shape[1], : image.shape[2]] = False
    return batch, mask
