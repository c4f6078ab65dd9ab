"""The device that figures are made on: what it is (provenance) and how to time and watch it.

Time and memory are read through a small `Device`, so that the order of the calls (synchronise, mark, run, mark,
synchronise) can be tested with a device that only records them.
"""

import os
import platform
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch

from safmn.errors import UserError


class Device(Protocol):
    """What a measurement needs of a device. Times in milliseconds, memory in bytes."""

    kind: str
    torch_device: torch.device

    def synchronise(self) -> None:
        """Waits until all work given to the device is done."""

    def mark(self) -> Any:
        """A point in the device's stream of work; its time is known after the next `synchronise`."""

    def elapsed(self, start: Any, stop: Any) -> float:
        """Milliseconds between two marks."""


class Cpu:
    """The CPU: work is done when the call returns, so marks are readings of the clock."""

    kind = "cpu"
    torch_device = torch.device("cpu")

    def synchronise(self) -> None:
        """Nothing to wait for."""

    def mark(self) -> float:
        return time.perf_counter()

    def elapsed(self, start: float, stop: float) -> float:
        return (stop - start) * 1e3


class Cuda:
    """The current CUDA device (the only visible one, under a lease); marks are CUDA events."""

    kind = "cuda"
    torch_device = torch.device("cuda")

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise UserError(
                f"no CUDA device is usable here (torch {torch.__version__}): run this on a machine that has one, or "
                "leave the measurement out"
            )

    def synchronise(self) -> None:
        torch.cuda.synchronize()

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed(self, start: torch.cuda.Event, stop: torch.cuda.Event) -> float:
        return start.elapsed_time(stop)

    def empty(self) -> None:
        """Gives unused cached blocks back to the driver."""
        torch.cuda.empty_cache()

    def reset_peak(self) -> None:
        """Forgets the highest allocation so far."""
        torch.cuda.reset_peak_memory_stats()

    def allocated(self) -> int:
        """Bytes in live tensors."""
        return torch.cuda.memory_allocated()

    def peak(self) -> int:
        """Highest `allocated` since `reset_peak`, in bytes: the paper's `torch.cuda.max_memory_allocated()`."""
        return torch.cuda.max_memory_allocated()


def present(kind: str | None = None) -> Cuda | Cpu:
    """The device called "cuda" or "cpu"; CUDA where there is one, else the CPU, if None. UserError without CUDA."""
    return Cuda() if kind == "cuda" or (kind is None and torch.cuda.is_available()) else Cpu()


def describe(kind: str | None = None) -> dict[str, Any]:
    """Provenance of a figure made on `kind` ("cuda", "cpu", "meta"; the present device if None).

    Device, driver, versions, flags that change speed or precision, threads, and the class of the host (CPU, cores,
    memory, operating system, Python), not its name or a user's. CUDA's fields are present for CUDA figures only, so
    that nothing made on a CPU looks like a GPU figure. `safmn.provenance` adds what is not about the device.
    """
    if kind is None:
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    record: dict[str, Any] = {
        "device": kind,
        "torch": str(torch.__version__),  # a class of its own, which a safe loader of states refuses
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "os": _operating_system(),
        "cpu": _cpu_model(),
        "cores": _cores(),
        "memory_mib": _memory() // 2**20,
        "threads": torch.get_num_threads(),
    }
    if kind == "cpu":
        record["mkldnn"] = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        cudnn = torch.backends.cudnn
        record |= {
            "gpu": properties.name,
            "gpu_memory_mib": properties.total_memory // 2**20,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": cudnn.version(),
            "cudnn_enabled": cudnn.enabled,
            "cudnn_benchmark": cudnn.benchmark,
            "cudnn_deterministic": cudnn.deterministic,
            "cudnn_tf32": cudnn.allow_tf32,
            "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
            **clocks(),
        }
    return record


def clocks() -> dict[str, Any]:
    """Driver, clocks (MHz), temperature (degrees Celsius) and power limit (W) of the current CUDA device, now.

    Empty where `nvidia-smi` is missing or does not answer: a figure without them is still a figure.
    """
    fields = {
        "driver": "driver_version",
        "clock_sm_mhz": "clocks.sm",
        "clock_sm_max_mhz": "clocks.max.sm",
        "clock_memory_mhz": "clocks.mem",
        "temperature_c": "temperature.gpu",
        "power_limit_w": "power.limit",
    }
    uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    command = ["nvidia-smi", f"--id=GPU-{uuid.removeprefix('GPU-')}", f"--query-gpu={','.join(fields.values())}"]
    try:
        answer = subprocess.run(
            [*command, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in answer.strip().splitlines()[0].split(",")] if answer.strip() else []
    return dict(zip(fields, map(_number, values), strict=False))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


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
    """Bytes of the machine's memory; 0 where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _cores() -> int:
    # A job under a scheduler may use fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
