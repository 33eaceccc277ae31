import pytest
import torch
from torch import nn

from lib.detection.digits import digit_detr
from lib.diffusion import GaussianDiffusion, cosine_betas, ddim, digit_unet, linear_betas, sample
from lib.diffusion.guidance import classifier_free
from lib.diffusion.latent import digit_first_stage, digit_latent_denoiser
from lib.recipes import detection, vision_transformers
from lib.training import CheckpointError, digit_statistics, frechet_distance, load_mnist, pretrained
from lib.vision_transformers.digits import digit_mae


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    return tmp_path


def test_what_was_published_is_loaded_exactly(folder):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2).train()
    assert pretrained.publish("linear", model, {"made by": "a test"}) == folder / "linear.safetensors"
    assert pretrained.load("linear", other) == {"made by": "a test"}
    assert torch.equal(model.weight, other.weight) and torch.equal(model.bias, other.bias) and not other.training


def test_bad_input_is_named(folder):
    pretrained.publish("linear", nn.Linear(3, 2), {})
    with pytest.raises(ValueError, match=r"^name must be one of the weights that ship, linear, got 'vqvae'$"):
        pretrained.load("vqvae", nn.Linear(3, 2))
    wrong = nn.Linear(4, 2)
    before = wrong.weight.clone()
    with pytest.raises(ValueError, match=r"^model does not fit the weights 'linear': 1 names differ, first weight$"):
        pretrained.load("linear", wrong)
    assert torch.equal(wrong.weight, before)
    (folder / "linear.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"linear\.safetensors is not a whole safetensors file"):
        pretrained.load("linear", nn.Linear(3, 2))


def test_a_file_that_is_not_the_one_published_is_refused(folder):
    file = pretrained.publish("linear", nn.Linear(3, 2), {})
    pretrained.publish("other", nn.Linear(3, 2), {})
    pretrained.load("linear", nn.Linear(3, 2))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # one bit of the last weight: still a whole file
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(
        CheckpointError, match=r"linear\.safetensors is not what was published: SHA-256 \w{64}, expected"
    ):
        pretrained.load("linear", model)
    assert torch.equal(model.weight, before)
    pretrained.publish("linear", nn.Linear(3, 2), {})  # a new one has a new sum
    pretrained.load("linear", model)
    pretrained.load("other", model)
    (folder / "README.md").unlink()
    with pytest.raises(CheckpointError, match=r"none stands in README\.md"):
        pretrained.load("linear", model)


def test_shipped_files_say_how_they_were_made_and_are_small():
    files = sorted(pretrained.FOLDER.glob("*.safetensors"))
    assert [file.stem for file in files] == ["conditional", "ddpm", "detr", "first_stage", "latent", "mae"]
    assert all(file.stat().st_size < 4_000_000 for file in files)
    made = pretrained.load("ddpm", digit_unet())
    assert made["model"] == "ddpm" and int(made["images"]) >= 100_000 and float(made["frechet_distance"]) <= 1.5
    made = pretrained.load("conditional", digit_unet(num_classes=10))
    assert made["model"] == "conditional" and int(made["images"]) >= 100_000
    assert float(made["frechet_distance"]) <= 0.58 and float(made["test_loss"]) < float(made["unconditional_test_loss"])
    made = pretrained.load("detr", digit_detr())
    assert made["model"] == "detr" and int(made["images"]) >= 50_000 and float(made["AP50"]) >= 0.95
    stage = digit_first_stage()
    made = pretrained.load("first_stage", stage)
    assert made["model"] == "first_stage" and int(made["images"]) >= 100_000 and float(made["test_error"]) <= 0.0022
    images = 2 * load_mnist("test").images[:500] - 1
    assert abs(stage.to_latent(images, torch.randn(500, 4, 7, 7)).std() - 1) < 0.05
    made = pretrained.load("latent", digit_latent_denoiser())
    assert made["model"] == "latent" and int(made["images"]) >= 100_000
    assert float(made["frechet_distance"]) <= 2 and float(made["test_loss"]) < float(made["unconditional_test_loss"])
    made = pretrained.load("mae", digit_mae())
    assert made["model"] == "mae" and int(made["images"]) >= 100_000 and float(made["test_error"]) <= 0.0417


@pytest.mark.slow
def test_shipped_conditional_model_draws_what_is_asked():
    """Better than the row of guided digits: at w = 0 and 1, at least 88.6 and 99.4 % are read as asked."""
    model, process = digit_unet(num_classes=10), GaussianDiffusion(cosine_betas(1000))
    pretrained.load("conditional", model)
    labels, right = torch.arange(200) % 10, {}
    for scale in (0.0, 1.0):
        drawn = ddim.sample(
            classifier_free(model, labels, scale),
            process,
            (200, 1, 28, 28),
            20,
            generator=torch.Generator().manual_seed(0),
            target="v",
            spacing="trailing",
        )
        right[scale] = digit_statistics((drawn.clamp(-1, 1) + 1) / 2, labels)["accuracy"]
    assert right[0.0] >= 0.886 and right[1.0] >= 0.994


@pytest.mark.slow
def test_shipped_latent_diffusion_draws_what_is_asked():
    """Table row of latent diffusion: at w = 3 at least 97 % are read as what was asked for."""
    stage, model, process = digit_first_stage(), digit_latent_denoiser(), GaussianDiffusion(linear_betas(1000))
    pretrained.load("first_stage", stage)
    pretrained.load("latent", model)
    labels, generator = torch.arange(200) % 10, torch.Generator().manual_seed(0)
    guided, options = classifier_free(model, labels, 3.0), {"target": "v", "clip": False, "spacing": "trailing"}
    codes = ddim.sample(guided, process, (200, 4, 7, 7), 10, generator=generator, **options)
    with torch.no_grad():
        drawn = (stage.to_image(codes).clamp(-1, 1) + 1) / 2
    assert digit_statistics(drawn, labels)["accuracy"] >= 0.97 and frechet_distance(drawn) < 4


def test_shipped_mae_fills_gaps():
    model, test = digit_mae(), load_mnist("test")
    with torch.no_grad():
        before = vision_transformers.mae_test(model.eval(), test.images[:500], test.labels[:500])["test_error"]
        pretrained.load("mae", model)
        after = vision_transformers.mae_test(model, test.images[:500], test.labels[:500])["test_error"]
    assert after < 0.0417 < before


@pytest.mark.slow
def test_shipped_detr_finds_digits(monkeypatch):
    monkeypatch.setattr(detection, "SCENES", 150)
    model, test = digit_detr().eval(), load_mnist("test")
    with torch.no_grad():
        assert detection.detr_test(model, test.images, test.labels)["AP50"] < 0.05
        pretrained.load("detr", model)
        assert detection.detr_test(model, test.images, test.labels)["AP50"] > 0.93


@pytest.mark.slow
def test_shipped_ddpm_draws_digits():
    model = digit_unet()
    pretrained.load("ddpm", model)
    process, generator = GaussianDiffusion(linear_betas(1000)), torch.Generator().manual_seed(0)
    drawn = sample(model, process, (200, 1, 28, 28), steps=25, variance="small", generator=generator)
    assert frechet_distance((drawn.clamp(-1, 1) + 1) / 2) < 5
