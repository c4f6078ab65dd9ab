"""How far several transfers are, on the terminal or in a log."""

import sys
import threading
import time

STAGES = {"download": "", "verify": "verifying", "wait": "waiting for another process", "unpack": "unpacking"}
EVERY = 30.0  # seconds between lines of one transfer where the output is a file


class Meter:
    """Context manager: bars with rate and ETA on a terminal, a line now and then in a log.

    `watch(name)` gives a function for one transfer, called with (stage, bytes done, bytes in all or None) from any
    thread. Everything goes to stderr, since stdout carries the figures.
    """

    def __init__(self) -> None:
        self._bars = None
        self._lock = threading.Lock()
        if sys.stderr.isatty():
            self._bars = _bars()

    def __enter__(self) -> "Meter":
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._bars is not None:
            self._bars.console.print(text, highlight=False, markup=False)
        else:
            with self._lock:
                print(text, file=sys.stderr, flush=True)

    def watch(self, name: str):
        """A function that takes the progress of one transfer."""
        return _Bar(self._bars, name) if self._bars is not None else _Lines(self, name)


class _Bar:
    """One transfer as a bar, begun anew for each of its stages, so that rate and ETA are the stage's own."""

    def __init__(self, bars, name: str) -> None:
        self.bars = bars
        self.name = name
        self.stage = None
        self.task = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage != self.stage:
            self.stage = stage
            if self.task is not None:
                self.bars.remove_task(self.task)
            text = f"{self.name} {STAGES[stage]}".strip()
            self.task = self.bars.add_task(text, total=total, completed=done)
        self.bars.update(self.task, completed=done, total=total)


class _Lines:
    """One transfer as lines; the first comes after the time between two, so that short ones say nothing."""

    def __init__(self, meter: Meter, name: str) -> None:
        self.meter = meter
        self.name = name
        self.stage = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if stage != self.stage:
            self.stage, self.since, self.first, self.next = stage, now, done, now + EVERY
        if now < self.next:
            return
        self.next = now + EVERY
        rate = (done - self.first) / (now - self.since)
        of = f" of {total / 1e6:,.1f}" if total else ""
        left = f", {(total - done) / rate:,.0f} s left" if total and rate else ""
        what = f"{self.name} {STAGES[stage]}".strip()
        self.meter.say(f"{what}: {done / 1e6:,.1f}{of} MB, {rate / 1e6:.2f} MB/s{left}")


def _bars():
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
