"""Devices by name, without float64, and launchers that start fewer processes than they were asked for."""

import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from lib.training.arguments import check_device_takes
from lib.training.devices import check_device, has_float64, warn_of_one_process


def test_a_device_that_is_there():
    assert check_device("cpu") == check_device(torch.device("cpu")) == torch.device("cpu")
    for device in ("word", "cuda:99", torch.device("xpu"), 3, None, ""):
        with pytest.raises(ValueError, match=r"^device must be"):
            check_device(device)


def test_float64_is_refused_where_there_is_none(apple):
    assert has_float64(torch.device("cpu")) and not has_float64(apple)
    single, double = nn.Linear(2, 1), nn.Linear(2, 1).double()
    data = (torch.rand(8, 2), torch.zeros(8, dtype=torch.int64))
    check_device_takes(apple, single, data)
    check_device_takes(torch.device("cpu"), double, (data[0].double(),))
    with pytest.raises(ValueError, match=r"^data must not be float64: mps has no such numbers"):
        check_device_takes(apple, single, (data[0].double(),))
    with pytest.raises(ValueError, match=r"^model must not be float64: mps has no such numbers"):
        check_device_takes(apple, double, data)


@pytest.mark.parametrize("processes, variables, warned", [
    (1, {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, True),
    (1, {"ACCELERATE_USE_CPU": "False", "MASTER_ADDR": "127.0.0.1"}, False),
    (1, {"ACCELERATE_USE_CPU": "True"}, False),
    (1, {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "1"}, False),
    (2, {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, False),
])  # fmt: skip
def test_one_process_in_place_of_several_is_told(processes, variables, warned, monkeypatch):
    for name in ("ACCELERATE_USE_CPU", "MASTER_ADDR", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warn_of_one_process(processes)
    assert [str(warning.message)[:25] for warning in found] == ["only one process runs: `a"] * warned


PROGRAM = """
import torch
from lib.training import fit
fit(torch.nn.Linear(2, 1), lambda model, x: model(x).mean(), torch.rand(8, 2), images=8, batch_size=8, show=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes, warned", [("1", False), ("2", True)])
def test_accelerate_launch_on_the_cpu(processes, warned, tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", ".")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", processes]
    done = subprocess.run([*command, tmp_path / "program.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert ("UserWarning: only one process runs" in done.stderr) is warned
