"""What names and expressions in source text stand for, as far as that can be told without running them."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safmn import syntax
from safmn.syntax import Library, Module

UNKNOWN = object()
"""The value of what cannot be told."""


@dataclass(frozen=True)
class Definition:
    """A class or function."""

    module: Module
    name: str

    @property
    def nodes(self) -> list[Any]:
        """Its syntax trees; several where it is defined under conditions."""
        return self.module.definitions[self.name]


@dataclass(frozen=True)
class Constant:
    """A name that statements at the top of a module give a value."""

    module: Module
    name: str

    @property
    def nodes(self) -> list[ast.stmt]:
        """Those statements."""
        return self.module.constants[self.name]

    @property
    def is_fixed(self) -> bool:
        """Whether it is given one value, once."""
        return len(self.nodes) == 1 and self.name not in self.module.changed


@dataclass(frozen=True)
class Table(Constant):
    """A dict that is written out at the top of a module and not changed there."""

    @property
    def entries(self) -> dict[Any, ast.expr]:
        """Key -> value."""
        return self.module.tables[self.name]


Target = Definition | Constant | Module


@dataclass(frozen=True)
class Scope:
    """Where a name is looked up.

    Attributes:
        module: the module at last.
        known: arguments, and names assigned once, whose value is known: plain, a Definition or a Table.
        local: the other names that a function gives values to.
        imports: those of the function itself.
        choosing: whether tests are looked at, so that what they rule out is passed over.
    """

    module: Module
    known: Mapping[str, Any] = field(default_factory=dict)
    local: frozenset[str] = frozenset()
    imports: syntax.Imports = field(default_factory=dict)
    choosing: bool = False


class Meaning:
    """Looks names up and evaluates expressions.

    Args:
        library: where modules are found.
        foreign: whether names are followed into installed packages.

    Attributes:
        used: constants whose values decided something.
    """

    def __init__(self, library: Library, foreign: bool) -> None:
        self.used: dict[str, str] = {}
        self._looked_up: dict[Any, bool] = {}
        self._library = library
        self._foreign = foreign

    @property
    def missing(self) -> list[str]:
        """Words that were looked up in tables, in none of which they are."""
        return [key for key, there in self._looked_up.items() if isinstance(key, str) and not there]

    def targets(self, path: str, scope: Scope) -> list[Target]:
        """What a dotted name may stand for at the top of modules; several where conditions decide."""
        first, *rest = path.split(".")
        if first in scope.imports:
            found = [each for origin in scope.imports[first] for each in self._imported(*origin)]
        else:
            found = self._in_module(scope.module, first)
        for part in rest:
            modules = [each for each in found if isinstance(each, Module)]
            # An attribute of a class or object: the object as a whole is meant.
            found = [each for each in found if not isinstance(each, Module)]
            for module in modules:
                found += self._in_module(module, part) or self._imported(f"{module.name}.{part}", None)
        return found

    def _in_module(self, module: Module, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> list[Target]:
        if (module.name, name) in seen:
            return []
        seen |= {(module.name, name)}
        found: list[Target] = [Definition(module, name)] if name in module.definitions else []
        if name in module.constants:
            found.append((Table if name in module.tables else Constant)(module, name))
        for origin, attribute in module.imports.get(name, ()):
            found += self._imported(origin, attribute, seen)
        for origin, _ in module.imports.get("*", ()) if not found else ():
            found += self._imported(origin, name, seen)
        return found

    def _imported(
        self, origin: str, attribute: str | None, seen: frozenset[tuple[str, str]] = frozenset()
    ) -> list[Target]:
        if not self._library.is_own(origin) and (not self._foreign or syntax.is_fixed(origin)):
            return []
        module = self._library.module(origin)
        if module is None:
            return []
        if attribute is None:
            return [module]
        found = self._in_module(module, attribute, seen)
        return found or (self._imported(f"{origin}.{attribute}", None) if module.is_package else [])

    # --- values ---

    def value(self, node: ast.AST, scope: Scope) -> Any:
        """A plain value (text, number, None, a tuple of them), a Table, a Definition, or UNKNOWN."""
        if not scope.choosing:
            return UNKNOWN
        if isinstance(node, ast.Constant):
            return node.value if is_plain(node.value) else UNKNOWN
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            values = [self.value(each, scope) for each in node.elts]
            return tuple(values) if all(is_plain(each) for each in values) else UNKNOWN
        if isinstance(node, ast.IfExp):
            test = self.test(node.test, scope)
            return UNKNOWN if test is UNKNOWN else self.value(node.body if test else node.orelse, scope)
        if isinstance(node, ast.Subscript):
            table, key = self.choice(node, scope) or (None, None)
            return UNKNOWN if table is None else self.entry(table, key)
        if isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp):
            return self.test(node, scope)
        path = syntax.dotted(node)
        return UNKNOWN if path is None else self._named(path, scope)

    def _named(self, path: str, scope: Scope) -> Any:
        first = path.partition(".")[0]
        if path in scope.known:
            return scope.known[path]
        if first in scope.local or first in scope.known:
            return UNKNOWN
        targets = self.targets(path, scope)
        if len(targets) != 1:
            return UNKNOWN
        (target,) = targets
        is_itself = "." not in path or not self._is_attribute(path, scope)
        if isinstance(target, Definition):
            return target if is_itself else self._attribute_of_class(target, path)
        if isinstance(target, Table):
            return target if is_itself else UNKNOWN
        if (
            isinstance(target, Constant)
            and is_itself
            and len(target.nodes) == 1
            and target.name not in target.module.changed
        ):
            return self._count(target.module, target.name, getattr(target.nodes[0], "value", None))
        return UNKNOWN

    def _is_attribute(self, path: str, scope: Scope) -> bool:
        """Whether the last part of a path is an attribute of an object, not of a module."""
        return not any(isinstance(each, Module) for each in self.targets(path.rpartition(".")[0], scope))

    def _attribute_of_class(self, target: Definition, path: str) -> Any:
        """The value of `Class.NAME` where the class's body writes it out."""
        name, nodes = path.rpartition(".")[2], target.nodes
        body = nodes[0].body if len(nodes) == 1 and isinstance(nodes[0], ast.ClassDef) else []
        given = [each for each in body if name in syntax.bound([each])]
        if len(given) != 1:
            return UNKNOWN
        return self._count(target.module, f"{target.name}.{name}", getattr(given[0], "value", None))

    def _count(self, module: Module, name: str, node: ast.AST | None) -> Any:
        value = syntax.plain_value(node) if node is not None else UNKNOWN
        if not is_plain(value):
            return UNKNOWN
        self.used[f"{module.name}.{name}"] = repr(value)
        return value

    def choice(self, node: ast.Subscript, scope: Scope) -> tuple[Table, Any] | None:
        """Of `TABLE[key]` both, where they are known."""
        table, key = self.value(node.value, scope), self.value(node.slice, scope)
        return (table, key) if isinstance(table, Table) and is_plain(key) else None

    def entry(self, table: Table, key: Any) -> Any:
        """The value of an entry."""
        if not self.has(table, key):
            return UNKNOWN
        return self.value(table.entries[key], Scope(table.module, choosing=True))

    def has(self, table: Table, key: Any) -> bool:
        """Whether a table has a key."""
        there = key in table.entries
        self._looked_up[key] = self._looked_up.get(key, False) or there
        return there

    def test(self, node: ast.expr, scope: Scope) -> Any:
        """True or False, or UNKNOWN."""
        if not scope.choosing:
            return UNKNOWN
        if isinstance(node, ast.BoolOp):
            values = [self.test(each, scope) for each in node.values]
            decides = isinstance(node.op, ast.Or)
            if decides in values:
                return decides
            return UNKNOWN if UNKNOWN in values else not decides
        if isinstance(node, ast.UnaryOp):
            value = self.test(node.operand, scope) if isinstance(node.op, ast.Not) else UNKNOWN
            return UNKNOWN if value is UNKNOWN else not value
        if isinstance(node, ast.Compare):
            return self._compared(node, scope) if len(node.ops) == 1 else UNKNOWN
        value = self.value(node, scope)
        return bool(value) if is_plain(value) else UNKNOWN

    def _compared(self, node: ast.Compare, scope: Scope) -> Any:
        left, right = self.value(node.left, scope), self.value(node.comparators[0], scope)
        operator = node.ops[0]
        if not is_plain(left):
            return UNKNOWN
        if isinstance(operator, ast.In | ast.NotIn):
            if isinstance(right, Table):
                return self.has(right, left) == isinstance(operator, ast.In)
            return (left in right) == isinstance(operator, ast.In) if isinstance(right, tuple) else UNKNOWN
        if not is_plain(right):
            return UNKNOWN
        if isinstance(operator, ast.Eq | ast.NotEq):
            return (left == right) == isinstance(operator, ast.Eq)
        if isinstance(operator, ast.Is | ast.IsNot) and any(
            each is None or isinstance(each, bool) for each in (left, right)
        ):
            return (left is right) == isinstance(operator, ast.Is)
        return UNKNOWN


def is_plain(value: Any) -> bool:
    """Whether it is a text, a number, True, False, None, or a tuple of such."""
    if isinstance(value, tuple):
        return all(is_plain(each) for each in value)
    return value is None or isinstance(value, str | bool | int | float)


def chooses(value: Any) -> bool:
    """Whether a value is one that a function is followed with; a number chooses nothing."""
    return value is None or isinstance(value, str | bool | Table)
