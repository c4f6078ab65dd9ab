"""The paper's numbers as cells, read from `numbers/table1.csv` to `table5.csv`.

They are kept as text: the number of digits says how exactly a cell can be compared.
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
LABELS = {1: "method", 2: "method", 3: "variant", 4: "n_blocks"}  # columns that name the row; Table 5 has one row
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
"""How many parameters, activations or FLOPs one published unit is."""

Place = tuple[int, str, int, str]
"""(table, network, scale, column) of a cell, as in `cells.csv`."""


class Claimant(Protocol):
    """A network that stands for rows of the paper."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def rows(self) -> Mapping[int, str]:
        """Table number -> the row's name in the paper."""


@dataclass(frozen=True)
class PrintedCell:
    """One published number.

    Attributes:
        table: 1 to 5.
        label: The row's name in the paper.
        network: The network that stands for the row, or "".
        scale: 2, 3 or 4.
        column: As in `cells.csv`: `params`, `flops`, `activations`, `gpu_memory`, `runtime`, `<dataset>_psnr`,
            `<dataset>_ssim`; in Table 5 an operation.
        printed: The published digits.
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
        """The published number, in `unit`."""
        return float(self.printed)

    @property
    def place(self) -> Place:
        """(table, network, scale, column)."""
        return self.table, self.network, self.scale, self.column

    @property
    def is_count(self) -> bool:
        """Whether it is an exact quantity: parameters, FLOPs or activations."""
        return self.unit in UNITS

    def __str__(self) -> str:
        scale = f" x{self.scale}" if self.table == 1 else ""
        return f"Table {self.table}, row {self.label!r}{scale}, {self.column}"


def printed(table: int) -> tuple[PrintedCell, ...]:
    """Return every number of one table, row by row, without blank cells."""
    return _printed(NUMBERS / f"table{table}.csv", table)


def of(network: Claimant) -> list[PrintedCell]:
    """Return the cells of the rows that a network stands for.

    Raises:
        UserError: If the network names a row that the paper does not have.
    """
    cells = []
    for table, label in sorted(network.rows.items()):
        if table not in TABLES:
            raise UserError(f"{network.name}: rows names table {table}, but the paper has Tables 1 to 5")
        own = [replace(cell, network=network.name) for cell in printed(table) if cell.label == label]
        if not own:
            labels = ", ".join(dict.fromkeys(repr(cell.label) for cell in printed(table)))
            raise UserError(f"{network.name}: Table {table} of the paper has no row {label!r}; it has {labels}")
        cells += own
    return cells


def cells(networks: Iterable[Claimant], tables: Iterable[int] = TABLES) -> list[PrintedCell]:
    """Return the cells of `networks` table by table, in the paper's order.

    A row that no network stands for is left out; one that two stand for appears once for each.
    """
    claimed = [cell for network in networks for cell in of(network)]
    chosen = []
    for table in tables:
        order = {(cell.label, cell.scale, cell.column): number for number, cell in enumerate(printed(table))}
        own = [cell for cell in claimed if cell.table == table]
        chosen += sorted(own, key=lambda cell: order[cell.label, cell.scale, cell.column])
    return chosen


@cache
def groups() -> dict[str, str]:
    """Return the group of each row of Table 3, as the paper names it in the first column: row label -> group."""
    return {line["variant"]: line["group"] for line in _lines(NUMBERS / "table3.csv")}


def _lines(file: Path) -> list[dict[str, str]]:
    try:
        with open(file, encoding="utf-8", newline="") as handle:
            return list(csv.DictReader(handle))
    except OSError as error:
        raise UserError(f"{file} is not readable ({error.strerror}): it comes with the project, restore it") from error


@cache
def _printed(file: Path, table: int) -> tuple[PrintedCell, ...]:
    cells = []
    for number, line in enumerate(_lines(file), 2):
        label = TABLE_5_LABEL if table == 5 else line[LABELS[table]]
        for header, text in line.items():
            column, unit = _quantity(header, line)
            if not column or not text:
                continue
            try:
                is_number = Decimal(text).is_finite()
            except InvalidOperation:
                is_number = False
            if not is_number:
                raise UserError(f"{file}, line {number}, {header}: {text!r} is not a number")
            cells.append(PrintedCell(table, label, "", int(line.get("scale") or 4), column, text, unit))
    return tuple(cells)


def _quantity(header: str, line: dict[str, str]) -> tuple[str, str]:
    """Return column and unit of one field of a line; ("", "") where the field names the row."""
    if header == "runtime_ms":  # of Table 5
        return OPERATIONS[line["operation"]], "ms"
    if header.endswith(("_psnr", "_ssim")):
        return header, "dB" if header.endswith("_psnr") else ""
    return QUANTITIES.get(header, ("", ""))
