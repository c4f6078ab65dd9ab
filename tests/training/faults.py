"""A training command with a fault planted in it: where it kills itself (SIGKILL), or what the system refuses it.

Imported by the server that forks these processes, so that each starts with torch loaded.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch._dynamo  # what a training loads on its way, loaded once before the forks
import torch.utils.tensorboard  # noqa: F401

from safmn import cli, files
from safmn.commands import train as command  # noqa: F401
from safmn.cost import complexity  # noqa: F401
from safmn.training import record, state, validation
from safmn.training.step import TrainStep


def main(arguments: list[str], variants: str, fault: tuple[str, int] | None) -> None:
    """Runs the command and exits with its status."""
    os.environ["SAFMN_ABLATIONS"] = variants
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    log = os.open(
        Path(arguments[arguments.index("--out") + 1]).with_suffix(".log"), os.O_CREAT | os.O_APPEND | os.O_WRONLY
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    PLACE.append(Path(arguments[arguments.index("--out") + 1]).with_suffix(".pause"))
    if fault is not None:
        FAULTS[fault[0]](fault[1])
    sys.exit(cli.main(arguments))


PLACE: list[Path] = []  # the folder in which a process that pauses says so, and is told to continue


def kill() -> None:
    """What no handler and no `finally` sees."""
    os.kill(os.getpid(), signal.SIGKILL)


def _on_call(owner: Any, name: str, number: int, before: bool = True) -> None:
    """Kills at call `number` (from 1) of a function, before or after what it does."""
    original = getattr(owner, name)
    calls = 0

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if before and calls == number:
            kill()
        result = original(*args, **kwargs)
        if calls == number:
            kill()
        return result

    setattr(owner, name, wrapper)


def _half_written(number: int) -> None:
    """Kills when half of the bytes of save `number` are on disk under their temporary name."""
    original = Path.write_bytes
    calls = 0

    def wrapper(path: Path, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == number:
            original(path, data[: len(data) // 2])
            kill()
        return original(path, data)

    Path.write_bytes = wrapper


def _during_final_files(number: int) -> None:
    """Kills before the rename of final file `number`: best, last, last_raw, history, run.json."""
    original = record.leave

    def leave(*args: Any) -> Any:
        _on_call(Path, "replace", number)
        return original(*args)

    record.leave = leave


def _full_disk(number: int) -> None:
    """Refuses save `number` and the ones after it."""
    original = Path.write_bytes
    calls = 0

    def wrapper(path: Path, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return original(path, data)

    Path.write_bytes = wrapper


def _jumping_clock(number: int) -> None:
    """Both clocks of the system leap: the wall clock by years, back and forth, at every reading."""
    original, calls = time.time, 0

    def leap() -> float:
        nonlocal calls
        calls += 1
        return original() + (-1) ** calls * number

    time.time = leap
    time.time_ns = lambda: int(leap() * 1e9)


def _pause(number: int) -> None:
    """Waits before step `number` until it is told to continue."""
    original, calls, place = TrainStep.__call__, 0, PLACE[0]

    def wrapper(self: TrainStep, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            place.mkdir()
            while not (place / "go").exists():
                time.sleep(0.01)
        return original(self, *args)

    TrainStep.__call__ = wrapper


def _slowly(number: int) -> None:
    """Iterations of at least `number` milliseconds, so that a kill may find the run in the middle."""
    original = TrainStep.__call__

    def wrapper(self: TrainStep, *args: Any) -> Any:
        time.sleep(number / 1e3)
        return original(self, *args)

    TrainStep.__call__ = wrapper


FAULTS: dict[str, Callable[[int], None]] = {
    "before step": lambda number: _on_call(TrainStep, "__call__", number),
    "after step": lambda number: _on_call(TrainStep, "__call__", number, before=False),
    "in validation": lambda number: _on_call(validation, "rgb_psnr", number),
    "half a state": _half_written,
    "before a state's sync": lambda number: _on_call(os, "fsync", number),
    "before a state's rename": lambda number: _on_call(Path, "replace", number),
    "after a state's rename": lambda number: _on_call(Path, "replace", number, before=False),
    "after a save": lambda number: _on_call(state.StateFolder, "save", number, before=False),
    "before a final file": _during_final_files,
    "full disk": _full_disk,
    "jumping clock": _jumping_clock,
    "pause before step": _pause,
    "slowly": _slowly,
}
assert files.atomic  # what the faults above strike
