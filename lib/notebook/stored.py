"""The stored face of an interactive figure: HTML that is alive without a kernel and without the network."""

import hashlib
import html
import json
from typing import NamedTuple

from lib.notebook.controls import Control
from lib.notebook.pictures import Picture, image_html

# Runs once per figure, where it stands: it finds its own figure, so any number of them share a page. Until it
# runs there are no controls, only the first frame and the values it was drawn for.
SCRIPT = """(script => {
  const figure = script.closest(".explore"), frames = figure.querySelectorAll("img"); const rows =
  [...figure.querySelectorAll(".explore-control")], {order, alts} = JSON.parse(figure.dataset.frames); const
  show = () => {
    let state = 0;
    for (const row of rows) {
      const input = row.querySelector("input"), [less, more] = row.querySelectorAll("button");
      const text = JSON.parse(input.dataset.values)[input.value];
      input.setAttribute("aria-valuetext", text);
      input.style.setProperty("--filled", input.value / input.max);
      row.querySelector("output").value = text;
      less.disabled = input.value === input.min;
      more.disabled = input.value === input.max;
      state = state * (+input.max + 1) + +input.value;
    }
    frames.forEach((frame, number) => { frame.style.display = number === order[state] ? "" : "none"; });
    frames[order[state]].alt = alts[state];
  };
  for (const row of rows) {
    const input = row.querySelector("input"), [less, more] = row.querySelectorAll("button");
    input.addEventListener("input", show);
    less.addEventListener("click", () => { input.stepDown(); show(); });
    more.addEventListener("click", () => { input.stepUp(); show(); });
  }
  figure.querySelector(".explore-controls").style.display = "";
  figure.querySelector(".explore-still").style.display = "none";
  show();
})(document.currentScript)"""


class Frame(NamedTuple):
    """One drawn picture and the text that says what it shows."""

    picture: Picture
    alt: str


def stored_face(controls: list[Control], frames: list[Frame], below: str) -> str:
    """HTML of the figure. `frames` stand in the order of `itertools.product` over the controls' values.

    The root is `<figure class="explore">`. Its id is made of the contents, so that a run that draws the same
    stores the same. `below` is the caption's HTML.
    """
    start = 0
    for control in controls:
        start = start * len(control.values) + control.position
    first = frames[start]
    # Each picture once, and the first frame's first: it is the one that is printed.
    alts = {frame.picture: frame.alt for frame in (first, *reversed(frames))} | {first.picture: first.alt}
    images = "".join(image_html(picture, alt, picture != first.picture) for picture, alt in alts.items())
    numbers = {picture: number for number, picture in enumerate(alts)}
    order = [numbers[frame.picture] for frame in frames]

    contents = [(control.name, control.label, control.texts) for control in controls], order, images, below
    name = "explore-" + hashlib.sha256(repr(contents).encode()).hexdigest()[:10]
    rows = "".join(_row(control, f"{name}-{control.name}", f"{name}-picture") for control in controls)
    still = ", ".join(f"{control.label} = {control.texts[control.position]}" for control in controls)
    data = _attribute({"order": order, "alts": [frame.alt for frame in frames]})
    return (
        f'<figure class="explore" id="{name}" data-frames="{data}">'
        f'<div class="explore-picture" id="{name}-picture" aria-live="polite">{images}</div>'
        f'<p class="explore-still">{html.escape(still)}</p>'
        f'<div class="explore-controls" style="display:none">{rows}</div>'
        f"{below}<script>{SCRIPT}</script></figure>"
    )


def _row(control: Control, name: str, picture: str) -> str:
    """HTML of one slider: label, a step back, the range, a step on, and the value.

    The buttons are for fingers. The keyboard has its keys on the slider itself and does not stop at them.
    """
    label, text = html.escape(control.label), html.escape(control.texts[control.position])
    room = max(len(text) for text in control.texts)  # for the longest value, so that nothing moves

    def button(sign: str, what: str) -> str:
        return f'<button type="button" tabindex="-1" aria-label="{label}: {what} value">{sign}</button>'

    slider = (
        # Without data-lm-suppress-shortcuts JupyterLab takes the arrow keys for itself.
        f'<input type="range" id="{name}" autocomplete="off" data-lm-suppress-shortcuts="true" '
        f'aria-valuetext="{text}" aria-describedby="{picture}" '
        f'min="0" max="{len(control.values) - 1}" step="1" value="{control.position}" '
        f'data-values="{_attribute(control.texts)}">'
    )
    return (
        f'<div class="explore-control"><label for="{name}">{label}</label> '
        f"{button('‹', 'previous')}{slider}{button('›', 'next')} "
        f'<output for="{name}" aria-live="off" style="min-width:{room}ch">{text}</output></div>'
    )


def _attribute(data) -> str:
    """Data as JSON inside an HTML attribute, where the script finds it."""
    return html.escape(json.dumps(data, ensure_ascii=False, separators=(",", ":")))
