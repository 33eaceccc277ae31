"""The Chromium that the tests of the built pages drive: found, or installed where there is none.

`python -m tests.html.browser` prints its path; it installs one first where none is found, and exits with an
error where it cannot. A machine without a browser never makes the tests skip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

from playwright.sync_api import sync_playwright

# First the one without a window's frame: a page in it costs two thirds, since no tabs and menus are drawn around it.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# No sandbox: Chromium refuses one to root, and continuous integration is root. Most of the others keep the
# browser from speaking to anyone on its own, and the last two keep pages from reaching any other machine.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def find() -> str | None:
    """Path of a Chromium that starts, on the PATH or installed by Playwright; None where there is none."""
    for path in map(shutil.which, NAMES):
        if path and _starts(path):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if _starts(path) else None


def find_or_install() -> str:
    """Path of a Chromium that starts, installed first where there is none.

    As root on a system with apt it is the system's own package, otherwise Playwright's download.
    Raises RuntimeError, with what each attempt said, where none can be had.
    """
    if path := find():
        return path
    said = []
    for attempt in _attempts():
        for command in attempt:
            print("installing a browser:", " ".join(command), file=sys.stderr, flush=True)
            done = subprocess.run(command, env=_quiet(), stdout=PIPE, stderr=STDOUT, text=True)
            if done.returncode:
                said.append(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-1500:]}")
                break
        if path := find():
            return path
    raise RuntimeError(
        "no Chromium was found and none could be installed. Install one so that `chromium` or "
        "`google-chrome` is on the PATH, then run this again.\n" + "\n".join(said)
    )


def _attempts() -> list[list[list[str]]]:
    """Ways to install a browser, best first, each a list of commands."""
    attempts = [[[sys.executable, "-m", "playwright", "install", "chromium"]]]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "-y", "--no-install-recommends"]
        for package in ("chromium", "chromium-headless-shell"):
            attempts.insert(0, [["apt-get", "update"], [*install, package]])
    return attempts


def _quiet() -> dict[str, str]:
    """The environment in which apt asks no questions."""
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


def _starts(path: str) -> bool:
    """Whether the browser runs at all: Ubuntu's `chromium-browser` may be a stub that only asks for snap."""
    if not Path(path).exists():
        return False
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    try:
        print(find_or_install())
    except RuntimeError as problem:
        sys.exit(str(problem))
