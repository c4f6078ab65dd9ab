"""YAML files that people write: read strictly, validated by a pydantic model, defaults filled in."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from safmn.errors import UserError, suggestion

MAX_FILE = 1_000_000  # bytes; a study is a page
MAX_NUMBER = 2**63
MAX_TEXT = 4096  # characters; the longest path
MAX_DEPTH = 20  # levels of nesting; a few thousand would overflow the C parser's stack


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is optional


class _PlainLoader(_SafeLoader):
    """YAML without repeated keys, and without numbers that are not what they look like."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            try:
                repeated = key in seen
            except TypeError as error:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: a key must be a plain word") from error
            if repeated:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: {key!r} is given twice")
            seen.add(key)
        return dict(super().construct_mapping(node, deep))

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """Refuse what YAML 1.1 reads as octal (010 is 8) or to the base 60 (1:30 is 90)."""
        text = str(node.value)
        if ":" in text or re.fullmatch(r"[-+]?0[0-9_]*[1-9][0-9_]*", text):
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: {text} can be read as several numbers: write the number without a "
                "leading 0 or a colon, or a name in quotes"
            )
        is_float = node.tag == "tag:yaml.org,2002:float"
        return self.construct_yaml_float(node) if is_float else self.construct_yaml_int(node)


for _tag in ("int", "float"):
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _PlainLoader.construct_number)
# YAML 1.1 reads 1e-3 as text; here it is a number, as in YAML 1.2.
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_yaml(path: Path | str) -> Any:
    """Read one YAML (or JSON) file; UserError that names file and line where it cannot be read."""
    try:
        with open(path, "rb") as handle:
            data = handle.read(MAX_FILE + 1)  # a pipe or a device has no size to check first
        if len(data) > MAX_FILE:
            raise UserError(f"{path} is larger than {MAX_FILE} bytes: is it a configuration at all?")
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path with a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}") from error
    try:
        _check_events(text, path)
        return yaml.load(text, Loader=_PlainLoader)
    except UserError:
        raise
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except Exception as error:  # int(), dates and tables raise anything on a value that does not fit its tag
        raise UserError(f"{path} is not valid YAML: a value does not fit its tag or type ({error})") from error


def _check_events(text: str, path: Path | str) -> None:
    """Refuse aliases (a few lines of them can expand to gigabytes) and deep nesting before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_PlainLoader):
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"{path} uses a YAML alias (*name): write the value out instead")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UserError(f"{path} is nested more than {MAX_DEPTH} levels deep: is it a configuration at all?")


class WrongValue(UserError):
    """A value of a file that cannot be used.

    Args:
        where: the file.
        path: the keys that lead to the value; an empty one means the file as a whole.
        what: what is wrong with it, and what to do.
    """

    def __init__(self, where: str | Path, path: Iterable[str | int], what: str) -> None:
        self.path, self.what = tuple(path), what
        key = ".".join(map(str, self.path)) or "the file as a whole"
        super().__init__(f"{where}: {key if key.isprintable() else repr(key)}: {what}")


class Section(BaseModel):
    """A group of keys. It cannot be changed, takes no other keys, and converts no types ("8" is not 8)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, serialize_by_alias=True)


SectionT = TypeVar("SectionT", bound=Section)


def check(model: type[SectionT], value: Any, where: str | Path, key: str = "", words: Iterable[str] = ()) -> SectionT:
    """Validate what was read from a file.

    Keys are taken as text and whole numbers as int, so that 3: and "3":, or 500000 and 5e5, mean the same.

    Args:
        model: the keys that `value` may have.
        value: plain data; it is copied.
        where: the file, for messages.
        key: the key of `value` in that file; "" for the file as a whole.
        words: what could be meant by an unknown key at the top, beside the model's keys.

    Raises:
        UserError: one line that names file, key and what is wrong.
    """
    plain = _plain(value, where, ())
    try:
        return model.model_validate_json(json.dumps(plain))
    except ValidationError as error:
        problems = [(_path(problem, plain), problem) for problem in error.errors(include_url=False)]
    # The deepest one: of the alternatives that a key has, it belongs to the one that was meant.
    deepest = max((path for path, _ in problems), key=len)
    first, *alternatives = (problem for path, problem in problems if path == deepest)
    if first["type"] == "extra_forbidden":
        known = [*_keys_at(model, deepest[:-1]), *(words if len(deepest) == 1 else ())]
        hint = suggestion(str(deepest[-1]), known, "config/README.md lists them")
        reasons = f"is not a known key; {hint}"
    else:
        reasons = _reasons([first, *alternatives])
    raise WrongValue(where, (*filter(None, [key]), *deepest), reasons)


def _keys_at(model: type[Section], path: Iterable[str | int]) -> list[str]:
    """Return the keys that a model has at a path, of all alternatives that its schema gives."""
    schema = model.model_json_schema()

    def alternatives(nodes: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for node in nodes:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
            yield node
            yield from alternatives(node.get("anyOf", []))

    nodes = list(alternatives([schema]))
    for step in path:
        below = (
            node.get("properties", {}).get(step) or node.get("additionalProperties") or node.get("items")
            for node in nodes
        )
        nodes = list(alternatives(node for node in below if isinstance(node, dict)))
    return [key for node in nodes for key in node.get("properties", {})]


def as_plain(section: Section, only_given: bool = False) -> dict[str, Any]:
    """Return a section as plain data for JSON and fingerprints, whole numbers as int, with or without its defaults."""
    return cast(dict[str, Any], _plain(section.model_dump(mode="json", exclude_unset=only_given), "", ()))


def _path(problem: ErrorDetails, content: Any) -> tuple[str | int, ...]:
    """Return the keys that lead to a problem, without what pydantic adds of its own (alternatives, "[key]")."""
    path: list[str | int] = []
    for step in problem["loc"]:
        try:
            content = content[step]
        except (LookupError, TypeError):
            continue
        path.append(step[:100] if isinstance(step, str) else step)
    return (*path, problem["loc"][-1]) if problem["type"] == "missing" else tuple(path)


def _reasons(problems: list[ErrorDetails]) -> str:
    """Return what is wrong with one value, of which each of several alternatives was tried."""
    first = problems[0]
    if first["type"] == "missing":
        return "is required"
    if first["type"] in ("too_short", "too_long"):  # "Tuple should have at least 1 item after validation, not 0"
        return first["msg"].partition(" ")[2].replace(" after validation", "")
    for problem in problems:
        if problem["type"] == "value_error":  # of our own validators, which name the value
            return problem["msg"].removeprefix("Value error, ")
    reasons = (re.sub("^(Input|String) should ", "", problem["msg"]) for problem in problems)
    text = f"should {' or '.join(reasons)}".replace(" or be ", " or ")
    text = text.replace("a valid array", "a list").replace("an object", "a mapping of keys to values")
    value = repr(first["input"])
    return f"{text}, not {value if len(value) < 100 else value[:100] + '...'}"


def _plain(value: Any, where: str | Path, path: tuple[str | int, ...]) -> Any:
    """Return `value` as data that fits JSON, a path and a message; UserError where it does not."""
    if len(path) > MAX_DEPTH:
        raise WrongValue(where, path[:3], f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        plain: dict[str, Any] = {}
        for key, item in value.items():
            if type(key) is not int and not isinstance(key, str):
                raise WrongValue(where, path, "a key is not a word: put it in quotes")
            key = _plain(key, where, path)
            if str(key) in plain:
                raise WrongValue(where, path, f"{str(key)!r} is given twice")
            plain[str(key)] = _plain(item, where, (*path, str(key)[:100]))
        return plain
    if isinstance(value, list):
        return [_plain(item, where, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise WrongValue(where, path, f"is longer than {MAX_TEXT} characters")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise WrongValue(where, path, "holds a character that cannot be written to a file")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) < MAX_NUMBER:  # nor is NaN
            raise WrongValue(where, path, "is not a number that can be computed with")
        return int(value) if value == int(value) else value
    if value is not None and not isinstance(value, bool | str):  # YAML has dates, sets and bytes, too
        raise WrongValue(where, path, f"{str(value)[:100]} is neither text nor a number: put it in quotes")
    return value


def yaml_files(folder: Path) -> Iterator[Path]:
    """Yield the .yaml and .yml files of a folder by name; UserError if it is missing, or two files share a name."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: it should hold one YAML file a variant")
    # Hidden files are made by editors and file systems.
    files = [file for file in folder.iterdir() if file.suffix.lower() in (".yaml", ".yml") and file.name[0] != "."]
    by_name: dict[str, Path] = {}
    for file in sorted(files):
        if file.stem in by_name:
            raise UserError(f"{by_name[file.stem]} and {file.name} beside it give one name: remove or rename one")
        by_name[file.stem] = file
    yield from by_name.values()


def differences(first: Any, second: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the values that differ between two pieces of plain data: ("training.batch", 2, 4).

    Args:
        first: plain data, whose order of keys is kept.
        second: plain data.
        where: the key that both stand under.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        for name in dict.fromkeys([*first, *second]):
            yield from differences(first.get(name), second.get(name), f"{where}.{name}" if where else str(name))
    elif first != second:
        yield where, first, second
