"""The picture of a comparison: a row an arm, a point a seed, a ring where this run lies."""

import pytest
from matplotlib import pyplot as plt

from lib.figures.arms import arms
from lib.recipes.experiments import Recording

ACCURACY = {"Swin": [0.96, 0.97, 0.965], "ViT, fine map": [0.93, 0.94, 0.935]}


@pytest.fixture
def race():
    numbers = {arm: {"accuracy": values} for arm, values in ACCURACY.items()}
    stored = {"arms": {arm: {} for arm in ACCURACY}, "seeds": [0, 1, 2], "seconds": {}, "numbers": numbers}
    yield Recording("race", stored)
    plt.close("all")


def test_every_run_is_drawn_in_its_row(race):
    axes = arms(race, "accuracy", "accuracy", live={"ViT, fine map": 0.931}, form=".1%").axes[0]
    *recorded, live = axes.lines
    assert [list(line.get_xdata()) for line in recorded] == list(ACCURACY.values())
    assert [set(line.get_ydata()) for line in recorded] == [{0}, {1}]
    assert (live.get_xdata()[0], live.get_ydata()[0]) == (0.931, 1)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(ACCURACY)
    axes.figure.canvas.draw()
    assert "95.0%" in [label.get_text() for label in axes.get_xticklabels()]


def test_without_a_live_run_there_is_no_ring(race):
    assert len(arms(race, "accuracy", "accuracy").axes[0].lines) == 2


def test_a_live_run_of_no_arm_is_refused(race):
    with pytest.raises(ValueError, match="DeiT"):
        arms(race, "accuracy", "accuracy", live={"DeiT": 0.5})
