"""Progress of long work on stderr: bars on a terminal, a line now and then in a log, with rate and time left.

stdout is for results. `safmn -q` shows no progress.
"""

import logging
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress

PATIENCE = 2.0  # seconds before anything is shown
INTERVAL = 30.0  # seconds between two lines of one task in a log
MAX_LEFT = 1e8  # seconds that are shown as a time
_log = logging.getLogger(__name__)


class Progress:
    """A context manager around one task, or around several that go on at the same time, in any threads.

    `progress(done, total)` reports on the task that has its name; `progress.task(name)` adds another one.

    Args:
        name: what is done, such as "evaluating imdn"; "" if there are only added tasks.
        unit: what is counted, such as "images"; shown with the rate.
        interval: seconds between two lines in a log.
    """

    def __init__(self, name: str = "", unit: str = "", interval: float = INTERVAL) -> None:
        self.name = name
        self.unit = unit
        self.interval = interval
        self.bars: rich.progress.Progress | None = None
        self._started = time.monotonic()
        self._task: Task | None = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty() and _log.isEnabledFor(logging.INFO):
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bars

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[state]}"))
            self.bars = Bars(*columns, console=Console(stderr=True), transient=True)
        self._task = self.task(self.name) if self.name else None
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None and self.bars.live.is_started:
            self.bars.stop()

    def __call__(self, done: float, total: float | None, note: str = "") -> None:
        """Report on the task that has the progress's name; arguments as for `Task`."""
        if self._task is not None:
            self._task(done, total, note)

    def task(self, name: str, start: float = 0) -> "Task":
        """Add a task, of which `start` was done before; a number with a fraction is shown with one digit of it."""
        return Task(self, name, start)

    def show_bars(self) -> bool:
        """Say whether bars are shown; start them when the patience is over."""
        if self.bars is not None and not self.bars.live.is_started and time.monotonic() > self._started + PATIENCE:
            self.bars.start()
        return self.bars is not None


class Task:
    """One task of a `Progress`, called with how much of it is done.

    Args:
        progress: the progress that it belongs to.
        name: what is done.
        start: how much was done before.
    """

    def __init__(self, progress: Progress, name: str, start: float = 0) -> None:
        self._progress = progress
        self._bar: rich.progress.TaskID | None = None
        self.restart(name, start)

    def restart(self, name: str, start: float = 0) -> None:
        """Begin another stage, with a rate of its own."""
        self._name, self._first = name, start
        self._since = time.monotonic()
        self._next = self._since + min(PATIENCE, self._progress.interval)
        if self._progress.bars is not None:
            if self._bar is not None:
                self._progress.bars.remove_task(self._bar)
            self._bar = self._progress.bars.add_task(name, total=None, state="")

    def __call__(self, done: float, total: float | None, note: str = "") -> None:
        """Show how much is done.

        Args:
            done: how much, in the unit of the progress.
            total: how much there is to do; None if that is not known.
            note: shown behind it. With a note, the end of the work is shown in a log, however early it comes.
        """
        now = time.monotonic()
        if self._progress.show_bars() and self._progress.bars is not None and self._bar is not None:
            self._progress.bars.update(self._bar, completed=done, total=total, state=self._state(done, total, note))
        elif (now >= self._next and done != total) or (done == total and note):
            self._next = now + self._progress.interval
            _log.info("%s: %s", self._name, self._state(done, total, note))

    def _state(self, done: float, total: float | None, note: str) -> str:
        rate = (done - self._first) / max(time.monotonic() - self._since, 1e-9)
        parts = [_number(done) if total is None else f"{_number(done)}/{_number(total)}"]
        parts.append(f"{rate:.2f} {self._progress.unit}/s".replace(" /", "/"))
        if total is not None:
            left = (total - done) / rate if rate > 0 else MAX_LEFT
            parts.append(f"ETA {timedelta(seconds=round(left)) if left < MAX_LEFT else '?'}")
        return "  ".join([*parts, *filter(None, [note])])


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:,.1f}"
