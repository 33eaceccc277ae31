from pathlib import Path

import numpy as np
import pytest
import torch

from lib.diffusion import GaussianDiffusion, cosine_betas, digit_unet, linear_betas, sample
from lib.diffusion.guidance import (
    AdaGNBlock,
    EncoderUNet,
    classifier_free,
    classifier_guided,
    drop_labels,
    gradient,
    gram,
    guided_mean,
    towards_class,
    towards_image,
)
from lib.diffusion.improved import learned_mean_variance
from lib.diffusion.unet import ChannelNorm, ResnetBlock, group_norm

REFERENCE = dict(np.load(Path(__file__).parents[1] / "reference" / "improved_guided.npz"))
PROCESSES = {"linear": GaussianDiffusion(linear_betas(1000)), "cosine": GaussianDiffusion(cosine_betas(1000))}


def reference(name):
    return torch.tensor(REFERENCE[name])


def log_probability(x, t):
    """Its gradient is the one of the reference, 0.3 cos(x)."""
    return 0.3 * x.sin().flatten(1).sum(1)


def close(found, wanted):
    return torch.allclose(found, wanted, rtol=0, atol=1e-5 * max(1, wanted.abs().max().item()))


@pytest.mark.parametrize("name", PROCESSES)
def test_guided_mean_is_that_of_guided_diffusion(name):
    xt, t = reference(f"{name}.xt"), reference("t")
    mean, log_variance, _ = learned_mean_variance(reference("model_out"), PROCESSES[name], xt, t)
    assert close(guided_mean(mean, log_variance, gradient(log_probability, xt, t)), reference(f"{name}.cond_mean"))


@pytest.mark.parametrize("name", PROCESSES)
def test_guided_noise_is_that_of_guided_diffusion(name):
    process, xt, t = PROCESSES[name], reference(f"{name}.xt"), reference("t")
    _, _, clipped = learned_mean_variance(reference("model_out"), process, xt, t)
    eps = classifier_guided(lambda xt, t: process.eps_from_x0(xt, t, clipped), process, log_probability)(xt, t)
    x0 = process.x0_from_eps(xt, t, eps)
    assert close(x0, reference(f"{name}.cond_score_x0"))
    assert close(process.q_posterior(x0, xt, t)[0], reference(f"{name}.cond_score_mean"))


def test_gradient_agrees_with_differences_even_without_grad():
    x, t = (
        torch.randn(2, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
        torch.zeros(2).long(),
    )
    with torch.no_grad():
        found = gradient(log_probability, x, t)
        bump = torch.zeros_like(x)
        bump[1, 0, 0, 1] = 1e-5
        difference = (log_probability(x + bump, t) - log_probability(x - bump, t)) / 2e-5
    assert difference[0] == 0 and found[1, 0, 0, 1].item() == pytest.approx(difference[1].item(), abs=1e-9)


def test_guidance_of_a_gaussian_is_exact():
    """Data N(0, 1) seen through y = x0 + noise of variance 1: the guided noise is that of the posterior N(y/2, 1/2)."""
    process, y = PROCESSES["linear"], 1.5
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    t = torch.full((9,), 400)
    alpha = process.alphas_bar[400]

    def log_likelihood(x, t):  # p(y | x_t): x0 given x_t is N(sqrt(alpha) x_t, 1 - alpha)
        return -0.5 * (y - alpha.sqrt() * x[:, 0]) ** 2 / (2 - alpha)

    guided = classifier_guided(lambda x, t: (1 - alpha).sqrt() * x, process, log_likelihood)(x, t)
    variance = alpha / 2 + 1 - alpha  # of x_t where x0 follows the posterior
    assert torch.allclose(guided, (1 - alpha).sqrt() * (x - alpha.sqrt() * y / 2) / variance, rtol=0, atol=1e-12)


def test_scale_zero_leaves_the_model_and_bad_input_is_named():
    process, x, t = PROCESSES["linear"], torch.randn(3, 1, 4, 4), torch.tensor([0, 5, 999])
    assert torch.equal(classifier_guided(lambda x, t: 2 * x, process, log_probability, scale=0)(x, t), 2 * x)
    with pytest.raises(ValueError, match=r"log_probability must give one number an image, \(B,\), got \(3, 1, 4, 4\)"):
        gradient(lambda x, t: x, x, t)
    with pytest.raises(ValueError, match="slope must have the shape"):
        guided_mean(x, x, x[:1])
    with pytest.raises(ValueError, match="the model's output must have the shape"):
        classifier_guided(lambda x, t: x[:1], process, log_probability)(x, t)


def mixture(process, width=0.3):
    """The exact noise of two classes, N(-1, width²) and N(1, width²), and of their even mixture: x (B, 1)."""

    def model(xt, t, labels):
        alpha = process.alphas_bar[t][:, None]
        variance = alpha * width**2 + 1 - alpha
        slopes = [-(xt - alpha.sqrt() * centre) / variance for centre in (-1.0, 1.0)]
        share = torch.sigmoid(2 * alpha.sqrt() * xt / variance)  # of the second class
        score = torch.where(labels[:, None] == 0, slopes[0], slopes[1])
        score = torch.where(labels[:, None] < 0, (1 - share) * slopes[0] + share * slopes[1], score)
        return -(1 - alpha).sqrt() * score

    def log_posterior(xt, t):
        """log p(second class | x_t)."""
        alpha = process.alphas_bar[t][:, None]
        return torch.nn.functional.logsigmoid(2 * alpha.sqrt() * xt / (alpha * width**2 + 1 - alpha))[:, 0]

    return model, log_posterior


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 3.0])
def test_without_a_classifier_it_is_guidance_by_the_implied_one(scale):
    """Equation (6) is section 4's guidance of the conditional model, where the classifier is Bayes' (section 3.2)."""
    process = GaussianDiffusion(linear_betas(1000).double())
    model, log_posterior = mixture(process)
    x, t = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None], torch.arange(13) * 80
    labels = torch.ones(13, dtype=torch.long)
    free = classifier_free(model, labels, scale)(x, t)
    told = classifier_guided(lambda x, t: model(x, t, labels), process, log_posterior, scale)(x, t)
    untold = classifier_guided(lambda x, t: model(x, t, -labels), process, log_posterior, 1 + scale)(x, t)
    assert torch.allclose(free, told, rtol=0, atol=1e-10) and torch.allclose(free, untold, rtol=0, atol=1e-10)


def test_guided_samples_are_more_of_their_class_and_less_diverse():
    torch.manual_seed(0)
    process = PROCESSES["linear"].respaced(torch.linspace(0, 999, 200).round().long())  # it ends in pure noise
    model, _ = mixture(process, width=1.0)
    labels, right, spread = torch.arange(2).repeat(500), {}, {}
    for scale in (0.0, 3.0):
        drawn = sample(classifier_free(model, labels, scale), process, (1000, 1), variance="small", clip=False)[:, 0]
        right[scale], spread[scale] = ((drawn > 0) == labels.bool()).float().mean().item(), drawn[labels == 1].std()
    assert right[0.0] == pytest.approx(0.841, abs=0.04) and right[3.0] > 0.95  # 0.841: N(1, 1) above 0
    assert spread[0.0].item() == pytest.approx(1.0, abs=0.1) and spread[3.0] < 0.85 * spread[0.0]


def test_walking_away_from_another_class():
    process, labels = PROCESSES["linear"], torch.tensor([0, 1, 1])
    model, _ = mixture(process)
    x, t = torch.randn(3, 1), torch.tensor([3, 500, 999])
    wanted = 3 * model(x, t, labels) - 2 * model(x, t, 1 - labels)
    assert torch.allclose(classifier_free(model, labels, 2.0, instead=1 - labels)(x, t), wanted, atol=1e-5)


def test_a_network_with_classes_is_guided_and_learns_from_dropped_labels():
    torch.manual_seed(0)
    net, x, t = digit_unet(num_classes=10).eval(), torch.randn(4, 1, 28, 28), torch.tensor([1, 20, 500, 999])
    for parameter in net.conv_out.parameters():
        torch.nn.init.normal_(parameter)  # it starts as the answer 0
    labels = torch.tensor([3, 3, 0, 9])
    told, untold = net(x, t, labels), net(x, t)
    assert torch.allclose(classifier_free(net, labels, 1.5)(x, t), 2.5 * told - 1.5 * untold, atol=1e-4)
    many = torch.arange(10).repeat(1000)
    dropped = drop_labels(many, 0.15)
    assert 0.13 < (dropped < 0).float().mean() < 0.17 and torch.equal(dropped[dropped >= 0], many[dropped >= 0])
    assert torch.equal(drop_labels(many, 0.0), many)


def test_wrong_labels_are_named():
    model, _ = mixture(PROCESSES["linear"])
    with pytest.raises(ValueError, match=r"labels must be at least 0, got values from -1 to 0"):
        classifier_free(model, torch.tensor([0, -1]))
    with pytest.raises(ValueError, match="labels must be a tensor of integers"):
        classifier_free(model, torch.zeros(2))
    with pytest.raises(ValueError, match=r"instead must be \(2,\), one for each label"):
        classifier_free(model, torch.zeros(2).long(), instead=torch.zeros(1).long())
    with pytest.raises(ValueError, match=r"labels must be one for each of the images \(3, 1\), got 2"):
        classifier_free(model, torch.zeros(2).long())(torch.zeros(3, 1), torch.zeros(3).long())
    with pytest.raises(ValueError, match=r"share must be a finite number, at least 0 and at most 1, got 2"):
        drop_labels(torch.zeros(2).long(), 2)


@pytest.mark.parametrize("norm", [group_norm, ChannelNorm])
def test_adagn_scales_and_shifts_behind_the_normalisation(norm):
    torch.manual_seed(0)
    x, temb = torch.randn(3, 32, 6, 6), torch.randn(3, 16)
    block, plain = AdaGNBlock(32, 64, 16, 0.0, norm).eval(), ResnetBlock(32, 64, 0, 0.0, norm).eval()
    plain.load_state_dict({name: value for name, value in block.state_dict().items() if "temb" not in name})
    y = block.temb_proj(torch.nn.functional.silu(temb))
    plain.norm2.register_forward_hook(
        lambda module, given, h: (1 + y[:, :64, None, None]) * h + y[:, 64:, None, None]  # as guided-diffusion's
    )
    assert torch.allclose(block(x, temb), plain(x), atol=1e-5)
    torch.nn.init.zeros_(block.temb_proj.weight)
    torch.nn.init.zeros_(block.temb_proj.bias)
    plain.norm2._forward_hooks.clear()
    assert torch.allclose(block(x, temb), plain(x), atol=1e-6)
    with pytest.raises(ValueError, match="temb_channels must be an integer of at least 1, got 0"):
        AdaGNBlock(32, 32, 0)


def test_a_network_of_adagn_blocks_hears_time_and_class():
    torch.manual_seed(0)
    net = digit_unet(num_classes=10, block=AdaGNBlock).eval()
    assert sum(isinstance(module, AdaGNBlock) for module in net.modules()) == 8
    x, t = torch.randn(2, 1, 28, 28), torch.tensor([3, 900])
    assert (net(x, t) == 0).all()  # it starts as the answer 0, like every UNet
    for name, parameter in net.named_parameters():
        if "conv2" in name or "conv_out" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    labels = torch.tensor([1, 2])
    assert not torch.allclose(net(x, t), net(x, t.flip(0)), atol=1e-3)
    assert not torch.allclose(net(x, t, labels), net(x, t, labels.flip(0)), atol=1e-3)


def test_encoder_unet_gives_numbers_that_depend_on_image_and_time():
    torch.manual_seed(0)
    net, x, t = EncoderUNet(5).eval(), torch.randn(3, 1, 28, 28), torch.tensor([0, 500, 999])
    with torch.no_grad():
        torch.nn.init.normal_(net.norm_out.bias)
    said = net(x, t)
    assert torch.allclose(net.features(x, t), torch.nn.functional.silu(net.norm_out(net.maps(x, t)[-1])).flatten(1))
    assert said.shape == (3, 5) and torch.allclose(net(x[1:], t[1:]), said[1:], atol=1e-5)
    assert not torch.allclose(net(x, t.flip(0))[0], said[0], atol=1e-3)
    assert [tuple(maps.shape) for maps in net.maps(x, t)] == [(3, 16, 14, 14), (3, 32, 7, 7)]
    assert torch.allclose(net.head(net.features(x, t)), said)
    colour = EncoderUNet(
        2, in_channels=3, ch=32, ch_mult=(1, 1, 2), resolution=32, patch=1, norm=group_norm, block=AdaGNBlock
    )
    assert colour(torch.randn(2, 3, 32, 32), t[:2]).shape == (2, 2)


def test_slope_of_a_classifier_agrees_with_differences():
    """Law 7: the gradient that guides is that of the log probability of the wanted class."""
    torch.manual_seed(0)
    net, x, t = EncoderUNet(10).double().eval(), torch.randn(2, 1, 28, 28).double(), torch.tensor([10, 400])
    wish, way = towards_class(net, torch.tensor([7, 2])), torch.randn(2, 1, 28, 28).double()
    with torch.no_grad():
        assert torch.allclose(wish(x, t), net(x, t).log_softmax(1)[[0, 1], [7, 2]])
        difference = (wish(x + 1e-5 * way, t) - wish(x - 1e-5 * way, t)) / 2e-5
    found = (gradient(wish, x, t) * way).flatten(1).sum(1)
    assert torch.allclose(found, difference, rtol=1e-6, atol=1e-8) and found.abs().min() > 1e-6


def test_an_image_is_its_own_likeness_and_style_forgets_the_place():
    process, t = PROCESSES["linear"], torch.tensor([100, 100])
    image, noise = torch.rand(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
    xt = process.q_sample(image, t, noise)
    moved = xt.roll((2, 3), (2, 3))
    plain = towards_image(lambda x, t: x, process, image, noise)
    assert torch.equal(plain(xt, t), torch.zeros(2))
    assert torch.allclose(plain(moved, t), -0.5 * (moved - xt).square().sum((1, 2, 3)))
    assert torch.allclose(gradient(plain, moved, t), xt - moved, atol=1e-6)
    style = towards_image(lambda x, t: gram(torch.cat([x, x.roll(1, 3)], 1)), process, image, noise)
    assert torch.allclose(style(moved, t), torch.zeros(2), atol=1e-8) and (style(2 * xt, t) < -1e-3).all()
    broadcast = towards_image(lambda x, t: x, process, image[:1], noise[:1])
    assert broadcast(xt, t)[0] == 0 and broadcast(xt, t)[1] < 0
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    assert torch.allclose(gram(maps), torch.einsum("bihw,bjhw->bij", maps, maps) / 20)


def test_wrong_wishes_and_encoders_are_named():
    net, x, t = EncoderUNet(10), torch.zeros(2, 1, 28, 28), torch.zeros(2).long()
    with pytest.raises(ValueError, match=r"labels must be at least 0, got values from -1 to 0"):
        towards_class(net, torch.tensor([0, -1]))
    with pytest.raises(ValueError, match=r"labels must be a tensor of integers"):
        towards_class(net, torch.zeros(2))
    with pytest.raises(ValueError, match=r"labels must be between 0 and 9, got values from 3 to 10"):
        towards_class(net, torch.tensor([3, 10]))(x, t)
    with pytest.raises(ValueError, match=r"labels must be one for each of the images \(2, 1, 28, 28\), got 1"):
        towards_class(net, torch.tensor([3]))(x, t)
    with pytest.raises(ValueError, match="noise must have the shape"):
        towards_image(net, PROCESSES["linear"], x, x[:1])
    with pytest.raises(
        ValueError, match=r"xt and t must be \(B, 1, 28, 28\) and \(B,\), got \(2, 1, 14, 14\) and \(2,\)"
    ):
        net(x[..., ::2, ::2], t)
    with pytest.raises(ValueError, match="resolution must be a multiple of 4, got 30"):
        EncoderUNet(resolution=30)
    with pytest.raises(ValueError, match="outputs must be an integer of at least 1, got 0"):
        EncoderUNet(0)
