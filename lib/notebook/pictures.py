"""The house style, and the one way a picture gets onto a page.

A picture is stored inside an HTML figure: a PNG of few colours on white, with its alt text and its caption
beside it. Matplotlib figures, arrays and tensors all take this way, in a chapter, in Jupyter and on Colab.
"""

import html
import io
import math
import numbers
from base64 import b64encode
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from IPython import get_ipython
from IPython.display import display
from PIL import Image

if TYPE_CHECKING:  # matplotlib takes longer to import than all of the above: functions that draw do it
    from matplotlib.figure import Figure

# One colour for one thing in every chapter, after Okabe and Ito, "Color Universal Design" (2008). The grey is
# darker than usual: to the red-green blind a middle grey and the purple look alike.
COLORS = {
    "data": "#0072B2",
    "latent": "#CC79A7",
    "noise": "#6E6E6E",
    "model": "#D55E00",
    "truth": "#1A1A1A",
}

# A figure 6 inches wide fills a page's column, and its text can still be read on a phone of 390 pixels.
STYLE: dict[Any, Any] = {
    "figure.figsize": (6.0, 3.4),
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 11.5,
    "axes.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#595959",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": "cycler('color', ['#0072B2', '#D55E00', '#CC79A7', '#1A1A1A', '#009E73'])",
    "grid.color": "#E4E4E4",
    "xtick.color": "#595959",
    "ytick.color": "#595959",
    "xtick.labelcolor": "#1A1A1A",
    "ytick.labelcolor": "#1A1A1A",
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "image.cmap": "gray",
}

STILL_COLORS = 128  # 64 would draw bands into a photograph's sky
ARRAY_SIDE = 280  # pixels: the longer side of an array is enlarged to about this
PAGE_WIDTH = 660  # pixels: six inches at 110 dots each


class Picture(NamedTuple):
    """A picture ready for a page: PNG bytes and its size in pixels."""

    png: bytes
    width: int
    height: int


def apply_style() -> None:
    """Sets matplotlib's defaults to the house style. Importing `lib.notebook` inside IPython calls it."""
    import matplotlib

    matplotlib.rcParams.update(STYLE)


def show(fig, alt: str, caption: str | None = None, colors: int = STILL_COLORS) -> None:
    """Displays a figure with its alt text, and closes it.

    `fig` is a matplotlib Figure, or an array or tensor of shape (H, W), (1, H, W), (H, W, 3) or (3, H, W)
    with values in [0, 1]. `alt` says what the picture shows and what to notice; `caption` says the
    conclusion. Both are plain text. `colors` (2 to 256) is the size of the stored palette.

    Raises ValueError for an empty alt text, for TeX in either text, and for a picture of another kind.
    """
    publish({"text/html": figure_html(fig, alt, caption, colors)}, alt)


def show_images(images, titles=None, columns=None, *, alt, caption=None, cmap="gray") -> None:
    """Displays images in a grid, each pixel a square of whole screen pixels.

    `images` has shape (N, H, W), (N, 1, H, W), (N, 3, H, W) or (N, H, W, 3), values in [0, 1]; it may be a
    tensor, an array or a list of such images of one size. `titles` holds one short text per image. `columns`
    is the width of the grid; without it at most ten images stand in a row, five with titles. `cmap` is
    matplotlib's name of a colour map for images of one channel. Alt text and caption as in `show`.

    Raises ValueError, naming the argument, for a wrong shape, for values outside [0, 1], and for titles that
    do not match the images.
    """
    alt = plain_text(alt, "alt")
    batch = _image_batch(images)
    if titles is not None and len(titles) != len(batch):
        raise ValueError(f"titles holds {len(titles)} texts for {len(batch)} images; there must be one per image")
    if columns is None:
        widest = 10 if titles is None else 5  # titles must be read on a phone
        columns = math.ceil(len(batch) / math.ceil(len(batch) / widest))
    if not isinstance(columns, numbers.Integral) or columns < 1:
        raise ValueError(f"columns must be a whole number of at least 1, got {columns!r}")
    with figures_closed():
        fig = _grid(batch, titles, min(int(columns), len(batch)), cmap)
        show(fig, alt, caption, colors=256 if batch.ndim == 4 else STILL_COLORS)


def tile(images, columns: int, zoom: int = 2) -> np.ndarray:
    """One picture (H, W) or (H, W, 3) of images as `show_images` takes them, side by side in rows of `columns`.

    Each pixel becomes a square of `zoom` by `zoom`. The last row is filled up with black. For `explore` and `animate`,
    which want one picture a frame. Raises ValueError as `show_images` does, and for counts below 1.
    """
    batch = _image_batch(images)
    for name, count in (("columns", columns), ("zoom", zoom)):
        if not isinstance(count, numbers.Integral) or count < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {count!r}")
    rows = math.ceil(len(batch) / columns)
    full = np.zeros((rows * columns, *batch.shape[1:]), batch.dtype)
    full[: len(batch)] = batch
    lines = [np.concatenate(list(line), axis=1) for line in np.split(full, rows)]
    return np.concatenate(lines).repeat(zoom, axis=0).repeat(zoom, axis=1)


def figure_html(fig, alt: str, caption: str | None = None, colors: int = STILL_COLORS) -> str:
    """The HTML that `show` displays: `<figure class="book-figure">` with picture, alt text and caption."""
    alt = plain_text(alt, "alt")
    below = caption_html(caption)
    return f'<figure class="book-figure">{image_html(render(fig, colors), alt)}{below}</figure>'


def image_html(picture: Picture, alt: str, hidden: bool = False) -> str:
    """One `<img>` that holds the picture itself, never wider than the page; `hidden` keeps it unseen.

    The size is written down so that nothing jumps while the page loads. Hiding is a style, not the attribute
    `hidden`: JupyterLab removes that attribute from notebooks it does not trust, and would show every frame.
    """
    style = "max-width:100%;height:auto" + (";display:none" if hidden else "")
    size = f'width="{picture.width}" height="{picture.height}"'
    return (
        f'<img alt="{html.escape(alt)}" {size} style="{style}" '
        f'src="data:image/png;base64,{b64encode(picture.png).decode()}">'
    )


def caption_html(caption: str | None) -> str:
    """`<figcaption>` with the caption, or nothing where there is none."""
    return "" if caption is None else f"<figcaption>{html.escape(plain_text(caption, 'caption'))}</figcaption>"


class LiveFigure:
    """One place below a cell whose picture can be replaced while the cell runs; the last one stays.

    ```python
    curve = LiveFigure()
    for ...:
        curve.update(fig, alt="Loss against images seen; it falls from 0.7 to 0.2.")
    ```
    Outside IPython there is no such place, and `update` does nothing but close the figure.
    """

    def __init__(self):
        self._place = None

    def update(self, fig, alt: str, caption: str | None = None) -> None:
        """Shows the figure here instead of the last one. Takes what `show` takes."""
        if get_ipython() is None:
            import matplotlib.pyplot as plt

            plt.close(fig)
            return
        bundle = {"text/html": figure_html(fig, alt, caption), "text/plain": alt}
        if self._place is None:
            self._place = display(bundle, raw=True, display_id=True)
        else:
            self._place.update(bundle, raw=True)


def publish(faces: dict, text: str, name: str | None = None) -> None:
    """Displays one output with several faces, by MIME type; `text` is the one for those who show text only.

    Under `name` other pages of the book can show it too, by MyST-NB's directive `glue`, which looks for this
    metadata. Outside IPython there is no page, and nothing is displayed.
    """
    metadata = None if name is None else {"scrapbook": {"name": name, "mime_prefix": ""}}
    if get_ipython() is not None:
        display({**faces, "text/plain": text}, raw=True, metadata=metadata)


def render(fig, colors: int = STILL_COLORS, name: str = "fig") -> Picture:
    """Makes a PNG of few colours from a matplotlib Figure, which it closes, or from an array as in `show`.

    Raises ValueError, with `name` in it, for a picture of another kind, and unless `colors` is from 2 to 256.
    """
    if not isinstance(colors, numbers.Integral) or not 2 <= colors <= 256:
        raise ValueError(f"colors must be a whole number from 2 to 256, got {colors!r}")
    from matplotlib.figure import Figure

    pixels = _drawn(fig) if isinstance(fig, Figure) else _enlarged(_image(fig, name))
    image = Image.fromarray(pixels)
    reduced = image.quantize(int(colors), dither=Image.Dither.NONE)
    _keep_white(reduced, pixels)
    with io.BytesIO() as file:
        reduced.save(file, "png", optimize=True)
        return Picture(file.getvalue(), image.width, image.height)


def plain_text(text, name: str) -> str:
    """Returns `text` without surrounding space, after checking that it is not empty and holds no TeX.

    Colab and screen readers do not typeset it: write β and σ² instead. Raises ValueError naming `name`.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name} must be a text that is not empty, got {text!r}")
    if "$" in text or "\\" in text:
        raise ValueError(f"{name} must be plain text without TeX (write β, not $\\beta$), got {text!r}")
    return text.strip()


@contextmanager
def figures_closed():
    """Closes every pyplot figure that was opened inside the block, whether or not the block succeeds."""
    import matplotlib.pyplot as plt

    before = set(plt.get_fignums())
    try:
        yield
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)


def _drawn(fig: "Figure") -> np.ndarray:
    """The figure's pixels on white, uint8 (H, W, 3). Agg draws the same picture under every backend."""
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    plt.close(fig)
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    white = Image.new("RGBA", drawn.size, "white")
    return np.asarray(Image.alpha_composite(white, drawn).convert("RGB"))


def _array(values, name: str) -> np.ndarray:
    """An array, a tensor on any device or a list of them, as floats that were checked to lie in [0, 1]."""
    if isinstance(values, list | tuple):
        values = [_array(value, name) for value in values]
        if len({value.shape for value in values}) > 1:
            raise ValueError(f"{name} must be of one size, got shapes {[value.shape for value in values]}")
    if hasattr(values, "detach"):
        values = values.detach().cpu().float()
    try:
        if values is None:
            raise TypeError
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        kind = type(values).__name__
        raise ValueError(f"{name} must be an array or a tensor (or a matplotlib Figure), got {kind}") from None
    if array.size and not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):  # false for NaN too
        raise ValueError(
            f"{name} must be in [0, 1], got {array.min():.4g} to {array.max():.4g}; scale or clamp the values"
        )
    return np.clip(array, 0, 1)


def _image(values, name: str) -> np.ndarray:
    """One image as uint8 (H, W, 3)."""
    array = _array(values, name)
    if array.ndim == 3 and array.shape[-1] != 3 and array.shape[0] in (1, 3):
        array = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3)):
        raise ValueError(f"{name} must have shape (H, W), (1, H, W), (H, W, 3) or (3, H, W), got {array.shape}")
    pixels = np.round(array * 255).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)


def _image_batch(images) -> np.ndarray:
    """Images as float32 (N, H, W) or (N, H, W, 3)."""
    array = _array(images, "images")
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    elif array.ndim == 4 and array.shape[1] == 3 and array.shape[-1] != 3:
        array = array.transpose(0, 2, 3, 1)
    if array.size == 0 or not (array.ndim == 3 or (array.ndim == 4 and array.shape[-1] == 3)):
        wanted = "(N, H, W), (N, 1, H, W), (N, 3, H, W) or (N, H, W, 3), none of them empty"
        raise ValueError(f"images must have shape {wanted}, got {array.shape}")
    return array


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    """Each pixel repeated, so that a small image can be seen."""
    zoom = max(1, ARRAY_SIDE // max(pixels.shape[:2]))
    return pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _keep_white(reduced: Image.Image, pixels: np.ndarray) -> None:
    """Makes white exactly white again: a palette holds means, and a background of 254 shows on a page."""
    white = (pixels == 255).all(axis=-1)
    if white.any():
        palette = reduced.getpalette() or []
        entry = 3 * int(np.asarray(reduced)[white][0])
        palette[entry : entry + 3] = [255, 255, 255]
        reduced.putpalette(palette)


def _grid(batch: np.ndarray, titles, columns: int, cmap: str) -> "Figure":
    """A figure in which image n stands in row n // columns, placed to the pixel."""
    import matplotlib.pyplot as plt

    rows = math.ceil(len(batch) / columns)
    gap, title = 6, 0 if titles is None else 24
    height, width = batch.shape[1:3]
    zoom = (PAGE_WIDTH - gap * (columns - 1)) / columns / width
    zoom = min(zoom, ARRAY_SIDE / max(height, width)) if zoom >= 1 else zoom
    zoom = math.floor(zoom) if zoom >= 1 else zoom
    height, width = max(1, round(height * zoom)), max(1, round(width * zoom))
    total_width = columns * width + (columns - 1) * gap
    total_height = rows * (height + title) + (rows - 1) * gap
    dpi = STYLE["figure.dpi"]
    fig = plt.figure(figsize=((total_width + 0.01) / dpi, (total_height + 0.01) / dpi), dpi=dpi, layout="none")
    for index, image in enumerate(batch):
        row, column = divmod(index, columns)
        left, top = column * (width + gap), row * (height + title + gap) + title
        box = (
            left / total_width,
            1 - (top + height) / total_height,
            width / total_width,
            height / total_height,
        )
        axes = fig.add_axes(box)
        axes.imshow(image, cmap=cmap, vmin=0, vmax=1, interpolation="nearest" if zoom >= 1 else "antialiased")
        axes.set_axis_off()
        if titles is not None:
            axes.set_title(str(titles[index]), pad=4)
    return fig
