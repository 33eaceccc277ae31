"""The autoencoder: squeeze an image through a narrow code, then rebuild it from the code alone.

Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313 (2006).
The two small networks below, an MLP and a convolutional one, also serve the VAE (`vae.py`).
"""

import torch
from torch import Tensor, nn

from lib.checks import cast_for, check_count, check_finite, check_floats, check_option, check_sizes, check_some, upcast

HIDDEN = (400, 200)  # widths of the MLP's two hidden layers, encoder order
CHANNELS = (32, 64)  # channels of the convolutional network at 1/2 and 1/4 of the image size


def encoder(out_features: int, network: str = "mlp", image_shape: tuple[int, int, int] = (1, 28, 28)):
    """Network from images (B, C, H, W) to vectors (B, out_features).

    Raises `ValueError` if `network` is neither "mlp" nor "conv", or if "conv" meets a height or width that is
    not a multiple of 4.
    """
    check_count(out_features=out_features)
    C, H, W = check_network(network, image_shape)
    if network == "mlp":
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(C * H * W, HIDDEN[0]), nn.SiLU(),
            nn.Linear(HIDDEN[0], HIDDEN[1]), nn.SiLU(),
            nn.Linear(HIDDEN[1], out_features),
        )  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(C, CHANNELS[0], kernel_size=4, stride=2, padding=1), nn.SiLU(),  # (B, 32, H/2, W/2)
        nn.Conv2d(CHANNELS[0], CHANNELS[1], kernel_size=4, stride=2, padding=1), nn.SiLU(),  # (B, 64, H/4, W/4)
        nn.Flatten(),
        nn.Linear(CHANNELS[1] * (H // 4) * (W // 4), out_features),
    )  # fmt: skip


def decoder(latent_dim: int, network: str = "mlp", image_shape: tuple[int, int, int] = (1, 28, 28)):
    """Network from codes (B, latent_dim) to one real number a pixel (B, C, H, W), the mirror of `encoder`.

    Raises `ValueError` as `encoder` does.
    """
    check_count(latent_dim=latent_dim)
    C, H, W = check_network(network, image_shape)
    if network == "mlp":
        return nn.Sequential(
            nn.Linear(latent_dim, HIDDEN[1]), nn.SiLU(),
            nn.Linear(HIDDEN[1], HIDDEN[0]), nn.SiLU(),
            nn.Linear(HIDDEN[0], C * H * W),
            nn.Unflatten(1, (C, H, W)),
        )  # fmt: skip
    return nn.Sequential(
        nn.Linear(latent_dim, CHANNELS[1] * (H // 4) * (W // 4)), nn.SiLU(),
        nn.Unflatten(1, (CHANNELS[1], H // 4, W // 4)),
        nn.ConvTranspose2d(CHANNELS[1], CHANNELS[0], kernel_size=4, stride=2, padding=1), nn.SiLU(),
        nn.ConvTranspose2d(CHANNELS[0], C, kernel_size=4, stride=2, padding=1),
    )  # fmt: skip


@torch.no_grad()
def init_bias_to_mean(decoder: nn.Sequential, images: Tensor) -> None:
    """Sets the last bias of `decoder` so that, untrained, it draws about the mean of `images` (N, C, H, W) in [0, 1].

    The mean is what the squared error and the cross-entropy ask for when the code says nothing yet. The bias holds
    log-odds, so the mean is kept between 0.01 and 0.99. A convolution has one bias a channel and gets its mean.

    Raises `ValueError` for a decoder without a bias, and for images of other sizes, none at all, or not finite ones.
    """
    biases = [layer.bias for layer in decoder if hasattr(layer, "bias")] if isinstance(decoder, nn.Sequential) else []
    if not biases:
        raise ValueError(f"decoder must be an nn.Sequential with a bias, got {type(decoder).__name__}")
    if check_floats("images", images).ndim != 4:
        raise ValueError(f"images must have shape (N, C, H, W), got {tuple(images.shape)}")
    check_some("images", images)
    check_finite("images", images)
    bias, mean = biases[-1], upcast(images).mean(0)
    mean = mean.flatten() if bias.numel() == mean.numel() else mean.flatten(1).mean(1)
    if bias.shape != mean.shape:
        raise ValueError(
            f"images must have {bias.numel()} channels or pixels as the decoder has, got {tuple(images.shape)}"
        )
    bias.copy_(mean.clamp(0.01, 0.99).logit())


class Autoencoder(nn.Module):
    r"""$z = E(x)$, $\hat x = D(z)$, trained to make $\lVert x - \hat x \rVert^2$ small.

    Args:
        latent_dim: length of the code $z$, at least 1.
        network: "mlp" or "conv".
        image_shape: (C, H, W) of the images.
    """

    def __init__(self, latent_dim: int = 16, network: str = "mlp", image_shape: tuple[int, int, int] = (1, 28, 28)):
        super().__init__()
        check_count(latent_dim=latent_dim)
        self.latent_dim = latent_dim
        self.image_shape = check_network(network, image_shape)
        self.encoder = encoder(latent_dim, network, image_shape)
        self.decoder = decoder(latent_dim, network, image_shape)

    def encode(self, x: Tensor) -> Tensor:
        """Codes (B, latent_dim) of images (B, C, H, W)."""
        check_images(x, self.image_shape)
        return self.encoder(cast_for(self.encoder, x))

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in (0, 1) from codes (B, latent_dim)."""
        check_codes(z, self.latent_dim)
        return self.decoder(cast_for(self.decoder, z)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of images (B, C, H, W), in (0, 1)."""
        return self.decode(self.encode(x))

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        r"""Squared error $\lVert x - \hat x \rVert^2$, summed over an image's pixels, averaged over the batch.

        Raises `ValueError` if there is no image, and if a pixel lies outside [0, 1] or is not a number.
        """
        check_images(x, self.image_shape)
        check_some("x", x)
        check_finite("x", x, 0, 1)
        return {"loss": (upcast(x) - upcast(self(x))).square().flatten(1).sum(1).mean()}


def check_network(network: str, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(C, H, W), after checking that `network` can be built for it."""
    check_option("network", network, ("mlp", "conv"))
    C, H, W = check_sizes("image_shape", image_shape, "C, H, W")
    if network == "conv" and (H % 4 or W % 4):
        raise ValueError(f"image_shape must have H and W divisible by 4 for the conv network, got {H} and {W}")
    return C, H, W


def check_images(x: Tensor, image_shape: tuple[int, ...]) -> None:
    """Raises `ValueError` unless `x` is a floating-point batch (B, C, H, W) of `image_shape`."""
    check_floats("x", x)
    if x.ndim != 4 or tuple(x.shape[1:]) != tuple(image_shape):
        wanted = ", ".join(map(str, image_shape))
        raise ValueError(f"x must have shape (B, {wanted}), got {tuple(x.shape)}")


def check_codes(z: Tensor, latent_dim: int) -> None:
    """Raises `ValueError` unless `z` is a batch of codes (B, latent_dim)."""
    check_floats("z", z)
    if z.ndim != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"z must have shape (B, {latent_dim}), got {tuple(z.shape)}")
