"""The library's source on a page: the same text as in its file, and a link to the same lines."""

import functools
import inspect
import re
import sys
import textwrap
from pathlib import Path

import pytest

import lib
import lib.notebook.pictures
from lib.notebook import pictures, setup, source
from lib.notebook.controls import Control
from lib.notebook.explore import explore
from lib.notebook.pictures import LiveFigure, figures_closed

module = sys.modules["lib.notebook.source"]
ROOT = Path(lib.__file__).parents[1]
SHOWN = [pictures, LiveFigure, explore, LiveFigure.update, Control.position, figures_closed, pictures.Picture]


@pytest.mark.parametrize("shown", SHOWN)
def test_the_block_is_the_lines_that_the_link_names(shown):
    text = module.source_markdown(shown)
    link, block = text.split("\n\n", 1)
    label, path, first, last, address = re.fullmatch(r"\[((.*), lines (\d+)-(\d+))\]\((.*)\)", link).groups()
    assert address == f"{setup.repository()}/blob/v{setup.version()}/{path}#L{first}-L{last}"
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()[int(first) - 1 : int(last)]
    assert lines[0].strip() and lines[-1].strip(), "the link reaches beyond the code"
    fence, *code, end = block.split("\n")
    assert fence == f"{end}python" and set(end) == {"`"}
    assert "\n".join(code) == textwrap.dedent("\n".join(lines)).strip("\n")
    assert not any(line.startswith(end) for line in code), "the block would end early"
    assert label.startswith("lib/notebook/")


def test_what_is_shown_is_what_was_asked_for():
    assert "def update(self, fig" in module.source_markdown(LiveFigure.update).splitlines()[3]
    assert "class LiveFigure" in module.source_markdown(LiveFigure).splitlines()[3]
    assert module.source_markdown(Control.position).splitlines()[3] == "@property"
    assert module.source_markdown(figures_closed).splitlines()[3] == "@contextmanager"
    whole = Path(pictures.__file__).read_text(encoding="utf-8")
    assert module.source_markdown(pictures).split("\n", 3)[3].rsplit("\n", 1)[0] == whole.strip("\n")


def test_a_docstring_with_a_fence_stays_inside_the_block():
    assert "```python" in inspect.getsource(LiveFigure)
    assert module.source_markdown(LiveFigure).splitlines()[2] == "````python"


def test_all_objects_go_into_one_output(monkeypatch):
    shown = []
    monkeypatch.setattr(module, "publish", lambda faces, text: shown.append((faces, text)))
    source(LiveFigure.update, explore)
    ((faces, text),) = shown
    assert faces == {"text/markdown": text}
    assert text.index("def update") < text.index("[lib/notebook/explore.py, lines") < text.index("def explore")


@pytest.mark.parametrize(
    "foreign",
    [
        Path,
        test_all_objects_go_into_one_output,
        len,
        3,
        None,
        "lib",
        functools.partial(explore),
        lib.__path__,
    ],
)
def test_what_lib_did_not_write_is_refused(foreign):
    with pytest.raises(ValueError, match="source shows functions, classes"):
        source(foreign)


def test_something_must_be_named():
    with pytest.raises(ValueError, match="at least one"):
        source()
