"""Swin: the published names, counts and numbers, and windows that shift against attention pixel by pixel."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from lib.vision_transformers import (
    SwinTransformer,
    relative_position_index,
    shift_mask,
    window_partition,
    window_reverse,
)
from lib.vision_transformers.swin import PatchMerging, SwinTransformerBlock, WindowAttention
from tests.vision_transformers.test_vit import (
    PRECISIONS,
    assert_all_learn,
    assert_starts_small,
    block_shapes,
    close,
    count,
    layer,
    pictures,
    reference,
    shapes_of,
    unlike_any,
)
from tests.waits import waits

PARTS = dict(np.load(Path(__file__).parents[1] / "reference" / "swin_parts.npz"))
TINY = {
    "img_size": 32, "patch_size": 2, "num_classes": 10, "embed_dim": 16, "depths": (2, 2, 2), "num_heads": (2, 4, 8),
    "window_size": 4,
}  # fmt: skip


def part(name):
    return torch.tensor(PARTS[name])


def tiny(**changes):
    return unlike_any(SwinTransformer(**{**TINY, **changes}))


@pytest.fixture
def net():
    return tiny()


# The published weights


@PRECISIONS
@torch.no_grad()
def test_the_answer_equals_the_reference(dtype, answers, tolerance):
    weights, values = reference("swin")
    model = SwinTransformer(**TINY).to(dtype).eval()
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, weights[name].to(buffer.dtype)), name
    model.load_state_dict(weights, strict=True)
    x = values["in.x"].to(dtype)
    logits = model(x)
    model.head = nn.Identity()
    for found, name in ((logits, "logits"), (model(x), "features")):
        assert found.dtype == dtype
        assert close(found, values[f"{answers}.{name}"], tolerance)


def test_the_parts_equal_the_reference():
    assert torch.equal(relative_position_index(7), part("rel_index_7"))
    assert torch.equal(shift_mask(8, 8, 4, 2), part("attn_mask_8_4_2"))
    assert torch.equal(window_partition(part("windows_in"), 4), part("windows"))
    x = part("merge_in")
    merge = PatchMerging(x.shape[-1]).to(x.dtype)
    weights = {
        "norm.weight": part("merge_norm_w"),
        "norm.bias": part("merge_norm_b"),
        "reduction.weight": part("merge_w"),
    }
    merge.load_state_dict(weights, strict=True)
    rows = columns = math.isqrt(x.shape[1])
    found = merge(x.view(-1, rows, columns, x.shape[-1]))
    assert close(found.flatten(1, 2), part("merge_out"), 1e-5 if x.dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize(
    ("changes", "width", "depths", "heads", "parameters", "keys"),
    [
        ({}, 96, (2, 2, 6, 2), (3, 6, 12, 24), 28_288_354, 190),
        (
            {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
            128, (2, 2, 18, 2), (4, 8, 16, 32), 87_768_224, 364,
        ),
    ],
    ids=["Swin-T", "Swin-B"],
)  # fmt: skip
def test_published_names_and_shapes(changes, width, depths, heads, parameters, keys):
    with torch.device("meta"):
        model = SwinTransformer(**changes)
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    shapes = layer("patch_embed.proj", width, 3, 4, 4) | layer("patch_embed.norm", width)
    for stage, windows in enumerate((64, 16, 4, 1)):
        dim = width * 2**stage
        for i in range(depths[stage]):
            name = f"layers.{stage}.blocks.{i}"
            shapes |= block_shapes(name, dim)
            shapes[f"{name}.attn.relative_position_bias_table"] = (169, heads[stage])
            shapes[f"{name}.attn.relative_position_index"] = (49, 49)
            if i % 2 and windows > 1:
                shapes[f"{name}.attn_mask"] = (windows, 49, 49)
        if stage < 3:
            shapes |= layer(f"layers.{stage}.downsample.norm", 4 * dim)
            shapes[f"layers.{stage}.downsample.reduction.weight"] = (2 * dim, 4 * dim)
    shapes |= layer("norm", 8 * width) | layer("head", 1000, 8 * width)
    assert shapes_of(model) == shapes and len(shapes) == keys
    assert count(model.parameters()) == parameters
    assert {value.dtype for name, value in model.named_buffers() if name.endswith("index")} == {torch.int64}
    assert {block.shift for stage in model.layers for block in stage.blocks[1::2]} == {3}
    assert {block.shift for stage in model.layers for block in stage.blocks[::2]} == {0}


# Windows


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))
def test_windows_and_back(B, rows, columns, M, C):
    x = torch.arange(B * rows * M * columns * M * C).view(B, rows * M, columns * M, C)
    windows = window_partition(x, M)
    cut = [
        x[image, M * row : M * (row + 1), M * column : M * (column + 1)]
        for image in range(B)
        for row in range(rows)
        for column in range(columns)
    ]
    assert torch.equal(windows, torch.stack(cut))
    assert torch.equal(window_reverse(windows, M, rows * M, columns * M), x)


@given(st.integers(1, 6))
def test_a_pair_finds_its_offset(M):
    """By rows first, from key to query; each of the (2M - 1)² rows of the table belongs to exactly one offset."""
    index = relative_position_index(M)
    offsets = {}
    for query in range(M * M):
        for key in range(M * M):
            offset = (query // M - key // M, query % M - key % M)
            assert index[query, key] == (offset[0] + M - 1) * (2 * M - 1) + offset[1] + M - 1
            offsets.setdefault(index[query, key].item(), set()).add(offset)
    assert sorted(offsets) == list(range((2 * M - 1) ** 2))
    assert all(len(found) == 1 for found in offsets.values())


def group(place, M, shift):
    """The number of the window, along one side, that holds a pixel when all windows are shifted down or right."""
    return (place - shift) // M


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.data())
def test_the_mask_parts_what_the_roll_joins(rows, columns, M, data):
    """Pixels that share a window after the roll may see each other if they were in one before it, too."""
    shift = data.draw(st.integers(0, M - 1))
    H, W = rows * M, columns * M
    mask = shift_mask(H, W, M, shift)
    assert mask.shape == (rows * columns, M * M, M * M)
    for window in range(rows * columns):
        top, left = M * (window // columns) + shift, M * (window % columns) + shift
        before = [((top + y) % H, (left + x) % W) for y in range(M) for x in range(M)]  # where they were
        groups = [(group(row, M, shift), group(column, M, shift)) for row, column in before]
        assert mask[window].tolist() == [[0.0 if a == b else -100.0 for b in groups] for a in groups]


# Attention within windows


def attend_pixel_by_pixel(block, x):
    """The attention of a block from where its pixels are: no roll, no mask, no cutting.

    A pixel looks at those that lie in its own window when the windows are shifted; padding is pixels that are 0.
    """
    attn, M = block.attn, block.window_size
    B, H, W, dim = x.shape
    high, wide = math.ceil(H / M) * M, math.ceil(W / M) * M
    shift = 0 if high == wide == M else block.shift
    padded = x.new_zeros(B, high, wide, dim)
    padded[:, :H, :W] = x
    q, k, v = F.linear(padded.flatten(1, 2), attn.qkv.weight, attn.qkv.bias).chunk(3, dim=-1)
    places = [(row, column) for row in range(high) for column in range(wide)]
    d = dim // attn.num_heads
    mixed = torch.zeros_like(q)
    for i, (row, column) in enumerate(places):
        window = group(row, M, shift), group(column, M, shift)
        near = [j for j, place in enumerate(places) if (group(place[0], M, shift), group(place[1], M, shift)) == window]
        offsets = [(row - places[j][0] + M - 1) * (2 * M - 1) + column - places[j][1] + M - 1 for j in near]
        for head in range(attn.num_heads):
            cut = slice(d * head, d * (head + 1))
            scores = torch.einsum("bd,bkd->bk", q[:, i, cut], k[:, near, cut]) / math.sqrt(d)
            scores = scores + attn.relative_position_bias_table[offsets, head]
            mixed[:, i, cut] = torch.einsum("bk,bkd->bd", scores.softmax(-1), v[:, near, cut])
    return attn.proj(mixed).view(B, high, wide, dim)[:, :H, :W]


def layer_pixel_by_pixel(block, x):
    x = x + attend_pixel_by_pixel(block, block.norm1(x))
    hidden = block.mlp.fc1(block.norm2(x))
    return x + block.mlp.fc2(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2)


MAPS = pytest.mark.parametrize(
    ("H", "W", "M", "shift"),
    [
        (8, 8, 4, 2), (8, 8, 4, 0), (8, 12, 4, 1), (9, 6, 3, 1), (6, 6, 3, 2), (6, 4, 2, 1), (4, 12, 4, 2),
        (7, 10, 4, 2), (3, 5, 4, 2), (9, 8, 4, 3),  # padded
        (4, 4, 4, 2), (3, 2, 4, 2),  # one window
        (3, 4, 1, 0),
    ],
)  # fmt: skip


@MAPS
@torch.no_grad()
def test_windows_are_attention_among_true_neighbours(H, W, M, shift):
    """With a stored mask, and with one that is made for another size than the block's."""
    x = torch.randn(2, H, W, 8, generator=torch.Generator().manual_seed(0)).double()
    for resolution in ((H, W), (2 * M, 3 * M), (M, M)):
        block = unlike_any(SwinTransformerBlock(8, resolution, 2, M, shift)).double()
        assert close(block.attend(x), attend_pixel_by_pixel(block, x))
        assert close(block(x), layer_pixel_by_pixel(block, x))


@MAPS
@torch.no_grad()
def test_a_map_is_rolled_there_and_back(H, W, M, shift):
    """Windows that nothing happens in leave the map as it was."""

    class Nothing(nn.Module):
        def forward(self, x, mask):
            return x

    block, x = SwinTransformerBlock(8, (H, W), 2, M, shift), torch.randn(2, H, W, 8)
    block.attn = Nothing()
    assert torch.equal(block.attend(x), x)


@torch.no_grad()
def test_a_shifted_window_sees_across_the_border_of_the_plain_ones():
    """A change of one pixel reaches the window around it, and nothing else."""
    x = torch.randn(1, 12, 12, 8, generator=torch.Generator().manual_seed(0)).double()
    changed = x.clone()
    changed[0, 4, 3, 0] += 1
    for shift, rows, columns in ((0, (4, 8), (0, 4)), (2, (2, 6), (2, 6))):
        block = unlike_any(SwinTransformerBlock(8, (12, 12), 2, 4, shift)).double()
        reached = (block(changed) - block(x)).abs().amax(-1)[0] > 1e-9
        wanted = torch.zeros(12, 12, dtype=torch.bool)
        wanted[slice(*rows), slice(*columns)] = True
        assert torch.equal(reached, wanted)


@pytest.mark.parametrize(("H", "W"), [(8, 12), (4, 8), (8, 8)])
def test_a_mask_for_another_size_is_the_shift_mask(H, W):
    block = SwinTransformerBlock(8, (8, 8), 2, 4, 2).double()
    mask = block.mask(H, W)
    assert mask.dtype == torch.float64 and torch.equal(mask, shift_mask(H, W, 4, 2).double())
    assert (mask is block.attn_mask) == ((H, W) == (8, 8))


@torch.no_grad()
def test_weights_are_those_of_the_attention():
    attn = unlike_any(WindowAttention(8, 4, 2)).double()
    mask = shift_mask(8, 12, 4, 2).double()
    x = torch.randn(3 * 6, 16, 8, generator=torch.Generator().manual_seed(0)).double()
    for given_mask in (None, mask):
        weights = attn.weights(x, given_mask)
        assert weights.shape == (18, 2, 16, 16)
        assert close(weights.sum(-1), torch.ones(18, 2, 16).double())
        values = F.linear(x, attn.qkv.weight[16:], attn.qkv.bias[16:])
        mixed = torch.cat([weights[:, head] @ values[..., 4 * head : 4 * head + 4] for head in range(2)], dim=-1)
        assert close(attn(x, given_mask), attn.proj(mixed))
    apart = (mask < 0)[None, :, None].expand(3, -1, 2, -1, -1)
    assert weights.view(3, 6, 2, 16, 16)[apart].max() < 1e-30 and weights.view(3, 6, 2, 16, 16)[~apart].min() > 1e-12


# The stages


def merge_by_hand(merge, x):
    """Four neighbours to one, down the first column of each square and then the second; 0 beyond the border."""
    B, H, W, dim = x.shape
    merged = []
    for row in range(0, H, 2):
        for column in range(0, W, 2):
            square = ((row, column), (row + 1, column), (row, column + 1), (row + 1, column + 1))
            merged.append(torch.cat([x[:, r, c] if r < H and c < W else x.new_zeros(B, dim) for r, c in square], -1))
    whole = torch.stack(merged, 1).view(B, math.ceil(H / 2), math.ceil(W / 2), 4 * dim)
    return F.linear(F.layer_norm(whole, (4 * dim,), merge.norm.weight, merge.norm.bias, 1e-5), merge.reduction.weight)


@pytest.mark.parametrize(("H", "W"), [(4, 6), (5, 4), (2, 3), (1, 1)])
@torch.no_grad()
def test_merging(H, W):
    merge = unlike_any(PatchMerging(4)).double()
    x = torch.randn(2, H, W, 4, generator=torch.Generator().manual_seed(0)).double()
    assert close(merge(x), merge_by_hand(merge, x))


@pytest.mark.parametrize(
    ("height", "width", "sides"),
    [
        (32, 32, [(16, 16), (8, 8), (4, 4)]),
        (24, 40, [(12, 20), (6, 10), (3, 5)]),
        (17, 31, [(9, 16), (5, 8), (3, 4)]),
        (5, 2, [(3, 1), (2, 1), (1, 1)]),
    ],
)
@torch.no_grad()
def test_images_of_any_size_by_hand(height, width, sides):
    """Images, maps and windows that do not fit; each stage from the one before it, and the scores from the last."""
    net, x = tiny().double(), pictures(2, height, width, dtype=torch.float64)
    maps = net.stages(x)
    assert [tuple(found.shape) for found in maps] == [(2, *side, 16 * 2**i) for i, side in enumerate(sides)]
    proj, norm = net.patch_embed.proj, net.patch_embed.norm
    h = F.conv2d(F.pad(x, (0, width % 2, 0, height % 2)), proj.weight, proj.bias, stride=2).permute(0, 2, 3, 1)
    h = F.layer_norm(h, (16,), norm.weight, norm.bias, 1e-5)
    for stage, found in zip(net.layers, maps):
        for block in stage.blocks:
            h = layer_pixel_by_pixel(block, h)
        assert close(h, found)
        if stage.downsample is not None:
            h = merge_by_hand(stage.downsample, h)
    pooled = F.layer_norm(h, (64,), net.norm.weight, net.norm.bias, 1e-5).flatten(1, 2).mean(1)
    assert close(net(x), pooled @ net.head.weight.T + net.head.bias)


@torch.no_grad()
def test_a_window_larger_than_the_map_becomes_the_map():
    net = tiny(window_size=7)  # maps of 16, 8 and 4
    assert [{block.window_size for block in stage.blocks} for stage in net.layers] == [{7}, {7}, {4}]
    assert [[block.shift for block in stage.blocks] for stage in net.layers] == [[0, 3], [0, 3], [0, 2]]
    assert "layers.2.blocks.1.attn_mask" not in net.state_dict()
    assert net.layers[0].blocks[1].attn_mask.shape == (9, 49, 49)  # 16 padded to 21
    block, plain = net.layers[2].blocks[1], unlike_any(SwinTransformerBlock(64, (4, 4), 8, 4, 0))
    plain.load_state_dict(block.state_dict(), strict=True)
    x = torch.randn(2, 4, 4, 64)
    assert torch.equal(block(x), plain(x))
    with torch.device("meta"):
        smallest = SwinTransformer(**{**TINY, "img_size": 2})
    assert {block.window_size for stage in smallest.layers for block in stage.blocks} == {1}


@torch.no_grad()
def test_without_classes_the_mean_token_is_returned():
    model, whole, x = tiny(num_classes=0), tiny(), pictures()
    missing, unexpected = model.load_state_dict(whole.state_dict(), strict=False)
    assert not missing and set(unexpected) == {"head.weight", "head.bias"}
    assert model.num_features == 64
    assert torch.equal(model(x), whole.norm(whole.stages(x)[-1]).mean((1, 2)))


@torch.no_grad()
def test_arguments_reach_every_stage():
    model, biased, x = tiny(qkv_bias=False, mlp_ratio=2.5), tiny(mlp_ratio=2.5), pictures()
    blocks = [block for stage in biased.layers for block in stage.blocks]
    assert [block.mlp.fc1.out_features for block in blocks] == [40, 40, 80, 80, 160, 160]
    for block in blocks:
        block.attn.qkv.bias.zero_()
    missing, unexpected = biased.load_state_dict(model.state_dict(), strict=False)
    assert len(missing) == 6 and all(name.endswith("attn.qkv.bias") for name in missing) and not unexpected
    assert close(model(x), biased(x), 1e-5)


def test_it_starts_as_the_release_does():
    torch.manual_seed(0)
    assert_starts_small(SwinTransformer(**TINY))


# What holds whatever the weights are


def test_every_parameter_learns():
    net = tiny().double().train()
    net(pictures(dtype=torch.float64)).square().mean().backward()
    assert_all_learn(net)


@torch.no_grad()
def test_an_image_does_not_see_its_batch(net):
    net = net.double()
    for x in (pictures(dtype=torch.float64), pictures(3, 18, 23, dtype=torch.float64)):
        whole = net(x)
        assert torch.equal(net(x), whole)
        assert close(whole, torch.cat([net(image[None]) for image in x]))
        assert torch.equal(net.train()(x), net.eval()(x))
    assert net(x[:0]).shape == (0, 10)


@torch.no_grad()
def test_weights_survive_a_file(net, tmp_path):
    x = pictures()
    before = net(x)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    for value in net.state_dict().values():
        value.zero_()
    net.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    assert torch.equal(net(x), before)


@torch.no_grad()
def test_compile():
    net = tiny(depths=(2, 2), num_heads=(2, 4))
    compiled = torch.compile(net, backend="eager", fullgraph=True, dynamic=False)
    for x in (pictures(), pictures(2, 18, 23)):
        assert close(compiled(x), net(x), 1e-5)


@torch.no_grad()
def test_meta_and_autocast(net):
    for x in (pictures(), pictures(2, 18, 23)):
        wanted = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(x)
            assert rounded.dtype == torch.bfloat16
            assert (rounded.float() - wanted).norm() < 0.05 * wanted.norm()
    net = net.to("meta")
    assert net(pictures().to("meta")).shape == (4, 10)
    assert [tuple(h.shape) for h in net.stages(x.to("meta"))] == [(2, 9, 12, 16), (2, 5, 6, 32), (2, 3, 3, 64)]


@pytest.mark.parametrize("stored, wanted", [(32, 48), (48, 32), (32, 29)])
@torch.no_grad()
def test_weights_load_into_a_model_for_images_of_another_size(stored, wanted):
    """Masks follow from the size: those that are stored do not count, and none need be stored."""
    x, given = pictures(2, wanted, wanted), tiny(img_size=stored).state_dict()
    answer = tiny(img_size=stored)(x)
    learned = {name: value for name, value in given.items() if not name.endswith(("attn_mask", "index"))}
    assert len(learned) < len(given)
    for state in (given, learned):
        for assign in (False, True):
            model = SwinTransformer(**{**TINY, "img_size": wanted}).eval()
            masks = {name: value.clone() for name, value in model.named_buffers()}
            assert model.load_state_dict(state, strict=True, assign=assign) == ([], [])
            assert all(torch.equal(value, masks[name]) for name, value in model.named_buffers())
            assert torch.equal(model(x), answer)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("assign", [False, True])
@torch.no_grad()
def test_weights_load_from_a_file_of_another_precision(assign, dtype):
    """With `assign=True` the weights become the file's, and the mask with them."""
    state = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in tiny().state_dict().items()
    }
    model = tiny()
    model.load_state_dict(state, assign=assign)
    kind = dtype if assign else torch.float32
    assert {value.dtype for value in model.state_dict().values()} == {kind, torch.int64}
    answer = model(pictures().to(kind))
    assert answer.dtype == kind and torch.equal(answer, tiny().to(dtype).to(kind)(pictures().to(kind)))


@pytest.mark.parametrize("shape", [(2, 0, 4, 16), (2, 4, 0, 16), (2, 4, 4, 8)])
def test_maps_without_height_or_width_are_named(shape):
    wanted = r"x must have shape \(B, H, W, 16\) with H and W of at least 1, got"
    for call in (SwinTransformerBlock(16, (4, 4), 2, 2, 1), PatchMerging(16)):
        with pytest.raises(ValueError, match=wanted):
            call(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 4, 4), (3, 4, 4), (4, 4), (4, 2, 4), (1, 4, 4, 4)])
def test_masks_of_other_windows_are_named(shape):
    attention, wanted = (
        WindowAttention(16, 2, 2),
        r"mask must have shape \(windows, 4, 4\), with windows a divisor of 8, got",
    )
    for call in (attention, attention.weights):
        with pytest.raises(ValueError, match=wanted):
            call(torch.zeros(8, 4, 16), torch.zeros(shape))


def test_what_is_learned_must_still_fit():
    state = tiny().state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key.*norm1\.weight"):
        tiny().load_state_dict({name: value for name, value in state.items() if not name.endswith("norm1.weight")})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*blocks\.0\.other"):
        tiny().load_state_dict({**state, "layers.0.blocks.0.other": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"size mismatch for layers\.0\.blocks\.0\.norm1\.weight"):
        tiny().load_state_dict({**state, "layers.0.blocks.0.norm1.weight": torch.zeros(7)})


@pytest.mark.parametrize("other", [{"window_size": 2}, {"img_size": 8}])
def test_weights_of_other_windows_are_refused(other):
    """Also where a small image lets the window shrink. A table of fewer offsets cannot be read from one of more."""
    for strict in (True, False):
        with pytest.raises(
            ValueError, match=r"layers\.\d\.blocks\.0\.attn\.relative_position_bias_table must have \d+"
        ):
            tiny(**other).load_state_dict(tiny().state_dict(), strict=strict)


def test_a_training_step_waits_for_no_device_whatever_the_size(monkeypatch):
    net = tiny().train()
    for x in (pictures(), pictures(2, 18, 23)):
        assert not waits(lambda x=x: net(x).sum().backward(), monkeypatch)
    assert shift_mask(8, 8, 4, 2, torch.device("meta")).is_meta and shift_mask(8, 8, 4, 0, torch.device("meta")).is_meta


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_size": 0}, "img_size must be an integer of at least 1, got 0"),
        ({"patch_size": -2}, "patch_size must be an integer of at least 1, got -2"),
        ({"in_chans": 1.0}, "in_chans must be an integer of at least 1, got 1.0"),
        ({"embed_dim": 0}, "embed_dim must be an integer of at least 1, got 0"),
        ({"num_classes": -1}, "num_classes must be an integer of at least 0, got -1"),
        ({"window_size": 0}, "window_size must be an integer of at least 1, got 0"),
        ({"window_size": 2.5}, "window_size must be an integer of at least 1, got 2.5"),
        ({"window_size": True}, "window_size must be an integer of at least 1, got True"),
        ({"mlp_ratio": 0}, "mlp_ratio must be a finite number, above 0, got 0"),
        ({"depths": (2, 0, 2)}, "depths must be positive integers, got (2, 0, 2)"),
        ({"num_heads": (2, 4, 0)}, "num_heads must be positive integers, got (2, 4, 0)"),
        ({"num_heads": (2, 3, 8)}, "num_heads must divide dim, got num_heads=3 and dim=32"),
        ({"depths": ()}, "depths must be positive integers, got ()"),
        ({"depths": (), "num_heads": ()}, "depths must be positive integers, got ()"),
        ({"depths": (2, 2)}, "depths and num_heads must have one entry a stage, got (2, 2) and (2, 4, 8)"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError) as error:
        SwinTransformer(**{**TINY, **changes})
    assert str(error.value) == message


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 1, 32, 32), (1, 2, 3, 32, 32)])
def test_wrong_images_are_named(net, shape):
    for call in (net, net.stages):
        with pytest.raises(ValueError) as error:
            call(torch.zeros(shape))
        assert str(error.value) == f"x must have shape (B, 3, H, W) with H and W positive multiples of 1, got {shape}"


@pytest.mark.parametrize("shape", [(8, 8, 3), (2, 6, 8, 3), (2, 8, 6, 3), (1, 2, 8, 8, 3), (2, 0, 8, 3), (2, 8, 0, 3)])
def test_maps_that_cannot_be_cut_are_named(shape):
    with pytest.raises(ValueError) as error:
        window_partition(torch.zeros(shape), 4)
    wanted = "(B, H, W, C) with H and W positive multiples of window_size=4"
    assert str(error.value) == f"x must have shape {wanted}, got {shape}"


@pytest.mark.parametrize(
    ("shape", "H", "W"),
    [((4, 4, 4, 3), 8, 9), ((4, 4, 4, 3), 9, 8), ((3, 4, 4, 3), 8, 8), ((4, 3, 4, 3), 8, 8), ((4, 4, 5, 3), 8, 8),
     ((4, 16, 3), 8, 8), ((4, 4, 4, 3), 2, 2)],
)  # fmt: skip
def test_windows_that_cannot_be_joined_are_named(shape, H, W):
    with pytest.raises(ValueError) as error:
        window_reverse(torch.zeros(shape), 4, H, W)
    assert str(error.value) == f"windows of size 4 cannot fill {H}×{W}, got shape {shape}"


def test_bad_windows_are_named():
    x, windows = torch.zeros(1, 8, 8, 1), torch.zeros(4, 4, 4, 1)
    for call, arguments, message in (
        (shift_mask, (8, 8, 4, 4), "shift must be an integer from 0 to 3, got 4"),
        (shift_mask, (8, 8, 4, -1), "shift must be an integer from 0 to 3, got -1"),
        (shift_mask, (8, 8, 0, 0), "window_size must be an integer of at least 1, got 0"),
        (relative_position_index, (0,), "window_size must be an integer of at least 1, got 0"),
        (window_partition, (x, 0), "window_size must be an integer of at least 1, got 0"),
        (window_reverse, (windows, 0, 8, 8), "window_size must be an integer of at least 1, got 0"),
        (window_reverse, (windows, 4, 0, 8), "H must be an integer of at least 1, got 0"),
        (window_reverse, (windows, 4, 8, 0.5), "W must be an integer of at least 1, got 0.5"),
    ):
        with pytest.raises(ValueError) as error:
            call(*arguments)
        assert str(error.value) == message


@pytest.mark.parametrize("shift", [0, 2])
def test_a_mask_needs_whole_windows(shift):
    with pytest.raises(ValueError, match="with H and W positive multiples of window_size=4"):
        shift_mask(8, 10, 4, shift)
