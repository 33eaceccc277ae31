"""A page of the book as the checks of its standard read it: its cells, numbered as a reader counts them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

from lib.publishing import notebooks
from lib.publishing.parts import statements

SPOKEN = {"finding", "predict"}  # calls that are text: sentences with numbers from the run, and cards with questions


class Chapter(NamedTuple):
    """A page, and all pages of the book in the order in which they are read.

    A page in Markdown is a notebook of one cell.
    """

    page: str  # as `_toc.yml` has it: book/1-autoencoders/vae
    notebook: NotebookNode
    pages: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of its address: vae."""
        return Path(self.page).name

    def cells(self, kind: str) -> Iterator[tuple[int, NotebookNode]]:
        """The cells of a kind, "code" or "markdown", each with its number from 1."""
        return ((number, cell) for number, cell in enumerate(self.notebook.cells, 1) if cell.cell_type == kind)

    def statements(self, cell: NotebookNode) -> list[ast.stmt]:
        """The statements of a code cell."""
        return statements(self.notebook, [cell])


def book(root: Path) -> list[Chapter]:
    """Every page of `_toc.yml` that is a notebook or Markdown."""
    pages = tuple(notebooks.pages(root))
    return [Chapter(page, _notebook(root / page), pages) for page in pages]


def _notebook(page: Path) -> NotebookNode:
    if (stored := page.with_name(f"{page.name}.ipynb")).exists():
        return nbformat.read(stored, as_version=4)
    text = page.with_name(f"{page.name}.md").read_text(encoding="utf-8")
    return new_notebook(cells=[new_markdown_cell(text)])


def called(node: ast.AST) -> str:
    """The name of the function that a call calls, or that a statement calls and does nothing else; else empty."""
    node = node.value if isinstance(node, ast.Expr) else node
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
