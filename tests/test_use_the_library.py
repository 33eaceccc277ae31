"""The code on the page "Use the library" runs as it stands, but for sizes, on made-up pictures and weights."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lib import run
from lib.detection import DETR, ResNet, Transformer
from lib.training import Labelled, load_mnist
from lib.vision_transformers import MaskedAutoencoderViT, VisionTransformer

PAGE = Path(__file__).resolve().parent.parent / "book" / "use-the-library.md"


def blocks(anchor, smaller, language="python"):
    """The blocks of code in the section under `anchor`, with `smaller` numbers in place of the page's, each of which
    must stand there."""
    section = re.search(rf"^\({anchor}\)=\n(.*?)(?=^\([\w-]+\)=\n|\Z)", PAGE.read_text("utf-8"), re.M | re.S)[1]
    for on_page, here in smaller.items():
        assert section.count(on_page) == 1, f"the page has no single {on_page!r}"
        section = section.replace(on_page, here)
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)
    assert found, f"{anchor} has no code"
    return found


def run_all(sources, **names):
    """What the blocks have made, by name; they run one after the other as cells do."""
    for source in sources:
        exec(compile(source, PAGE.name, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder in which the blocks run, and stay random alike."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return tmp_path


def test_own_pictures_are_learned_and_drawn(place, capsys):
    random = np.random.default_rng(0)
    for label, mode in (("cat", "RGB"), ("dog", "L")):
        (place / "pictures" / label).mkdir(parents=True)
        for number in range(4):
            shape = (40, 30, 3) if mode == "RGB" else (28, 50)
            picture = Image.fromarray(random.integers(256, size=shape, dtype=np.uint8))
            picture.save(place / "pictures" / label / f"{number}.png")
    smaller = {
        "ch=64": "ch=32",
        "images=400_000, batch_size=32": "images=16, batch_size=4",
        ", 20, target": ", 2, target",
    }
    sources = blocks("own-pictures", smaller)
    assert sum(len(source.splitlines()) for source in sources) <= 40
    made = run_all(sources)
    assert made["images"].shape == (8, 3, 32, 32) and made["labels"].tolist() == [0] * 4 + [1] * 4
    assert made["images"].min() < -0.9 and made["images"].max() > 0.9
    with Image.open("drawn.png") as picture:
        assert made["drawn"].isfinite().all() and picture.size == (256, 32)
    fresh = made["build"]()
    assert not all(tensor.equal(made["model"].state_dict()[name]) for name, tensor in fresh.state_dict().items())


TINY = {"embed_dim": 48, "depth": 1, "num_heads": 3}


def tiny_detr():
    return DETR(ResNet((1, 1, 1, 1)), Transformer(32, 2, 1, 1, 64), 91)


def test_published_weights_are_loaded_and_asked():
    """A tiny model saves the file that its own kind is then given, wrapped as its release is."""
    smaller = {
        "detr_resnet50()": "tiny_detr()",
        '"astronaut", 800': '"astronaut", 64',
        "[[800, 800]]": "[[64, 64]]",
        "threshold=0.7": "threshold=0.0",
        "VisionTransformer()": "VisionTransformer(**TINY)",
        "embed_dim=768, depth=12, num_heads=12": "**TINY, decoder_depth=1",
    }
    detr, mae = tiny_detr(), MaskedAutoencoderViT(**TINY, decoder_depth=1)
    torch.save({"model": detr.state_dict()}, "detr-r50-e632da11.pth")
    save_file(VisionTransformer(**TINY).state_dict(), "model.safetensors")
    torch.save({"model": mae.state_dict()}, "mae_visualize_vit_base.pth")
    first, *others = blocks("published-weights", smaller)
    of_detr, of_vit, of_mae = (run_all([first, other], TINY=TINY, tiny_detr=tiny_detr) for other in others)
    assert of_detr["found"][0]["boxes"].shape == (100, 4) and of_detr["found"][0]["labels"].max() <= 90
    assert all(tensor.equal(detr.state_dict()[name]) for name, tensor in of_detr["model"].state_dict().items())
    assert of_vit["best"].indices.shape == (1, 5)
    assert of_mae["filled"].shape == (3, 224, 224) and of_mae["mask"].mean() == 0.75
    assert all(len(block.splitlines()) <= 6 for block in others)


def test_a_file_of_the_command_is_loaded(monkeypatch, capsys):
    digits = {split: Labelled(*(part[:100] for part in load_mnist(split))) for split in ("train", "test")}
    monkeypatch.setattr(run, "load_mnist", lambda split, device="cpu": digits[split])
    monkeypatch.setattr(run, "SAMPLES", 70)
    [command] = blocks("where-weights-go", {}, "bash")
    python, flag, module, *arguments = shlex.split(command)
    assert (python, flag, module) == ("python", "-m", "lib.run")
    run.main([*arguments, "--images", "64", "--batch-size", "32"])
    made = run_all(blocks("where-weights-go", {}))
    assert made["made"]["images"] == "64" and made["made"]["latent_dim"] == "2" and not made["model"].training
