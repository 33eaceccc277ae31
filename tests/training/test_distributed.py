"""`fit` over two processes on the CPU, which exchange gradients through gloo."""

import json
import os
import runpy
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.slow  # several processes, each of which imports torch

PROGRAM = """
import json, sys, torch
from accelerate import PartialState
from torch import nn
from lib.training import fit

rank = PartialState(cpu=True).process_index
x = torch.linspace(-1, 1, 256).view(64, 4)
shares = []

def train(path, stop=None):
    torch.manual_seed(rank)  # models that differ at first: that of the first process counts
    model, noise = nn.Linear(4, 1), []
    def loss(model, x):
        shares.append(len(x))
        noise.append(torch.rand(1).item())
        if stop is not None and len(noise) > stop:
            raise InterruptedError
        return (model(x) - x.sum(1, keepdim=True)).square().mean()
    try:
        history = fit(model, loss, x, images=512, batch_size=16, lr=0.1, ema=0.5, clip=1.0, every=128, show=False,
                      precision="no", checkpoint=path, evaluate=lambda model: {"rank": float(rank)})
    except InterruptedError:
        return noise
    return noise, history.records, [value for p in model.parameters() for value in p.flatten().tolist()]

folder = sys.argv[1]
straight = train(f"{folder}/straight.safetensors")
stopped = train(f"{folder}/stopped.safetensors", stop=20)
resumed = train(f"{folder}/stopped.safetensors")
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump({"straight": straight, "stopped": stopped, "resumed": resumed, "shares": shares}, file)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What one process found, and what each of two found."""
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for name in ("alone", "together"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program.py", str(folder / "alone")])
        runpy.run_path(str(folder / "program.py"))
    command = [sys.executable, *torchrun, folder / "program.py", folder / "together"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*/*.json"))]


def test_two_processes_train_the_model_that_one_trains(results):
    (_, records, weights), *others = [result["straight"] for result in results]
    assert len(others) == 2 and len(records) == 32
    for _, other_records, other_weights in others:
        assert torch.tensor(other_weights).allclose(torch.tensor(weights), rtol=1e-4, atol=1e-6)
        losses = [[record["loss"] for record in course] for course in (records, other_records)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_each_process_computes_its_share(results):
    assert [set(result["shares"]) for result in results] == [{16}, {8}, {8}]


def test_the_processes_agree_and_draw_their_own_noise(results):
    (_, one, two) = [result["straight"] for result in results]
    assert one[2] == two[2]
    assert set(one[0]).isdisjoint(two[0])
    assert [record["loss"] for record in one[1]] == [record["loss"] for record in two[1]]


def test_only_the_first_process_evaluates(results):
    alone, first, second = ([record.get("rank") for record in result["straight"][1]] for result in results)
    assert alone == first == ([None] * 7 + [0.0]) * 4
    assert second == [None] * 32


def test_resuming_is_bit_for_bit_the_same_on_every_process(results):
    for result in results:
        noise, records, weights = result["straight"]
        assert result["resumed"][2] == weights
        assert [r["loss"] for r in result["resumed"][1]] == [r["loss"] for r in records]
        assert result["stopped"][:16] + result["resumed"][0] == noise  # 16 of 20 steps were in the checkpoint
