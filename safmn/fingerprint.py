"""A fingerprint of code by meaning: comments, docstrings and layout do not change it, anything that runs does.

Snakemake sees when a rule changes but not when a module does that the rule's command imports. The fingerprint of what
a training run executes goes into the rule's parameters, so that an edited loss retrains and an edited comment does not.
"""

import ast
import builtins
import hashlib
import inspect
import sys
import textwrap
from functools import cache
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn


def code(*roots: Any) -> str:
    """A sha256 over classes and functions and everything of the same projects that they refer to by name.

    What comes from torch, numpy or the standard library is not followed: its versions are recorded beside each result.
    """
    seen: dict[str, str] = {}
    for root in roots:
        _follow(root, _project(root), seen)
    joined = "\n".join(f"{name}={text}" for name, text in sorted(seen.items()))
    return hashlib.sha256(joined.encode()).hexdigest()


def network(module: nn.Module) -> str:
    """The fingerprint of the code that a built network consists of, and of the functions it holds."""
    roots = set()
    for part in module.modules():
        roots.add(type(part))
        # Switches that are plain functions (a pooling, an activation) are attributes of the module they act in.
        roots.update(value for value in vars(part).values() if isinstance(value, FunctionType))
    own = [root for root in roots if _project(root) not in _LIBRARIES]
    return code(*sorted(own, key=lambda root: (root.__module__, root.__qualname__)))


_LIBRARIES = {"torch", "numpy", "builtins", *sys.stdlib_module_names}


def _project(value: Any) -> str:
    return getattr(value, "__module__", "builtins").partition(".")[0]


def _follow(value: Any, project: str, seen: dict[str, str]) -> None:
    """Adds `value` and what it refers to within `project`."""
    if isinstance(value, MethodType):
        value = value.__func__
    value = inspect.unwrap(value) if isinstance(value, FunctionType) else value
    name = f"{value.__module__}.{value.__qualname__}"
    if name in seen:
        return
    text, used = _parsed(value)
    seen[name] = text
    scope = vars(sys.modules[value.__module__])
    for path in used:
        target = _resolve(path, scope)
        if isinstance(target, bool | int | float | str | bytes | tuple | frozenset):
            seen[f"{value.__module__}.{path}"] = repr(target)
        elif isinstance(target, type | FunctionType | MethodType) and _project(target) == project:
            _follow(target, project, seen)
        elif callable(target) and hasattr(target, "__wrapped__") and _project(target) == project:
            _follow(target.__wrapped__, project, seen)
    for base in getattr(value, "__bases__", ()):
        if _project(base) == project:
            _follow(base, project, seen)


def _resolve(path: str, scope: dict[str, Any]) -> Any:
    """What a dotted name stands for in a module; None where it is local, built in or unknown."""
    first, *rest = path.split(".")
    if first not in scope or hasattr(builtins, first):
        return None
    target = scope[first]
    for part in rest:
        if not isinstance(target, ModuleType):
            return target  # an attribute of a class or object: the object as a whole is followed
        target = getattr(target, part, None)
    return target


@cache
def _parsed(value: Any) -> tuple[str, frozenset[str]]:
    """The meaning of one class or function as text, and the dotted names that it uses."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            path = _dotted(node)
            if path:
                used.add(path)
    return _text(tree), frozenset(used)


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = _dotted(node.value)
        return f"{front}.{node.attr}" if front else None
    return None


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
        if name == "body" and isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            value = [each for each in value if not _is_docstring(each)]
        if name in ("ctx", "kind", "type_comment", "returns", "annotation") or value is None or value == []:
            continue
        fields.append(f"{name}={_text(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
