"""The masked autoencoder that this book trains on MNIST's digits."""

import torch

from lib.vision_transformers.initialization import scale_residual_branches
from lib.vision_transformers.mae import MaskedAutoencoderViT, sincos_2d


def digit_mae(kind: type[MaskedAutoencoderViT] = MaskedAutoencoderViT, **settings) -> MaskedAutoencoderViT:
    """A small masked autoencoder of digits (B, 1, 28, 28), 16 patches of 7×7 pixels, 700,000 parameters.

    Two things help a short training. Places are counted in pixels, at the middle of each patch: over four rows and
    columns of patches the sines of the paper would hardly move. And each block starts as a small change, its last
    weights at a fifth of their size.

    `kind` and `settings` are for variants: a subclass, and other arguments of it.
    """
    model = kind(
        28, 7, 1, embed_dim=128, depth=4, num_heads=4, decoder_embed_dim=96, decoder_depth=2, decoder_num_heads=8,
        mlp_ratio=2.0, **settings,
    )  # fmt: skip
    with torch.no_grad():
        for table in (model.pos_embed, model.decoder_pos_embed):
            width = table.shape[2]
            pixels = sincos_2d(width, 28, 28)[0, 1:].view(28, 28, width)
            table[0, 1:] = pixels[3::7, 3::7].flatten(0, 1)
    return scale_residual_branches(model, 0.2)
