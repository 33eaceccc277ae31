"""Both U-Nets: the published names, counts and numbers, and what must hold whatever the weights are."""

import json
import math
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lib.diffusion import GaussianDiffusion, UNet, UNet2015, digit_unet, linear_betas, simple_loss
from lib.diffusion.unet import AttnBlock, ChannelNorm, ResnetBlock, group_norm, timestep_embedding

REFERENCE = Path(__file__).parents[1] / "reference"
TINY = {"ch": 32, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (8,), "dropout": 0.0, "resolution": 16}


@torch.no_grad()
def unlike_any(model, seed=0):
    """The model with random weights: none 0 or 1, so that nothing can hide. In eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        fan = math.prod(parameter.shape[1:]) if parameter.ndim > 1 else 4
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(fan) + (parameter.ndim == 1))
    return model.eval()


def tiny(norm=group_norm, **changes):
    return unlike_any(UNet(norm=norm, **{**TINY, **changes}))


def pictures(n=3, channels=3, size=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, channels, size, size, generator=generator).to(dtype), torch.tensor([0, 500, 999][:n])


@pytest.fixture(params=[group_norm, ChannelNorm], ids=["GroupNorm", "ChannelNorm"])
def net(request):
    return tiny(request.param)


# The published weights


@pytest.fixture(scope="module")
def reference():
    """Weights under our names, input, time and answers of the reference."""
    names = json.loads((REFERENCE / "ddpm_unet_keymap.json").read_text())["map"]
    with safe_open(REFERENCE / "ddpm_unet_diffusers.safetensors", "pt") as file:
        weights = {ours: file.get_tensor(f"sd.{theirs}").float() for ours, theirs in names.items()}
        values = {name: file.get_tensor(name) for name in ("in.x", "in.t", "out.eps", "out64.eps")}
    # Their attention has linear layers where the published weights have 1×1 convolutions.
    for name, value in weights.items():
        if ".attn" in name and value.ndim == 2:
            weights[name] = value[:, :, None, None]
    return weights, values


def test_the_answer_equals_the_reference(reference):
    weights, values = reference
    model = UNet(**TINY)
    model.load_state_dict(weights, strict=True)
    model.eval()
    with torch.no_grad():
        ours = model(values["in.x"], values["in.t"])
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, values["out.eps"], rtol=0, atol=1e-5)
        ours = model.double()(values["in.x"].double(), values["in.t"])
        assert ours.dtype == torch.float64
        assert torch.allclose(ours, values["out64.eps"], rtol=0, atol=1e-6)  # time codes are float32 in both


def test_names_equal_the_reference(reference):
    assert set(UNet(**TINY).state_dict()) == set(reference[0])


def test_the_model_for_cifar10_has_the_published_names_and_shapes():
    """Those of google/ddpm-cifar10-32 in the layout that its PyTorch conversion is published in."""
    with torch.device("meta"):
        model = UNet()
    widths = [128, 256, 256, 256]
    shapes = {}

    def layer(name, *shape):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    def block(name, into, out):
        layer(f"{name}.norm1", into), layer(f"{name}.conv1", out, into, 3, 3), layer(f"{name}.temb_proj", out, 512)
        layer(f"{name}.norm2", out), layer(f"{name}.conv2", out, out, 3, 3)
        if into != out:
            layer(f"{name}.nin_shortcut", out, into, 1, 1)

    def attention(name):
        layer(f"{name}.norm", 256)
        for part in ("q", "k", "v", "proj_out"):
            layer(f"{name}.{part}", 256, 256, 1, 1)

    layer("temb.dense.0", 512, 128), layer("temb.dense.1", 512, 512)
    layer("conv_in", 128, 3, 3, 3), layer("norm_out", 128), layer("conv_out", 3, 128, 3, 3)
    block("mid.block_1", 256, 256), attention("mid.attn_1"), block("mid.block_2", 256, 256)
    for level, (down, up) in enumerate(
        [
            ([(128, 128), (128, 128)], [(384, 128), (256, 128), (256, 128)]),
            ([(128, 256), (256, 256)], [(512, 256), (512, 256), (384, 256)]),
            ([(256, 256), (256, 256)], [(512, 256), (512, 256), (512, 256)]),
            ([(256, 256), (256, 256)], [(512, 256), (512, 256), (512, 256)]),
        ]
    ):
        for way, blocks in (("down", down), ("up", up)):
            for i, (into, out) in enumerate(blocks):
                block(f"{way}.{level}.block.{i}", into, out)
                if level == 1:
                    attention(f"{way}.{level}.attn.{i}")
        if level < 3:
            layer(f"down.{level}.downsample.conv", widths[level], widths[level], 3, 3)
        if level > 0:
            layer(f"up.{level}.upsample.conv", widths[level], widths[level], 3, 3)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == shapes
    assert len(shapes) == 328
    assert sum(parameter.numel() for parameter in model.parameters()) == 35_746_307
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.1}
    assert model(torch.empty(2, 3, 32, 32, device="meta"), torch.empty(2, device="meta")).shape == (2, 3, 32, 32)


# The parts


def test_time_codes_are_sines_then_cosines():
    code = timestep_embedding(torch.tensor([0, 1, 7, 999]), 6)
    assert code.dtype == torch.float32
    for row, t in zip(code.tolist(), (0, 1, 7, 999)):
        angles = [t * frequency for frequency in (1, 1 / 100, 1 / 10000)]
        assert row == pytest.approx([*map(math.sin, angles), *map(math.cos, angles)], abs=1e-4)


@given(st.integers(0, 999), st.integers(0, 999))
def test_two_times_never_have_the_same_code(first, second):
    codes = timestep_embedding(torch.tensor([first, second]), 32)
    assert torch.equal(*codes) == (first == second)


def test_channel_norm_is_each_pixel_on_its_own():
    norm = unlike_any(ChannelNorm(8)).double()
    x = torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(0)).double()
    mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
    wanted = (x - mean) / (variance + norm.eps).sqrt() * norm.weight.view(8, 1, 1) + norm.bias.view(8, 1, 1)
    assert torch.allclose(norm(x), wanted, atol=1e-12)
    assert torch.equal(norm(x)[:, :, 1:2, 2:4], norm(x[:, :, 1:2, 2:4]))


def test_a_block_without_time():
    block = unlike_any(ResnetBlock(32, 64))
    assert not [name for name, _ in block.named_parameters() if "temb" in name]
    x = torch.randn(2, 32, 4, 4)
    h = block.conv2(nn.functional.silu(block.norm2(block.conv1(nn.functional.silu(block.norm1(x))))))
    assert torch.allclose(block(x), h + block.nin_shortcut(x), atol=1e-6)


def test_a_block_learns_the_time_between_its_convolutions_and_drops_out_before_the_second():
    block = unlike_any(ResnetBlock(32, 32, 16, dropout=0.4)).train()
    x, temb, silu = torch.randn(2, 32, 4, 4), torch.randn(2, 16), nn.functional.silu
    torch.manual_seed(0)
    h = block.conv1(silu(block.norm1(x))) + block.temb_proj(silu(temb)).view(2, 32, 1, 1)
    wanted = x + block.conv2(nn.functional.dropout(silu(block.norm2(h)), 0.4))
    torch.manual_seed(0)
    assert torch.allclose(block(x, temb), wanted, atol=1e-6)


def test_attention_is_among_all_pixels():
    """Shuffled pixels give the shuffled answer; and it is softmax(q kᵀ / √C) v, written out."""
    block = unlike_any(AttnBlock(32)).double()
    x = torch.randn(2, 32, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    assert torch.allclose(block(shuffled), block(x).flatten(2)[:, :, order].view_as(x), atol=1e-12)
    q, k, v = (layer(block.norm(x)).flatten(2) for layer in (block.q, block.k, block.v))
    weights = (torch.einsum("bcn,bcm->bnm", q, k) / math.sqrt(32)).softmax(-1)
    mixed = torch.einsum("bnm,bcm->bcn", weights, v).view_as(x)
    assert torch.allclose(block(x), x + block.proj_out(mixed), atol=1e-12)


def test_it_starts_as_the_answer_0():
    x, t = pictures()
    model = UNet(**TINY).eval()
    assert torch.equal(model(x, t), torch.zeros_like(x))
    for module in model.modules():
        if isinstance(module, ResnetBlock) and module.in_channels == module.out_channels:
            h = torch.randn(2, module.in_channels, 4, 4)
            assert torch.equal(module(h, torch.randn(2, 128)), h)
        if isinstance(module, AttnBlock):
            h = torch.randn(2, 64, 4, 4)
            assert torch.equal(module(h), h)


# What the arguments mean


def attentions(model):
    return sorted(name.removesuffix(".k.bias") for name in model.state_dict() if name.endswith(".k.bias"))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"attn_resolutions": ()}, []),
        ({"attn_resolutions": (16,)}, ["down.0.attn.0", "up.0.attn.0", "up.0.attn.1"]),
        ({"attn_resolutions": (8,)}, ["down.1.attn.0", "up.1.attn.0", "up.1.attn.1"]),
        ({"attn_resolutions": (8,), "resolution": 32, "patch": 2}, ["down.1.attn.0", "up.1.attn.0", "up.1.attn.1"]),
        ({"attn_resolutions": (8,), "resolution": 28}, []),
    ],
)
def test_attention_is_where_told_and_in_the_middle(changes, wanted):
    with torch.device("meta"):
        assert attentions(UNet(**{**TINY, **changes})) == sorted([*wanted, "mid.attn_1"])


@pytest.mark.parametrize(("mult", "blocks"), [((1,), 1), ((1, 2), 3), ((2, 1, 3), 2), ((1, 1, 1, 1), 1)])
def test_levels_and_blocks(mult, blocks):
    with torch.device("meta"):
        model = UNet(2, 5, ch_mult=mult, num_res_blocks=blocks, ch=32, attn_resolutions=(), resolution=16)
        assert model(torch.empty(3, 2, 16, 24), torch.empty(3)).shape == (3, 5, 16, 24)
    names = set(model.state_dict())
    for level, (way, count) in product(range(len(mult)), (("down", blocks), ("up", blocks + 1))):
        assert f"{way}.{level}.block.{count - 1}.conv1.weight" in names
        assert f"{way}.{level}.block.{count}.conv1.weight" not in names
    assert sum("downsample" in name or "upsample" in name for name in names) == 4 * (len(mult) - 1)


def test_patches_are_channels():
    """A network on 2×2 patches is the network on the unshuffled image, and four times smaller inside."""
    model = tiny(patch=2, in_channels=1, out_channels=2)
    plain = UNet(**{**TINY, "in_channels": 4, "out_channels": 8, "resolution": 8})
    plain.load_state_dict(model.state_dict(), strict=True)
    x, t = pictures(channels=1)
    inside = plain.eval()(nn.functional.pixel_unshuffle(x, 2), t)
    assert torch.allclose(model(x, t), nn.functional.pixel_shuffle(inside, 2), atol=1e-6)


def test_the_network_for_digits():
    """As many parameters as weights that were stored fit; drawn twice from one seed, the same."""
    torch.manual_seed(0)
    model = digit_unet()
    assert sum(parameter.numel() for parameter in model.parameters()) == 652_772
    assert {type(module) for name, module in model.named_modules() if "norm" in name} == {ChannelNorm}
    assert model(torch.randn(2, 1, 28, 28), torch.tensor([0, 999])).shape == (2, 1, 28, 28)
    assert attentions(model) == ["mid.attn_1"]
    assert not [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p]


def test_a_class_is_a_vector_on_the_time_code():
    x, t = pictures(dtype=torch.float64)
    told, plain = tiny(num_classes=4).double(), tiny().double()
    told.load_state_dict(plain.state_dict() | {"label_emb.weight": told.label_emb.weight})
    labels = torch.tensor([2, -1, 0])
    answers = told(x, t, labels)
    assert torch.equal(told(x, t), plain(x, t)) and torch.allclose(answers[1], plain(x, t)[1], atol=1e-9)
    with torch.no_grad():  # what the second layer of the time code adds is all that a class changes
        plain.temb.dense[1].bias += told.label_emb.weight[2]
    assert torch.allclose(answers[0], plain(x, t)[0], atol=1e-9) and not torch.allclose(answers[0], answers[2])
    compiled = torch.compile(told, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x, t, labels), answers, atol=1e-9)
    assert told.to("meta")(x.to("meta"), t.to("meta"), labels.to("meta")).shape == x.shape


def test_another_residual_block():
    class Louder(ResnetBlock):
        def forward(self, x, temb=None):
            return 2 * super().forward(x, temb)

    x, t = pictures()
    model = tiny(block=Louder)
    assert not torch.allclose(model(x, t), tiny()(x, t), atol=1e-2)
    assert {type(module) for module in model.modules() if isinstance(module, ResnetBlock)} == {Louder}


def test_dropout_is_for_training_alone():
    x, t = pictures()
    model = tiny(dropout=0.5)
    assert torch.equal(model(x, t), tiny()(x, t))
    assert torch.equal(model(x, t), model(x, t))
    model.train()
    assert not torch.allclose(model(x, t), model(x, t), atol=1e-3)


# What holds whatever the weights are


def test_the_answer_depends_on_the_time_and_on_every_pixel(net):
    x, t = pictures(1)
    answer = net(x, t)
    assert not torch.allclose(answer, net(x, t + 1), atol=1e-6)
    corner = x.clone()
    corner[0, 1, -1, 0] += 1
    assert ((answer - net(corner, t)).abs().amax((0, 1)) > 0).all()  # the middle sees everything


@pytest.mark.parametrize("norm", [group_norm, ChannelNorm])
def test_every_parameter_learns(norm):
    x, t = pictures()
    net = tiny(norm, ch=64).train()  # with 32 channels, groups would be single channels and undo the biases before them
    simple_loss(net, GaussianDiffusion(linear_betas(1000)), x, t).mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # A constant added to all keys changes no weight of the attention.
        if not name.endswith(".k.bias"):
            assert parameter.grad.abs().max() > 1e-6, name


@torch.no_grad()
def test_the_gradient_is_the_slope(net):
    """Through every path there is, the skips too: against the difference of two answers, in a random direction."""
    (x, t), net = pictures(dtype=torch.float64), net.double()
    parameters = list(net.parameters())
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    with torch.enable_grad():
        gradient = torch.autograd.grad(net(x, t).square().mean(), parameters)
    slope = sum((g * d).sum() for g, d in zip(gradient, direction))
    losses = []
    for move in (1e-6, -2e-6):  # from the weights up, then from there down
        for p, d in zip(parameters, direction):
            p += move * d
        losses.append(net(x, t).square().mean())
    assert slope.item() == pytest.approx((losses[0] - losses[1]).item() / 2e-6, rel=1e-5)


def test_an_image_does_not_see_its_batch(net):
    (x, t), net = pictures(dtype=torch.float64), net.double()
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    assert torch.allclose(net(x, t), alone, rtol=0, atol=1e-9)
    assert not torch.allclose(net(x, t), net(x, t.flip(0)), atol=1e-3)


def test_channels_last_gives_the_same(net):
    (x, t), net = pictures(dtype=torch.float64), net.double()
    wanted = net(x, t)
    net = net.to(memory_format=torch.channels_last)
    assert torch.allclose(net(x.contiguous(memory_format=torch.channels_last), t), wanted, rtol=0, atol=1e-9)
    assert torch.allclose(net(x, t), wanted, rtol=0, atol=1e-9)


def test_float64_is_the_same_but_for_rounding(net):
    x, t = pictures()
    single = net(x, t)
    double = net.double()(x.double(), t)
    assert double.dtype == torch.float64 and torch.allclose(single.double(), double, atol=1e-4)
    assert not torch.equal(double, double.float().double())  # nothing on the way was float32


def test_sizes_other_than_the_resolution(net):
    _, t = pictures(2)
    for size in ((8, 8), (2, 4), (24, 10)):
        assert net(torch.randn(2, 3, *size), t).shape == (2, 3, *size)
    assert net(torch.randn(0, 3, 16, 16), t[:0]).shape == (0, 3, 16, 16)


def test_weights_survive_a_file(net, tmp_path):
    x, t = pictures()
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    before = net(x, t)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    net.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    assert torch.equal(net(x, t), before)


def test_compile():
    x, t = pictures()
    net = tiny(patch=2, attn_resolutions=(4,))
    assert torch.allclose(torch.compile(net, backend="eager", fullgraph=True)(x, t), net(x, t), atol=1e-6)
    norm, h = unlike_any(ChannelNorm(3)), x.permute(0, 1, 3, 2)
    assert torch.allclose(torch.compile(norm, backend="eager", fullgraph=True)(h), norm(h), atol=1e-6)


def test_meta_and_autocast(net):
    x, t = pictures()
    wanted = net(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(x, t)
        assert rounded.dtype == torch.bfloat16
        assert (rounded.float() - wanted).norm() < 0.05 * wanted.norm()
    assert net.to("meta")(x.to("meta"), t.to("meta")).shape == x.shape


# The U-Net of 2015


@pytest.fixture
def net2015():
    return unlike_any(UNet2015(3, 5, width=2))


def test_2015_has_23_convolutions_and_the_sizes_of_figure_1():
    with torch.device("meta"):
        model = UNet2015()
        sizes = []
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.register_forward_hook(lambda module, _, out: sizes.append((out.shape[1], out.shape[2])))
        assert model(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert sum(parameter.numel() for parameter in model.parameters()) == 31_030_658
    assert sizes == [
        (64, 570), (64, 568), (128, 282), (128, 280), (256, 138), (256, 136), (512, 66), (512, 64), (1024, 30),
        (1024, 28), (512, 56), (512, 54), (512, 52), (256, 104), (256, 102), (256, 100), (128, 200), (128, 198),
        (128, 196), (64, 392), (64, 390), (64, 388), (2, 388),
    ]  # fmt: skip


def test_2015_is_figure_1(net2015):
    """Written out: two 3×3 convolutions with ReLU a level, 2×2 pooling down, 2×2 up-convolution, crop and join."""
    weights = iter(net2015.parameters())
    blocks = [[next(weights) for _ in range(4)] for _ in range(5)]
    up = [[next(weights), next(weights)] for _ in range(4)]
    joined = [[next(weights) for _ in range(4)] for _ in range(4)]
    f = nn.functional

    def twice(x, layer):
        return f.conv2d(f.conv2d(x, *layer[:2]).relu(), *layer[2:]).relu()

    x = torch.randn(2, 3, 188, 204, generator=torch.Generator().manual_seed(0))
    levels = [twice(x, blocks[0])]
    for block in blocks[1:]:
        levels.append(twice(f.max_pool2d(levels[-1], 2), block))
    h = levels.pop()
    for enlarge, block in zip(up, joined):
        h, skip = f.conv_transpose2d(h, *enlarge, stride=2), levels.pop()
        cut = [(whole - part) // 2 for whole, part in zip(skip.shape[2:], h.shape[2:])]
        skip = skip[:, :, cut[0] : cut[0] + h.shape[2], cut[1] : cut[1] + h.shape[3]]
        h = twice(torch.cat([skip, h], 1), block)
    assert torch.allclose(net2015(x), f.conv2d(h, *weights), rtol=1e-5, atol=1e-5)


def test_2015_answers_tile_without_seams(net2015):
    """No padding: a pixel's answer is the same in every tile that holds it (figure 2 of the paper)."""
    x = torch.randn(1, 3, 220, 204, generator=torch.Generator().manual_seed(0))
    whole = net2015(x)
    assert whole.shape == (1, 5, 36, 20)
    for top, left in ((0, 0), (16, 0), (32, 16)):
        tile = net2015(x[:, :, top : top + 188, left : left + 188])
        assert torch.allclose(tile, whole[:, :, top : top + 4, left : left + 4], atol=1e-5)


def test_2015_crops_the_middle(net2015):
    """With filters that do not know left from right, the mirrored image gives the mirrored answer."""
    with torch.no_grad():
        for parameter in net2015.parameters():
            if parameter.ndim == 4:
                parameter.copy_(parameter.mean((2, 3), keepdim=True).expand_as(parameter))
    x = torch.randn(1, 3, 188, 204, generator=torch.Generator().manual_seed(0))
    answer = net2015(x)
    assert answer.std() > 0.01
    for side in (2, 3):
        assert torch.allclose(net2015(x.flip(side)), answer.flip(side), atol=1e-5)


def test_2015_every_parameter_learns(net2015):
    net2015(torch.randn(1, 3, 188, 188)).square().mean().backward()
    # A unit that is off for every pixel learns nothing; every tensor has units that are on.
    for name, parameter in net2015.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels must be an integer of at least 1, got 0"),
        ({"out_channels": 2.0}, "out_channels must be an integer of at least 1, got 2.0"),
        ({"ch": -32}, "ch must be an integer of at least 1, got -32"),
        ({"ch": 2}, "ch must be even and at least 4, for the sines and cosines of the time, got 2"),
        ({"ch": 33}, "ch must be even and at least 4, for the sines and cosines of the time, got 33"),
        ({"ch_mult": ()}, "ch_mult must hold an integer for each level"),
        ({"ch_mult": (1, 0)}, "each of ch_mult must be an integer of at least 1, got 0"),
        ({"ch_mult": (2, 1.5)}, "each of ch_mult must be an integer of at least 1, got 1.5"),
        ({"ch_mult": (1, 1.5)}, "each of ch_mult must be an integer of at least 1, got 1.5"),
        ({"num_res_blocks": True}, "num_res_blocks must be an integer of at least 1, got True"),
        ({"resolution": 0}, "resolution must be an integer of at least 1, got 0"),
        ({"num_classes": -1}, "num_classes must be an integer of at least 0, got -1"),
        ({"patch": 0}, "patch must be an integer of at least 1, got 0"),
        ({"dropout": 1.5}, "dropout"),
        ({"ch": 48}, "channels must be a multiple of 32.*, got 48"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNet(**{**TINY, **arguments})


@pytest.mark.parametrize("arguments", [{"in_channels": 0}, {"num_classes": 1.5}, {"width": False}])
def test_2015_bad_settings_are_named(arguments):
    (name, value), *_ = arguments.items()
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got {value!r}"):
        UNet2015(**arguments)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 1, 16, 16), (2, 3, 16, 15), (2, 3, 9, 16), (2, 3, 0, 16)])
def test_wrong_images_are_named(shape):
    model = tiny()
    message = rf"x must be \(B, 3, H, W\) with H and W multiples of 2, got \({', '.join(map(str, shape))}\)"
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(shape), torch.zeros(shape[0], dtype=torch.long))


def test_wrong_labels_are_named():
    x, t = pictures()
    for labels, message in (
        (torch.tensor([0, 4, 1]), "labels must be between -1 and 3, got values from 0 to 4"),
        (torch.tensor([0, -2, 1]), "labels must be between -1 and 3, got values from -2 to 1"),
        (torch.tensor([0, 1]), r"labels must be 3, one for each image, got 2"),
        (torch.zeros(3), r"labels must be a tensor of integers, got torch.float32 \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny(num_classes=4)(x, t, labels)
    with pytest.raises(ValueError, match="labels were given to a network without classes"):
        tiny()(x, t, torch.zeros(3).long())


def test_wrong_times_are_named():
    model = tiny()
    for t in (torch.tensor(3), torch.tensor([1]), torch.tensor([[1], [2]])):
        with pytest.raises(ValueError, match=r"t must have shape \(2,\), one time for each image, got"):
            model(torch.zeros(2, 3, 16, 16), t)


@settings(max_examples=30)
@given(st.integers(0, 700), st.integers(0, 700))
def test_2015_wrong_images_are_named(height, width):
    with torch.device("meta"):
        model, x = UNet2015(width=1), torch.empty(1, 1, height, width)
    if all(size >= 188 and size % 16 == 12 for size in (height, width)):
        assert model(x).shape == (1, 2, height - 184, width - 184)
    else:
        with pytest.raises(ValueError, match=r"H and W one of 188, 204, 220, ..., got"):
            model(x)


@pytest.mark.parametrize("shape", [(1, 188, 188), (1, 2, 188, 188)])
def test_2015_wrong_channels_are_named(shape):
    with pytest.raises(ValueError, match=r"x must be \(B, 3, H, W\)"):
        UNet2015(3, width=1)(torch.zeros(shape))
