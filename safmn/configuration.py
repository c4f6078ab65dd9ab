"""YAML files that people write: read without surprises, checked against a schema, defaults filled in."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from safmn.errors import UserError
from safmn.paths import SCHEMAS

LARGEST_FILE = 1_000_000  # bytes; a study is a page, and a parser should not be handed a gigabyte


class _PlainLoader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
    """YAML without aliases (a few lines of them can stand for gigabytes) and without repeated keys."""

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
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as text; people who write learning rates mean a number, as YAML 1.2 does.
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_yaml(path: Path | str) -> Any:
    """The content of one YAML (or JSON) file; UserError that names file and line where it cannot be read."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path} is larger than {LARGEST_FILE} bytes: is it a configuration at all?")
        text = path.read_text(encoding="utf-8")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=_PlainLoader)):
            raise UserError(f"{path} uses a YAML alias (*name): write the value out instead")
        return yaml.load(text, Loader=_PlainLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


@cache
def _validator(schema: str) -> jsonschema.protocols.Validator:
    return jsonschema.Draft202012Validator(read_yaml(SCHEMAS / f"{schema}.schema.yaml"))


def check(value: Any, schema: str, where: str | Path) -> Any:
    """Returns `value` with the schema's defaults filled in; UserError that names `where` and the key if it is wrong."""
    validator = _validator(schema)
    error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    if error is not None:
        key = ".".join(str(part) for part in error.absolute_path) or "the file as a whole"
        message = error.message if len(error.message) < 200 else error.message[:200] + "..."
        raise UserError(f"{where}: {key}: {' '.join(message.split())}")
    return _with_defaults(value, validator.schema)


def _with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for key, subschema in schema.get("properties", {}).items():
        if key in filled:
            filled[key] = _with_defaults(filled[key], subschema)
        elif "default" in subschema:
            filled[key] = _with_defaults(subschema["default"], subschema)
    return filled


def yaml_files(folder: Path) -> Iterator[Path]:
    """The .yaml files of a folder by name; UserError where the folder is missing."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: it should hold one YAML file a variant")
    yield from sorted(folder.glob("*.yaml"))
