"""What an autoencoder must do, whatever it has learned."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.autoencoders import VAE, Autoencoder, init_bias_to_mean
from lib.autoencoders.autoencoder import decoder, encoder
from tests.waits import waits

MODELS = [Autoencoder, VAE]
NETWORKS = ["mlp", "conv"]


def images(n=6, shape=(1, 28, 28)):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[(model, network) for model in MODELS for network in NETWORKS], ids=str)
def model(request):
    torch.manual_seed(0)
    return request.param[0](latent_dim=5, network=request.param[1])


def test_shapes_and_range(model):
    assert model(images()).shape == (6, 1, 28, 28)
    drawn = model.decode(torch.randn(3, 5) * 50)
    assert drawn.shape == (3, 1, 28, 28) and drawn.min() >= 0 and drawn.max() <= 1


@pytest.mark.parametrize("network, shape", [("mlp", (3, 5, 7)), ("conv", (3, 8, 12)), ("conv", (1, 4, 4))])
def test_other_image_shapes(network, shape):
    model = Autoencoder(2, network, shape)
    assert model(images(2, shape)).shape == (2, *shape)
    assert encoder(9, network, shape)(images(2, shape)).shape == (2, 9)
    assert decoder(2, network, shape)(torch.zeros(2, 2)).shape == (2, *shape)


def test_every_parameter_learns(model):
    model.loss(images())["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_an_image_does_not_see_its_batch(model):
    x = images()
    alone = torch.cat([model(x[i : i + 1]) for i in range(len(x))])
    assert torch.allclose(model(x), alone, atol=1e-6)
    assert torch.equal(model.eval()(x), model(x))


def test_weights_survive_a_file(model, tmp_path):
    from safetensors.torch import load_file, save_file

    save_file(model.state_dict(), tmp_path / "model.safetensors")
    with torch.no_grad():
        before = model(images())
        for parameter in model.parameters():
            parameter.zero_()
        model.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
        assert torch.equal(model(images()), before)


def test_meta_compile_and_autocast(model):
    x, noise = images(), torch.zeros(6, 5)
    arguments = (x, noise) if isinstance(model, VAE) else (x,)
    compiled = torch.compile(model.loss, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(*arguments)["loss"], model.loss(*arguments)["loss"])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(model.loss(*arguments)["loss"], compiled(*arguments)["loss"], rtol=0.01)
    with torch.device("meta"):
        assert model.to("meta").loss(torch.empty(4, 1, 28, 28))["loss"].shape == ()


def test_loss_is_a_sum_over_pixels_and_a_mean_over_images():
    model, x = Autoencoder(4).requires_grad_(False), images()
    by_hand = sum((x[i] - model(x)[i]).square().sum().item() for i in range(6)) / 6
    assert model.loss(x)["loss"].item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_start_at_mean(network):
    torch.manual_seed(0)
    model, x = Autoencoder(4, network), images(500) * 0.3
    before = model.loss(x)["loss"].item()
    init_bias_to_mean(model.decoder, x)
    if network == "mlp":
        with torch.no_grad():
            for layer in (model.decoder[0], model.decoder[2], model.decoder[4]):
                layer.weight.zero_()
        mean = x.mean(0).clamp(0.01, 0.99)
        assert torch.allclose(model(x), mean.expand_as(x), atol=1e-6)
    assert model.loss(x)["loss"].item() < 0.6 * before
    with pytest.raises(ValueError, match="images must have"):
        init_bias_to_mean(model.decoder, torch.zeros(3, 2, 28, 28))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=0, max_size=5).filter(lambda s: s[1:] != [1, 28, 28] or len(s) != 4))
def test_wrong_shapes_are_named(shape):
    for model in (Autoencoder(3), VAE(3)):
        with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 28, 28\), got"):
            model.encode(torch.zeros(shape))
        with pytest.raises(ValueError, match=r"z must have shape \(B, 3\), got"):
            model.decode(torch.zeros([*shape, 4]))


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.floats(1.001, 1e6), st.floats(-1e6, -0.001), st.just(float("nan")), st.just(float("inf"))))
def test_wrong_pixels_are_named(value):
    x = images(2)
    x[1, 0, 3, 4] = value
    for model in (Autoencoder(3), VAE(3)):
        with pytest.raises(ValueError, match=r"x must be finite and lie in \[0, 1\], got values from"):
            model.loss(x)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"latent_dim": 0}, "latent_dim must be an integer of at least 1, got 0"),
        ({"latent_dim": 2.5}, "latent_dim must be an integer"),
        ({"latent_dim": True}, "latent_dim must be an integer"),
        ({"network": "vit"}, "network must be one of mlp, conv, got 'vit'"),
        ({"image_shape": (28, 28)}, r"image_shape must be positive integers \(C, H, W\), got \(28, 28\)"),
        ({"image_shape": (1, 0, 28)}, "image_shape must be positive integers"),
        (
            {"network": "conv", "image_shape": (1, 30, 28)},
            "divisible by 4 for the conv network, got 30 and 28",
        ),
    ],
)
def test_bad_settings_are_named(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model(**arguments)


def test_integer_images_are_refused():
    with pytest.raises(ValueError, match=r"x must be a floating-point tensor, got torch\.uint8"):
        Autoencoder(3).encode(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))


def test_a_step_waits_for_no_device_and_no_images_have_no_mean(monkeypatch):
    model, none = Autoencoder(3), torch.zeros(0, 1, 28, 28)
    assert model(none).shape == none.shape
    for call in (model.loss, lambda x: init_bias_to_mean(model.decoder, x)):
        with pytest.raises(ValueError, match=r"(x|images) must hold something, got shape \(0, 1, 28, 28\)"):
            call(none)
    assert not waits(lambda: model.loss(images())["loss"].backward(), monkeypatch)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_the_loss_is_summed_in_float32(dtype):
    model, x = Autoencoder(3).to(dtype), images().to(dtype)
    loss = model.loss(x)["loss"]
    wanted = (x.double() - model(x).double()).square().flatten(1).sum(1).mean()
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_mean_must_be_a_number(value):
    with pytest.raises(ValueError, match="images must be finite, got values from"):
        init_bias_to_mean(Autoencoder(3).decoder, torch.full((1, 1, 28, 28), value))
