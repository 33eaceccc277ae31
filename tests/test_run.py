import os
import re
import subprocess
import sys

import pytest

from lib import run
from lib.autoencoders import VAE
from lib.diffusion import digit_unet
from lib.diffusion.latent import digit_first_stage, digit_latent_denoiser
from lib.recipes import detection, diffusion
from lib.training import CheckpointError, Labelled, load_mnist, load_weights, pretrained

RESULT = r"{model}: {images} images on {processes} × cpu, [\d.]+ s\n  loss: ([\d.]+) -> ([\d.]+)\n"


@pytest.mark.slow
@pytest.mark.parametrize("model, measure", [("autoencoder", "test_error"), ("vae", "test_elbo")])
def test_one_process_trains_and_reports(model, measure, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "SAMPLES", 100)
    path = tmp_path / "run.safetensors"
    arguments = [model, "--latent-dim", "3", "--images", "1024", "--batch-size", "64", "--checkpoint", str(path)]
    run.main(arguments)
    printed = capsys.readouterr().out
    found = re.match(RESULT.format(model=model, images="1,024", processes=1), printed)
    assert found and float(found[2]) < 0.7 * float(found[1])
    assert measure in printed and re.search(r"Fréchet distance of 100 samples: [\d.]+\n$", printed)
    run.main(arguments)  # the checkpoint holds a finished training
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"goes on from {path}: 1,024 of 1,024 images" and told[2:] == printed.splitlines()[1:]


@pytest.mark.slow
@pytest.mark.parametrize("model, measure", [("vit", "accuracy"), ("mae", "error"), ("swin", "accuracy")])
def test_models_that_do_not_draw_report_what_they_learned(model, measure, capsys, monkeypatch):
    few = {split: load_mnist(split) for split in ("train", "test")}
    few["test"] = Labelled(*(part[:200] for part in few["test"]))  # judged ten times
    monkeypatch.setattr(run, "load_mnist", lambda split, device="cpu": few[split])
    run.main([model, "--images", "1600", "--batch-size", "16"])
    printed = capsys.readouterr().out
    found = re.match(RESULT.format(model=model, images="1,600", processes=1), printed)
    assert found and float(found[2]) < 0.95 * float(found[1])
    before, after = map(float, re.search(rf"  test_{measure}: (\S+) -> (\S+)\n$", printed).groups())
    assert after > before if measure == "accuracy" else after < before


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--pretrain", "0"], ["--two-stage", "--queries", "6", "--pretrain", "320"]])
def test_a_detector_trains_and_is_judged_on_scenes(arguments, capsys, monkeypatch):
    monkeypatch.setattr(detection, "SCENES", 10)
    run.main(["detr", "--images", "480", *arguments])
    printed = capsys.readouterr().out
    found = re.match(RESULT.format(model="detr", images="480", processes=1), printed)
    assert found and float(found[2]) < 0.8 * float(found[1])
    assert re.search(r"  AP: \S+ -> \S+\n  AP50: \S+ -> \S+\n  AP75: \S+ -> \S+\n$", printed)


@pytest.mark.slow
@pytest.mark.parametrize("model, classes, worst", [("ddpm", 0, 0.9), ("conditional", 10, 1.0)])
def test_a_pixel_diffusion_trains_reports_and_is_published(model, classes, worst, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "SAMPLES", 100)
    few = {split: Labelled(*(part[:320] for part in load_mnist(split))) for split in ("train", "test")}
    monkeypatch.setattr(run, "load_mnist", lambda split, device="cpu": few[split])
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    run.main([model, "--images", "320", "--publish"])
    found = re.match(RESULT.format(model=model, images="320", processes=1), capsys.readouterr().out)
    assert found and float(found[2]) < worst * float(found[1])
    made = pretrained.load(model, digit_unet(num_classes=classes))
    assert (
        made["model"] == model
        and made["images"] == "320"
        and made["batch_size"] == "32"
        and float(made["frechet_distance"]) > 0
    )


@pytest.mark.slow
def test_a_first_stage_measures_its_scale_and_latent_diffusion_is_trained_in_its_codes(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "SAMPLES", 100)
    few = {split: Labelled(*(part[:1000] for part in load_mnist(split))) for split in ("train", "test")}
    monkeypatch.setattr(run, "load_mnist", lambda split, device="cpu": few[split])
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    diffusion.shipped_first_stage.cache_clear()  # trained here and now
    try:
        run.main(["first_stage", "--images", "320", "--publish"])
        printed, stage = capsys.readouterr().out, digit_first_stage()
        pretrained.load("first_stage", stage)
        assert re.match(RESULT.format(model="first_stage", images="320", processes=1), printed)
        codes = diffusion.latent_codes(few["train"].images)
        assert codes.shape == (1000, 4, 7, 7) and abs(codes.std() - 1) < 0.05 and stage.scale_factor != 1
        run.main(["latent", "--images", "320", "--publish"])
        found = re.match(RESULT.format(model="latent", images="320", processes=1), capsys.readouterr().out)
        assert found and float(found[2]) < float(found[1])
        made = pretrained.load("latent", digit_latent_denoiser())
        assert made["model"] == "latent" and float(made["frechet_distance"]) > 0
    finally:
        diffusion.shipped_first_stage.cache_clear()


@pytest.mark.slow
def test_two_processes_train_one_model_and_one_of_them_reports():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    command += ["lib.run", "vae", "--latent-dim", "3", "--images", "512", "--batch-size", "128"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(
        RESULT.format(model="vae", images="512", processes=2) + r"(  .*\n){3}  Fréchet distance of .*\n", done.stdout
    )
    assert found and float(found[2]) < float(found[1]), done.stdout


@pytest.mark.parametrize("arguments", [[], ["gan"], ["vae", "--network", "transformer"], ["vae", "--images", "many"]])
def test_a_wrong_command_line_is_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.main(arguments)
    assert "usage: python -m lib.run" in capsys.readouterr().err


def test_a_wrong_number_is_refused_by_name():
    for arguments, name in (
        (["--images", "0"], "images"),
        (["--lr", "-1"], "lr"),
        (["--latent-dim", "0"], "latent_dim"),
    ):
        with pytest.raises(ValueError, match=f"^{name} must "):
            run.main(["vae", *arguments])


@pytest.fixture
def few(monkeypatch, tmp_path):
    """So few digits that a run takes a second, and a place for what it publishes."""
    digits = {split: Labelled(*(part[:200] for part in load_mnist(split))) for split in ("train", "test")}
    monkeypatch.setattr(run, "load_mnist", lambda split, device="cpu": digits[split])
    monkeypatch.setattr(run, "SAMPLES", 70)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    return ["vae", "--latent-dim", "2", "--images", "320", "--batch-size", "32", "--checkpoint", f"{tmp_path}/c"]


def test_a_finished_training_is_not_published_as_another(few):
    """The weight of the KL term is hidden in the model, and changes neither shapes nor data."""
    run.main(few)
    with pytest.raises(CheckpointError, match=r"c belongs to another training: .*settings\.beta was 1\.0, now 4\.0"):
        run.main([*few, "--beta", "4", "--publish"])
    assert list(pretrained.FOLDER.glob("*.safetensors")) == []
    run.main([*few, "--may-differ", "device", "--publish"])
    assert pretrained.load("vae", VAE(2))["beta"] == "1.0"


def test_every_option_is_part_of_the_identity_or_told_to_fit(few, monkeypatch):
    def watched(*arguments, **options):
        told.update(options)
        raise InterruptedError

    told = {}
    monkeypatch.setattr(run, "fit", watched)
    for model, recipe in run.RECIPES.items():
        monkeypatch.setitem(run.RECIPES, model, recipe._replace(prepare=None))
        with pytest.raises(InterruptedError):
            run.main([model, *(["--pretrain", "0"] if model == "detr" else [])])
        options = vars(run.parse([model])).keys()
        assert options - told.keys() - told["settings"].keys() == {"publish", "overwrite"}
        assert told["settings"]["model"] == model


def test_an_interrupted_run_publishes_nothing_and_goes_on_later(few, monkeypatch, capsys):
    calls, recipe = [], run.RECIPES["vae"]

    def loss(model, images, labels):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return recipe.loss(model, images, labels)

    monkeypatch.setitem(run.RECIPES, "vae", recipe._replace(loss=loss))
    with pytest.raises(KeyboardInterrupt):
        run.main([*few, "--publish"])
    told = "stopped after 160 of 320 images\nthe same command goes on from {}: 160 of 320 images\n"
    assert capsys.readouterr().out == told.format(few[-1])
    assert list(pretrained.FOLDER.glob("*.safetensors")) == []
    run.main([*few, "--publish"])
    assert capsys.readouterr().out.startswith(f"goes on from {few[-1]}: 160 of 320 images\nvae: 320 images")
    assert len(calls) == 6 + 5 and pretrained.load("vae", VAE(2))["images"] == "320"


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


def test_an_interruption_that_left_no_file_says_so(few, monkeypatch, capsys):
    monkeypatch.setattr(run, "fit", interrupted)
    for arguments, told in (
        (few, f"interrupted before {few[-1]} was first written: the same command begins anew\n"),
        (few[:-2], "nothing was kept; with --checkpoint FILE the same command goes on where it was interrupted\n"),
    ):
        with pytest.raises(KeyboardInterrupt):
            run.main(arguments)
        assert capsys.readouterr().out == told


def test_more_images_are_another_training(few):
    run.main(few)
    few[few.index("320")] = "640"
    with pytest.raises(
        CheckpointError, match=r"c is of a training of 320 images and cannot go on to 640: .*--images 320"
    ):
        run.main(few)


def test_weights_that_ship_are_not_overwritten_silently(few, monkeypatch, capsys):
    pretrained.publish("vae", VAE(2), {"images": "70"})
    before = pretrained.path("vae").read_bytes()
    with monkeypatch.context() as without_training, pytest.raises(SystemExit, match="2"):
        without_training.setattr(run, "fit", None)
        run.main([*few, "--publish"])
    assert "vae.safetensors is there, made from 70 images; --overwrite replaces it" in capsys.readouterr().err
    assert pretrained.path("vae").read_bytes() == before
    run.main([*few, "--publish", "--overwrite"])
    assert pretrained.load("vae", VAE(2))["images"] == "320"


def test_a_trained_file_is_loaded_by_one_function(few):
    run.main([*few, "--publish"])
    model, published = VAE(2), VAE(2)
    assert load_weights(few[-1], model)["beta"] == "1.0"
    pretrained.load("vae", published)
    assert all(tensor.equal(published.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_help_tells_of_every_option_and_its_default():
    commands = next(action for action in run.parser()._actions if action.dest == "model").choices
    assert commands.keys() == {*run.RECIPES, "experiment"}
    for name, command in commands.items():
        for action in command._actions:
            assert action.help, f"{name} {action.option_strings}"
            plain = action.default in (None, False, [], "==SUPPRESS==") and action.dest != "images"
            assert plain or "(default: " in action.help, f"{name} {action.option_strings}"
        assert command.format_help()
