"""Chapter 2.9: a trained network learns its variance; two losses teach it, each its own output, or one teaches both."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib.diffusion import GaussianDiffusion, digit_unet, linear_betas, simple_loss
from lib.diffusion.ddpm import p_mean_variance, vlb_term
from lib.diffusion.improved import hybrid_loss, learned_mean_variance, vlb_loss
from lib.recipes.experiments import Experiment
from lib.training import History, default_device, fit, frechet_distance, load_mnist, pretrained

IMAGES = 3_840
Answers = list[tuple[Tensor, Tensor]]  # noised images and what the model says of them, at one time after the other


def linear_chain() -> GaussianDiffusion:
    """DDPM's thousand steps, which the shipped network knows."""
    return GaussianDiffusion(linear_betas(1000)).to(default_device())


def normal(*shape: int, seed: int) -> Tensor:
    """Numbers of N(0, 1), the same on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(default_device())


def full(t: int, x: Tensor) -> Tensor:
    """One time for every image."""
    return torch.full((len(x),), t, device=x.device)


def pixels(x: Tensor) -> Tensor:
    """Images in [0, 1], on the CPU."""
    return (x.clamp(-1, 1) + 1).cpu() / 2


def bands() -> tuple[Tensor, Tensor]:
    """Times that stand for bands of times, and how many each stands for: the first ten, then fewer and fewer."""
    edges = torch.cat([torch.arange(10), torch.logspace(1, 3, 41).round().long()]).unique()
    return (edges[:-1] + edges[1:] - 1) // 2, edges.diff().double()


@torch.no_grad()
def ask(model: nn.Module, process: GaussianDiffusion, x0: Tensor, eps: Tensor, times: Tensor) -> Answers:
    """Noised images and the model's answers, at one time after the other."""
    noised = [process.q_sample(x0, full(t, x0), eps) for t in times.tolist()]
    return [(xt, model(xt, full(t, x0))) for t, xt in zip(times.tolist(), noised)]


def step_back(out: Tensor, chain: GaussianDiffusion, xt: Tensor, i: int, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and log variance of step i of a chain, and the guessed image."""
    if kind == "learned":
        return learned_mean_variance(out, chain, xt, full(i, xt))
    return p_mean_variance(lambda *_: out[:, :1], chain, xt, full(i, xt), variance=kind)


def bits(answers: Answers, chain: GaussianDiffusion, steps: list[int] | range, x0: Tensor, kind: str) -> Tensor:
    """The bound's terms in bits per dimension, (steps, B)."""
    rows = []
    for i, (xt, out) in zip(steps, answers):
        mean, log_variance, _ = step_back(out, chain, xt, i, kind)
        rows.append(vlb_term(x0, xt, full(i, x0), chain, mean, log_variance))
    return torch.stack(rows).double().cpu()


def stops(steps: int, process: GaussianDiffusion, chain: GaussianDiffusion) -> Tensor:
    """Times of `process` that have the noise of evenly spread times of `chain`."""
    levels = chain.alphas_bar[torch.linspace(0, 999, steps).round().long().to(chain.betas.device)]
    return (process.alphas_bar - levels[:, None]).abs().argmin(1).unique()


@torch.no_grad()
def walk(
    model: nn.Module,
    process: GaussianDiffusion,
    visited: Tensor,
    kind: str = "small",
    begin: float = 1.0,
    end: float = 0.0,
) -> Tensor:
    """72 drawings, by the part from `begin` to `end` of the walk back over these times."""
    chain, x = process.respaced(visited), normal(72, 1, 28, 28, seed=3)
    low, high = round(end * len(visited)), round(begin * len(visited))
    for i in range(high - 1, low - 1, -1):
        out = model(x, full(int(visited[i]), x))
        mean, log_variance, guessed = step_back(out, chain, x, i, kind)
        x = mean + (i > 0) * (log_variance / 2).exp() * normal(*x.shape, seed=100 + i)
    return pixels(x if low == 0 else guessed)


def widened() -> nn.Module:
    """The shipped network with a second output; only its last layer learns."""
    shipped, network = digit_unet(), digit_unet(out_channels=2)
    pretrained.load("ddpm", shipped)
    weights = network.state_dict()
    for name, values in shipped.state_dict().items():
        weights[name][: len(values)] = values
    network.requires_grad_(False).conv_out.requires_grad_(True)
    return network.eval().to(default_device())


def each_its_own(model: nn.Module, process: GaussianDiffusion, x: Tensor) -> dict[str, Tensor]:
    """The hybrid loss, whose bound teaches the variance alone."""
    return {name: loss.mean() for name, loss in hybrid_loss(model, process, x).items()}


def one_for_both(model: nn.Module, process: GaussianDiffusion, x: Tensor) -> Tensor:
    """The bound with its full weight, whose gradient reaches the mean too, and the simple loss."""
    t, eps = torch.randint(process.T, (len(x),), device=x.device), torch.randn_like(x)
    simple = simple_loss(lambda xt, t: model(xt, t)[:, :1], process, x, t, eps)
    return (simple + vlb_loss(model, process, x, t, eps)).mean()


LOSSES: dict[str, Callable] = {"hybrid": each_its_own, "one teacher": one_for_both}


def train(arm: str, seed: int = 0) -> tuple[nn.Module, History]:
    """A widened network after its digits, and how its loss fell."""
    torch.manual_seed(seed)
    network, process = widened(), linear_chain()
    history = fit(
        network,
        lambda model, x: LOSSES[arm](model, process, x),
        2 * load_mnist("train", default_device()).images - 1,
        images=IMAGES,
        batch_size=64,
        lr=3e-3,
        precision="no",
        seed=seed,
        show=False,
    )
    return network, history


def judge(answers: Answers, digits: Tensor, grain: Tensor, drawn: Tensor) -> dict[str, float]:
    """Bits, the error of the noise at the least and at nearly the most noise, and the drawings' Fréchet distance."""
    times, width = bands()
    terms = bits(answers, linear_chain(), times.tolist(), digits, "learned").mean(1)
    little, much = ((answers[place][1][:, :1] - grain).square().mean().item() for place in (0, -1))
    return {"bits": float(terms @ width), "little": little, "much": much, "distance": frechet_distance(drawn)}


def run(arm: str, seed: int) -> dict[str, float]:
    """What `judge` says of 16 test digits and of 72 drawings in ten steps."""
    (network, _), process = train(arm, seed), linear_chain()
    digits, grain = 2 * load_mnist("test", default_device()).images[:16] - 1, normal(16, 1, 28, 28, seed=1)
    drawn = walk(network, process, stops(10, process, process), "learned")
    return judge(ask(network, process, digits, grain, bands()[0]), digits, grain, drawn)


EXPERIMENT = Experiment(run, {arm: {"arm": arm} for arm in LOSSES}, seeds=(1, 2, 3))  # the chapter's own run has seed 0
