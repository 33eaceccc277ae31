"""Interactive figures: the stored face (tests/html moves it in a browser), the live one, what is refused."""

import itertools
import json
import sys
import types

import ipywidgets
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbclient import NotebookClient

from lib.notebook import explore, span
from lib.notebook.controls import checked_controls
from lib.notebook.stored import SCRIPT

module = sys.modules["lib.notebook.explore"]


@pytest.fixture
def shown(monkeypatch):
    """The faces of every figure that was displayed."""
    figures = []
    monkeypatch.setattr(module, "publish", lambda faces, text: figures.append({**faces, "text/plain": text}))
    return figures


def grey(level, **others):
    """A small picture that tells its level, and nothing of the others."""
    return np.full((4, 4), level / 10)


def stored(shown, *arguments, **controls):
    """The stored face of a figure."""
    explore(*arguments, **controls)
    markup = shown[-1]["text/html"]
    return BeautifulSoup(markup, "html.parser").find("figure", class_="explore", recursive=False)


def frames(figure):
    """Picture and text of each state, in the order in which the script counts them."""
    images = figure.select(".explore-picture img")
    data = json.loads(figure["data-frames"])
    return [(images[number]["src"], alt) for number, alt in zip(data["order"], data["alts"], strict=True)]


def test_there_is_a_frame_for_every_combination_and_each_is_described(shown):
    def draw(level, size):
        return np.full((size, 2 * size), level / 10)

    figure = stored(shown, lambda level, size: draw(level, 4) * size, "{level} at {size}", level=(0, 1, 2), size=(1, 3))
    seen = frames(figure)
    assert [alt for _, alt in seen] == [f"{level} at {size}" for level, size in itertools.product((0, 1, 2), (1, 3))]
    assert len({src for src, _ in seen}) == 5, "0 times anything is one picture"
    assert len(figure.select("img")) == 5
    assert {(img["width"], img["height"]) for img in figure.select("img")} == {("280", "140")}
    assert all(img["alt"] for img in figure.select("img"))


def test_one_frame_is_shown_without_scripts_and_it_is_the_one_of_the_start(shown):
    figure = stored(
        shown,
        lambda a, b: grey(a + b),
        "{a} and {b}",
        labels={"b": "second σ"},
        start={"a": 3, "b": 5},
        a=(0, 3, 4),
        b=(1, 5),
    )
    images = figure.select("img")
    visible = [img for img in images if "display:none" not in img["style"]]
    assert visible == images[:1], "the first image is the one that is printed"
    assert visible[0]["alt"] == "3 and 5"
    assert visible[0]["src"] == frames(figure)[3][0]
    assert figure.select_one(".explore-still").text == "a = 3, second σ = 5"
    assert "display:none" in figure.select_one(".explore-controls")["style"]
    assert not figure.find_all(hidden=True), "JupyterLab strips `hidden` from notebooks that it does not trust"


def test_a_picture_that_comes_again_keeps_the_text_of_the_start(shown):
    figure = stored(shown, lambda a: grey(a % 2), "{a}", start={"a": 3}, a=(1, 2, 3))
    assert figure.img["alt"] == "3"
    assert [alt for _, alt in frames(figure)] == ["1", "2", "3"]


def test_every_slider_has_a_name_a_value_and_steps(shown):
    figure = stored(
        shown,
        lambda beta, kind: grey(abs(beta)),
        "{beta} {kind}",
        beta=(-1.5, 0, 10),
        kind=("a < b", 'say "c"'),
    )
    rows = figure.select(".explore-control")
    for row, (name, texts) in zip(rows, [("beta", ["−1.5", "0", "10"]), ("kind", ["a < b", 'say "c"'])], strict=True):
        slider = row.input
        assert row.label.text == name and row.label["for"] == slider["id"]
        assert row.output["for"] == [slider["id"]]
        assert json.loads(slider["data-values"]) == texts
        assert slider["data-lm-suppress-shortcuts"] == "true", "JupyterLab would keep the arrow keys"
        assert (slider["min"], slider["max"], slider["step"]) == ("0", str(len(texts) - 1), "1")
        assert slider["aria-valuetext"] == row.output.text == texts[int(slider["value"])]
        assert figure.find(id=slider["aria-describedby"]).img
        assert [button["aria-label"] for button in row.find_all("button")] == [
            f"{name}: previous value",
            f"{name}: next value",
        ]
    ids = [tag["id"] for tag in figure.find_all(id=True)] + [figure["id"]]
    assert len(ids) == len(set(ids)) and not any(" " in one for one in ids)


def test_texts_cannot_break_out_of_the_html(shown):
    evil = '"><script>alert(1)</script>{}'
    figure = stored(shown, lambda a: grey(1), lambda a: evil + str(a), evil, labels={"a": evil}, a=(evil, "b"))
    assert [script.string for script in figure.find_all("script")] == [SCRIPT]
    assert figure.figcaption.text == evil and figure.label.text == evil
    assert frames(figure)[0][1] == evil + evil
    assert "</" not in SCRIPT


def test_the_same_figure_is_stored_with_the_same_text_and_another_has_another_id(shown):
    one, again, other = (stored(shown, grey, "{level}", level=levels) for levels in ((1, 2), (1, 2), (1, 3)))
    brighter = stored(shown, lambda level: grey(level + 1), "{level}", level=(1, 2))
    assert one["id"].startswith("explore-")
    assert str(one) == str(again)
    assert len({figure["id"] for figure in (one, other, brighter)}) == 3


def test_a_span_is_stored_at_even_steps_and_starts_at_the_nearest(shown):
    values = []

    def draw(level):
        values.append(level)
        return grey(level)

    figure = stored(shown, draw, "{level:.2f}", start={"level": 2.3}, level=span(0, 4, frames=5))
    assert values == [0, 1, 2, 3, 4, 2.3], "five to store, and the live one at its true start"
    assert figure.img["alt"] == "2.00" and figure.input["value"] == "2"


@pytest.mark.slow
def test_twenty_frames_of_a_busy_figure_add_less_than_400_kb(shown):
    noise = np.random.default_rng(0)
    points = noise.normal(size=(400, 2))

    def draw(angle, size):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        fig, (left, right) = plt.subplots(1, 2, figsize=(6, 3))
        left.scatter(*(size * points @ turn).T, s=5, label="samples")
        left.plot(np.linspace(-3, 3, 200), np.sin(angle + np.linspace(-3, 3, 200)), color="C1", label="mean")
        left.set(xlabel="first coordinate", ylabel="second coordinate", xlim=(-4, 4), ylim=(-4, 4), title="Turned")
        left.legend()
        right.imshow(np.clip(0.5 + size * noise.normal(size=(28, 28)) / 4, 0, 1))
        return fig

    angles, sizes = np.linspace(0, 3, 5), (0.5, 0.8, 1, 1.2)
    explore(draw, "Points turned by {angle:.1f}, times {size}", angle=angles, size=sizes)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell()])
    before = len(nbformat.writes(notebook))
    notebook.cells[0].outputs = [nbformat.v4.new_output("display_data", data={"text/html": shown[0]["text/html"]})]
    assert 100_000 < len(nbformat.writes(notebook)) - before < 400_000
    assert plt.get_fignums() == []


def live(draw, alt="{a}", below="", **controls):
    """The live face's picture and its sliders."""
    sliders = checked_controls(controls, {}, controls.pop("start", {}))

    def frame(values):
        return module._frame(draw, alt, dict(zip(controls, values)), 48)

    box = module.live_face(sliders, frame, below)
    picture, *rest = box.children
    return picture, rest


def test_live_every_move_calls_the_function_with_the_new_value():
    calls = []

    def draw(a, b):
        calls.append((a, b))
        return grey(a)

    picture, (first, second) = live(draw, "{a} {b}", a=span(0, 4), b=("x", "y"), start={"a": 1.2})
    assert isinstance(first, ipywidgets.FloatSlider) and isinstance(second, ipywidgets.SelectionSlider)
    assert (first.min, first.max, first.value, first.description) == (0, 4, 1.2, "a")
    assert BeautifulSoup(picture.value, "html.parser").img["alt"] == "1.2 x"
    first.value, second.value = 3.14, "y"
    assert calls == [(1.2, "x"), (3.14, "x"), (3.14, "y")]
    assert BeautifulSoup(picture.value, "html.parser").img["alt"] == "3.14 y"


def test_live_an_error_is_shown_in_place_of_the_picture_and_leaves_with_it():
    def draw(a):
        plt.figure()
        if a == 2:
            raise KeyError("no <digit> 2")
        return plt.gcf()

    picture, (slider,) = live(draw, a=(1, 2, 3))
    good = picture.value
    slider.value = 2
    alert = BeautifulSoup(picture.value, "html.parser").find(role="alert")
    assert "KeyError: 'no <digit> 2'" in alert.text and "raise KeyError" in alert.text
    assert plt.get_fignums() == [], "the figure of the failed drawing stays open"
    slider.value = 3
    assert "<img" in picture.value and "alert" not in picture.value and picture.value != good


def test_live_the_caption_stands_below():
    *_, caption = live(grey, "{level}", below="<figcaption>So.</figcaption>", level=(1, 2))[1]
    assert caption.value == "<figcaption>So.</figcaption>"


def test_one_output_carries_both_faces_and_colab_gets_the_live_one(shown, monkeypatch):
    explore(grey, "Level {level}", "A caption", level=(1, 2))
    assert shown[0].keys() == {"text/html", "text/plain", module.WIDGET_VIEW}
    assert shown[0]["text/plain"] == "A caption"
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    calls = []
    explore(lambda level: calls.append(level) or grey(level), "Level {level}", level=(1, 2))
    assert shown[1].keys() == {"text/plain", module.WIDGET_VIEW}
    assert calls == [1], "frames were drawn that nobody stores"


def test_in_a_kernel_it_is_one_output_with_a_widget_that_exists():
    code = """
import numpy as np
from lib.notebook import explore
explore(lambda a: np.full((2, 2), a), "Level {a}", a=(0, 1))
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook = NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert '<figure class="explore"' in output.data["text/html"]
    widgets = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"].state
    assert widgets[output.data[module.WIDGET_VIEW]["model_id"]].model_name == "VBoxModel"


def sizes(level):
    return np.zeros((level, 2))


def broken(level):
    raise ZeroDivisionError


WRONG = {
    "explore takes one to three controls, got 0: none": ((grey, "x"), {}),
    "explore takes one to three controls, got 4": ((grey, "x"), dict.fromkeys("abcd", (1, 2))),
    "level must be a sequence of values or a span": ((grey, "x"), {"level": 3}),
    "level must be a sequence of values": ((grey, "x"), {"level": "abc"}),
    "level must have at least two values": ((grey, "x"), {"level": [1]}),
    "level has two values that both read '0.3'": ((grey, "x"), {"level": [0.3, 0.1 + 0.2]}),
    "151 level = 151 frames, but a stored figure holds at most 150": ((broken, "x"), {"level": range(10**9)}),
    "13 level × 12 size = 156 frames": ((broken, "x"), {"level": range(13), "size": span(0, 1, frames=12)}),
    "151 level = 151 frames": ((broken, "x"), {"level": span(0, 1, frames=10**9)}),
    "start\\['level'\\] must be one of": ((grey, "x"), {"level": (1, 2), "start": {"level": 3}}),
    "start\\['level'\\] must be a number from 0 to 1": (
        (grey, "x"),
        {"level": span(0, 1), "start": {"level": 2}},
    ),
    "start names \\['other'\\]": ((grey, "x"), {"level": (1, 2), "start": {"other": 3}}),
    "labels names \\['other'\\]": ((grey, "x"), {"level": (1, 2), "labels": {"other": "β"}}),
    "labels\\['level'\\] must be plain text": ((grey, "x"), {"level": (1, 2), "labels": {"level": "$l$"}}),
    "draw must be a function of level": (("grey", "x"), {"level": (1, 2)}),
    "draw cannot be called with the controls size": ((sizes, "x"), {"size": (1, 2)}),
    "alt cannot be called with the controls level": ((grey, lambda: "x"), {"level": (1, 2)}),
    "alt must be a function of level": ((grey, None), {"level": (1, 2)}),
    "alt must be a format string of level": ((grey, "{size}"), {"level": (1, 2)}),
    "alt must be a format string of level, got '{level:q}'": ((grey, "{level:q}"), {"level": (1, 2)}),
    "alt must be a text that is not empty": ((grey, lambda level: ""), {"level": (1, 2)}),
    "alt must say what each frame shows": ((grey, "A picture"), {"level": (1, 2)}),
    "caption must be a text": ((broken, "x", ""), {"level": (1, 2)}),
    "what draw returns must be an array or a tensor": ((lambda level: None, "{level}"), {"level": (1, 2)}),
    "draw must return pictures of one size, got 280 by 140 and 280 by 280": (
        (sizes, "{level}"),
        {"level": (1, 2)},
    ),
    "what draw returns must be in": ((lambda level: grey(99), "{level}"), {"level": (1, 2)}),
    "colors must be": ((grey, "{level}"), {"level": (1, 2), "colors": 1}),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_explored_is_refused_by_name(said, shown):
    arguments, controls = WRONG[said]
    with pytest.raises(ValueError, match=said):
        explore(*arguments, **controls)
    assert shown == [] and plt.get_fignums() == []


def test_an_error_of_the_function_ends_the_cell(shown):
    with pytest.raises(ZeroDivisionError):
        explore(broken, "{level}", level=(1, 2))
    assert shown == []
