"""One GPU a job: a lease on a device by file locks, which the system releases when the process dies, kill -9 included.

Snakemake counts GPUs but assigns none; two jobs that it starts together would both land on device 0. A job takes a
lease first, and sees only its own device through `CUDA_VISIBLE_DEVICES`. A timing job holds its device alone;
training jobs may share one where the study says `jobs_per_device`.

Each device has a gate and `SLOTS` slots, each a lock file. A sharing job passes the gate and keeps one slot of the
first `jobs_per_device`. An exclusive job keeps the gate, so that nobody new enters, and all slots.
"""

import contextlib
import getpass
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from safmn.errors import UserError

SLOTS = 16
FOLDER = "SAFMN_LEASE_DIR"
LEASED = "SAFMN_LEASED_DEVICE"  # tells a child process that its parent holds the lease
VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL = 0.2  # seconds
DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg", "/dev/kfd")


@contextlib.contextmanager
def hold(
    exclusive: bool = True,
    jobs_per_device: int = 1,
    devices: Sequence[str] | None = None,
    timeout: float | None = None,
) -> Iterator[str | None]:
    """Waits for a free device, makes it the only visible one for this process and its children, and yields its name.

    To be entered before CUDA is touched: afterwards the driver no longer looks at `CUDA_VISIBLE_DEVICES`. Yields None
    at once where there is no device. Inside a process whose parent holds a lease, the parent's device is yielded.

    Args:
        exclusive: hold the device alone, as for timing.
        jobs_per_device: how many jobs that are not exclusive may share a device, 1 to 16.
        devices: names to choose from, as `CUDA_VISIBLE_DEVICES` writes them (index or UUID); by default those that a
            preset `CUDA_VISIBLE_DEVICES` leaves visible, or all.
        timeout: seconds to wait; None waits as long as it takes.

    Raises:
        UserError: no device came free in time, or `jobs_per_device` is out of range.
    """
    if not 1 <= jobs_per_device <= SLOTS:
        raise UserError(f"jobs_per_device is {jobs_per_device}: give 1 to {SLOTS}")
    inherited = os.environ.get(LEASED)
    if inherited is not None and os.environ.get(VISIBLE) == inherited:
        yield inherited
        return
    choices = visible_devices() if devices is None else {name: name for name in devices}
    if not choices:
        yield None
        return
    _must_be_early()
    before = {name: os.environ.get(name) for name in (VISIBLE, LEASED)}
    with contextlib.ExitStack() as kept:
        device = _wait(kept, choices, exclusive or jobs_per_device == 1, jobs_per_device, timeout)
        os.environ[VISIBLE] = os.environ[LEASED] = device
        try:
            yield device
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def share(named: str | None) -> contextlib.AbstractContextManager[str | None]:
    """`hold` of one of the devices that are there, beside other jobs that share it; of none for who names a device.

    Args:
        named: the device that was asked for, as `--device` has it; None leaves the choice.
    """
    return contextlib.nullcontext() if named else hold(exclusive=False, jobs_per_device=SLOTS)


def visible_devices() -> dict[str, str]:
    """Devices that this process may use: those of a preset `CUDA_VISIBLE_DEVICES`, else all.

    Returns:
        The name as `CUDA_VISIBLE_DEVICES` has it -> the card that it stands for (its UUID where known). Locks go by
        card: a UUID is the same in every job, an index need not be, where a scheduler hides the other cards.
    """
    known = _installed()
    preset = os.environ.get(VISIBLE)
    if preset is None:
        return {uuid: uuid for uuid in known.values()}
    chosen = {}
    for name in (name.strip() for name in preset.split(",")):
        # As the driver reads it: the list ends at the first name that is no device, such as -1 or nothing.
        if not name or name.startswith("-") or (name.isdigit() and known and name not in known):
            break
        chosen[name] = known.get(name, name)
    return chosen


def folder() -> Path:
    """The user's folder of locks: the one that SAFMN_LEASE_DIR names, or one in the folder for temporary files."""
    chosen = os.environ.get(FOLDER)
    path = Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"safmn-lease-{_user()}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the lease folder {path} cannot be made ({error.strerror}): set {FOLDER}") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"the lease folder {path} cannot be written: set {FOLDER} to one that can")
    return path


def _wait(
    kept: contextlib.ExitStack, choices: dict[str, str], exclusive: bool, jobs_per_device: int, timeout: float | None
) -> str:
    deadline = None if timeout is None else time.monotonic() + timeout
    told = False
    gate = _Gate()
    try:
        while True:
            for name, card in choices.items():
                if exclusive and _take_alone(kept, card, gate):
                    return name
                if not exclusive and _take_slot(kept, card, jobs_per_device):
                    return name
            if deadline is not None and time.monotonic() >= deadline:
                raise UserError(
                    f"no device came free in {timeout:g} s ({', '.join(choices)}; locks in {folder()}): wait for the "
                    "other jobs, or run fewer"
                )
            if not told:
                print(f"waiting for a device: {', '.join(choices)} in use (locks in {folder()})", file=sys.stderr)
                told = True
            time.sleep(POLL)
    finally:
        gate.release()


class _Gate:
    """The one gate that a waiting exclusive job keeps shut, so that sharing jobs cannot overtake it for ever."""

    def __init__(self) -> None:
        self.card: str | None = None
        self.lock: FileLock | None = None

    def release(self) -> None:
        if self.lock is not None:
            self.lock.release()
        self.card = self.lock = None


def _take_alone(kept: contextlib.ExitStack, card: str, waiting: _Gate) -> bool:
    held_already = waiting.card == card
    gate = waiting.lock if held_already else _try(card, "gate")
    if gate is None:
        return False
    with contextlib.ExitStack() as slots:
        for index in range(SLOTS):
            slot = _try(card, f"slot{index}")
            if slot is None:
                break
            slots.callback(slot.release)
        else:
            kept.callback(gate.release)
            kept.push(slots.pop_all())
            if held_already:
                waiting.card = waiting.lock = None  # now part of the lease
            return True
    if waiting.lock is None:
        waiting.card, waiting.lock = card, gate
    elif not held_already:
        gate.release()
    return False


def _take_slot(kept: contextlib.ExitStack, card: str, jobs_per_device: int) -> bool:
    gate = _try(card, "gate")
    if gate is None:
        return False
    try:
        for index in range(jobs_per_device):
            slot = _try(card, f"slot{index}")
            if slot is not None:
                kept.callback(slot.release)
                return True
    finally:
        gate.release()
    return False


def _try(card: str, part: str) -> FileLock | None:
    safe = "".join(character if character.isalnum() or character in "-_" else "_" for character in card)
    lock = FileLock(folder() / f"{safe}.{part}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def _installed() -> dict[str, str]:
    """Index -> UUID of the devices in this machine, asked without starting CUDA in this process; empty if none."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return _counted()
    pairs = (line.split(",") for line in answer.splitlines() if line.count(",") == 1)
    return {index.strip(): uuid.strip() for index, uuid in pairs}


def _counted() -> dict[str, str]:
    """Index -> index, where no `nvidia-smi` answers; empty, without importing torch, where there is no driver."""
    if sys.platform == "linux" and not any(Path(file).exists() for file in DRIVERS):
        return {}
    # In a process of its own: counting starts the driver, which reads CUDA_VISIBLE_DEVICES once and for all.
    environment = {name: value for name, value in os.environ.items() if name != VISIBLE}
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()
    return {str(index): str(index) for index in range(int(answer) if answer.isdigit() else 0)}


def _must_be_early() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise RuntimeError("a lease must be taken before CUDA is initialised in this process")


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
