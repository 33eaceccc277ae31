"""Part 1: models that learn a code for an image."""

from lib.autoencoders.autoencoder import Autoencoder, start_at_mean
from lib.autoencoders.vae import VAE, kl_to_standard_normal

__all__ = ["VAE", "Autoencoder", "kl_to_standard_normal", "start_at_mean"]
