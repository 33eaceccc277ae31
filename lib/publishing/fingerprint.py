"""What the stored outputs of a notebook were made from: its code cells and the files of `lib` that it used.

The record is kept in the notebook's metadata under `book_fingerprint`:

- `cells`: one digest a code cell, in order, the setup cell left out (it does nothing outside Colab);
- `lib`: each file that the kernel had imported when the run was over, digested, and the data beside it; of a package
  that keeps a list of the data it has `LOADED`, only these;
- `outputs`: one digest of all outputs, so that outputs stored by hand are noticed too.
"""

import hashlib
import json
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

from nbformat import NotebookNode

from lib.publishing import notebooks

KEY = "book_fingerprint"

# Run in the kernel after the last cell: the file of every module of `lib` that is there, and what it has `LOADED`.
IMPORTED = """
import json, sys
modules = [module for name, module in list(sys.modules.items())
           if name.split(".")[0] == "lib" and getattr(module, "__file__", None)]
print(json.dumps([module.__file__ for module in modules]
                 + [str(path) for module in modules for path in getattr(module, "LOADED", ())]))
"""

_NOT_DATA = {".py", ".pyc", ".md"}


def files(imported: list[str], root: Path) -> list[str]:
    """The files, relative to `root`, that outputs depend on: what was `imported`, and the data beside it.

    Where data of a package are among the imported, these are all of its data that count.

    Raises `ValueError` when the kernel imported `lib` from anywhere but `root`.
    """
    found = set()
    for path in map(Path, imported):
        if not path.resolve().is_relative_to(root.resolve() / "lib"):
            raise ValueError(f"the kernel imported {path}; wanted the files under {root.resolve() / 'lib'}")
        found.add(path.resolve())
    chosen = {path.parent for path in found if _is_data(path)}
    for path in list(found):
        if path.name == "__init__.py" and path.parent not in chosen:
            found.update(_data(path.parent))
    return sorted(path.relative_to(root.resolve()).as_posix() for path in found)


def digests(names: list[str], root: Path) -> dict[str, str]:
    """SHA-256 of each file named relative to `root`."""
    return {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names}


def all_files(root: Path) -> list[str]:
    """Every file under `lib` that a notebook could depend on, relative to `root`."""
    paths = (root / "lib").rglob("*")
    return sorted(path.relative_to(root).as_posix() for path in paths if path.is_file() and _may_matter(path))


def cell_digests(notebook: NotebookNode) -> list[tuple[int, str]]:
    """The number (from 1) and the digest of each code cell but the setup cell."""
    return [
        (number, hashlib.sha256(cell.source.encode()).hexdigest()[:16])
        for number, cell in enumerate(notebook.cells, start=1)
        if cell.cell_type == "code" and "setup" not in cell.metadata.get("tags", [])
    ]


def output_digest(notebook: NotebookNode) -> str:
    """SHA-256 of all outputs."""
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


def record(notebook: NotebookNode, lib: dict[str, str]) -> None:
    """Write the fingerprint into a normalised `notebook` run with the files `lib` (name to digest)."""
    cells = [digest for _, digest in cell_digests(notebook)]
    notebook.metadata[KEY] = {"cells": cells, "lib": lib, "outputs": output_digest(notebook)}


def stale(path: Path, root: Path) -> list[str]:
    """Why the stored outputs of the notebook at `path` are not those of its code now; empty when they are."""
    notebook = notebooks.read(path)
    stored = notebook.metadata.get(KEY)
    if not stored or stored.keys() != {"cells", "lib", "outputs"}:
        return ["it was never run by `make execute`"]
    reasons = _changed_cells(notebook, stored["cells"])
    if not reasons and stored["outputs"] != output_digest(notebook):
        reasons.append("its outputs are not those that `make execute` stored")
    for name, digest in stored["lib"].items():
        if not (root / name).exists():
            reasons.append(f"{name} is gone")
        elif digests([name], root)[name] != digest:
            reasons.append(f"{name} changed")
    return reasons


def _changed_cells(notebook: NotebookNode, stored: list[str]) -> list[str]:
    now = cell_digests(notebook)
    reasons = []
    matcher = SequenceMatcher(a=stored, b=[digest for _, digest in now], autojunk=False)
    for operation, before, after, first, last in matcher.get_opcodes():
        if operation in ("replace", "insert"):
            verb = "changed" if operation == "replace" else "is new"
            reasons += [f"{notebooks.label(n, notebook.cells[n - 1])} {verb}" for n, _ in now[first:last]]
        elif operation == "delete":
            place = f"before cell {now[first][0]}" if first < len(now) else "at the end"
            reasons.append(f"{after - before} code cell(s) removed {place}")
    return reasons


def _data(package: Path) -> Iterator[Path]:
    """The data files in a package's folder and in those of its subfolders that are no packages."""
    for path in package.iterdir():
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            yield from _data(path)
        elif path.is_file() and _is_data(path):
            yield path


def _is_data(path: Path) -> bool:
    return path.suffix not in _NOT_DATA and not path.name.startswith(".")


def _may_matter(path: Path) -> bool:
    return "__pycache__" not in path.parts and (path.suffix == ".py" or _is_data(path))
