"""Pictures on a page: their size, colours, texts, and what is refused."""

import base64
import io
import itertools
import re

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image
from skimage.color import rgb2lab

from lib.notebook import pictures
from lib.notebook.pictures import COLORS, figure_html, image_html, plain_text, render, show, show_images, tile

# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency"
# (2009), at full severity, for linear RGB.
SIGHTS = {
    "full": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


@pytest.fixture(autouse=True)
def house_style():
    """What an import of `lib.notebook` sets in a notebook."""
    with plt.rc_context():
        pictures.apply_style()
        yield


@pytest.fixture
def page(monkeypatch):
    """What was displayed, in order."""
    shown = []
    monkeypatch.setattr(pictures, "get_ipython", lambda: "a notebook")
    monkeypatch.setattr(pictures, "display", lambda faces, raw, metadata: shown.append(faces | (metadata or {})))
    return shown


def line(**settings):
    fig, axes = plt.subplots(**settings)
    axes.plot([0, 1, 2], [0, 1, 0], color=COLORS["model"])
    return fig


def opened(picture):
    return np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB"))


def pixels(markup):
    source = BeautifulSoup(markup, "html.parser").img["src"]
    return opened(pictures.Picture(base64.b64decode(source.removeprefix("data:image/png;base64,")), 0, 0))


def linear(color):
    part = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def seen(color, sight):
    part = np.clip(np.array(SIGHTS[sight]) @ linear(color), 0, 1)
    return rgb2lab(np.where(part <= 0.0031308, 12.92 * part, 1.055 * part ** (1 / 2.4) - 0.055)[None, None])[0, 0]


def test_the_colours_stand_out_on_white():
    for name, color in COLORS.items():
        luminance = linear(color) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) >= 3, name  # WCAG 2.2, 1.4.11, for lines and marks


@pytest.mark.parametrize("sight", SIGHTS)
def test_the_colours_differ_for_every_eye(sight):
    for one, other in itertools.combinations(COLORS, 2):
        assert np.linalg.norm(seen(COLORS[one], sight) - seen(COLORS[other], sight)) > 15, (one, other)


def test_a_default_figure_fills_the_column_and_can_be_read_on_a_phone():
    assert plt.rcParams["figure.figsize"] == list(pictures.STYLE["figure.figsize"]), "the house style is not set"
    picture = render(line())
    assert (picture.width, picture.height) == (pictures.PAGE_WIDTH, 374)
    on_a_phone = 358 / picture.width  # 390 pixels less the page's margins
    assert plt.rcParams["font.size"] / 72 * plt.rcParams["figure.dpi"] * on_a_phone >= 9


def test_show_gives_one_html_output_and_closes_the_figure(page):
    fig = line()
    show(fig, '  A line "that" rises & falls.  ', caption="It <falls>.")
    assert not plt.fignum_exists(fig.number)
    (faces,) = page
    assert faces.keys() == {"text/html", "text/plain"}
    figure = BeautifulSoup(faces["text/html"], "html.parser").find("figure", class_="book-figure")
    assert figure.img["alt"] == 'A line "that" rises & falls.'
    assert figure.figcaption.text == "It <falls>."
    assert "figcaption" not in figure_html(line(), "A line")


def test_a_named_output_can_be_shown_on_another_page(page):
    pictures.publish({"text/html": "<p>A</p>"}, "A", name="walk")
    assert page[0]["scrapbook"] == {"name": "walk", "mime_prefix": ""}  # what MyST-NB's glue looks for


def test_outside_a_notebook_nothing_is_displayed(capsys):
    show(line(), "A line")
    live = pictures.LiveFigure()
    fig = line()
    live.update(fig, "A line")
    assert not plt.fignum_exists(fig.number)
    assert capsys.readouterr().out == ""


def test_a_picture_has_few_colours_and_a_background_that_is_white():
    noise = np.random.default_rng(0).random((64, 64, 3))
    for colors in (2, 48, 128):
        assert len(np.unique(opened(render(noise, colors)).reshape(-1, 3), axis=0)) <= colors
    ramp = np.linspace(0.9, 1, 64).reshape(8, 8)
    assert opened(render(ramp, 2)).max() == 255
    fig = line()
    fig.patch.set_alpha(0)
    drawn = opened(render(fig, 8))
    assert (drawn[0] == 255).all() and (drawn == 255).all(axis=-1).mean() > 0.8


def test_the_same_picture_is_stored_with_the_same_bytes():
    assert render(line()) == render(line())


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
@pytest.mark.parametrize("shape", [(4, 7), (1, 4, 7), (4, 7, 3), (3, 4, 7)])
def test_arrays_become_pictures_with_square_pixels(kind, shape):
    values = np.linspace(0, 1, np.prod(shape)).reshape(shape)
    picture = render(kind(values), 256)
    assert (picture.width, picture.height) == (280, 160)
    grey = values if len(shape) == 2 else values[0] if shape[0] == 1 else values
    wanted = grey if shape[-1] == 3 else np.moveaxis(grey, 0, -1) if shape[0] == 3 else grey[..., None].repeat(3, -1)
    assert np.abs(opened(picture)[20::40, 20::40] - wanted * 255).max() <= 1


def test_a_tensor_that_learns_and_a_half_precision_one_can_be_shown():
    assert render(torch.ones(2, 2, requires_grad=True)) == render(torch.ones(2, 2, dtype=torch.bfloat16))


def test_an_image_knows_its_size_before_it_is_read():
    picture = render(np.zeros((4, 7)))
    shown, hidden = (BeautifulSoup(image_html(picture, "Black", hide), "html.parser").img for hide in (False, True))
    assert (shown["width"], shown["height"]) == ("280", "160")
    assert "display:none" in hidden["style"] and "display:none" not in shown["style"]
    assert not hidden.has_attr("hidden")


def test_images_stand_in_a_grid_pixel_by_pixel(page):
    images = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    show_images(images, columns=3, alt="Noise")
    drawn = pixels(page[0]["text/html"])
    zoom = 7  # three times 28 pixels and two gaps of 6 in 660
    assert drawn.shape == (2 * 28 * zoom + 6, 3 * 28 * zoom + 12, 3)
    for index, image in enumerate(images[:, 0].numpy()):
        top, left = (28 * zoom + 6) * (index // 3), (28 * zoom + 6) * (index % 3)
        cell = drawn[top : top + 28 * zoom, left : left + 28 * zoom, 0]
        assert np.abs(cell[zoom // 2 :: zoom, zoom // 2 :: zoom] / 255.0 - image).max() < 0.03
        assert np.abs(np.diff(cell.astype(int), axis=1)).reshape(28 * zoom, -1)[:, : zoom - 1].max() == 0


def test_titles_stand_above_their_images_and_colour_stays(page):
    show_images([np.full((3, 8, 8), 1.0) * np.array([1, 0, 0]).reshape(3, 1, 1)] * 2, ["a", "b"], alt="Two reds")
    drawn = pixels(page[0]["text/html"])
    assert drawn.shape[0] == 280 + 24
    assert (drawn[-100, 100] == [255, 0, 0]).all()
    assert drawn[:24].min() < 100, "no title was written"


@pytest.mark.parametrize(("count", "titles", "width"), [(20, False, 10), (12, False, 6), (10, True, 5), (3, True, 3)])
def test_rows_are_of_one_length_and_short_where_there_are_titles(page, count, titles, width):
    show_images(np.zeros((count, 28, 28)), [str(n) for n in range(count)] if titles else None, alt="Black squares")
    side = min(10, (660 - 6 * (width - 1)) // width // 28) * 28
    assert pixels(page[0]["text/html"]).shape[1] == width * side + 6 * (width - 1)


def test_a_photograph_is_made_to_fit(page):
    show_images(np.full((3, 500, 400, 3), 0.5), alt="Grey")
    assert pixels(page[0]["text/html"]).shape[:2] == (270, 660)


BAD_IMAGES = {
    "images must have shape": [
        np.zeros((28, 28)),
        np.zeros((0, 28, 28)),
        np.zeros((2, 5, 8, 8)),
        np.zeros((2, 1, 4, 4, 4)),
    ],
    "images must be in": [np.full((1, 8, 8), 1.5), np.full((1, 8, 8), -1.0), np.full((1, 8, 8), np.nan)],
    "images must be an array": [None, "digits", [object()]],
    "images must be of one size": [[np.zeros((8, 8)), np.zeros((8, 9))]],
}


@pytest.mark.parametrize(("said", "images"), [(said, bad) for said, all_bad in BAD_IMAGES.items() for bad in all_bad])
def test_images_of_another_kind_are_refused(said, images):
    with pytest.raises(ValueError, match=said):
        show_images(images, alt="Something")
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"titles": ["one"]}, "titles holds 1 texts for 2"),
        ({"columns": 0}, "columns must be a whole number"),
        ({"columns": 1.5}, "columns must be a whole number"),
        ({"alt": ""}, "alt must be a text"),
        ({"caption": r"so $\beta$"}, "caption must be plain text"),
    ],
)
def test_show_images_names_the_argument_that_is_wrong(arguments, said):
    with pytest.raises(ValueError, match=said):
        show_images(np.zeros((2, 8, 8)), **{"alt": "Black", **arguments})
    assert plt.get_fignums() == []


@pytest.mark.parametrize("colors", [1, 257, 0, -3, 16.0, "many", None])
def test_a_palette_that_cannot_be_is_refused(colors):
    with pytest.raises(ValueError, match="colors must be"):
        render(np.zeros((2, 2)), colors)


@given(st.one_of(st.text(), st.none(), st.integers(), st.lists(st.text())))
def test_a_text_is_plain_and_not_empty_or_refused(text):
    plain = isinstance(text, str) and text.strip() and not set(text) & {"$", "\\"}
    if plain:
        assert plain_text(text, "alt") == text.strip()
    else:
        with pytest.raises(ValueError, match="alt must be"):
            plain_text(text, "alt")


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        elements=st.floats(-1, 2, width=32),
    )
)
def test_any_array_is_drawn_or_refused_with_its_name(values):
    right_shape = values.size and (
        values.ndim == 2 or (values.ndim == 3 and (values.shape[-1] == 3 or values.shape[0] in (1, 3)))
    )
    if right_shape and values.min() >= 0 and values.max() <= 1:
        assert render(values).png.startswith(b"\x89PNG")
    elif not right_shape or values.min() < -0.001 or values.max() > 1.001:
        with pytest.raises(ValueError, match=r"^fig must"):
            render(values)


def test_figures_opened_in_a_block_are_closed_though_it_fails():
    outside = line()
    with pytest.raises(KeyError), pictures.figures_closed():
        line()
        raise KeyError
    assert plt.get_fignums() == [outside.number]
    plt.close(outside)


def test_in_a_kernel_a_live_figure_leaves_its_last_picture_in_its_place():
    cell = """
        import numpy as np
        from lib.notebook.pictures import LiveFigure, show
        live = LiveFigure()
        for step in range(3):
            live.update(np.full((2, 2), step / 2), f"Step {step}")
        show(np.zeros((2, 2)), "After it")
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(re.sub("(?m)^ {8}", "", cell))])
    notebook = NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert [output.data["text/plain"] for output in outputs] == ["Step 2", "After it"]
    assert (pixels(outputs[0].data["text/html"]) == 255).all()


def test_a_figure_made_without_pyplot_is_drawn_too():
    fig = Figure(figsize=(2, 1), dpi=50)
    assert render(fig)[1:] == (100, 50)


def test_tiles_stand_in_reading_order_each_pixel_a_square():
    images = torch.arange(5).view(5, 1, 1, 1).expand(5, 1, 2, 3) / 10
    picture = tile(images, columns=3, zoom=2)
    assert picture.shape == (2 * 2 * 2, 3 * 3 * 2)
    corners = picture[::4, ::6]
    assert corners == pytest.approx(np.array([[0, 0.1, 0.2], [0.3, 0.4, 0]]))
    assert tile(torch.zeros(2, 3, 4, 4), columns=1).shape == (16, 8, 3)


@pytest.mark.parametrize("bad", [0, -1, 2.5])
def test_tiles_want_whole_counts(bad):
    with pytest.raises(ValueError, match="columns must be a whole number"):
        tile(torch.zeros(2, 4, 4), columns=bad)
    with pytest.raises(ValueError, match="zoom must be a whole number"):
        tile(torch.zeros(2, 4, 4), columns=1, zoom=bad)
