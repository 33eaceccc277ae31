"""A comparison with its spread: every run of a recorded experiment as a point, this chapter's own among them."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lib.notebook import COLORS
from lib.recipes.experiments import Recording


def arms(
    recording: Recording, number: str, xlabel: str, live: dict[str, float] | None = None, form: str = ".3g"
) -> Figure:
    """A row for each arm, a point for each seed, and a ring where this run has an arm `live`; numbers in `form`."""
    names = list(recording.arms)
    fig, axes = plt.subplots(figsize=(6, 0.8 + 0.38 * len(names)))
    for row, name in enumerate(names):
        values = recording.values(name, number)
        axes.plot(values, [row] * len(values), "o", color=COLORS["model"], markersize=6, alpha=0.7)
    for name, value in (live or {}).items():
        axes.plot(value, names.index(name), "o", color=COLORS["data"], markersize=12, fillstyle="none", mew=2.5)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel=xlabel, ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:{form}}"))
    return fig
