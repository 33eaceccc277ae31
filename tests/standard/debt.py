"""The standard of a chapter, check by check, and the list of what does not meet it yet: `not_yet.toml`.

The list only shrinks. A chapter that is not in it must meet the check; one that is in it must have exactly as many
faults as it says, so that whoever mends one also takes it off the list.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.standard import cells, figures, words
from tests.standard.chapter import Chapter

CHECKS: dict[str, Callable[[Chapter], list[str]]] = {
    "measured": words.measured,
    "predictions": words.predictions,
    "exercises": words.exercises,
    "signposts": words.signposts,
    "raw_outputs": cells.raw_outputs,
    "equal_alts": cells.equal_alts,
    "long_cells": cells.long_cells,
    "code_lines": cells.code_lines,
    "open_lines": cells.open_lines,
    "rebound": figures.rebound,
}
LIST = Path(__file__).with_name("not_yet.toml")
RENEW = "python -m tests.standard"
_HEAD = f"""\
# How many faults each check still finds in each chapter. It only shrinks: `{RENEW}` takes off what was mended.
"""

Counts = dict[str, int]  # of one check, by chapter


def faults(check: str, chapters: list[Chapter]) -> dict[str, list[str]]:
    """What a check finds, chapter by chapter; chapters without a fault are left out."""
    return {chapter.name: found for chapter in chapters if (found := CHECKS[check](chapter))}


def counts(found: Mapping[str, list[str]]) -> Counts:
    """How many faults each chapter has."""
    return {name: len(each) for name, each in found.items()}


def listed(path: Path = LIST) -> dict[str, Counts]:
    """The list: for each check, how many faults which chapters may still have."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def differences(now: Counts, then: Counts) -> Iterator[tuple[str, int, int]]:
    """The chapters whose count is another than the list's, with both: now, then."""
    for name in sorted({*now, *then}):
        if now.get(name, 0) != then.get(name, 0):
            yield name, now.get(name, 0), then.get(name, 0)


def renewed(now: dict[str, Counts], then: dict[str, Counts], up: bool = False) -> dict[str, Counts]:
    """The list with the smaller of both counts; with `up` as counted now."""
    if up:
        return now
    return {
        check: {name: least for name, count in each.items() if (least := min(count, then.get(check, {}).get(name, 0)))}
        for check, each in now.items()
    }


def written(kept: dict[str, Counts]) -> str:
    """The list as it stands in the file."""
    tables = (
        f"\n[{check}]\n" + "".join(f"{name} = {count}\n" for name, count in each.items())
        for check, each in kept.items()
        if each
    )
    return _HEAD + "".join(tables)
