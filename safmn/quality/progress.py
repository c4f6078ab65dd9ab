"""Progress on the terminal for work that takes more than two seconds."""

import sys
import time
from types import TracebackType

PATIENCE = 2.0  # seconds without a sign of life that nobody minds
EVERY = 30.0  # seconds between lines where the output is a file


class Progress:
    """Context manager, called with (done, total): a bar with ETA on a terminal, a line now and then in a log.

    Everything goes to stderr, since stdout carries the figures.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._bar = None
        self._task = None
        self._started = time.monotonic()
        self._next = self._started + PATIENCE

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif now >= self._next and done < total:
            if sys.stderr.isatty():
                self._start_bar(done, total)
            else:
                left = (now - self._started) / max(done, 1) * (total - done)
                if left > PATIENCE:
                    print(f"{self.what}: {done} of {total}, {left:.0f} s left", file=sys.stderr, flush=True)
                    self._next = now + EVERY

    def _start_bar(self, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        # rich estimates from the steps it saw itself; these are the first.
        self._task = self._bar.add_task(self.what, total=total, completed=done)
        self._bar.start()
