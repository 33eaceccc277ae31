"""The numbers that chapters quote of one another: one file of `lib`, kept equal to the stored outputs.

`lib.notebook.finding` displays numbers, `lib.publishing.execute` collects them from the outputs when it stores a
chapter, and `found` reads them, in a chapter that is copied alone too.
"""

import json
from pathlib import Path

from lib.notebook.finding import FILE, NUMBERS
from lib.publishing import notebooks


def read(root: Path) -> dict[str, float]:
    """The numbers of the book under `root`, by chapter and name: `vae elbo`."""
    path = _file(root)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def store(path: Path, root: Path) -> None:
    """Put the numbers of the notebook at `path` into the file, and leave out chapters that are no more."""
    before = read(root)
    others = {chapter.stem for chapter in notebooks.chapters(root)} - {path.stem}
    kept = {name: number for name, number in before.items() if name.split()[0] in others}
    now = dict(sorted((kept | _shown(path)).items()))
    if now != before:
        notebooks.write_text(json.dumps(now, indent=1) + "\n", _file(root))


def faults(path: Path, root: Path) -> list[str]:
    """Why the file may not stay as it is: each number that is not the one in the outputs of the notebook at `path`."""
    shown = _shown(path)
    kept = {name: number for name, number in read(root).items() if name.split()[0] == path.stem}
    return [
        f"its outputs have {name} = {shown.get(name)}, {FILE.name} has {kept.get(name)}"
        for name in sorted(kept.keys() | shown.keys())
        if kept.get(name) != shown.get(name)
    ]


def _shown(path: Path) -> dict[str, float]:
    """The numbers in the outputs of the notebook at `path`; of a name that has several numbers there, none."""
    outputs = [output for cell in notebooks.read(path).cells for output in cell.get("outputs", ())]
    pairs = {pair for output in outputs for pair in output.get("metadata", {}).get(NUMBERS, {}).items()}
    names = [name for name, _ in pairs]
    return {f"{path.stem} {name}": number for name, number in pairs if names.count(name) == 1}


def _file(root: Path) -> Path:
    return root / "lib" / "notebook" / FILE.name
