"""What code of `lib` the cells of a notebook reach, found from the files alone, definition by definition.

From the names that the cells use, names are followed through imports, re-exports, functions and classes, across files.

- A function or a class reached counts whole: its body, decorators, defaults and bases, and what these name. So nothing
  need be known of methods: an object's class is reached where the object is made.
- A module in which a definition is reached adds its other statements, which ran when it was imported.
- A module that is only imported adds the statements that do something, not definitions or plain assignments. Such a
  statement as `Class.method = ...` counts where that class is reached, and a definition under a decorator of `lib`
  where the module of the decorator is.

Where names do not say what is meant, more is counted: of a module that is handed on as an object, or imported by
`import *`, everything; of a package that finds names by a `__getattr__` of its own, what it imports by that name under
`if TYPE_CHECKING`, or else all modules in it; after `eval`, `importlib` and their like, all of `lib`.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from lib.publishing.meaning import bare, meaning, only_for_types

CELLS = "the cells"  # the name of the notebook's own code among the modules

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Import = ast.Import | ast.ImportFrom
_ANYTHING = {"eval", "exec", "globals", "__import__", "importlib", "import_module"}
_SOURCE = ("lib.notebook.source", "source")


@dataclass
class Module:
    """The statements of a module at its top level, and which of them bind each name; one import, one name."""

    name: str
    path: Path | None
    statements: list[ast.stmt]
    binds: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: list[_Import] = field(default_factory=list)  # those too that stand under an `if` or a `try`
    late: dict[str, _Import] = field(default_factory=dict)  # imports by which `__getattr__` finds names when asked

    def __post_init__(self):
        self.statements = [part for statement in self.statements for part in _one_by_one(statement)]
        for statement in self.statements:
            for name in _bound(statement):
                self.binds.setdefault(name, []).append(statement)
            if not isinstance(statement, _Definition):
                found = [node for node in ast.walk(statement) if isinstance(node, _Import)]
                self.imports += [single for node in found for single in _singles(node)]

    @property
    def package(self) -> str:
        """Where relative imports start."""
        inside = self.path is not None and self.path.name == "__init__.py"
        return self.name if inside else self.name.rpartition(".")[0]


class Reach:
    """What the statements `cells` of a notebook reach in the folder `lib` under `root`.

    `imported` are the names of the modules of `lib` that running them imports, `shown` what they hand to `source`.
    Raises ValueError for a file that is not Python.
    """

    def __init__(self, cells: list[ast.stmt], root: Path):
        self.root = root
        self.modules: dict[str, Module | None] = {}
        self.imported: set[str] = set()
        self.shown: list[ast.expr] = []
        self._taken: set[ast.stmt] = set()
        self._whole: set[str] = set()
        self._patches: list[tuple[list[ast.stmt], Module, ast.stmt]] = []
        self._waiting: list[tuple[Module, ast.AST]] = []
        self.cells = Module(CELLS, None, cells)
        self.modules[CELLS] = self.cells
        for single in self.cells.imports:
            self._import_of(self.cells, single)
        for statement in self.cells.statements:
            if not isinstance(statement, _Import) or _is_star(statement):
                self._take(self.cells, statement)
        self._finish()

    def digests(self) -> dict[str, str]:
        """One digest for each file of which anything is reached, by its name relative to the root."""
        found = {}
        for module in self.modules.values():
            if module is None or module.path is None:
                continue
            if reached := [meaning(s) for s in module.statements if s in self._taken]:
                name = module.path.relative_to(self.root).as_posix()
                found[name] = hashlib.sha256("\n".join(reached).encode()).hexdigest()[:16]
        return dict(sorted(found.items()))

    def module(self, name: str) -> Module | None:
        """The module of `lib` by its full name; None for all others."""
        if name not in self.modules:
            self.modules[name] = self._read(name) if name.split(".")[0] == "lib" else None
        return self.modules[name]

    def origin(self, here: Module, chain: list[str]) -> tuple[Module, str | None, list[str]] | None:
        """Where in `lib` the dotted name `chain` of the module `here` is defined: module, name, further attributes.

        The name is None where the module itself is meant; None for what is not of `lib`.
        """
        if not here.binds.get(chain[0]):
            return None
        statement = here.binds[chain[0]][-1]
        if not isinstance(statement, _Import):
            return (here, chain[0], chain[1:]) if here is not self.cells else None
        return self._walk(*self._target(here, statement, chain[1:]))

    def text(self, shown: ast.expr) -> str:
        """The lines that `source` displays for what a cell hands to it, and their place.

        Where that cannot be found out: the text of every file of `lib`.
        """
        chain = dotted(shown)
        origin = self.origin(self.cells, chain) if chain else None
        found = self._defined(*origin) if origin else []
        if found:
            return "\n".join(_lines(module, node, self.root) for module, node in found)
        return "\n".join(path.read_text(encoding="utf-8") for path in sorted((self.root / "lib").rglob("*.py")))

    def _defined(self, module: Module, name: str | None, rest: list[str]) -> list[tuple[Module, _Definition | None]]:
        """The definitions of that name, each with its module; None instead of one stands for the whole module."""
        if name is None:
            return [(module, None)] if not rest else []
        found = [node for node in module.binds.get(name, ()) if isinstance(node, _Definition)]
        if not rest:
            return [(module, node) for node in found]
        classes = [node for node in found if isinstance(node, ast.ClassDef)]
        return [each for node in classes for each in self._members(module, node, rest)]

    def _members(self, module: Module, node: ast.ClassDef, rest: list[str]) -> list[tuple[Module, _Definition | None]]:
        """The definitions of an attribute of a class, its own or those of the first base that has one."""
        own = [each for each in node.body if isinstance(each, _Definition) and each.name == rest[0]]
        if own or len(rest) > 1:
            return [(module, each) for each in own] if len(rest) == 1 else []
        bases = [self.origin(module, chain) for base in node.bases if (chain := dotted(base))]
        return next((found for base in bases if base and (found := self._defined(*base[:2], [*base[2], *rest]))), [])

    # Names

    def _walk(self, module: str, rest: list[str]) -> tuple[Module, str | None, list[str]] | None:
        """Like `origin`, for the attributes `rest` of the module of that name."""
        found = self.module(module)
        if found is None:
            return None
        if not rest:
            return found, None, []
        if rest[0] in found.binds:
            return self.origin(found, rest)
        if rest[0] in found.late:
            return self._walk(*self._target(found, found.late[rest[0]], rest[1:]))
        if self.module(f"{module}.{rest[0]}"):
            return self._walk(f"{module}.{rest[0]}", rest[1:])
        return found, None, rest

    def _target(self, here: Module, statement: _Import, rest: list[str]) -> tuple[str, list[str]]:
        """The module that an import of one name speaks of, and the attributes of it that are meant."""
        alias = statement.names[0]
        if isinstance(statement, ast.ImportFrom):
            module = _absolute(here, statement)
            inside = module == here.name  # a package that imports a module of its own
            return (f"{module}.{alias.name}", rest) if inside else (module, [alias.name, *rest])
        return (alias.name if alias.asname else alias.name.split(".")[0]), rest

    def _use(self, here: Module, chain: list[str]) -> None:
        if chain[0] in _ANYTHING:
            self._take_below("lib")
        for statement in here.binds.get(chain[0], ()):
            if not isinstance(statement, _Import):
                self._take(here, statement)
                continue
            module, rest = self._target(here, statement, chain[1:])
            if self.module(module):
                self._use_of(module, rest)
            elif module.split(".")[0] != "lib":
                self._taken.add(statement)  # `from math import log` says which log is meant

    def _use_of(self, module: str, rest: list[str]) -> None:
        """The attributes `rest` of a module are used; nothing is followed outside `lib`."""
        found = self.module(module)
        if found is None:
            return
        if rest and rest[0] in found.binds:
            self._use(found, rest)
        elif rest and self.module(f"{module}.{rest[0]}"):
            self._use_of(f"{module}.{rest[0]}", rest[1:])
        elif rest and rest[0] in found.late:
            self._taken.update(found.binds["__getattr__"])
            self._use_of(*self._target(found, found.late[rest[0]], rest[1:]))
        elif not (rest and rest[0] in ("__file__", "__name__", "__doc__", "__path__")):
            self._take_whole(module)

    # Code

    def _take(self, here: Module, statement: ast.stmt) -> None:
        if statement in self._taken:
            return
        self._taken.add(statement)
        self._waiting.append((here, statement))
        if here is not self.cells:
            for other in here.statements:
                if not isinstance(other, _Definition | _Import) and "__all__" not in _bound(other):
                    self._take(here, other)

    def _take_whole(self, name: str) -> None:
        module = self.module(name)
        if module is None or name in self._whole:
            return
        self._whole.add(name)
        self._import(name)
        for bound in module.binds:
            self._use(module, [bound])
        for statement in module.statements:
            if not isinstance(statement, _Import):
                self._take(module, statement)
        if "__getattr__" in module.binds:
            self._take_below(module.package)

    def _take_below(self, package: str) -> None:
        folder = self.root.joinpath(*package.split("."))
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            self._take_whole(".".join(parts[:-1] if parts[-1] == "__init__" else parts))

    def _finish(self) -> None:
        while True:
            while self._waiting:
                self._follow(*self._waiting.pop())
            due = [patch for patch in self._patches if any(s in self._taken for s in patch[0])]
            self._patches = [patch for patch in self._patches if patch not in due]
            if not due:
                return
            for _, module, statement in due:
                self._take(module, statement)

    def _follow(self, here: Module, node: ast.AST) -> None:
        """Every name in `node`, and every import."""
        if isinstance(node, _Import):
            for single in _singles(node):
                self._import_of(here, single)
                module, rest = self._target(here, single, [])
                if isinstance(single, ast.Import):
                    module = single.names[0].name
                if self.module(module):
                    self._use_of(module, [] if rest == ["*"] else rest)
        elif chain := dotted(node):
            self._use(here, chain)
        elif here is self.cells and self.shows(node):
            self.shown += node.args
            self._follow(here, node.func)
        else:
            for child in ast.iter_child_nodes(node):
                self._follow(here, child)

    def shows(self, node: ast.AST) -> TypeGuard[ast.Call]:
        """Whether this expression of a cell is a call of `source`, which shows code of `lib`."""
        chain = dotted(node.func) if isinstance(node, ast.Call) else None
        found = self.origin(self.cells, chain) if chain else None
        return found is not None and (found[0].name, found[1]) == _SOURCE and not found[2]

    # Imports

    def _import(self, name: str) -> None:
        """Import a module of `lib` as Python does: the packages above it first."""
        if name in self.imported or name.split(".")[0] != "lib":
            return
        if above := name.rpartition(".")[0]:
            self._import(above)
        module = self.module(name)
        if module is None:
            return
        self.imported.add(name)
        for single in module.imports:
            self._import_of(module, single)
        for statement in module.statements:
            if not self._does_something(module, statement):
                continue
            if changed := self._changed_by(module, statement):
                self._patches.append((changed, module, statement))
            elif statement not in self._taken:
                self._taken.add(statement)
                self._waiting.append((module, statement))

    def _import_of(self, here: Module, single: _Import) -> None:
        alias = single.names[0]
        if isinstance(single, ast.Import):
            self._import(alias.name)
            return
        module = _absolute(here, single)
        self._import(module)
        if self.module(f"{module}.{alias.name}"):
            self._import(f"{module}.{alias.name}")
        if (found := self.module(module)) and alias.name in found.late:
            self._import_of(found, found.late[alias.name])

    def _does_something(self, here: Module, statement: ast.stmt) -> bool:
        """Whether a statement does more than give a name to something."""
        if isinstance(statement, _Definition):
            return bool(self._changed_by(here, statement))
        if isinstance(statement, _Import):
            return _is_star(statement)
        if isinstance(statement, ast.If) and meaning(statement.test) == meaning(_MAIN):
            return False
        return not isinstance(statement, ast.Assign) or not all(_only_binds(target) for target in statement.targets)

    def _changed_by(self, here: Module, statement: ast.stmt) -> list[ast.stmt]:
        """The definitions of `lib` that a statement changes, where it is certain that it changes nothing else.

        `name.attribute = ...` changes what has that name; a decorator of `lib` may enter what it decorates in a
        table that stands beside the decorator.
        """
        if isinstance(statement, _Definition):
            decorators = [d.func if isinstance(d, ast.Call) else d for d in statement.decorator_list]
            found = [self.origin(here, chain) for d in decorators if (chain := dotted(d))]
            return [other for origin in found if origin for other in origin[0].statements]
        if not isinstance(statement, ast.Assign):
            return []
        changed: list[ast.stmt] = []
        for target in statement.targets:
            chain = dotted(target)
            module, name, _ = (self.origin(here, chain) if chain else None) or (None, None, None)
            if module is None or name is None or name not in module.binds:
                return []
            changed += module.binds[name]
        return changed

    def _read(self, name: str) -> Module | None:
        base = self.root.joinpath(*name.split("."))
        path = base / "__init__.py" if (base / "__init__.py").is_file() else base.with_suffix(".py")
        if not path.is_file():
            return None
        try:
            return _module(name, path, path.read_text(encoding="utf-8"))
        except SyntaxError as error:
            raise ValueError(f"{path}: wanted Python, got {error}") from error


@functools.lru_cache(maxsize=1024)
def _module(name: str, path: Path, text: str) -> Module:
    found = Module(name, path, bare(text))
    if "__getattr__" in found.binds:
        bodies = [statement.body for statement in ast.parse(text).body if only_for_types(statement)]
        imports = [each for body in bodies for each in body if isinstance(each, _Import)]
        for single in (single for each in imports for single in _singles(each)):
            for bound in _bound(single) - found.binds.keys():
                found.late.setdefault(bound, single)
    return found


_MAIN = ast.parse('__name__ == "__main__"', mode="eval").body


def dotted(node: ast.AST) -> list[str] | None:
    """`["a", "b", "c"]` for `a.b.c`; None for everything that is not names joined by dots."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (above := dotted(node.value)):
        return [*above, node.attr]
    return None


def _one_by_one(statement: ast.stmt) -> Iterator[ast.stmt]:
    """An import of several names as imports of one each; any other statement as it is."""
    yield from _singles(statement) if isinstance(statement, _Import) else [statement]


def _singles(statement: _Import) -> Iterator[_Import]:
    if isinstance(statement, ast.Import):
        yield from (ast.Import(names=[alias]) for alias in statement.names)
    else:
        module, level = statement.module, statement.level
        yield from (ast.ImportFrom(module=module, names=[alias], level=level) for alias in statement.names)


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement at the top level binds."""
    if isinstance(statement, _Definition):
        return {statement.name}
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, _Import):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, _Definition):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names - {"*"}


def _only_binds(target: ast.expr) -> bool:
    """Whether assigning to `target` only binds names."""
    if isinstance(target, (ast.Tuple, ast.List)):
        return all(_only_binds(each) for each in target.elts)
    return isinstance(target, ast.Name)


def _lines(module: Module, node: _Definition | None, root: Path) -> str:
    """A definition's own lines, decorators and the comments at its end too, below their place; None: all lines."""
    assert module.path is not None  # only the cells have no file, and `origin` never ends in them
    lines = module.path.read_text(encoding="utf-8").splitlines()
    first, last = 1, len(lines)
    if node is not None:
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        last = node.end_lineno or last
        while last < len(lines) and lines[last].strip()[:1] in ("", "#"):
            last += 1
    text = "\n".join(lines[first - 1 : last]).rstrip()
    return f"{module.path.relative_to(root).as_posix()}, line {first}\n{text}\n"


def _is_star(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*"


def _absolute(here: Module, statement: ast.ImportFrom) -> str:
    """The full name of the module that a `from ... import` reads."""
    package = here.package.split(".")
    base = package[: len(package) - statement.level + 1] if statement.level else []
    return ".".join([*base, statement.module] if statement.module else base)
