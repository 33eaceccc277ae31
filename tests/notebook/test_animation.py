"""Moving pictures: what is stored, and what is refused."""

import io
import re
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from lib.notebook import animate, animation

FRAMES = [np.full((4, 6), level) for level in (0.0, 0.5, 1.0)]


@pytest.fixture
def page(monkeypatch):
    """Calls `animate` and returns what it published: the HTML, the text and the name."""

    def call(*arguments, **settings):
        published = []
        monkeypatch.setattr(animation, "publish", lambda faces, text, name: published.append((faces, text, name)))
        animate(*arguments, **settings)
        ((faces, text, name),) = published
        return faces["text/html"], text, name

    return call


def test_the_still_is_the_first_frame_and_the_loop_holds_them_all(page):
    html, text, name = page(FRAMES, "Black turns <white>.", "A caption.", milliseconds=70, name="walk")
    assert (text, name) == ("Black turns <white>.", "walk")
    assert 'alt="Black turns &lt;white&gt;."' in html and "<figcaption>A caption.</figcaption>" in html
    still = Image.open(io.BytesIO(b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', html)[1])))
    assert np.asarray(still.convert("L")).max() == 0
    moving = Image.open(io.BytesIO(b64decode(re.search(r'data-moving="data:image/webp;base64,([^"]+)"', html)[1])))
    assert moving.n_frames == 3 and moving.info["loop"] == 0
    moving.seek(2)
    moving.load()
    assert moving.info["duration"] == 70 and np.asarray(moving.convert("L")).min() > 240


def test_the_same_frames_are_stored_the_same(page):
    assert page(FRAMES, "Grey.")[0] == page(FRAMES, "Grey.")[0]


@pytest.mark.parametrize(
    "arguments, settings, message",
    [
        ((FRAMES, ""), {}, "alt must be a text that is not empty"),
        ((FRAMES, "It is $x$."), {}, "alt must be plain text without TeX"),
        ((FRAMES[:1], "One."), {}, "frames must hold at least two images of one size, got 1"),
        (([*FRAMES, np.zeros((40, 60, 3))], "Two sizes."), {}, "of one size, got 4 of sizes"),
        (([*FRAMES, np.full((4, 6), 1.5)], "Too bright."), {}, r"frames must be in \[0, 1\]"),
        (
            (FRAMES, "Fast."),
            {"milliseconds": 5},
            "milliseconds must be a whole number from 20 to 2000, got 5",
        ),
    ],
)
def test_bad_input_is_named(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        animate(*arguments, **settings)
