"""The source of functions and classes of this package, with all that they use, as text that needs no package.

Definitions are taken whole from their modules, those that they name before them. Annotations are dropped, and with them
what only declares a configuration. Where two modules use one name for two things, the later is renamed.
"""

from __future__ import annotations

import ast
import builtins
import copy
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from featherweight.errors import UserError

PACKAGE = "featherweight"
Key = tuple[str, str]  # a module, and a name in it


@dataclass
class _Module:
    """The names of a module: its definitions, and its imports as (module, name); an empty name is a whole module."""

    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    imports: dict[str, Key] = field(default_factory=dict)


@cache
def _module(name: str) -> _Module:
    path = importlib.import_module(name).__file__
    assert path is not None
    module = _Module()
    for node in ast.parse(Path(path).read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imports |= _imported(node)
            continue
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        else:
            continue
        module.imports |= _Bare().imports_of(node)
        module.definitions |= dict.fromkeys(names, _Bare().visit(node))
    return module


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, Key]:
    if isinstance(node, ast.Import):
        return {(each.asname or each.name.split(".")[0]): (each.name, "") for each in node.names}
    return {(each.asname or each.name): (node.module or "", each.name) for each in node.names}


class _Bare(ast.NodeTransformer):
    """Removes annotations, and imports of this package inside functions."""

    def imports_of(self, node: ast.AST) -> dict[str, Key]:
        """The imports of this package inside a definition."""
        inner: dict[str, Key] = {}
        for part in ast.walk(node):
            if isinstance(part, ast.ImportFrom) and _is_ours(part.module or ""):
                inner |= _imported(part)
        return inner

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return ast.copy_location(ast.Pass(), node) if _is_ours(node.module or "") else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign([node.target], self.visit(node.value)), node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        if node.decorator_list or any("Tuple" in ast.unparse(base) for base in node.bases):
            # Its fields are made of annotations, which must be there, whatever they say.
            for part in node.body:
                if isinstance(part, ast.AnnAssign):
                    part.annotation = ast.Name("object", ast.Load())
            node.body = [part if isinstance(part, ast.AnnAssign) else self.visit(part) for part in node.body]
            return node
        return self.generic_visit(node)


class _Globals(ast.NodeVisitor):
    """Collects the names in a definition that refer to something outside it, with their nodes."""

    def __init__(self) -> None:
        self.scopes: list[tuple[bool, set[str]]] = []  # is it a function's, and the names that are its own
        self.by_name: dict[str, list[ast.Name]] = {}

    def visit_Name(self, node: ast.Name) -> None:
        hidden = any(
            node.id in names
            for depth, (is_function, names) in enumerate(reversed(self.scopes))
            if is_function or not depth
        )
        if not hidden:
            self.by_name.setdefault(node.id, []).append(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._each([*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d)])
        self._inside(True, {*_arguments(node.args), *_bound(node.body)}, node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._each([*node.args.defaults, *(d for d in node.args.kw_defaults if d)])
        self._inside(True, set(_arguments(node.args)), [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._each([*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)])
        self._inside(False, set(_bound(node.body)), node.body)

    def _comprehension(self, node: Any) -> None:
        own = {part.id for each in node.generators for part in ast.walk(each.target) if isinstance(part, ast.Name)}
        self._inside(True, own, list(ast.iter_child_nodes(node)))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    def _inside(self, is_function: bool, names: set[str], nodes: Iterable[ast.AST]) -> None:
        self.scopes.append((is_function, names))
        self._each(nodes)
        self.scopes.pop()

    def _each(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)


def _arguments(arguments: ast.arguments) -> Iterator[str]:
    for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if each is not None:
            yield each.arg


def _bound(body: Iterable[ast.AST]) -> Iterator[str]:
    """Return the names that statements bind, not counting those inside functions, classes and comprehensions."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imported(node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
            yield from _bound(node.body)
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            yield from (part.target.id for part in ast.walk(node) if isinstance(part, ast.NamedExpr))
        elif not isinstance(node, ast.Lambda):
            yield from _bound(ast.iter_child_nodes(node))


class Source:
    """Collects definitions in an order in which they can run, to form one text with the module `beside`.

    `instead` maps functions to names of others that replace them.
    """

    def __init__(self, beside: str, instead: Mapping[Callable[..., Any], Callable[..., Any]] = {}) -> None:
        self.definitions: list[str] = []
        self._names: dict[Key, str] = {}  # what each thing is called in the text
        self._beside, self._reserved = beside, set(_module(beside).definitions)
        self._instead = {_key(thing): _key(other) for thing, other in instead.items()}
        self._imports = dict(_module(beside).imports)
        self._libraries: set[str] = set()

    @property
    def imports(self) -> list[str]:
        """Return the lines that import what the definitions use."""
        return sorted(_import_line(name, *target) for name, target in self._imports.items())

    @property
    def libraries(self) -> list[str]:
        """Return the packages that are imported, apart from the standard library."""
        return sorted(self._libraries - set(sys.stdlib_module_names) - {"__future__"})

    def add(self, thing: Callable[..., Any]) -> str:
        """Add a function or class of this package; returns its name in the text."""
        return self._define(_key(thing))

    def _define(self, key: Key) -> str:
        if key in self._names:
            return self._names[key]
        module, name = key = self._instead.get(key, key)
        if module == self._beside and name in self._reserved:
            return name
        known = _module(module)
        if name in known.imports:
            return self._import(key, known.imports[name])
        if name not in known.definitions:
            raise UserError(f"the source of {module}.{name} cannot be put into a script; take another format")
        own = {part for part, other in known.definitions.items() if other is known.definitions[name]}
        node = copy.deepcopy(known.definitions[name])
        visitor = _Globals()
        visitor.visit(node)
        for part in own:  # before what it uses, which may use it
            self._names[(module, part)] = self._free(part, module)
        for used, nodes in visitor.by_name.items():
            if used not in own and (used in known.definitions or used in known.imports):
                self._renamed(nodes, self._define((module, used)))
            elif used not in own and not hasattr(builtins, used):
                raise UserError(f"{module}.{name} uses {used}, which a script has not; take another format")
        for part in own:
            self._renamed(visitor.by_name.get(part, []), self._names[(module, part)])
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.name = self._names[key]
        for inner in ast.walk(node):
            if isinstance(inner, ast.Import | ast.ImportFrom):
                self._libraries |= {target.split(".")[0] for target, _ in _imported(inner).values()}
        self.definitions.append(ast.unparse(ast.fix_missing_locations(node)))
        return self._names[key]

    def _import(self, key: Key, target: Key) -> str:
        """A name that a module imports: what it stands for, defined if it is ours."""
        module, name = target
        if _is_ours(module) and not _is_module(f"{module}.{name}"):
            stands_for = self._define(target)
            self._names[key] = stands_for
            if stands_for != key[1]:
                # An alias of its own: under the first name something local may hide it.
                self._names[key] = self._free(key[1], key[0])
                self.definitions.append(f"{self._names[key]} = {stands_for}")
            return self._names[key]
        if _is_ours(module):
            raise UserError(f"{key[0]} uses the module {module}.{name}, which a script has not; take another format")
        alias = key[1]
        if self._imports.get(alias) != target and alias in self._taken():
            alias = self._free(alias, key[0])
        self._imports[alias] = target
        self._libraries.add(module.split(".")[0])
        self._names[key] = alias
        return alias

    def _taken(self) -> set[str]:
        return {*self._names.values(), *self._imports, *self._reserved}

    def _free(self, name: str, module: str) -> str:
        taken = self._taken()
        return name if name not in taken else f"{name}_of_{module.rpartition('.')[2]}"

    @staticmethod
    def _renamed(nodes: list[ast.Name], name: str) -> None:
        for node in nodes:
            node.id = name


def _key(thing: Callable[..., Any]) -> Key:
    return thing.__module__, thing.__qualname__


def _import_line(alias: str, module: str, name: str) -> str:
    if not name:
        return f"import {module}" if alias == module.split(".")[0] else f"import {module} as {alias}"
    return f"from {module} import {name}" if alias == name else f"from {module} import {name} as {alias}"


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def _is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
