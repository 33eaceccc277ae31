"""Re-run the notebooks whose stored outputs are stale: `python -m lib.publishing.execute`.

Ruff looks at a notebook first. Where only derivations and shown source are stale, only their cells run. A notebook is
written only when every cell ran; until then the old file stays as it is. The numbers of its findings then go where
other chapters quote them from.
`--check` runs nothing: it names the stale notebooks, and those not stored in normal form, and ends with status 1 when
there is one.
"""

import argparse
import copy
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from lib.notebook.finding import MUST_HOLD
from lib.publishing import findings, fingerprint, notebooks
from lib.publishing.parts import parts, tagged

CELL_TIMEOUT = 1800  # seconds; the longest training takes 800 on one core without AVX-512

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of tracebacks, unreadable in a log


def execute(path: Path, root: Path, *, only_alone: bool = False) -> None:
    """Run the notebook at `path` from top to bottom, in its own folder, and store it with its fingerprint.

    With `only_alone`, run only the cells that can be run alone (`lib.publishing.parts`) after those tagged `setup` and
    `imports`, and leave the outputs of all others as they are.

    Raises what the cell raised as `nbclient.exceptions.CellExecutionError`, `NotebookError` for outputs that
    cannot be stored, and `ValueError` when a file of `lib` that it used was changed while it ran, or when the kernel
    imported one whose import cannot be seen in the code. Then nothing is written.
    """
    before = fingerprint.digests(fingerprint.all_files(root), root)
    notebook = copy.deepcopy(notebooks.read(path))
    code = [place for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    renewed = parts(notebook, root).alone if only_alone else code
    needed = {place for place in code if any(tagged(notebook.cells[place], tag) for tag in ("setup", "imports"))}
    imported, quoted = _run(notebook, sorted({*needed, *renewed}), set(renewed), path)
    used = fingerprint.files(imported, root)
    after = fingerprint.digests(used, root)
    if moved := [name for name in used if after[name] != before.get(name)]:
        raise ValueError(f"{path}: {', '.join(moved)} changed while it ran; run it again")
    if unseen := fingerprint.unseen(notebook, imported, root):
        raise ValueError(f"{path}: wanted modules of lib imported by name, got {', '.join(unseen)} in another way")
    if only_alone:
        stored = notebook.metadata[fingerprint.KEY]
        used, quoted = list(stored["data"]), stored.get("quoted", {})
    notebook = notebooks.normalise(notebook)
    fingerprint.record(notebook, root, used, quoted)
    notebooks.write(notebook, path)
    findings.store(path, root)


def _run(notebook: NotebookNode, places: list[int], renewed: set[int], path: Path) -> tuple[list[str], dict]:
    """Run the cells at `places` in a new kernel, where each finding must hold, and renew the outputs of some.

    Returns the files of `lib` that were taken in, and the numbers that were quoted.
    """
    cells = [copy.deepcopy(notebook.cells[place]) for place in places]
    for cell in cells:
        cell.outputs, cell.execution_count = [], None
    asked = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(fingerprint.TAKEN_IN)])
    client = NotebookClient(
        asked,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # else each start warns of TCP
    )
    client.execute(env={**os.environ, MUST_HOLD: "1"})
    for place, cell in zip(places, asked.cells[:-1], strict=True):
        if place in renewed:
            notebook.cells[place].outputs = cell.outputs
    _number(notebook)
    imported, quoted = json.loads(asked.cells[-1].outputs[0].text)
    return imported, quoted


def _number(notebook: NotebookNode) -> None:
    """Count the cells as a run from top to bottom does."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    for number, cell in enumerate(code, start=1):
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number


def faults(path: Path, root: Path) -> list[str]:
    """Why the notebook at `path` may not stay as it is stored: stale, not in normal form, too large, quoted wrongly."""
    found = fingerprint.stale(path, root)
    notebook = notebooks.read(path)
    try:
        if notebooks.normalise(notebook) != notebook:
            found.append("it is not in the form in which `make execute` stores notebooks")
    except notebooks.NotebookError as error:
        found.append(str(error))
    if path.stat().st_size > notebooks.LARGEST:
        size = f"it has {path.stat().st_size:,} bytes; wanted at most {notebooks.LARGEST:,}"
        found.append(f"{size}; {notebooks.largest_outputs(notebook)}")
    return found + findings.faults(path, root)


def choose(chapter: str | None, root: Path) -> list[Path]:
    """The notebooks to look at: all, or the one whose path ends in `chapter`: `vae`, `1-autoencoders/vae`.

    Raises `ValueError` when `chapter` names no notebook of `_toc.yml`, or more than one.
    """
    every = notebooks.chapters(root)
    if chapter is None:
        return every
    chosen = _named(chapter, every, root)
    if not chosen and (outside := _named(chapter, sorted(root.glob("book/**/*.ipynb")), root)):
        name = outside[0].relative_to(root).with_suffix("")
        raise ValueError(f"chapter: {name} is not in _toc.yml; enter it there, as `- file: {name}`")
    if len(chosen) != 1:
        listed = ", ".join(str(path.relative_to(root).with_suffix("")) for path in every) or "none"
        raise ValueError(f"chapter: wanted one of {listed}; got {chapter!r}: {len(chosen)} of them")
    return chosen


def _named(chapter: str, paths: list[Path], root: Path) -> list[Path]:
    """Those of the notebooks whose path ends in `chapter`."""
    wanted = tuple(chapter.removesuffix(".ipynb").split("/"))
    return [path for path in paths if path.relative_to(root).with_suffix("").parts[-len(wanted) :] == wanted]


def lint(path: Path, root: Path) -> None:
    """Raises `ValueError`, with the cell and the line, for what ruff finds in the notebook: in a second, not after a
    training.
    """
    command = [sys.executable, "-m", "ruff", "check", "--quiet", "--no-cache", "--output-format", "concise"]
    done = subprocess.run([*command, str(path.relative_to(root))], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"ruff found this, and nothing was run:\n{done.stdout}{done.stderr}".rstrip())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chapter", help="one chapter: vae, or 1-autoencoders/vae")
    parser.add_argument("--force", action="store_true", help="re-run even what is fresh")
    parser.add_argument("--check", action="store_true", help="run nothing; fail if a notebook is stale")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's folder")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    try:
        chosen = choose(options.chapter, root)
    except ValueError as error:
        parser.error(str(error))
    if options.check:
        return _check(chosen, root)
    failed = [path for path in chosen if not _refresh(path, root, options.force)]
    return 1 if failed else 0


def _check(chosen: list[Path], root: Path) -> int:
    bad = {path.relative_to(root): found for path in chosen if (found := faults(path, root))}
    for name, found in bad.items():
        for fault in found:
            print(f"{name}: {fault}")
    print(f"{len(chosen) - len(bad)} of {len(chosen)} notebooks hold the outputs of their code")
    if bad:
        print("`make execute` runs the others again")
    return 1 if bad else 0


def _refresh(path: Path, root: Path, force: bool) -> bool:
    """Run one notebook if it must be, and say what was done; False when it failed."""
    name = path.relative_to(root)
    alone, others = fingerprint.stale_parts(path, root)
    only_alone = bool(alone) and not others and not force
    reasons = others + alone or (["--force"] if force else [])
    start = time.monotonic()
    try:
        if reasons:
            what = "running its derivations and sources" if only_alone else "running"
            print(f"{name}: {what}, since " + "; ".join(dict.fromkeys(reasons)), flush=True)
            lint(path, root)
            execute(path, root, only_alone=only_alone)
        elif faults(path, root):
            notebooks.write(notebooks.normalise(notebooks.read(path)), path)
            findings.store(path, root)
            print(f"{name}: fresh, stored again in normal form")
            return True
        else:
            print(f"{name}: fresh")
            return True
    except (CellExecutionError, CellTimeoutError, DeadKernelError, ValueError) as error:
        seconds = time.monotonic() - start
        print(f"{name}: FAILED after {seconds:.0f} s, the stored file is untouched", flush=True)
        print(_COLOUR.sub("", str(error)), flush=True)
        return False
    seconds, size = time.monotonic() - start, path.stat().st_size / 1000
    print(f"{name}: stored after {seconds:.0f} s, {size:,.0f} kB", flush=True)
    return True


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    sys.exit(main())
