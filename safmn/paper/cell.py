"""A cell: one number of one table, as the paper prints it and as a study measured it.

It is what passes from the join (`safmn.report.cells`) to tables, claims, figures and page. Whatever one of them decides
by is a field of its own; `note` is for people and nothing is ever read out of it.
"""

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from safmn.paper import verdicts
from safmn.paper.published import PrintedCell
from safmn.paper.verdicts import Verdict

TRAINED = "trained"
PUBLISHED_WEIGHTS = "published weights"
COUNTED = "counted"
LOWER_BOUND = "counted (lower bound)"
PREDICTED = "predicted"
MEASURED = "measured"
ORIGINS = (TRAINED, PUBLISHED_WEIGHTS, COUNTED, LOWER_BOUND, PREDICTED, MEASURED)
"""How a number came about. MEASURED: memory and time on a device, and the quality of bicubic, which has no weights."""

UNPUBLISHED = "the paper has no such cell"


@dataclass(frozen=True)
class Cell:
    """One number of one table.

    Attributes:
        table: 1 to 5.
        network: its name; the column `row` of `cells.csv`.
        scale: 2, 3 or 4.
        column: `params`, `flops`, `activations`, `gpu_memory`, `runtime`, `<dataset>_psnr`, `<dataset>_ssim`; in
            Table 5 an operation.
        published: digits as printed, "" where the paper has none.
        measured: the number in `unit`, None where there is none.
        unit: that of the print: "K", "G", "M", "MiB", "ms", "dB" or "" (SSIM).
        delta: measured minus published; None where one is missing or the difference means nothing (time of a CPU).
        verdict: a word of `verdicts.VERDICTS`.
        note: why, and how the number came about; for people only.
        low, high: 95 % interval of the mean over seeds, None from a single one.
        std: sample standard deviation over seeds, None from a single one.
        seeds: how many trained networks the number is a mean of; 0 where none was trained here.
        device: the kind of device that it was trained, evaluated or timed on: "cuda", "cpu" or another name of torch,
            "cpu+cuda" where seeds differ; "" where no device has a part in it (counts, predictions) or none was noted.
        collapsed: whether it was measured with weights from before a training collapsed, the paper's *.
        origin: a word of ORIGINS, "" where there is no number.
        remarks: what a table must say beside the number; part of `note`, and not a column of `cells.csv`.
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

    @property
    def place(self) -> tuple[int, str, int, str]:
        """(table, network, scale, column): where it stands."""
        return self.table, self.network, self.scale, self.column

    @property
    def is_missing(self) -> bool:
        """Whether there is no number."""
        return self.verdict == verdicts.MISSING

    @property
    def interval(self) -> tuple[float, float] | None:
        """(low, high), or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    # --- how it is filled ---

    @classmethod
    def blank(cls, printed: PrintedCell) -> "Cell":
        """The cell of a print, nothing measured yet; `printed.printed` is "" where the paper leaves it blank."""
        return cls(*printed.place, printed.printed, unit=printed.unit)

    def missing(self, reason: str) -> "Cell":
        """It has no number; `reason` says why."""
        return replace(self, verdict=verdicts.MISSING, note=reason)

    def filled(
        self, value: float, verdict: Verdict | None, note: str, *, same_quantity: bool = True, **facts: Any
    ) -> "Cell":
        """It has the number `value`, in its unit.

        Args:
            verdict: on the print; not needed where the paper has none.
            note: how the number came about. It follows the verdict's reason, and goes before it after a collapse.
            same_quantity: whether a difference to the print means anything.
            facts: further fields.
        """
        if verdict is None or not self.published:
            verdict = verdicts.not_comparable(UNPUBLISHED)
        said = [note, verdict.note] if facts.get("collapsed") else [verdict.note, note]
        delta = difference(value, self.published) if self.published and same_quantity else None
        text = "; ".join(filter(None, said))
        return replace(self, measured=value, delta=delta, verdict=verdict.verdict, note=text, **facts)


def difference(value: float, printed: str) -> float | None:
    """Measured minus printed, in decimals, so that 13.555 - 13.56 is not -0.00500000000000078; None of NaN."""
    if not math.isfinite(value):
        return None if math.isnan(value) else value
    return float(Decimal(repr(value)) - Decimal(printed))
