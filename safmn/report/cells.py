"""`cells.csv`: every number of the paper's tables beside what a study measured. It only joins files.

A study of any state gives the same rows: a missing cell says why and what to do.
"""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from safmn.errors import UserError
from safmn.files import write_csv
from safmn.networks import all_networks
from safmn.paper import published
from safmn.paper.cell import Cell
from safmn.report import costs
from safmn.report.imported import Imported
from safmn.report.measured import METRICS, Results
from safmn.report.qualities import Qualities
from safmn.study import Study

ABLATIONS = 3  # the table of variants that the paper does not have
MEMORY_AND_TIME = {"gpu_memory": "MiB", "runtime": "ms"}
Row = tuple[str, int]
"""Network and scale."""
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


def collect(study: Study, results: Results) -> list[Cell]:
    """Make every cell of Tables 1 to 5 for the networks of `study`.

    Rows are in the paper's order; variants that it does not have follow in Table 3, or the row that they name.

    Args:
        study: The study.
        results: Its folder `results/<study>`; may be empty or missing.
    """
    qualities, imported = Qualities(study, results), Imported(results.folder)
    untimed = study.efficiency.reason_untimed or "not timed yet: `snakemake`"
    fill: dict[str, Callable[[Cell], Cell]] = {
        **dict.fromkeys(costs.COUNTS, partial(costs.count, results=results)),
        **dict.fromkeys(published.OPERATIONS.values(), partial(costs.operation, results=results, reason=untimed)),
        "gpu_memory": partial(costs.memory, results=results),
        "runtime": partial(costs.runtime, results=results, reason=untimed),
    }

    def filled(cell: Cell) -> Cell:
        quality = partial(qualities.fill, trains=study.trains(cell.network))
        found = fill.get(cell.column, quality)(replace(cell, network=study.network_of(cell.network)))
        return imported.marked(replace(found, network=cell.network))

    return [filled(cell) for cell in _blanks(study, qualities.benchmarks)]


def write(cells: Iterable[Cell], file: Path | str) -> None:
    """Write `cells.csv`, numbers with all digits."""
    write_csv(file, FIELDS, map(columns, cells))


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


def _blanks(study: Study, test_sets: Iterable[str]) -> Iterator[Cell]:
    """Yield every cell in the paper's order; in a row, those that only the study may fill follow the published ones."""
    networks, units = all_networks(), {"psnr": "dB", "ssim": ""}
    qualities = {f"{name}_{metric}": units[metric] for name in test_sets for metric in METRICS}
    printed: dict[int, dict[Row, list[Cell]]] = {table: {} for table in published.TABLES}
    for place in published.cells([networks[name] for name in (*study.variants, *study.networks)]):
        printed[place.table].setdefault((place.network, place.scale), []).append(Cell.blank(place))
    for table, own in printed.items():
        for row in _rows(study, table, list(own)):
            cells, further = own.get(row, []), {}
            if table == 2 and not cells:
                further = MEMORY_AND_TIME
            if table in OWN and row[1] in study.scales:
                further = qualities if cells else costs.COUNTS | qualities
            present = {cell.column for cell in cells}
            yield from cells
            yield from (Cell(table, *row, name, unit=unit) for name, unit in further.items() if name not in present)


def _rows(study: Study, table: int, printed: Sequence[Row]) -> Iterable[Row]:
    """Return the rows of a table: the `printed` ones, and at their places those that the paper does not have."""
    networks = all_networks()
    if table == 1:
        return _rows_of_table_1(study, printed)
    if table == 2:
        known = (*study.variants, *study.networks)
        return [*printed, *((name, 4) for name in study.timed if name in known and not networks[name].rows)]
    if table == 5:
        return printed
    scales = [4] if 4 in study.scales else study.scales  # x4 as in the paper if the study has it
    rows = [*printed, *((name, scale) for name, _ in printed for scale in scales)]
    if table == ABLATIONS:
        own = [name for name in study.variants if not networks[name].rows]
        rows += [(name, scale) for name in own for scale in (study.scales_of(name) if study.training else scales)]
        order = {name: number for number, name in enumerate(study.variants)}  # a variant follows its neighbour
        rows.sort(key=lambda row: order.get(row[0], len(order)))
    return dict.fromkeys(rows)


def _rows_of_table_1(study: Study, printed: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows scale by scale: published ones, a user's own networks; behind each what is trained here of it."""
    networks = all_networks()
    again = {network.name: row for row, network in study.retrained.items()}
    for scale in dict.fromkeys([*(at for _, at in printed), *study.scales]):
        names = [name for name, at in printed if at == scale]
        if scale in study.scales:
            own = [name for name in study.networks if scale in networks[name].scales]
            names += [name for name in own if name in again or not networks[name].rows]
        for name in dict.fromkeys([*names, *again]):
            if name in names:
                yield name, scale
            if name in again and scale in study.scales_of(name):
                yield again[name], scale
