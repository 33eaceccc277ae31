"""The stored notebooks: where they are, and the one form in which they are kept.

A stored notebook holds nothing that changes from run to run: cell ids come from the cells' text, timings and
versions are left out, figures are small, and widgets leave only the HTML that stands in for them on the page.
"""

import base64
import copy
import hashlib
import io
import json
import re
from collections import Counter
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image
from sphinx_external_toc.parsing import parse_toc_yaml

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LARGEST = 1_500_000  # bytes of a notebook with its outputs
COLOURS = 64

_KEPT = ("tags", "mystnb")
# What the page folds or leaves out by its tag, JupyterLab and Colab fold by these.
_NO_SOURCE = {"hide-input", "hide-cell", "remove-input"}
_NO_OUTPUT = {"hide-output", "hide-cell"}
# The line by which Colab names a folded cell; the page has its own words for that, in `mystnb`, and drops the line.
TITLE = "# @title "
_UNNAMED = "How what follows is made"
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_LANGUAGE = {"name": "python", "file_extension": ".py", "pygments_lexer": "ipython3"}
_NOISE = re.compile(r"^$|\d+%\||\bit/s\b|\bs/it\b|building the font cache")  # a progress bar, a first start
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")


class NotebookError(ValueError):
    """A notebook that cannot be stored; the message names each cell and its fault."""


def pages(root: Path) -> list[str]:
    """Every page of `_toc.yml` under `root`, in reading order, without suffix: `book/1-autoencoders/vae`."""
    return list(parse_toc_yaml(root / "_toc.yml"))


def chapters(root: Path) -> list[Path]:
    """The notebooks among the pages of `_toc.yml`, in reading order."""
    return [path for page in pages(root) if (path := root / f"{page}.ipynb").exists()]


def read(path: Path) -> NotebookNode:
    """Read a notebook of format 4; raises `NotebookError` where the file is not one."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises a different class for every way to be broken
        what = f"{type(error).__name__}: {error}"
        raise NotebookError(f"{path}: wanted a notebook of format 4, got {what}") from error
    return notebook


def write(notebook: NotebookNode, path: Path) -> None:
    """Write `notebook` at once or not at all; raises `NotebookError` above `LARGEST` bytes."""
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    if (size := len(text.encode())) > LARGEST:
        wanted = f"wanted at most {LARGEST:,} bytes with its outputs, got {size:,}"
        raise NotebookError(f"{path}: {wanted}; {largest_outputs(notebook)}")
    write_text(text, path)


def largest_outputs(notebook: NotebookNode, count: int = 3) -> str:
    """The cells that store most, and how much, in words."""
    code = [(number, cell) for number, cell in enumerate(notebook.cells, start=1) if cell.cell_type == "code"]
    sizes = [(len(json.dumps(cell.outputs).encode()), label(number, cell)) for number, cell in code if cell.outputs]
    largest = sorted(sizes, key=lambda entry: -entry[0])[:count]
    return "the largest outputs are those of " + (", ".join(f"{name}: {size:,}" for size, name in largest) or "no cell")


def write_text(text: str, path: Path) -> None:
    """Replace the file at `path` by `text` at once: a reader sees the old file or the new one, whole."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    if path.exists():
        new.chmod(path.stat().st_mode)
    new.replace(path)


def normalise(notebook: NotebookNode) -> NotebookNode:
    """A copy of `notebook` in the form in which notebooks are stored; doing it twice changes nothing more.

    Raises `NotebookError` for outputs that a page must not show: a warning on stderr, an error in a cell
    without the tag `raises-exception`, a memory address.
    """
    notebook = copy.deepcopy(notebook)
    fingerprint = notebook.metadata.get("book_fingerprint")
    notebook.metadata = NotebookNode(kernelspec=dict(_KERNEL), language_info=dict(_LANGUAGE))
    if fingerprint:
        notebook.metadata["book_fingerprint"] = fingerprint
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    faults: list[str] = []
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = _identity(cell, seen)
        cell.metadata = NotebookNode({key: cell.metadata[key] for key in _KEPT if key in cell.metadata})
        if cell.cell_type == "code":
            cell.metadata |= _folds({*cell.metadata.get("tags", [])})
            cell.source = _titled(cell)
            cell.outputs, wrong = _outputs(cell)
            faults += [f"{label(number, cell)} {fault}" for fault in wrong]
    if faults:
        raise NotebookError("; ".join(faults))
    return nbformat.reads(nbformat.writes(notebook), as_version=4)


def _folds(tags: set[str]) -> dict[str, object]:
    """The metadata by which JupyterLab and Colab fold a cell with these tags."""
    folded = {"source_hidden": bool(tags & _NO_SOURCE), "outputs_hidden": bool(tags & _NO_OUTPUT)}
    if not any(folded.values()):
        return {}
    colab = {"cellView": "form"} if folded["source_hidden"] else {}
    return {"jupyter": {name: True for name, hidden in folded.items() if hidden}, **colab}


def _titled(cell: NotebookNode) -> str:
    """The source of a code cell, with a title where Colab folds it."""
    source = untitled(cell.source)
    if "cellView" not in cell.metadata or not source.strip():
        return source
    shown = cell.metadata.get("mystnb", {}).get("code_prompt_show", "")
    named = shown.removeprefix("Show ").removeprefix("the ")
    return f"{TITLE}{named[:1].upper()}{named[1:] or _UNNAMED}\n{source}"


def untitled(source: str) -> str:
    """The source of a cell without the title that Colab shows, which is not part of what the cell does."""
    return source.partition("\n")[2] if source.startswith(TITLE) else source


def label(number: int, cell: NotebookNode) -> str:
    """How messages name a cell: its number in the notebook, from 1, and its first line."""
    line = next((line for line in untitled(cell.source).splitlines() if line.strip()), "")
    return f"cell {number} ({line.strip()[:50]!r})"


def _identity(cell: NotebookNode, seen: Counter[str]) -> str:
    """An id made from the cell's own text, so that a regenerated notebook keeps its ids."""
    identity = hashlib.sha256(f"{cell.cell_type}\n{untitled(cell.source)}".encode()).hexdigest()[:8]
    seen[identity] += 1
    return identity if seen[identity] == 1 else f"{identity}-{seen[identity]}"


def _outputs(cell: NotebookNode) -> tuple[list[NotebookNode], list[str]]:
    """The outputs of a code cell as they are stored, and what is wrong with them."""
    kept: list[NotebookNode] = []
    faults: list[str] = []
    for output in cell.outputs:
        if output.output_type == "error":
            if "raises-exception" not in cell.metadata.get("tags", []):
                faults.append(f"raised {output.ename}: {output.evalue}")
            kept.append(output)
        elif output.output_type == "stream":
            lines = re.split(r"[\r\n]+", output.text)
            if output.name == "stderr":
                if said := [line for line in lines if not _NOISE.search(line)]:
                    faults.append(f"wrote to stderr: {said[0][:120]}")
            elif kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text  # one print may arrive in pieces
            else:
                kept.append(output)
        elif data := _faces(output.data):
            if set(data) == {"text/plain"} and _ADDRESS.search(data["text/plain"]):
                faults.append(f"shows a memory address: {data['text/plain'][:60]}; end its last line with ;")
            kept.append(NotebookNode(output, data=data))
    return kept, faults


def _faces(data: dict[str, object]) -> NotebookNode:
    """The parts of a display that are stored: no widget views, small pictures; may be empty."""
    data = NotebookNode(data)
    if data.pop(WIDGET_VIEW, None) is not None and not set(data) - {"text/plain"}:
        return NotebookNode()  # a progress bar: without its widget only "0%" would be left
    if set(data) > {"text/plain"} and _ADDRESS.search(data.get("text/plain", "")):
        del data["text/plain"]
    if "image/png" in data:
        data["image/png"] = base64.b64encode(small_png(base64.b64decode(data["image/png"]))).decode()
    return data


def small_png(png: bytes) -> bytes:
    """The PNG with at most 64 colours, on white; one that has no more is returned as it is."""
    image = Image.open(io.BytesIO(png))
    if image.mode == "P" and image.getcolors(COLOURS):
        return png
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    small = io.BytesIO()
    white.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()
