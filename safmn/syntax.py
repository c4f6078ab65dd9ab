"""Python modules as source text: found without importing them, and split into named pieces.

A piece is what the statements at the top of a module say about one name: a class, a function or a constant.
"""

import ast
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any, NamedTuple

from safmn.errors import UserError

PROJECT = "safmn"
WHOLE = "*"
"""The piece that is a whole module."""
ON_IMPORT = ""
"""The piece of the statements at the top of a module that act when it is imported. Some define names, too."""
_ANNOTATIONS = ("annotation", "returns", "type_params")
_NO_MEANING = ("ctx", "kind", "type_comment")
_NO_EFFECT = (*_NO_MEANING, *_ANNOTATIONS)
_EMPTY = ("None", "[]")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()

Imports = dict[str, list[tuple[str, str | None]]]
"""Name -> (module, attribute or None for the module itself); several where conditions decide.

The modules of `from module import *` are under "*", and `a.b` of `import a.b` also under "a.b".
"""


@dataclass
class Mentions:
    """What a piece of code mentions outside of annotations and docstrings.

    Attributes:
        paths: dotted names that it evaluates, such as `nn.functional.relu`.
        texts: its strings; a path that is joined is one string, "/a/k.csv" for `folder / "a" / "k.csv"`.
        imports: what it imports itself.
    """

    paths: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    imports: Imports = field(default_factory=dict)

    def add(self, node: ast.AST, package: str) -> None:
        """Add what a syntax tree mentions, in a module of `package`."""
        if path := dotted(node):
            self.paths.add(path)
        elif refusal := _refusal(node):
            self.add(refusal, package)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            _add_import(self.imports, node, package)
        elif not does_nothing(node):
            if string := _string(node):
                self.texts.add(string)
            for child in _children(node, _ANNOTATIONS):
                self.add(child, package)


@dataclass(frozen=True, eq=False)
class Module:
    """The source of one module.

    Attributes:
        name: its dotted name.
        file: its source file.
        tree: its syntax tree.
    """

    name: str
    file: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether other modules may be below it."""
        return self.file.name == "__init__.py"

    @property
    def package(self) -> str:
        """The package that its relative imports start from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def pieces(self) -> dict[str, list[ast.stmt]]:
        """Name -> the statements at the top that define it; further the pieces WHOLE and ON_IMPORT."""
        statements = [node for node in self.tree.body if not _is_for_tools(node)]
        pieces: dict[str, list[ast.stmt]] = {WHOLE: statements, ON_IMPORT: []}
        for node in self.tree.body:
            for name in _defined_by(node):
                pieces.setdefault(name, []).append(node)
        own = {name for name, origins in self.imports.items() if top(origins[0][0]) == PROJECT}
        own |= pieces.keys() if top(self.name) == PROJECT else set()
        pieces[ON_IMPORT] = [node for node in statements if _acts(node, own)]
        return pieces

    @cached_property
    def imports(self) -> Imports:
        """The imports outside of functions and classes."""
        return _imports(_outside_definitions(self.tree), self.package)

    @cached_property
    def uses_torch(self) -> bool:
        """Whether it imports torch anywhere, so that it may define layers."""
        imports = _imports(ast.walk(self.tree), self.package)
        return any(top(origin) == "torch" for origins in imports.values() for origin, _ in origins)

    @cached_property
    def tables(self) -> dict[str, dict[Any, ast.expr]]:
        """Name -> key -> value of the dicts that are written out at the top."""
        tables = {}
        for name, statements in self.pieces.items():
            table = getattr(statements[0], "value", None) if len(statements) == 1 else None
            if isinstance(table, ast.Dict):
                try:
                    keys = [ast.literal_eval(key) for key in table.keys if key is not None]
                    tables[name] = dict(zip(keys, table.values, strict=True))
                except ValueError:  # a key is computed, or another dict is unpacked into this one
                    continue
        return tables

    @cached_property
    def lookups(self) -> dict[str, list[ast.expr]]:
        """Name of a table -> the keys that the module looks up in it; the name itself where all entries may be used.

        `key in table` and `table.keys()` use no entry.
        """
        lookups: dict[str, list[ast.expr]] = {}
        keys: dict[ast.AST, list[ast.expr]] = {}  # of the use of a table
        for node in ast.walk(self.tree):  # a parent before its children
            if isinstance(node, ast.Subscript):
                keys[node.value] = [node.slice]
            elif isinstance(node, ast.Attribute) and node.attr == "keys":
                keys[node.value] = []
            elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
                keys[node.comparators[0]] = []
            elif isinstance(node, ast.Name) and node.id in self.tables and isinstance(node.ctx, ast.Load):
                lookups.setdefault(node.id, []).extend(keys.get(node, [node]))
        return lookups


class Piece(NamedTuple):
    """A piece of a module, by its name there."""

    module: Module
    name: str


class Library:
    """Finds modules as Python does, in its order, and beside one more folder; imports none.

    Args:
        beside: a folder for modules that are nowhere else: that of the variant which names them.
        installed: whether names are followed into installed packages.
    """

    def __init__(self, beside: Path | None = None, installed: bool = False) -> None:
        self.beside = beside
        self._installed = installed
        self._files: dict[str, Path | None] = {}

    def module(self, name: str) -> Module | None:
        """Return the module of a dotted name; None if there is none in readable Python."""
        file = self.file(name)
        module = _read(name, file, *version(file)) if file else None
        return module if isinstance(module, Module) else None

    def problem(self, name: str) -> str:
        """Return why a module cannot be imported, as half a sentence; "" if it can, or if it is compiled."""
        file = self.file(name)
        if file is None:
            return "" if self._spec(name) else "is its module beside the variant or installed?"
        module = _read(name, file, *version(file))
        return module if isinstance(module, str) else ""

    def is_own(self, name: str) -> bool:
        """Whether a module is the project's or the user's own: neither installed nor a part of Python."""
        if top(name) == PROJECT:
            return True
        file = None if is_fixed(name) else self.file(top(name)) or self.file(name)
        return file is not None and not _is_installed(file)

    def file(self, name: str) -> Path | None:
        """Return the source file of a module; None if it is not found or not Python."""
        if name not in self._files:
            self._files[name] = self._find(name)
        return self._files[name]

    def targets(self, path: str, module: Module, imports: Imports) -> list[Piece]:
        """Return the pieces that a dotted name may stand for; several where conditions decide.

        Args:
            path: the name, such as `blocks.Conv`. An attribute of a class or object stands for the whole of it.
            module: the module that mentions it.
            imports: the imports of the function that does.
        """
        first, *rest = path.split(".")
        pieces = self._in_module(module, first)
        pieces += [piece for origin in imports.get(first, ()) for piece in self._imported(*origin)]
        for part in rest:
            pieces = [deeper for piece in pieces for deeper in self._attribute(piece, part)]
        return pieces

    def _attribute(self, piece: Piece, name: str) -> list[Piece]:
        module = piece.module
        if piece.name != WHOLE:
            return [piece]
        pieces = self._in_module(module, name) or self._imported(f"{module.name}.{name}", None)
        return pieces or ([] if top(module.name) == PROJECT else [piece])  # such as `module.__dict__`

    def _in_module(self, module: Module, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> list[Piece]:
        if (module.name, name) in seen:
            return []
        seen |= {(module.name, name)}
        pieces = [Piece(module, name)] if name in module.pieces else []
        for origin, attribute in module.imports.get(name, ()):
            pieces += self._imported(origin, attribute, seen)
        for origin, _ in module.imports.get(WHOLE, ()):
            pieces += self._imported(origin, name, seen)
        return pieces

    def _imported(
        self, origin: str, attribute: str | None, seen: frozenset[tuple[str, str]] = frozenset()
    ) -> list[Piece]:
        is_followed = self.is_own(origin) or (self._installed and not is_fixed(origin))
        module = self.module(origin) if is_followed else None
        if module is None:
            return []
        if attribute is None:
            return [Piece(module, WHOLE)]
        pieces = self._in_module(module, attribute, seen)
        return pieces or (self._imported(f"{origin}.{attribute}", None) if module.is_package else [])

    def _find(self, name: str) -> Path | None:
        if top(name) == PROJECT:
            stem = Path(__file__).resolve().parent.joinpath(*name.split(".")[1:])
            files = (stem / "__init__.py", stem.parent / f"{stem.name}.py")
            return next((file for file in files if file.is_file()), None)
        spec = self._spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py") or not Path(spec.origin).is_file():
            return None
        return Path(spec.origin)

    def _spec(self, name: str) -> ModuleSpec | None:
        parts = name.split(".")
        if not all(part.isidentifier() for part in parts):
            return None
        try:
            spec = find_spec(parts[0])
        except (ImportError, ValueError, AttributeError):
            spec = None
        spec = spec or PathFinder.find_spec(parts[0], ["", *([str(self.beside)] if self.beside else [])])
        for end in range(2, len(parts) + 1):
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = PathFinder.find_spec(".".join(parts[:end]), list(spec.submodule_search_locations))
        return spec


def is_fixed(module: str) -> bool:
    """Whether a module is Python's or torch's: their versions are recorded instead of their code."""
    return top(module) == "torch" or top(module) in sys.stdlib_module_names


def version(file: Path) -> tuple[int, int]:
    """Return what changes when a file changes: time of modification in nanoseconds, and bytes."""
    status = file.stat()
    return status.st_mtime_ns, status.st_size


@cache
def _read(name: str, file: Path, *_: int) -> Module | str:
    """Read a module; the reason, as half a sentence, if that is not possible."""
    try:
        return Module(name, file, ast.parse(file.read_bytes()))
    except SyntaxError as error:
        return f"SyntaxError in {file}, line {error.lineno}: {error.msg}"
    except (OSError, ValueError, RecursionError) as error:
        return f"{file} cannot be read ({error})"


@cache
def _is_installed(file: Path) -> bool:
    path = file.resolve()
    return path.is_relative_to(_STANDARD_LIBRARY) or not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


def top(module: str) -> str:
    """Return the first part of a dotted name."""
    return module.partition(".")[0]


# --- Syntax trees ----------------------------------------------------------------------------------------------------


def does_nothing(node: ast.AST) -> bool:
    """Whether it is `pass`, or a string that stands alone, such as a docstring."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(node, ast.Pass) or (isinstance(value, ast.Constant) and isinstance(value.value, str))


def _refusal(node: ast.AST) -> ast.expr | None:
    """Return the `UserError` of `UserError(...)`: no result follows, so that the words of the message do not count."""
    if isinstance(node, ast.Call) and (dotted(node.func) or "").rpartition(".")[2] == UserError.__name__:
        return node.func
    return None


def dotted(node: ast.AST | None) -> str | None:
    """`a.b.c` if the node consists of names and dots alone, else None."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = dotted(node.value)
        return f"{front}.{node.attr}" if front else None
    return None


def text(node: Any, annotations: bool = False) -> str:
    """Write out a syntax tree, or a list of them, without positions, docstrings, empty fields and words of errors.

    Annotations are left out except where a decorator or a base class may read them, as in a dataclass.

    Not ast.dump, whose output differs between versions of Python: a new interpreter should not retrain a study.
    """
    if isinstance(node, list):
        return f"[{','.join(text(item, annotations) for item in node if not does_nothing(item))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if refusal := _refusal(node):
        return f"Call({text(refusal)})"
    if isinstance(node, DEFINITIONS):
        annotations = bool(node.decorator_list or getattr(node, "bases", None) or getattr(node, "keywords", None))
    without = _NO_MEANING if annotations else _NO_EFFECT
    values = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, []) and name not in without]
    fields = [(name, text(value, annotations)) for name, value in values]
    return f"{type(node).__name__}({','.join(f'{name}={value}' for name, value in fields if value not in _EMPTY)})"


def _children(node: ast.AST, without: tuple[str, ...] = ()) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name not in without and isinstance(value, ast.AST | list):
            yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, ast.AST))


def _outside_definitions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree, without those inside functions and classes."""
    yield node
    if not isinstance(node, DEFINITIONS):
        for child in _children(node):
            yield from _outside_definitions(child)


def _defined_by(statement: ast.stmt) -> set[str]:
    """Return the names that a statement at the top of a module defines."""
    nodes = list(_outside_definitions(statement))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {node.name for node in nodes if isinstance(node, DEFINITIONS)}


def _acts(statement: ast.stmt, own: set[str]) -> bool:
    """Whether a statement at the top may do more on import than define names; `own` are names of the project."""
    if isinstance(statement, DEFINITIONS):
        called: list[ast.expr] = statement.decorator_list
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        nodes = list(ast.walk(statement))
        if any(isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store) for node in nodes):
            return True
        called = [node.func for node in nodes if isinstance(node, ast.Call)]
    else:
        return not isinstance(statement, ast.Import | ast.ImportFrom)
    return any(isinstance(node, ast.Name) and node.id in own for part in called for node in ast.walk(part))


def _is_for_tools(statement: ast.stmt) -> bool:
    """Whether it does nothing when the module is imported: `if TYPE_CHECKING:`, `if __name__ == "__main__":`."""
    if not isinstance(statement, ast.If):
        return does_nothing(statement)
    test = ast.unparse(statement.test)
    return not statement.orelse and test in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")


def _string(node: ast.AST) -> str:
    """Return the string that an expression writes out, or the end of the path that it joins, "/a/k.csv"; else "".

    A value that is formatted into it is "*".
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_string(part) or "*" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and (end := _string(node.right)):
        return f"{_string(node.left)}/{end}"
    if isinstance(node, ast.Call) and len(node.args) > 1:  # os.path.join(folder, "a", "k.csv")
        return "/".join(map(_string, node.args))
    return ""


def _imports(nodes: Iterable[ast.AST], package: str) -> Imports:
    imports: Imports = {}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            _add_import(imports, node, package)
    return imports


def _add_import(imports: Imports, node: ast.Import | ast.ImportFrom, package: str) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            name = alias.asname or top(alias.name)
            imports.setdefault(name, []).append((alias.name if alias.asname else name, None))
            if name != alias.name:
                imports.setdefault(alias.name, []).append((alias.name, None))
        return
    origin = node.module or ""
    if node.level:
        try:
            origin = resolve_name("." * node.level + origin, package)
        except ImportError:  # beyond the package
            return
    for alias in node.names:
        imports.setdefault(alias.asname or alias.name, []).append((origin, alias.name))
