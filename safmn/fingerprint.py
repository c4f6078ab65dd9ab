"""A fingerprint of code by meaning: comments, docstrings and layout do not change it, anything that runs does.

Snakemake sees when a rule changes but not when a module does that the rule's command imports. The fingerprint of what
a training run executes goes into the rule's parameters, so that an edited loss retrains and an edited comment does not.

Code is followed by name: from a function to the functions, classes and constants that it mentions, as long as they are
this project's or the user's own. What comes from an installed package is not, unless it is one that a network's layers
come from; versions are recorded beside each result.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
import sysconfig
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn


def code(*roots: Any) -> str:
    """A sha256 over classes and functions and everything of one's own that they refer to by name."""
    walk = _Walk(in_network=False)
    for root in roots:
        walk.follow(root)
    return walk.digest()


def network(module: nn.Module) -> str:
    """The fingerprint of the code that a built network consists of.

    What a constructor chooses from, classes of modules and tables of functions, is not followed by name: the chosen
    ones are found in the network itself, and an edit of another choice concerns other networks only.
    """
    packages = {_top(type(part).__module__) for part in module.modules()} - {"torch"}
    walk = _Walk(in_network=True, packages=packages)
    for path, part in module.named_modules():
        walk.follow(type(part))
        if walk.is_own(type(part).__module__):
            # Switches are attributes of the module they act in: numbers, or functions such as a pooling.
            for name, value in vars(part).items():
                walk.follow_attribute(f"{path}.{name}", value)
        else:
            walk.found[path] = f"{_name(type(part))}({part.extra_repr()})"
    return walk.digest()


_of_variants: dict[str, str] = {}  # switches -> fingerprint


def of_network(name: str) -> str:
    """The fingerprint of the code of the network `name`.

    Blocks all run the same code and a specification holds their number, so a variant is built with one of them: a study
    of a thousand variants is looked at in seconds.
    """
    from safmn import networks
    from safmn.networks import variants

    variant = variants.discover().get(name)
    with torch.device("meta"):
        if variant is None:
            return network(networks.build(name, networks.info(name).scales[-1]))
        switches = {key: value for key, value in variant.switches.items() if key != "n_blocks"}
        key = json.dumps([str(variant.file.parent), switches], sort_keys=True)
        if key not in _of_variants:
            _of_variants[key] = network(variant.build(4, n_blocks=1))
        return _of_variants[key]


class _Walk:
    """From one piece of code to the next, collecting name -> meaning."""

    def __init__(self, in_network: bool, packages: Set[str] = frozenset()) -> None:
        self.found: dict[str, str] = {}
        self._in_network = in_network
        self._packages = packages  # followed though they may be installed
        self._done: set[tuple[str, bool]] = set()

    def digest(self) -> str:
        joined = "\n".join(f"{name}={text}" for name, text in sorted(self.found.items()))
        return hashlib.sha256(joined.encode(errors="surrogatepass")).hexdigest()

    def is_own(self, module: str | None) -> bool:
        """Whether the code of a module is followed."""
        return module is not None and (_is_own(module) or _top(module) in self._packages)

    def follow(self, value: Any, constructing: bool = False) -> None:
        """Adds a class or function, unless it is a library's, and what it refers to.

        Args:
            value: the class or function.
            constructing: whether it is only known to serve the constructor of a network that is at hand.
        """
        if isinstance(value, MethodType):
            value = value.__func__
        if not isinstance(value, type):
            value = inspect.unwrap(value)
        if not self.is_own(getattr(value, "__module__", None)) or not hasattr(value, "__qualname__"):
            return
        name = _name(value)
        if (name, constructing) in self._done:
            return
        self._done.add((name, constructing))
        meaning = _meaning(value)
        self.found[name] = meaning.text
        for path in sorted(meaning.names):
            in_constructor = self._in_network and path not in meaning.names_outside_constructor
            self._follow_name(path, value.__module__, meaning, constructing or in_constructor)
        for base in getattr(value, "__bases__", ()):
            self.follow(base)

    def _follow_name(self, path: str, module: str, meaning: "_Meaning", constructing: bool) -> None:
        """Adds what a dotted name, mentioned in `module`, stands for."""
        owner, name, target = _resolve(path, module, meaning.imports, self.is_own)
        if target is None or isinstance(target, ModuleType) or not self.is_own(owner):
            return
        if isinstance(target, type):
            if not (constructing and issubclass(target, nn.Module)):
                self.follow(target, constructing)
            return
        if isinstance(target, FunctionType | MethodType) or hasattr(target, "__wrapped__"):
            self.follow(target, constructing)
            return
        if constructing and isinstance(target, dict) and any(callable(each) for each in target.values()):
            return
        constant = _constants(owner).get(name)
        if constant is None or (f"{owner}.{name}", constructing) in self._done:
            return
        self._done.add((f"{owner}.{name}", constructing))
        self.found[f"{owner}.{name}"] = constant.text
        for each in sorted(constant.names):
            self._follow_name(each, owner, constant, constructing)

    def follow_attribute(self, name: str, value: Any) -> None:
        """Adds a function or a number that a module of the network holds; passes over anything else."""
        if isinstance(value, functools.partial):
            words = sorted((word, _plain(each)) for word, each in value.keywords.items())
            self.found[name] = f"partial({[_plain(each) for each in value.args]}, {words})"
            self.follow_attribute(f"{name}.func", value.func)
        elif isinstance(value, FunctionType | MethodType | BuiltinFunctionType):
            self.found[name] = _name(value)
            self.follow(value)
        elif isinstance(value, bool | int | float | str):
            self.found[name] = repr(value)


def _plain(value: Any) -> str:
    return repr(value) if isinstance(value, bool | int | float | str | tuple | None) else type(value).__qualname__


def _resolve(
    path: str, module: str, imports: dict[str, tuple[str, str | None]], is_own: Callable[[str | None], bool]
) -> tuple[str, str, Any]:
    """The module that owns what a dotted name stands for, its name there, and itself, which is None if unknown."""
    first, *rest = path.split(".")
    owner, name = module, first
    target = None
    if first in imports and is_own(imports[first][0]):
        origin, attribute = imports[first]
        owner, name = origin, attribute or ""
        target = _imported(origin, attribute)
    elif first not in imports:
        target = getattr(sys.modules.get(module), first, None)
    for part in rest:
        if not isinstance(target, ModuleType):
            break  # an attribute of a class or object: the object as a whole is followed
        owner, name, target = target.__name__, part, getattr(target, part, None)
    # Through `from x import y` to where y is made.
    while is_own(owner) and not isinstance(target, ModuleType):
        if name in _constants(owner) or name not in _imports(owner):
            break
        origin, attribute = _imports(owner)[name]
        if attribute is None or origin not in sys.modules:
            break
        owner, name = origin, attribute
    return owner, name, target


def _imported(module: str, attribute: str | None) -> Any:
    try:
        found = importlib.import_module(module)
        if attribute is None:
            return found
        if not hasattr(found, attribute):
            return importlib.import_module(f"{module}.{attribute}")
        return getattr(found, attribute)
    except ImportError:
        return None


def _top(module: str) -> str:
    return module.partition(".")[0]


@cache
def _is_own(module: str) -> bool:
    """Whether a module is this project's or the user's own: any that is not installed and not Python's."""
    top = _top(module)
    if top == _top(__name__):
        return True
    if top in sys.stdlib_module_names:
        return False
    place = getattr(sys.modules.get(module), "__file__", None) or _place(top)
    return place is not None and not any(Path(place).resolve().is_relative_to(folder) for folder in _INSTALLED)


def _place(top: str) -> str | None:
    """Where a module lies that need not have been imported yet."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    return None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or []), None)


_INSTALLED = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")} | {
    Path(torch_file).resolve().parents[1] for torch_file in [sys.modules["torch"].__file__] if torch_file
}


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


# --- The meaning of one piece ---


@dataclass(frozen=True)
class _Meaning:
    """Code as text, the dotted names in it (also those outside constructors), and what it imports itself."""

    text: str
    names: frozenset[str]
    names_outside_constructor: frozenset[str]
    imports: dict[str, tuple[str, str | None]]


@cache
def _meaning(value: Any) -> _Meaning:
    """The meaning of one class or function."""
    nodes = _definitions(value.__module__).get(value.__qualname__, [])
    if isinstance(value, FunctionType) and len(nodes) > 1:  # defined under a condition, or redefined
        line = value.__code__.co_firstlineno
        nodes = [node for node in nodes if line in (node.lineno, *(each.lineno for each in node.decorator_list))]
    if not nodes:
        # A lambda, or made at run time: nothing tells where it ends, so its whole module stands for it.
        module = _tree(value.__module__)
        nodes = [] if module is None else module.body
    return _read(nodes, value.__module__)


def _read(trees: Iterable[ast.AST], module: str) -> _Meaning:
    trees = list(trees)
    imports = _imports_in(trees, module)
    return _Meaning(_text(trees), frozenset(_names(trees)), frozenset(_names(trees, constructors=False)), imports)


def _names(nodes: Iterable[ast.AST], constructors: bool = True) -> set[str]:
    """The dotted names that are evaluated: not those in annotations, and those in `__init__` only if asked for."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__" and not constructors:
            continue
        path = _dotted(node)
        if path:
            found.add(path)
        children = (
            child
            for field, value in ast.iter_fields(node)
            if field not in ("annotation", "returns")
            for child in (value if isinstance(value, list) else [value])
            if isinstance(child, ast.AST)
        )
        found |= _names(children, constructors)
    return found


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = _dotted(node.value)
        return f"{front}.{node.attr}" if front else None
    return None


def _imports_in(trees: Iterable[ast.AST], module: str) -> dict[str, tuple[str, str | None]]:
    """Name -> (module, attribute or None) of the imports in a piece of code."""
    package = getattr(sys.modules.get(module), "__package__", None) or ""
    found: dict[str, tuple[str, str | None]] = {}
    for node in (each for tree in trees for each in ast.walk(tree)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                found[name] = (alias.name if alias.asname else name, None)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            try:
                origin = importlib.util.resolve_name(relative, package) if node.level else relative
            except ImportError:
                continue
            found |= {alias.asname or alias.name: (origin, alias.name) for alias in node.names}
    return found


@cache
def _tree(module: str) -> ast.Module | None:
    """A module as Python reads it; None where it has no source."""
    try:
        return ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return None


@cache
def _definitions(module: str) -> dict[str, list[Any]]:
    """Qualified name -> the classes and functions of that name in a module."""
    found: dict[str, list[Any]] = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if not _is_definition(child):
                visit(child, prefix)
                continue
            found.setdefault(prefix + child.name, []).append(child)
            visit(child, f"{prefix}{child.name}." + ("" if isinstance(child, ast.ClassDef) else "<locals>."))

    tree = _tree(module)
    if tree is not None:
        visit(tree, "")
    return found


@cache
def _imports(module: str) -> dict[str, tuple[str, str | None]]:
    tree = _tree(module)
    return {} if tree is None else _imports_in([node for node in tree.body if not _is_definition(node)], module)


@cache
def _constants(module: str) -> dict[str, _Meaning]:
    """Name -> the statements at the top of a module that give it its value."""
    tree = _tree(module)
    statements: dict[str, list[ast.AST]] = {}
    for node in tree.body if tree else []:
        if not _is_definition(node):
            for name in {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and _is_stored(each)}:
                statements.setdefault(name, []).append(node)
    return {name: _read(nodes, module) for name, nodes in statements.items()}


def _is_definition(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _text(node: Any) -> str:
    """A syntax tree without positions, docstrings, annotations' absence or other empty fields.

    Not ast.dump, whose output differs between versions of Python: a new interpreter should not retrain a study.
    """
    if isinstance(node, list):
        return "[" + ",".join(_text(each) for each in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and _is_definition(node):
            value = [each for each in value if not _is_docstring(each)]
        if name in ("ctx", "kind", "type_comment", "returns", "annotation") or value is None or value == []:
            continue
        fields.append(f"{name}={_text(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
