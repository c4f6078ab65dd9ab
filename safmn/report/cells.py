"""`cells.csv`: every number of the paper's tables beside what a study measured. It only joins files.

A study of any state gives the same rows: a missing cell says why and what to do.
"""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from safmn.errors import UserError
from safmn.files import atomic
from safmn.networks import all_networks
from safmn.networks.registry import Network
from safmn.paper import published
from safmn.paper.cell import Cell
from safmn.paper.published import PrintedCell
from safmn.report import costs
from safmn.report.imported import Imported
from safmn.report.measured import METRICS, Results
from safmn.report.qualities import Qualities
from safmn.study import Study

ABLATIONS = 3  # the table of variants that the paper does not have
Rows = dict[tuple[str, str, int], list[PrintedCell]]
"""(label, network, scale) -> the published cells of a row."""
OWN = (1, 3, 4)  # the tables that get columns for the study's own benchmarks
FIELDS = {"row" if field.name == "network" else field.name: field for field in fields(Cell) if field.compare}
"""Column of the file -> field of Cell."""
READERS: dict[Any, Callable[[str], Any]] = {
    int: int,
    str: str,
    float | None: lambda text: float(text) if text else None,
    bool: {"True": True, "False": False}.__getitem__,
}
"""Type of a field -> how it is read."""


def collect(study: Study, results: Path | str) -> list[Cell]:
    """Make every cell of Tables 1 to 5 for the networks of `study`.

    Rows are in the paper's order; variants that it does not have follow in Table 3, or the row that they name.

    Args:
        study: The study.
        results: The folder `results/<study>`; may be empty or missing.
    """
    networks, source = all_networks(), Results(results)
    chosen = {name: networks[name] for name in [*study.variants, *study.networks]}
    qualities = Qualities(study, source, chosen)
    untimed = study.efficiency.reason_untimed or "not timed yet: `snakemake`"
    fill: dict[str, Callable[[Cell], Cell]] = {
        **dict.fromkeys(costs.COUNTS, partial(costs.count, results=source)),
        **dict.fromkeys(published.OPERATIONS.values(), partial(costs.operation, results=source, reason=untimed)),
        "gpu_memory": partial(costs.memory, results=source),
        "runtime": partial(costs.runtime, results=source, reason=untimed),
    }
    again = partial(qualities.fill, retrained=True)

    def filled(place: PrintedCell) -> Cell:
        network = study.retrained.get(place.network)
        if network is None:
            return fill.get(place.column, qualities.fill)(Cell.blank(place))
        cell = fill.get(place.column, again)(replace(Cell.blank(place), network=network.name))
        return replace(cell, network=place.network)

    cells = [filled(place) for place in _places(study, chosen, qualities)]
    return Imported(results).marked(cells, study, source)


def write(cells: Iterable[Cell], file: Path | str) -> None:
    """Write `cells.csv`, numbers with all digits."""
    with atomic(file) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(FIELDS)
        # None becomes an empty field, a float the shortest text that reads back as the same number.
        writer.writerows(columns(cell).values() for cell in cells)


def columns(cell: Cell) -> dict[str, Any]:
    """Return a cell as the columns of `cells.csv`, in their order."""
    return {column: getattr(cell, field.name) for column, field in FIELDS.items()}


def for_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as `columns`, with None for NaN and an infinite PSNR, which JSON does not have."""
    return {
        column: None if isinstance(value, float) and not math.isfinite(value) else value
        for column, value in columns(cell).items()
    }


def read(file: Path | str) -> list[Cell]:
    """Read `cells.csv` as `collect` returned it, without remarks.

    Raises:
        UserError: If the file cannot be read, or has other columns.
    """
    try:
        with open(file, encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            lines = list(reader)
        if reader.fieldnames != list(FIELDS):
            raise ValueError("its columns are others")
        if any(None in line or None in line.values() for line in lines):
            raise ValueError("a line has more or fewer fields than the header")
        return [Cell(**{field.name: READERS[field.type](line[key]) for key, field in FIELDS.items()}) for line in lines]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} is not readable ({reason}): `safmn tables` writes it again") from error


def _places(study: Study, chosen: Mapping[str, Network], qualities: Qualities) -> Iterable[PrintedCell]:
    """Yield every cell in the paper's order; blank ones that the study fills follow those of their row."""
    printed = published.cells(chosen.values())
    scales = [4] if 4 in study.scales else study.scales  # of Tables 3 and 4: x4 as in the paper if the study has it
    for table in published.TABLES:
        rows: Rows = {}
        for cell in printed:
            if cell.table == table:
                rows.setdefault((cell.label, cell.network, cell.scale), []).append(cell)
        if table == 1:
            rows = _with_own(study, chosen, rows)
        if table == 2:
            beyond = [name for name in study.timed if name in chosen and not chosen[name].rows]
            rows |= {(chosen[name].title, name, 4): [] for name in beyond}
        if table in OWN and table != 1:
            for label, name, _ in list(rows):
                for scale in scales:
                    rows.setdefault((label, name, scale), [])
        if table == ABLATIONS:
            for name in study.variants:
                if not chosen[name].rows:
                    own_scales = study.scales_of(name) if study.training else scales
                    rows |= {(chosen[name].title, name, scale): [] for scale in own_scales}
            order = {name: number for number, name in enumerate(study.variants)}  # a variant follows its neighbour
            rows = dict(sorted(rows.items(), key=lambda item: order.get(item[0][1], len(order))))
        for (label, name, scale), own in rows.items():
            yield from own
            if table == 2 and not own:
                yield PrintedCell(table, label, name, scale, "gpu_memory", "", "MiB")
                yield PrintedCell(table, label, name, scale, "runtime", "", "ms")
            if table in OWN and scale in study.scales:
                for column, unit in _unprinted([cell.column for cell in own], qualities):
                    yield PrintedCell(table, label, name, scale, column, "", unit)


def _with_own(study: Study, chosen: Mapping[str, Network], rows: Rows) -> Rows:
    """Add to Table 1 the networks that are trained here, behind their published rows, and a user's own."""
    again = {network.name: (row, network) for row, network in study.retrained.items()}
    extended: Rows = {}
    for scale in dict.fromkeys([*(scale for _, _, scale in rows), *study.scales]):
        present = {key: own for key, own in rows.items() if key[2] == scale}
        names = [name for _, name, _ in present]
        names += [name for name in study.networks if not chosen[name].rows and scale in chosen[name].scales]
        keys = {name: key for key in present for name in [key[1]]}
        for name in dict.fromkeys([*names, *again]):
            if name in keys:
                extended[keys[name]] = present[keys[name]]
            elif name in study.networks and scale in study.scales and scale in chosen[name].scales:
                extended[chosen[name].title, name, scale] = []
            if name in again and scale in study.scales_of(name):
                row, network = again[name]
                extended[network.title, row, scale] = []
    return extended


def _unprinted(printed: Sequence[str], qualities: Qualities) -> Iterable[tuple[str, str]]:
    """Yield columns and units of a row that the paper leaves blank or does not have, and that the study may have."""
    if not printed:
        yield from costs.COUNTS.items()
    for benchmark in qualities.benchmarks.values():
        for metric in METRICS:
            column = f"{benchmark.id}_{metric}"
            if column not in printed:
                yield column, "dB" if metric == "psnr" else ""
