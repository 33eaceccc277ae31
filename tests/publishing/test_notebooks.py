import base64
import io

import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from lib.publishing import notebooks

VIEW = {"model_id": "1a2b", "version_major": 2, "version_minor": 0}


def picture(mode="RGBA", colours=300):
    values = np.random.default_rng(0).integers(0, 256, size=(20, colours // 20, len(mode)), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values, mode).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def stored(*outputs, tags=()):
    """The outputs of a cell as they are stored."""
    cell = new_code_cell("pass", outputs=list(outputs), metadata={"tags": list(tags)})
    return notebooks.normalise(new_notebook(cells=[cell])).cells[0].outputs


def test_ids_come_from_the_text_and_survive_an_insertion():
    texts = ["# A", "# B", "# A"]
    before = notebooks.normalise(new_notebook(cells=[new_markdown_cell(text) for text in texts]))
    after = notebooks.normalise(new_notebook(cells=[new_markdown_cell(t) for t in ["# New", *texts]]))
    identities = [cell.id for cell in before.cells]
    assert len(set(identities)) == 3
    assert [cell.id for cell in after.cells][1:] == identities
    assert new_markdown_cell("# A").id != new_markdown_cell("# A").id  # what nbformat gives is random


def test_volatile_metadata_goes_and_what_the_page_needs_stays():
    metadata = {
        "tags": ["derivation"],
        "mystnb": {"image": {"alt": "x"}},
        "execution": {"iopub.status.busy": "9"},
    }
    notebook = new_notebook(cells=[new_code_cell("1", metadata={**metadata, "scrolled": True})])
    notebook.metadata = {"widgets": {"state": {}}, "language_info": {"name": "python", "version": "3.11.4"}}
    done = notebooks.normalise(notebook)
    assert done.cells[0].metadata == {"tags": ["derivation"], "mystnb": {"image": {"alt": "x"}}}
    assert set(done.metadata) == {"kernelspec", "language_info"}
    assert "version" not in done.metadata.language_info
    assert done.metadata.language_info.pygments_lexer == "ipython3"


@pytest.mark.parametrize(
    "tag, folds",
    [
        ("hide-input", {"jupyter": {"source_hidden": True}, "cellView": "form"}),
        ("remove-input", {"jupyter": {"source_hidden": True}, "cellView": "form"}),
        ("hide-cell", {"jupyter": {"source_hidden": True, "outputs_hidden": True}, "cellView": "form"}),
        ("hide-output", {"jupyter": {"outputs_hidden": True}}),
        ("derivation", {}),
    ],
)
def test_what_the_page_folds_jupyterlab_and_colab_fold_too(tag, folds):
    notebook = new_notebook(cells=[new_code_cell("1", metadata={"tags": [tag], "cellView": "both"})])
    done = notebooks.normalise(notebook)
    assert done.cells[0].metadata == {"tags": [tag], **folds}
    assert notebooks.normalise(done) == done


def test_a_widget_leaves_its_html_and_a_progress_bar_nothing():
    figure = new_output("display_data", {notebooks.WIDGET_VIEW: VIEW, "text/html": "<figure>", "text/plain": "A wave"})
    bar = new_output("display_data", {notebooks.WIDGET_VIEW: VIEW, "text/plain": "  0%|   | 0/3"})
    kept = stored(figure, bar)
    assert [output.data for output in kept] == [{"text/html": "<figure>", "text/plain": "A wave"}]


def test_display_metadata_stays():
    glued = new_output("display_data", {"text/html": "<p>"}, metadata={"scrapbook": {"name": "walk"}})
    assert stored(glued)[0].metadata == {"scrapbook": {"name": "walk"}}


def test_pieces_of_print_are_joined():
    pieces = [new_output("stream", text=text) for text in ("a\n", "b\n")]
    assert [output.text for output in stored(*pieces)] == ["a\nb\n"]


@pytest.mark.parametrize(
    "noise",
    [
        "  0%|          | 0/938 [00:00<?, ?it/s]\r100%|##| 938/938 [00:09<00:00, 101.10it/s]\n",
        "Matplotlib is building the font cache; this may take a moment.\n",
    ],
)
def test_noise_on_stderr_is_left_out(noise):
    assert stored(new_output("stream", name="stderr", text=noise)) == []


def test_a_warning_is_refused_with_its_cell():
    warning = new_output("stream", name="stderr", text="/tmp/x.py:1: UserWarning: careful\n")
    with pytest.raises(notebooks.NotebookError, match=r"cell 1 \('pass'\) wrote to stderr: .*careful"):
        stored(warning)


def test_an_error_is_refused_unless_the_cell_means_it():
    error = new_output("error", ename="ValueError", evalue="no", traceback=[])
    with pytest.raises(notebooks.NotebookError, match="raised ValueError: no"):
        stored(error)
    assert stored(error, tags=["raises-exception"]) == [error]


def test_memory_addresses_are_refused_or_left_out():
    address = "<lib.notebook.Figure object at 0x7f12ab34cd56>"
    with pytest.raises(notebooks.NotebookError, match="shows a memory address"):
        stored(new_output("execute_result", {"text/plain": address}))
    assert stored(new_output("execute_result", {"text/plain": address, "text/html": "<p>"}))[0].data == {
        "text/html": "<p>"
    }


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_get_64_colours_on_white_once(mode):
    (output,) = stored(new_output("display_data", {"image/png": picture(mode)}))
    png = base64.b64decode(output.data["image/png"])
    image = Image.open(io.BytesIO(png))
    assert image.mode == "P" and len(image.getcolors()) <= 64
    assert notebooks.small_png(png) == png


def test_transparency_becomes_white():
    file = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(file, "PNG")
    assert Image.open(io.BytesIO(notebooks.small_png(file.getvalue()))).convert("RGB").getcolors() == [
        (16, (255, 255, 255))
    ]


OUTPUTS = st.sampled_from(
    [
        new_output("stream", text="one\n"),
        new_output("stream", name="stderr", text=" 50%|#  | 1/2\r"),
        new_output("display_data", {"image/png": picture(), "text/plain": "<Figure>"}),
        new_output("display_data", {notebooks.WIDGET_VIEW: VIEW, "text/plain": "0%"}),
        new_output(
            "display_data",
            {notebooks.WIDGET_VIEW: VIEW, "text/html": "<p>", "text/plain": "<A at 0x7f00aa11bb>"},
        ),
        new_output("execute_result", {"text/plain": "4"}, execution_count=1),
    ]
)
CELLS = st.one_of(
    st.builds(new_markdown_cell, st.text(max_size=20)),
    st.builds(
        lambda source, outputs: new_code_cell(source, outputs=outputs),
        st.text(max_size=20),
        st.lists(OUTPUTS),
    ),
)


@settings(max_examples=30)
@given(st.lists(CELLS, max_size=4))
def test_normal_form_is_stable_and_valid(cells):
    once = notebooks.normalise(new_notebook(cells=cells))
    nbformat.validate(once)
    assert notebooks.normalise(once) == once
    assert nbformat.writes(notebooks.normalise(once)) == nbformat.writes(once)


def test_the_argument_is_left_alone():
    notebook = new_notebook(cells=[new_code_cell("1", outputs=[new_output("stream", text=t) for t in "ab"])])
    before = nbformat.writes(notebook)
    notebooks.normalise(notebook)
    assert nbformat.writes(notebook) == before


def test_a_large_notebook_is_refused_and_the_old_one_stays(tmp_path):
    path = tmp_path / "a.ipynb"
    notebooks.write(new_notebook(cells=[new_markdown_cell("small")]), path)
    before = path.read_bytes()
    with pytest.raises(notebooks.NotebookError, match="at most 1,500,000 bytes"):
        notebooks.write(new_notebook(cells=[new_markdown_cell("x" * notebooks.LARGEST)]), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"nbformat": 4, "nbformat_minor": 5, "cells": [{}]}', "\x00"])
def test_what_is_no_notebook_is_refused_by_name(tmp_path, text):
    path = tmp_path / "broken.ipynb"
    path.write_text(text)
    with pytest.raises(notebooks.NotebookError, match=r"broken\.ipynb: wanted a notebook"):
        notebooks.read(path)


def test_pages_and_chapters_in_reading_order(tmp_path):
    toc = "format: jb-book\nroot: a\nparts:\n- caption: P\n  chapters:\n  - file: c\n  - file: b\n"
    (tmp_path / "_toc.yml").write_text(toc)
    for name in ("a.md", "b.ipynb", "c.ipynb"):
        (tmp_path / name).touch()
    assert notebooks.pages(tmp_path) == ["a", "c", "b"]
    assert notebooks.chapters(tmp_path) == [tmp_path / "c.ipynb", tmp_path / "b.ipynb"]
