import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lib.training import EMA


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()


@given(st.floats(0, 0.9999), st.integers(1, 40))
def test_average_is_the_closed_form(decay, steps):
    """After n steps: sum over k of theta_k (1 - d_k) d_(k+1) ... d_n, plus the start times d_1 ... d_n."""
    torch.manual_seed(1)
    net = nn.Linear(2, 1).double()
    course = [net.weight.detach().clone()]
    average = EMA(net, decay)
    for _ in range(steps):
        with torch.no_grad():
            net.weight.add_(torch.randn_like(net.weight))
        course.append(net.weight.detach().clone())
        average.update()
    decays = [min(decay, (1 + k) / (10 + k)) for k in range(1, steps + 1)]
    expected, rest = 0, 1.0
    for k in range(steps, 0, -1):
        expected = expected + course[k] * (1 - decays[k - 1]) * rest
        rest *= decays[k - 1]
    assert average.state_dict()["weight"].allclose(expected + course[0] * rest, rtol=1e-12, atol=1e-12)


def test_a_model_that_stands_still_is_its_own_average():
    net = model()
    average = EMA(net, 0.9)
    for _ in range(5):
        average.update()
    for name, tensor in net.state_dict().items():
        assert average.state_dict()[name].allclose(tensor, rtol=1e-14)


def test_decay_zero_follows_at_once_and_buffers_follow_too():
    net = model()
    average = EMA(net, 0.0)
    net.train()(torch.randn(8, 3).double())
    with torch.no_grad():
        net[0].weight.add_(1)
    average.update()
    assert net[1].num_batches_tracked == 1
    for name, tensor in net.state_dict().items():
        assert average.state_dict()[name].equal(tensor)


def test_applied_swaps_and_gives_back_bit_for_bit_even_after_an_error():
    net = model()
    average = EMA(net, 0.99)
    start = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.no_grad():
        net[0].weight.mul_(3.1)
    own = net[0].weight.detach().clone()
    with average.applied():
        assert net[0].weight.equal(start["0.weight"])
    assert net[0].weight.equal(own)
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    assert net[0].weight.equal(own)
    average.copy_to_model()
    assert net[0].weight.equal(start["0.weight"])
    assert net[0].weight.requires_grad


def test_state_goes_on_exactly():
    straight, saved = model(), model()
    one, two = EMA(straight, 0.9), EMA(saved, 0.9)
    for _ in range(3):
        for net, average in ((straight, one), (saved, two)):
            with torch.no_grad():
                net[0].weight.add_(0.3)
            average.update()
    state = {name: tensor.clone() for name, tensor in two.state_dict().items()}
    resumed = EMA(saved, 0.9)
    resumed.load_state_dict(state, step=3)
    for average in (one, resumed):
        average.update()
    for name, tensor in one.state_dict().items():
        assert resumed.state_dict()[name].equal(tensor)


@given(st.one_of(st.floats(max_value=-1e-9), st.floats(min_value=1), st.just(float("nan")), st.text(), st.none()))
def test_refuses_a_decay_outside_its_range(decay):
    with pytest.raises(ValueError, match=r"decay must be a number in \[0, 1\), got"):
        EMA(nn.Linear(1, 1), decay)


def test_infinite_numbers_are_copied_and_make_no_others():
    net = nn.Linear(2, 1)
    net.register_buffer("mask", torch.tensor([[0.0, -math.inf], [math.inf, 1.0]]))
    average = EMA(net, 0.9)
    mask = net.mask.clone()
    for _ in range(5):
        average.update()
    assert average.average["mask"].equal(mask)
    net.mask += torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    net.mask[0, 1] = 3
    average.update()
    assert average.average["mask"][0, 1] == 3 and 0 < average.average["mask"][0, 0] < 1
    with average.applied():
        assert net.mask[1].equal(mask[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_average_of_a_model_in_16_bits_does_not_stand_still(dtype):
    """In bfloat16 a step of (1.25 - 1) / 1000 would be rounded away, for ever."""
    net = nn.Linear(2, 1).to(dtype)
    with torch.no_grad():
        net.weight.fill_(1)
        average = EMA(net, 0.999)
        net.weight.fill_(1.25)
    wide = EMA(nn.Linear(2, 1), 0.999)
    with torch.no_grad():
        wide.average["weight"].fill_(1)
        wide.current["weight"].fill_(1.25)
    average.step = wide.step = 10_000
    for _ in range(1000):
        average.update()
        wide.update()
    assert average.state_dict()["weight"].dtype == torch.float32
    assert average.state_dict()["weight"].allclose(wide.state_dict()["weight"])
    with average.applied():
        assert net.weight.dtype == dtype and net.weight.equal(wide.state_dict()["weight"].to(dtype))
    average.copy_to_model()
    assert net.weight.dtype == dtype and (net.weight > 1.1).all() and (net.weight < 1.25).all()


def replaced(net):
    net[0].weight = nn.Parameter(net[0].weight.detach() + 1)


def assigned(net):
    net.load_state_dict({name: tensor + 1 for name, tensor in net.state_dict().items()}, assign=True)


def reassigned(net):
    net[1].running_mean = net[1].running_mean + 1


def exchanged(net):
    net[0] = nn.Linear(3, 4).double()


def widened(net):
    net.float()
    net[0].weight.data += 1


@pytest.mark.parametrize("change", [replaced, assigned, reassigned, exchanged, widened])
def test_follows_the_tensors_that_the_model_has_now(change):
    net = model()
    average = EMA(net, 0.0)
    change(net)
    average.update()
    for name, tensor in net.state_dict().items():
        assert average.state_dict()[name].equal(tensor.to(average.state_dict()[name])), name
    with torch.no_grad():
        net[0].weight.add_(1)
    with average.applied():
        assert net[0].weight.double().equal(average.state_dict()["0.weight"])
    average.copy_to_model()
    assert net[0].weight.double().equal(average.state_dict()["0.weight"])


def test_refuses_a_model_of_other_tensors_than_it_began_with():
    net = model()
    average = EMA(net, 0.9)
    net[1].running_mean = torch.zeros(1)
    for act in (average.update, average.copy_to_model):
        with pytest.raises(ValueError, match=r"model must keep .* got 1\.running_mean changed"):
            act()
    net[1].running_mean = None
    with pytest.raises(ValueError, match=r"got 1\.running_mean changed"):
        average.update()
    assert average.step == 0
