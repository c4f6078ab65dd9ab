"""The class of a machine, for provenance: CPU, cores, memory, operating system, Python; no name of it or of a user.

Imports no torch, so that it can be told where torch is broken.
"""

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Return `python`, `platform`, `os`, `cpu`, `cores` (usable by this process) and `memory_mib`."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "os": _operating_system(),
        "cpu": _cpu_model(),
        "cores": cores(),
        "memory_mib": _memory() // 2**20,
    }


@cache
def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _memory() -> int:
    """Return the bytes of the machine's memory; 0 if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def cores() -> int:
    """Return how many cores this process may use."""
    # A job under a scheduler may use fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
