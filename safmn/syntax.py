"""Python's modules as text: found without importing them, and read as syntax trees."""

import ast
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

PROJECT = "safmn"
UNWRITTEN = object()
"""The value of what is not written out."""
NOT_RUN = ("annotation", "returns", "type_params")
"""Fields of syntax trees whose code is for readers."""
Imports = dict[str, list[tuple[str, str | None]]]
_STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
_CHANGES = {"update", "setdefault", "pop", "popitem", "clear"}  # methods that change a table


@dataclass(frozen=True, eq=False)
class Module:
    """One module as Python reads it.

    Attributes:
        name: dotted.
        file: where it lies.
        tree: its syntax tree.
    """

    name: str
    file: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether other modules may lie below it."""
        return self.file.name == "__init__.py"

    @property
    def package(self) -> str:
        """What its relative imports are relative to."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def definitions(self) -> dict[str, list[ast.AST]]:
        """Qualified name -> classes and functions of that name; several where they stand under conditions."""
        found: dict[str, list[ast.AST]] = {}

        def visit(node: ast.AST, prefix: str) -> None:
            for child in ast.iter_child_nodes(node):
                if is_definition(child):
                    found.setdefault(prefix + child.name, []).append(child)
                    visit(child, f"{prefix}{child.name}." + ("" if isinstance(child, ast.ClassDef) else "<locals>."))
                elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                    visit(child, prefix)

        visit(self.tree, "")
        return found

    @cached_property
    def constants(self) -> dict[str, list[ast.stmt]]:
        """Name -> the statements at the top that give it its value."""
        found: dict[str, list[ast.stmt]] = {}
        for node in self.tree.body:
            if not is_definition(node):
                for name in _stored(node):
                    found.setdefault(name, []).append(node)
        return found

    @cached_property
    def effects(self) -> list[ast.stmt]:
        """Statements at the top that give no name a value but do something to what is there, or may."""
        skipped = (ast.Import, ast.ImportFrom, ast.Pass)
        return [
            node
            for node in self.tree.body
            if not is_definition(node)
            and not isinstance(node, skipped)
            and not is_docstring(node)
            and not _stored(node)
            and not (isinstance(node, ast.If) and {"TYPE_CHECKING", "__name__"} & _named(node.test))
        ]

    @cached_property
    def imports(self) -> Imports:
        """As `imports_in`, of what stands outside of classes and functions."""
        return imports_in([node for node in self.tree.body if not is_definition(node)], self)

    @cached_property
    def changed(self) -> set[str | None]:
        """Names whose value, or what is in it, may change after it was given."""
        found: set[str | None] = {name for effect in self.effects for name in _named(effect)}
        for node in ast.walk(self.tree):
            stored = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
            if stored or (isinstance(node, ast.Attribute) and node.attr in _CHANGES):
                found.add(dotted(node.value))
            elif isinstance(node, ast.AugAssign):
                found.add(dotted(node.target))
            elif isinstance(node, ast.Global):
                found |= set(node.names)
        return found

    @cached_property
    def tables(self) -> dict[str, dict[Any, ast.expr]]:
        """Name -> key -> value of the dicts that are written out at the top and that nothing here changes."""
        found = {}
        for name, statements in self.constants.items():
            value = getattr(statements[0], "value", None)
            if len(statements) > 1 or name in self.changed or not isinstance(value, ast.Dict):
                continue
            keys = [UNWRITTEN if key is None else plain_value(key) for key in value.keys]
            if UNWRITTEN not in keys:
                found[name] = dict(zip(keys, value.values, strict=True))
        return found

    @cached_property
    def is_dynamic(self) -> bool:
        """Whether it may have names that are not written in it."""
        return "*" in self.imports or "__getattr__" in self.definitions or bool(self.effects)

    def text_of(self, name: str) -> str:
        """What the classes and functions of a name say."""
        if name not in self._texts:
            self._texts[name] = text(self.definitions[name])
        return self._texts[name]

    @cached_property
    def _texts(self) -> dict[str, str]:
        return {}

    def facts(self, node: ast.AST) -> "Facts":
        """What the code of a class or function imports and gives values to."""
        if node not in self._facts:
            self._facts[node] = Facts.of(node, self)
        return self._facts[node]

    @cached_property
    def _facts(self) -> dict[ast.AST, "Facts"]:
        return {}

    @cached_property
    def uses_torch(self) -> bool:
        """Whether it imports torch anywhere, so that layers may be made in it."""
        return any(
            origin.partition(".")[0] == "torch" for each in imports_in([self.tree], self).values() for origin, _ in each
        )


@dataclass(frozen=True)
class Facts:
    """What stands anywhere in a piece of code.

    Attributes:
        imports: as `imports_in`.
        times: name -> how often it gets a value, as `bound`.
        assignments: name -> value, of those that assign one name.
    """

    imports: Imports
    times: Counter[str]
    assignments: list[tuple[str, ast.expr]]

    @classmethod
    def of(cls, tree: ast.AST, module: Module) -> "Facts":
        """Reads them."""
        facts = cls({}, Counter(), [])
        for node in ast.walk(tree):
            if type(node) in _BINDING:
                facts.times.update(_bound_by(node))
            if isinstance(node, ast.Import | ast.ImportFrom):
                _add_import(facts.imports, node, module)
            elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                facts.assignments.append((node.targets[0].id, node.value))
        return facts


class Library:
    """Finds modules as Python does, in its order, and beside one more folder; imports none.

    Args:
        beside: a folder where modules may lie that are nowhere else: that of the variant which names them.
    """

    def __init__(self, beside: Path | None = None) -> None:
        self.beside = beside
        self._modules: dict[str, Module | None] = {}
        self._files: dict[str, Path | None] = {}

    def module(self, name: str) -> Module | None:
        """The module of a dotted name; None where there is none or it has no Python source."""
        if name not in self._modules:
            file = self.file(name)
            self._modules[name] = None if file is None else _read(name, file, *version(file))
        return self._modules[name]

    def is_own(self, name: str) -> bool:
        """Whether a module is this project's or the user's own: any that is neither installed nor Python's."""
        top = name.partition(".")[0]
        if top == PROJECT:
            return True
        if is_fixed(name):
            return False
        file = self.file(top) or self.file(name)
        return file is not None and not _is_installed(file)

    def file(self, name: str) -> Path | None:
        """Where the source of a module lies; None where it is not found or is not Python."""
        if name not in self._files:
            self._files[name] = self._find(name)
        return self._files[name]

    def exists(self, name: str) -> bool:
        """Whether there is a module of that name, in Python or compiled."""
        return self._spec(name) is not None

    def _find(self, name: str) -> Path | None:
        top, *rest = name.split(".")
        if top == PROJECT:
            stem = Path(__file__).resolve().parent.joinpath(*rest)
            return next(
                (file for file in (stem / "__init__.py", stem.parent / f"{stem.name}.py") if file.is_file()), None
            )
        spec = self._spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py") or not Path(spec.origin).is_file():
            return None
        return Path(spec.origin)

    def _spec(self, name: str) -> ModuleSpec | None:
        parts = name.split(".")
        if not all(part.isidentifier() for part in parts):
            return None
        spec = _top(parts[0], str(self.beside) if self.beside else "")
        for end in range(2, len(parts) + 1):
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = PathFinder.find_spec(".".join(parts[:end]), list(spec.submodule_search_locations))
        return spec


def _top(name: str, beside: str) -> ModuleSpec | None:
    try:
        spec = find_spec(name)
    except (ImportError, ValueError, AttributeError):
        spec = None
    return spec or PathFinder.find_spec(name, ["", *([beside] if beside else [])])


def is_fixed(module: str) -> bool:
    """Whether a module is Python's or torch's, whose versions are recorded instead."""
    top = module.partition(".")[0]
    return top == "torch" or top in sys.stdlib_module_names


def version(file: Path) -> tuple[int, int]:
    """What tells that a file was changed: nanoseconds and bytes."""
    status = file.stat()
    return status.st_mtime_ns, status.st_size


@cache
def _read(name: str, file: Path, *_: int) -> Module | None:
    try:
        return Module(name, file, ast.parse(file.read_bytes()))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def why_unreadable(file: Path) -> str:
    """Half a sentence on a file that `Library.module` cannot read."""
    try:
        ast.parse(file.read_bytes())
    except SyntaxError as error:
        return f"SyntaxError in {file}, line {error.lineno}: {error.msg}"
    except (OSError, ValueError, RecursionError) as error:
        return f"{file} cannot be read ({error})"
    return f"{file} cannot be read"


def _is_installed(file: Path) -> bool:
    path = file.resolve()
    return path.is_relative_to(_STANDARD) or not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


# --- pieces of syntax ---


def is_definition(node: ast.AST) -> bool:
    """Whether it is a class or a function with a name."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def is_docstring(node: ast.AST) -> bool:
    """Whether it is a text that stands alone, which does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def dotted(node: ast.AST | None) -> str | None:
    """`a.b.c` where it is names and dots alone."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = dotted(node.value)
        return f"{front}.{node.attr}" if front else None
    return None


def paths(node: ast.AST) -> Iterator[str]:
    """The dotted names that are evaluated in a piece of code: not those of annotations."""
    path = dotted(node)
    if path is not None:
        yield path
        return
    for name, value in ast.iter_fields(node):
        if name not in NOT_RUN:
            for child in value if isinstance(value, list) else (value,):
                if isinstance(child, ast.AST):
                    yield from paths(child)


def text(node: Any) -> str:
    """A syntax tree without positions, docstrings, annotations' absence or other empty fields.

    Not ast.dump, whose output differs between versions of Python: a new interpreter should not retrain a study.
    """
    if isinstance(node, list):
        return "[" + ",".join(text(each) for each in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and is_definition(node):
            value = [each for each in value if not is_docstring(each)]
        if name in ("ctx", "kind", "type_comment", "returns", "annotation") or value is None or value == []:
            continue
        fields.append(f"{name}={text(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def imports_in(nodes: Iterable[ast.AST], module: Module) -> Imports:
    """Name -> (module, attribute or None) of the imports in a piece of code; several where conditions decide.

    What `from x import *` brings stands under "*".
    """
    found: Imports = {}
    for tree in nodes:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                _add_import(found, node, module)
    return found


def _add_import(found: Imports, node: ast.Import | ast.ImportFrom, module: Module) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            found.setdefault(name, []).append((alias.name if alias.asname else name, None))
        return
    relative = "." * node.level + (node.module or "")
    try:
        origin = resolve_name(relative, module.package) if node.level else relative
    except ImportError:
        return
    for alias in node.names:
        found.setdefault(alias.asname or alias.name, []).append((origin, alias.name))


def plain_value(node: ast.AST) -> Any:
    """The value of a piece of code that writes one out, tuples for lists and sets; UNWRITTEN for any other."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        values = [plain_value(each) for each in node.elts]
        return UNWRITTEN if UNWRITTEN in values else tuple(values)
    return UNWRITTEN


def bound(nodes: Iterable[ast.AST]) -> Counter[str]:
    """How often each name gets a value somewhere in a piece of code; arguments of functions are among them."""
    return Counter(name for tree in nodes for node in ast.walk(tree) for name in _bound_by(node))


_BINDING = {
    *(ast.Name, ast.arg, ast.alias, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler),
    *(ast.MatchAs, ast.MatchStar, ast.MatchMapping),
}


def _bound_by(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [] if isinstance(node.ctx, ast.Load) else [node.id]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.alias):
        return [node.asname or node.name.partition(".")[0]]
    if isinstance(node, ast.MatchMapping):
        return [node.rest] if node.rest else []
    if is_definition(node) or isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return [node.name] if node.name else []
    return []


def _named(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _stored(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
