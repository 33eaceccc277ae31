"""Shows a chapter the library's own source, with a link to the same lines in the repository."""

import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import lib
from lib.notebook.pictures import publish
from lib.notebook.setup import repository, version

_ROOT = Path(lib.__file__).resolve().parent.parent


def source(*objects) -> None:
    """Displays the source of functions, classes, methods or modules of `lib`, each below a link to its lines.

    The text is the file's own, only moved to the left where it stands indented. Raises ValueError for
    anything that was not written in a file of `lib`.
    """
    if not objects:
        raise ValueError("source takes at least one function, class, method or module of lib")
    text = "\n\n".join(source_markdown(shown) for shown in objects)
    publish({"text/markdown": text}, text)


def source_markdown(shown) -> str:
    """The Markdown that `source` displays for one object: a link, then a block of Python."""
    path, first, lines = _lines(shown)
    code = textwrap.dedent("".join(lines)).strip("\n")
    last = first + len(lines) - 1
    link = f"{repository()}/blob/v{version()}/{path}#L{first}-L{last}"
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)  # docstrings may hold fences of their own
    return f"[{path}, lines {first}-{last}]({link})\n\n{fence}python\n{code}\n{fence}"


def _lines(shown) -> tuple[str, int, list[str]]:
    """Path from the repository's root, number of the first line, and the lines."""
    wrapped: Any = shown.fget if isinstance(shown, property) else shown
    written = inspect.unwrap(wrapped)
    try:
        path = Path(inspect.getsourcefile(written) or _ROOT).resolve().relative_to(_ROOT / "lib")
        lines, first = inspect.getsourcelines(written)
    except (OSError, TypeError, ValueError):
        raise ValueError(f"source shows functions, classes, methods and modules of lib, got {shown!r}") from None
    first = 1 if isinstance(written, ModuleType) else first
    return (Path("lib") / path).as_posix(), first, lines
