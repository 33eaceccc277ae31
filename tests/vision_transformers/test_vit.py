"""The Vision Transformer: the published names, counts and numbers, and what must hold whatever the weights are."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from lib.vision_transformers import ConvStem, VisionTransformer, attention_rollout
from lib.vision_transformers.vit import PatchEmbed, resample_pos_embed

REFERENCE = Path(__file__).parents[1] / "reference"
PRECISIONS = pytest.mark.parametrize(
    ("dtype", "answers", "tolerance"), [(torch.float32, "out", 1e-5), (torch.float64, "out64", 1e-9)]
)
TINY = {"img_size": 32, "patch_size": 8, "num_classes": 10, "embed_dim": 48, "depth": 2, "num_heads": 3}


def reference(name):
    """The weights of the reference; its inputs and answers by name."""
    stored = load_file(REFERENCE / f"{name}.safetensors")
    return {key.removeprefix("sd."): value for key, value in stored.items() if key.startswith("sd.")}, stored


def close(found, wanted, tolerance=1e-9):
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=0, atol=tolerance)


@torch.no_grad()
def unlike_any(model, seed=0):
    """The model with random weights, none 0 or 1, so that nothing can hide. Fixed tables stay. In eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("weight") and parameter.ndim > 1:
            parameter.copy_(noise / math.sqrt(parameter[0].numel()))
        elif parameter.requires_grad:
            parameter.copy_(noise / 2 + name.endswith("weight"))
    return model.eval()


def pictures(n=4, height=32, width=32, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, channels, height, width, generator=generator).to(dtype)


def tiny(**changes):
    return unlike_any(VisionTransformer(**{**TINY, **changes}))


def hybrid(**changes):
    return tiny(patch_size=2, stem=ConvStem(3, (8, 16)), **changes)


@pytest.fixture(params=[tiny, hybrid], ids=["patches", "hybrid"])
def net(request):
    return request.param()


# The published weights


@PRECISIONS
@torch.no_grad()
def test_the_answer_equals_the_reference(dtype, answers, tolerance):
    weights, values = reference("vit_timm")
    model = VisionTransformer(**TINY).to(dtype).eval()
    model.load_state_dict(weights, strict=True)
    x = values["in.x"].to(dtype)
    for found, name in ((model(x), "logits"), (model.forward_features(x), "features")):
        assert found.dtype == dtype
        assert close(found, values[f"{answers}.{name}"], tolerance)


def layer(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def block_shapes(name, dim):
    return (
        layer(f"{name}.norm1", dim) | layer(f"{name}.attn.qkv", 3 * dim, dim) | layer(f"{name}.attn.proj", dim, dim)
        | layer(f"{name}.norm2", dim) | layer(f"{name}.mlp.fc1", 4 * dim, dim) | layer(f"{name}.mlp.fc2", dim, 4 * dim)
    )  # fmt: skip


def encoder_shapes(dim, depth):
    """Names and shapes of the published encoders with patches of 16 pixels, for images of 224."""
    shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, 197, dim)}
    shapes |= layer("patch_embed.proj", dim, 3, 16, 16) | layer("norm", dim)
    for i in range(depth):
        shapes |= block_shapes(f"blocks.{i}", dim)
    return shapes


def shapes_of(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


@pytest.mark.parametrize(
    ("changes", "dim", "depth", "heads", "parameters", "keys"),
    [
        ({}, 768, 12, 12, 86_567_656, 152),
        ({"embed_dim": 1024, "depth": 24, "num_heads": 16}, 1024, 24, 16, 304_326_632, 296),
    ],
    ids=["ViT-B/16", "ViT-L/16"],
)
def test_published_names_and_shapes(changes, dim, depth, heads, parameters, keys):
    with torch.device("meta"):
        model = VisionTransformer(**changes)
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    assert shapes_of(model) == encoder_shapes(dim, depth) | layer("head", 1000, dim)
    assert len(model.state_dict()) == keys and count(model.parameters()) == parameters
    assert {block.attn.num_heads for block in model.blocks} == {heads}


# The four equations


def test_a_token_is_a_patch_times_a_matrix():
    """Equation (1) patch by patch: row after row, the class token first, a position added to each."""
    model, x = tiny(img_size=24).double(), pictures(4, 24, 24, dtype=torch.float64)
    weight, bias = model.patch_embed.proj.weight.flatten(1), model.patch_embed.proj.bias
    corners = [(row, column) for row in (0, 8, 16) for column in (0, 8, 16)]
    patches = [x[:, :, row : row + 8, column : column + 8].flatten(1) @ weight.T + bias for row, column in corners]
    tokens = torch.stack([model.cls_token[0].expand(4, -1), *patches], dim=1)
    assert close(model.embed(x), tokens + model.pos_embed)
    assert model.patch_embed.num_patches == 9 and model.patch_embed.grid_size == (3, 3)


@torch.no_grad()
def test_attention_maps_and_values_make_the_answer():
    """Equations (2) to (4) written out, with the maps in the place of the attention."""
    model, x = tiny().double(), pictures(dtype=torch.float64)
    maps = model.attention_maps(x)
    assert maps.shape == (2, 4, 3, 17, 17)  # depth, images, heads, to, from
    assert maps.min() > 0 and close(maps.sum(-1), torch.ones(2, 4, 3, 17).double())
    z = model.embed(x)
    for block, weights in zip(model.blocks, maps):
        values = F.linear(block.norm1(z), block.attn.qkv.weight[96:], block.attn.qkv.bias[96:])
        mixed = [weights[:, head] @ values[..., 16 * head : 16 * (head + 1)] for head in range(3)]
        z = z + block.attn.proj(torch.cat(mixed, dim=-1))
        hidden = block.mlp.fc1(block.norm2(z))
        z = z + block.mlp.fc2(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2)
    assert close(model.forward_features(x), model.norm(z))
    assert close(model(x), model.head(model.norm(z[:, 0])))


@torch.no_grad()
def test_only_positions_tell_where_a_patch_was():
    """A shuffled picture gives the same scores, unless the tokens carry their places."""
    model, x = tiny().double(), pictures(dtype=torch.float64)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    shuffled = F.fold(F.unfold(x, 8, stride=8)[:, :, order], (32, 32), 8, stride=8)
    assert not torch.allclose(model(shuffled), model(x), atol=1e-3)
    model.pos_embed.zero_()
    assert close(model(shuffled), model(x))


# What the arguments mean


@torch.no_grad()
def test_without_classes_the_class_token_is_returned():
    model, whole, x = tiny(num_classes=0), tiny(), pictures()
    missing, unexpected = model.load_state_dict(whole.state_dict(), strict=False)
    assert not missing and set(unexpected) == {"head.weight", "head.bias"}
    assert torch.equal(model(x), whole.forward_features(x)[:, 0])


@torch.no_grad()
def test_without_qkv_bias_it_is_0():
    model, biased, x = tiny(qkv_bias=False), tiny(), pictures()
    for block in biased.blocks:
        block.attn.qkv.bias.zero_()
    missing, unexpected = biased.load_state_dict(model.state_dict(), strict=False)
    assert set(missing) == {"blocks.0.attn.qkv.bias", "blocks.1.attn.qkv.bias"} and not unexpected
    assert close(model(x), biased(x), 1e-5)


def test_the_width_of_the_hidden_layer():
    for ratio, hidden in ((4.0, 192), (2.52, 120), (0.5, 24)):
        model = VisionTransformer(**TINY, mlp_ratio=ratio)
        assert {block.mlp.fc1.out_features for block in model.blocks} == {hidden}


def assert_starts_small(net):
    """Matrices and tables normal with deviation 0.02, biases 0, gains 1, a class token almost 0."""
    for name, value in net.named_parameters():
        if name.startswith("patch_embed.proj"):
            continue  # as PyTorch starts a convolution
        if "norm" in name and name.endswith("weight"):
            assert (value == 1).all(), name
        elif name.endswith("bias"):
            assert (value == 0).all(), name
        else:
            scale = 1e-6 if name == "cls_token" else 0.02
            within = 5 / math.sqrt(2 * value.numel())  # five standard errors of a deviation
            assert abs(value.std() / scale - 1) < within and abs(value.mean() / scale) < 1.5 * within, name


def test_it_starts_as_timm_does():
    torch.manual_seed(0)
    assert_starts_small(VisionTransformer(**TINY, qkv_bias=True))


# Other sizes


def test_positions_stretch_as_pillow_stretches_pictures():
    table = torch.randn(1, 1 + 4 * 6, 3, generator=torch.Generator().manual_seed(0))
    for rows, columns in ((8, 12), (7, 5), (2, 3), (4, 5), (3, 6), (8, 3), (1, 1)):
        found = resample_pos_embed(table, (4, 6), (rows, columns))
        assert torch.equal(found[:, 0], table[:, 0])
        for channel in range(3):
            picture = Image.fromarray(table[0, 1:, channel].view(4, 6).numpy())
            wanted = torch.tensor(np.array(picture.resize((columns, rows), Image.Resampling.BICUBIC)))
            assert close(found[0, 1:, channel].view(rows, columns), wanted, 1e-5)


def test_positions_of_the_same_size_stay_and_constants_stay_constant():
    table = torch.randn(1, 1 + 4 * 6, 3)
    assert torch.equal(resample_pos_embed(table, (4, 6), (4, 6)), table)
    constant = torch.full((1, 1 + 4 * 6, 3), 0.7).double()
    assert close(resample_pos_embed(constant, (4, 6), (9, 5)), torch.full((1, 1 + 9 * 5, 3), 0.7).double())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_positions_in_16_bits_are_stretched_in_32(dtype):
    table = torch.randn(1, 1 + 4 * 6, 3).to(dtype)
    for autocast in (False, True):
        with torch.autocast("cpu", dtype, enabled=autocast):
            found = resample_pos_embed(table, (4, 6), (9, 5))
        assert torch.equal(found, resample_pos_embed(table.float(), (4, 6), (9, 5)).to(dtype))


@torch.no_grad()
def test_images_of_other_sizes(net):
    net = net.double()
    x = pictures(4, 16, 40, dtype=torch.float64)
    plain = torch.cat([net.cls_token.expand(4, -1, -1), net.patch_embed(x)], dim=1)
    assert close(net.embed(x), plain + resample_pos_embed(net.pos_embed, (4, 4), (2, 5)))
    assert net(x).shape == (4, 10) and net.attention_maps(x).shape == (2, 4, 3, 11, 11)
    assert net(x[:0]).shape == (0, 10)


# The hybrid


@torch.no_grad()
def test_the_stem_is_convolutions_that_halve():
    stem, x = unlike_any(ConvStem(3, (8, 16, 4))).double(), pictures(dtype=torch.float64)
    assert (stem.stride, stem.out_chans) == (8, 4)
    h, layers = x, list(stem)
    for convolution, norm in zip(layers[::3], layers[1::3]):
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
        statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        h = F.batch_norm(F.conv2d(h, convolution.weight, stride=2, padding=1), *statistics).relu()
    assert close(stem(x), h) and h.shape == (4, 4, 4, 4)
    assert len(layers) == 9 and not any("bias" in name for name in shapes_of(nn.ModuleList(layers[::3])))
    assert (ConvStem().stride, ConvStem().out_chans) == (4, 64)


@torch.no_grad()
def test_a_hybrid_cuts_its_patches_from_what_the_stem_returns():
    """Any module will do that says its stride and channels."""
    stem = nn.AvgPool2d(2)
    stem.out_chans = 3
    model, plain, x = tiny(stem=stem, img_size=64), tiny(), pictures(4, 64, 64)
    plain.load_state_dict(model.state_dict(), strict=True)
    assert model.patch_embed.step == 16 and model.patch_embed.grid_size == (4, 4)
    assert torch.equal(model(x), plain(F.avg_pool2d(x, 2)))
    assert hybrid().patch_embed.grid_size == (4, 4) and hybrid().pos_embed.shape == (1, 17, 48)


# The rollout


def test_rollout_of_two_layers_is_its_formula():
    maps = torch.randn(2, 4, 3, 5, 5, generator=torch.Generator().manual_seed(0)).double().softmax(-1)
    found = attention_rollout(maps)
    for image in range(4):
        first, second = (sum(maps[layer, image]) / 3 for layer in (0, 1))
        for to in range(5):
            for token in range(5):
                wanted = sum(
                    (second[to, via] + (to == via)) / 2 * (first[via, token] + (via == token)) / 2 for via in range(5)
                )
                assert found[image, to, token].item() == pytest.approx(wanted.item(), abs=1e-12)


def test_rollout_keeps_its_sums():
    maps = tiny(depth=5).double().attention_maps(pictures(dtype=torch.float64))
    rollout = attention_rollout(maps)
    assert rollout.dtype == torch.float64 and rollout.min() > 0
    assert close(rollout.sum(-1), torch.ones(4, 17).double())
    assert close(attention_rollout(maps[:1]), (maps[0].mean(1) + torch.eye(17)) / 2)
    earlier, later = attention_rollout(maps[:3]), attention_rollout(maps[3:])
    assert close(rollout, later @ earlier) and not close(rollout, earlier @ later, 1e-3)


# What holds whatever the weights are


def test_every_parameter_learns(net):
    net, x = net.double().train(), pictures(dtype=torch.float64)
    net(x).square().mean().backward()
    assert_all_learn(net)


def assert_all_learn(net):
    """Every number of every parameter, but the keys' bias: a constant added to all keys changes no weight."""
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            continue
        grad = parameter.grad
        assert grad is not None and grad.isfinite().all(), name
        if name.endswith("qkv.bias"):
            query, key, value = grad.chunk(3)
            assert key.abs().max() < 1e-12 < query.abs().max(), name
            grad = torch.cat([query, value])
        assert (grad != 0).all(), name


@torch.no_grad()
def test_an_image_does_not_see_its_batch(net):
    net, x = net.double(), pictures(dtype=torch.float64)
    whole = net(x)
    assert torch.equal(net(x), whole)
    assert close(whole, torch.cat([net(image[None]) for image in x]))
    assert (whole[0] - whole[1]).abs().min() > 1e-4


@torch.no_grad()
def test_without_a_stem_training_and_use_are_the_same():
    net, x = tiny(), pictures()
    assert torch.equal(net.train()(x), net.eval()(x))


@torch.no_grad()
def test_weights_survive_a_file(net, tmp_path):
    x = pictures()
    before = net(x)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    for parameter in net.parameters():
        parameter.zero_()
    net.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    assert torch.equal(net(x), before)


@torch.no_grad()
def test_compile(net):
    compiled = torch.compile(net, backend="eager", fullgraph=True, dynamic=False)
    for x in (pictures(), pictures(2, 16, 40)):
        assert close(compiled(x), net(x), 1e-6)
    maps = torch.compile(net.attention_maps, backend="eager", fullgraph=True)(pictures())
    rollout = torch.compile(attention_rollout, backend="eager", fullgraph=True)
    assert close(rollout(maps), attention_rollout(net.attention_maps(pictures())), 1e-6)


@torch.no_grad()
def test_meta_and_autocast(net):
    x = pictures()
    wanted = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(x)
        assert rounded.dtype == torch.bfloat16
        assert (rounded.float() - wanted).norm() < 0.05 * wanted.norm()
    net = net.to("meta")
    assert net(x.to("meta")).shape == (4, 10)
    assert attention_rollout(net.attention_maps(pictures(4, 16, 40).to("meta"))).shape == (4, 11, 11)


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_size": 0}, "img_size must be an integer of at least 1, got 0"),
        ({"img_size": 32.0}, "img_size must be an integer of at least 1, got 32.0"),
        ({"patch_size": 0}, "patch_size must be an integer of at least 1, got 0"),
        ({"in_chans": -1}, "in_chans must be an integer of at least 1, got -1"),
        ({"embed_dim": 0}, "embed_dim must be an integer of at least 1, got 0"),
        ({"num_classes": -1}, "num_classes must be an integer of at least 0, got -1"),
        ({"depth": 0}, "depth must be an integer of at least 1, got 0"),
        ({"depth": True}, "depth must be an integer of at least 1, got True"),
        ({"num_heads": 0}, "num_heads must be an integer of at least 1, got 0"),
        ({"num_heads": 3.0}, "num_heads must be an integer of at least 1, got 3.0"),
        ({"mlp_ratio": 0.001}, "hidden_dim must be an integer of at least 1, got 0"),
        ({"num_heads": 5}, "num_heads must divide dim, got num_heads=5 and dim=48"),
        ({"mlp_ratio": 0}, "mlp_ratio must be a finite number, above 0, got 0"),
        ({"mlp_ratio": -1.5}, "mlp_ratio must be a finite number, above 0, got -1.5"),
        ({"mlp_ratio": math.nan}, "mlp_ratio must be a finite number, above 0, got nan"),
        ({"img_size": 36}, "img_size must be a multiple of the patches' 8 pixels, got 36"),
        ({"img_size": 40, "stem": ConvStem(3, (4,))}, "img_size must be a multiple of the patches' 16 pixels, got 40"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        VisionTransformer(**{**TINY, **changes})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, (4,)), "in_chans must be an integer of at least 1, got 0"),
        ((3, (4, 0)), "widths must be positive integers, got \\(4, 0\\)"),
        ((3, (2.0,)), "widths must be positive integers, got \\(2.0,\\)"),
    ],
)
def test_a_bad_stem_is_named(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ConvStem(*arguments)


@pytest.mark.parametrize(
    "shape",
    [(3, 32, 32), (2, 1, 32, 32), (2, 3, 36, 32), (2, 3, 32, 36), (1, 2, 3, 32, 32), (2, 3, 0, 32), (2, 3, 32, 0)],
)
def test_wrong_images_are_named(net, shape):
    wanted = r"x must have shape \(B, 3, H, W\) with H and W positive multiples of 8"
    for call in (net, net.forward_features, net.attention_maps, net.patch_embed):
        with pytest.raises(ValueError, match=rf"^{wanted}, got \({', '.join(map(str, shape))}\)$"):
            call(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (2, 4, 3, 5, 6), (5, 5)])
def test_wrong_maps_are_named(shape):
    wanted = r"maps must have shape \(depth, B, heads, tokens, tokens\)"
    with pytest.raises(ValueError, match=rf"^{wanted}, got \({', '.join(map(str, shape))}\)$"):
        attention_rollout(torch.zeros(shape))


def test_the_patches_alone_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"^img_size must be a multiple of the patches' 16 pixels, got 100$"):
        PatchEmbed(100)
