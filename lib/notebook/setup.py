"""Where the book's code is published, and the first cell of every chapter, which fetches it on Colab."""

import re
from importlib.metadata import PackageNotFoundError, metadata

import lib

DISTRIBUTION = "ai-image-generation-book"

_CELL = """\
import sys

if "google.colab" in sys.modules:  # Colab has torch but not this book's code
    %pip install --quiet "git+{address}@v{version}"

import lib

if not hasattr(lib, "BOOK"):
    raise ImportError(f"{{lib}} hides the book's lib: rename it, restart the kernel")"""


def repository() -> str:
    """The repository's address, `https://...` without a slash at its end, as the installed package states it.

    It is the entry `Repository` under `[project.urls]` in `pyproject.toml`, which is kept in step with
    `_config.yml`. Raises RuntimeError where the package is not installed or does not state it.
    """
    try:
        entries = metadata(DISTRIBUTION).get_all("Project-URL", [])
    except PackageNotFoundError:
        raise RuntimeError(f"the package {DISTRIBUTION} is not installed: run `pip install -e .` in the book") from None
    for entry in entries:
        name, _, address = entry.partition(", ")
        if name == "Repository":
            return address.rstrip("/")
    raise RuntimeError(f"{DISTRIBUTION} was installed without the project URL `Repository`: install it again")


def version() -> str:
    """The version of the book's code, such as `0.1.0`. The repository tags it `v0.1.0`."""
    return lib.__version__


def setup_cell(address: str | None = None, number: str | None = None) -> str:
    """Source of the first code cell of every chapter: fetches the code on Colab, and refuses another `lib` anywhere.

    `address` and `number` are the repository and the version to fetch, by default those of the installed
    package.
    """
    return _CELL.format(address=address or repository(), version=number or version())


def is_setup_cell(text: str) -> bool:
    """Whether a cell's source is the setup cell, for whatever repository and version."""
    pattern = re.escape(setup_cell("{address}", "{version}"))
    pattern = pattern.replace(re.escape("{address}"), r"[^\s\"]+").replace(re.escape("{version}"), r"[\w.]+")
    return re.fullmatch(pattern, text.strip()) is not None
