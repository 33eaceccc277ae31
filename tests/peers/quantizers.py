"""The quantiser of vector-quantize-pytorch in the shape of ours."""

import torch

from lib.autoencoders import VectorQuantizer


def same_quantizers(num_codes: int, dim: int, ema: float = 0.9):
    """Ours and theirs with the same random codes, in training. Both take tokens (B, N, dim)."""
    from vector_quantize_pytorch import VectorQuantize  # slow to import

    torch.manual_seed(0)
    ours = VectorQuantizer(num_codes, dim, ema=ema).train()
    settings = {
        "decay": ema,
        "commitment_weight": 1.0,
        "eps": 1e-5,
        "rotation_trick": False,
    }
    theirs = VectorQuantize(dim=dim, codebook_size=num_codes, **settings).train()
    book = theirs._codebook
    book.initted.fill_(True)
    for name, value in (("embed", ours.embed), ("embed_avg", ours.embed_avg), ("cluster_size", ours.cluster_size)):
        given = value.t() if value.ndim == 2 else value
        getattr(book, name).copy_(given[None])
    return ours, theirs
