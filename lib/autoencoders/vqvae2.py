r"""The VQ-VAE-2: a small map of codes for the layout of an image, and a larger one, told of the first, for its details.

Razavi, van den Oord and Vinyals, "Generating Diverse High-Fidelity Images with VQ-VAE-2", NeurIPS 2019
(arXiv:1906.00446), section 3.1 and algorithm 1. Parameter names and defaults are those of rosinality's release, trained
on faces of 256×256 pixels between -1 and 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.autoencoders.quantizer import QuantizerOutput, VectorQuantizer
from lib.autoencoders.vqvae import VQDecoder, VQEncoder, check_sides
from lib.checks import cast_for, check_count, check_finite, check_integers, check_number, check_some, upcast


class VQVAE2(nn.Module):
    """Two levels: the bottom's map has a quarter of the image's sides, the top's an eighth.

    Args:
        in_channels: of the images.
        channels: width of the networks.
        num_blocks: residual blocks in each encoder and decoder.
        hidden: channels inside a residual block.
        dim: length of a code, of both levels.
        num_codes: size of each level's vocabulary.
        commitment: weight of both commitment losses.
        ema, restart: as `VectorQuantizer`'s.

    Raises:
        ValueError: for an argument out of range, and images whose sides 8 does not divide.
    """

    stride = 8

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 128,
        num_blocks: int = 2,
        hidden: int = 32,
        dim: int = 64,
        num_codes: int = 512,
        *,
        commitment: float = 0.25,
        ema: float | None = 0.99,
        restart: float = 0.0,
    ):
        super().__init__()
        check_number(0, commitment=commitment)
        check_count(num_codes=num_codes, dim=dim)
        self.commitment, self.in_channels, self.channels, self.dim = commitment, in_channels, channels, dim
        sizes = {"channels": channels, "num_blocks": num_blocks, "hidden": hidden}
        self.enc_b = VQEncoder(in_channels, stride=4, **sizes)
        self.enc_t = VQEncoder(channels, stride=2, **sizes)
        self.quantize_conv_t = nn.Conv2d(channels, dim, 1)
        self.quantize_t = VectorQuantizer(num_codes, dim, ema=ema, restart=restart)
        self.dec_t = VQDecoder(dim, dim, stride=2, **sizes)
        self.quantize_conv_b = nn.Conv2d(dim + channels, dim, 1)
        self.quantize_b = VectorQuantizer(num_codes, dim, ema=ema, restart=restart)
        self.upsample_t = nn.ConvTranspose2d(dim, dim, 4, 2, 1)
        self.dec = VQDecoder(2 * dim, in_channels, stride=4, **sizes)

    def quantize_levels(self, x: Tensor) -> tuple[QuantizerOutput, QuantizerOutput]:
        """Top and bottom of images (B, C, H, W): maps of H / 8 × W / 8 and of H / 4 × W / 4 codes.

        The bottom is quantised when the top's code is known, so that it can leave out what that already says.
        """
        check_sides(x, self.in_channels, self.stride)
        below = self.enc_b(cast_for(self.enc_b, x))
        top = self.quantize_t(self.quantize_conv_t(self.enc_t(below)))
        return top, self.quantize_b(self.features_b(below, top.z_q))

    def features_b(self, below: Tensor, top: Tensor) -> Tensor:
        """What the bottom quantises (B, dim, h, w): its features (B, channels, h, w) mixed with the top's codes."""
        check_levels(top=(top, self.dim), below=(below, self.channels))
        return self.quantize_conv_b(torch.cat([self.dec_t(cast_for(self.dec_t, top)), below], dim=1))

    def draw(self, top: Tensor, bottom: Tensor) -> Tensor:
        """Images (B, C, H, W) of the codes' vectors, (B, dim, H / 8, W / 8) and (B, dim, H / 4, W / 4)."""
        check_levels(top=(top, self.dim), bottom=(bottom, self.dim))
        top, bottom = (cast_for(self.dec, vectors) for vectors in (top, bottom))
        return self.dec(torch.cat([self.upsample_t(top), bottom], dim=1))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Top codes (B, H / 8, W / 8) and bottom codes (B, H / 4, W / 4) of images; no average moves."""
        check_sides(x, self.in_channels, self.stride)
        below = self.enc_b(cast_for(self.enc_b, x))
        top = self.quantize_t.encode(self.quantize_conv_t(self.enc_t(below)))
        return top, self.quantize_b.encode(self.features_b(below, self.quantize_t.lookup(top)))

    def decode(self, top: Tensor, bottom: Tensor) -> Tensor:
        """Images (B, C, H, W) of top codes (B, H / 8, W / 8) and bottom codes (B, H / 4, W / 4)."""
        for name, codes in (("top", top), ("bottom", bottom)):
            if check_integers(name, codes, 0, self.quantize_t.num_codes - 1).ndim != 3:
                raise ValueError(f"{name} must have shape (B, h, w), got {tuple(codes.shape)}")
        return self.draw(self.quantize_t.lookup(top), self.quantize_b.lookup(bottom))

    def forward(self, x: Tensor) -> tuple[Tensor, QuantizerOutput, QuantizerOutput]:
        """Reconstructions of images (B, C, H, W), and the quantised top and bottom."""
        top, bottom = self.quantize_levels(x)
        return self.draw(top.z_q, bottom.z_q), top, bottom

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Squared error a pixel, and both levels' codebook and commitment losses, in float32 or wider.

        Raises `ValueError` if there is no image, and if a pixel is not finite.
        """
        check_sides(x, self.in_channels, self.stride)
        check_some("x", x)
        check_finite("x", x)
        reconstruction, top, bottom = self(x)
        error = F.mse_loss(upcast(reconstruction), upcast(x))
        codebook, commitment = top.codebook_loss + bottom.codebook_loss, top.commitment_loss + bottom.commitment_loss
        return {
            "loss": error + codebook + self.commitment * commitment,
            "reconstruction": error,
            "codebook": codebook,
            "commitment": commitment,
            "perplexity_top": top.perplexity,
            "perplexity_bottom": bottom.perplexity,
        }


def check_levels(**levels: tuple[Tensor, int]) -> None:
    """Raises `ValueError` unless both levels, by name, are maps (B, channels, H, W), the lower of twice the sides."""
    for name, (maps, channels) in levels.items():
        check_sides(maps, channels, 1, name)
    upper, lower = (tuple(maps.shape) for maps, _ in levels.values())
    if lower[0] != upper[0] or lower[2] != 2 * upper[2] or lower[3] != 2 * upper[3]:
        names = " and ".join(levels)
        raise ValueError(f"{names} must be as many maps, of h × w and of 2 h × 2 w places, got {upper} and {lower}")
