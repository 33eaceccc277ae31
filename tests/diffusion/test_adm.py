"""ADM's networks: the published names, counts and numbers, and what must hold whatever the weights are."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lib.diffusion import GaussianDiffusion, ddpm, linear_betas
from lib.diffusion.adm import (
    AttentionBlock,
    EncoderUNetModel,
    GroupNorm32,
    ResBlock,
    UNetModel,
    adm_timestep_embedding,
    split_heads,
)
from lib.diffusion.ddim import sample
from lib.diffusion.guidance import classifier_free, classifier_guided, towards_class
from lib.diffusion.improved import hybrid_loss
from tests.bad_input import unclear

REFERENCE = Path(__file__).parents[1] / "reference"
TINY = {
    "image_size": 16, "in_channels": 3, "model_channels": 32, "out_channels": 6, "num_res_blocks": 1,
    "attention_resolutions": (8,), "dropout": 0.1, "channel_mult": (1, 2), "num_classes": 5, "num_heads": 2,
    "num_head_channels": 16, "resblock_updown": True, "use_new_attention_order": True,
}  # fmt: skip
TINY_CLASSIFIER = {
    "image_size": 8, "in_channels": 3, "model_channels": 32, "out_channels": 7, "num_res_blocks": 1,
    "attention_resolutions": (4,), "channel_mult": (1, 2), "num_head_channels": 16,
}  # fmt: skip
IMPROVED = {"num_head_channels": None, "resblock_updown": False, "use_new_attention_order": False}


@torch.no_grad()
def unlike_any(model, seed=0):
    """The model with random weights: none 0 or 1, so that nothing can hide. In eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        fan = math.prod(parameter.shape[1:]) if parameter.ndim > 1 else 4
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(fan) + (parameter.ndim == 1))
    return model.eval()


def tiny(**changes):
    return unlike_any(UNetModel(**{**TINY, **changes}))


def noisy(n=3, size=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, size, size, generator=generator).to(dtype)
    return x, torch.tensor([0, 500, 999][:n]), torch.tensor([2, -1, 0][:n])


@pytest.fixture(params=[{}, IMPROVED], ids=["ADM", "Improved"])
def net(request):
    return tiny(**request.param)


@pytest.fixture
def classifier():
    return unlike_any(EncoderUNetModel(**TINY_CLASSIFIER))


# The published weights


def stored(name):
    """Weights, and all else, of a reference."""
    values = load_file(REFERENCE / name)
    return {key[3:]: value.float() for key, value in values.items() if key.startswith("sd.")}, values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_answer_equals_the_reference(dtype):
    weights, values = stored("adm_unet.safetensors")
    model = UNetModel(**TINY).eval()
    model.load_state_dict(weights, strict=True)
    with torch.no_grad():
        ours = model.to(dtype)(values["in.x"].to(dtype), values["in.t"], values["in.y"])
    assert ours.dtype == dtype
    assert torch.allclose(ours.float(), values["out.out"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_classifier_equals_the_reference(dtype):
    weights, values = stored("adm_classifier.safetensors")
    model = EncoderUNetModel(**TINY_CLASSIFIER).eval()
    model.load_state_dict(weights, strict=True)
    with torch.no_grad():
        ours = model.to(dtype)(values["in.x"].to(dtype), values["in.t"])
    assert ours.dtype == dtype
    assert torch.allclose(ours.float(), values["out.logits"], rtol=0, atol=1e-6)  # they are below 0.5


def test_the_gradient_of_the_classifier_equals_the_reference():
    model = EncoderUNetModel(**TINY_CLASSIFIER).eval()
    model.load_state_dict(stored("adm_classifier.safetensors")[0])
    values = np.load(REFERENCE / "timestep_embedding.npz")
    x, t = torch.tensor(values["clf_x"]).requires_grad_(), torch.tensor(values["clf_t"])
    (slope,) = torch.autograd.grad(towards_class(model, torch.tensor([6, 0]))(x, t).sum(), x)
    assert torch.allclose(slope, torch.tensor(values["clf_grad"]), rtol=0, atol=1e-6)  # it is below 0.07


@pytest.mark.parametrize("dim", [32, 7])
def test_the_codes_of_times_equal_the_reference(dim):
    values = np.load(REFERENCE / "timestep_embedding.npz")
    code = adm_timestep_embedding(torch.tensor(values["t"]), dim)
    assert code.dtype == torch.float32
    assert torch.equal(code, torch.tensor(values[f"guided_d{dim}"]))


def test_times_need_not_be_whole():
    halves = adm_timestep_embedding(torch.tensor([0.25, 3.5], dtype=torch.float64), 2)
    wanted = torch.tensor([[math.cos(0.25), math.sin(0.25)], [math.cos(3.5), math.sin(3.5)]])
    assert torch.allclose(halves, wanted, atol=1e-6)


CIFAR10 = {
    "image_size": 32, "model_channels": 128, "attention_resolutions": (16, 8), "dropout": 0.3,
    "channel_mult": (1, 2, 2, 2), "num_classes": 0, **IMPROVED,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "parameters", "keys"),
    [({}, 295_904_454, 541), (CIFAR10, 52_546_438, 446)],
    ids=["ADM 64×64", "Improved CIFAR-10"],
)
def test_the_published_networks_have_their_counts(changes, parameters, keys):
    with torch.device("meta"):
        model = UNetModel(**changes)
        size = changes.get("image_size", 64)
        assert model(torch.empty(2, 3, size, size), torch.empty(2)).shape == (2, 6, size, size)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == keys


def test_names_where_convolutions_change_the_size():
    """As in Improved DDPM's release: behind 3 blocks, and on the way up behind the fourth and its attention."""
    with torch.device("meta"):
        model = UNetModel(**CIFAR10)
    names = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert {name: shape for name, shape in names.items() if ".op." in name and name.endswith("weight")} == {
        "input_blocks.4.0.op.weight": (128, 128, 3, 3),
        "input_blocks.8.0.op.weight": (256, 256, 3, 3),
        "input_blocks.12.0.op.weight": (256, 256, 3, 3),
    }
    assert {name: shape for name, shape in names.items() if ".conv." in name and name.endswith("weight")} == {
        "output_blocks.3.1.conv.weight": (256, 256, 3, 3),
        "output_blocks.7.2.conv.weight": (256, 256, 3, 3),
        "output_blocks.11.2.conv.weight": (256, 256, 3, 3),
    }
    attentions = {name.removesuffix(".qkv.bias") for name in names if name.endswith(".qkv.bias")}
    down, up = [5, 6, 7, 9, 10, 11], range(4, 12)
    wanted = {f"input_blocks.{i}.1" for i in down} | {f"output_blocks.{i}.1" for i in up} | {"middle_block.1"}
    assert attentions == wanted
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.3}
    assert {module.num_heads for module in model.modules() if isinstance(module, AttentionBlock)} == {4}


def test_half_the_channels_on_the_first_level():
    """As published for 512×512: the image's convolution has half of `model_channels`, the time all of them."""
    with torch.device("meta"):
        model = UNetModel(**{**TINY, "model_channels": 64, "channel_mult": (0.5, 1)})
        assert model(torch.empty(2, 3, 16, 16), torch.empty(2)).shape == (2, 6, 16, 16)
    assert model.input_blocks[0][0].weight.shape == (32, 3, 3, 3)
    assert model.out[2].weight.shape == (6, 32, 3, 3)
    assert model.time_embed[0].weight.shape == (256, 64)


# The parts


def test_convolutions_that_change_the_size():
    """Down padded on all sides, where DDPM's are on two; up behind repeated pixels."""
    model = tiny(**IMPROVED).double()
    small = model.input_blocks[2][0]
    x = torch.randn(2, 32, 9, 9, dtype=torch.float64)
    assert torch.allclose(small(x), nn.functional.conv2d(x, small.op.weight, small.op.bias, stride=2, padding=1))
    larger = model.output_blocks[1][2]
    x = torch.randn(2, 64, 3, 5, dtype=torch.float64)
    twice = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(larger(x), nn.functional.conv2d(twice, larger.conv.weight, larger.conv.bias, padding=1))


@pytest.mark.parametrize("new_order", [True, False])
def test_heads_are_split_in_either_order(new_order):
    """Written out over the releases' stacked channels: head h has its own d of C = heads d."""
    heads, d, n = 3, 2, 5
    qkv = torch.randn(2, n, 3 * heads * d)
    for part, ours in enumerate(split_heads(qkv, heads, new_order)):
        for head in range(heads):
            start = (part * heads + head) * d if new_order else (head * 3 + part) * d
            assert torch.equal(ours[:, head], qkv[:, :, start : start + d])


def test_attention_is_among_all_pixels():
    """It is softmax(qᵀ k / √d) v in each head, written out."""
    block = unlike_any(AttentionBlock(64, 1, 16, new_order=False)).double()
    x = torch.randn(2, 64, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    q, k, v = block.qkv(block.norm(x).flatten(2)).unflatten(1, (4, 3, 16)).unbind(2)
    weights = (torch.einsum("bhdn,bhdm->bhnm", q, k) / 4).softmax(-1)
    mixed = torch.einsum("bhnm,bhdm->bhdn", weights, v).flatten(1, 2)
    assert torch.allclose(block(x), x + block.proj_out(mixed).view_as(x), atol=1e-12)


def test_the_order_decides_with_several_heads_alone():
    x, t, labels = noisy()
    for heads, same in ((1, True), (2, False)):
        answers = [
            tiny(num_heads=heads, num_head_channels=None, use_new_attention_order=new)(x, t, labels)
            for new in (True, False)
        ]
        assert torch.allclose(*answers, atol=1e-5) == same


def test_it_drops_out_before_the_second_convolution():
    block = unlike_any(ResBlock(32, 32, 16, 0.4)).train()
    x, emb, f = torch.randn(2, 32, 4, 4), torch.randn(2, 16), nn.functional
    scale, shift = block.emb_layers(emb).view(2, 2, 32, 1, 1).unbind(1)
    torch.manual_seed(0)
    h = block.out_layers[0](block.in_layers(x)) * (1 + scale) + shift
    wanted = x + block.out_layers[3](f.dropout(f.silu(h), 0.4))
    torch.manual_seed(0)
    assert torch.allclose(block(x, emb), wanted, atol=1e-6)


def test_norms_are_in_float32():
    """Of 16-bit numbers around 1000, whose differences 16 bits would lose, and with weights in 16 bits."""
    x = 1000 + 8 * torch.randn(2, 32, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    norm = GroupNorm32(32)
    wanted = nn.functional.group_norm(x.float(), 32, norm.weight, norm.bias, eps=1e-5)
    for ours in (norm(x), norm.bfloat16()(x)):
        assert ours.dtype == torch.bfloat16 and torch.equal(ours, wanted.bfloat16())
    x, norm = x.double() / 3, GroupNorm32(32).double()  # and nothing of 64 bits is lost
    assert torch.allclose(norm(x), nn.functional.group_norm(x, 32, norm.weight, norm.bias, 1e-5), rtol=0, atol=1e-12)


# What the networks do


def test_they_start_as_the_answer_0():
    x, t, labels = noisy()
    assert torch.equal(UNetModel(**TINY)(x, t, labels), torch.zeros(3, 6, 16, 16))
    for block in (ResBlock(32, 32, 16, 0.0), AttentionBlock(32, 1, None, True)):
        extra = [torch.randn(3, 16)] if isinstance(block, ResBlock) else []
        h = torch.randn(3, 32, 4, 4)
        assert torch.equal(block(h, *extra), h)
    assert EncoderUNetModel(**TINY_CLASSIFIER)(torch.randn(2, 3, 8, 8), t[:2]).std() > 0


def test_a_gradient_reaches_every_parameter(net, classifier):
    x, t, labels = noisy()
    net(x, t, labels).square().mean().backward()
    classifier(x[:, :, :8, :8], t).square().mean().backward()
    for name, parameter in [*net.named_parameters(), *classifier.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_a_class_is_a_vector_on_the_time_code():
    x, t, labels = noisy(dtype=torch.float64)
    told, plain = tiny().double(), tiny(num_classes=0).double()
    plain.load_state_dict({name: value for name, value in told.state_dict().items() if name != "label_emb.weight"})
    answers = told(x, t, labels)
    assert torch.equal(told(x, t), plain(x, t)) and torch.allclose(answers[1], plain(x, t)[1], atol=1e-9)
    with torch.no_grad():  # what the second layer of the time code adds is all that a class changes
        plain.time_embed[2].bias += told.label_emb.weight[2]
    assert torch.allclose(answers[0], plain(x, t)[0], atol=1e-9) and not torch.allclose(answers[0], answers[2])
    assert torch.equal(told(x, t, labels.int()), answers)


def test_an_image_does_not_see_its_batch(net, classifier):
    (x, t, labels), net, classifier = noisy(dtype=torch.float64), net.double(), classifier.double()
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1], labels[i : i + 1]) for i in range(3)])
    assert torch.allclose(net(x, t, labels), alone, rtol=0, atol=1e-9)
    x = x[:, :, :8, :8]
    alone = torch.cat([classifier(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    assert torch.allclose(classifier(x, t), alone, rtol=0, atol=1e-9)


def test_sizes_other_than_the_image_size(net):
    for size in ((8, 8), (2, 4), (24, 10)):
        assert net(torch.randn(2, 3, *size), torch.tensor([1, 2])).shape == (2, 6, *size)
    assert net(torch.randn(0, 3, 16, 16), torch.zeros(0)).shape == (0, 6, 16, 16)


def test_channels_last_gives_the_same_and_stays(net, classifier):
    (x, t, labels), net, classifier = noisy(dtype=torch.float64), net.double(), classifier.double()
    wanted, logits = net(x, t, labels), classifier(x[:, :, :8, :8], t)
    for model in (net, classifier):
        model.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    ours = net(x, t, labels)
    assert torch.allclose(ours, wanted, rtol=0, atol=1e-9)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(classifier(x[:, :, :8, :8], t), logits, rtol=0, atol=1e-9)


def test_every_sampler_and_loss_takes_them(classifier):
    process, labels = GaussianDiffusion(linear_betas(100)), torch.tensor([2, 0])
    net, options = tiny(out_channels=3), {"steps": 2, "generator": torch.Generator().manual_seed(0)}
    guided = classifier_guided(net, process, towards_class(classifier, labels))
    for model in (net, classifier_free(net, labels, 2.0), guided):
        assert sample(model, process, (2, 3, 8, 8), **options).shape == (2, 3, 8, 8)
    images = torch.rand(2, 3, 16, 16)
    losses = hybrid_loss(lambda x, t: tiny()(x, t, labels), process, images)
    assert losses["loss"].shape == (2,) and losses["loss"].isfinite().all()


# Where and in what they run


def test_the_answer_has_the_type_of_the_images(net, classifier):
    """The weights may be in 16 bits while a sampler's walk is not."""
    (x, t, labels), small = noisy(), noisy(size=8)[0]
    wanted, logits = net(x, t, labels), classifier(small, t)
    rounded = net.bfloat16()(x, t, labels)
    assert rounded.dtype == torch.float32 and (rounded - wanted).norm() < 0.05 * wanted.norm()
    rounded = classifier.bfloat16()(small, t)
    assert rounded.dtype == torch.float32 and (rounded - logits).norm() < 0.05 * logits.norm()


def test_meta_and_autocast(net, classifier):
    (x, t, labels), small = noisy(), noisy(size=8)[0]
    wanted, logits = net(x, t, labels), classifier(small, t)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, rounded_logits = net(x, t, labels), classifier(small, t)
    assert (rounded - wanted).norm() < 0.05 * wanted.norm() and not torch.equal(rounded, wanted)
    assert (rounded_logits - logits).norm() < 0.05 * logits.norm()
    x, t, labels, small = (value.to("meta") for value in (x, t, labels, small))
    assert net.to("meta")(x, t, labels).shape == (3, 6, 16, 16)
    assert classifier.to("meta")(small, t).shape == (3, 7)


def inputs_of(model):
    (x, t, labels), small = noisy(), noisy(size=8)[0]
    return {"x": x, "t": t, "labels": labels} if isinstance(model, UNetModel) else {"x": small, "t": t}


def test_compile(net):
    inputs = inputs_of(net)
    assert torch.allclose(torch.compile(net, backend="eager", fullgraph=True)(**inputs), net(**inputs), atol=1e-6)


def test_compile_the_classifier(classifier):
    test_compile(classifier)


def test_export_with_a_free_batch(net):
    inputs, batch = inputs_of(net), {0: torch.export.Dim("batch")}
    exported = torch.export.export(net, (), inputs, dynamic_shapes=dict.fromkeys(inputs, batch)).module()
    two = {name: value[:2] for name, value in inputs.items()}
    assert torch.allclose(exported(**two), net(**two), atol=1e-5)


def test_export_the_classifier_with_a_free_batch(classifier):
    test_export_with_a_free_batch(classifier)


# What is refused


@pytest.mark.parametrize(
    ("make", "settings", "fine"),
    [
        (UNetModel, TINY, ("num_head_channels: None", "use_new_attention_order: a number")),
        (EncoderUNetModel, TINY_CLASSIFIER, ()),
    ],
)
def test_bad_settings_are_named(make, settings, fine):
    assert unclear(make, settings, fine) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_mult": ()}, "channel_mult must have at least 1 number"),
        ({"channel_mult": (1, 0)}, "each of channel_mult must be a finite number, above 0, got 0"),
        ({"channel_mult": (1, 1.3)}, "channel_mult must make whole numbers of 32 channels, got 1.3"),
        ({"channel_mult": (1,) * 6}, r"channel_mult must .* image_size 16 must be halved once for each further one"),
        ({"model_channels": 48}, "channels must be a multiple of 32 for group normalisation, got 48"),
        ({"attention_resolutions": (2, 4)}, r"attention_resolutions must be among the sizes \[16, 8\], got \(2, 4\)"),
        ({"num_head_channels": 24}, "heads must share the 64 channels .* got num_heads=2 and num_head_channels=24"),
        ({"num_head_channels": 128}, "heads must share the 64 channels"),
        ({"num_head_channels": None, "num_heads": 3}, "heads must share the 64 channels"),
        ({"dropout": 1.5}, "dropout must be a finite number, at least 0 and at most 1, got 1.5"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        UNetModel(**{**TINY, **changes})


def test_bad_input_is_named(net, classifier):
    x, t, labels = noisy()
    fine = ("t: fractions", "t: -1", "labels: -1", "labels: None")
    assert unclear(net, {"x": x, "t": t, "labels": labels}, fine) == []
    assert unclear(classifier, {"x": x[:, :, :8, :8], "t": t}, fine) == []


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 1, 16, 16), (2, 3, 16, 15), (2, 3, 9, 16), (2, 3, 0, 16)])
def test_wrong_images_are_named(net, classifier, shape):
    message = rf"x must be \(B, 3, H, W\) with H and W multiples of 2, got \({', '.join(map(str, shape))}\)"
    with pytest.raises(ValueError, match=message):
        net(torch.zeros(shape), torch.zeros(shape[0]))
    with pytest.raises(ValueError, match="x must be"):
        classifier(torch.zeros(shape), torch.zeros(shape[0]))


def test_images_of_another_size_have_no_places_in_the_pool(classifier):
    with pytest.raises(ValueError, match=r"x must be of height and width 8, got \(2, 3, 16, 8\)"):
        classifier(torch.zeros(2, 3, 16, 8), torch.zeros(2))


def test_wrong_times_and_labels_are_named(net):
    x, t, labels = noisy()
    for wrong in (t[0], t[:2], t[:, None]):
        with pytest.raises(ValueError, match=r"t must have shape \(3,\), one time for each image, got"):
            net(x, wrong)
    for wrong in (labels[:2], labels[:, None]):
        with pytest.raises(ValueError, match=r"labels must be \(3,\), one for each image, got"):
            net(x, t, wrong)
    with pytest.raises(ValueError, match="labels must be between -1 and 4, got values from -1 to 5"):
        net(x, t, torch.tensor([5, -1, 0]))
    with pytest.raises(ValueError, match="labels were given to a network without classes"):
        tiny(num_classes=0)(x, t, labels)


# Guidance of a network that learns its variance


def answers(x, t, labels, w):
    """What classifier-free guidance makes of `tiny()`, written by hand as in GLIDE's release."""
    told, untold = tiny()(x, t, labels), tiny()(x, t, None)
    eps = told[:, :3] + w * (told[:, :3] - untold[:, :3])
    return torch.cat([eps, told[:, 3:]], dim=1)


@pytest.mark.parametrize("walk", [ddpm.sample, sample], ids=["ddpm", "ddim"])
def test_guidance_without_a_classifier_leaves_the_learned_variance(walk):
    process, labels, w = GaussianDiffusion(linear_betas(50)), torch.tensor([2, 0, 4]), 2.0
    guided = classifier_free(tiny(), labels, w, variance="learned")
    found, wanted = (
        walk(model, process, (3, 3, 16, 16), steps=3, variance="learned", generator=torch.Generator().manual_seed(0))
        for model in (guided, lambda x, t: answers(x, t, labels, w))
    )
    assert torch.allclose(found, wanted, rtol=0, atol=1e-4)
    x, t, _ = noisy()
    assert torch.equal(guided(x, t)[:, 3:], classifier_free(tiny(), labels, 0.0, variance="learned")(x, t)[:, 3:])


@pytest.mark.parametrize("walk", [ddpm.sample, sample], ids=["ddpm", "ddim"])
def test_guidance_by_a_classifier_leaves_the_learned_variance(walk):
    process, net = GaussianDiffusion(linear_betas(50)), tiny()

    def by_hand(x, t):
        eps, v = net(x, t).chunk(2, dim=1)
        spread = (1 - process.alphas_bar[t]).sqrt().float().view(-1, 1, 1, 1)
        return torch.cat([eps - 0.7 * spread * -2 * x, v], dim=1)  # the slope of -x²

    guided = classifier_guided(net, process, lambda x, t: -x.square().flatten(1).sum(1), 0.7, variance="learned")
    found, wanted = (
        walk(model, process, (3, 3, 16, 16), steps=3, variance="learned", generator=torch.Generator().manual_seed(0))
        for model in (guided, by_hand)
    )
    assert torch.allclose(found, wanted, rtol=0, atol=1e-4)
