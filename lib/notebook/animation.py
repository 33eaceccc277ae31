"""A moving picture that starts by itself, can be stopped, and stands still for readers who asked for that."""

import io
from base64 import b64encode

from PIL import Image

from lib.notebook.pictures import caption_html, image_html, plain_text, publish, render

# The stored picture is the still first frame; this script sets it in motion, unless the reader's system asks for
# reduced motion. So the page prints, and works without scripts, as a still.
SCRIPT = """(script => {
  const figure = script.closest(".animation"), image = figure.querySelector("img");
  const button = figure.querySelector("button"), still = image.src, moving = figure.dataset.moving;
  const run = on => { image.src = on ? moving : still; button.textContent = on ? "Stop" : "Play"; };
  button.addEventListener("click", () => run(image.src === still));
  button.style.display = "";
  run(!matchMedia("(prefers-reduced-motion: reduce)").matches);
})(document.currentScript)"""


def animate(frames, alt: str, caption: str | None = None, *, milliseconds: int = 80, name: str | None = None) -> None:
    """Displays images one after the other, in an endless loop with a button that stops it.

    `frames` holds at least two images of one size, each as `show` takes it; `milliseconds` (20 to 2000) is the time
    of one. With a `name` other pages can show the same picture through MyST-NB's `glue` directive. Alt text and
    caption are plain text, as in `show`.

    Raises ValueError, naming the argument, for all other input.
    """
    alt = plain_text(alt, "alt")
    if not isinstance(milliseconds, int) or not 20 <= milliseconds <= 2000:
        raise ValueError(f"milliseconds must be a whole number from 20 to 2000, got {milliseconds!r}")
    pictures = [render(frame, name="frames") for frame in frames]
    if len(pictures) < 2 or len({picture[1:] for picture in pictures}) > 1:
        sizes = sorted({picture[1:] for picture in pictures})
        raise ValueError(f"frames must hold at least two images of one size, got {len(pictures)} of sizes {sizes}")
    images = [Image.open(io.BytesIO(picture.png)).convert("RGB") for picture in pictures]
    with io.BytesIO() as file:
        images[0].save(file, "webp", save_all=True, append_images=images[1:], duration=milliseconds, loop=0, quality=60)
        moving = f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}"
    page = (
        f'<figure class="book-figure animation" data-moving="{moving}">{image_html(pictures[0], alt)}'
        '<button type="button" style="display:none" aria-label="Stop or play the moving picture">Stop</button>'
        f"{caption_html(caption)}<script>{SCRIPT}</script></figure>"
    )
    publish({"text/html": page}, alt, name)
