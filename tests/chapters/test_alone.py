"""A chapter opened alone, the way Colab opens one: a single file in an empty folder, no book around it.

The environment is a fresh one. It sees every package that these tests run with except the book itself, as
Colab brings torch, numpy and the rest, and it holds a stand-in for Colab's own module, loaded before the
first cell as it is there. The book's address leads to a local clone, and pip has no index: whatever the
setup cell installs comes from that clone.

What is tested is the last commit, chapter and library: nothing that is not committed can be fetched.
"""

import json
import os
import re
import subprocess
import sys
import venv
from importlib.metadata import PathDistribution, version
from pathlib import Path

import nbformat
import pytest

from lib.notebook import setup
from lib.publishing import notebooks

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = "book/1-autoencoders/autoencoder.ipynb"  # the quickest; every chapter has the same setup cell
COLABS_OWN = ("torch", "numpy", "matplotlib")

# Runs a notebook where it lies, in a kernel of the Python that runs this, and stores its outputs, errors too.
RUN = """
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], as_version=4)
preload = "--IPKernelApp.exec_lines=__import__('google.colab')"
settings = {"kernel_name": "python3", "timeout": 600, "allow_errors": True, "extra_arguments": [preload]}
nbclient.NotebookClient(notebook, **settings).execute()
nbformat.write(notebook, sys.argv[1])
"""

# The last cell: where things were imported from.
REPORT = f"""
import importlib, json
print(json.dumps({{name: importlib.import_module(name).__file__ for name in ("lib", *{COLABS_OWN})}}))
"""


def git(*arguments, folder=ROOT):
    """What git says; the test ends where it fails."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"git {' '.join(arguments)}: {done.stderr.strip()}", pytrace=False)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A bare clone of the repository that has the pinned version: tagged already, or else the last commit."""
    folder = tmp_path_factory.mktemp("host") / "book.git"
    git("clone", "--quiet", "--bare", str(ROOT), str(folder))
    tag = f"v{setup.version()}"
    if not git("tag", "--list", tag, folder=folder):
        git("tag", tag, git("rev-parse", "HEAD"), folder=folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A new virtual environment that sees the packages of this one, but neither the book nor its folder."""
    packages = tmp_path_factory.mktemp("colab")
    for entry in Path(nbformat.__file__).parents[1].iterdir():
        if entry.suffix != ".pth" and not re.match(r"(__editable__|ai_image_generation_book)", entry.name):
            (packages / entry.name).symlink_to(entry)
    new = tmp_path_factory.mktemp("environment")
    venv.create(new, symlinks=True)
    (own,) = new.glob("lib/python*/site-packages")
    (own / "colab.pth").write_text(f"{packages}\n")
    (own / "google" / "colab").mkdir(parents=True)
    (own / "google" / "colab" / "__init__.py").touch()
    return new, own, packages


@pytest.fixture(scope="module")
def opened(clone, environment, tmp_path_factory):
    """The chapter after its run, with the files from which the last cell had imported."""
    new, _, _ = environment
    alone = tmp_path_factory.mktemp("alone") / Path(CHAPTER).name
    notebook = nbformat.reads(git("show", f"HEAD:{CHAPTER}"), as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.cells.append(nbformat.v4.new_code_cell(REPORT.strip()))
    nbformat.write(notebook, alone)
    command, variables = [new / "bin" / "python", "-c", RUN, alone.name], clean_environment(clone)
    done = subprocess.run(command, cwd=alone.parent, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return nbformat.read(alone, as_version=4)


def clean_environment(clone):
    """The variables of this process, less what could lead to the book; its address leads to the clone."""
    unwanted = re.compile("PYTHON|VIRTUAL_ENV|PIP_|GIT_")
    return {name: value for name, value in os.environ.items() if not unwanted.match(name)} | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{clone.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": setup.repository(),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this one the wrong way round: 0 switches the isolation off
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.fixture(scope="module")
def installed(opened, environment):
    """What pip wrote down about the book in the new environment."""
    _, own, _ = environment
    found = [PathDistribution(folder) for folder in own.glob("*.dist-info")]
    assert [package.name for package in found] == [setup.DISTRIBUTION], said_by_setup(opened)
    return found[0]


def test_the_environment_does_not_have_the_book_before(environment):
    new, _, _ = environment
    look = "import importlib.util, torch, numpy, matplotlib; assert importlib.util.find_spec('lib') is None"
    done = subprocess.run([new / "bin" / "python", "-I", "-c", look], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sys.prefix != str(new)


def test_runs_from_top_to_bottom(opened):
    code = [cell for cell in opened.cells if cell.cell_type == "code"]
    errors = [
        f"cell {number} ({cell.source.splitlines()[0]}): {output.ename}: {output.evalue}"
        for number, cell in enumerate(code, start=1)
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert not errors, "\n".join([*errors, said_by_setup(opened)])
    assert all(cell.execution_count for cell in code if cell.source.strip())


def test_the_book_came_from_its_repository_at_the_pinned_version(installed, opened, clone, environment):
    _, own, _ = environment
    origin = json.loads(installed.read_text("direct_url.json"))
    assert origin["url"] == setup.repository()
    assert origin["vcs_info"]["requested_revision"] == f"v{setup.version()}"
    assert origin["vcs_info"]["commit_id"] == git("rev-parse", f"v{setup.version()}^{{commit}}", folder=clone)
    assert Path(imported(opened)["lib"]).is_relative_to(own)


def test_what_colab_has_was_left_alone(installed, opened, environment):
    _, _, packages = environment
    for name in COLABS_OWN:
        assert Path(imported(opened)[name]).is_relative_to(packages), name
        assert (packages / f"{name}-{version(name)}.dist-info").exists(), name
    for requirement in installed.requires or []:
        assert not re.search("[<~!=]=|<", requirement), f"{requirement} would replace what Colab has"


def test_interactive_figures_are_live_widgets_there(opened):
    outputs = [output for cell in opened.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data for output in outputs if output.output_type in ("display_data", "execute_result")]
    assert any(notebooks.WIDGET_VIEW in data for data in shown), "no widget"
    assert not any('class="explore"' in data.get("text/html", "") for data in shown), "both faces of a figure"


@pytest.mark.parametrize("path", notebooks.chapters(ROOT), ids=lambda path: path.stem)
def test_every_chapter_opens_with_the_same_setup_cell(path):
    first = next(cell for cell in notebooks.read(path).cells if cell.cell_type == "code")
    assert first.source == setup.setup_cell()
    assert first.metadata.tags == ["setup"]


def imported(opened):
    """The files from which the last cell imported, by module name."""
    return json.loads(opened.cells[-1].outputs[-1].text)


def said_by_setup(opened):
    first = next(cell for cell in opened.cells if cell.cell_type == "code")
    return "".join(output.get("text", "") for output in first.outputs)
