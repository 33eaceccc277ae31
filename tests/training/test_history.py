import importlib
import io
import sys

import pytest
import torch
from torch import nn

from lib.notebook import pictures
from lib.training import History, fit

module = importlib.import_module("lib.training.history")


@pytest.fixture
def history():
    records = [{"step": n, "images": 10 * n, "lr": 0.1, "loss": 100 / n} for n in range(1, 41)]
    records[19]["score"], records[39]["score"] = 1.0, 2.0
    return History(records)


def test_values_and_where_they_belong(history):
    assert history["loss"][:2] == [100, 50] and len(history["loss"]) == 40
    assert history.series("score") == ([200, 400], [1.0, 2.0])
    assert history["images"][-1] == 400
    with pytest.raises(ValueError, match=r"holds no 'elbo'; it holds step, images, lr, loss, score"):
        history["elbo"]
    with pytest.raises(ValueError, match=r"holds no 'loss'; it holds nothing yet"):
        History()["loss"]


def test_plot_draws_the_curves_and_cuts_off_the_steep_start(history):
    fig = history.plot("loss", "score", title="A title")
    top, bottom = fig.axes
    line = top.lines[0]
    assert list(line.get_xdata()) == history["images"] and list(line.get_ydata()) == history["loss"]
    assert list(bottom.lines[0].get_ydata()) == [1.0, 2.0]
    low, high = top.get_ylim()
    assert low < history["loss"][-1] and history["loss"][4] < high < history["loss"][3]
    assert fig.get_suptitle() == "A title" and bottom.get_xlabel() == "images seen"
    assert history.plot().axes[0].get_ylabel() == "loss"


def test_a_history_is_shown_in_one_line():
    records = [
        {"step": 1, "images": 32, "lr": 1e-3, "loss": 2.0},
        {"step": 40, "images": 1280, "lr": 0.0, "loss": 1 / 3},
    ]
    assert repr(History(records)) == "History of 1,280 images, at the end: loss 0.3333"
    assert repr(History(records[:1], stopped=True)) == "History of 32 images, stopped early, at the end: loss 2"
    assert repr(History()) == "History of no images"


def test_plot_survives_a_single_entry_and_a_constant():
    for records in ([{"images": 1, "loss": 3.0}], [{"images": n, "loss": 3.0} for n in range(1, 5)]):
        pictures.render(History(records).plot())


class Shown:
    """Stands for the place below a notebook's cell."""

    def __init__(self):
        self.pictures = []

    def update(self, fig, alt, caption=None):
        self.pictures.append((fig.get_suptitle(), pictures.figure_html(fig, alt, caption)))


def test_in_a_notebook_the_curve_grows_and_its_last_picture_stays(monkeypatch):
    shown = Shown()
    clock = iter(range(10**6))
    monkeypatch.setattr(module, "_in_notebook", lambda: True)
    monkeypatch.setattr(pictures, "LiveFigure", lambda: shown)
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    torch.manual_seed(0)
    fit(nn.Linear(2, 1), lambda model, x: model(x).square().mean(), torch.rand(64, 2), images=640, batch_size=8)
    assert 2 <= len(shown.pictures) < 20 and "% of 640 images after" in shown.pictures[0][0]
    title, html = shown.pictures[-1]
    assert title == "" and html.startswith('<figure class="book-figure">') and "after 640 images" in html
    assert stream.getvalue() == ""  # the bar would change with every run


def test_nothing_is_shown_where_nothing_is_asked_for(capfd, monkeypatch):
    monkeypatch.setattr(module, "_in_notebook", lambda: True)
    monkeypatch.setattr(pictures, "LiveFigure", lambda: pytest.fail("drawn"))
    fit(nn.Linear(2, 1), lambda model, x: model(x).mean(), torch.rand(8, 2), images=8, batch_size=8, show=False)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_that_leaves_nothing(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    fit(nn.Linear(2, 1), lambda model, x: model(x).mean(), torch.rand(8, 2), images=80, batch_size=8)
    text = stream.getvalue()
    assert "images" in text and text.rstrip(" \r") != text
