"""Networks behind lambdas, functions, partials and objects: their modes and types count as if they stood alone."""

import contextlib
import functools
import threading
import types
import weakref

import pytest
import torch
from torch import nn

from lib.diffusion import GaussianDiffusion, ddim, ddpm, digit_unet, linear_betas, sample
from lib.diffusion.asking import DOOR, call_model
from lib.diffusion.guidance import EncoderUNet, classifier_free, classifier_guided, towards_class, towards_image
from lib.diffusion.score import annealed_langevin, eps_from_score, langevin, score_matching

SHAPE = (2, 1, 8, 8)
X, T, LABELS = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 7]), torch.tensor([3, 4])
process = GaussianDiffusion(linear_betas(10))
NETWORK = digit_unet(ch=8, num_classes=10, dropout=0.5)
READER = EncoderUNet(resolution=8)
for parameter in (*NETWORK.parameters(), *READER.parameters()):
    nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def as_they_were():
    yield
    NETWORK.float().eval()
    READER.float().eval()


class Asks:
    """Holds a network, and is asked as a whole or by a method."""

    def __init__(self, network):
        self.network = network

    def __call__(self, x, t):
        return self.network(x, t)

    def told(self, x, t):
        return self.network(x, t, LABELS)


class AsksByName:
    def __call__(self, x, t):
        return NETWORK(x, t)


def by_name(x, t):
    return NETWORK(x, t)


def decorated(function):
    @functools.wraps(function)
    def inner(*given):
        return function(*given)

    return inner


def likely(x, t):
    return -x.square().flatten(1).sum(1)


class Slots:
    __slots__ = ("network",)

    def __call__(self, x, t):
        return self.network(x, t)


class OfTheClass:
    network = NETWORK

    @property
    def answer(self):
        return self.network


class Unregistered(nn.Module):
    """Holds a network where `train` and `eval` do not reach it."""

    def __init__(self, network):
        super().__init__()
        self.nets = [network]

    def forward(self, x, t):
        return self.nets[0](x, t)


def ways(network):
    """Callables that ask `network`, which is `NETWORK`."""
    nets, trainer = {"eps": [network]}, Asks(network)
    told = functools.partial(network, labels=LABELS)
    deep, slots, reference = types.SimpleNamespace(inner=Asks(network)), Slots(), weakref.ref(network)
    slots.network = network
    return {
        "two deep": lambda x, t: deep.inner.network(x, t),
        "slots": slots,
        "slots in a lambda": lambda x, t: slots(x, t),
        "class": lambda x, t: OfTheClass().network(x, t),
        "property": lambda x, t: OfTheClass().answer(x, t),
        "set": lambda x, t: next(iter({network}))(x, t),
        "weak": lambda x, t: reference()(x, t),
        "images by name": lambda x, t: network(x=x, t=t),
        "module": Unregistered(network).eval(),
        "itself": network,
        "method": network.forward,
        "closure": lambda x, t: network(x, t, LABELS),
        "global": lambda x, t: NETWORK(x, t),
        "function": by_name,
        "function in a lambda": lambda x, t: by_name(x, t),
        "comprehension": lambda x, t: sum(NETWORK(x, t, LABELS + k) for k in (0, 1)),
        "default": lambda x, t, net=network: net(x, t),
        "keyword": lambda x, t, *, net=network: net(x, t),
        "collection": lambda x, t: nets["eps"][0](x, t),
        "attribute": lambda x, t: trainer.network(x, t),
        "partial": functools.partial(lambda net, x, t: net(x, t), network),
        "partial by name": functools.partial(lambda x, t, net: net(x, t), net=network),
        "object": Asks(network),
        "object by name": AsksByName(),
        "object's method": Asks(network).told,
        "decorated": decorated(by_name),
        "free": classifier_free(lambda x, t, y: network(x, t, y), LABELS),
        "guided": classifier_guided(lambda x, t: network(x, t), process, likely),
        "guided, told": classifier_guided(told, process, likely),
        "score": eps_from_score(lambda x, sigma: network(x, T), process),
        "a second lambda": lambda x, t: classifier_free(network, LABELS)(x, t),
    }


WAYS = tuple(ways(NETWORK))
WALKS = {
    "ddpm": lambda model: sample(model, process, SHAPE, steps=1),
    "ddim": lambda model: ddim.sample(model, process, SHAPE, 1),
    "invert": lambda model: ddim.invert(model, process, X, 1),
    "p_sample": lambda model: ddpm.p_sample(model, process, X, T),
    "vlb_terms": lambda model: ddpm.vlb_terms(model, process, X),
    "langevin": lambda model: langevin(model, X, 0.5, 0.1, 1),
    "annealed": lambda model: annealed_langevin(model, X, torch.tensor([1.0]), 0.1, 1),
}


@pytest.mark.parametrize("way", WAYS)
def test_training_mode_is_seen_behind_it(way):
    model = ways(NETWORK)[way]
    NETWORK.eval()
    assert sample(model, process, SHAPE, steps=1).shape == SHAPE
    NETWORK.mid.block_1.dropout.train()
    with pytest.raises(ValueError, match=r"^model must be in eval mode"):
        sample(model, process, SHAPE, steps=1)


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("way", ["itself", "closure"])
def test_no_walk_takes_training_mode(walk, way):
    NETWORK.train()
    with pytest.raises(ValueError, match=r"^(model|score) must be in eval mode"):
        WALKS[walk](ways(NETWORK)[way])


@pytest.mark.parametrize(
    "guide",
    [
        towards_class(READER, LABELS),
        towards_class(lambda x, t: READER(x, t), LABELS),
        towards_image(READER.features, process, X, X),
        lambda x, t: READER(x, t).log_softmax(1)[:, 0],
    ],
    ids=["class", "class, lambda", "image", "lambda"],
)
def test_guides_are_looked_behind(guide):
    model = classifier_guided(NETWORK.eval(), process, guide)
    READER.eval()
    wanted = ddim.sample(model, process, SHAPE, 2, start=X)
    READER.double()
    assert torch.allclose(ddim.sample(model, process, SHAPE, 2, start=X), wanted, atol=1e-4)
    READER.train()
    with pytest.raises(ValueError, match=r"^model must be in eval mode"):
        ddim.sample(model, process, SHAPE, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("way", WAYS)
def test_a_network_behind_it_is_asked_in_its_own_type(way, dtype):
    model = ways(NETWORK.eval())[way]
    wanted = ddim.sample(model, process, SHAPE, 2, start=X, clip=False)
    NETWORK.to(dtype)
    found = ddim.sample(model, process, SHAPE, 2, start=X, clip=False)
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, rtol=0, atol=1e-4 if dtype == torch.float64 else 0.05)


def test_a_score_without_noise_is_asked_in_its_own_type():
    layer = nn.Linear(2, 2).double()
    points = torch.ones(3, 2)
    found = score_matching(lambda x: layer(x), points)
    assert found.dtype == torch.float32
    assert torch.allclose(found, score_matching(lambda x: layer(x), points.double()).float())


def test_losses_take_training_mode():
    NETWORK.train()
    assert ddpm.simple_loss(lambda x, t: NETWORK(x, t), process, X).shape == (2,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_that_is_only_known_is_left_alone(dtype):
    network, twin = NETWORK.eval(), digit_unet(ch=8).to(dtype).train()
    pair = types.SimpleNamespace(network=network, twin=twin)
    wanted = sample(network, process, SHAPE, steps=1, generator=torch.Generator().manual_seed(2))
    for model in (lambda x, t: (twin, network)[1](x, t), lambda x, t: pair.network(x, t)):
        found = sample(model, process, SHAPE, steps=1, generator=torch.Generator().manual_seed(2))
        assert torch.equal(found, wanted)


def test_a_network_that_is_asked_late_is_seen():
    early, late = NETWORK.eval(), digit_unet(ch=8).train()
    with pytest.raises(ValueError, match=r"^model must be in eval mode"):
        sample(lambda x, t: (early if t[0] > 5 else late)(x, t), process, SHAPE)


def test_what_is_refused_has_not_run():
    norm = nn.BatchNorm2d(1)
    before = norm.running_mean.clone()
    with pytest.raises(ValueError, match=r"^model must be in eval mode"):
        sample(lambda x, t: norm(x + 1), process, SHAPE, steps=1)
    assert torch.equal(norm.running_mean, before) and norm.num_batches_tracked == 0


@pytest.mark.parametrize("module", [nn.Dropout(), nn.Sequential(nn.Dropout()), nn.BatchNorm2d(1, affine=False)])
def test_modules_without_parameters_are_refused_where_it_matters(module):
    with pytest.raises(ValueError, match=r"^model must be in eval mode"):
        sample(lambda x, t: module(x), process, SHAPE, steps=1)
    activation, loss = nn.SiLU(), nn.MSELoss()
    assert sample(lambda x, t: activation(x) + loss(x, x), process, SHAPE, steps=1).shape == SHAPE


def test_networks_of_several_types_are_each_asked_in_their_own():
    first, second = nn.Linear(8, 8).bfloat16().eval(), nn.Linear(8, 8).double().eval()
    found = call_model(lambda x, t: second(first(x) + first(2 * x)), X, T)
    assert found.dtype == torch.float32
    first.float(), second.float()
    assert torch.allclose(found, second(first(X) + first(2 * X)), atol=0.05)


def test_a_formula_may_answer_in_a_wider_type():
    assert call_model(lambda x, t: x.double(), X, T).dtype == torch.float64
    assert call_model(lambda x, t: x, X.bfloat16(), T).dtype == torch.bfloat16


def test_nothing_is_watched_when_a_walk_is_over_or_broke():
    def breaks(x, t):
        raise KeyError("broken")

    for model in (lambda x, t: NETWORK.eval()(x, t), breaks):
        with contextlib.suppress(KeyError):
            sample(model, process, SHAPE, steps=1)
        assert DOOR.id not in DOOR.hooks_dict_ref()


def test_another_thread_may_train_meanwhile():
    trained, found = nn.Linear(2, 2).double(), []

    def model(x, t):
        thread = threading.Thread(target=lambda: found.append(trained(torch.ones(1, 2, dtype=torch.float64))))
        thread.start()
        thread.join()
        return NETWORK.eval()(x, t)

    assert sample(model, process, SHAPE, steps=1).shape == SHAPE and found[0].dtype == torch.float64


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(8, 8), nn.Dropout()

    def forward(self, x, t):
        return self.drop(self.linear(x))


@pytest.mark.parametrize("way", ["itself", "lambda", "function"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_compiled_is_seen_and_not_compiled_at_each_step(way, dtype):
    graphs, network = [], Layer().to(dtype).eval()

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    whole = torch.compile(network, backend=count, fullgraph=True)
    part = torch.compile(lambda x, t: network(x, t), backend=count)
    model = {"itself": whole, "lambda": lambda x, t: whole(x, t), "function": part}[way]
    assert ddim.sample(model, process, SHAPE, 5).dtype == torch.float32 and len(graphs) <= 2
    network.train()
    with pytest.raises(ValueError, match=r"^model must be in eval mode"):
        ddim.sample(model, process, SHAPE, 5)
