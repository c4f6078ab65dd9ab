"""The paper's numbers, from `numbers/table1.csv` to `table5.csv`, as cells.

They are read as text: how many digits were printed says how precisely a cell can be compared.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Protocol

from safmn.errors import UserError
from safmn.paper import NUMBERS

TABLES = (1, 2, 3, 4, 5)

LABEL = {1: "method", 2: "method", 3: "variant", 4: "n_blocks"}  # the column that names the row; Table 5 has one row
TABLE_5_LABEL = "SAFMN"

QUANTITIES = {  # header of the file -> (column of cells.csv, unit)
    "params_k": ("params", "K"),
    "flops_g": ("flops", "G"),
    "acts_m": ("activations", "M"),
    "gpu_mem_mib": ("gpu_memory", "MiB"),
    "avg_time_ms": ("runtime", "ms"),
}

OPERATIONS = {  # Table 5: operation -> column of cells.csv, in milliseconds
    "LayerNorm": "layernorm",
    "Channel Splitting": "channel_splitting",
    "Adaptive MaxPool": "adaptive_maxpool",
    "Nearest Interpolation": "nearest_interpolation",
    "Element-wise Product": "elementwise_product",
    "Element-wise Addition": "elementwise_addition",
}

UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}
"""How many parameters, activations or FLOPs one unit of print is."""


class Claimant(Protocol):
    """A network that stands for rows of the paper: table number -> row label as printed."""

    name: str
    rows: Mapping[int, str]


@dataclass(frozen=True)
class PrintedCell:
    """One printed number.

    Attributes:
        table: 1 to 5.
        label: the row as the paper prints it.
        network: the network that stands for it ("" where that was not asked for).
        scale: 2, 3 or 4.
        column: as in `cells.csv`: `params`, `flops`, `activations`, `gpu_memory`, `runtime`, `<dataset>_psnr`,
            `<dataset>_ssim`; in Table 5 an operation.
        printed: the digits as printed.
        unit: "K", "G", "M", "MiB", "ms", "dB" or "" (SSIM).
    """

    table: int
    label: str
    network: str
    scale: int
    column: str
    printed: str
    unit: str

    @property
    def value(self) -> float:
        """The printed number, in `unit`."""
        return float(self.printed)

    @property
    def place(self) -> tuple[int, str, int, str]:
        """(table, network, scale, column), as in `cells.csv`."""
        return self.table, self.network, self.scale, self.column

    @property
    def is_count(self) -> bool:
        """Whether it is an exact quantity: parameters, FLOPs or activations."""
        return self.unit in UNITS

    @property
    def is_time(self) -> bool:
        """Whether it is a time, which means nothing without its device."""
        return self.unit == "ms"

    def __str__(self) -> str:
        """Where it stands."""
        scale = f" x{self.scale}" if self.table == 1 else ""
        return f"Table {self.table}, row {self.label!r}{scale}, {self.column}"


def printed(table: int) -> tuple[PrintedCell, ...]:
    """Every number of one table, row by row; blank cells are left out."""
    return _printed(NUMBERS / f"table{table}.csv", table)


def of(network: Claimant) -> list[PrintedCell]:
    """The cells of the rows that a network stands for. UserError where it claims a row that the paper does not have."""
    cells = []
    for table, label in sorted(network.rows.items()):
        if table not in TABLES:
            raise UserError(f"{network.name}: rows names table {table}, but the paper has Tables 1 to 5")
        own = [cell for cell in printed(table) if cell.label == label]
        if not own:
            known = ", ".join(dict.fromkeys(repr(cell.label) for cell in printed(table)))
            raise UserError(f"{network.name}: Table {table} of the paper has no row {label!r}; it has {known}")
        cells += [replace(cell, network=network.name) for cell in own]
    return cells


def cells(networks: Iterable[Claimant], tables: Iterable[int] = TABLES) -> list[PrintedCell]:
    """The cells of `networks` in the order of print, table by table.

    A row that none of them stands for is left out; one that two of them stand for appears once for each.
    """
    claimed = [cell for network in networks for cell in of(network)]
    chosen = []
    for table in tables:
        place = {(cell.label, cell.scale, cell.column): number for number, cell in enumerate(printed(table))}
        own = [cell for cell in claimed if cell.table == table]
        chosen += sorted(own, key=lambda cell: place[cell.label, cell.scale, cell.column])
    return chosen


@cache
def _printed(file: Path, table: int) -> tuple[PrintedCell, ...]:
    try:
        with open(file, encoding="utf-8", newline="") as handle:
            lines = list(csv.DictReader(handle))
    except OSError as error:
        raise UserError(f"{file} is not readable ({error.strerror}): it comes with the project, restore it") from error
    found = []
    for number, line in enumerate(lines, 2):
        label = TABLE_5_LABEL if table == 5 else line[LABEL[table]]
        scale = int(line.get("scale") or 4)
        for header, text in line.items():
            column, unit = _quantity(table, header, line)
            if not column or not text:
                continue
            try:
                finite = Decimal(text).is_finite()
            except InvalidOperation:
                finite = False
            if not finite:
                raise UserError(f"{file}, line {number}, {header}: {text!r} is not a number")
            found.append(PrintedCell(table, label, "", scale, column, text, unit))
    return tuple(found)


def _quantity(table: int, header: str, line: dict[str, str]) -> tuple[str, str]:
    """Column and unit of one field of a line; ("", "") where the field names the row."""
    if table == 5:
        return (OPERATIONS[line["operation"]], "ms") if header == "runtime_ms" else ("", "")
    if header.endswith("_psnr"):
        return header, "dB"
    if header.endswith("_ssim"):
        return header, ""
    return QUANTITIES.get(header, ("", ""))


@cache
def groups() -> dict[str, str]:
    """Row label of Table 3 -> its group, as the paper prints it in the first column."""
    with open(NUMBERS / "table3.csv", encoding="utf-8", newline="") as handle:
        return {line["variant"]: line["group"] for line in csv.DictReader(handle)}
