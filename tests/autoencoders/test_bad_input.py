"""No public callable of this part takes in silence what it cannot use, or ends in an error that names nothing."""

import pytest
import torch
from torch import nn

from lib.autoencoders import (
    VAE,
    VQVAE,
    VQVAE2,
    Autoencoder,
    CodePrior,
    MaskedConv2d,
    VectorQuantizer,
    init_bias_to_mean,
    kl_to_standard_normal,
)
from lib.autoencoders.autoencoder import decoder, encoder
from lib.autoencoders.vae import log_normal
from lib.autoencoders.vqvae import VQDecoder, VQEncoder, VQResBlock
from tests.bad_input import unclear

X, Z, NOISE = torch.rand(2, 1, 16, 16), torch.rand(2, 4), torch.randn(2, 4)
SHAPE = {"image_shape": (1, 16, 16)}
SIZES = {"in_channels": 1, "channels": 8, "num_blocks": 1, "hidden": 4}
CODES, LABELS, UPPER = torch.randint(7, (2, 3, 4)), torch.tensor([0, 2]), torch.randint(5, (2, 2, 2))
LEARNING = {"commitment": 0.25, "ema": 0.9, "restart": 0.5}
TEMPERATE = {"temperature": 1.0, "cache": True, "generator": torch.Generator()}


def ae():
    return Autoencoder(4, "mlp", (1, 16, 16))


def vae():
    return VAE(4, image_shape=(1, 16, 16))


def vq():
    return VectorQuantizer(7, 4)


def vqvae(kind=VQVAE):
    return kind(num_codes=7, dim=4, **SIZES)


def prior():
    return CodePrior(7, (3, 4), num_classes=3, upper=(5, 2, 2), dim=16, depth=1, num_heads=2)


CALLS = {
    "encoder": (encoder, {"out_features": 3, "network": "mlp", **SHAPE}),
    "decoder": (decoder, {"latent_dim": 3, "network": "conv", **SHAPE}),
    "init_bias_to_mean": (init_bias_to_mean, {"decoder": nn.Sequential(nn.Linear(2, 256)), "images": X}),
    "Autoencoder": (Autoencoder, {"latent_dim": 3, "network": "mlp", **SHAPE}),
    "Autoencoder.forward": (ae(), {"x": X}),
    "Autoencoder.encode": (ae().encode, {"x": X}),
    "Autoencoder.decode": (ae().decode, {"z": Z}),
    "Autoencoder.loss": (ae().loss, {"x": X}),
    "log_normal": (log_normal, {"x": Z, "mean": Z, "logvar": Z}),
    "kl_to_standard_normal": (kl_to_standard_normal, {"mu": Z, "logvar": Z}),
    "VAE": (VAE, {"latent_dim": 3, "network": "mlp", "likelihood": "gaussian", "beta": 1.0, "pixel_std": 0.1, **SHAPE}),
    "VAE.forward": (vae(), {"x": X}),
    "VAE.encode": (vae().encode, {"x": X}),
    "VAE.decode": (vae().decode, {"z": Z}),
    "VAE.reparameterize": (vae().reparameterize, {"mu": Z, "logvar": Z, "noise": NOISE}),
    "VAE.log_likelihood": (vae().log_likelihood, {"x": X, "z": Z}),
    "VAE.elbo": (vae().elbo, {"x": X, "noise": NOISE}),
    "VAE.loss": (vae().loss, {"x": X, "noise": NOISE}),
    "VAE.iw_bound": (vae().iw_bound, {"x": X, "k": 2}),
    "VAE.sample": (vae().sample, {"n": 2, "generator": torch.Generator()}),
    "VectorQuantizer": (VectorQuantizer, {"num_codes": 7, "dim": 4, "ema": 0.9, "restart": 0.5}),
    "VectorQuantizer.forward": (vq(), {"z": torch.rand(2, 5, 4)}),
    "VectorQuantizer.encode": (vq().encode, {"z": torch.rand(2, 4, 3, 3)}),
    "VectorQuantizer.vectors": (vq().vectors, {"z": torch.rand(2, 5, 4)}),
    "VectorQuantizer.lookup": (vq().lookup, {"indices": CODES}),
    "VQResBlock": (VQResBlock, {"channels": 8, "hidden": 4}),
    "VQResBlock.forward": (VQResBlock(1, 4), {"x": X}),
    "VQEncoder": (VQEncoder, {**SIZES, "stride": 4}),
    "VQEncoder.forward": (VQEncoder(**SIZES), {"x": X}),
    "VQDecoder": (VQDecoder, {**SIZES, "out_channels": 3, "stride": 2}),
    "VQDecoder.forward": (VQDecoder(out_channels=3, **SIZES), {"x": X}),
    "VQVAE": (VQVAE, {"num_codes": 7, "dim": 4, **SIZES, **LEARNING}),
    "VQVAE.forward": (vqvae(), {"x": X}),
    "VQVAE.features": (vqvae().features, {"x": X}),
    "VQVAE.encode": (vqvae().encode, {"x": X}),
    "VQVAE.decode": (vqvae().decode, {"indices": CODES}),
    "VQVAE.loss": (vqvae().loss, {"x": X}),
    "VQVAE2": (VQVAE2, {"num_codes": 7, "dim": 4, **SIZES, **LEARNING}),
    "VQVAE2.forward": (vqvae(VQVAE2), {"x": X}),
    "VQVAE2.quantize_levels": (vqvae(VQVAE2).quantize_levels, {"x": X}),
    "VQVAE2.encode": (vqvae(VQVAE2).encode, {"x": X}),
    "VQVAE2.decode": (vqvae(VQVAE2).decode, {"top": CODES[:, :2, :2], "bottom": CODES.repeat(1, 2, 1)[:, :4]}),
    "VQVAE2.draw": (vqvae(VQVAE2).draw, {"top": torch.rand(2, 4, 2, 2), "bottom": torch.rand(2, 4, 4, 4)}),
    "VQVAE2.features_b": (
        vqvae(VQVAE2).features_b,
        {"below": torch.rand(2, 8, 4, 4), "top": torch.rand(2, 4, 2, 2)},
    ),
    "VQVAE2.loss": (vqvae(VQVAE2).loss, {"x": X}),
    "CodePrior": (
        CodePrior,
        {"num_codes": 7, "shape": (3, 4), "num_classes": 3, "upper": (5, 2, 2), "dim": 16, "depth": 1, "num_heads": 2},
    ),
    "CodePrior.forward": (prior(), {"codes": CODES, "labels": LABELS, "upper": UPPER}),
    "CodePrior.loss": (prior().loss, {"codes": CODES, "labels": LABELS, "upper": UPPER}),
    "CodePrior.sample": (prior().sample, {"n": 2, "labels": LABELS, "upper": UPPER, **TEMPERATE}),
    "CodePrior.next_code": (lambda x: prior().next_code(x, None), {"x": torch.rand(2, 3, 16)}),
    "CodePrior.condition": (lambda **given: prior().condition(2, **given), {"labels": LABELS, "upper": UPPER}),
    "MaskedConv2d": (MaskedConv2d, {"mask": "A", "in_channels": 1, "out_channels": 2, "kernel_size": 3}),
    "MaskedConv2d.forward": (MaskedConv2d("A", 1, 2, 3), {"x": X}),
}
MAY_BE_NONE = ("noise: None", "generator: None", "ema: None")


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_refused_by_name(name):
    torch.manual_seed(0)
    call, good = CALLS[name]
    fine = MAY_BE_NONE + (("upper: None",) if name == "CodePrior" else ())
    assert unclear(call, good, fine) == []
