"""Times of two or more ways to do the same, taken in turns, so that what disturbs one disturbs all."""

import statistics
import time
from collections.abc import Callable


def interleaved(ways: dict[str, Callable[[], object]], rounds: int, warmup: int = 2) -> dict[str, float]:
    """Median milliseconds of processor time of each way, over `rounds` turns whose order changes every time."""
    times = {name: [] for name in ways}
    for i in range(rounds + warmup):
        for name in sorted(ways, reverse=i % 2):
            start = time.process_time()
            ways[name]()
            if i >= warmup:
                times[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(found) for name, found in times.items()}


def report(what: str, ways: dict[str, Callable[[], object]], rounds: int) -> None:
    """Prints the medians of "ours" and of one other way, and their ratio."""
    times = interleaved(ways, rounds)
    ours = times.pop("ours")
    ((peer, theirs),) = times.items()
    print(f"{what}: ours {ours:.1f} ms, {peer} {theirs:.1f} ms, ratio {ours / theirs:.3f}", flush=True)
