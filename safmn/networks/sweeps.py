"""Sweeps: one variant file that stands for a grid of variants."""

import itertools
import json
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safmn.errors import UserError

MAX_POINTS = 10_000  # a plan of them takes minutes
MAX_NAME = 100  # letters; a log's name has more, and file systems take 255
SECTIONS = ("network", "training", "data")
"""The keys of a variant that a sweep may change."""


@dataclass(frozen=True)
class Point:
    """One combination of the values of a sweep.

    Attributes:
        name: the variant's name: the file's, and the values joined by `_`.
        title: the file's title with the values in it.
        description: likewise.
        content: the file's content with these values, validated, without `sweep`.
        values: key -> value.
    """

    name: str
    title: str
    description: str
    content: dict[str, Any]
    values: dict[str, Any]


def points(
    file: Path, content: Mapping[str, Any], sweep: Mapping[str, Any], checked: Callable[[Any, str], dict[str, Any]]
) -> Iterator[Point]:
    """Yield the points of a sweep, the last key's values in the innermost turn.

    Each value is validated once, beside the first values of the other keys, and not in each combination.

    Args:
        file: the variant's file.
        content: its content without the sweep, validated, as plain data.
        sweep: key -> values.
        checked: validates such content, in which a key has one of its values, and returns it as plain data.

    Raises:
        UserError: a key is not known, a value does not fit it or is given twice, two points have one name, or there
            are too many points.
    """
    number = math.prod(len(values) for values in sweep.values())
    if number > MAX_POINTS:
        raise UserError(f"{file}: sweep: gives {number:,} points, more than {MAX_POINTS:,}: list fewer values")
    for key, values in sweep.items():
        if key.partition(".")[0] not in SECTIONS or not all(key.split(".")[1:] or [""]):
            raise UserError(f"{file}: sweep: {key!r} is not a key such as network.dim or training.learning_rate")
        repeated = [text for text, count in Counter(map(_as_json, values)).items() if count > 1]
        if repeated:
            raise UserError(f"{file}: sweep.{key}: lists {repeated[0]} twice")
    inside = next((f"{one} and {other}" for one, other in itertools.permutations(sweep, 2) if f"{other}." in one), "")
    if inside:
        raise UserError(f"{file}: sweep: {inside} are one inside the other: sweep over one of them")
    first = {key: values[0] for key, values in sweep.items()}
    fitting = {
        key: [_at(checked(_changed(content, first | {key: value}), key), key) for value in values]
        for key, values in sweep.items()
    }
    names: dict[str, dict[str, Any]] = {}
    for combination in itertools.product(*fitting.values()):
        values = dict(zip(fitting, combination, strict=True))
        name = "_".join([file.stem, *map(word, combination)])
        if name in names:
            raise UserError(
                f"{file}: sweep: two points would both be called {name} ({_shown(names[name])}; {_shown(values)}): "
                "leave one out, or put it into a file of its own"
            )
        if len(name) > MAX_NAME:
            raise UserError(
                f"{file}: sweep: {name[:40]}... is a name of more than {MAX_NAME} letters: sweep fewer keys"
            )
        names[name] = values
        title, description = (filled(file, key, str(content[key]), values) for key in ("title", "description"))
        yield Point(name, title, description, _changed(content, values), values)


def word(value: Any) -> str:
    """Return a value as a part of a name: lower-case letters, digits and `_`.

    0.001 is `0p001`, -1 is `m1`, true is `true`, null is `none`, a list or mapping is its values joined by `_`.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value).lower().replace(".", "p").replace("-", "m").replace("+", "")
    if isinstance(value, Mapping):
        return word(list(value.values()))
    if isinstance(value, list | tuple):
        return "_".join(map(word, value)) or "empty"
    return re.sub("[^a-z0-9]+", "_", str(value).lower()).strip("_") or "empty"


def filled(file: Path, key: str, text: str, values: Mapping[str, Any]) -> str:
    """Return a title or description with the values in it.

    `{dim}` and `{network.dim}` are replaced. A title gets the values that it does not mention at its end, so that no
    two points have one title.
    """
    last = {path: path.rpartition(".")[2] for path in values}
    times = Counter(last.values())
    by_name = dict(values) | {last[path]: value for path, value in values.items() if times[last[path]] == 1}
    parts, used = [], set()
    try:
        pieces = [(literal, field) for literal, field, *_ in string.Formatter().parse(text)]
    except ValueError as error:
        raise UserError(f"{file}: {key}: {error}: a brace of its own is written twice, {{{{ or }}}}") from error
    for literal, field in pieces:
        parts.append(literal)
        if field is not None:
            if field not in by_name:
                known = ", ".join(f"{{{name}}}" for name in by_name)
                raise UserError(f"{file}: {key}: {{{field}}} is not swept: write one of {known}")
            parts.append(_text(by_name[field]))
            used.add(field.rpartition(".")[2])
    rest = [f"{last[path]} {_text(value)}" for path, value in values.items() if last[path] not in used]
    return "".join(parts) + (f" ({', '.join(rest)})" if rest and key == "title" else "")


def _changed(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return content with other values at some paths; what is not changed is shared."""
    changed = dict(content)
    for path, value in values.items():
        *sections, last = path.split(".")
        inner = changed
        for section in sections:
            inner[section] = dict(inner[section]) if isinstance(inner.get(section), dict) else {}
            inner = inner[section]
        inner[last] = value
    return changed


def _at(content: Any, path: str) -> Any:
    for part in path.split("."):
        content = content[part]
    return content


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _as_json(value)


def _shown(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in values.items())


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
