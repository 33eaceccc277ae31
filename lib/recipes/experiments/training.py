"""Chapter 3.4: a detector after its first small scenes, whole and without one of its ingredients."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.detection import DETR, SetCriterion, SmallBackbone, TwoStageDETR, postprocess
from lib.detection.digits import digit_detr
from lib.recipes.experiments import Experiment
from lib.training import History, default_device, fit
from lib.training.average_precision import average_precision
from lib.training.scenes import Scenes, digit_scenes

SCENES = 1_200
SMALL: dict = {"size": 48, "digits": (1, 3), "sides": (14.0, 24.0)}
W = 0.3  # weight of "no object"
RECIPE: dict = {
    "batch_size": 16,
    "lr": 1e-3,
    "schedule": "onecycle",
    "ema": 0.99,
    "clip": 0.1,
    "precision": "no",
}


class LastOnly(SetCriterion):
    """No losses for the earlier layers of the decoder."""

    def forward(self, outputs: dict, targets) -> dict[str, Tensor]:
        """As `SetCriterion.forward`, of the last layer and the proposals."""
        return super().forward({**outputs, "aux_outputs": []}, targets)


ARMS: dict[str, dict] = {
    "all of it": {},
    "no earlier losses": {"criterion": LastOnly(10, eos_coef=W)},
    "30 queries": {"num_queries": 30},
    "∅ in full": {"criterion": SetCriterion(10, eos_coef=1.0)},
    "places, no eyes": {"eyes": False},
    "eyes, no places": {"kind": DETR},
}


def learn(model: nn.Module, images: int, options: dict, criterion: SetCriterion | None = None, **changes) -> History:
    """Trains a detector on so many new scenes of these `options`; `changes` are those of the `RECIPE`."""
    criterion = (criterion or SetCriterion(10, eos_coef=W)).to(default_device())

    def loss(model: nn.Module, seeds: Tensor) -> Tensor:
        scenes = digit_scenes(len(seeds), int(seeds[0]), **{**options, "device": default_device()})
        return criterion.total(criterion(model(scenes.images), scenes.targets()))

    return fit(model.to(default_device()), loss, torch.arange(10**6), images=images, **{**RECIPE, **changes})


@lru_cache(1)
def namer(seed: int = 0) -> nn.Sequential:
    """A backbone that has learned to name single digits, with the layer that names them."""

    def loss(net: nn.Module, seeds: Tensor) -> Tensor:
        scenes = digit_scenes(len(seeds), int(seeds[0]), size=32, digits=(1, 1), device=default_device())
        return F.cross_entropy(net(scenes.images), scenes.labels[:, 0])

    torch.manual_seed(seed)
    net = nn.Sequential(SmallBackbone(1, (24, 48, 96)), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(96, 10))
    recipe = {**RECIPE, "batch_size": 32, "lr": 3e-3, "clip": None}
    fit(net.to(default_device()), loss, torch.arange(10**6), images=6_000, **recipe, seed=seed, show=False)
    return net


def detector(kind: type[DETR] = TwoStageDETR, eyes: bool = True, seed: int = 0, **settings) -> DETR:
    """A detector of digits, whose backbone has learned to name them if it has `eyes`."""
    torch.manual_seed(seed)
    model = digit_detr(kind, **settings)
    if eyes:
        model.backbone[0].body.load_state_dict(namer(seed)[0].state_dict())
    return model.to(default_device())


def train(arm: str, seed: int = 0) -> DETR:
    """One of the `ARMS` after its scenes."""
    settings = dict(ARMS[arm])
    criterion = settings.pop("criterion", None)
    model = detector(seed=seed, **settings)
    learn(model, SCENES, SMALL, criterion, seed=seed, show=False)
    return model


def found(outputs: dict, scenes: Scenes, threshold: float = 0.0) -> list[dict[str, Tensor]]:
    """Answers in pixels for each scene, on the CPU."""
    sizes = torch.full((len(scenes.images), 2), scenes.images.shape[-1], device=scenes.images.device)
    return [{name: x.cpu() for name, x in one.items()} for one in postprocess(outputs, sizes, threshold)]


def ap50(outputs: dict, scenes: Scenes) -> float:
    """Average precision of the answers at an overlap of a half."""
    return average_precision(found(outputs, scenes), scenes.targets(), scenes.images.shape[-1])["AP50"]


def run(arm: str, seed: int) -> dict[str, float]:
    """AP50 of one arm on 300 small scenes of test digits."""
    model, scenes = train(arm, seed), digit_scenes(300, 0, "test", **SMALL, device=default_device())
    with torch.no_grad():
        return {"AP50": ap50(model(scenes.images), scenes)}


EXPERIMENT = Experiment(run, {arm: {"arm": arm} for arm in ARMS})
