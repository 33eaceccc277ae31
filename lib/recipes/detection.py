"""DETR that finds digits in scenes (chapter 3.4)."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.detection import DETR, SetCriterion, TwoStageDETR, postprocess
from lib.detection.digits import digit_detr
from lib.training import default_device, fit
from lib.training.average_precision import average_precision
from lib.training.scenes import digit_scenes

SCENES = 500  # scenes in which a detector is judged


def build_detr(
    two_stage: bool = False, queries: int = 10, pretrain: int = 10_000, precision: str = "auto", seed: int = 0
) -> DETR:
    """The detector of chapter 3.4, whose backbone has learned to name `pretrain` digits before."""
    model = digit_detr(TwoStageDETR if two_stage else DETR, queries)
    if pretrain:
        name_digits(model.backbone[0].body, pretrain, precision, seed)
    return model


def name_digits(body: nn.Module, images: int, precision: str = "auto", seed: int = 0) -> None:
    """Trains a backbone to name single digits of all sizes, as DETR's learns ImageNet's classes before it detects.

    An interrupted training ends in `KeyboardInterrupt`: half a backbone is none.
    """

    def loss(net: nn.ModuleList, seeds: Tensor) -> Tensor:
        scenes = digit_scenes(len(seeds), int(seeds[0]), size=32, digits=(1, 1), device=seeds.device)
        return F.cross_entropy(net[1](net[0](scenes.images).amax((2, 3))), scenes.labels[:, 0])

    net, seeds = nn.ModuleList([body, nn.Linear(body.num_channels, 10)]), torch.arange(1 << 20)
    history = fit(
        net,
        loss,
        seeds,
        images=images,
        batch_size=32,
        lr=3e-3,
        schedule="onecycle",
        ema=0.99,
        precision=precision,
        seed=seed,
        show=False,
    )
    if history.stopped:
        raise KeyboardInterrupt


def detr_loss(model: DETR, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The set loss of new scenes, as many as there are images: each is made of training digits and seen once."""
    scenes = digit_scenes(len(images), seed=int(torch.randint(1 << 62, ())), device=images.device)
    criterion = set_criterion()
    return {"loss": criterion.total(criterion(model(scenes.images), scenes.targets()))}


@functools.cache
def set_criterion() -> SetCriterion:
    """DETR's matching and losses, with the paper's weights."""
    return SetCriterion(num_classes=10).to(default_device())


def detr_test(model: DETR, images: Tensor, labels: Tensor) -> dict[str, float]:
    """COCO's average precisions on scenes of test digits, always the same."""
    scenes = digit_scenes(SCENES, split="test", device=images.device)
    sizes = torch.full((SCENES, 2), scenes.images.shape[-1], device=images.device)
    found = average_precision(postprocess(model(scenes.images), sizes), scenes.targets(), scenes.images.shape[-1])
    return {name: found[name] for name in ("AP", "AP50", "AP75")}
