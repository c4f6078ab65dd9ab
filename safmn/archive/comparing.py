"""Two studies side by side: which cells differ, whether by more than their spread, and what may explain it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scipy import stats

from safmn import layout
from safmn.archive.opening import opened
from safmn.configuration import differences
from safmn.data import manifest
from safmn.errors import UserError
from safmn.files import read_json
from safmn.networks.registry import RETRAINED
from safmn.paper.cell import Cell
from safmn.paper.statistics import CONFIDENCE
from safmn.paper.verdicts import COST_TOLERANCE, TOLERANCE
from safmn.report import cells, origins
from safmn.report.costs import COUNTS
from safmn.report.measured import Results
from safmn.study import Study

MORE, WITHIN, UNKNOWN, ONE_SIDED = "more than the spread", "within the spread", "spread unknown", "only in one"
VERSIONS = ("device", "gpu", "torch", "cuda", "cudnn", "cpu", "isa", "threads", "fvcore", "python", "os", "driver")
"""Facts of an environment that may explain a difference, the likeliest first."""


@dataclass(frozen=True)
class Difference:
    """A cell that differs.

    Attributes:
        cell: "Table 3, no_fm x4, params".
        first: the number in A; None where there is none.
        second: the number in B.
        unit: of both.
        apart: B minus A; None where one is missing.
        size: MORE, WITHIN, UNKNOWN or ONE_SIDED.
        reason: how the spread is known.
        cause: the first difference in specification, data, code or versions that may explain it; "" if none is known.
    """

    cell: str
    first: float | None
    second: float | None
    unit: str
    apart: float | None
    size: str
    reason: str
    cause: str

    def record(self) -> dict[str, Any]:
        """Return it as plain data; JSON has no infinite numbers."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


class Side:
    """One of the two studies: a folder of results, or an archive.

    Args:
        name: as the user named it.
        folder: `results/<study>`.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.results = Results(folder)

    @cached_property
    def content(self) -> dict[str, Any]:
        """Its study as plain data, without the folders of a machine; UserError where it has none."""
        content = read_json(self.folder / layout.STUDY)
        if not isinstance(content, dict):
            raise UserError(f"{self.folder / layout.STUDY} is no study")
        data = dict(content.get("data") or {})
        for key in ("root", "folders", "download"):
            data.pop(key, None)
        return {key: value for key, value in content.items() if key not in ("weights", "own_networks")} | {"data": data}

    @cached_property
    def cells(self) -> dict[tuple[Any, ...], Cell]:
        """Its cells by place: those of cells.csv, or collected anew where there is none."""
        file = self.folder / layout.CELLS
        if file.is_file():
            own = cells.read(file)
        else:
            own = cells.collect(Study.load(self.folder / layout.STUDY), Results(self.folder))
        return {cell.place: cell for cell in own}

    @cached_property
    def provenance(self) -> dict[str, dict[str, Any]]:
        """Record of a result -> what `provenance.json` says of it, with the facts of its environment."""
        gathered = origins.read(self.folder) or {}
        found = {}
        for result in gathered.get("results") or ():
            try:
                facts = origins.facts_of(gathered["environments"][result["environment"]])
                found[str(result["file"])] = {**result, "facts": facts | facts.get("further", {})}
            except (LookupError, TypeError, AttributeError):
                continue
        return found

    @cached_property
    def data(self) -> dict[str, manifest.Manifest]:
        """Its packed datasets: "Set5/x4" -> manifest; those that can be read."""
        try:
            return {name: content for name, (_, content) in manifest.find(self.folder).items()}
        except UserError:
            return {}


@contextmanager
def side(path: Path) -> Iterator[Side]:
    """Yield a study from its folder `results/<study>`, an archive's folder, or a zip file."""
    if (path / layout.STUDY).is_file():
        yield Side(str(path), path)
        return
    with opened(path) as archive:
        yield Side(str(path), archive.results)


def compare(first: Side, second: Side) -> tuple[list[Difference], int, list[str]]:
    """Compare two studies.

    Returns:
        The cells that differ, the number of those that are equal in both, and what differs as a whole: keys of the
        study, datasets.
    """
    differing, equal = [], 0
    for place in dict.fromkeys([*first.cells, *second.cells]):
        a, b = first.cells.get(place), second.cells.get(place)
        values = [cell.measured if cell else None for cell in (a, b)]
        if values == [None, None]:
            continue
        if values[0] == values[1] or all(value is not None and math.isnan(value) for value in values):
            equal += 1
            continue
        differing.append(_difference(first, second, a, b))
    whole = [*specification(first.content, second.content), *datasets(first, second)]
    return differing, equal, whole


def _difference(first: Side, second: Side, a: Cell | None, b: Cell | None) -> Difference:
    shown = next(cell for cell in (a, b) if cell is not None and cell.measured is not None)
    table, network, scale, column = shown.place
    x, y = (cell.measured if cell else None for cell in (a, b))
    size, reason = ONE_SIDED, next((cell.note for cell in (a, b) if cell and cell.is_missing), "no such cell")
    apart = None
    if a is not None and b is not None and x is not None and y is not None:
        apart = y - x
        size, reason = _size(a, b, x, y)
    return Difference(
        cell=f"Table {table}, {network} x{scale}, {column}",
        first=x,
        second=y,
        unit=shown.unit,
        apart=apart,
        size=size,
        reason=reason,
        cause=cause(first, second, shown),
    )


def _size(a: Cell, b: Cell, x: float, y: float) -> tuple[str, str]:
    """Judge the distance of two numbers of one cell, and say by what."""
    apart = abs(y - x)
    if a.column in COUNTS:
        return MORE, "counts have no spread"
    if a.is_time or a.column == "gpu_memory":
        if a.device != b.device:
            return UNKNOWN, f"on {a.device or 'no device'} and on {b.device or 'no device'}"
        near = apart <= COST_TOLERANCE * abs(x)
        return (WITHIN if near else MORE), f"{apart / abs(x):.1%} apart; {COST_TOLERANCE:.0%} is taken for equal"
    if not a.seeds and not b.seeds:
        reach = TOLERANCE[a.column.rpartition("_")[2]]
        return (WITHIN if apart <= reach else MORE), f"the same weights: {reach} is taken for equal"
    interval = _interval(a, b)
    if interval is None:
        return UNKNOWN, f"seeds: {a.seeds} and {b.seeds}; the spread needs two of one"
    inside = apart <= interval
    return (WITHIN if inside else MORE), f"seeds: {a.seeds} and {b.seeds}; 95 % of differences are below {interval:.3g}"


def _interval(a: Cell, b: Cell) -> float | None:
    """Return half the width of Student's interval of a difference of two means over seeds, by a common deviation."""
    freedom = max(a.seeds - 1, 0) + max(b.seeds - 1, 0)
    if freedom < 1 or not a.seeds or not b.seeds:
        return None
    squares = sum((cell.seeds - 1) * (cell.std or 0.0) ** 2 for cell in (a, b) if cell.seeds > 1)
    error = math.sqrt(squares / freedom * (1 / a.seeds + 1 / b.seeds))
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error


# --- what may explain a difference ---


def cause(first: Side, second: Side, cell: Cell) -> str:
    """Return the first difference behind a cell: of specification, data, code, then versions; "" if none is known."""
    for name in _records(first, second, cell):
        a, b = first.provenance.get(name), second.provenance.get(name)
        if a is None or b is None:
            here = [side.name for side, found in ((first, a), (second, b)) if found is not None]
            if here:
                return f"only {here[0]} has {name}"
            continue
        found = _of_specification(first, second, name, a, b) or _of_data(first, second, a, b) or _of_code(a, b)
        found = found or _of_versions(a["facts"], b["facts"])
        if found:
            return found
    return ""


def _records(first: Side, second: Side, cell: Cell) -> list[str]:
    """Return the records, of either side, that a cell depends on."""
    known = list(dict.fromkeys([*first.provenance, *second.provenance]))
    if cell.table == 5:
        return [layout.cost("operations")]
    if cell.column in ("gpu_memory", "runtime"):
        return [layout.cost("memory" if cell.column == "gpu_memory" else "runtime")]
    network = cell.network.removesuffix(RETRAINED)
    if cell.column in COUNTS:
        return [layout.complexity(network)]
    which = ("seed",) if cell.seeds else ("published", "legacy")  # a network may have weights of both kinds
    starts = [f"training/{network}/x{cell.scale}_"] if cell.seeds else []
    starts += [f"quality/{network}/x{cell.scale}/{each}" for each in which]
    return [name for start in starts for name in known if name.startswith(start)]


def _of_specification(first: Side, second: Side, name: str, a: dict[str, Any], b: dict[str, Any]) -> str:
    if a.get("specification") == b.get("specification"):
        return ""
    records = [side.results.json(name) or {} for side in (first, second)]
    asked = [record.get("specification") or record.get("settings") or {} for record in records]
    keys = _keys(*asked)
    return f"specification: {keys[0]}" if keys else "specification: it differs, the records do not say where"


def specification(first: Any, second: Any) -> list[str]:
    """Return the keys of two studies that differ, as "training.batch: 16 and 64"."""
    return [f"study: {text}" for text in _keys(first, second)]


def _keys(first: Any, second: Any) -> list[str]:
    return [f"{key}: {_short(a)} and {_short(b)}" for key, a, b in differences(first, second)]


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def datasets(first: Side, second: Side) -> list[str]:
    """Return the datasets that differ between two studies, with the images that do."""
    told = []
    for name in sorted({*first.data, *second.data}):
        a, b = first.data.get(name), second.data.get(name)
        if a is None or b is None:
            told.append(f"data: {name} is only in {(first if a else second).name}")
        elif a.digest != b.digest:
            told.append(f"data: {name}: {'; '.join(manifest.differences(a, b))}")
    return told


def _of_data(first: Side, second: Side, a: dict[str, Any], b: dict[str, Any]) -> str:
    # An evaluation names its data by path, which holds the study's name.
    ours, theirs = ({_place(text): value for text, value in (each.get("data") or {}).items()} for each in (a, b))
    for text in dict.fromkeys([*ours, *theirs]):
        if ours.get(text) != theirs.get(text):
            name = text.partition("[")[0]
            for told in datasets(first, second):
                if told.startswith((f"data: {name}:", f"data: {name}/")):
                    return told
            return f"data: {text}"
    return ""


def _place(text: str) -> str:
    """Return how a dataset is called in a record, without the study's folder."""
    return text.partition(f"/{layout.DATA}/")[2] or text


def _of_code(a: dict[str, Any], b: dict[str, Any]) -> str:
    ours, theirs = (each["facts"].get("code_sha256") for each in (a, b))
    if ours == theirs:
        return ""
    commits = [str(each["facts"].get("code_commit") or each["facts"].get("code_sha256"))[:10] for each in (a, b)]
    return f"code: {commits[0]} and {commits[1]}"


def _of_versions(a: dict[str, Any], b: dict[str, Any]) -> str:
    key = next((key for key in VERSIONS if a.get(key) != b.get(key)), "")
    return f"{key}: {a.get(key)} and {b.get(key)}" if key else ""
