"""The device of a measurement: its description for provenance, and its clock and memory.

A measurement reads time and memory through a small `Device`, so that a test can check the order of the calls
(synchronise, mark, run, mark, synchronise) with a device that only records them.
"""

import os
import time
from typing import Any, Protocol

import torch

from safmn.device import host
from safmn.device.lease import nvidia_smi
from safmn.errors import UserError


class Device(Protocol):
    """What a measurement needs of a device. Times are in milliseconds, memory in bytes."""

    kind: str
    torch_device: torch.device

    def synchronise(self) -> None:
        """Wait until the device has done all its work."""

    def mark(self) -> Any:
        """Mark a point in the stream of work; its time is known after the next `synchronise`."""

    def elapsed(self, start: Any, stop: Any) -> float:
        """Return the milliseconds between two marks."""


class Cpu:
    """The CPU. Work is done when the call returns, so marks are times in seconds."""

    kind = "cpu"
    torch_device = torch.device("cpu")

    def synchronise(self) -> None:
        """Do nothing: there is nothing to wait for."""

    def mark(self) -> Any:
        """Return the time in seconds."""
        return time.perf_counter()

    def elapsed(self, start: Any, stop: Any) -> float:
        """Return the milliseconds between two marks."""
        return float(stop - start) * 1e3


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
        """Wait until the device has done all its work."""
        torch.cuda.synchronize()

    def mark(self) -> Any:
        """Record an event in the stream of work."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed(self, start: Any, stop: Any) -> float:
        """Return the milliseconds between two marks."""
        return float(start.elapsed_time(stop))

    def empty(self) -> None:
        """Return unused cached blocks to the driver."""
        torch.cuda.empty_cache()

    def reset_peak(self) -> None:
        """Reset `peak` to what is allocated now."""
        torch.cuda.reset_peak_memory_stats()

    def allocated(self) -> int:
        """Return the bytes in live tensors."""
        return torch.cuda.memory_allocated()

    def peak(self) -> int:
        """Return the maximum of `allocated` since `reset_peak`: the paper's `torch.cuda.max_memory_allocated()`."""
        return torch.cuda.max_memory_allocated()


def present(kind: str | None = None) -> Cuda | Cpu:
    """Return the device "cuda" or "cpu"; for None, CUDA if there is one. UserError if "cuda" is not usable."""
    return Cuda() if kind == "cuda" or (kind is None and torch.cuda.is_available()) else Cpu()


def describe(kind: str | None = None) -> dict[str, Any]:
    """Describe a device and its host, as provenance of a result. `safmn.provenance` adds code and data.

    Args:
        kind: "cuda", "cpu" or "meta"; None for CUDA if there is one, else the CPU.

    Returns:
        Device, driver, versions, flags that change speed or precision, threads, and the class of the host (CPU, cores,
        memory, operating system, Python), not its name or a user's. Only CUDA has CUDA's fields, so that no result of
        a CPU looks like one of a GPU.
    """
    if kind is None:
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    record: dict[str, Any] = {
        "device": kind,
        "torch": str(torch.__version__),  # its own class is refused by the safe loader of states
        **host.describe(),
        "threads": torch.get_num_threads(),
    }
    if kind == "cpu":
        # Of "AMD EPYC" there are several with other instructions, and these change the last bits.
        limits = [os.environ.get(name, "") for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")]
        record["isa"] = "; ".join(filter(None, [torch.backends.cpu.get_cpu_capability(), *limits]))
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
    """Return driver, clocks (MHz), temperature (degrees Celsius) and power limit (W) of the current CUDA device, now.

    Empty if `nvidia-smi` is missing or does not answer.
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
    query = (f"--id=GPU-{uuid.removeprefix('GPU-')}", f"--query-gpu={','.join(fields.values())}")
    works, answer = nvidia_smi(*query, "--format=csv,noheader,nounits")
    values = answer.strip().partition("\n")[0].split(",") if works and answer.strip() else []
    return dict(zip(fields, (_number(value.strip()) for value in values), strict=False))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
