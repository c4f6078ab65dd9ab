"""One GPU for each job: a lease on a device by file locks, which the system releases when the process dies.

Snakemake counts GPUs but assigns none: two jobs that it starts together would both use device 0. So a job takes a lease
first, and sees its own device alone through `CUDA_VISIBLE_DEVICES`. A timing job has its device for itself; training
jobs share one if the study says so (`jobs_per_device`).

Each device has a gate and SLOTS slots, each a lock file. A sharing job passes the gate and keeps one of the first
`jobs_per_device` slots of the device with the fewest jobs. An exclusive job keeps the gate, so that no other job
enters, and all slots.

Commands use `share` or `alone`, which also check that torch can use the device: otherwise a job on a GPU machine would
end without an error, days later, on the CPU.
"""

import contextlib
import getpass
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from safmn import locks
from safmn.errors import UserError

SLOTS = 16
FOLDER = "SAFMN_LEASE_DIR"
LEASED = "SAFMN_LEASED_DEVICE"  # tells a child process that its parent holds the lease
VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
"""Without it CUDA gives the fastest card the index 0, while `nvidia-smi`, which the leases ask, goes by the bus."""
BY_BUS = "PCI_BUS_ID"
DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg", "/dev/kfd")
POLL = 0.2  # seconds
_log = logging.getLogger(__name__)
ON_CPU = "compute on the CPU with --device cpu (in Snakemake: set CUDA_VISIBLE_DEVICES to nothing)"


@contextlib.contextmanager
def hold(
    exclusive: bool = True,
    jobs_per_device: int = 1,
    devices: Sequence[str] | None = None,
    timeout: float | None = None,
) -> Iterator[str | None]:
    """Wait for a free device, and make it the only visible one for this process and its children.

    Enter it before CUDA is initialised: afterwards the driver ignores `CUDA_VISIBLE_DEVICES`.

    Args:
        exclusive: have the device alone, as for timing.
        jobs_per_device: how many jobs that are not exclusive may share a device, 1 to 16.
        devices: names to choose from, as `CUDA_VISIBLE_DEVICES` writes them (index or UUID); by default those that a
            preset `CUDA_VISIBLE_DEVICES` leaves visible, or all.
        timeout: seconds to wait; None waits as long as it takes.

    Yields:
        The device's name; that of the parent process if it has a lease; None at once if there is no device.

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
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise RuntimeError("a lease must be taken before CUDA is initialised in this process")
    with contextlib.ExitStack() as kept:
        device = _wait(kept, choices, exclusive or jobs_per_device == 1, jobs_per_device, timeout)
        _log.debug("leased device %s", device)
        with _visible(device):
            os.environ[LEASED] = device
            yield device


@contextlib.contextmanager
def share(
    named: str | None = None, jobs_per_device: int = SLOTS, instead: str = ON_CPU, exclusive: bool = False
) -> Iterator[str | None]:
    """Hold a device beside other jobs, for a command; no lease is taken for a device that the user names.

    Args:
        named: the value of `--device`; None and "cuda" leave the choice, "cpu" and "cuda:1" name one.
        jobs_per_device: as for `hold`.
        instead: what a user can do whose torch cannot use the device, for the error.
        exclusive: as for `hold`.

    Yields:
        As `hold`.

    Raises:
        UserError: as `hold`; or torch cannot use the device.
    """
    leased: contextlib.AbstractContextManager[str | None]
    if named in (None, "cuda"):
        leased = hold(exclusive, jobs_per_device)
    else:
        # On the CPU hide all cards: torch's Adam, for one, opens a context on any card that it sees.
        leased = _visible("") if named == "cpu" else contextlib.nullcontext()
    with leased as device:
        require_usable(device, instead)
        yield device


def alone(named: str | None = None) -> contextlib.AbstractContextManager[str | None]:
    """Hold a device as `share`, but alone, as for timing."""
    return share(named, exclusive=True)


@contextlib.contextmanager
def _visible(devices: str) -> Iterator[None]:
    """Show these devices alone to this process and its children, unless CUDA has been initialised before."""
    before = {name: os.environ.get(name) for name in (VISIBLE, LEASED, ORDER)}
    os.environ[VISIBLE] = devices
    os.environ[ORDER] = BY_BUS
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def require_usable(device: str | None, instead: str = ON_CPU) -> None:
    """Raise UserError if torch cannot use the leased device; it names torch, its CUDA and the driver.

    Call it under the lease: asking torch makes the driver read `CUDA_VISIBLE_DEVICES`, once and for all. It opens no
    context on the device.

    Args:
        device: what `hold` yielded; None is no device, and no error.
        instead: what a user can do.
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
    version = re.search(r"\d+(\.\d+)+", nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader")[1])
    driver = version[0] if version else "of unknown version"
    reason = f" ({str(caught[-1].message).splitlines()[0]})" if caught else ""
    raise UserError(
        f"device {device} is there, but torch {torch.__version__} ({build}) cannot use it with driver {driver}"
        f"{reason}: install a torch built for this driver, or {instead}"
    )


def visible_devices() -> dict[str, str]:
    """Return the devices that this process may use: those of a preset `CUDA_VISIBLE_DEVICES`, else all.

    Returns:
        The name as `CUDA_VISIBLE_DEVICES` has it -> the card that it stands for (its UUID if known). Locks have names
        of cards: a UUID is the same in every job; an index is not, where a scheduler hides the other cards.
    """
    installed = _installed()
    preset = os.environ.get(VISIBLE)
    if preset is None:
        return {uuid: uuid for uuid in installed.values()}
    chosen = {}
    for name in (name.strip() for name in preset.split(",")):
        card = _card(name, installed)
        # As the driver reads it, the list ends at the first name that is no device: -1, `NoDevFiles` or nothing.
        if card is None:
            break
        chosen[name] = card
    return chosen


def _card(name: str, installed: dict[str, str]) -> str | None:
    """Return the card of a name in `CUDA_VISIBLE_DEVICES`: an index, a UUID, the beginning of one, a part of a card."""
    if not installed or not name:
        return None
    if name in installed:
        return installed[name]
    if name.startswith("MIG-"):  # a part of a card is leased by itself
        return name
    fitting = {card for card in installed.values() if name.startswith("GPU-") and card.startswith(name)}
    if name.startswith("GPU-") and not any(card.startswith("GPU-") for card in installed.values()):
        return name  # there are cards, but their UUIDs are unknown
    return fitting.pop() if len(fitting) == 1 else None


def folder() -> Path:
    """Return the folder of locks: that of the environment variable SAFMN_LEASE_DIR, or one for temporary files."""
    chosen = os.environ.get(FOLDER)
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    path = Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"safmn-lease-{user}"
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
    """Wait for a device; its locks are released with `kept`. Returns its name."""
    deadline = None if timeout is None else time.monotonic() + timeout
    gates: dict[str, FileLock] = {}
    names, is_first = ", ".join(choices), True
    try:
        while True:
            taken = _take_alone(choices, gates) if exclusive else _take_slot(choices, jobs_per_device)
            if taken is not None:
                for lock in taken[1]:
                    kept.callback(lock.release)
                _sign(taken[1][0])
                return taken[0]
            if deadline is not None and time.monotonic() >= deadline:
                raise UserError(
                    f"no device came free in {timeout:g} s ({names}; locks in {folder()}): wait for the other jobs, "
                    "or run fewer"
                )
            if is_first:
                _log.warning("waiting for a device: %s in use (locks in %s)", names, folder())
                is_first = False
            time.sleep(POLL)
    finally:
        _release(gates.values())


def _take_alone(choices: dict[str, str], gates: dict[str, FileLock]) -> tuple[str, list[FileLock]] | None:
    """Take the gate and all slots of the first device that is free; returns its name and the locks.

    Args:
        choices: name -> card.
        gates: card -> its gate, of one device at most. A job that waits keeps it locked from one attempt to the next,
            so that sharing jobs do not overtake it for ever.
    """
    for name, card in choices.items():
        gate = gates.pop(card, None) or locks.acquire(_file(card, "gate"), timeout=0)
        if gate is None:
            continue
        slots = [lock for slot in _slots(card) if (lock := locks.acquire(slot, timeout=0))]
        if len(slots) == SLOTS:
            return name, [gate, *slots]
        _release(slots)
        if gates:
            gate.release()
        else:
            gates[card] = gate
    return None


def _take_slot(choices: dict[str, str], jobs_per_device: int) -> tuple[str, list[FileLock]] | None:
    """Take one slot of the device with the fewest jobs; returns its name and the lock."""
    with locks.hold(folder() / "choice.lock"):  # one job after the other chooses, so that all see what is taken
        taken = {
            name: sum(map(locks.is_held, _slots(card)))
            for name, card in choices.items()
            if not locks.is_held(_file(card, "gate"))
        }
        for name in sorted(taken, key=taken.__getitem__):
            for slot in _slots(choices[name])[:jobs_per_device]:
                if lock := locks.acquire(slot, timeout=0):
                    return name, [lock]
    return None


def _slots(card: str) -> list[Path]:
    return [_file(card, f"slot{index}") for index in range(SLOTS)]


def _file(card: str, part: str) -> Path:
    safe = "".join(character if character.isalnum() or character in "-_" else "_" for character in card)
    return folder() / f"{safe}.{part}.lock"


def _sign(lock: FileLock) -> None:
    """Write beside a lock whose it is now. For people only: the lock counts, whatever is written there."""
    with contextlib.suppress(OSError):
        words = " ".join([Path(sys.argv[0]).name, *sys.argv[1:3]])
        Path(lock.lock_file).with_suffix(".owner").write_text(f"process {os.getpid()}, {words[:80]}", encoding="utf-8")


def holders(card: str) -> list[str]:
    """Return who holds leases on a card (a value of `visible_devices()`), a phrase each."""
    gate = _file(card, "gate")
    held, is_closed = list(filter(locks.is_held, _slots(card))), locks.is_held(gate)
    if is_closed and len(held) == SLOTS:
        return [f"alone by {_owner(gate)}"]
    return [f"shared by {_owner(slot)}" for slot in held] + ["a job waits to have it alone"] * is_closed


def _owner(lock: Path) -> str:
    try:
        return lock.with_suffix(".owner").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return "a job"


def _release(taken: Iterable[FileLock]) -> None:
    for lock in taken:
        lock.release()


def _installed() -> dict[str, str]:
    """Return index -> UUID of the devices in this machine, without initialising CUDA in this process."""
    works, answer = nvidia_smi("--query-gpu=index,uuid", "--format=csv,noheader")
    if not works:
        # There are cards, but the parts of the driver have different versions: no program can use them before a reboot.
        return {"0": "0"} if "version mismatch" in answer else _counted()
    pairs = (line.split(",") for line in answer.splitlines() if line.count(",") == 1)
    return {index.strip(): uuid.strip() for index, uuid in pairs}


def _counted() -> dict[str, str]:
    """Return index -> index, for machines without `nvidia-smi`; empty, without importing torch, without a driver."""
    if sys.platform == "linux" and not any(Path(file).exists() for file in DRIVERS):
        return {}
    # In another process: counting starts the driver, which reads CUDA_VISIBLE_DEVICES once and for all.
    environment = {name: value for name, value in os.environ.items() if name != VISIBLE}
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()
    return {str(index): str(index) for index in range(int(answer) if answer.isdigit() else 0)}


def nvidia_smi(*options: str) -> tuple[bool, str]:
    """Run `nvidia-smi`; return whether it works, and what it prints."""
    try:
        done = subprocess.run(["nvidia-smi", *options], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return False, ""
    return done.returncode == 0, done.stdout + done.stderr
