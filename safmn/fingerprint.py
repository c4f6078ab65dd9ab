"""A fingerprint of code by meaning: comments, docstrings and layout do not change it, anything that runs does.

Snakemake sees when a rule changes but not when a module does that the rule's command imports. The fingerprint of what
a training run executes goes into the rule's parameters, so that an edited loss retrains and an edited comment does not.

Code is read, never imported, and followed by name: from a function to the functions, classes and constants that it
mentions, as long as they are this project's or the user's own. What comes from an installed package is not, unless it
is one that a network's layers come from; versions are recorded beside each result.

A network is followed from its class and the switches that it is built with. What they do not choose is passed over:
the other entries of `TABLE[switch]`, the branches of `if switch == "none"` that are not taken. Where that cannot be
told, everything is followed: too much costs a training, too little gives a wrong number.
"""

import ast
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from safmn import syntax
from safmn.errors import UserError
from safmn.meaning import UNKNOWN, Constant, Definition, Meaning, Scope, Table, chooses, is_plain
from safmn.syntax import Library, Module

_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # "package.module:Class"
_LOOKS_UP = {"globals", "eval", "exec", "__subclasses__", "import_module", "__import__"}  # names by text
_LISTS = {"iterdir", "listdir", "scandir", "walk", "glob", "rglob"}  # the files of a folder


def code(*roots: str, apart: Collection[str] = ()) -> str:
    """A sha256 over classes and functions, given as "module:name", and everything of one's own that they refer to.

    `apart` are modules whose code counts elsewhere: networks', which the fingerprint of each network holds.
    """
    walk = _Walk(_library(), choosing=False, apart=apart)
    for root in roots:
        walk.start(root, {})
    return walk.digest()


def network(root: str, switches: Mapping[str, Any], beside: Path | None = None, words: bool = False) -> str:
    """The fingerprint of the code that a network consists of.

    Args:
        root: the class or function that builds it, as "module:name"; its first argument is the scale.
        switches: the further arguments. A text such as "module:Class" among them is followed, too; numbers choose
            nothing.
        beside: the folder of the variant, where a user's modules and data may lie.
        words: whether a word among the switches that is in none of the tables it is looked up in is a mistake.

    Raises:
        UserError: a class that a switch names is not there, or see `words`.
    """
    packages: frozenset[str] = frozenset()
    while True:
        walk = _Walk(Library(beside), choosing=True, packages=packages)
        walk.start(root, switches)
        if walk.packages == packages:
            break
        packages = walk.packages  # layers turned out to come from there: all that is met of it is followed
    for name, value in switches.items():
        if words and value in walk.meaning.missing and not _CLASS.fullmatch(value):
            raise UserError(f"{name}: {value!r} is not known: correct it, or name a class as 'package.module:Class'")
    return walk.digest()


@cache
def _library() -> Library:
    return Library()


@cache
def _references(target: Definition) -> list[Any]:
    """All that a class or function of the project's mentions, whatever it chooses."""
    meaning = Meaning(_library(), foreign=False)
    found: dict[Any, None] = {}
    for node in target.nodes:
        scope = Scope(target.module, imports=target.module.facts(node).imports)
        for path in dict.fromkeys(syntax.paths(node)):
            found |= dict.fromkeys(meaning.targets(path, scope))
    return list(found)


class _Walk:
    """From one piece of code to the next, collecting name -> what it says."""

    def __init__(
        self,
        library: Library,
        choosing: bool,
        packages: frozenset[str] = frozenset(),
        apart: Collection[str] = (),
    ) -> None:
        self.packages = packages  # installed ones that are followed
        self.meaning = Meaning(library, foreign=choosing)
        self._found: dict[str, str] = {}
        self._library = library
        self._choosing = choosing
        self._apart = apart
        self._done: set[tuple[Any, ...]] = set()

    def digest(self) -> str:
        lines = sorted((self._found | self.meaning.used).items())
        joined = "\n".join(f"{name}={text}" for name, text in lines)
        return hashlib.sha256(joined.encode(errors="surrogatepass")).hexdigest()

    def start(self, root: str, switches: Mapping[str, Any]) -> None:
        """Follows "module:name", built with switches."""
        module_name, _, name = root.partition(":")
        module = self._library.module(module_name)
        if module is None or name not in module.definitions:
            raise UserError(f"{root} is not found in Python source: is it still there?")
        target = Definition(module, name)
        named = {key: value if chooses(value) else UNKNOWN for key, value in switches.items()}
        self._follow(target, self._given(target, [UNKNOWN], named))
        for key, value in switches.items():
            for text in _texts(value):
                if _CLASS.fullmatch(text):
                    self._follow_class(text, key)
                elif self._library.beside:
                    self._follow_files(text, self._library.beside)

    # --- from name to name ---

    def _is_followed(self, module: Module) -> bool:
        top = module.name.partition(".")[0]
        if module.name in self._apart:
            return False
        if top in self.packages or self._library.is_own(module.name):
            return True
        if self._choosing and not syntax.is_fixed(top) and module.uses_torch:
            self.packages |= {top}
            return True
        return False

    def _follow_class(self, path: str, switch: str = "") -> None:
        """Adds what "module:Class" names; UserError where a switch names one that is not there."""
        module_name, _, name = path.partition(":")
        module = self._library.module(module_name)
        if switch and not syntax.is_fixed(module_name):
            self._check_class(module, path, switch)
        if module is None or not (switch or self._library.is_own(module.name)) or syntax.is_fixed(module_name):
            return
        if not self._library.is_own(module.name):
            self.packages |= {module_name.partition(".")[0]}
        self._follow_all(self.meaning.targets(name, Scope(module)))

    def _check_class(self, module: Module | None, path: str, switch: str) -> None:
        module_name, _, name = path.partition(":")
        if module is None:
            if not self._library.exists(module_name):
                raise UserError(
                    f"{switch}: {path!r} cannot be imported: is its module beside the variant or installed?"
                )
            file = self._library.file(module_name)
            if file is not None:
                raise UserError(f"{switch}: {path!r} cannot be imported: {syntax.why_unreadable(file)}")
        elif not self.meaning.targets(name, Scope(module)) and not module.is_dynamic:
            imported = name in module.imports
            if not imported:
                raise UserError(f"{switch}: {path!r} cannot be imported: {module.file} has no {name}")

    def _follow_all(self, targets: Iterable[Any]) -> None:
        for target in targets:
            if isinstance(target, Definition):
                self._follow(target, {})
            elif isinstance(target, Constant):
                self._follow_statements(target.module, target.name, target.nodes)
            elif isinstance(target, Module):  # passed around, or looked into by text: nothing tells what is used
                self._follow_statements(target, "*", target.tree.body)

    def _follow(self, target: Definition, known: Mapping[str, Any]) -> None:
        """Adds a class or function, and what it refers to.

        Args:
            target: which one.
            known: those of its (or its constructor's) arguments whose value is known.
        """
        module = target.module
        if not self._is_new(module, target.name, tuple(sorted(known.items(), key=lambda item: item[0]))):
            return
        self._found[f"{module.name}.{target.name}"] = module.text_of(target.name)
        if not self._choosing:
            self._follow_all(_references(target))
            return
        for node in target.nodes:
            if isinstance(node, ast.ClassDef):
                self._follow_body(module, node, known)
            else:
                self._visit_function(node, self._scope(module, node, known))

    def _is_new(self, module: Module, *what: Any) -> bool:
        """Whether to follow something in a module now; what happens when the module is imported comes with it."""
        if not self._is_followed(module) or (module, *what) in self._done:
            return False
        self._done.add((module, *what))
        if module.effects and what != ("<import>",):
            self._follow_statements(module, "<import>", module.effects)
        return True

    def _follow_statements(self, module: Module, name: str, statements: list[ast.stmt]) -> None:
        """Adds statements at the top of a module."""
        if self._is_new(module, name):
            self._found[f"{module.name}.{name}"] = syntax.text(statements)
            self._visit_all(statements, Scope(module))

    def _follow_body(self, module: Module, node: ast.ClassDef, known: Mapping[str, Any]) -> None:
        scope = Scope(module, imports=module.facts(node).imports, choosing=self._choosing)
        constructed = any(syntax.is_definition(each) and each.name == "__init__" for each in node.body)
        for base in node.bases:
            value = self.meaning.value(base, scope)
            if isinstance(value, Definition):
                self._follow(value, {} if constructed else known)
            else:
                self._visit(base, scope)
        self._visit_all([*node.keywords, *node.decorator_list], scope)
        for each in node.body:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                self._visit_function(each, self._scope(module, each, known if each.name == "__init__" else {}))
            else:
                self._visit(each, scope)

    def _scope(self, module: Module, node: Any, known: Mapping[str, Any]) -> Scope:
        """The scope of a function: an argument that gets another value is not known, a name that gets one may be."""
        facts = module.facts(node)
        imports, times = facts.imports, facts.times
        kept = {name: value for name, value in known.items() if times[name] == 1}
        self._follow_all(value for name, value in known.items() if name not in kept)
        local = times.keys() - kept.keys() - {name for name in imports if times[name] == 1}
        scope = Scope(module, kept, frozenset(local), imports, choosing=True)
        for name, given in facts.assignments:
            value = self.meaning.value(given, scope) if times[name] == 1 else UNKNOWN
            if chooses(value) or isinstance(value, Definition):
                scope = replace(scope, known={**scope.known, name: value}, local=scope.local - {name})
        return scope

    # --- through one piece ---

    def _visit_all(self, nodes: Iterable[ast.AST], scope: Scope) -> None:
        for node in nodes:
            self._visit(node, scope)

    def _visit_function(self, node: Any, scope: Scope) -> None:
        self._visit_all([*node.decorator_list, node.args], scope)
        self._visit_block(node.body, scope)

    def _visit_block(self, statements: list[ast.stmt], scope: Scope) -> bool:
        """Visits what of a block may run; returns whether what follows the block may run, too."""
        if scope.choosing and statements and isinstance(statements[-1], ast.Raise):
            self._pass_over(statements, scope)  # a network that was built did not come through here
            return False
        for place, statement in enumerate(statements):
            goes_on = not isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Break)
            if isinstance(statement, ast.If):
                goes_on = self._visit_if(statement, scope)
            elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                self._visit_function(statement, scope)
            else:
                self._visit(statement, scope)
            if not goes_on and scope.choosing:
                self._pass_over(statements[place + 1 :], scope)
                return False
        return True

    def _visit_if(self, node: ast.If, scope: Scope) -> bool:
        test = self.meaning.test(node.test, scope)
        if test is UNKNOWN:
            self._visit(node.test, scope)
            ways = [self._visit_block(each, scope) for each in (node.body, node.orelse)]
            return any(ways)
        taken, other = (node.body, node.orelse) if test else (node.orelse, node.body)
        self._pass_over(other, scope)
        return self._visit_block(taken, scope)

    def _visit(self, node: ast.AST, scope: Scope) -> None:
        """Follows the names that are evaluated in a piece of code."""
        if isinstance(node, ast.IfExp) and (test := self.meaning.test(node.test, scope)) is not UNKNOWN:
            taken, other = (node.body, node.orelse) if test else (node.orelse, node.body)
            self._visit(taken, scope)
            self._pass_over([other], scope)
        elif isinstance(node, ast.Compare) and self.meaning.test(node, scope) is not UNKNOWN:
            pass
        elif isinstance(node, ast.Subscript) and (choice := self.meaning.choice(node, scope)):
            self._follow_entry(*choice)
        elif isinstance(node, ast.Assign) and self._names_a_choice(node, scope):
            self._visit_chosen(node.value, scope)
        elif isinstance(node, ast.Call):
            self._visit_call(node, scope)
        elif path := syntax.dotted(node):
            self._visit_path(path, scope)
        elif not syntax.is_docstring(node):
            self._visit_text(node, scope)
            self._visit_parts(node, scope)

    def _visit_parts(self, node: ast.AST, scope: Scope) -> None:
        inside = replace(scope, choosing=False) if isinstance(node, ast.Try) else scope  # what is raised may be caught
        for name, value in ast.iter_fields(node):
            if name in syntax.NOT_RUN:
                continue
            if (
                isinstance(value, list)
                and value
                and isinstance(value[0], ast.stmt)
                and not isinstance(node, ast.ClassDef)
            ):
                self._visit_block(value, inside if name == "body" else scope)
            elif isinstance(value, ast.AST | list):
                parts = value if isinstance(value, list) else [value]
                self._visit_all((each for each in parts if isinstance(each, ast.AST)), scope)

    def _visit_path(self, path: str, scope: Scope) -> None:
        first, last = path.split(".")[0], path.split(".")[-1]
        if first in scope.known:
            self._follow_all([scope.known[first]])
        elif not ("." in path and is_plain(self.meaning.value(_parsed(path), scope))):
            self._follow_all(self.meaning.targets(path, scope))
        if last in _LOOKS_UP and self._is_users(scope.module):
            self._follow_all([scope.module])

    def _follow_entry(self, table: Table, key: Any, alone: bool = False) -> None:
        """Adds one entry of a table, and what it refers to unless it is wanted alone."""
        if self.meaning.has(table, key):
            entry = table.entries[key]
            self._found[f"{table.module.name}.{table.name}[{key!r}]"] = syntax.text(entry)
            if not alone:
                self._visit(entry, Scope(table.module))

    def _names_a_choice(self, node: ast.Assign, scope: Scope) -> bool:
        target = node.targets[0]
        return len(node.targets) == 1 and isinstance(target, ast.Name) and target.id in scope.known

    def _visit_chosen(self, node: ast.AST, scope: Scope) -> None:
        """A value that got a name: what it is is followed where the name is used, with its arguments."""
        if isinstance(node, ast.IfExp):
            taken, other = (node.body, node.orelse) if self.meaning.test(node.test, scope) else (node.orelse, node.body)
            self._visit_chosen(taken, scope)
            self._pass_over([other], scope)
        elif isinstance(node, ast.Subscript):
            self._follow_entry(*self.meaning.choice(node, scope), alone=True)

    def _visit_call(self, node: ast.Call, scope: Scope) -> None:
        """Follows what is called, with those of its arguments whose value is known."""
        self._visit_text(node, scope)
        arguments = [*node.args, *(each.value for each in node.keywords)]
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in _LISTS and self._is_users(scope.module):
            self._follow_files("*", scope.module.file.parent)
        if name in ("import_module", "__import__"):
            texts = [each.value for each in arguments if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            self._follow_all(filter(None, [self._library.module(text) for text in texts]))
        if self._visit_get(node, scope):
            return
        called = self.meaning.value(node.func, scope)
        if not isinstance(called, Definition):
            self._visit_all([node.func, *arguments], scope)
            return
        if isinstance(node.func, ast.Subscript):
            self._follow_entry(*self.meaning.choice(node.func, scope), alone=True)
        if any(isinstance(each, ast.Starred) for each in node.args) or any(each.arg is None for each in node.keywords):
            self._follow(called, {})
            self._visit_all(arguments, scope)
            return
        values = {each: self.meaning.value(each, scope) for each in arguments}
        named = {each.arg: values[each.value] for each in node.keywords if each.arg}
        known = self._given(called, [values[each] for each in node.args], named)
        self._follow(called, known)
        tables = {id(value) for value in known.values() if isinstance(value, Table)}  # followed by what is called
        self._visit_all((each for each in arguments if id(values[each]) not in tables), scope)

    def _visit_get(self, node: ast.Call, scope: Scope) -> bool:
        """`TABLE.get(key)` with a known key, as `TABLE[key]`; returns whether it is one."""
        if not (isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args):
            return False
        table, key = (self.meaning.value(each, scope) for each in (node.func.value, node.args[0]))
        if not isinstance(table, Table) or not chooses(key):
            return False
        self._follow_entry(table, key)
        self._visit_all(node.args[1:], scope)
        return True

    def _given(self, target: Definition, values: list[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call whose value is known, given by place, by name or by default."""
        function = self._function(target)
        if function is None or function.decorator_list or not self._choosing:
            return {}
        skipped = int(isinstance(target.nodes[0], ast.ClassDef))
        by_place = [each.arg for each in (*function.args.posonlyargs, *function.args.args)][skipped:]
        by_name = [each.arg for each in function.args.kwonlyargs]
        given = dict(zip(reversed(by_place), reversed(function.args.defaults), strict=False))
        given |= dict(zip(by_name, function.args.kw_defaults, strict=True))
        given = {name: each.value if isinstance(each, ast.Constant) else UNKNOWN for name, each in given.items()}
        given |= dict(zip(by_place, values, strict=False)) | dict(named)
        return {name: value for name, value in given.items() if name in {*by_place, *by_name} and chooses(value)}

    def _function(self, target: Definition) -> Any:
        """The function that a call runs: the constructor of a class or of its only base; None where it is not seen."""
        node = target.nodes[0]
        if len(target.nodes) > 1 or not isinstance(node, ast.ClassDef):
            return None if len(target.nodes) > 1 else node
        own = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        if own or len(node.bases) != 1:
            return own[-1] if own else None
        base = self.meaning.value(node.bases[0], Scope(target.module, choosing=True))
        return self._function(base) if isinstance(base, Definition) else None

    def _pass_over(self, nodes: Iterable[ast.AST], scope: Scope) -> None:
        """What never runs chooses no code, but constants in it count: whoever edits a number means what it is for."""
        for node in (each for tree in nodes for each in ast.walk(tree) if isinstance(each, ast.Name)):
            if node.id not in scope.known:
                targets = self.meaning.targets(node.id, scope)
                self._follow_all(each for each in targets if isinstance(each, Constant) and not isinstance(each, Table))

    # --- texts in a user's code: classes and files that they name ---

    def _is_users(self, module: Module) -> bool:
        top = module.name.partition(".")[0]
        return top != syntax.PROJECT and top not in self.packages and self._choosing

    def _visit_text(self, node: ast.AST, scope: Scope) -> None:
        if self._is_users(scope.module):
            for text in filter(re.compile(r"\w").search, _paths(node)):
                if _CLASS.fullmatch(text):
                    self._follow_class(text)
                folder = scope.module.file.parent
                for each in filter(None, (folder, self._library.beside)):
                    self._follow_files(text, each)
                for each in (folder.parent, Path.cwd()):
                    self._follow_files(text, each, whole=True)

    def _follow_files(self, text: str, folder: Path, whole: bool = False) -> None:
        """Adds the files below a folder that a text names; with `whole`, not those of patterns.

        They stand by name and content: the same study in another place is the same.
        """
        for file in _files(text, folder, whole):
            self._found[f"file {file.name} {_digest(file, *syntax.version(file))}"] = ""


def _parsed(path: str) -> ast.expr:
    return ast.parse(path, mode="eval").body


def _texts(value: Any) -> Iterator[str]:
    """The texts in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _paths(node: ast.AST) -> list[str]:
    """The file names that an expression may write out, `*` for what is not written."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Div)):
        return [_pattern(node)]
    if isinstance(node, ast.Call) and len(node.args) > 1:  # os.path.join(folder, "tables", "x.csv"), joinpath
        return ["/".join(map(_pattern, node.args))]
    return []


def _pattern(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_pattern, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Div):
        return ("/" if isinstance(node.op, ast.Div) else "").join(map(_pattern, (node.left, node.right)))
    return "*"


_CODE = (".py", ".pyc")  # followed as code
_VARIANTS = (".yaml", ".yml")  # no data of a pattern that does not say so
_LONGEST = 200  # bytes of a file's name
_LARGEST = 2**28  # bytes of a file whose content is read


def _files(text: str, folder: Path, whole: bool) -> list[Path]:
    """The files that a text may name below a folder; `whole`: not by a pattern."""
    joined, text = "/" in text, re.sub(r"^(\*/)+", "", text)  # an unknown folder before it: this one
    if re.fullmatch(r"\.\w+", text):
        text = f"*{text}"  # with_suffix(".csv")
    if not text or len(text.encode(errors="replace")) > _LONGEST or not text.isprintable():
        return []
    if not re.search(r"[*?\[]", text):
        found = [folder / text]
        found += sorted(found[0].rglob("*")) if joined and not whole and found[0].is_dir() else []
        return [file for file in found if file.suffix not in _CODE and file.is_file()]
    if whole or ".." in text or text.startswith("/") or not ("." in text or text == "*"):
        return []
    others = _CODE if text.endswith(_VARIANTS) else (*_CODE, *_VARIANTS)
    try:
        return [file for file in sorted(folder.glob(text)) if file.suffix not in others and file.is_file()]
    except (ValueError, OSError, NotImplementedError):
        return []


@cache
def _digest(file: Path, modified: int, size: int) -> str:
    if size > _LARGEST:
        return f"{size} bytes of {modified}"
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
