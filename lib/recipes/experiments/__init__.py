"""Comparisons that a chapter cannot wait for: all arms, several seeds each, run once and kept.

A module here is an experiment. Its `EXPERIMENT` says how one arm is run, `python -m lib.run experiment NAME` runs all
arms and seeds and writes the numbers beside it, with the options, the seconds and the code that they come from; a test
refuses them when that code changes. A chapter trains one arm live by the same function and shows it among the
`recorded` ones.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from lib.checks import described

FOLDER = Path(__file__).parent
LOADED: set[Path] = set()  # by this process: of all files here, the outputs of a notebook depend on these


class Experiment(NamedTuple):
    """How a comparison is run.

    `run(seed=..., **options)` trains and measures one arm and answers with numbers by name; `arms` holds the options
    of each arm by its name.
    """

    run: Callable[..., dict[str, float]]
    arms: dict[str, dict[str, Any]]
    seeds: tuple[int, ...] = (0, 1, 2)


class Recording:
    """The numbers of an experiment that was run.

    Attributes:
        arms: the options of each arm, by its name.
        seeds: those that every arm was run with.
        seconds: what one run of each arm took, on average, on one thread.
    """

    def __init__(self, name: str, stored: dict):
        self.name = name
        self.arms: dict[str, dict] = stored["arms"]
        self.seeds: list[int] = stored["seeds"]
        self.seconds: dict[str, float] = stored["seconds"]
        self._numbers: dict[str, dict[str, list[float]]] = stored["numbers"]

    def values(self, arm: str, number: str) -> list[float]:
        """A number of one arm, for each of the `seeds`. Raises ValueError for an unknown arm or number."""
        if arm not in self._numbers:
            raise ValueError(f"arm must be one of {', '.join(self._numbers)}; got {described(arm)}")
        if number not in self._numbers[arm]:
            raise ValueError(f"number must be one of {', '.join(self._numbers[arm])}; got {described(number)}")
        return self._numbers[arm][number]

    def mean(self, arm: str, number: str) -> float:
        """The mean of a number over the seeds."""
        values = self.values(arm, number)
        return sum(values) / len(values)

    def expected(self, arm: str, number: str) -> tuple[float, float]:
        """Where one more run of the arm lies with 95 percent: the prediction interval of Student's t distribution."""
        values = self.values(arm, number)
        count, mean = len(values), self.mean(arm, number)
        spread = (sum((value - mean) ** 2 for value in values) / (count - 1) * (1 + 1 / count)) ** 0.5
        width = float(stats.t.ppf(0.975, count - 1)) * spread
        return mean - width, mean + width

    def difference(self, arm: str, other: str, number: str) -> tuple[float, float, float]:
        """By how much the mean of `arm` exceeds that of `other`, and the ends of its 95 percent interval (Welch).

        Where the ends have unlike signs, the seeds do not say which arm is ahead.
        """
        tested = stats.ttest_ind(self.values(arm, number), self.values(other, number), equal_var=False)
        low, high = tested.confidence_interval(0.95)
        return self.mean(arm, number) - self.mean(other, number), float(low), float(high)

    def decided(self, arm: str, other: str, number: str) -> bool:
        """Whether the seeds say which of two arms is ahead."""
        _, low, high = self.difference(arm, other, number)
        return low > 0 or high < 0

    def beside(self, arm: str, number: str, live: float, form: str = ".3g") -> str:
        """A sentence that says whether a `live` run of an arm lies where one more run is `expected`."""
        low, high = self.expected(arm, number)
        place = "lies" if low <= live <= high else "does not lie"
        reach = f"between {low:{form}} and {high:{form}}"
        return f"This run's {live:{form}} {place} {reach}, where {len(self.seeds)} recorded runs expect it."

    def ranges(self, number: str, form: str = ".3g") -> str:
        """From where to where each arm's seeds reach, in words: `Swin 0.96 to 0.97, ViT 0.93 to 0.94`."""
        reach = {arm: self.values(arm, number) for arm in self.arms}
        return ", ".join(f"{arm} {min(values):{form}} to {max(values):{form}}" for arm, values in reach.items())


def recorded(name: str) -> Recording:
    """The numbers of the experiment `name`. Raises ValueError where there are none."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.json"))) or "none"
        raise ValueError(f"name must be one of {names}; got {described(name)}")
    LOADED.add(path)
    return Recording(name, json.loads(path.read_text(encoding="utf-8")))
