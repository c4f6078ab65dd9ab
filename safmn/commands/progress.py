"""Progress on the terminal for work that takes more than two seconds."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

PATIENCE = 2.0  # seconds before progress is shown
INTERVAL = 30.0  # seconds between lines where the output is a file


class Progress:
    """A context manager, called with (done, total): a bar with ETA on a terminal, lines in a log.

    Everything goes to stderr, since stdout carries the results.

    Args:
        title: what is done.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: Bar | None = None
        self._task: TaskID | None = None
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
        """Show that `done` of `total` pieces of work are done."""
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif now >= self._next and done < total:
            if sys.stderr.isatty():
                self._start_bar(done, total)
            else:
                left = (now - self._started) / max(done, 1) * (total - done)
                if left > PATIENCE:
                    print(f"{self.title}: {done} of {total}, {left:.0f} s left", file=sys.stderr, flush=True)
                    self._next = now + INTERVAL

    def _start_bar(self, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        # rich estimates the time from steps that it has seen; the steps before it started count as done.
        self._task = self._bar.add_task(self.title, total=total, completed=done)
        self._bar.start()
