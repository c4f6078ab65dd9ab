"""One GPU a job: a lease on a device by file locks, which the system releases when the process dies, kill -9 included.

Snakemake counts GPUs but assigns none; two jobs that it starts together would both land on device 0. A job takes a
lease first, and sees only its own device through `CUDA_VISIBLE_DEVICES`. A timing job holds its device alone;
training jobs may share one where the study says `jobs_per_device`.

Each device has a gate and `SLOTS` slots, each a lock file. A sharing job passes the gate and keeps one slot of the
first `jobs_per_device`, on the device with the fewest taken. An exclusive job keeps the gate, so that nobody new
enters, and all slots.

Commands take `share` or `alone`, which also make sure that torch can use what was leased: otherwise a job on a GPU
machine would end well, days later, having used the CPU.
"""

import contextlib
import getpass
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from safmn.errors import UserError

SLOTS = 16
FOLDER = "SAFMN_LEASE_DIR"
LEASED = "SAFMN_LEASED_DEVICE"  # tells a child process that its parent holds the lease
VISIBLE = "CUDA_VISIBLE_DEVICES"
DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg", "/dev/kfd")
POLL = 0.2  # seconds
ON_CPU = "compute on the CPU with --device cpu (in Snakemake: set CUDA_VISIBLE_DEVICES to nothing)"


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
    with contextlib.ExitStack() as kept:
        device = _wait(kept, choices, exclusive or jobs_per_device == 1, jobs_per_device, timeout)
        with _visible(device):
            os.environ[LEASED] = device
            yield device


@contextlib.contextmanager
def share(named: str | None = None, jobs_per_device: int = SLOTS, instead: str = ON_CPU) -> Iterator[str | None]:
    """`hold` of a device beside other jobs, for a command; of none for who names one (`cpu`, `cuda:1`).

    Args:
        named: the device that was asked for, as `--device` has it; None and `cuda` leave the choice.
        instead: what a user can do whose torch cannot use the device, for the error.

    Raises:
        UserError: as `hold`; or torch cannot use the device.
    """
    with _nothing(named) or hold(False, jobs_per_device) as device:
        require_usable(device, instead)
        yield device


@contextlib.contextmanager
def alone(named: str | None = None, instead: str = ON_CPU) -> Iterator[str | None]:
    """As `share`, but alone on the device, as for timing."""
    with _nothing(named) or hold(exclusive=True) as device:
        require_usable(device, instead)
        yield device


def _nothing(named: str | None) -> contextlib.AbstractContextManager[None] | None:
    """Return the context to enter instead of a lease if the user names a device; None if a device must be leased."""
    if named in (None, "cuda"):
        return None
    # On the CPU no card is to be seen: torch's Adam, for one, opens a context on whatever it sees.
    return _visible("") if named == "cpu" else contextlib.nullcontext()


@contextlib.contextmanager
def _visible(devices: str) -> Iterator[None]:
    """`devices` are all that this process and its children see, unless CUDA has been initialised before."""
    before = {name: os.environ.get(name) for name in (VISIBLE, LEASED)}
    os.environ[VISIBLE] = devices
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def require_usable(device: str | None, instead: str = ON_CPU) -> None:
    """UserError where a device was leased that torch cannot use, naming torch, its CUDA and the driver.

    To be called under the lease: asking torch makes the driver read `CUDA_VISIBLE_DEVICES`, once and for all. It opens
    no context on the device.
    """
    if device is None:
        return
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return
    built = torch.version.cuda or torch.version.hip
    build = f"CUDA {built}" if built else "a build for CPUs only"
    said = f" ({str(caught[-1].message).splitlines()[0]})" if caught else ""
    raise UserError(
        f"device {device} is there, but torch {torch.__version__} ({build}) cannot use it with driver {_driver()}"
        f"{said}: install a torch built for this driver, or {instead}"
    )


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
        card = _card(name, known)
        # As the driver reads it: the list ends at the first name that is no device, -1, `NoDevFiles` or nothing.
        if card is None:
            break
        chosen[name] = card
    return chosen


def _card(name: str, known: dict[str, str]) -> str | None:
    """The card that a name in `CUDA_VISIBLE_DEVICES` stands for: an index, a UUID or the beginning of one, a part."""
    if not known or not name:
        return None
    if name in known:
        return known[name]
    if name.startswith("MIG-"):  # a part of a card is leased by itself
        return name
    fitting = {card for card in known.values() if name.startswith("GPU-") and card.startswith(name)}
    if name.startswith("GPU-") and not any(card.startswith("GPU-") for card in known.values()):
        return name  # there are cards, and nobody who knows their UUIDs
    return fitting.pop() if len(fitting) == 1 else None


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
            if exclusive:
                taken = next((name for name, card in choices.items() if _take_alone(kept, card, gate)), None)
            else:
                taken = _take_slot(kept, choices, jobs_per_device)
            if taken is not None:
                return taken
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


def _take_slot(kept: contextlib.ExitStack, choices: dict[str, str], jobs_per_device: int) -> str | None:
    """One slot of the device with the fewest taken; jobs choose one after the other, so that all see what is taken."""
    with FileLock(folder() / "choice.lock"), contextlib.ExitStack() as looking:
        free: dict[str, dict[int, FileLock]] = {}
        for name, card in choices.items():
            gate = _try(card, "gate")
            if gate is None:
                continue
            looking.callback(gate.release)
            slots = {index: slot for index in range(SLOTS) if (slot := _try(card, f"slot{index}"))}
            for slot in slots.values():
                looking.callback(slot.release)
            if min(slots, default=SLOTS) < jobs_per_device:
                free[name] = slots
        if not free:
            return None
        name = max(free, key=lambda name: len(free[name]))  # of equals the first
        slot = free[name][min(free[name])]
        slot.acquire()  # once more, so that it stays when looking ends
        kept.callback(slot.release)
        return name


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
    except subprocess.CalledProcessError as error:
        # The cards are there, but the driver's parts are of different versions: nothing can use them until a restart.
        return {"0": "0"} if "version mismatch" in error.stdout + error.stderr else _counted()
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


def _driver() -> str:
    """The driver's version, or what is known of it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        answer = ""
    found = re.search(r"\d+(\.\d+)+", answer)
    return found[0] if found else "of unknown version"


def _must_be_early() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise RuntimeError("a lease must be taken before CUDA is initialised in this process")


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
