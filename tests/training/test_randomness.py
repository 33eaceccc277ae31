"""Generators of devices that are not here, played by one that notes what it is asked."""

from types import SimpleNamespace

import pytest
import torch

from lib.training.randomness import random_states, seeded, set_random_states


@pytest.mark.parametrize(
    "name, told", [("mps", ()), ("xpu", (torch.device("xpu", 1),)), ("cuda", (torch.device("cuda", 1),))]
)
def test_the_state_of_any_device_is_kept_and_put_back(name, told, monkeypatch):
    device = torch.device(name, 1) if told else torch.device(name)
    asked, set_to = [], []

    def get_rng_state(*args):
        asked.append(args)
        return torch.tensor([len(asked)], dtype=torch.uint8)

    def set_rng_state(state, *args):
        set_to.append((state.item(), args))

    fake = SimpleNamespace(get_rng_state=get_rng_state, set_rng_state=set_rng_state)
    monkeypatch.setattr(torch, "get_device_module", lambda device: fake)
    states = random_states(device)
    assert states.keys() == {"cpu", "numpy", "python", name} and asked == [told]
    set_random_states(states, device)
    assert set_to == [(1, told)]
    with seeded(0, device):
        assert len(asked) == 2
    assert set_to[1:] == [(2, told)]
    set_random_states({key: state for key, state in states.items() if key != name}, device)  # from another device
    assert len(set_to) == 2
