"""Weights that ship with the book: models of its chapters, trained longer than a chapter can wait.

`python -m lib.run MODEL --images N --publish` made each file; its metadata says how, and how good the model came out.
"""

import hashlib
import os
import re
from pathlib import Path

from torch import nn

from lib.checks import described
from lib.training.checkpoint import CheckpointError, read, write

FOLDER = Path(__file__).parent
SUMS = "README.md"  # holds the checksum of each file
LOADED: set[Path] = set()  # by this process: of all files here, the outputs of a notebook depend on these


def load(name: str, model: nn.Module) -> dict[str, str]:
    """Puts the shipped weights `name` into `model`, in eval mode; returns what the file says of their making.

    Raises ValueError where no such weights ship or they do not fit the model, and CheckpointError where the file is
    damaged or is not the one whose checksum stands beside it.
    """
    _check_model(model)
    file = path(name)
    LOADED.add(file)
    tensors, metadata = read(file)
    _check_sum(file)
    wanted = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    if wanted != found:
        differing = sorted(key for key in wanted | found if wanted.get(key) != found.get(key))
        raise ValueError(
            f"model does not fit the weights {name!r}: {len(differing)} names differ, first {differing[0]}"
        )
    model.load_state_dict(tensors)
    model.eval()
    return metadata


def publish(name: str, model: nn.Module, metadata: dict[str, str]) -> Path:
    """Stores the weights of `model` among those that ship, and their checksum; returns the file.

    Raises ValueError for a name that is no file's, for no module, and for metadata other than words by words.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w+", name):
        raise ValueError(f"name must be of letters, digits and _, got {name!r:.60}")
    _check_model(model)
    if not isinstance(metadata, dict) or not all(isinstance(word, str) for word in (*metadata, *metadata.values())):
        raise ValueError(f"metadata must be a dict of strings, got {metadata!r:.60}")
    file = FOLDER / f"{name}.safetensors"
    write(file, model.state_dict(), metadata)
    rows = _sums() | {file.name: _sum(file)}
    lines = [f"| `{name}` | `{digest}` |" for name, digest in sorted(rows.items())]
    unfinished = FOLDER / f"{SUMS}.tmp"
    unfinished.write_text("\n".join([_HEAD, *lines, ""]), encoding="utf-8")
    os.replace(unfinished, FOLDER / SUMS)
    return file


def path(name: str) -> Path:
    """The file of the shipped weights `name`. Raises ValueError where there is none."""
    names = sorted(file.stem for file in FOLDER.glob("*.safetensors"))
    if name not in names:
        raise ValueError(f"name must be one of the weights that ship, {', '.join(names)}, got {name!r}")
    return FOLDER / f"{name}.safetensors"


_HEAD = """# Weights that ship with the book

`python -m lib.run MODEL --images N --publish` makes each file and its row here. `lib.training.pretrained` compares what
it loads with these sums.

| file | SHA-256 |
| --- | --- |"""


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be an nn.Module, got {described(model)}")


def _sum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _sums() -> dict[str, str]:
    """The checksums that stand beside the files, by the files' names."""
    table = FOLDER / SUMS
    text = table.read_text(encoding="utf-8") if table.is_file() else ""
    return dict(re.findall(r"^\| `([\w.]+)` \| `([0-9a-f]{64})` \|$", text, re.MULTILINE))


def _check_sum(file: Path) -> None:
    """Raises CheckpointError unless the file is the one that was published."""
    found, wanted = _sum(file), _sums().get(file.name)
    if found != wanted:
        expected = f"expected {wanted}" if wanted else f"none stands in {SUMS}"
        raise CheckpointError(
            f"{file} is not what was published: SHA-256 {found}, {expected}. Install the package again"
        )
