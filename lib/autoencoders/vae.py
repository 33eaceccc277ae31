r"""The variational autoencoder: every image gets a cloud of codes, and the clouds must fill the prior.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014 (arXiv:1312.6114): the bound is their equation (3),
the reparameterisation their section 2.4, the closed-form KL their appendix B. $\beta$ is Higgins et al., ICLR 2017; the
importance-weighted bound is Burda et al., ICLR 2016 (arXiv:1509.00519), equation (8).

All densities are sums over the dimensions of one image, in nats: the ELBO is never silently divided by the number
of pixels, which would multiply the weight of the KL term by that number.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.autoencoders.autoencoder import check_codes, check_images, check_network, decoder, encoder
from lib.checks import (
    cast_for,
    check_count,
    check_finite,
    check_floats,
    check_generator,
    check_number,
    check_option,
    check_some,
    upcast,
)

LOG_2PI = math.log(2 * math.pi)


def log_normal(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    r"""$\log \mathcal N(x; \mu, \sigma^2)$ an element, with $\log\sigma^2$ given; shapes broadcast."""
    for name, value in (("x", x), ("mean", mean), ("logvar", logvar)):
        check_floats(name, value)
    return -0.5 * (LOG_2PI + logvar + (x - mean).square() * (-logvar).exp())


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    r"""$\mathrm{KL}(\mathcal N(\mu, \sigma^2)\Vert\mathcal N(0, 1)) = \frac12(\mu^2+\sigma^2-\log\sigma^2-1)$ a number.

    Kingma and Welling (2014), appendix B. `logvar` has the shape of `mu`, which the result keeps, or is one number.
    """
    check_floats("mu", mu)
    check_floats("logvar", logvar, like=None if getattr(logvar, "ndim", 1) == 0 else mu)
    return 0.5 * (mu.square() + logvar.exp() - logvar - 1)


class VAE(nn.Module):
    r"""$q(z|x) = \mathcal N(\mu(x), \sigma^2(x) I)$, prior $p(z) = \mathcal N(0, I)$, decoder $p(x|z)$.

    Args:
        latent_dim: length of the code $z$, at least 1.
        network: "mlp" or "conv", as in `autoencoder.encoder`.
        likelihood: $p(x|z)$ of a pixel: "bernoulli" (black or white; the decoder gives the log-odds) or "gaussian"
            (grey; the decoder gives the log-odds of the mean, so that the mean stays between 0 and 1).
        beta: weight of the KL term in `loss`; 1 is the VAE. `elbo` never uses it.
        pixel_std: standard deviation of a pixel under the "gaussian" likelihood, positive.
        image_shape: (C, H, W) of the images.
    """

    def __init__(
        self,
        latent_dim: int = 16,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        beta: float = 1.0,
        pixel_std: float = 0.1,
        image_shape: tuple[int, int, int] = (1, 28, 28),
    ):
        super().__init__()
        check_option("likelihood", likelihood, ("bernoulli", "gaussian"))
        check_number(0, beta=beta)
        check_number(above=0, pixel_std=pixel_std)
        check_count(latent_dim=latent_dim)
        self.latent_dim = latent_dim
        self.image_shape = check_network(network, image_shape)
        self.likelihood = likelihood
        self.beta = beta
        self.pixel_std = pixel_std
        self.encoder = encoder(2 * latent_dim, network, image_shape)
        self.decoder = decoder(latent_dim, network, image_shape)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""$\mu$ and $\log\sigma^2$ of $q(z|x)$, each (B, latent_dim), for images (B, C, H, W).

        The logarithm may be any real number, so the network needs no activation to keep a variance positive.
        """
        check_images(x, self.image_shape)
        mu, logvar = self.encoder(cast_for(self.encoder, x)).chunk(2, dim=1)
        return mu, logvar

    def reparameterize(self, mu: Tensor, logvar: Tensor, noise: Tensor | None = None) -> Tensor:
        r"""$z = \mu + \sigma\epsilon$ with $\epsilon \sim \mathcal N(0, I)$, or the given `noise`, shaped as `mu`."""
        check_floats("mu", mu)
        check_floats("logvar", logvar, like=mu)
        if noise is None:
            noise = torch.randn_like(upcast(mu))
        check_finite("noise", check_floats("noise", noise, like=mu))
        return mu + (0.5 * logvar).exp() * noise

    def decode(self, z: Tensor) -> Tensor:
        """Mean images (B, C, H, W) in (0, 1) of $p(x|z)$ for codes (B, latent_dim)."""
        check_codes(z, self.latent_dim)
        return self.decoder(cast_for(self.decoder, z)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        r"""Reconstruction of images (B, C, H, W) through $z = \mu(x)$, without noise."""
        return self.decode(self.encode(x)[0])

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        r"""$\log p(x|z)$ (B,), summed over the pixels of each image, in float32 or wider."""
        check_images(x, self.image_shape)
        check_codes(z, self.latent_dim)
        if z.shape[0] != x.shape[0]:
            raise ValueError(f"z must hold a code for each of the {x.shape[0]} images of x, got {z.shape[0]}")
        x = upcast(x)  # a sum of 784 terms wants more than bfloat16
        logits = self.decoder(cast_for(self.decoder, z)).to(x.dtype)
        if self.likelihood == "bernoulli":
            log_p = -F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        else:
            log_p = log_normal(x, logits.sigmoid(), torch.full_like(x, 2 * math.log(self.pixel_std)))
        return log_p.flatten(1).sum(1)

    def elbo(self, x: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        r"""The bound $\mathbb E_q[\log p(x|z)] - \mathrm{KL}(q(z|x) \Vert p(z)) \le \log p(x)$, in nats per image.

        Args:
            x: images (B, C, H, W) in [0, 1]; binary ones make the Bernoulli likelihood a probability.
            noise: the $\epsilon$ of the one sample of $z$ that estimates the expectation, (B, latent_dim).

        Returns:
            "elbo", "reconstruction" ($\log p(x|z)$) and "kl", each (B,), with elbo = reconstruction - kl, in float32 or
            wider.

        Raises:
            ValueError: for a wrong shape, a pixel outside [0, 1], or noise that is not finite.
        """
        check_images(x, self.image_shape)
        check_finite("x", x, 0, 1)
        mu, logvar = (t.to(upcast(x).dtype) for t in self.encode(x))
        reconstruction = self.log_likelihood(x, self.reparameterize(mu, logvar, noise))
        kl = kl_to_standard_normal(mu, logvar).sum(1)
        return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}

    def loss(self, x: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        r"""What training minimises: $-\log p(x|z) + \beta\,\mathrm{KL}$, averaged over the batch.

        Returns "loss" and its two parts "reconstruction" (here positive, a cost) and "kl", in nats per image. Raises
        `ValueError` as `elbo` does, and where there is no image.
        """
        check_images(x, self.image_shape)
        check_some("x", x)
        terms = self.elbo(x, noise)
        reconstruction, kl = -terms["reconstruction"].mean(), terms["kl"].mean()
        return {"loss": reconstruction + self.beta * kl, "reconstruction": reconstruction, "kl": kl}

    def iw_bound(self, x: Tensor, k: int) -> Tensor:
        r"""$\log \frac1k \sum_{i=1}^k \frac{p(x|z_i)\,p(z_i)}{q(z_i|x)}$ with $z_i \sim q(z|x)$: (B,), nats per image.

        Its mean lies between the ELBO ($k = 1$) and $\log p(x)$ and rises with `k` (Burda et al. 2016, theorem 1).
        One z at a time is decoded, so memory does not grow with `k`.
        """
        check_count(k=k)
        check_images(x, self.image_shape)
        check_finite("x", x, 0, 1)
        mu, logvar = (t.to(upcast(x).dtype) for t in self.encode(x))
        total = mu.new_full((x.shape[0],), -math.inf)
        for _ in range(k):
            z = self.reparameterize(mu, logvar)
            log_ratio = (log_normal(z, torch.zeros_like(z), torch.zeros_like(z)) - log_normal(z, mu, logvar)).sum(1)
            total = torch.logaddexp(total, self.log_likelihood(x, z) + log_ratio)
        return total - math.log(k)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""`n` mean images (n, C, H, W) in (0, 1), decoded from $z \sim \mathcal N(0, I)$.

        `generator` must live on the CPU, so that one seed gives one set of codes on every device.
        """
        check_count(n=n)
        check_generator(generator, "cpu")
        device = next(self.parameters()).device
        return self.decode(torch.randn(n, self.latent_dim, generator=generator, dtype=torch.float32).to(device))
