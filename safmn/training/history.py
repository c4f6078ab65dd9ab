"""The course of a run: history.csv and TensorBoard scalars."""

import csv
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

_log = logging.getLogger(__name__)


class Loss(Protocol):
    """What a history needs of a loss: the names of its terms, known after its first call."""

    names: tuple[str, ...]


class History:
    """The rows of history.csv: means over the iterations since the previous row; PSNR at validations.

    They hold no clock time, so that a resumed run ends with the same bytes as an uninterrupted one.

    Args:
        loss: each of its terms is a column, `l1_loss` and `fft_loss` in Section 4.1.
        rows: what was written so far.
    """

    def __init__(self, loss: Loss, rows: list[list[float | int | None]] | None = None) -> None:
        self._loss = loss
        self.rows = rows or []

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return ("iteration", "learning_rate", *self._loss.names, "gradient_norm", "validation_psnr_rgb")

    def add(self, **values: float | int | None) -> None:
        """Add one row, `values` by column; missing ones stay empty."""
        self.rows.append([values.get(column) for column in self.columns])

    def text(self) -> str:
        """Return all rows as CSV, floats with every digit."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
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
            _log.warning("%s: no more scalars: %s", self._folder, error.strerror or error)
