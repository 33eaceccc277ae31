r"""The VQ-VAE: an autoencoder whose code is a map of words from a learned vocabulary.

van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", NIPS 2017 (arXiv:1711.00937).
Equation numbers are that paper's. The networks and their parameter names are those of rosinality's release, the
VQ-VAE-2 of `vqvae2.py`.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.autoencoders.autoencoder import check_pixels
from lib.checks import check_count

EPS = 1e-5  # added to each code's count, so that none is divided by zero
SELDOM = 1e-3  # a count so small that EPS would begin to pull the code towards zero


class Quantised(NamedTuple):
    r"""What a quantiser makes of vectors z of length D: B maps with N places in all.

    quantised: the nearest codes, shaped as z. Forward it is $e$, backward the gradient goes to z (section 3.2).
    indices: which codes, integers (B, H, W) or (B, N).
    codebook_loss: $\lVert \mathrm{sg}[z] - e \rVert^2$, a mean; it moves the codes. 0 with averages.
    commitment_loss: $\lVert z - \mathrm{sg}[e] \rVert^2$, a mean; it moves the encoder.
    perplexity: $\exp H$ of the codes' shares in this batch: as many codes as if all were used equally.
    """

    quantised: Tensor
    indices: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor
    perplexity: Tensor


class VectorQuantizer(nn.Module):
    r"""Replaces each vector by the nearest of K codes $e_1 \dots e_K$ (equations 1 and 2).

    The codes learn in one of two ways: by the codebook loss (equation 3), or, with `ema`, as moving averages of the
    vectors that chose them (appendix A.1), updated after each training batch has been quantised. Over several processes
    the first one's vectors count.

    Args:
        num_codes: size of the vocabulary, K.
        dim: length of a code, D.
        ema: decay of the averages, in [0, 1), or None for codes that are parameters.
        restart: a code whose average count falls below it is moved onto a vector of the batch, drawn by lot (Dhariwal
            et al., "Jukebox", arXiv:2005.00341). 0 restarts none.

    Raises:
        ValueError: for an argument out of range, vectors of another shape, and vectors that are not finite where that
            would last: in training, where they would spoil the averages for good, and in `encode`.
    """

    def __init__(self, num_codes: int, dim: int, *, ema: float | None = 0.99, restart: float = 0.0):
        super().__init__()
        check_count(num_codes=num_codes, dim=dim)
        if ema is not None and not 0 <= ema < 1:
            raise ValueError(f"ema must lie in [0, 1) or be None, got {ema!r}")
        if not restart >= 0:
            raise ValueError(f"restart must be at least 0, got {restart!r}")
        self.num_codes, self.dim, self.ema, self.restart = num_codes, dim, ema, restart
        codes = torch.randn(dim, num_codes)  # a column each, as published
        if ema is None:
            self.embed = nn.Parameter(codes)
        else:
            self.register_buffer("embed", codes)
            self.register_buffer("embed_avg", codes.clone())
        self.register_buffer("cluster_size", torch.ones(num_codes))  # so that embed_avg / cluster_size is embed

    def forward(self, z: Tensor) -> Quantised:
        """Quantises features (B, D, H, W) or tokens (B, N, D); in training the averages are updated."""
        vectors = self.vectors(z)
        indices = self.nearest(vectors)
        e = self.maps(F.embedding(indices, self.embed.t()), z)
        counts = torch.zeros_like(self.cluster_size).index_add_(0, indices, vectors.new_ones(len(vectors)))
        if self.training:
            self.update(vectors.detach(), indices, counts)
        share = counts / len(indices)
        return Quantised(
            quantised=z + (e - z).detach(),
            indices=self.places(indices, z),
            codebook_loss=F.mse_loss(e, z.detach()) if self.ema is None else z.new_zeros(()),
            commitment_loss=F.mse_loss(z, e.detach()),
            perplexity=(-(share * (share + 1e-10).log()).sum()).exp(),
        )

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        r"""Index of the nearest code (N,) for vectors (N, D).

        $\lVert z \rVert^2$ is the same for all codes: $\lVert e \rVert^2 - 2\, z \cdot e$ decides, one matrix product.
        """
        device = "cpu" if vectors.is_meta else vectors.device.type  # autocast does not know "meta"
        with torch.autocast(device, enabled=False):  # in 16 bits near neighbours would be mistaken
            return torch.addmm(self.embed.square().sum(0), vectors, self.embed, alpha=-2).argmin(dim=1)

    @torch.no_grad()
    def update(self, vectors: Tensor, indices: Tensor, counts: Tensor) -> None:
        r"""Moves the averages and the codes.

        $N_k \leftarrow \gamma N_k + (1-\gamma)\, n_k$ and $m_k \leftarrow \gamma m_k + (1-\gamma) \sum z$ over the
        vectors that chose code k; $e_k = m_k / N_k$, with EPS added to the counts (appendix A.1). A code that nobody
        has chosen for long would be divided by little more than EPS, and shrink; it stays where it is.

        Args:
            vectors: (N, D).
            indices: the codes they chose (N,).
            counts: how many chose each code (K,).
        """
        check_finite(vectors)
        weight = 0.01 if self.ema is None else 1 - self.ema
        self.cluster_size.lerp_(counts, weight)
        if self.ema is not None:
            sums = vectors.new_zeros(self.num_codes, self.dim).index_add_(0, indices, vectors)
            self.embed_avg.lerp_(sums.t(), weight)
            total = self.cluster_size.sum()
            smoothed = (self.cluster_size + EPS) / (total + self.num_codes * EPS) * total
            self.embed.copy_(torch.where(self.cluster_size > SELDOM, self.embed_avg / smoothed, self.embed))
        if self.restart:
            dead = self.cluster_size < self.restart
            drawn = vectors[torch.randint(len(vectors), (self.num_codes,), device=vectors.device)].t()
            self.embed.copy_(torch.where(dead, drawn, self.embed))
            self.cluster_size.clamp_(min=self.restart)
            if self.ema is not None:
                self.embed_avg.copy_(torch.where(dead, drawn * self.restart, self.embed_avg))

    def encode(self, z: Tensor) -> Tensor:
        """Indices (B, H, W) or (B, N) for features (B, D, H, W) or tokens (B, N, D); no average moves."""
        vectors = self.vectors(z)
        check_finite(vectors)
        return self.places(self.nearest(vectors), z)

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes (B, D, H, W) or (B, N, D) of indices (B, H, W) or (B, N).

        Raises `ValueError` for indices that are no integers or not between 0 and K - 1.
        """
        if indices.is_floating_point() or indices.ndim not in (2, 3):
            raise ValueError(
                f"indices must be integers (B, H, W) or (B, N), got {indices.dtype} {tuple(indices.shape)}"
            )
        if indices.numel() and (indices.min() < 0 or indices.max() >= self.num_codes):
            got = f"values from {indices.min()} to {indices.max()}"
            raise ValueError(f"indices must lie between 0 and {self.num_codes - 1}, got {got}")
        codes = F.embedding(indices, self.embed.t())
        return codes.movedim(-1, 1) if indices.ndim == 3 else codes

    def vectors(self, z: Tensor) -> Tensor:
        """The vectors (N, D), in the codes' precision, of features (B, D, H, W) or tokens (B, N, D)."""
        channels = z.shape[1 if z.ndim == 4 else -1] if z.ndim in (3, 4) else None
        if channels != self.dim or not z.is_floating_point():
            wanted = f"(B, {self.dim}, H, W) or (B, N, {self.dim})"
            raise ValueError(f"z must be floating point {wanted}, got {z.dtype} {tuple(z.shape)}")
        return (z.movedim(1, -1) if z.ndim == 4 else z).reshape(-1, self.dim).to(self.embed.dtype)

    @staticmethod
    def places(indices: Tensor, z: Tensor) -> Tensor:
        """Indices (N,) as the maps (B, H, W) or (B, N) in which z lies."""
        return indices.view(z.shape[0], *(z.shape[2:] if z.ndim == 4 else z.shape[1:2]))

    @staticmethod
    def maps(vectors: Tensor, z: Tensor) -> Tensor:
        """Vectors (N, D) in the shape and precision of z."""
        if z.ndim == 4:
            return vectors.view(z.shape[0], *z.shape[2:], -1).movedim(-1, 1).to(z.dtype)
        return vectors.view(z.shape).to(z.dtype)


def check_finite(vectors: Tensor) -> None:
    """Raises `ValueError` where a number is infinite or none. Not looked at while compiling or without data."""
    if not torch.compiler.is_compiling() and not vectors.is_meta and not vectors.isfinite().all():
        raise ValueError("z must be finite, got values that are infinite or not a number")


class ResBlock(nn.Module):
    """ReLU, 3×3 convolution, ReLU, 1×1 convolution, added to what came in: (B, channels, H, W) to the same shape."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.conv = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The features after this block."""
        return x + self.conv(x)


class Encoder(nn.Module):
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
        half = channels // 2
        layers = [nn.Conv2d(in_channels, half, 4, 2, 1), nn.ReLU()]
        if stride == 4:
            layers += [nn.Conv2d(half, channels, 4, 2, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
        else:
            layers += [nn.Conv2d(half, channels, 3, padding=1)]
        self.blocks = nn.Sequential(*layers, *(ResBlock(channels, hidden) for _ in range(num_blocks)), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """The features of images."""
        return self.blocks(x)


class Decoder(nn.Module):
    """Codes (B, in_channels, h, w) to images (B, out_channels, h * stride, w * stride); arguments as `Encoder`'s."""

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
        half = channels // 2
        if stride == 4:
            grow = [
                nn.ConvTranspose2d(channels, half, 4, 2, 1),
                nn.ReLU(),
                nn.ConvTranspose2d(half, out_channels, 4, 2, 1),
            ]
        else:
            grow = [nn.ConvTranspose2d(channels, out_channels, 4, 2, 1)]
        blocks = (ResBlock(channels, hidden) for _ in range(num_blocks))
        self.blocks = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), *blocks, nn.ReLU(), *grow)

    def forward(self, x: Tensor) -> Tensor:
        """Images, or the features of a lower level."""
        return self.blocks(x)


def check_encoder(in_channels: int, channels: int, stride: int, num_blocks: int, hidden: int) -> None:
    """Raises `ValueError` for arguments of `Encoder` or `Decoder` out of range."""
    check_count(in_channels=in_channels, hidden=hidden)
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
        if not commitment >= 0:
            raise ValueError(f"commitment must be at least 0, got {commitment!r}")
        self.commitment, self.in_channels = commitment, in_channels
        sizes = {"channels": channels, "stride": self.stride, "num_blocks": num_blocks, "hidden": hidden}
        self.enc = Encoder(in_channels, **sizes)
        self.quantize_conv = nn.Conv2d(channels, dim, 1)
        self.quantize = VectorQuantizer(num_codes, dim, ema=ema, restart=restart)
        self.dec = Decoder(dim, in_channels, **sizes)

    def features(self, x: Tensor) -> Tensor:
        """What is quantised, $z_e$ (B, D, H / 4, W / 4), of images (B, C, H, W)."""
        check_sides(x, self.in_channels, self.stride)
        return self.quantize_conv(self.enc(x))

    def encode(self, x: Tensor) -> Tensor:
        """Codes (B, H / 4, W / 4) of images (B, C, H, W)."""
        return self.quantize.encode(self.features(x))

    def decode(self, indices: Tensor) -> Tensor:
        """Images (B, C, H, W) of codes (B, H / 4, W / 4)."""
        return self.dec(self.quantize.lookup(indices))

    def forward(self, x: Tensor) -> tuple[Tensor, Quantised]:
        """Reconstructions of images (B, C, H, W), and what the quantiser made of their features."""
        quantised = self.quantize(self.features(x))
        return self.dec(quantised.quantised), quantised

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        r"""Equation (3): $\lVert x - \hat x \rVert^2$, codebook loss, and $\beta$ times commitment loss.

        Each is a mean, over pixels or over the features' numbers. "perplexity" is there to be looked at.

        Raises `ValueError` if a pixel lies outside [0, 1] or is not a number.
        """
        check_pixels(x)
        reconstruction, quantised = self(x)
        error = F.mse_loss(reconstruction, x)
        return {
            "loss": error + quantised.codebook_loss + self.commitment * quantised.commitment_loss,
            "reconstruction": error,
            "codebook": quantised.codebook_loss,
            "commitment": quantised.commitment_loss,
            "perplexity": quantised.perplexity,
        }


def check_sides(x: Tensor, channels: int, stride: int) -> None:
    """Raises `ValueError` unless x is a batch of images (B, channels, H, W) with sides that `stride` divides."""
    if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % stride or x.shape[3] % stride:
        wanted = f"(B, {channels}, H, W) with H and W divisible by {stride}"
        raise ValueError(f"x must have shape {wanted}, got {tuple(x.shape)}")
