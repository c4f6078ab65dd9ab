"""Whether a process trains in a folder, found out without touching its lock.

Even trying the lock for a moment could turn away a run that starts at that moment, so the kernel's list of locks is
read instead. A run on another machine that shares the folder does not stand in that list: it is told by its event file,
which carries the machine's name, and by how fresh what it writes is.
"""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from safmn import layout
from safmn.training import state as states

LIST = Path("/proc/locks")
SIGN_OF_LIFE = 300.0  # seconds; scalars are flushed every two minutes


@dataclass(frozen=True)
class Holder:
    """A process that trains in a folder.

    Attributes:
        pid: its number, on its machine.
        machine: the other machine's name; "" if it runs here.
        seen: seconds since its last sign of life, where it runs elsewhere.
    """

    pid: int
    machine: str = ""
    seen: float = 0.0


def holder(run: Path, save_every: float) -> Holder | None:
    """The process that trains in the run's folder, None if there is none as far as can be seen from here.

    Args:
        run: the run's folder, with `state/` in it.
        save_every: seconds between its saved states.
    """
    try:
        lock = (run / layout.STATE / states.LOCK).stat()
    except OSError:
        return None
    owner = _owner(run)
    held = _held()
    if held is None:  # no such list on this system
        if owner is not None and _is_alive(owner):
            return Holder(owner)
    else:
        for pid, device, inode in held:
            # Some file systems show another device in the list than in `stat`; then the owner's number must agree.
            if inode == lock.st_ino and (device == lock.st_dev or pid == owner):
                return Holder(pid)
    machine = _machine(run, owner)
    if owner is None or machine in ("", socket.gethostname()):
        return None
    seen = max(0.0, time.time() - _last_sign(run))
    return Holder(owner, machine, seen) if seen < max(SIGN_OF_LIFE, 2 * save_every) else None


def _owner(run: Path) -> int | None:
    """The process that took the folder last."""
    try:
        return int((run / layout.STATE / states.OWNER).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _held() -> list[tuple[int, int, int]] | None:
    """(process, device, inode) of every flock that is held on this machine."""
    try:
        lines = LIST.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) < 6 or fields[1] != "FLOCK":  # a waiting one has "->" there
            continue
        try:
            major, minor, inode = fields[5].split(":")
            found.append((int(fields[4]), os.makedev(int(major, 16), int(minor, 16)), int(inode)))
        except ValueError:
            continue
    return found


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 asks and sends nothing
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _machine(run: Path, pid: int | None) -> str:
    """The machine of process `pid`, by its event file events.out.tfevents.<time>.<machine>.<pid>.<n>; "" if unknown."""
    for file in (run / layout.SCALARS).glob(f"events.out.tfevents.*.{pid}.*"):
        parts = file.name.split(".")
        if len(parts) > 6 and parts[-2] == str(pid):
            return ".".join(parts[4:-2])
    return ""


def _last_sign(run: Path) -> float:
    state = run / layout.STATE
    signs = [*state.glob("*.state"), state / states.OWNER, *(run / layout.SCALARS).glob("events.*")]
    times = []
    for file in signs:
        try:
            times.append(file.stat().st_mtime)
        except OSError:  # replaced meanwhile
            continue
    return max(times, default=0.0)
