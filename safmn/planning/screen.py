"""What a run of Snakemake says about the study as a whole: an estimate first, progress meanwhile, the answer last.

Snakemake reports job by job. Who waits for a study wants one line: how much is trained, and when it will be done. At
the end, the last lines on the screen say where the tables are, what failed and why, or how to resume.
"""

import atexit
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from safmn import layout
from safmn.errors import one_line
from safmn.planning.wallclock import spoken
from safmn.study import Run, Study

INTERVAL = 60.0  # seconds between two lines of progress
ESTIMATE_LIMIT = 45.0  # seconds; an estimate that takes longer is not worth the wait
MIN_ESTIMATED = 500  # iterations; fewer are done before an estimate is
MAX_SHOWN = 4  # runs that one line names


class _Seen(NamedTuple):
    """A run as its files show it: its iterations, all that it shall do, and whether this Snakemake has finished it."""

    run: Run
    iteration: int
    total: int
    is_done: bool


class Screen(logging.Handler):
    """Watches one run of Snakemake, as a handler of its log.

    Args:
        study: the study.
    """

    def __init__(self, study: Study) -> None:
        super().__init__()
        self._study = study
        self._runs: Sequence[Run] = ()
        self._results = study.results
        self._failed: dict[str, str] = {}  # job -> reason
        self._stopped = False
        self._succeeded = False
        self._over = threading.Event()
        self._began, self._first = time.monotonic(), 0

    def begin(self, log: logging.Logger, jobs: int, runs: Sequence[Run], cores: int | None) -> None:
        """Print the estimate, and start to watch.

        Args:
            log: Snakemake's.
            jobs: the number of jobs.
            runs: the training runs among them.
            cores: the number of cores that Snakemake may use here; None if jobs run on other machines.
        """
        self._runs = runs
        self._results = self._study.results.absolute()  # Snakemake leaves the folder before the end
        iterations = sum(self._study.training_of(run.variant).iterations for run in runs)
        estimate = self._estimate(cores) if cores and iterations >= MIN_ESTIMATED else ""
        self._say(f"{self._study.name}: {jobs} jobs{estimate}")
        log.addHandler(self)
        atexit.register(self._end)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._note(number)
        self._began, self._first = time.monotonic(), sum(each.iteration for each in self._look())
        if self._runs:
            threading.Thread(target=self._report, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the reason of a failed job."""
        if getattr(getattr(record, "event", None), "name", "") == "JOB_ERROR":
            logs = [Path(str(file).split(" (")[0]) for file in getattr(record, "log", None) or ()]
            name = " ".join([str(getattr(record, "rule_name", "")), *(file.stem for file in logs)])
            self._failed[name] = next(filter(None, map(_last_line, logs)), "it left no message")

    def succeed(self) -> None:
        """Note that all jobs are done."""
        self._succeeded = True

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped Snakemake."""
        return self._stopped

    # --- before ---

    def _estimate(self, cores: int) -> str:
        command = [sys.executable, "-m", "safmn", "-q", "plan", str(self._study.results / layout.STUDY)]
        command += ["--estimate", "--cores", str(cores), "--runs", *(run.folder for run in self._runs)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=ESTIMATE_LIMIT, check=False, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired):
            return "; no estimate of their time: the calibration took too long"
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        text = one_line(lines[-1]) if lines else f"exit status {done.returncode}"
        return f", {text}" if done.returncode == 0 else f"; no estimate of their time: {text}"

    # --- meanwhile ---

    def _note(self, number: int) -> None:
        earlier = signal.getsignal(number)

        def handle(received: int, frame: FrameType | None) -> Any:
            self._stopped = True
            if callable(earlier):
                return earlier(received, frame)
            raise KeyboardInterrupt

        signal.signal(number, handle)

    def _report(self) -> None:
        shown = ""
        while not self._over.wait(INTERVAL):
            text = self.progress()
            if text != shown:
                self._say(text)
            shown = text

    def progress(self) -> str:
        """Return one line: runs done, runs that have a saved state, and the time that is left at the present rate."""
        seen = self._look()
        running = [
            f"{each.run.folder} {each.iteration:,}/{each.total:,}" for each in seen if 0 < each.iteration < each.total
        ]
        more = f" and {len(running) - MAX_SHOWN} more" if len(running) > MAX_SHOWN else ""
        parts = [f"{self._study.name}: {sum(each.is_done for each in seen)} of {len(seen)} runs trained"]
        parts += [f"under way {', '.join(running[:MAX_SHOWN])}{more}"] if running else []
        now, total = sum(each.iteration for each in seen), sum(each.total for each in seen)
        if now > self._first:
            rate = (now - self._first) / (time.monotonic() - self._began)
            parts.append(f"about {spoken((total - now) / rate)} of training left")
        return "; ".join(parts)

    def _look(self) -> list[_Seen]:
        """Look once at the files of every run, as far as they tell without being read."""
        seen = []
        for run in self._runs:
            total, is_done = self._study.training_of(run.variant).iterations, self._is_done(run)
            seen.append(_Seen(run, total if is_done else self._saved(run), total, is_done))
        return seen

    def _is_done(self, run: Run) -> bool:
        try:  # the record of an earlier training is there until the new one is done
            written = self._folder(run).joinpath(layout.RUN).stat().st_mtime
        except OSError:
            return False
        return written > time.time() - (time.monotonic() - self._began)

    def _saved(self, run: Run) -> int:
        """Return the iteration of a run's last saved state; 0 without one."""
        states = self._folder(run).joinpath(layout.STATE).glob("iteration-*.state")
        return max((int(match[0]) for state in states if (match := re.search("[0-9]+", state.name))), default=0)

    def _folder(self, run: Run) -> Path:
        return self._results / layout.run(run.variant, run.scale, run.seed)

    # --- at the end ---

    def _end(self) -> None:
        self._over.set()
        for line in self.answer():
            self._say(line)

    def answer(self) -> list[str]:
        """Return the last lines on the screen."""
        page = self._study.results / layout.PAGE
        if self._succeeded:
            # There is no page after a single target, such as one variant.
            is_there = (self._results / layout.PAGE).exists()
            return [f"Tables: {page.parent}/tables/   page to read: {page}"] if is_there else []
        if self._stopped:
            left = [each for each in self._look() if each.iteration and not each.is_done]
            saved = [f"{each.run.folder} at iteration {each.iteration:,}" for each in left]
            more = f" and {len(saved) - MAX_SHOWN} more" if len(saved) > MAX_SHOWN else ""
            what = f"saved {', '.join(saved[:MAX_SHOWN])}{more}; " if saved else ""
            return [f"{self._study.name}: stopped; {what}the same command resumes"]
        lines = [f"{self._study.name}: failed: {name}: {reason}" for name, reason in self._failed.items()]
        return [*lines, "What was finished is kept; the same command does the rest."] if lines else []

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _last_line(file: Path) -> str:
    """Return the last line of a job's log; "" if there is none."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return one_line(lines[-1])[:500] if lines else ""
