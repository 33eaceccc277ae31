"""The VAE's bound against exact densities, integrals and autograd."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal, kl_divergence

from lib.autoencoders import VAE, kl_to_standard_normal
from tests.waits import waits


class Linear(torch.nn.Module):
    """A decoder whose sigmoid is the straight line W z + b, for z near zero: it undoes the sigmoid."""

    def __init__(self, W, b):
        super().__init__()
        self.W, self.b = W, b

    def forward(self, z):
        return (z @ self.W.T + self.b).logit().view(-1, 1, 1, 2)


class Posterior(torch.nn.Module):
    """An encoder that puts out the given Gaussian, as a linear function of the two pixels."""

    def __init__(self, A, c, logvar):
        super().__init__()
        self.A, self.c, self.logvar = A, c, logvar

    def forward(self, x):
        mu = (x.flatten(1) - self.c) @ self.A.T
        return torch.cat([mu, self.logvar.expand_as(mu)], dim=1)


@pytest.fixture
def toy():
    """A linear-Gaussian VAE on two pixels, its exact log p(x) and its exact posterior (probabilistic PCA)."""
    torch.manual_seed(0)
    W = torch.tensor([[0.02, 0.0], [0.0, 0.015]]).double()  # orthogonal columns: the posterior is diagonal
    b, s = torch.tensor([0.45, 0.55]).double(), 0.02
    precision = torch.eye(2).double() + W.T @ W / s**2
    A, logvar = torch.linalg.inv(precision) @ W.T / s**2, -precision.diagonal().log()
    vae = VAE(2, likelihood="gaussian", pixel_std=s, image_shape=(1, 1, 2)).double()
    vae.decoder, vae.encoder = Linear(W, b), Posterior(A, b, logvar)
    exact = MultivariateNormal(b, W @ W.T + s**2 * torch.eye(2).double())
    x = exact.sample((3,)).view(3, 1, 1, 2)
    return vae, x, exact.log_prob(x.flatten(1)), (A, b, logvar)


def many(vae, x, n=20000):
    """Mean and standard error of the ELBO of each x over n draws of the noise."""
    elbo = vae.elbo(x.repeat_interleave(n, 0))["elbo"].view(len(x), n)
    return elbo.mean(1), elbo.std(1) / math.sqrt(n)


def test_the_bound_is_tight_at_the_exact_posterior(toy):
    vae, x, log_p, _ = toy
    torch.manual_seed(1)
    assert torch.allclose(vae.elbo(x)["elbo"], log_p + 0 * log_p, atol=3)  # one draw: right up to its noise
    mean, error = many(vae, x)
    assert ((mean - log_p).abs() < 5 * error + 1e-9).all()
    assert torch.allclose(vae.iw_bound(x, 1), log_p, atol=1e-9)  # every importance weight is p(x)


def test_the_gap_is_the_kl_to_the_exact_posterior(toy):
    vae, x, log_p, (A, b, logvar) = toy
    shifted, wider = b + 0.01, logvar + torch.tensor([0.8, -0.5]).double()
    vae.encoder = Posterior(A, shifted, wider)
    guess = Independent(Normal(vae.encode(x)[0], (0.5 * wider).exp()), 1)
    truth = Independent(Normal((x.flatten(1) - b) @ A.T, (0.5 * logvar).exp()), 1)
    gap = kl_divergence(guess, truth)
    assert (gap > 0.05).all()
    torch.manual_seed(1)
    mean, error = many(vae, x)
    assert (mean < log_p).all()
    assert ((log_p - mean - gap).abs() < 5 * error).all()


def test_the_importance_weighted_bound_rises_to_log_p(toy):
    vae, x, log_p, (A, b, logvar) = toy
    vae.encoder = Posterior(A, b + 0.01, logvar + 0.5)
    torch.manual_seed(1)
    copies = x.repeat_interleave(4000, 0)
    bounds = [vae.iw_bound(copies, k).view(3, -1).mean(1) for k in (1, 5, 50)]
    assert (bounds[0] < bounds[1]).all() and (bounds[1] < bounds[2]).all() and (bounds[2] < log_p).all()
    assert (log_p - bounds[2] < 0.1 * (log_p - bounds[0])).all()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_terms_equal_torch_distributions(likelihood):
    torch.manual_seed(0)
    vae = VAE(3, likelihood=likelihood, pixel_std=0.3, image_shape=(1, 4, 4)).double()
    x = torch.bernoulli(torch.full((5, 1, 4, 4), 0.4)).double()
    noise = torch.randn(5, 3).double()
    terms = vae.elbo(x, noise)
    mu, logvar = vae.encode(x)
    z = mu + (0.5 * logvar).exp() * noise
    mean = vae.decode(z)
    pixel = Bernoulli(mean) if likelihood == "bernoulli" else Normal(mean, 0.3)
    assert torch.allclose(terms["reconstruction"], pixel.log_prob(x).flatten(1).sum(1))
    kl = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(terms["kl"], kl)
    assert torch.allclose(terms["elbo"], terms["reconstruction"] - terms["kl"])


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_beta_weighs_the_kl_in_the_loss_and_never_in_the_bound(beta):
    torch.manual_seed(0)
    vae = VAE(3, beta=beta)
    x, noise = torch.rand(4, 1, 28, 28), torch.randn(4, 3)
    terms, loss = vae.elbo(x, noise), vae.loss(x, noise)
    wanted = -terms["reconstruction"].mean() + beta * terms["kl"].mean()
    assert torch.allclose(loss["loss"], wanted)
    assert torch.equal(terms["elbo"], terms["reconstruction"] - terms["kl"])
    assert loss["reconstruction"] > 100  # a sum over 784 pixels, not their mean


def test_kl_is_zero_only_at_the_prior():
    mu, logvar = torch.meshgrid(torch.linspace(-2, 2, 41), torch.linspace(-2, 2, 41), indexing="ij")
    kl = kl_to_standard_normal(mu, logvar)
    assert kl.min() == kl[20, 20] and abs(kl[20, 20]) < 1e-6
    assert (kl.flatten().sort().values[1:] > 1e-4).all()


def test_the_noise_carries_the_gradient():
    vae = VAE(2)
    mu, logvar = torch.zeros(4, 2, requires_grad=True), torch.full((4, 2), 0.6, requires_grad=True)
    noise = torch.randn(4, 2)
    vae.reparameterize(mu, logvar, noise).sum().backward()
    assert torch.equal(mu.grad, torch.ones(4, 2))
    assert torch.allclose(logvar.grad, 0.5 * math.exp(0.3) * noise)  # the derivative of exp(logvar / 2) * noise


def test_samples_follow_their_generator():
    vae = VAE(2)
    first, again = (vae.sample(3, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (3, 1, 28, 28) and not first.requires_grad
    assert not torch.equal(first, vae.sample(3, torch.Generator().manual_seed(6)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_samples_start_from_the_same_noise_in_any_precision(dtype):
    """It is drawn in float32 and rounded at the decoder's door."""
    torch.manual_seed(0)
    vae = VAE(2)
    wanted = vae.sample(3, torch.Generator().manual_seed(5))
    found = vae.to(dtype).sample(3, torch.Generator().manual_seed(5))
    assert found.dtype == dtype and torch.allclose(found.float(), wanted, atol=0.01)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_nats_are_float32_in_16_bits(likelihood, dtype):
    """Under autocast with images in 16 bits, and in a module cast to them: only the networks round."""
    torch.manual_seed(0)
    vae, x, noise = VAE(3, likelihood=likelihood), torch.rand(4, 1, 28, 28).to(dtype), torch.randn(4, 3)
    wanted, bound = vae.elbo(x.float(), noise), vae.iw_bound(x.float(), 3)
    with torch.autocast("cpu", dtype):
        found = [(vae.elbo(x, noise), vae.iw_bound(x, 3), vae.loss(x, noise)["loss"])]
    vae.to(dtype)
    found.append((vae.elbo(x, noise), vae.iw_bound(x, 3), vae.loss(x, noise)["loss"]))
    for terms, other, loss in found:
        assert {value.dtype for value in (*terms.values(), other, loss)} == {torch.float32}
        assert all(torch.allclose(terms[name], wanted[name], rtol=2e-3, atol=0.05) for name in terms)
        assert torch.allclose(other, bound, rtol=0.05)
        assert torch.equal(terms["elbo"], terms["reconstruction"] - terms["kl"])


def test_a_training_step_waits_for_no_device(monkeypatch):
    vae, x = VAE(2), torch.rand(3, 1, 28, 28)
    assert not waits(lambda: vae.loss(x)["loss"].backward(), monkeypatch)
    assert not waits(lambda: (vae.sample(2), vae.iw_bound(x, 2)), monkeypatch)


def test_without_images_there_are_bounds_but_no_loss():
    vae, none = VAE(2), torch.zeros(0, 1, 28, 28)
    assert vae.elbo(none)["elbo"].shape == vae.iw_bound(none, 2).shape == (0,) and vae(none).shape == none.shape
    with pytest.raises(ValueError, match=r"x must hold something, got shape \(0, 1, 28, 28\)"):
        vae.loss(none)


def test_noise_comes_from_the_processor():
    with pytest.raises(ValueError, match=r"generator must be a torch\.Generator or None, got 3"):
        VAE(2).sample(1, 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"likelihood": "poisson"}, "likelihood must be"),
        ({"beta": -1}, "beta must be a finite number, at least 0, got -1"),
        ({"beta": math.nan}, "beta must be"),
        ({"pixel_std": 0}, "pixel_std must be a finite number, above 0, got 0"),
        ({"pixel_std": math.inf}, "pixel_std must be"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        VAE(**arguments)


@pytest.mark.parametrize("bad", [0, -1, 2.0, True])
def test_bad_counts_are_named(bad):
    vae = VAE(2)
    with pytest.raises(ValueError, match="k must be an integer of at least 1"):
        vae.iw_bound(torch.zeros(1, 1, 28, 28), bad)
    with pytest.raises(ValueError, match="n must be an integer of at least 1"):
        vae.sample(bad)


def test_bad_noise_is_named():
    with pytest.raises(ValueError, match=r"noise must have the shape \(2, 3\), got \(2, 4\)"):
        VAE(3).elbo(torch.zeros(2, 1, 28, 28), torch.zeros(2, 4))


def test_the_kl_takes_one_variance_for_all():
    mu, logvar = torch.randn(3, 2), torch.tensor(-0.7)
    assert torch.equal(kl_to_standard_normal(mu, logvar), kl_to_standard_normal(mu, logvar.expand(3, 2)))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_noise_that_is_not_finite_is_named(bad):
    model, x, noise = VAE(4, image_shape=(1, 8, 8)), torch.rand(2, 1, 8, 8), torch.zeros(2, 4)
    noise[1, 2] = bad
    for call in (model.elbo, model.loss, lambda x, noise: model.reparameterize(*model.encode(x), noise)):
        with pytest.raises(ValueError, match="noise must be finite"):
            call(x, noise)
