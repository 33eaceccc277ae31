"""The drawings of the models: each draws, and its boxes, shapes and arrows are those of the code."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn

import lib.figures
from lib.autoencoders import VAE, VQVAE, Autoencoder
from lib.detection.digits import digit_detr
from lib.diffusion import digit_unet
from lib.figures.autoencoder import autoencoder_diagram
from lib.figures.encoder_decoder import detr_diagram
from lib.figures.forward import diffusion_diagram
from lib.figures.unet import unet_diagram
from lib.figures.vae import vae_diagram
from lib.figures.vit import block_diagram, vit_diagram
from lib.figures.vqvae import vqvae_diagram
from lib.notebook.diagram import Diagram
from lib.vision_transformers import VisionTransformer

DIAGRAMS = (
    autoencoder_diagram, vae_diagram, vqvae_diagram, diffusion_diagram, unet_diagram, vit_diagram, block_diagram,
    detr_diagram,
)  # fmt: skip
IMAGE, SCENE = (2, 1, 28, 28), (2, 1, 64, 64)


def vit():
    return VisionTransformer(28, 7, 1, 10, embed_dim=48, depth=4, num_heads=4, mlp_ratio=2)


# Each drawing with its model, the input, and the boxes that are modules under another name.
MODELS = {
    autoencoder_diagram: (Autoencoder, IMAGE, {}),
    vae_diagram: (VAE, IMAGE, {}),
    vqvae_diagram: (VQVAE, IMAGE, {}),
    unet_diagram: (digit_unet, IMAGE, {"mid": "mid.block_2"}),
    vit_diagram: (vit, IMAGE, {}),
    block_diagram: (vit, IMAGE, {name: f"blocks.0.{name}" for name in ("norm1", "attn", "norm2", "mlp")}),
    detr_diagram: (digit_detr, SCENE, {"backbone.0": "backbone.0.body"}),
}
# Boxes whose arrows carry a part of what the module gives: a half, the first token, the last layer's answers.
# What it gives, and what is drawn.
PARTS = {
    (vae_diagram, "encoder"): ("B×32", "B×16"),
    (vit_diagram, "norm"): ("B×17×48", "B×48, the first token"),
    (detr_diagram, "transformer.decoder"): ("3×B×10×96", "B×10×96"),
    (detr_diagram, "class_embed"): ("3×B×10×11", "B×10×11"),
    (detr_diagram, "bbox_embed"): ("3×B×10×4", "B×10×4"),
}


def outputs(build, shape, names):
    """What each named module of the model gives for a batch of two, written as on an arrow."""
    model, found = build().eval(), {}
    for name in names:
        model.get_submodule(name).register_forward_hook(
            lambda module, given, out, name=name: found.update({name: written(getattr(out, "shape", ()))})
        )
    times = [torch.zeros(2, dtype=torch.long)] if build is digit_unet else []
    with torch.no_grad():
        model(torch.zeros(shape), *times)
    return found


def written(shape):
    return "×".join("B" if size == 2 else str(size) for size in shape)


def modules(diagram, build, other):
    """Which boxes are modules of the model, and by what name."""
    known = {name for name, _ in build().named_modules()}
    found = {node.name: other.get(node.name, node.name) for node in diagram.nodes}
    return {box: name for box, name in found.items() if name in known}


@pytest.mark.parametrize("draw", DIAGRAMS)
def test_draws_and_nothing_overlaps(draw):
    layout = draw().layout()
    assert layout.clashes() == []
    assert len(layout.labels) == sum(bool(arrow.label) for arrow in draw().arrows)


def test_every_drawing_is_tested():
    found = set()
    for module in pkgutil.iter_modules(lib.figures.__path__):
        functions = inspect.getmembers(importlib.import_module(f"lib.figures.{module.name}"), inspect.isfunction)
        found |= {f for _, f in functions if inspect.signature(f).return_annotation is Diagram and f.__name__[0] != "_"}
    assert found == set(DIAGRAMS)


def test_each_says_what_it_shows_in_words_of_its_own():
    alts = [draw().alt for draw in DIAGRAMS]
    assert len(set(alts)) == len(alts)
    assert all(alt[0].isupper() and alt.count(" ") > 15 for alt in alts)


@pytest.mark.parametrize("draw", MODELS)
def test_every_network_is_a_module_of_the_model(draw):
    build, _, other = MODELS[draw]
    networks = {node.name for node in draw().nodes if node.kind == "network"}
    assert networks and networks - modules(draw(), build, other).keys() == set()


@pytest.mark.parametrize("draw", MODELS)
def test_the_shapes_on_the_arrows_are_those_of_the_model(draw):
    build, shape, other = MODELS[draw]
    names = modules(draw(), build, other)
    given = outputs(build, shape, names.values())
    checked = 0
    for arrow in draw().arrows:
        if arrow.source in names and "×" in arrow.label:
            module, said = given[names[arrow.source]], arrow.label
            assert (module, said) == PARTS.get((draw, arrow.source), (said, said)), arrow
            checked += 1
        if arrow.source in ("x", "x_t", "images") and "×" in arrow.label:
            assert arrow.label == written(shape)
    assert checked >= 1


def test_the_skips_of_the_unet_carry_what_its_blocks_add():
    """A block of the way up takes the map from below and one of the way down: as many channels as both have."""
    unet, out = digit_unet(), {}
    for arrow in unet_diagram().arrows:
        out.setdefault(arrow.source, arrow.label)
    for name in ("up.1.block.0", "up.1.block.1", "up.0.block.0", "up.0.block.1"):
        sources = [arrow.source for arrow in unet_diagram().arrows if arrow.target == name]
        channels = [int(out[source].split("×")[1]) for source in sources]
        assert len(channels) == 2 and sum(channels) == unet.get_submodule(name).in_channels


def test_the_codes_have_the_size_that_is_drawn():
    rows, columns = VQVAE().quantize.embed.shape
    drawn = {node.name: node.note for node in vqvae_diagram().nodes}
    assert drawn["embed"] == f"{rows}×{columns}" and drawn["indices"] == "B×7×7"
    assert VQVAE().encode(torch.zeros(IMAGE)).shape[1:] == (7, 7)
    assert {node.note for node in detr_diagram().nodes if node.name == "query_embed"} == {"10×96"}
    assert digit_detr().query_embed.weight.shape == (10, 96)


def test_operations_are_called_by_their_names_in_the_code():
    quantizer = VQVAE().quantize
    operations = {node.name for node in vqvae_diagram().nodes if node.kind == "operation"}
    assert operations == {"nearest", "lookup"} and all(callable(getattr(quantizer, name)) for name in operations)
    assert callable(VAE().reparameterize) and isinstance(VAE().encoder, nn.Module)
