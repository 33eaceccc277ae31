"""Small projects in which faults are planted, and the commands of `make test` to run on them."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import nbformat

ROOT = Path(__file__).resolve().parents[2]
_BIN = shlex.quote(str(Path(sys.executable).parent))


@functools.cache
def _commands(target: str) -> list[str]:
    """Every command line that `make TARGET` would run, with the programs of this environment."""
    make = ["make", "--dry-run", target]
    done = subprocess.run(make, cwd=ROOT, env=_variables(), capture_output=True, text=True, check=True)
    return [line.replace(".venv/bin/", f"{_BIN}/") for line in done.stdout.splitlines()]


def _variables() -> dict[str, str]:
    """The environment without what an outer make or pytest put there for itself."""
    return {name: value for name, value in os.environ.items() if not re.match("MAKE|MFLAGS|PYTEST_", name)}


def run(words: str, folder: Path, target: str = "test", **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs in `folder` the one command of `make TARGET` with `words` in it; what it said is in `stdout`."""
    (command,) = [line for line in _commands(target) if words in line]
    settings = {"env": {**_variables(), "PYTHONPATH": str(folder), **variables}, "text": True}
    return subprocess.run(command, shell=True, cwd=folder, stdout=PIPE, stderr=STDOUT, **settings)


def copy(folder: Path, *names: str) -> None:
    """Copies files and folders of the book into `folder`, without what is large and never read there."""
    for name in names:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "mnist", "*.safetensors", "*.npz", "*.xz")
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copyfile(source, target)


def write_notebook(path: Path, *cells: nbformat.NotebookNode) -> None:
    """Writes a notebook of a heading and `cells`, for Python."""
    metadata = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    title = nbformat.v4.new_markdown_cell(f"# {path.stem}")
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[title, *cells], metadata=metadata), path)


def code(source: str, *, text: str = "", data: dict | None = None, alt: str = "", tags: tuple[str, ...] = ()):
    """A code cell that was run: it printed `text` and displayed `data`, by kind; `alt` is for a picture."""
    outputs = [nbformat.v4.new_output("stream", text=text)] if text else []
    outputs += [nbformat.v4.new_output("display_data", data=data)] if data else []
    metadata = {"tags": list(tags), **({"mystnb": {"image": {"alt": alt}}} if alt else {})}
    return nbformat.v4.new_code_cell(source, outputs=outputs, execution_count=1, metadata=metadata)
