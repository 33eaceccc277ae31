"""Weights that ship with the book: models of its chapters, trained longer than a chapter can wait.

`python -m lib.run MODEL --images N --publish` made each file; its metadata says how, and how good the model came out.
"""

from pathlib import Path

from torch import nn

from lib.training.checkpoint import read, write

FOLDER = Path(__file__).parent
LOADED: set[Path] = set()  # by this process: of all files here, the outputs of a notebook depend on these


def load(name: str, model: nn.Module) -> dict[str, str]:
    """Puts the shipped weights `name` into `model`, in eval mode; returns what the file says of their making.

    Raises ValueError where no such weights ship or they do not fit the model, and CheckpointError where the file is
    damaged.
    """
    file = path(name)
    LOADED.add(file)
    tensors, metadata = read(file)
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
    """Stores the weights of `model` among those that ship; returns the file."""
    file = FOLDER / f"{name}.safetensors"
    write(file, model.state_dict(), metadata)
    return file


def path(name: str) -> Path:
    """The file of the shipped weights `name`. Raises ValueError where there is none."""
    names = sorted(file.stem for file in FOLDER.glob("*.safetensors"))
    if name not in names:
        raise ValueError(f"name must be one of the weights that ship, {', '.join(names)}, got {name!r}")
    return FOLDER / f"{name}.safetensors"
