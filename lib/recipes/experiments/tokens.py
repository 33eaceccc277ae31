"""Chapter 4.3: what a frozen encoder knows after it was asked for pixels, for words, or for words in plain view."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.autoencoders import VQVAE
from lib.recipes.experiments import Experiment
from lib.training import Labelled, default_device, fit, load_mnist
from lib.vision_transformers.beit import BEiT
from lib.vision_transformers.digits import digit_mae

IMAGES, TEST = 7000, 3000
RECIPE: dict = {
    "images": IMAGES,
    "batch_size": 16,
    "lr": 1e-3,
    "warmup": 0.05,
    "ema": 0.99,
    "precision": "no",
    "show": False,
}


@lru_cache(2)
def digits(split: str, count: int) -> Labelled:
    """The first digits, between 0 and 1, and their labels."""
    return Labelled(*(part[:count] for part in load_mnist(split, default_device())))


@lru_cache(1)
def mean_digit() -> Tensor:
    """The mean of the digits that are trained on (1, 1, 28, 28)."""
    return digits("train", 10_000).images.mean(0, keepdim=True)


def centred(x: Tensor) -> Tensor:
    """As the MAE chapter's networks want it: zero is the mean digit."""
    return (x - mean_digit()) / 0.25


def cut(x: Tensor) -> Tensor:
    """Images (B, 1, 28, 28) as 16 patches (B, 16, 49)."""
    return F.unfold(x, 7, stride=7).transpose(1, 2)


def squares(patches: Tensor) -> Tensor:
    """Patches (..., 49) as the tokenizer reads them, (B, 4, 4, 4)."""
    large = F.interpolate(patches.reshape(-1, 1, 7, 7), 8, mode="bilinear")
    return F.pixel_unshuffle(large, 2)


@lru_cache(1)
def tokenizer(seed: int = 0) -> VQVAE:
    """A VQ-VAE with 64 words for single patches, trained on those that hold ink."""
    torch.manual_seed(seed)
    model = VQVAE(64, 16, in_channels=4, num_blocks=0, ema=0.9, restart=0.5)
    model = model.to(default_device(), memory_format=torch.channels_last)  # quicker on a CPU
    patches = cut(digits("train", 10_000).images)
    fit(
        model,
        lambda model, x: model.loss(x),
        squares(patches[patches.amax(-1) > 0.5]),
        images=40_000,
        batch_size=64,
        lr=6e-3,
        schedule="onecycle",
        precision="no",
        seed=seed,
        show=False,
    )
    return model


@torch.no_grad()
def named(tokenizer: VQVAE, x: Tensor) -> Tensor:
    """The words (B, 16) of digits (B, 1, 28, 28)."""
    return torch.cat([tokenizer.encode(squares(cut(part))).view(-1, 16) for part in x.split(1000)])


@torch.no_grad()
def wide_words(x: Tensor, seed: int = 0) -> Tensor:
    """Words (B, 16) that depend on the surroundings: of a VQ-VAE of whole digits whose convolutions are not trained."""
    folded = F.pixel_unshuffle(F.interpolate(x, 32, mode="bilinear"), 2)  # (B, 4, 16, 16)
    torch.manual_seed(seed)
    model = VQVAE(64, 16, in_channels=4, num_blocks=1, restart=0.5).to(default_device()).train()
    for part in folded.split(100):
        model.quantize(model.features(part))  # moves the codes alone
    model.eval()
    return torch.cat([model.encode(part).flatten(1) for part in folded.split(1000)])


def share() -> float:
    """8, 10 or 12 of 16 patches, at random."""
    return (8 + 2 * torch.randint(3, ()).item()) / 16


def small(seed: int = 0) -> nn.Module:
    """The MAE chapter's masked autoencoder, always with the same random start."""
    torch.manual_seed(seed)
    return digit_mae().to(default_device())


def reader(outputs: int, seed: int = 0) -> BEiT:
    """A BEiT with so many outputs a patch, its encoder started as `small`'s."""
    torch.manual_seed(seed)
    model = BEiT(28, 7, 1, outputs, embed_dim=128, depth=4, num_heads=4, mlp_ratio=2.0).to(default_device())
    weights = model.state_dict()
    encoder = {name: value for name, value in small(seed).state_dict().items() if name in weights}
    encoder["mask_token"] = model.mask_token.detach()  # the decoder's has another width
    model.load_state_dict(encoder, strict=False)  # all but the head
    model.pos_embed.requires_grad_(False)  # the fixed table of sines
    return model


def word_loss(model: BEiT, x: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy of the hidden patches' words."""
    return model.loss(x, words, share())


def pixel_loss(model: BEiT, x: Tensor, patches: Tensor) -> Tensor:
    """Mean squared error of the hidden patches."""
    hidden = torch.rand(len(x), 16, device=x.device).argsort(1).argsort(1) < round(16 * share())
    return F.mse_loss(model(x, hidden)[hidden], patches[hidden])


def naming_loss(model: BEiT, x: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy of all words, with nothing hidden."""
    nothing = torch.zeros_like(words, dtype=torch.bool)
    return F.cross_entropy(model(x, nothing).flatten(0, 1), words.flatten())


def autoencoding_loss(model: nn.Module, x: Tensor) -> Tensor:
    """The masked autoencoder's own: squared error of hidden patches, drawn by its decoder."""
    return model(x, share())[0]


def train(arm: str, seed: int = 0, show: bool = False) -> nn.Module:
    """One of the `ARMS`, after its images."""
    pixels = digits("train", 10_000).images
    x = centred(pixels)
    if arm == "random start":
        return small(seed)
    if arm == "masked autoencoder":
        model, loss, data = small(seed), autoencoding_loss, (x,)
    elif arm == "pixels, same network":
        model, loss, data = reader(49, seed), pixel_loss, (x, cut(x))
    elif arm == "words":
        model, loss, data = reader(64, seed), word_loss, (x, named(tokenizer(seed), pixels))
    elif arm == "words, nothing hidden":
        model, loss, data = reader(64, seed), naming_loss, (x, named(tokenizer(seed), pixels))
    else:
        model, loss, data = reader(64, seed), naming_loss, (x, wide_words(pixels, seed))
    fit(model, loss, data, **{**RECIPE, "seed": seed, "show": show})
    return model


@torch.no_grad()
def features(encoder: nn.Module, images: Tensor) -> Tensor:
    """The mean patch token of each image (B, D), encoded with nothing hidden."""
    return torch.cat([encoder.forward_features(part)[:, 1:].mean(1) for part in images.split(1000)])


def probe(encoder: nn.Module, seed: int = 0) -> float:
    """Share of 3000 test digits that a linear layer on frozen features names; it has learned from 3000 others."""
    (known, labels), (asked, answers) = digits("train", 10_000), digits("test", TEST)
    x, of_test = features(encoder, centred(known[:3000])), features(encoder, centred(asked))
    mean, std = x.mean(0), x.std(0)
    torch.manual_seed(seed)
    linear = nn.Linear(x.shape[1], 10).to(x.device)
    fit(
        linear,
        lambda model, x, y: F.cross_entropy(model(x), y),
        ((x - mean) / std, labels[:3000]),
        images=180_000,
        batch_size=200,
        lr=2e-2,
        precision="no",
        seed=seed,
        show=False,
    )
    with torch.no_grad():
        return (linear((of_test - mean) / std).argmax(1) == answers).float().mean().item()


def ten_hidden() -> tuple[Tensor, Tensor]:
    """Which ten of 16 patches the test digits lose (3000, 16), and the lots that say so: the ten largest."""
    lot = torch.rand(TEST, 16, generator=torch.Generator().manual_seed(1)).to(default_device())
    return lot.argsort(1).argsort(1) >= 6, lot


@torch.no_grad()
def price(model: BEiT, words: Tensor) -> float:
    """Cross-entropy of the `ten_hidden` words of the test digits, in nats a word."""
    x, hidden = centred(digits("test", TEST).images), ten_hidden()[0]
    scores = torch.cat([model(*part) for part in zip(x.split(1000), hidden.split(1000))])
    return F.cross_entropy(scores[hidden], words[hidden]).item()


@torch.no_grad()
def visible(model: BEiT, words: Tensor) -> float:
    """Share of the words of the test digits that the model names where it sees all patches."""
    x = centred(digits("test", TEST).images)
    nothing = torch.zeros_like(words, dtype=torch.bool)
    return (model(x, nothing).argmax(-1) == words).float().mean().item()


def run(arm: str, seed: int) -> dict[str, float]:
    """The linear probe of one arm; of those that name the patches' words also how well they name them."""
    model = train(arm, seed)
    numbers = {"probe": probe(model, seed)}
    if arm in ("words", "words, nothing hidden"):
        words = named(tokenizer(seed), digits("test", TEST).images)
        numbers |= {"price": price(model, words), "visible": visible(model, words)}  # type: ignore[arg-type]
    return numbers


ARMS = (
    "random start",
    "masked autoencoder",
    "pixels, same network",
    "words",
    "words, nothing hidden",
    "wide words, nothing hidden",
)
EXPERIMENT = Experiment(run, {arm: {"arm": arm} for arm in ARMS})
