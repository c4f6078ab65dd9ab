"""A fingerprint of code: comments, docstrings, annotations, layout and the words of a `UserError` do not change it.

Snakemake sees that a rule changed, but not that a module changed which the rule's command imports. So the fingerprint
of the code that decides a result is a parameter of its rule: an edited loss retrains, an edited comment does not.

The rule in four sentences:

1. From a class or function, all names that it mentions are followed to the classes, functions and constants of the
   project, and from these to the next; the statements that act when a module is imported count, too.
2. Python, torch and installed packages do not count, since their versions are recorded beside each result; the only
   exception is an installed package whose layers a network uses. What counts is where a name is imported from.
3. Of a table in a network's module that is looked up by a switch, `NORMS[norm]`, only the entry of the switch's value
   counts. There, a variable with the name of a switch must have the value of that switch.
4. A user's module counts as a whole, with the user's modules that it imports, and with the modules and the data files
   beside it that its strings may name.

In case of doubt code counts: too much costs a training, too little gives a wrong number. Code is read, never imported.
"""

import ast
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from glob import glob
from pathlib import Path
from typing import Any

from safmn import syntax
from safmn.errors import UserError
from safmn.schema import CLASS
from safmn.syntax import ON_IMPORT, WHOLE, Library, Mentions, Module, Piece

_LISTINGS = {"iterdir", "listdir", "scandir", "walk", "glob", "rglob"}  # of the files in a folder
_CODE = (".py", ".pyc")  # followed as code
_VARIANTS = (".yaml", ".yml")  # counted only if a string names them
_MAX_NAME = 200  # bytes of a file's name
_MAX_READ = 2**28  # bytes of a data file whose content is read; of a larger one, size and time count


@cache
def code(*roots: str, apart: frozenset[str] = frozenset()) -> str:
    """Compute the fingerprint of classes and functions, and of all that they use.

    Args:
        roots: the classes and functions, as "module:name".
        apart: modules whose code counts elsewhere: those of networks, of which each has a fingerprint of its own.

    Returns:
        A sha256 in hexadecimal.

    Raises:
        UserError: a root does not exist.
    """
    walk = Walk(_project(), apart=apart)
    for root in roots:
        walk.start(root)
    return walk.digest()


def network(root: str, switches: Mapping[str, Any] | None = None, beside: Path | None = None) -> "Walk":
    """Follow the code of a network; `digest()` of the result is its fingerprint.

    Args:
        root: the class or function that builds it, as "module:name".
        switches: the arguments that it is built with besides the scale. None for a network that has no switches: all
            entries of its tables count. A string such as "module:Class" among them is followed, too.
        beside: the folder of the variant, where a user's modules and data may be.

    Raises:
        UserError: a class that a switch names cannot be found, or no table has the value of a switch.
    """
    walk = Walk(Library(beside, installed=True))
    walk.start(root, switches)
    return walk


def classes(named: Mapping[str, Iterable[str]], beside: Path | None = None) -> "Walk":
    """Follow the code of classes that a study names.

    Args:
        named: key of the study -> "module:Class", and the texts among its arguments, which may name more.
        beside: the folder where a user's modules and data may be.

    Raises:
        UserError: a class cannot be found.
    """
    walk = Walk(Library(beside, installed=True))
    for key, texts in named.items():
        walk.follow_texts(key, texts)
    return walk


@cache
def _project() -> Library:
    return Library()


class Walk:
    """Follows code from one piece to the next.

    Attributes:
        pieces: "module.name" of each piece that counts -> its text. Data files are among them.
        files: a user's modules and data files that count.
        packages: the installed packages that count.
    """

    def __init__(self, library: Library, apart: Collection[str] = ()) -> None:
        self.pieces: dict[str, str] = {}
        self.files: set[Path] = set()
        self._library = library
        self._apart = apart
        self._done: set[Piece] = set()
        self.packages: set[str] = set()  # installed, and followed
        self._skipped: dict[str, set[Piece]] = {}  # installed package -> its pieces, as long as it is not followed
        self._root: Module | None = None
        self._switches: dict[str, Any] = {}

    def digest(self) -> str:
        """Return the sha256 of all that counts."""
        joined = "\n".join(f"{name}={text}" for name, text in sorted(self.pieces.items()))
        return hashlib.sha256(joined.encode(errors="surrogatepass")).hexdigest()

    def start(self, root: str, switches: Mapping[str, Any] | None = None) -> None:
        """Follow "module:name", built with `switches`."""
        module_name, _, name = root.partition(":")
        module = self._library.module(module_name)
        is_users = module is not None and syntax.top(module_name) != syntax.PROJECT
        if is_users or (module is None and self._library.beside):
            self._follow(self._class(root, "class"))  # the whole module counts, so that no switch chooses a part of it
            module = None
        elif module is None or name not in module.pieces:
            raise UserError(f"{root} is not found in Python source: is it still there?")
        if module is not None and switches is not None:
            values = _defaults(module, name) | dict(switches)
            self._root = module
            self._switches = {key: value for key, value in values.items() if isinstance(value, str | bool)}
            self._check_values(module, switches)
        if module is not None:
            self._follow([Piece(module, name)])
        for switch, value in (switches or {}).items():
            self.follow_texts(switch, strings(value))

    def follow_texts(self, key: str, texts: Iterable[str]) -> None:
        """Follow the classes among texts that the value of a key has, and add the data files that the others name."""
        for text in texts:
            if re.fullmatch(CLASS, text):
                self._follow(self._class(text, key))
            elif self._library.beside:
                self._add_files({text}, self._library.beside)

    # --- From name to name ---

    def _follow(self, pieces: Iterable[Piece]) -> None:
        waiting = list(pieces)
        while waiting:
            module, name = waiting.pop()
            piece = Piece(module, WHOLE if self._is_users(module) else name)
            if piece in self._done:
                continue
            self._done.add(piece)
            if self._counts(piece):
                waiting.append(Piece(module, ON_IMPORT))
                waiting += self._uses(piece)
                waiting += self._imported(module) if piece.name in (ON_IMPORT, WHOLE) else ()
                waiting += self._skipped.pop(syntax.top(module.name), set())

    def _counts(self, piece: Piece) -> bool:
        module = piece.module
        if module.name in self._apart:
            return False
        if self._library.is_own(module.name) or syntax.top(module.name) in self.packages:
            return True
        if not module.uses_torch:
            self._skipped.setdefault(syntax.top(module.name), set()).add(piece)
            self._done.discard(piece)
            return False
        self.packages.add(syntax.top(module.name))
        return True

    def _uses(self, piece: Piece) -> list[Piece]:
        """Add a piece, and return the pieces that it uses."""
        module, name = piece
        if self._is_users(module):
            self.files.add(module.file)
        entries = self._chosen(piece)
        if entries is None:
            self.pieces[f"{module.name}.{name}"] = _text(module, name)
            mentions = _mentions(module, name)
        else:
            mentions = Mentions()
            for key, value in entries.items():
                self.pieces[f"{module.name}.{name}[{key!r}]"] = syntax.text(value)
                mentions.add(value, module.package)
        firsts = {path.partition(".")[0] for path in mentions.paths}
        imports = {first: [*module.imports.get(first, ()), *mentions.imports.get(first, ())] for first in firsts}
        if any(imports.values()):
            self.pieces[f"{module.name}.{name} imports"] = repr(sorted(item for item in imports.items() if item[1]))
        used = [use for path in mentions.paths for use in self._library.targets(path, module, mentions.imports)]
        used += [Piece(other, WHOLE) for other, table in used if module is not other and self._is_table(other, table)]
        return used + self._uses_by_text(module, mentions) if self._is_users(module) else used

    def _imported(self, module: Module) -> list[Piece]:
        """Return what acts when a module is imported: in its packages, and in the modules that a user's imports.

        Not in those that the project's imports, of which nearly all would count for each network.
        """
        imports = _mentions(module, WHOLE).imports if self._is_users(module) else {}
        loaded = {module.name, *(f"{origin}.{name}" for origins in imports.values() for origin, name in origins)}
        names = {name.rsplit(".", up)[0] for name in loaded for up in range(name.count(".") + 1)}
        others = (self._library.module(name) for name in names if self._library.is_own(name))
        return [Piece(other, ON_IMPORT) for other in others if other]

    # --- Switches ---

    def _chosen(self, piece: Piece) -> dict[Any, ast.expr] | None:
        """Return the entries of a table that the switches choose; None if they look up no such table."""
        module, name = piece
        if not self._is_table(module, name):
            return None
        keys = module.lookups[name]
        if any(not _names(key) <= self._switches.keys() for key in keys):
            return None
        values = [_value(key, self._switches) for key in keys]
        return {value: module.tables[name][value] for value in values if value in module.tables[name]}

    def _is_table(self, module: Module, name: str) -> bool:
        return module is self._root and name in module.lookups

    def _check_values(self, module: Module, switches: Mapping[str, Any]) -> None:
        for switch, value in switches.items():
            lookups = module.lookups.items()
            tables = [module.tables[name] for name, keys in lookups if switch in map(syntax.dotted, keys)]
            is_word = isinstance(value, str) and not re.fullmatch(CLASS, value)
            if tables and is_word and not any(value in table for table in tables):
                raise UserError(
                    f"{switch}: {value!r} is not known: correct it, or name a class as 'package.module:Class'"
                )

    def _class(self, path: str, switch: str) -> list[Piece]:
        """Return the pieces of the class that the value of a switch names; UserError if it cannot be found."""
        module_name, _, name = path.partition(":")
        if syntax.is_fixed(module_name):
            return []
        module, reason = self._library.module(module_name), self._library.problem(module_name)
        problem = f"{switch}: {path!r} cannot be imported"
        if reason:
            raise UserError(f"{problem}: {reason}")
        if module is None:
            return []  # compiled
        pieces = self._library.targets(name, module, {})
        is_dynamic = WHOLE in module.imports or "__getattr__" in module.pieces or module.pieces[ON_IMPORT]
        if not (pieces or is_dynamic or name in module.imports):
            raise UserError(f"{problem}: {module.file} has no {name}")
        if not self._library.is_own(module_name):
            self.packages.add(syntax.top(module.name))
        return pieces or [Piece(module, WHOLE)]

    # --- Strings in a user's code: modules, classes and files that they name ---

    def _is_users(self, module: Module) -> bool:
        return syntax.top(module.name) != syntax.PROJECT and self._library.is_own(module.name)

    def _uses_by_text(self, module: Module, mentions: Mentions) -> list[Piece]:
        calls = {path.rpartition(".")[2] for path in mentions.paths}
        folder = module.file.parent
        for place in dict.fromkeys((folder, self._library.beside or folder)):
            self._add_files(mentions.texts, place, everything=not calls.isdisjoint(_LISTINGS))
        used = []
        for text in mentions.texts:
            module_name, _, name = text.partition(":")
            other = self._library.module(module_name) if self._library.is_own(module_name) else None
            if other:
                used += self._library.targets(name, other, {}) if name else [Piece(other, WHOLE)]
        return used

    def _add_files(self, texts: Collection[str], folder: Path, everything: bool = False) -> None:
        """Add the data files that texts may name in a folder: by the end of a name, by path, or by a folder's path.

        "*" in a text stands for anything. At its beginning, it may stand for the folder itself.
        A file counts by name and content: the same study in another place is the same.
        """
        beside = [file for file in folder.iterdir() if file.is_file()]
        files = {file for file in beside if everything and file.suffix not in _VARIANTS}
        for text in texts:
            path = text.strip("/")
            if not path.strip("*./") or not text.isprintable() or len(text.encode()) > _MAX_NAME:
                continue
            end = path.rpartition("/")[2].rpartition("*")[2]
            files |= {file for file in beside if "." in end and file.name.endswith(end)}
            places = [folder / path]
            if "/" in text and "*" in text:
                inner = path.lstrip("*/").partition("*")[0].rpartition("/")[0]
                places += [folder / found for found in glob(path, root_dir=folder, recursive=True)]
                places += (folder / inner).rglob("*") if inner.strip("./") else ()
            elif "/" in text:
                files |= {file for file in places[0].rglob("*") if file.is_file()} if places[0].is_dir() else set()
                places += [Path(text), Path.cwd() / path, folder.parent / path]
            files |= {file for file in places if file.is_file()}
        for file in files:
            if file.suffix not in _CODE:
                self.files.add(file)
                self.pieces[f"file {file.name} {_digest(file, *syntax.version(file))}"] = ""


@cache
def _text(module: Module, name: str) -> str:
    return syntax.text(module.pieces[name])


@cache
def _mentions(module: Module, name: str) -> Mentions:
    mentions = Mentions()
    for statement in module.pieces[name]:
        mentions.add(statement, module.package)
    return mentions


def _defaults(module: Module, name: str) -> dict[str, Any]:
    """Return the defaults of a function's or a constructor's arguments, if they are literals."""
    definition = next((node for node in reversed(module.pieces[name]) if isinstance(node, syntax.DEFINITIONS)), None)
    body = definition.body if isinstance(definition, ast.ClassDef) else [definition]
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and node.name in ("__init__", name)]
    defaults: dict[str, Any] = {}
    for arguments in (function.args for function in functions):
        by_place = [*arguments.posonlyargs, *arguments.args]
        pairs = [
            *zip(reversed(by_place), reversed(arguments.defaults), strict=False),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
        defaults |= {argument.arg: value.value for argument, value in pairs if isinstance(value, ast.Constant)}
    return defaults


def _value(key: ast.expr, switches: Mapping[str, Any]) -> Any:
    """Return the value of an expression in the project's own code that mentions switches alone: `mixer != "none"`."""
    return eval(compile(ast.Expression(key), "a key", "eval"), {"__builtins__": {}}, dict(switches))


def _names(node: ast.AST) -> set[str]:
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}


def strings(value: Any) -> Iterator[str]:
    """Yield the strings in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from strings(item)


@cache
def _digest(file: Path, modified: int, size: int) -> str:
    if size > _MAX_READ:
        return f"{size} bytes of {modified}"
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
