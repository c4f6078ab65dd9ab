"""Whether torch can compute on the visible device: a convolution and a CUDA graph, in a process of their own.

`python -m safmn.device.probe` prints one line of JSON, see `look`. `ask` starts it: a driver that hangs or crashes
takes only that process with it, and the asking process does not initialise CUDA.
"""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

from safmn.device import lease

PATIENCE = 180.0  # seconds; the first use of a GPU loads libraries of gigabytes, perhaps over a network
TOLERANCE = 1e-3  # largest difference of the convolution from the CPU's, relative to the largest value; float32


def ask(device: str | None, patience: float = PATIENCE) -> dict[str, Any]:
    """Return what `look` finds in a process that sees one device, or {"error": reason}.

    Args:
        device: a name for `CUDA_VISIBLE_DEVICES`; None hides all GPUs, so the CPU computes.
        patience: seconds after which the process is given up.
    """
    environment = {**os.environ, lease.VISIBLE: device or "", lease.ORDER: lease.BY_BUS}
    command = [sys.executable, "-m", "safmn.device.probe"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {patience:g} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return {"error": f"its process ended with status {done.returncode}: {last}"}


def look() -> dict[str, Any]:
    """Use the visible device once.

    Returns:
        `torch`, `built` (its CUDA, "" for a CPU build), `kind` ("cuda" or "cpu"), `notes` (warnings of torch);
        `convolution` and, on CUDA, `graph`: "" if it worked, else the reason. On CUDA also `name`, `capability`, and
        `free` and `total` memory in bytes, as torch sees them.
    """
    import torch

    from safmn.errors import as_line

    def attempt(work: Callable[[], str]) -> str:
        try:
            return work()
        except Exception as error:  # whatever a driver may raise is what is asked for
            return as_line(error)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
        found: dict[str, Any] = {"torch": torch.__version__, "built": torch.version.cuda or torch.version.hip or ""}
        found["kind"] = "cuda" if usable else "cpu"
        if usable:
            found["memory"] = attempt(lambda: _describe(found))
        found["convolution"] = attempt(lambda: _convolution(found["kind"]))
        if usable:
            found["graph"] = attempt(_graph) if not found["convolution"] else "not tried"
    found["notes"] = list(dict.fromkeys(str(each.message).splitlines()[0] for each in caught))
    return found


def _describe(found: dict[str, Any]) -> str:
    import torch

    properties = torch.cuda.get_device_properties(0)
    found |= {"name": properties.name, "capability": f"{properties.major}.{properties.minor}"}
    found["free"], found["total"] = torch.cuda.mem_get_info()
    return ""


def _convolution(kind: str) -> str:
    """Compare a small convolution and its gradient with float64 on the CPU."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 36, 24, 24, generator=generator)
    weight = torch.rand(72, 36, 3, 3, generator=generator)

    def both(device: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        moved = weight.detach().to(device, dtype).requires_grad_()
        value = torch.nn.functional.conv2d(image.to(device, dtype), moved, padding=1)
        (gradient,) = torch.autograd.grad(value.square().mean(), moved)
        return value.detach().cpu().double(), gradient.cpu().double()

    pairs = zip(both(kind, torch.float32), both("cpu", torch.float64), strict=True)
    worst = max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)
    return "" if worst <= TOLERANCE else f"a convolution is wrong by {worst:.2g} of its maximum"


def _graph() -> str:
    """Record a multiplication as a CUDA graph, and replay it."""
    import torch

    numbers = torch.ones(1000, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        numbers.mul_(1.0)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        numbers.mul_(2.0)
    for _ in range(3):
        graph.replay()
    total = float(numbers.sum())
    return "" if total == 8000.0 else f"a CUDA graph that was replayed three times gave {total:g} instead of 8000"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look()) + "\n")
