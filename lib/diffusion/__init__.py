"""Part 2: models that learn to take noise away."""

from lib.diffusion.ddpm import p_sample, predict_x0, sample, simple_loss, trajectory, vlb_terms
from lib.diffusion.process import GaussianDiffusion
from lib.diffusion.schedule import cosine_betas, linear_betas
from lib.diffusion.unet import UNet, UNet2015, digit_unet

__all__ = [
    "GaussianDiffusion",
    "UNet",
    "UNet2015",
    "cosine_betas",
    "digit_unet",
    "linear_betas",
    "p_sample",
    "predict_x0",
    "sample",
    "simple_loss",
    "trajectory",
    "vlb_terms",
]
