"""Show the progress of several jobs at once, on a terminal or in a log."""

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

STAGES = {
    "download": "",
    "pack": "",
    "verify": "verifying",
    "unpack": "unpacking",
    "wait": "waiting for another process",
}
EVERY = 30.0  # seconds between two lines about one file where the output is not a terminal


class Meter:
    """Show downloads as bars with rate and ETA on a terminal, and as a line now and then in a log.

    A context manager. Everything goes to stderr, since stdout has the results.
    """

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._bars = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> "Meter":
        if self._terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._bars.stop()

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self._bars.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def watch(self, name: str) -> Callable[[str, int, int | None], None]:
        """Return a function that shows one file's progress: (stage, bytes done, bytes in all or None)."""
        return _Bar(self._bars, name) if self._terminal else _Lines(self, name)


class _Bar:
    """One file as a bar; each stage has a new one, so that rate and ETA are the stage's own."""

    def __init__(self, bars: Progress, name: str) -> None:
        self.bars = bars
        self.name = name
        self.stage = ""
        self.task: TaskID | None = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage != self.stage or self.task is None:
            if self.task is not None:
                self.bars.remove_task(self.task)
            self.stage = stage
            self.task = self.bars.add_task(f"{self.name} {STAGES[stage]}".strip(), total=total, completed=done)
        self.bars.update(self.task, completed=done, total=total)


class _Lines:
    """One file as lines; the first comes after EVERY seconds, so that short jobs print none."""

    def __init__(self, meter: Meter, name: str) -> None:
        self.meter = meter
        self.name = name
        self.stage = ""
        self.started, self.first, self.next = 0.0, 0, 0.0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if stage != self.stage:
            self.stage, self.started, self.first, self.next = stage, now, done, now + EVERY
        if now < self.next:
            return
        self.next = now + EVERY
        rate = (done - self.first) / (now - self.started)
        of = f" of {total / 1e6:,.1f}" if total else ""
        left = f", {(total - done) / rate:,.0f} s left" if total and rate else ""
        self.meter.say(
            f"{f'{self.name} {STAGES[stage]}'.strip()}: {done / 1e6:,.1f}{of} MB, {rate / 1e6:.2f} MB/s{left}"
        )
