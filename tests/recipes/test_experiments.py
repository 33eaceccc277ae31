"""Recorded experiments: none is older than its code, and what is said of their spread is what scipy says."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from scipy import stats

from lib.publishing import record
from lib.recipes import experiments
from lib.recipes.experiments import FOLDER, Experiment, Recording, recorded

NAMES = record.experiments()


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_that_of_the_code(name):
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    experiment = record.load(name)
    again = f"python -m lib.run experiment {name}"
    assert stored["code"] == record.code(name), f"the code changed: {again}"
    assert stored["arms"] == json.loads(json.dumps(experiment.arms)), f"the arms changed: {again}"
    assert stored["seeds"] == list(experiment.seeds) and len(experiment.seeds) >= 3


def test_no_numbers_without_an_experiment():
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == NAMES


def measured(seed, lift):
    return {"accuracy": lift + seed / 100, "lift": lift}


@pytest.fixture
def written(monkeypatch, tmp_path):
    """The file of an experiment that was recorded just now, and the digests that its code has, in order."""
    digests = [{"lib/x.py": "a"}] * 2
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    monkeypatch.setattr(experiments, "FOLDER", tmp_path)
    monkeypatch.setattr(
        record, "load", lambda name: Experiment(measured, {"low": {"lift": 0.5}, "high": {"lift": 0.9}})
    )
    monkeypatch.setattr(record, "code", lambda name: digests.pop(0))
    monkeypatch.setattr(record, "ProcessPoolExecutor", lambda jobs, mp_context: ThreadPoolExecutor(jobs))
    return tmp_path / "race.json", digests


def test_every_arm_runs_with_every_seed(written):
    path, _ = written
    assert record.record("race", jobs=2) == path
    race = recorded("race")
    assert path in experiments.LOADED
    assert race.values("low", "accuracy") == [0.5, 0.51, 0.52] and race.values("high", "lift") == [0.9] * 3
    assert race.arms["high"] == {"lift": 0.9} and race.seconds.keys() == race.arms.keys() and race.seeds == [0, 1, 2]


def test_code_that_changes_meanwhile_is_refused(written):
    path, digests = written
    digests[1] = {"lib/x.py": "b"}
    with pytest.raises(ValueError, match="race: the code of lib changed while it ran"):
        record.record("race")
    assert not path.exists()


def test_a_run_that_fails_leaves_nothing(written, monkeypatch):
    path, _ = written
    monkeypatch.setattr(record, "load", lambda name: Experiment(measured, {"low": {"lift": 0.5}, "odd": {"lift": "x"}}))
    with pytest.raises(TypeError):
        record.record("race")
    assert not path.exists()


@pytest.fixture
def race():
    numbers = {
        "a": {"accuracy": [0.90, 0.92, 0.91]},
        "b": {"accuracy": [0.80, 0.82, 0.84]},
        "c": {"accuracy": [0.89, 0.93, 0.9]},
    }
    arms = {arm: {} for arm in numbers}
    return Recording("race", {"arms": arms, "seeds": [0, 1, 2], "seconds": dict.fromkeys(arms, 1), "numbers": numbers})


def test_one_more_run_is_expected_where_student_says(race):
    values = race.values("a", "accuracy")
    scale = stats.tstd(values) * (1 + 1 / 3) ** 0.5
    assert race.expected("a", "accuracy") == pytest.approx(stats.t.interval(0.95, 2, 0.91, scale))
    assert "This run's 0.90 lies between 0.86 and 0.96" in race.beside("a", "accuracy", 0.9, ".2f")
    assert "0.80 does not lie between" in race.beside("a", "accuracy", 0.8, ".2f")


def test_what_the_seeds_decide(race):
    assert race.decided("a", "b", "accuracy") and race.decided("b", "a", "accuracy")
    assert not race.decided("a", "c", "accuracy")
    difference, low, high = race.difference("a", "b", "accuracy")
    assert (
        difference == pytest.approx(0.09)
        and low == pytest.approx(0.049, abs=0.002)
        and low + high == pytest.approx(0.18)
    )
    assert race.ranges("accuracy", ".2f") == "a 0.90 to 0.92, b 0.80 to 0.84, c 0.89 to 0.93"


@pytest.mark.parametrize("arm, number, name", [("d", "accuracy", "arm"), ("a", "loss", "number")])
def test_what_was_not_recorded_is_named(race, arm, number, name):
    with pytest.raises(ValueError, match=f"^{name} must be one of"):
        race.values(arm, number)


@pytest.mark.parametrize("name", ["nothing", ""])
def test_an_experiment_that_is_not_there(name):
    with pytest.raises(ValueError, match=r"^name must be one of"):
        recorded(name)
    with pytest.raises(ValueError, match=r"^name must be one of"):
        record.load(name)
