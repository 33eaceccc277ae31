"""Runs a recorded experiment and writes its numbers: `python -m lib.run experiment NAME`."""

import ast
import importlib
import json
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

import lib
from lib.publishing import notebooks
from lib.publishing.reach import Reach
from lib.recipes.experiments import FOLDER, Experiment

ROOT = Path(lib.__file__).resolve().parents[1]


def experiments() -> list[str]:
    """The names of all experiments."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def load(name: str) -> Experiment:
    """The experiment of that name. Raises ValueError where there is none."""
    if name not in experiments():
        raise ValueError(f"name must be one of {', '.join(experiments()) or 'none'}; got {name!r}")
    return importlib.import_module(f"lib.recipes.experiments.{name}").EXPERIMENT


def code(name: str, root: Path = ROOT) -> dict[str, str]:
    """One digest, by meaning, for each file of `lib` that the experiment reaches."""
    cells = ast.parse(f"from lib.recipes.experiments.{name} import EXPERIMENT\nEXPERIMENT").body
    return Reach(cells, root).digests()


def record(name: str, jobs: int = 1) -> Path:
    """Runs every arm with every seed, each on one thread, `jobs` at a time; returns the file with the numbers.

    Nothing is written unless all runs end well.
    """
    experiment, before = load(name), code(name)
    runs = [(arm, seed) for seed in experiment.seeds for arm in experiment.arms]
    found: dict[tuple[str, int], tuple[dict[str, float], float]] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting: dict[tuple[str, int], Future] = {each: pool.submit(_run, name, *each) for each in runs}
        for (arm, seed), future in waiting.items():
            numbers, seconds = found[arm, seed] = future.result()
            told = ", ".join(f"{number} {value:.4g}" for number, value in numbers.items())
            print(f"{arm}, seed {seed}: {told} ({seconds:.0f} s)", flush=True)
    if code(name) != before:
        raise ValueError(f"{name}: the code of lib changed while it ran; run it again")
    seeds, first = experiment.seeds, {arm: found[arm, experiment.seeds[0]][0] for arm in experiment.arms}
    stored = {
        "arms": experiment.arms,
        "seeds": list(seeds),
        "numbers": {arm: {n: [found[arm, seed][0][n] for seed in seeds] for n in first[arm]} for arm in first},
        "seconds": {arm: round(sum(found[arm, seed][1] for seed in seeds) / len(seeds), 1) for arm in first},
        "torch": torch.__version__,
        "code": before,
    }
    path = FOLDER / f"{name}.json"
    notebooks.write_text(json.dumps(stored, indent=1) + "\n", path)
    return path


def _run(name: str, arm: str, seed: int) -> tuple[dict[str, float], float]:
    torch.set_num_threads(1)
    experiment, started = load(name), time.monotonic()
    numbers = experiment.run(seed=seed, **experiment.arms[arm])
    return {number: float(value) for number, value in numbers.items()}, time.monotonic() - started
