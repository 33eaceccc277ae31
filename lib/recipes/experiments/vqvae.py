"""Chapter 1.3: a VQ-VAE as it is, and with one of its ideas taken out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.autoencoders import VQVAE
from lib.recipes.experiments import Experiment
from lib.training import default_device, fit, load_mnist

IMAGES = 4_000


def whole(model: VQVAE, x: Tensor) -> Tensor:
    """Equation 3."""
    return model.loss(x)["loss"]


def cut(model: VQVAE, x: Tensor) -> Tensor:
    """Equation 3, but the decoder's gradient ends at the codes."""
    found = model.quantize(model.features(x))
    drawing = model.dec(found.z_q.detach())
    return F.mse_loss(drawing, x) + model.commitment * found.commitment_loss


ARMS: dict[str, dict] = {
    "as it is": {},
    "no commitment": {"commitment": 0.0},
    "no straight-through": {"loss": cut},
    "no restart": {"restart": 0.0},
}


def train(arm: str, seed: int = 0, **changes) -> VQVAE:
    """A small VQ-VAE after its digits; `changes` are options of `VQVAE` beside those of the arm."""
    options = {"channels": 32, "num_blocks": 0, "restart": 0.5, **ARMS[arm], **changes}
    loss = options.pop("loss", whole)
    torch.manual_seed(seed)
    model = VQVAE(256, 16, **options).to(default_device())
    fit(
        model,
        loss,
        load_mnist("train", default_device()).images,
        images=IMAGES,
        batch_size=16,
        lr=7e-3,
        schedule="onecycle",
        precision="no",
        seed=seed,
        show=False,
    )
    return model


@torch.no_grad()
def judge(model: VQVAE) -> dict[str, float]:
    """Squared error a pixel, perplexity and mean length of the encoder's vectors, on 2000 test digits."""
    digits = load_mnist("test", default_device()).images[:2000]
    again, found = model(digits)
    return {
        "error": F.mse_loss(again, digits).item(),
        "perplexity": found.perplexity.item(),
        "length of vectors": model.features(digits).norm(dim=1).mean().item(),
    }


def run(arm: str, seed: int) -> dict[str, float]:
    """What `judge` says of one arm."""
    return judge(train(arm, seed))


EXPERIMENT = Experiment(run, {arm: {"arm": arm} for arm in ARMS})
