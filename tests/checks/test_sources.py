"""Faults planted in the library and in notebooks: `make test` refuses each, and takes the same without it."""

import shutil

import pytest

from tests.checks.project import code, copy, run, write_notebook


def test_an_unused_import_is_refused(tmp_path):
    copy(tmp_path, "pyproject.toml")
    module = tmp_path / "lib" / "circle.py"
    module.parent.mkdir()
    module.write_text('"""Circles."""\n\nimport math\n\nTURN = 2 * math.pi\n')
    assert (sound := run("ruff check", tmp_path)).returncode == 0, sound.stdout
    replace(module, "import math\n", "import math\nimport os\n")
    refused = run("ruff check", tmp_path)
    assert refused.returncode == 1
    assert "F401" in refused.stdout and "`os` imported but unused" in refused.stdout


@pytest.mark.parametrize(
    ("file", "imported", "message"),
    [
        ("lib/notebook/pictures.py", "lib.notebook.explore", "No cycles are allowed in lib.notebook."),
        ("lib/autoencoders/vae.py", "lib.training", "lib.autoencoders is not allowed to import lib.training"),
        ("lib/autoencoders/vae.py", "lib.notebook", "lib.autoencoders is not allowed to import lib.notebook"),
        ("lib/notebook/diagram.py", "lib.figures", "lib.notebook is not allowed to import lib.figures"),
        ("lib/training/fit.py", "lib.autoencoders", "lib.training is not allowed to import lib.autoencoders"),
    ],
    ids=["circle", "model-to-training", "model-to-notebook", "notebook-to-figures", "training-to-model"],
)
def test_an_import_against_the_contract_is_refused(tmp_path, file, imported, message):
    copy(tmp_path, "lib", "pyproject.toml")
    assert (sound := run("lint-imports", tmp_path)).returncode == 0, sound.stdout
    with (tmp_path / file).open("a") as module:
        module.write(f"\nimport {imported}\n")
    refused = run("lint-imports", tmp_path)
    assert refused.returncode == 1
    assert message in " ".join(refused.stdout.split()), refused.stdout


def test_a_notebook_that_raises_or_prints_something_else_is_refused(tmp_path):
    copy(tmp_path, "pyproject.toml")
    checked = {"text": "2\n", "tags": ["nbval-check-output"]}
    write_notebook(tmp_path / "book" / "sound.ipynb", code("1 / 2"), code("print(2)", **checked))
    write_notebook(tmp_path / "book" / "raises.ipynb", code("1 / 0"), code("print(2)", **checked))
    write_notebook(tmp_path / "book" / "differs.ipynb", code("1 / 2"), code("print(3)", **checked))
    refused = run("--nbval-lax", tmp_path)
    assert refused.returncode == 1 and "2 failed, 4 passed" in refused.stdout, refused.stdout
    assert "FAILED book/raises.ipynb::Cell 0" in refused.stdout and "ZeroDivisionError" in refused.stdout
    assert "FAILED book/sound.ipynb" not in refused.stdout
    assert "FAILED book/differs.ipynb::Cell 1" in refused.stdout and "mismatch 'stdout'" in refused.stdout


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    """A project with one chapter that `make execute` has run; it uses a module that uses another."""
    folder = tmp_path_factory.mktemp("chapter")
    copy(folder, "lib/__init__.py", "lib/publishing")
    (folder / "lib" / "parts").mkdir()
    (folder / "lib" / "parts" / "__init__.py").touch()
    (folder / "lib" / "parts" / "below.py").write_text("VALUE = 1\n")
    (folder / "lib" / "parts" / "above.py").write_text("from lib.parts.below import VALUE\n")
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: book/chapter\n")
    write_notebook(folder / "book" / "chapter.ipynb", code("from lib.parts.above import VALUE"), code("VALUE + 1"))
    ran = run("lib.publishing.execute", folder, target="execute")
    assert ran.returncode == 0, ran.stdout
    return folder


def change_a_cell(chapter):
    replace(chapter / "book" / "chapter.ipynb", "VALUE + 1", "VALUE + 2")


def change_an_imported_module(chapter):
    replace(chapter / "lib" / "parts" / "below.py", "VALUE = 1", "VALUE = 3")


def change_an_output(chapter):
    replace(chapter / "book" / "chapter.ipynb", '"2"', '"4"')


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (change_a_cell, "cell 3 ('VALUE + 2') changed"),
        (change_an_imported_module, "lib/parts/below.py changed"),
        (change_an_output, "its outputs are not those that `make execute` stored"),
    ],
)
def test_a_stale_output_is_refused(chapter, tmp_path, plant, message):
    folder = shutil.copytree(chapter, tmp_path / "copy")
    assert (sound := run("lib.publishing.execute --check", folder)).returncode == 0, sound.stdout
    plant(folder)
    refused = run("lib.publishing.execute --check", folder)
    assert refused.returncode == 1
    assert f"book/chapter.ipynb: {message}" in refused.stdout


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
