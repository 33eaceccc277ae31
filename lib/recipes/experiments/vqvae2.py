"""Chapter 1.4: digits in one map of codes or in two, whose top is trained as published or has a duty of its own."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.autoencoders import VQVAE, VQVAE2, VectorQuantizer
from lib.recipes.experiments import Experiment
from lib.training import History, default_device, digit_statistics, fit, load_mnist

IMAGES = 4_000
K = 128  # words in each vocabulary
SIZES: dict = {
    "channels": 40,
    "num_blocks": 1,
    "hidden": 32,
    "dim": 8,
    "num_codes": K,
    "ema": 0.95,
    "restart": 0.5,
}
WORDS = (4, 16, 64, K)  # vocabularies at which a code is charged
BITS = 250  # at which codes are compared


def padded_digits(split: str, count: int) -> Tensor:
    """The first digits, with two pixels of paper around them (count, 1, 32, 32)."""
    return F.pad(load_mnist(split, default_device()).images[:count], (2, 2, 2, 2))


def cut(images: Tensor) -> Tensor:
    """Without the paper, on the CPU, ready to be judged."""
    return images[..., 2:-2, 2:-2].clamp(0, 1).cpu()


def published_loss(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Error and commitment."""
    return model.loss(x)


def with_duty(model: VQVAE2, x: Tensor) -> dict[str, Tensor]:
    """The same, and the error of what the top draws alone."""
    top, bottom = model.quantize_levels(x)
    twice = torch.cat([top.z_q, top.z_q])
    alone = torch.zeros_like(bottom.z_q)
    whole, sketch = model.draw(twice, torch.cat([bottom.z_q, alone])).chunk(2)
    error, duty = F.mse_loss(whole, x), F.mse_loss(sketch, x)
    commitment = top.commitment_loss + bottom.commitment_loss
    loss = error + 0.5 * duty + model.commitment * commitment
    return {"loss": loss, "both levels": error, "top alone": duty}


LOSSES = {"one level": published_loss, "two, as published": published_loss, "two, with a duty": with_duty}


def train(arm: str, seed: int = 0, images: int = IMAGES) -> tuple[nn.Module, History]:
    """A network after its digits, and how its loss fell."""
    torch.manual_seed(seed)
    model = VQVAE(**SIZES) if arm == "one level" else VQVAE2(1, **SIZES)
    model = model.to(default_device(), memory_format=torch.channels_last)  # quicker on a CPU
    history = fit(
        model,
        LOSSES[arm],
        padded_digits("train", 60_000),
        images=images,
        batch_size=16,
        lr=8e-3,
        schedule="onecycle",
        clip=1.0,
        precision="no",
        seed=seed,
        show=False,
    )
    return model, history


@torch.no_grad()
def levels(model: VQVAE2, images: Tensor) -> dict[str, Tensor]:
    """Drawn by both levels, by the top alone, by the bottom alone."""
    top, bottom = model.encode(images)
    top, bottom = model.quantize_t.lookup(top), model.quantize_b.lookup(bottom)
    return {
        "both": cut(model.draw(top, bottom)),
        "top alone": cut(model.draw(top, torch.zeros_like(bottom))),
        "bottom alone": cut(model.draw(torch.zeros_like(top), bottom)),
    }


@torch.no_grad()
def crossed(model: VQVAE2, above: Tensor, below: Tensor) -> Tensor:
    """Drawn from the top codes of `above` and the bottom codes of `below`."""
    return cut(model.decode(model.encode(above)[0], model.encode(below)[1]))


def moved(model: VQVAE2, images: Tensor) -> dict[str, float]:
    """How far a picture moves if one level's codes are another image's: squared error a pixel."""
    own, others = crossed(model, images, images), images.roll(1, 0)
    pairs = {"top": (others, images), "bottom": (images, others)}
    return {level: F.mse_loss(crossed(model, *pair), own).item() for level, pair in pairs.items()}


def read_as(model: VQVAE2, images: Tensor, labels: Tensor) -> dict[str, float]:
    """How often a digit with another one's bottom codes is read as the digit that gave its top or its bottom."""
    others, different = labels.roll(1), labels != labels.roll(1)
    mixed = crossed(model, images, images.roll(1, 0))[different.cpu()]
    owners = {"top": labels, "bottom": others}
    return {level: digit_statistics(mixed, owner[different].cpu())["accuracy"] for level, owner in owners.items()}


def parents(top: Tensor) -> Tensor:
    """For each place of the bottom the top code above it."""
    return top.repeat_interleave(2, 1).repeat_interleave(2, 2)


def bits(seen: Tensor, new: Tensor, given: Tensor | None = None, new_given: Tensor = None) -> Tensor:  # type: ignore[assignment]
    """Bits that each place of maps `new` (N, h, w) costs, by a table of how often codes were `seen` there.

    With `given`, maps of equal shape, by one table for each given code.
    """
    seen, new = seen.flatten(1), new.flatten(1)
    place = torch.arange(seen.shape[1], device=seen.device)
    one = torch.ones((), device=seen.device)
    table = torch.full((len(place), K), 0.05, device=seen.device)
    share = table.index_put_((place.expand_as(seen), seen), one, accumulate=True)
    share = share / share.sum(1, keepdim=True)
    if given is None:
        return -share[place, new].log2().mean(0)
    table = (20 * share[:, None]).repeat(1, K, 1)  # where little was counted, trust the place
    table.index_put_((place.expand_as(seen), given.flatten(1), seen), one, accumulate=True)
    share = table / table.sum(2, keepdim=True)
    return -share[place, new_given.flatten(1), new].log2().mean(0)


@torch.no_grad()
def vocabulary(vectors: Tensor, count: int) -> VectorQuantizer:
    """A quantiser with `count` words, fitted to vectors (N, D, h, w)."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(count, SIZES["dim"], ema=0.0, restart=1.0).to(vectors.device)
    for _ in range(10):
        quantizer(vectors)
    return quantizer.eval()


@torch.no_grad()
def features(model: nn.Module, images: Tensor) -> tuple:
    """What the last level quantises, and the codes of the level above it, if there is one."""
    if isinstance(model, VQVAE):
        return torch.cat([model.features(part) for part in images.split(500)]), None
    rows = []
    for part in images.split(500):
        top = model.encode(part)[0]
        rows.append((model.features_b(model.enc_b(part), model.quantize_t.lookup(top)), top))
    vectors, tops = zip(*rows)
    return torch.cat(vectors), torch.cat(tops)


@torch.no_grad()
def account(model: nn.Module) -> dict[str, float]:
    """Bits an image, counted by tables, and squared error of 1000 test digits, for vocabularies of all `WORDS`."""
    test, two = padded_digits("test", 1000), isinstance(model, VQVAE2)
    (old, above), (new, top) = features(model, padded_digits("train", 4000)), features(model, test)
    base = bits(above, top).sum().item() if two else 0.0
    given = (parents(above), parents(top)) if two else ()
    trained = model.quantize_b if two else model.quantize
    numbers = {"bits, top": base}
    for count in WORDS:
        words = trained if count == K else vocabulary(old[:1000], count)
        codes = words.encode(new)
        vectors = words.lookup(codes)
        drawn = model.draw(model.quantize_t.lookup(top), vectors) if two else model.dec(vectors)
        numbers[f"bits, {count} words"] = base + bits(words.encode(old), codes, *given).sum().item()
        numbers[f"error, {count} words"] = F.mse_loss(cut(drawn), cut(test)).item()
    cost, error = ([numbers[f"{name}, {count} words"] for count in WORDS] for name in ("bits", "error"))
    return {**numbers, "error": error[-1], "error at equal bits": float(np.exp(np.interp(BITS, cost, np.log(error))))}


def run(arm: str, seed: int) -> dict[str, float]:
    """The `account` of one arm; of two levels also what each of them does to a picture."""
    model, _ = train(arm, seed)
    numbers = account(model)
    if arm != "one level":
        test = padded_digits("test", 1000)
        labels = load_mnist("test", default_device()).labels[:1000]
        numbers |= {f"{level} moves": by for level, by in moved(model, test).items()}  # type: ignore[arg-type]
        numbers |= {f"read as the {level}": share for level, share in read_as(model, test, labels).items()}  # type: ignore[arg-type]
        numbers["top alone"] = F.mse_loss(levels(model, test)["top alone"], cut(test)).item()  # type: ignore[arg-type]
    return numbers


EXPERIMENT = Experiment(run, {arm: {"arm": arm} for arm in LOSSES})
