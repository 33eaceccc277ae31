"""What a piece of Python means: its syntax tree without all that has no effect when it runs.

Comments, formatting and positions are not in a tree. Left out of it are docstrings, annotations (those in class bodies
stay: dataclasses and named tuples read them) and what stands under `if TYPE_CHECKING:`.
"""

import ast
import functools
from typing import TypeGuard

_LEFT_OUT = {"kind", "type_comment", "type_ignores"}


def bare(text: str) -> list[ast.stmt]:
    """The statements of a module's text, without what does not matter. Raises SyntaxError."""
    return _Bare().visit(ast.parse(text)).body


def only_for_types(statement: ast.AST) -> TypeGuard[ast.If]:
    """Whether a statement is an `if TYPE_CHECKING:`, false whenever code runs."""
    return isinstance(statement, ast.If) and ast.unparse(statement.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@functools.lru_cache(maxsize=4096)
def meaning(node: ast.AST) -> str:
    """The tree in one line, the same for every version of Python that the book runs on."""
    return _line(node)


def _line(value) -> str:
    """A node without its empty fields, since newer versions of Python have more of them."""
    if isinstance(value, list):
        return f"[{', '.join(map(_line, value))}]"
    if not isinstance(value, ast.AST):
        return ascii(value)
    fields = [(name, part) for name, part in ast.iter_fields(value) if name not in _LEFT_OUT]
    return f"{type(value).__name__}({', '.join(f'{n}={_line(part)}' for n, part in fields if part not in (None, []))})"


class _Bare(ast.NodeTransformer):
    """Takes out what has no effect when the code runs."""

    def __init__(self):
        self.in_class = False

    def visit_Module(self, node):
        return self._bare(node, in_class=False)

    def visit_ClassDef(self, node):
        return self._bare(node, in_class=True)

    def visit_FunctionDef(self, node):
        node.returns = None
        return self._bare(node, in_class=False)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        if self.in_class:
            return node
        if node.value is not None:
            return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)
        node.annotation = ast.Constant(value=...)  # `x: int` alone still makes x local
        return node

    def visit_If(self, node):
        self.generic_visit(node)
        return node.orelse if only_for_types(node) else node

    def _bare(self, node, in_class):
        if ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
        outer, self.in_class = self.in_class, in_class
        self.generic_visit(node)
        self.in_class = outer
        return node
