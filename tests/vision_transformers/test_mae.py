"""The masked autoencoder: the published names, counts and numbers, what is hidden, and what counts in the loss."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib.vision_transformers import MaskedAutoencoderViT, VisionTransformer
from lib.vision_transformers.mae import random_masking, sincos_2d
from tests.vision_transformers.test_vit import (
    PRECISIONS,
    assert_all_learn,
    block_shapes,
    close,
    count,
    encoder_shapes,
    layer,
    pictures,
    reference,
    shapes_of,
    unlike_any,
)
from tests.waits import waits

TINY = {
    "img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3,
    "decoder_embed_dim": 32, "decoder_depth": 1, "decoder_num_heads": 4,
}  # fmt: skip


def tiny(**changes):
    return unlike_any(MaskedAutoencoderViT(**{**TINY, **changes}))


@pytest.fixture
def net():
    return tiny()


@pytest.fixture
def noise():
    return torch.rand(4, 16, generator=torch.Generator().manual_seed(1))


# The published weights


@PRECISIONS
@torch.no_grad()
def test_the_answer_equals_the_reference(dtype, answers, tolerance):
    weights, values = reference("mae")
    model = MaskedAutoencoderViT(**TINY).eval()
    assert close(model.pos_embed, weights["pos_embed"], 1e-7)
    assert close(model.decoder_pos_embed, weights["decoder_pos_embed"], 1e-7)
    model.to(dtype).load_state_dict(weights, strict=True)
    imgs, noise = values["in.imgs"].to(dtype), values["in.noise"]
    loss, pred, mask = model(imgs, values["in.mask_ratio"].item(), noise)
    latent, again, ids_restore = model.forward_encoder(imgs, 0.75, noise)
    for found, name in ((loss, "loss"), (pred, "pred"), (latent, "latent")):
        assert found.dtype == dtype
        assert close(found, values[f"{answers}.{name}"], tolerance)
    assert mask.dtype == dtype and torch.equal(mask, values[f"{answers}.mask"].to(dtype))
    assert torch.equal(again, mask) and torch.equal(ids_restore, values["out.ids_restore"])


@pytest.mark.parametrize(
    ("changes", "dim", "depth", "heads", "parameters", "trainable", "keys"),
    [
        ({"embed_dim": 768, "depth": 12, "num_heads": 12}, 768, 12, 12, 111_907_840, 111_655_680, 254),
        ({}, 1024, 24, 16, None, None, 398),
    ],
    ids=["ViT-B/16", "ViT-L/16"],
)
def test_published_names_and_shapes(changes, dim, depth, heads, parameters, trainable, keys):
    with torch.device("meta"):
        model = MaskedAutoencoderViT(**changes)
    shapes = encoder_shapes(dim, depth) | {"mask_token": (1, 1, 512), "decoder_pos_embed": (1, 197, 512)}
    shapes |= layer("decoder_embed", 512, dim) | layer("decoder_norm", 512) | layer("decoder_pred", 768, 512)
    for i in range(8):
        shapes |= block_shapes(f"decoder_blocks.{i}", 512)
    assert shapes_of(model) == shapes and len(shapes) == keys
    assert {block.attn.num_heads for block in model.blocks} == {heads}
    assert {block.attn.num_heads for block in model.decoder_blocks} == {16}
    assert not model.norm_pix_loss
    if parameters:
        assert count(model.parameters()) == parameters
        assert count(p for p in model.parameters() if p.requires_grad) == trainable


@torch.no_grad()
def test_the_encoder_is_a_vision_transformer(net):
    """Every weight but the head's, and the same tokens where nothing is hidden."""
    encoder = {name: value for name, value in net.state_dict().items() if "decoder" not in name}
    del encoder["mask_token"]
    plain = VisionTransformer(32, 8, 3, 10, 48, 2, 3).eval()
    missing, unexpected = plain.load_state_dict(encoder, strict=False)
    assert set(missing) == {"head.weight", "head.bias"} and not unexpected
    assert close(net.forward_features(pictures()), plain.forward_features(pictures()), 1e-5)


@torch.no_grad()
def test_the_encoder_sees_the_class_token_and_the_visible_patches(net, noise):
    """With positions that nothing can hide behind: those of the release leave the class token as it is."""
    net, imgs = net.double(), pictures(dtype=torch.float64)
    net.pos_embed.normal_(generator=torch.Generator().manual_seed(0))
    latent, _, _ = net.forward_encoder(imgs, 0.75, noise)
    tokens = net.patch_embed(imgs) + net.pos_embed[:, 1:]
    for image in range(4):
        z = torch.cat([net.cls_token[0] + net.pos_embed[0, :1], tokens[image, noise[image].argsort()[:4]]])[None]
        for block in net.blocks:
            z = block(z)
        assert close(latent[image : image + 1], net.norm(z))


# The parts


@pytest.mark.parametrize(("dim", "rows", "columns"), [(8, 2, 3), (12, 4, 1), (4, 1, 5), (64, 7, 7)])
def test_the_table_of_positions_is_its_formula(dim, rows, columns):
    table = sincos_2d(dim, rows, columns)
    assert table.shape == (1, 1 + rows * columns, dim) and table.dtype == torch.float32
    assert (table[:, 0] == 0).all()
    frequencies = [10000 ** (-4 * k / dim) for k in range(dim // 4)]
    for row in range(rows):
        for column in range(columns):
            wanted = [wave(place * f) for place in (column, row) for wave in (math.sin, math.cos) for f in frequencies]
            assert table[0, 1 + row * columns + column].tolist() == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize("size", [32, 24])
def test_patches_and_back(size):
    net, imgs = tiny(img_size=size), pictures(2, size, size)
    patches = net.patchify(imgs)
    rows = size // 8
    assert patches.shape == (2, rows * rows, 192)
    assert torch.equal(net.unpatchify(patches), imgs)
    assert torch.equal(net.patchify(net.unpatchify(patches)), patches)
    for row, column, y, x, channel in ((0, 1, 2, 3, 1), (1, 0, 7, 0, 2), (rows - 1, 1, 0, 5, 0)):
        found = patches[1, row * rows + column, (y * 8 + x) * 3 + channel]
        assert found == imgs[1, channel, 8 * row + y, 8 * column + x]


@pytest.mark.parametrize(
    ("patches", "ratio", "keep"),
    [(196, 0.75, 49), (16, 0.5, 8), (10, 0.75, 2), (9, 0.5, 4), (3, 0.01, 2), (16, 0.9, 1), (3, 1 / 3, 2)],
)
def test_how_many_patches_stay(patches, ratio, keep):
    kept, mask, ids_restore = random_masking(torch.zeros(2, patches, 5), ratio)
    assert kept.shape == (2, keep, 5) and mask.shape == ids_restore.shape == (2, patches)
    assert mask.sum(1).tolist() == [patches - keep] * 2


@pytest.mark.parametrize("patches", range(10, 1000, 10))
def test_a_tenth_of_the_patches_is_a_tenth(patches):
    """In floating point 10 * (1 - 0.9) is a hair below 1."""
    for tenths in range(1, 10):
        kept, _, _ = random_masking(torch.zeros(1, patches, 1), tenths / 10)
        assert kept.shape[1] == patches * (10 - tenths) // 10


def test_the_smallest_noise_stays_visible(noise):
    x = torch.randn(4, 16, 5).double()
    kept, mask, ids_restore = random_masking(x, 0.7, noise)
    assert mask.dtype == x.dtype
    for image in range(4):
        order = sorted(range(16), key=lambda place: noise[image, place])
        assert torch.equal(kept[image], x[image, order[:4]])
        assert mask[image].tolist() == [float(order.index(place) >= 4) for place in range(16)]
        assert torch.equal(x[image, order][ids_restore[image]], x[image])


def test_every_choice_of_patches_is_as_likely():
    """Each patch, and each pair, as often as when 4 of 16 are drawn without looking; anew for each image."""
    torch.manual_seed(0)
    _, mask, _ = random_masking(torch.zeros(4000, 16, 1), 0.75)
    visible = 1 - mask
    together = visible.T @ visible / 4000
    for found, wanted in ((together.diagonal(), 4 / 16), (together[~torch.eye(16, dtype=torch.bool)], 12 / (16 * 15))):
        assert (found - wanted).abs().max() < 5 * math.sqrt(wanted * (1 - wanted) / 4000)
    assert len(mask.unique(dim=0)) > 1500  # of 1820
    torch.manual_seed(0)
    assert torch.equal(random_masking(torch.zeros(4000, 16, 1), 0.75)[1], mask)


def test_it_starts_as_the_release_does():
    """Matrices as Xavier draws them, patch projection included; biases 0; both learned tokens small."""
    torch.manual_seed(0)
    for name, value in MaskedAutoencoderViT(**TINY).named_parameters():
        within = 5 / math.sqrt(2 * value.numel())  # five standard errors of a deviation
        if "pos_embed" in name or name == "patch_embed.proj.bias":
            continue  # fixed, and as PyTorch starts it
        if name.endswith("token"):
            assert abs(value.std() / 0.02 - 1) < within, name
        elif "norm" in name and name.endswith("weight"):
            assert (value == 1).all(), name
        elif name.endswith("bias"):
            assert (value == 0).all(), name
        else:
            bound = math.sqrt(6 / sum(value.flatten(1).shape))
            assert value.abs().max() <= bound and abs(value.std() / bound * math.sqrt(3) - 1) < within, name


# What is hidden and what counts


@torch.no_grad()
def test_a_prediction_is_made_from_the_visible_patches_alone(net, noise):
    imgs = pictures()
    _, pred, mask = net(imgs, 0.75, noise)
    removed = net.unpatchify(mask[..., None].expand(-1, -1, 192)).bool()
    assert removed.float().mean() == 0.75
    assert torch.equal(net(torch.where(removed, 7.0, imgs), 0.75, noise)[1], pred)
    assert not close(net(torch.where(removed, imgs, 7.0), 0.75, noise)[1], pred, 0.01)


def test_visible_patches_do_not_count(net, noise):
    """Neither what they are nor what is predicted of them."""
    imgs, pred = pictures(), torch.randn(4, 16, 192).requires_grad_()
    mask = random_masking(torch.zeros(4, 16, 1), 0.75, noise)[1]
    loss = net.forward_loss(imgs, pred, mask)
    loss.backward()
    assert torch.equal(pred.grad.abs().amax(2) > 0, mask.bool())
    removed = net.unpatchify(mask[..., None].expand(-1, -1, 192)).bool()
    assert torch.equal(net.forward_loss(torch.where(removed, imgs, 7.0), pred, mask), loss)
    assert not torch.equal(net.forward_loss(torch.where(removed, 7.0, imgs), pred, mask), loss)


@torch.no_grad()
@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_the_loss_number_by_number(norm_pix_loss, noise):
    """With pixels so even that the small number under the root matters."""
    net, imgs = tiny(norm_pix_loss=norm_pix_loss).double(), 0.4 + 2e-3 * pictures(dtype=torch.float64)
    loss, pred, mask = net(imgs, 0.75, noise)
    errors = []
    for image in range(4):
        for place in range(16):
            if not mask[image, place]:
                continue
            row, column = 8 * (place // 4), 8 * (place % 4)
            pixels = imgs[image, :, row : row + 8, column : column + 8].permute(1, 2, 0).flatten().tolist()
            if norm_pix_loss:
                mean = sum(pixels) / 192
                variance = sum((pixel - mean) ** 2 for pixel in pixels) / 191
                pixels = [(pixel - mean) / math.sqrt(variance + 1e-6) for pixel in pixels]
            errors += [(p - pixel) ** 2 for p, pixel in zip(pred[image, place].tolist(), pixels)]
    assert len(errors) == 4 * 12 * 192
    assert loss.shape == () and loss.item() == pytest.approx(sum(errors) / len(errors), abs=1e-9)


@torch.no_grad()
def test_the_given_noise_fixes_the_mask(net, noise):
    imgs = pictures()
    first, second = net(imgs, 0.5, noise), net(imgs, 0.5, noise)
    assert all(torch.equal(*pair) for pair in zip(first, second))
    assert torch.equal(net(imgs, 0.5, noise.exp() - 3)[2], first[2])  # only its order matters
    torch.manual_seed(0)
    drawn, again = net(imgs)[2], net(imgs)[2]
    assert drawn.sum() == again.sum() == 48 and not torch.equal(drawn, again)


# What holds whatever the weights are


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_every_parameter_learns(norm_pix_loss, noise):
    net = tiny(norm_pix_loss=norm_pix_loss).double().train()
    net(pictures(dtype=torch.float64), 0.75, noise)[0].backward()
    assert_all_learn(net)
    fixed = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert fixed == {"pos_embed", "decoder_pos_embed"}


@torch.no_grad()
def test_an_image_does_not_see_its_batch(net, noise):
    net, imgs = net.double(), pictures(dtype=torch.float64)
    loss, pred, mask = net(imgs, 0.75, noise)
    losses, preds, masks = zip(*(net(imgs[i : i + 1], 0.75, noise[i : i + 1]) for i in range(4)))
    assert close(pred, torch.cat(preds)) and torch.equal(mask, torch.cat(masks))
    assert loss.item() == pytest.approx(sum(losses).item() / 4, abs=1e-9)
    assert all(torch.equal(*pair) for pair in zip(net.train()(imgs, 0.75, noise), (loss, pred, mask)))


@torch.no_grad()
def test_weights_survive_a_file(net, noise, tmp_path):
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    before = net(pictures(), 0.75, noise)
    for parameter in net.parameters():
        parameter.zero_()
    net.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    assert all(torch.equal(*pair) for pair in zip(net(pictures(), 0.75, noise), before))


@torch.no_grad()
def test_compile(net, noise):
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    for found, wanted in zip(compiled(pictures(), 0.75, noise), net(pictures(), 0.75, noise)):
        assert close(found, wanted, 1e-5)
    features = torch.compile(net.forward_features, backend="eager", fullgraph=True)
    assert close(features(pictures()), net.forward_features(pictures()), 1e-5)
    assert compiled(pictures())[2].sum() == 48  # it draws the noise itself


@torch.no_grad()
def test_meta_and_autocast(net, noise):
    loss, pred, mask = net(pictures(), 0.75, noise)
    with torch.autocast("cpu", torch.bfloat16):
        rounded_loss, rounded, same = net(pictures(), 0.75, noise)
        assert rounded.dtype == torch.bfloat16 and rounded_loss.dtype == torch.float32
        assert torch.equal(same, mask)
        assert (rounded.float() - pred).norm() < 0.05 * pred.norm()
        assert abs(rounded_loss - loss) < 0.05 * loss
    net = net.to("meta")
    imgs = pictures().to("meta")
    shapes = [tuple(value.shape) for value in net(imgs)]
    assert shapes == [(), (4, 16, 192), (4, 16)]
    assert net.forward_features(imgs).shape == (4, 17, 48)
    assert [tuple(value.shape) for value in net.forward_encoder(imgs, 0.5)] == [(4, 9, 48), (4, 16), (4, 16)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_the_loss_is_counted_in_float32(net, dtype):
    """The errors of 16-bit predictions, added in 32 bits: 16 count removed patches to 256 or 2048."""
    imgs, pred = pictures(300).to(dtype), torch.randn(300, 16, 192).to(dtype)
    mask = random_masking(torch.zeros(300, 16, 1), 0.75)[1]
    loss = net.to(dtype).forward_loss(imgs, pred, mask.to(dtype))
    assert loss.dtype == torch.float32 and torch.equal(loss, net.float().forward_loss(imgs.float(), pred.float(), mask))


def test_a_training_step_waits_for_no_device(net, monkeypatch):
    assert not waits(lambda: net.train()(pictures())[0].backward(), monkeypatch)


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_size": 0}, "img_size must be an integer of at least 1, got 0"),
        ({"patch_size": 2.0}, "patch_size must be an integer of at least 1, got 2.0"),
        ({"in_chans": 0}, "in_chans must be an integer of at least 1, got 0"),
        ({"depth": 0}, "depth must be an integer of at least 1, got 0"),
        ({"decoder_depth": -1}, "decoder_depth must be an integer of at least 1, got -1"),
        ({"embed_dim": 0}, "embed_dim must be an integer of at least 1, got 0"),
        ({"embed_dim": 18}, "embed_dim must be a multiple of 4, for sines and cosines of two coordinates, got 18"),
        (
            {"decoder_embed_dim": 30},
            "decoder_embed_dim must be a multiple of 4, for sines and cosines of two coordinates, got 30",
        ),
        ({"num_heads": 5}, "num_heads must divide dim, got num_heads=5 and dim=48"),
        ({"decoder_num_heads": 3}, "num_heads must divide dim, got num_heads=3 and dim=32"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must be a finite number, above 0, got 0.0"),
        ({"img_size": 36}, "img_size must be a multiple of the patches' 8 pixels, got 36"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        MaskedAutoencoderViT(**{**TINY, **changes})


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (2, 1, 32, 32), (2, 3, 40, 40), (2, 3, 32, 24), (2, 3, 24, 32), (1, 2, 3, 32, 32)]
)
def test_wrong_images_are_named(net, shape):
    for call in (net, net.forward_features, net.patchify):
        with pytest.raises(ValueError) as error:
            call(torch.zeros(shape))
        assert str(error.value) == f"imgs must have shape (B, 3, 32, 32), got {shape}"


@pytest.mark.parametrize("shape", [(16, 192), (2, 15, 192), (2, 16, 191), (2, 4, 4, 192)])
def test_wrong_patches_are_named(net, shape):
    with pytest.raises(ValueError) as error:
        net.unpatchify(torch.zeros(shape))
    assert str(error.value) == f"x must have shape (B, 16, 192), got {shape}"


@pytest.mark.parametrize("ratio", [0, 1, -0.25, 1.5, 0.95, 1e-20, math.nan])
def test_a_ratio_must_leave_and_hide_something(net, ratio):
    """0.95 of 16 leaves less than one patch; 1 - 1e-20 is 1."""
    for call in (lambda: net(pictures(), ratio), lambda: random_masking(torch.zeros(2, 16, 1), ratio)):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == f"mask_ratio must keep and remove at least one of 16 patches, got {ratio!r}"


def test_without_images_there_are_tokens_but_no_loss(net):
    none = torch.zeros(0, 3, 32, 32)
    assert net.forward_features(none).shape == (0, 17, 48) and net.forward_encoder(none)[0].shape == (0, 5, 48)
    with pytest.raises(ValueError, match=r"^imgs must hold at least one image, got shape \(0, 3, 32, 32\)$"):
        net(none)


def test_a_mask_must_hide_something(net):
    with pytest.raises(
        ValueError, match=r"^the sum of mask must be finite and lie in \[1, inf\], got values from 0 to 0$"
    ):
        net.forward_loss(pictures(), torch.zeros(4, 16, 192), torch.zeros(4, 16))


@pytest.mark.parametrize("shape", [(4, 15), (3, 16), (16,), (4, 16, 1)])
def test_wrong_noise_is_named(net, shape):
    with pytest.raises(ValueError) as error:
        net(pictures(), 0.75, torch.zeros(shape))
    assert str(error.value) == f"noise must have shape (4, 16), got {shape}"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_noise_that_is_not_finite_is_named(net, noise, bad):
    noise = noise.clone()
    noise[1, 3] = bad
    calls = (net, net.forward_encoder, lambda x, ratio, noise: random_masking(torch.zeros(4, 16, 1), ratio, noise))
    for call in calls:
        with pytest.raises(ValueError, match="noise must be finite"):
            call(pictures(), 0.75, noise)


@pytest.mark.parametrize("bad", [math.nan, -1.0, 2.0])
def test_a_mask_holds_shares(net, bad):
    mask = torch.ones(4, 16)
    mask[1, 3] = bad
    with pytest.raises(ValueError, match=r"^mask must be finite and lie in \[0, 1\]"):
        net.forward_loss(pictures(), torch.zeros(4, 16, 192), mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((6, 2, 2), "dim must be a multiple of 4, for sines and cosines of two coordinates, got 6"),
        ((0, 2, 2), "dim must be an integer of at least 1, got 0"),
        ((8, 0, 2), "rows must be an integer of at least 1, got 0"),
        ((8, 2, 1.5), "columns must be an integer of at least 1, got 1.5"),
    ],
)
def test_a_bad_table_is_named(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        sincos_2d(*arguments)


def test_it_works_where_16_bits_are_the_default_with_wide_tables():
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = MaskedAutoencoderViT(8, 4, 1, 8, 1, 2, 8, 1, 2)
        loss = model(torch.rand(2, 1, 8, 8))[0]
    finally:
        torch.set_default_dtype(torch.float32)
    assert model.pos_embed.dtype == loss.dtype == torch.float32 and loss.isfinite()
