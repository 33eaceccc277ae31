"""Part 1: models that learn a code for an image."""

from lib.autoencoders.autoencoder import Autoencoder, init_bias_to_mean
from lib.autoencoders.prior import CodePrior, MaskedConv2d
from lib.autoencoders.quantizer import VectorQuantizer
from lib.autoencoders.vae import VAE, kl_to_standard_normal
from lib.autoencoders.vqvae import VQVAE
from lib.autoencoders.vqvae2 import VQVAE2

__all__ = [
    "VAE",
    "VQVAE",
    "VQVAE2",
    "Autoencoder",
    "CodePrior",
    "MaskedConv2d",
    "VectorQuantizer",
    "init_bias_to_mean",
    "kl_to_standard_normal",
]
