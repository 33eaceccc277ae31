"""Interactive figures that are right on the page and wrong under a reader's hand.

A figure's function runs again whenever a slider moves. It then reads the names of the notebook as they are after the
last cell that ran: where a later cell binds such a name anew, the figure draws something else than it did.
"""

import ast
import dis
from collections.abc import Iterator
from types import CodeType

from lib.publishing import notebooks
from tests.standard.chapter import Chapter, called

FIGURES = {"explore", "animate"}

_Function = ast.FunctionDef | ast.ClassDef | ast.Lambda
_OWN_NAMES = ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def rebound(chapter: Chapter) -> list[str]:
    """Names that a figure's function reads and that are bound anew after the figure.

    The functions that it calls count with it, if the notebook defines them. What it takes as a default, as in
    `lambda t, codes=codes: ...`, it keeps.
    """
    told = []  # every statement, in the order of running, with its cell's number
    for number, cell in chapter.cells("code"):
        told += [(number, statement) for statement in chapter.statements(cell)]
    bound = [set(_bound(statement)) for _, statement in told]
    functions: dict[str, _Function] = {}
    faults = []
    for place, (number, statement) in enumerate(told):
        functions |= _defined(statement)
        for call in ast.walk(statement):
            if isinstance(call, ast.Call) and called(call) in FIGURES:
                later = {name: told[at][0] for at in range(len(told) - 1, place, -1) for name in bound[at]}
                label = notebooks.label(number, chapter.notebook.cells[number - 1])
                faults += [
                    f"{label}: its figure reads `{name}`, which cell {later[name]} binds anew"
                    for name in sorted(_read(call, functions) & set(later))
                ]
    return faults


def _bound(node: ast.AST) -> Iterator[str]:
    """The names of the notebook that a statement binds; importing a name again changes nothing."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif not isinstance(node, _OWN_NAMES):
        for child in ast.iter_child_nodes(node):
            yield from _bound(child)


def _defined(statement: ast.stmt) -> dict[str, _Function]:
    """The function or class that a statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name: statement}
    if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Lambda):
        return {target.id: statement.value for target in statement.targets if isinstance(target, ast.Name)}
    return {}


def _read(call: ast.Call, functions: dict[str, _Function]) -> set[str]:
    """The names that the functions handed to a call read whenever they run."""
    handed = [node for node in ast.walk(call) if isinstance(node, ast.Lambda)]
    names = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)} & set(functions)
    waiting, read, seen = [*handed, *(functions[name] for name in names)], set[str](), set[str](names)
    while waiting:
        found = set(_late(waiting.pop()))
        read |= found
        waiting += [functions[name] for name in found & set(functions) - seen]
        seen |= found
    return read


def _late(function: _Function) -> Iterator[str]:
    """The names that the body of a function, or the methods of a class, take from the notebook."""
    if isinstance(function, ast.Lambda):
        code = compile(ast.Expression(function), "cell", "eval")
    else:
        code = compile(ast.Module([function], []), "cell", "exec")
    return (name for inner in code.co_consts if isinstance(inner, CodeType) for name in _globals(inner))


def _globals(code: CodeType) -> Iterator[str]:
    yield from (step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL")
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _globals(inner)
