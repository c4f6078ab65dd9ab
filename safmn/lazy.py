"""Modules that are imported when they are first used, so that `import safmn` alone is enough, and imports no torch."""

import importlib
import importlib.util
from typing import Any


def submodule(package: str, name: str) -> Any:
    """Import `package.name`, for the function `__getattr__` of a package; AttributeError if there is no such module."""
    path = f"{package}.{name}"
    if name.startswith("_") or importlib.util.find_spec(path) is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return importlib.import_module(path)
