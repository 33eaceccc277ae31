r"""Vector quantisation: each vector is replaced by the nearest code of a learned vocabulary.

van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", NIPS 2017 (arXiv:1711.00937),
sections 3.1 and 3.2 and appendix A.1. Equation numbers are that paper's.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import (
    check_count,
    check_finite,
    check_floats,
    check_integers,
    check_number,
    check_some,
    is_number,
    upcast,
)

EPS = 1e-5  # added to each code's count, so that none is divided by zero
SELDOM = 1e-3  # a count so small that EPS would begin to pull the code towards zero


class QuantizerOutput(NamedTuple):
    r"""What a quantiser makes of vectors z of length D: B maps with N places in all.

    z_q: the nearest codes, of z's shape and precision. Forward it is $e$, backward the gradient goes to z
        (section 3.2).
    indices: which codes, integers (B, H, W) or (B, N).
    codebook_loss: $\lVert \mathrm{sg}[z] - e \rVert^2$, a mean; it moves the codes. 0 with averages.
    commitment_loss: $\lVert z - \mathrm{sg}[e] \rVert^2$, a mean; it moves the encoder.
    perplexity: $\exp H$ of the codes' shares in this batch, in training in those of all processes: as many codes as
        if all were used equally.

    Losses and perplexity are float32 or wider.
    """

    z_q: Tensor
    indices: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor
    perplexity: Tensor


class VectorQuantizer(nn.Module):
    r"""Replaces each vector by the nearest of K codes $e_1 \dots e_K$ (equations 1 and 2).

    The codes learn in one of two ways: by the codebook loss (equation 3), or, with `ema`, as moving averages of the
    vectors that chose them (appendix A.1), updated after each training batch has been quantised. Counts and averages
    stay float32 or wider whatever the module is cast to or loaded from: of a number 100 times larger, 16 bits do not
    keep a hundredth. Over several processes the vectors of all count, so in training each of them must quantise its
    batch.

    Args:
        num_codes: size of the vocabulary, K.
        dim: length of a code, D.
        ema: decay of the averages, in [0, 1), or None for codes that are parameters.
        restart: a code whose average count falls below it is moved onto a vector of the batch, drawn by lot (Dhariwal
            et al., "Jukebox", arXiv:2005.00341). 0 restarts none.

    Raises:
        ValueError: for an argument out of range, vectors of another shape, none at all, and, where looking costs no
            waiting for a device, vectors that are not finite where that would last: in training, where they would
            spoil the averages for good, and in `encode`.
    """

    def __init__(self, num_codes: int, dim: int, *, ema: float | None = 0.99, restart: float = 0.0):
        super().__init__()
        check_count(num_codes=num_codes, dim=dim)
        if ema is not None and not (is_number(ema) and 0 <= ema < 1):
            raise ValueError(f"ema must lie in [0, 1) or be None, got {ema!r}")
        check_number(0, restart=restart)
        self.num_codes, self.dim, self.ema, self.restart = num_codes, dim, ema, restart
        codes = torch.randn(dim, num_codes)  # a column each, as published
        if ema is None:
            self.embed = nn.Parameter(codes)
        else:
            self.register_buffer("embed", upcast(codes))
            self.register_buffer("embed_avg", self.embed.clone())
        self.register_buffer("cluster_size", upcast(torch.ones(num_codes)))  # so that embed_avg / cluster_size is embed

    def _apply(self, fn, recurse=True):
        """What `Module.to`, `half` and their like do, but counts and averages never fall below float32."""
        before = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, after in self.named_buffers():
            if after.dtype.itemsize < 4:
                self._buffers[name] = before[name].to(after.device, torch.float32)
        return self

    def _load_from_state_dict(self, *args):
        """With `assign=True` what is loaded takes the buffers' places; of 16 bits it is widened."""
        super()._load_from_state_dict(*args)
        for name, loaded in self.named_buffers():
            self._buffers[name] = upcast(loaded)

    @property
    def codes(self) -> Tensor:
        """The codes (D, K), a column each, in the precision of the counts."""
        return self.embed.to(self.cluster_size.dtype)

    def forward(self, z: Tensor) -> QuantizerOutput:
        """Quantises features (B, D, H, W) or tokens (B, N, D); in training the averages are updated."""
        vectors = self.vectors(z)
        check_some("z", z)
        indices = self.nearest(vectors)
        z, dtype = upcast(z), z.dtype
        e = self.maps(F.embedding(indices, self.codes.t()), z)
        counts = torch.zeros_like(self.cluster_size).index_add_(0, indices, vectors.new_ones(vectors.shape[0]))
        if self.training:
            counts = over_all_processes(counts)
            self.update(vectors.detach(), indices, counts)
        share = counts / counts.sum()
        return QuantizerOutput(
            z_q=(z + (e - z).detach()).to(dtype),
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
        codes = self.codes
        device = "cpu" if vectors.is_meta else vectors.device.type  # autocast does not know "meta"
        with torch.autocast(device, enabled=False):  # in 16 bits near neighbours would be mistaken
            return torch.addmm(codes.square().sum(0), vectors, codes, alpha=-2).argmin(dim=1)

    @torch.no_grad()
    def update(self, vectors: Tensor, indices: Tensor, counts: Tensor) -> None:
        r"""Moves the averages and the codes.

        $N_k \leftarrow \gamma N_k + (1-\gamma)\, n_k$ and $m_k \leftarrow \gamma m_k + (1-\gamma) \sum z$ over the
        vectors that chose code k; $e_k = m_k / N_k$, with EPS added to the counts (appendix A.1). A code that nobody
        has chosen for long would be divided by little more than EPS, and shrink; it stays where it is.

        Args:
            vectors: (N, D).
            indices: the codes they chose (N,).
            counts: how many chose each code (K,), in all processes together.
        """
        check_finite("z", vectors)
        weight = 0.01 if self.ema is None else 1 - self.ema
        self.cluster_size.lerp_(counts, weight)
        if self.ema is not None:
            sums = over_all_processes(vectors.new_zeros(self.num_codes, self.dim).index_add_(0, indices, vectors))
            self.embed_avg.lerp_(sums.t(), weight)
            total = self.cluster_size.sum()
            smoothed = (self.cluster_size + EPS) / (total + self.num_codes * EPS) * total
            self.embed.copy_(torch.where(self.cluster_size > SELDOM, self.embed_avg / smoothed, self.embed))
        if self.restart:
            dead = self.cluster_size < self.restart
            drawn = self.draw(vectors).t()
            self.embed.copy_(torch.where(dead, drawn, self.embed))
            self.cluster_size.clamp_(min=self.restart)
            if self.ema is not None:
                self.embed_avg.copy_(torch.where(dead, drawn * self.restart, self.embed_avg))

    def draw(self, vectors: Tensor) -> Tensor:
        """K vectors (K, D) of those of all processes, (N, D) in each, drawn by lot with repetition, the same for all.

        The first process draws whose vector it is and which, and the owner hands it out.
        """
        N, processes = vectors.shape[0], dist.get_world_size() if several_processes() else 1
        drawn = torch.randint(N * processes, (self.num_codes,), device=vectors.device)
        if processes == 1:
            return vectors[drawn]
        lot = torch.stack([drawn // N, drawn % N])
        dist.broadcast(lot, src=0)
        owner, place = lot
        own = vectors[place % N]  # another process may hold fewer vectors than the first
        return over_all_processes(torch.where((owner == dist.get_rank())[:, None], own, torch.zeros_like(own)))

    def encode(self, z: Tensor) -> Tensor:
        """Indices (B, H, W) or (B, N) for features (B, D, H, W) or tokens (B, N, D); no average moves."""
        vectors = self.vectors(z)
        check_finite("z", vectors)
        return self.places(self.nearest(vectors), z)

    def lookup(self, indices: Tensor) -> Tensor:
        """The codes (B, D, H, W) or (B, N, D) of indices (B, H, W) or (B, N), in float32 or wider.

        Raises `ValueError` for indices that are no integers or not between 0 and K - 1.
        """
        indices = check_integers("indices", indices, 0, self.num_codes - 1)
        if indices.ndim not in (2, 3):
            raise ValueError(f"indices must have shape (B, H, W) or (B, N), got {tuple(indices.shape)}")
        codes = F.embedding(indices, self.codes.t())
        return codes.movedim(-1, 1) if indices.ndim == 3 else codes

    def vectors(self, z: Tensor) -> Tensor:
        """The vectors (N, D), in the counts' precision, of features (B, D, H, W) or tokens (B, N, D)."""
        check_floats("z", z)
        channels = z.shape[1 if z.ndim == 4 else -1] if z.ndim in (3, 4) else None
        if channels != self.dim:
            raise ValueError(f"z must have shape (B, {self.dim}, H, W) or (B, N, {self.dim}), got {tuple(z.shape)}")
        return (z.movedim(1, -1) if z.ndim == 4 else z).reshape(-1, self.dim).to(self.cluster_size.dtype)

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


def several_processes() -> bool:
    """Whether this is one of several processes that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def over_all_processes(values: Tensor) -> Tensor:
    """`values`, in place, summed over the processes that train together."""
    if several_processes():
        dist.all_reduce(values)
    return values
