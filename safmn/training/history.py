"""What a run reports: history.csv, TensorBoard scalars and lines of progress."""

import csv
import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COLUMNS = ("iteration", "learning_rate", "l1_loss", "fft_loss", "gradient_norm", "validation_psnr_rgb")


class History:
    """The rows of history.csv: means over the iterations since the previous row; PSNR at validations.

    They hold no clock time, so that a resumed run ends with the same bytes as an uninterrupted one.
    """

    def __init__(self, rows: list[list[float | int | None]] | None = None) -> None:
        self.rows = rows or []

    def add(self, **values: float | int | None) -> None:
        """Add one row, `values` by column; missing ones stay empty."""
        self.rows.append([values.get(column) for column in COLUMNS])

    def text(self) -> str:
        """Return all rows as CSV, floats with every digit."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([["" if value is None else repr(value) for value in row] for row in self.rows])
        return buffer.getvalue()


class Scalars:
    """TensorBoard event files in `folder`; steps after `start` that earlier processes wrote are hidden.

    They are for people only: if they cannot be written (a full disk), a warning is logged and training continues.
    """

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._writer: SummaryWriter | None = None
        with self._tolerant():
            self._writer = SummaryWriter(str(folder), purge_step=start + 1)

    def add(self, iteration: int, **values: float | None) -> None:
        """Add the values that are not None."""
        with self._tolerant():
            for name, value in values.items():
                if value is not None and self._writer is not None:
                    self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Write what is not on disk yet."""
        with self._tolerant():
            if self._writer is not None:
                self._writer.close()

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            print(f"{self._folder}: no more scalars: {error.strerror or error}", file=sys.stderr)


class Progress:
    """A log line every few seconds: iterations done, rate, time left, losses."""

    def __init__(self, label: str, total: int, start: int, every: float = 5.0) -> None:
        self._label = label
        self._total = total
        self._start = start
        self._every = every
        self._began = time.monotonic()
        self._told = self._began

    def tell(self, iteration: int, **values: Any) -> None:
        """Log the line, if the last one is `every` seconds ago or the run is at its end."""
        now = time.monotonic()
        if now - self._told < self._every and iteration < self._total:
            return
        self._told = now
        rate = (iteration - self._start) / max(now - self._began, 1e-9)
        left = (self._total - iteration) / rate if rate else float("inf")
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if value is not None)
        print(
            f"{self._label}: {iteration}/{self._total}  {rate:.2f} it/s  ETA {_clock(left)}  {shown}",
            file=sys.stderr,
            flush=True,
        )


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
