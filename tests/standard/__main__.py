"""Take off the list what was mended, or say what is still to be mended: `python -m tests.standard`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.standard.chapter import book
from tests.standard.debt import CHECKS, LIST, counts, differences, faults, listed, renewed, written

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status, 1 where a count grew and was not let grow."""
    parser = argparse.ArgumentParser(prog="python -m tests.standard", description=__doc__)
    parser.add_argument("chapters", nargs="*", help="show every fault of these chapters, and change nothing")
    parser.add_argument("--up", action="store_true", help="let counts grow too")
    options = parser.parse_args(arguments)
    chapters = book(ROOT)
    if unknown := set(options.chapters) - {chapter.name for chapter in chapters}:
        parser.error(f"no chapter has the name {', '.join(sorted(unknown))}")
    if options.chapters:
        _show([chapter for chapter in chapters if chapter.name in options.chapters])
        return 0
    then = listed() if LIST.exists() else {}
    now = {check: counts(faults(check, chapters)) for check in CHECKS}
    kept = renewed(now, then, options.up)
    LIST.write_text(written(kept), encoding="utf-8")
    grown = False
    for check, each in now.items():
        print(f"{check:12} {sum(each.values()):4} in {len(each)} chapters")
        for name, count, before in differences(each, kept[check]):
            print(f"    {name} has {count}, the list allows {before}: mend it, or give --up")
            grown = True
    return int(grown)


def _show(chapters: list) -> None:
    for check in CHECKS:
        for name, found in faults(check, chapters).items():
            print(f"{name}, {check}:", *found, sep="\n    ")


if __name__ == "__main__":
    sys.exit(main())
