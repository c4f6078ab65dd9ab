"""A cell: one number of one table, as the paper published it and as a study measured it.

`safmn.report.cells` makes cells; tables, claims, figures and the page show them. Every fact that one of these depends
on is a field; `note` is for people, and no code reads it.
"""

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from safmn.paper import verdicts
from safmn.paper.published import Place, PrintedCell
from safmn.paper.verdicts import Verdict

TRAINED = "trained"
PUBLISHED_WEIGHTS = "published weights"
COUNTED = "counted"
LOWER_BOUND = "counted (lower bound)"
PREDICTED = "predicted"
MEASURED = "measured"  # memory and time on a device, and the quality of bicubic, which has no weights

UNPUBLISHED = "the paper has no such cell"


@dataclass(frozen=True)
class Cell:
    """One number of one table.

    Attributes:
        table: 1 to 5.
        network: Its name; the column `row` of `cells.csv`.
        scale: 2, 3 or 4.
        column: As in `PrintedCell`.
        published: The published digits, "" where the paper has none.
        measured: The number in `unit`, None where there is none.
        unit: The paper's: "K", "G", "M", "MiB", "ms", "dB" or "" (SSIM).
        delta: Measured minus published; None where one is missing or the difference means nothing (time of a CPU).
        verdict: A word of `verdicts.VERDICTS`.
        note: Why, and where the number comes from; for people only.
        low: Lower end of the 95 % interval of the mean over seeds, None from a single seed.
        high: Upper end.
        std: Sample standard deviation over seeds, None from a single seed.
        seeds: How many trained networks the number is a mean of; 0 where none was trained here.
        device: PyTorch's type of the device on which it was trained, evaluated or timed ("cuda", "cpu"), "cpu+cuda"
            where seeds differ; "" where it depends on none (counts, predictions) or none was recorded.
        collapsed: Whether the weights are from before a training collapsed, the paper's *.
        origin: Where the number comes from: TRAINED, PUBLISHED_WEIGHTS, COUNTED, LOWER_BOUND, PREDICTED or MEASURED; ""
            without a number. ", imported" follows if somebody else measured it (`safmn import`).
        remarks: What a table must say beside the number; part of `note`, and not a column of `cells.csv`.
        files: The records below `results/<study>/` that say how the number was made; not a column either.
    """

    table: int
    network: str
    scale: int
    column: str
    published: str = ""
    measured: float | None = None
    unit: str = ""
    delta: float | None = None
    verdict: str = verdicts.MISSING
    note: str = ""
    low: float | None = None
    high: float | None = None
    std: float | None = None
    seeds: int = 0
    device: str = ""
    collapsed: bool = False
    origin: str = ""
    remarks: tuple[str, ...] = field(default=(), compare=False)
    files: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def blank(cls, printed: PrintedCell) -> "Cell":
        """Make a cell without a measured number; `printed.printed` is "" where the paper has none either."""
        return cls(*printed.place, printed.printed, unit=printed.unit)

    @property
    def place(self) -> Place:
        """(table, network, scale, column)."""
        return self.table, self.network, self.scale, self.column

    @property
    def is_missing(self) -> bool:
        """Whether there is no measured number."""
        return self.verdict == verdicts.MISSING

    @property
    def is_time(self) -> bool:
        """Whether it is a time, which means nothing without its device."""
        return self.column == "runtime" or self.table == 5

    @property
    def interval(self) -> tuple[float, float] | None:
        """(low, high), or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def missing(self, reason: str) -> "Cell":
        """Return this cell without a number, for the reason given."""
        return replace(self, verdict=verdicts.MISSING, note=reason)

    def filled(
        self, value: float, verdict: Verdict | None, note: str, *, same_quantity: bool = True, **fields: Any
    ) -> "Cell":
        """Return this cell with a measured number.

        Args:
            value: The number, in the cell's unit.
            verdict: On the published value; None where the paper has none.
            note: Where the number comes from. It follows the verdict's reason, and precedes it after a collapse.
            same_quantity: Whether a difference to the published value means anything.
            **fields: Further fields of the cell.
        """
        if verdict is None or not self.published:
            verdict = verdicts.not_comparable(UNPUBLISHED)
        notes = [note, verdict.note] if fields.get("collapsed") else [verdict.note, note]
        delta = difference(value, self.published) if self.published and same_quantity else None
        text = "; ".join(filter(None, notes))
        return replace(self, measured=value, delta=delta, verdict=verdict.verdict, note=text, **fields)


def difference(value: float, printed: str) -> float | None:
    """Compute measured minus published in decimals, so that 13.555 - 13.56 is -0.005; None for NaN."""
    if not math.isfinite(value):
        return None if math.isnan(value) else value
    return float(Decimal(repr(value)) - Decimal(printed))
