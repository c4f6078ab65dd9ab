"""Requests to stop a run: signals and its time limit."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The run was asked to stop; its state is saved, and the same command resumes it."""

    def __init__(self, iteration: int, number: int) -> None:
        super().__init__(f"stopped at iteration {iteration}; the state is saved, run the same command to resume")
        self.number = number


@contextmanager
def stop_signals(time_limit: float | None) -> Iterator[Callable[[], int | None]]:
    """Yield a function that returns the number of a signal once the run should stop, else None."""
    received: list[int] = []
    deadline = None if time_limit is None else time.monotonic() + time_limit

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    def should_stop() -> int | None:
        if deadline is not None and time.monotonic() >= deadline:
            return signal.SIGUSR1
        return received[0] if received else None

    watched = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield should_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
