r"""The VQ-VAE: an autoencoder whose code is a map of words from a learned vocabulary.

van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", NIPS 2017 (arXiv:1711.00937).
Equation numbers are that paper's; its quantiser has a page of its own, `quantizer.py`. The networks and their parameter
names are those of rosinality's release, the VQ-VAE-2 of `vqvae2.py`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from lib.autoencoders.quantizer import QuantizerOutput, VectorQuantizer
from lib.checks import cast_for, check_count, check_finite, check_floats, check_number, check_some, upcast


class VQResBlock(nn.Module):
    """ReLU, 3×3 convolution, ReLU, 1×1 convolution, added to what came in: (B, channels, H, W) to the same shape."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        check_count(channels=channels, hidden=hidden)
        self.channels = channels
        self.conv = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The features after this block."""
        check_sides(x, self.channels, 1)
        return x + self.conv(x)


class VQEncoder(nn.Module):
    """Images (B, in_channels, H, W) to features (B, channels, H / stride, W / stride).

    Args:
        in_channels: of the images.
        channels: of the features.
        stride: 2 or 4.
        num_blocks: residual blocks.
        hidden: channels inside a residual block.
    """

    def __init__(self, in_channels: int, channels: int = 128, stride: int = 4, num_blocks: int = 2, hidden: int = 32):
        super().__init__()
        check_encoder(in_channels, channels, stride, num_blocks, hidden)
        self.in_channels, self.stride = in_channels, stride
        half = channels // 2
        layers = [nn.Conv2d(in_channels, half, 4, 2, 1), nn.ReLU()]
        if stride == 4:
            layers += [nn.Conv2d(half, channels, 4, 2, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
        else:
            layers += [nn.Conv2d(half, channels, 3, padding=1)]
        self.blocks = nn.Sequential(*layers, *(VQResBlock(channels, hidden) for _ in range(num_blocks)), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """The features of images."""
        check_sides(x, self.in_channels, self.stride)
        return self.blocks(x)


class VQDecoder(nn.Module):
    """Codes (B, in_channels, h, w) to images (B, out_channels, h * stride, w * stride); arguments as `VQEncoder`'s."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: int = 128,
        stride: int = 4,
        num_blocks: int = 2,
        hidden: int = 32,
    ):
        super().__init__()
        check_encoder(in_channels, channels, stride, num_blocks, hidden)
        check_count(out_channels=out_channels)
        self.in_channels = in_channels
        half = channels // 2
        if stride == 4:
            grow = [
                nn.ConvTranspose2d(channels, half, 4, 2, 1),
                nn.ReLU(),
                nn.ConvTranspose2d(half, out_channels, 4, 2, 1),
            ]
        else:
            grow = [nn.ConvTranspose2d(channels, out_channels, 4, 2, 1)]
        blocks = (VQResBlock(channels, hidden) for _ in range(num_blocks))
        self.blocks = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), *blocks, nn.ReLU(), *grow)

    def forward(self, x: Tensor) -> Tensor:
        """Images, or the features of a lower level."""
        check_sides(x, self.in_channels, 1)
        return self.blocks(x)


def check_encoder(in_channels: int, channels: int, stride: int, num_blocks: int, hidden: int) -> None:
    """Raises `ValueError` for arguments of `VQEncoder` or `VQDecoder` out of range."""
    check_count(in_channels=in_channels, hidden=hidden, stride=stride)
    check_count(2, channels=channels)
    check_count(0, num_blocks=num_blocks)
    if stride not in (2, 4):
        raise ValueError(f"stride must be 2 or 4, got {stride!r}")


class VQVAE(nn.Module):
    r"""Encoder, quantiser, decoder. The images are real numbers; `loss` takes them in [0, 1].

    Args:
        num_codes: size of the vocabulary, K.
        dim: length of a code, D.
        in_channels: of the images.
        channels: width of the networks.
        num_blocks: residual blocks in encoder and decoder each.
        hidden: channels inside a residual block.
        commitment: weight $\beta$ of the commitment loss.
        ema, restart: as `VectorQuantizer`'s.

    Raises:
        ValueError: for an argument out of range, and images whose sides 4 does not divide.
    """

    stride = 4

    def __init__(
        self,
        num_codes: int = 256,
        dim: int = 16,
        *,
        in_channels: int = 1,
        channels: int = 64,
        num_blocks: int = 2,
        hidden: int = 32,
        commitment: float = 0.25,
        ema: float | None = 0.99,
        restart: float = 0.0,
    ):
        super().__init__()
        check_number(0, commitment=commitment)
        check_count(num_codes=num_codes, dim=dim)
        self.commitment, self.in_channels = commitment, in_channels
        sizes = {"channels": channels, "stride": self.stride, "num_blocks": num_blocks, "hidden": hidden}
        self.enc = VQEncoder(in_channels, **sizes)
        self.quantize_conv = nn.Conv2d(channels, dim, 1)
        self.quantize = VectorQuantizer(num_codes, dim, ema=ema, restart=restart)
        self.dec = VQDecoder(dim, in_channels, **sizes)

    def features(self, x: Tensor) -> Tensor:
        """What is quantised, $z_e$ (B, D, H / 4, W / 4), of images (B, C, H, W)."""
        check_sides(x, self.in_channels, self.stride)
        return self.quantize_conv(self.enc(cast_for(self.enc, x)))

    def encode(self, x: Tensor) -> Tensor:
        """Codes (B, H / 4, W / 4) of images (B, C, H, W)."""
        return self.quantize.encode(self.features(x))

    def decode(self, indices: Tensor) -> Tensor:
        """Images (B, C, H, W) of codes (B, H / 4, W / 4)."""
        return self.dec(cast_for(self.dec, self.quantize.lookup(indices)))

    def forward(self, x: Tensor) -> tuple[Tensor, QuantizerOutput]:
        """Reconstructions of images (B, C, H, W), and what the quantiser made of their features."""
        quantised = self.quantize(self.features(x))
        return self.dec(quantised.z_q), quantised

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        r"""Equation (3): $\lVert x - \hat x \rVert^2$, codebook loss, and $\beta$ times commitment loss.

        Each is a mean, over pixels or over the features' numbers, in float32 or wider. "perplexity" is there to be
        looked at.

        Raises `ValueError` if there is no image, and if a pixel lies outside [0, 1] or is not a number.
        """
        check_sides(x, self.in_channels, self.stride)
        check_some("x", x)
        check_finite("x", x, 0, 1)
        reconstruction, quantised = self(x)
        error = F.mse_loss(upcast(reconstruction), upcast(x))
        return {
            "loss": error + quantised.codebook_loss + self.commitment * quantised.commitment_loss,
            "reconstruction": error,
            "codebook": quantised.codebook_loss,
            "commitment": quantised.commitment_loss,
            "perplexity": quantised.perplexity,
        }


def check_sides(x: Tensor, channels: int, stride: int, name: str = "x") -> None:
    """Raises `ValueError` unless x is a batch of images (B, channels, H, W) with sides that `stride` divides."""
    check_floats(name, x)
    if x.ndim != 4 or x.shape[1] != channels or any(side % stride or not side for side in x.shape[2:]):
        wanted = f"(B, {channels}, H, W) with H and W positive multiples of {stride}"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(x.shape)}")
