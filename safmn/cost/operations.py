"""Time of the operations of Table 5 inside SAFMN, by `torch.profiler` and the named ranges of the network.

The paper gives one time an operation over 50 images; `total_ms` is that, `per_image_ms` its share. A range of the
network's code (`safmn.networks.ranges`) decides which operation a time belongs to, not the kernel's name: the addition
of a residual and an addition inside LayerNorm run the same kernel.

There are two clocks. The host's clock measures the time between begin and end of the range in the program, dispatch
included; on the CPU that is the operation's time. The device's clock, on CUDA only, measures the kernels that were
launched within the range. Splitting channels creates views and launches none: the 133 ms that the paper publishes for
it must be of the host's clock. A profiler slows a network down: these times compare operations with each other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # documented, but not in torch's stubs
from torch.profiler import ProfilerActivity, profile, record_function

from safmn import networks
from safmn.cost import memory, timing
from safmn.device import description
from safmn.device.memory import is_out_of_memory
from safmn.errors import UserError, as_line
from safmn.networks import ranges

TITLES = {
    "layer_norm": "LayerNorm",
    "channel_splitting": "Channel Splitting",
    "adaptive_max_pool": "Adaptive MaxPool",
    "nearest_interpolation": "Nearest Interpolation",
    "product": "Element-wise Product",
    "addition": "Element-wise Addition",
}
"""Name of a range -> the paper's name of the operation, in the order of Table 5."""

WHOLE = ranges.PREFIX + "forward"
NO_KERNELS = "not timed: the profiler saw no kernels (CUPTI is missing, or this user may not use it)"


def measure(
    images: int = 50,
    scale: int = 4,
    height: int = 180,
    width: int = 320,
    name: str = "safmn",
    form: str = "reference",
    on: str | None = None,
) -> dict[str, Any]:
    """Profile a network over images of noise, after a warm-up (Table 5).

    Args:
        images: how many, each 1 x 3 x height x width.
        scale: 2, 3 or 4.
        height: LR pixels, from 8.
        width: LR pixels, from 8.
        name: safmn or one of its variants.
        form: LayerNorm step by step as the authors run it ("reference"), or by torch's kernel ("fused").
        on: "cpu" or "cuda"; None takes CUDA where there is one.

    Returns:
        `provenance`, `settings` and `operations`: range name -> `title`, `calls` an image, `total_ms` over all images
        and `per_image_ms` (host), `share` of the whole pass (0-1, host). On CUDA also `kernel_ms` over all images and
        `kernel_share`, or in `settings` why there are none (`kernels`). `forward` has the whole pass.

    Raises:
        UserError: no images, an image below 8 pixels, or not enough memory for it.
    """
    if images < 1:
        raise UserError(f"{images} images give no time: ask for 1 or more")
    memory.check_size(height, width)
    device = description.present(on)
    try:
        network = memory.use_form(networks.build(name, scale).eval().to(device.torch_device), form)
        batch = timing.noise(name, images, height, width, device)
        with torch.inference_mode():
            warm = timing.warm_up(network, batch[0], device)
            spent = profile_ranges(network, batch, device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = as_line(error)
        raise UserError(f"out of memory with an LR image of {width}x{height} ({reason}): give a smaller one") from error
    whole = spent.pop(WHOLE)
    # A profiler without CUPTI, or without the right to use it, sees the host alone.
    kernels = {"kernels": NO_KERNELS} if device.kind == "cuda" and not whole.kernel else {}
    return {
        "provenance": description.describe(device.kind),
        "settings": {
            "network": name,
            "form": form,
            "scale": scale,
            "images": images,
            "height": height,
            "width": width,
            "unit": "ms; total_ms and kernel_ms are over all images",
            "precision": "float32",
            **kernels,
            **warm,
        },
        "operations": {
            key: {"title": title, **_figures(spent.get(ranges.PREFIX + key, Spent()), whole, images)}
            for key, title in TITLES.items()
        },
        "forward": _figures(whole, whole, images),
    }


@dataclass
class Spent:
    """Time in a range over a profile: ms of the host, ms of the kernels launched within, and how often it ran."""

    host: float = 0.0
    kernel: float = 0.0
    calls: int = 0


def _figures(spent: Spent, whole: Spent, images: int) -> dict[str, float]:
    figures = {
        "calls": spent.calls / images,
        "total_ms": spent.host,
        "per_image_ms": spent.host / images,
        "share": spent.host / whole.host if whole.host else 0.0,
    }
    if whole.kernel:
        figures |= {"kernel_ms": spent.kernel, "kernel_share": spent.kernel / whole.kernel}
    return figures


def profile_ranges(network: nn.Module, images: Iterable[Tensor], device: description.Device) -> dict[str, Spent]:
    """Return range -> time spent in it over the passes of all images; `WHOLE` is the passes themselves."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.kind == "cuda" else [])
    device.synchronise()
    with ranges.recording(network), profile(activities=activities) as profiler:
        for image in images:
            with record_function(WHOLE):
                network(image)
            device.synchronise()
    times: dict[str, Spent] = {}
    for event in profiler.events():
        # CUDA's own copy of a range would count its kernels twice, and the idle time between them.
        if event.name.startswith(ranges.PREFIX) and event.device_type == DeviceType.CPU:
            spent = times.setdefault(event.name, Spent())
            spent.host += event.cpu_time_total / 1e3
            spent.kernel += event.device_time_total / 1e3
            spent.calls += 1
    return times
