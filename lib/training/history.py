"""What a training leaves behind, and what it shows while it runs."""

import time
from dataclasses import dataclass, field

from tqdm import tqdm


@dataclass(repr=False)
class History:
    """The course of one training.

    `records` holds one dict per entry: "step", "images" (seen so far), "lr", the mean of each loss since
    the entry before, and, where `evaluate` was called, what it returned. `history["loss"]` is the list of
    all values of one name. `stopped` tells whether the training was interrupted before its end.
    """

    records: list[dict] = field(default_factory=list)
    stopped: bool = False

    def __getitem__(self, name: str) -> list[float]:
        return self.series(name)[1]

    def __repr__(self) -> str:
        """One line, since a cell that ends in `fit(...)` shows it: how long the training was, and where it ended."""
        if not self.records:
            return "History of no images"
        last = self.records[-1]
        values = ", ".join(
            f"{name} {value:.4g}" for name, value in last.items() if name not in ("step", "images", "lr")
        )
        return f"History of {last['images']:,} images{', stopped early' * self.stopped}, at the end: {values}"

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Images seen and values of the entries that hold `name`. Raises ValueError where none does."""
        if not isinstance(name, str):
            raise ValueError(f"name must be that of a loss or of what `evaluate` returned, got {name!r:.60}")
        entries = [record for record in self.records if name in record]
        if not entries:
            names = dict.fromkeys(key for record in self.records for key in record)
            raise ValueError(f"this history holds no {name!r}; it holds {', '.join(names) or 'nothing yet'}")
        return [record["images"] for record in entries], [record[name] for record in entries]

    def plot(self, *names: str, title: str | None = None):
        """A matplotlib figure: a panel for each name ("loss" without any), its values over the images seen.

        The first tenth of a curve may leave the picture at the top, so that the rest can be read. Raises ValueError for
        a name of which there are no values.
        """
        if not (title is None or isinstance(title, str)):
            raise ValueError(f"title must be words or None, got {title!r:.60}")
        from matplotlib.figure import Figure

        from lib.notebook.pictures import COLORS

        names = names or ("loss",)
        fig = Figure(figsize=(6.0, 0.8 + 1.9 * len(names)), layout="constrained")
        panels = fig.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(panels, names):
            images, values = self.series(name)
            axes.plot(images, values, color=COLORS["model"], marker="o" if len(values) < 15 else None)
            axes.set_ylabel(name)
            top, bottom = max(values[len(values) // 10 :]), min(values)
            if top > bottom:
                axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
        panels[-1].set_xlabel("images seen")
        panels[-1].locator_params(axis="x", nbins=5)  # six-figure numbers need room
        panels[-1].xaxis.set_major_formatter("{x:,.0f}")
        if title:
            fig.suptitle(title, fontsize="medium")
        return fig


class Progress:
    """A bar in a terminal, the growing loss curve in a notebook, nothing where `show` is false.

    The curve is redrawn so rarely that drawing takes about a twentieth of the time. In a notebook the last
    curve stays and the bar does not exist: a stored bar would change with every run.
    """

    def __init__(self, history: History, images: int, show: bool):
        self.history = history
        self.images = images
        self.started = self.drawn = time.monotonic()
        self.pause = 0.5
        self.live = None
        if show and _in_notebook():
            from lib.notebook.pictures import LiveFigure

            self.live = LiveFigure()
        hidden = None if show and self.live is None else True  # None: hidden unless stderr is a terminal
        self.bar = tqdm(total=images, unit=" images", unit_scale=True, leave=False, disable=hidden)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()
        if self.history.records:
            self._draw(None)

    def update(self) -> None:
        """Shows the newest record."""
        record = self.history.records[-1]
        self.bar.set_postfix_str(f"loss {record['loss']:.4g}", refresh=False)
        self.bar.update(record["images"] - self.bar.n)
        now = time.monotonic()
        if now - self.drawn > self.pause:
            share = record["images"] / self.images
            self._draw(f"{share:.0%} of {self.images:,} images after {now - self.started:.0f} s")
            self.drawn = time.monotonic()
            self.pause = 20 * (self.drawn - now)

    def _draw(self, title: str | None) -> None:
        if self.live is None:
            return
        images, values = self.history.series("loss")
        course = f"{values[0]:.4g} at first, {values[-1]:.4g} after {images[-1]:,} images"
        self.live.update(self.history.plot(title=title), alt=f"Training loss over the images seen: {course}.")


def _in_notebook() -> bool:
    """Whether a Jupyter kernel (Jupyter, Colab, VS Code) runs this code."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
