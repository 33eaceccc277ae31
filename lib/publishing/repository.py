"""Set the address of the repository everywhere: `python -m lib.publishing.repository URL`.

It stands first in `_config.yml` (`repository.url`); every other place (setup cells, stored links, package
metadata, citation, texts) repeats it, and the address of the published pages follows from it.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
import yaml

from lib.publishing import fingerprint, notebooks

GITHUB = "https://github.com/"
COLAB = "https://colab.research.google.com/github/"  # what follows is the same as on GitHub

_OWNER = r"(?P<owner>[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38})"
_ADDRESS = re.compile(re.escape(GITHUB) + _OWNER + r"/(?P<name>[A-Za-z0-9_.-]{1,100})")
# Not in the middle of a longer name: `.../book` must not match `.../book-2`, but `.../book.git` it must.
_END = r"(?![A-Za-z0-9_-]|\.(?!git\b)[A-Za-z0-9_-])"


def address(root: Path) -> str:
    """The address that the book has now."""
    return yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]


def validate(url: str) -> str:
    """`url` without a closing `/` or `.git`; raises `ValueError` unless it names a GitHub repository."""
    return _read(url)[0]


def pages_address(url: str) -> str:
    """Where GitHub publishes the pages of the repository at `url`; raises `ValueError` as `validate` does."""
    match = _read(url)
    site = f"{match['owner'].lower()}.github.io"
    return f"https://{site}/" if match["name"].lower() == site else f"https://{site}/{match['name']}/"


def _read(url: str) -> re.Match[str]:
    match = _ADDRESS.fullmatch(url.strip().removesuffix("/").removesuffix(".git"))
    if match is None or set(match["name"]) == {"."}:
        raise ValueError(f"URL: wanted https://github.com/OWNER/NAME, got {url!r}")
    return match


def rewrite(root: Path, url: str) -> list[str]:
    """Put `url` in the place of the present address in every text file that git knows or would add.

    Returns the names of the files that changed. Raises `ValueError` for a bad `url`, before anything is
    written. Stored outputs stay as fresh as they were: where a link in them or a file they depend on changes,
    so does the fingerprint.
    """
    url, old = validate(url), address(root)
    replaced = {name: _replaced(root / name, old, url) for name in _text_files(root)}
    changes = {name: text for name, text in replaced.items() if text is not None}
    fresh = [path for path in notebooks.chapters(root) if not fingerprint.stale(path, root)]
    config = changes.pop("_config.yml", None)
    for name, text in changes.items():
        notebooks.write_text(text, root / name)
    for path in fresh:
        _renew(path, root)
    if config is not None:  # last: until then the same command can be given again after an interruption
        notebooks.write_text(config, root / "_config.yml")
        changes["_config.yml"] = config
    return sorted(changes)


def _text_files(root: Path) -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted({name for name in listed.split("\0") if name and (root / name).is_file()})


def _replaced(path: Path, old: str, new: str) -> str | None:
    """The file's text with the new addresses; None when nothing changes or the file is not text."""
    try:
        before = path.read_bytes().decode()
    except UnicodeDecodeError:
        return None
    after = before.replace(pages_address(old), pages_address(new))
    for site in (GITHUB, COLAB):
        after = re.sub(re.escape(old.replace(GITHUB, site)) + _END, new.replace(GITHUB, site), after)
    return None if after == before else after


def _renew(path: Path, root: Path) -> None:
    """Bring the fingerprint of a notebook up to date that was fresh before the addresses changed."""
    if fingerprint.stale(path, root):
        notebook = nbformat.read(path, as_version=4)
        stored = notebook.metadata[fingerprint.KEY]
        notebook = notebooks.normalise(notebook)
        fingerprint.record(notebook, root, list(stored["data"]), stored.get("quoted", {}))
        notebooks.write(notebook, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url", help="https://github.com/OWNER/NAME")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's folder")
    options = parser.parse_args(arguments)
    try:
        changed = rewrite(options.root, options.url)
    except ValueError as error:
        parser.error(str(error))
    for name in changed:
        print(f"rewritten: {name}")
    print(f"the repository is {address(options.root)}, its pages {pages_address(address(options.root))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
