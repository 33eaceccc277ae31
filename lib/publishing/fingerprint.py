"""What the stored outputs of a notebook were made from: its code cells and what they reach of `lib`.

The record is kept in the notebook's metadata under `book_fingerprint`. For each of the two parts of a notebook, the
cells that can be run `alone` and all `others` (`lib.publishing.parts`), it holds

- `cells`: one digest a code cell, in order, its title left out, and the setup cell (it does nothing outside Colab);
- `lib`: one digest a file of what the cells reach in it, by meaning (`lib.publishing.reach`): comments, docstrings,
  annotations and formatting do not count, nor do definitions that are not reached;
- `shown`: one digest of each text, comments and all, that `source` displays, with the numbers of its lines;
- `outputs`: a checksum of the outputs, so that outputs stored by hand are noticed too.

For the whole notebook it holds

- `data`: the files that lie beside the packages that the kernel had imported when the run was over; of a package that
  keeps a list of the data it has `LOADED`, only these;
- `quoted`: the numbers of other chapters that it asked for by `found`;
- `versions`: of the packages that figures, numbers and formulas come from, as installed when it ran.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from difflib import SequenceMatcher
from importlib.metadata import version
from pathlib import Path

from nbformat import NotebookNode

from lib.publishing import findings, notebooks
from lib.publishing.parts import Parts, parts, statements, tagged
from lib.publishing.reach import Reach

KEY = "book_fingerprint"
PACKAGES = ("matplotlib", "numpy", "sympy", "torch")

# Run in the kernel after the last cell: the file of every module of `lib` that is there and what it has `LOADED`, then
# what was `QUOTED`.
TAKEN_IN = """
import json, sys
modules = [module for name, module in list(sys.modules.items())
           if name.split(".")[0] == "lib" and getattr(module, "__file__", None)]
files = [module.__file__ for module in modules]
files += [str(path) for module in modules for path in getattr(module, "LOADED", ())]
print(json.dumps([files, getattr(sys.modules.get("lib.notebook.finding"), "QUOTED", {})]))
"""

_NOT_DATA = {".py", ".pyc", ".md"}


def files(imported: list[str], root: Path) -> list[str]:
    """The files, relative to `root`, that a run took in: what was `imported`, and the data beside it.

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


def unseen(notebook: NotebookNode, imported: list[str], root: Path) -> list[str]:
    """Of the files that the kernel imported, the modules whose import is not to be seen in the code."""
    every = [cell for cell in notebook.cells if cell.cell_type == "code" and not tagged(cell, "setup")]
    reach = Reach(statements(notebook, every), root)
    known = {module.path for name in reach.imported if (module := reach.module(name))}
    return [name for name in files(imported, root) if name.endswith(".py") and root.resolve() / name not in known]


def record(notebook: NotebookNode, root: Path, used: list[str], quoted: dict[str, float]) -> None:
    """Write the fingerprint into a normalised `notebook` that was run just now.

    It took in the files `used` and the numbers `quoted`.
    """
    data = digests([name for name in used if _is_data(root / name)], root)
    apart = {"data": data, "quoted": quoted, "versions": _versions()}
    notebook.metadata[KEY] = _now(notebook, parts(notebook, root), root) | apart


def stale(path: Path, root: Path) -> list[str]:
    """Why the stored outputs of the notebook at `path` are not those of its code now; empty when they are."""
    alone, others = stale_parts(path, root)
    return others + [reason for reason in alone if reason not in others]


def stale_parts(path: Path, root: Path) -> tuple[list[str], list[str]]:
    """The reasons of `stale` for the cells that can be run alone, and those for all others."""
    notebook = notebooks.read(path)
    stored = notebook.metadata.get(KEY)
    if not stored or stored.keys() - {"quoted"} != {*Parts._fields, "data", "versions"}:
        return [], ["it was never run by `make execute`"]
    try:
        places = parts(notebook, root)
        now = _now(notebook, places, root)
    except ValueError as error:
        return [], [str(error)]
    alone, others = (_changes(notebook, stored[part], now[part], getattr(places, part), root) for part in Parts._fields)
    others += _changed_files(stored["data"], digests([n for n in stored["data"] if (root / n).exists()], root), root)
    others += _changed_quotes(stored.get("quoted", {}), root)
    for name, installed in _versions().items():
        if (then := stored["versions"].get(name)) != installed:
            others.append(f"it ran with {name} {then}, installed is {installed}")
    return alone, others


def _now(notebook: NotebookNode, split: Parts, root: Path) -> dict[str, dict]:
    """The record of the two parts as files and cells are now."""
    root = root.resolve()
    imports = {place for place, cell in enumerate(notebook.cells) if tagged(cell, "imports")}
    found = {}
    for part, places in split._asdict().items():
        cells = [notebook.cells[place] for place in places]
        with_imports = [notebook.cells[place] for place in sorted({*places, *imports})]
        reach = Reach(statements(notebook, with_imports) if places else [], root)
        outputs = json.dumps([cell.outputs for cell in cells], sort_keys=True)
        found[part] = {
            "cells": [_digest(notebooks.untitled(cell.source)) for cell in cells],
            "lib": reach.digests(),
            "shown": {ast.unparse(each): _digest(reach.text(each)) for each in reach.shown},
            "outputs": hashlib.sha256(outputs.encode()).hexdigest(),
        }
    return found


def _changes(notebook: NotebookNode, stored: dict, now: dict, places: list[int], root: Path) -> list[str]:
    """What is no longer as in the record of one part."""
    reasons = _changed_cells(notebook, stored["cells"], now["cells"], places)
    if reasons:
        return reasons
    if stored["outputs"] != now["outputs"]:
        reasons.append("its outputs are not those that `make execute` stored")
    reasons += _changed_files(stored["lib"], now["lib"], root)
    return reasons + [f"what `source({name})` shows changed" for name in _differing(stored["shown"], now["shown"])]


def _changed_files(stored: dict[str, str], now: dict[str, str], root: Path) -> list[str]:
    return [f"{name} {'changed' if (root / name).exists() else 'is gone'}" for name in _differing(stored, now)]


def _changed_quotes(quoted: dict[str, float], root: Path) -> list[str]:
    now = findings.read(root)
    return [f"it quotes {name} = {then}, now {now.get(name)}" for name, then in quoted.items() if now.get(name) != then]


def _differing(stored: dict[str, str], now: dict[str, str]) -> list[str]:
    return sorted(name for name in {*stored, *now} if stored.get(name) != now.get(name))


def _changed_cells(notebook: NotebookNode, stored: list[str], now: list[str], places: list[int]) -> list[str]:
    reasons = []
    matcher = SequenceMatcher(a=stored, b=now, autojunk=False)
    for operation, before, after, first, last in matcher.get_opcodes():
        if operation in ("replace", "insert"):
            verb = "changed" if operation == "replace" else "is new"
            reasons += [f"{notebooks.label(n + 1, notebook.cells[n])} {verb}" for n in places[first:last]]
        elif operation == "delete":
            where = f"before cell {places[first] + 1}" if first < len(places) else "at the end"
            reasons.append(f"{after - before} code cell(s) removed {where}")
    return reasons


def _versions() -> dict[str, str]:
    """What is installed; `2.13.0+cpu` and `2.13.0+cu130` are builds of one version."""
    return {name: version(name).partition("+")[0] for name in PACKAGES}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _data(package: Path) -> Iterator[Path]:
    """The data files in a package's folder and in those of its subfolders that are no packages."""
    for path in package.iterdir():
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            yield from _data(path)
        elif path.is_file() and _is_data(path):
            yield path


def _is_data(path: Path) -> bool:
    """Whether a file counts whole. Of the findings only those that are quoted count."""
    return path.suffix not in _NOT_DATA and not path.name.startswith(".") and path.name != findings.FILE.name


def _may_matter(path: Path) -> bool:
    return "__pycache__" not in path.parts and (path.suffix == ".py" or _is_data(path))
