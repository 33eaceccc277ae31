"""Begin a chapter: `python -m lib.publishing.skeleton book/2-diffusion/flow "Flow matching"`.

It writes a notebook with the cells that every chapter has and the headings of its arc, to be filled or dropped.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lib.notebook.setup import setup_cell
from lib.publishing import notebooks

ARC = {
    "Why": "What fails without the idea of this chapter, run before the reader's eyes.",
    "The idea": "In words and in a figure.",
    "The derivation": "From what is given to what is used, each step with its reason.",
    "The code": "The model that says the same, from `lib`.",
    "Training": "Live, within the budget of a chapter.",
    "Exploring": "What can be moved, and what it shows.",
    "Breaking it": "What each part is there for.",
    "Article and papers": "Where they differ.",
    "Exercises": "Each with a solution that was run, folded.",
    "Summary": "What to keep.",
}


def skeleton(title: str) -> NotebookNode:
    """A chapter that says nothing yet: title and promise, setup, imports, and a heading for each part of the arc."""
    cells = [
        nbformat.v4.new_markdown_cell(
            f"# {title}\n\nWhat the reader can do after this chapter, and how long it takes."
        ),
        nbformat.v4.new_code_cell(setup_cell(), metadata={"tags": ["setup"]}),
        nbformat.v4.new_code_cell("import torch\n\ntorch.manual_seed(0);", metadata={"tags": ["imports"]}),
    ]
    cells += [nbformat.v4.new_markdown_cell(f"## {heading}\n\n{what}") for heading, what in ARC.items()]
    return notebooks.normalise(nbformat.v4.new_notebook(cells=cells))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("chapter", type=Path, help="where it goes: book/2-diffusion/flow")
    parser.add_argument("title", help="its title")
    options = parser.parse_args(arguments)
    path = options.chapter.with_suffix(".ipynb")
    if path.exists():
        parser.error(f"chapter: {path} is there already")
    if not path.parent.is_dir():
        parser.error(f"chapter: there is no folder {path.parent}")
    notebooks.write(skeleton(options.title), path)
    page = path.with_suffix("")
    print(f"{path} is there. Enter `- file: {page}` in _toc.yml, write, and run `make execute CHAPTER={page.name}`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
