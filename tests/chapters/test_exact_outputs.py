"""Outputs of cells tagged `nbval-check-output` that were edited by hand: the run of all notebooks refuses each."""

import nbformat

from tests.checks.project import code, copy, run, write_notebook

FACES = {"text/plain": "2 items", "text/latex": "$2$", "text/html": "<b>2</b>", "text/markdown": "**2**"}
SHOW = f"from IPython.display import display\ndisplay({FACES}, raw=True);"


def test_exact_outputs_edited_by_hand_are_refused(tmp_path):
    copy(tmp_path, "pyproject.toml")
    path = tmp_path / "book" / "exact.ipynb"
    exact = [code(SHOW, data=FACES, tags=("nbval-check-output",)) for _ in FACES]
    write_notebook(path, *exact, code("print(2)", text="3\n"))  # what is not tagged may differ
    assert (sound := run("--nbval-lax", tmp_path)).returncode == 0, sound.stdout
    notebook = nbformat.read(path, as_version=4)
    for cell, face in zip(notebook.cells[1:], FACES):
        cell.outputs[0].data[face] = FACES[face].replace("2", "3")
    nbformat.write(notebook, path)
    refused = run("--nbval-lax", tmp_path)
    assert refused.returncode == 1 and f"{len(FACES)} failed, 1 passed" in refused.stdout, refused.stdout
    for face in FACES:
        assert f"mismatch '{face}'" in refused.stdout
