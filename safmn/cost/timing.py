"""Inference time of networks in this process, in milliseconds an image.

There are two protocols, so that both kinds of published times can be compared:

- **interleaved**, the one to trust: warm-up until stable, then the images in rounds in which the networks take turns,
  so that a drifting clock hits all alike. Times come from CUDA events (CPU: the clock), and the device is synchronised
  before and after every image.
- **habit**, what the field publishes: one pass over the images, no warm-up, the mean.

A contestant is a network in a mode. Mode `eager` is the authors' code as it is: float32, NCHW, LayerNorm step by step.
Every other mode is compared with `eager` on one image before it is timed. It is not timed if the outputs differ by more
than the stated tolerance.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from safmn import networks
from safmn.cost import memory
from safmn.device import description
from safmn.device.memory import is_out_of_memory
from safmn.errors import UserError, as_line

REFERENCE = "safmn"
WINDOW = 300.0  # ms; warm-up ends when the medians of two windows in a row agree
STABLE = 0.05  # to within 5 %
MIN_WARMUP = 1000.0  # ms; a GPU takes hundreds of them to raise its clocks, and looks stable before it begins
MAX_WARMUP = 30_000.0  # ms; a device that still drifts after these is recorded as not stable

Forward = Callable[[Tensor], Tensor]
Record = dict[str, Any]

# --- Modes -----------------------------------------------------------------------------------------------------------


class Unavailable(Exception):
    """A mode cannot be timed here; the message says why."""


class Failed(Exception):
    """A mode failed on CUDA, which may leave the device unusable for this process: a failed capture does."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason


def _as_it_is(network: nn.Module, sample: Tensor) -> Forward:
    return network


def _fused(network: nn.Module, sample: Tensor) -> Forward:
    if not memory.has_layer_norm(network):
        raise Unavailable("the network has no LayerNorm to fuse: the same as eager")
    return network


def _channels_last(network: nn.Module, sample: Tensor) -> Forward:
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return lambda image: network(image.contiguous(memory_format=torch.channels_last))


def _half(network: nn.Module, sample: Tensor) -> Forward:
    if sample.device.type != "cuda":
        raise Unavailable("half precision is timed on CUDA only")
    network = network.half()
    return lambda image: network(image.half()).float()


def _compiled(network: nn.Module, sample: Tensor) -> Forward:
    forward: Forward = torch.compile(network)
    try:
        forward(sample)
    except Exception as error:  # a missing compiler raises many types of errors, and the other modes can still be timed
        raise Unavailable(f"torch.compile failed: {as_line(error)}") from error
    return forward


def _cuda_graph(network: nn.Module, sample: Tensor) -> Forward:
    if sample.device.type != "cuda":
        raise Unavailable("CUDA graphs need CUDA")
    image = sample.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # a capture needs passes on a side stream first
        for _ in range(3):
            network(image)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output: Tensor = network(image)

    def replay(new: Tensor) -> Tensor:
        image.copy_(new)
        graph.replay()
        return output

    return replay


MODES: dict[str, Callable[[nn.Module, Tensor], Forward]] = {
    "eager": _as_it_is,
    "fused": _fused,
    "channels_last": _channels_last,
    "half": _half,
    "compiled": _compiled,
    "cuda_graph": _cuda_graph,
}
"""Mode -> what turns a network and a sample image into the function that is timed."""


def tolerance(mode: str, tf32: bool) -> float:
    """Return the largest difference from `eager` that a mode may show, relative to the largest absolute output value.

    Float32 modes sum in another order: 1e-4; where convolutions run in TF32, whose mantissa has 10 bits, 5e-3. Half
    precision: 2e-2.
    """
    if mode == "half":
        return 2e-2
    return 5e-3 if tf32 else 1e-4


def prepare(
    name: str, scale: int, mode: str, sample: Tensor, device: description.Device, reference: Tensor | None
) -> tuple[Forward, Record]:
    """Return a network in a mode, and the record of the comparison with `reference`, the eager output of `sample`.

    Raises:
        Unavailable: the mode cannot run here, or its output differs by more than the tolerance.
    """
    torch.manual_seed(0)  # the same weights in every mode
    network = networks.build(name, scale).eval().to(device.torch_device)
    forward = MODES[mode](memory.use_form(network, "reference" if mode == "eager" else "fused"), sample)
    if mode == "eager":
        return forward, {}
    if reference is None:
        raise Unavailable("eager did not run, so that there is nothing to compare with")
    allowed = tolerance(mode, device.kind == "cuda" and torch.backends.cudnn.allow_tf32)
    difference = ((forward(sample) - reference).abs().max() / reference.abs().max()).item()
    # Written so that NaN fails.
    if not difference <= allowed:
        raise Unavailable(f"the output differs from eager by {difference:.2g} of its maximum (tolerance {allowed:g})")
    return forward, {"difference_from_eager": difference, "tolerance": allowed}


# --- Timing ----------------------------------------------------------------------------------------------------------


def timed(forward: Forward, image: Tensor, device: description.Device) -> float:
    """Return the milliseconds of one pass: the device is idle before it, and done before its marks are read."""
    device.synchronise()
    start = device.mark()
    forward(image)
    stop = device.mark()
    device.synchronise()
    return device.elapsed(start, stop)


def warm_up(forward: Forward, image: Tensor, device: description.Device) -> Record:
    """Run passes for 1 s at least, until two windows of 0.3 s in a row have medians within 5 %, for 30 s at most.

    A pass longer than a window is a window by itself.

    Returns:
        `warmup_passes`, and `warmup_stable`: whether it ended because the times agreed.
    """
    spent, passes = 0.0, 0
    previous: float | None = None
    while True:
        window: list[float] = []
        while sum(window) < WINDOW:
            window.append(timed(forward, image, device))
        spent, passes, median = spent + sum(window), passes + len(window), statistics.median(window)
        stable = previous is not None and abs(median - previous) <= STABLE * previous
        if (stable and spent >= MIN_WARMUP) or (previous is not None and spent >= MAX_WARMUP):
            return {"warmup_passes": passes, "warmup_stable": stable}
        previous = median


def interleave(
    contestants: dict[str, Forward],
    images: dict[str, Sequence[Tensor]],
    rounds: int,
    device: description.Device,
    at: Callable[[str], None] = lambda key: None,
) -> tuple[dict[str, list[float]], dict[str, Record]]:
    """Return the milliseconds an image of each contestant, and the records of those that failed.

    Round r has images r, r + rounds, r + 2 rounds, ... The order of the contestants rotates by one each round. Each
    turn begins with an untimed pass, so that no contestant inherits the caches of the one before.
    """
    times: dict[str, list[float]] = {key: [] for key in contestants}
    failed: dict[str, Record] = {}
    order = list(contestants)
    for turn in range(rounds):
        for key in order:
            share = images[key][turn::rounds]
            if key in failed or not share:
                continue
            at(key)
            try:
                contestants[key](share[0])
                times[key] += [timed(contestants[key], image, device) for image in share]
            except Exception as error:
                failed[key] = _failure(key, error, device, *share[0].shape[-2:])
        order = order[1:] + order[:1]
    return {key: values for key, values in times.items() if key not in failed}, failed


def summary(times: Sequence[float]) -> Record:
    """Return median, mean and quartiles in ms, and how many images were timed."""
    low, median, high = np.percentile(times, (25, 50, 75)).tolist()
    return {
        "median_ms": median,
        "mean_ms": statistics.fmean(times),
        "quartiles_ms": [low, high],
        "iqr_ms": high - low,
        "images": len(times),
    }


# --- One process -----------------------------------------------------------------------------------------------------


def noise(name: str, count: int, height: int, width: int, device: description.Device) -> list[Tensor]:
    """Return `count` images of noise, 1 x C x height x width in [0, 1], on the device: no time depends on values."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, networks.info(name).channels, height, width)
    return [torch.rand(shape, generator=generator).to(device.torch_device) for _ in range(count)]


def run_interleaved(
    names: Sequence[str],
    scale: int,
    images: int,
    rounds: int,
    modes: Sequence[str] = ("eager",),
    height: int = 180,
    width: int = 320,
    device: description.Device | None = None,
    failed: Mapping[str, str] = MappingProxyType({}),
    at: Callable[[str], None] = lambda key: None,
) -> dict[str, Record]:
    """Run the interleaved protocol in this process; arguments as for `safmn.cost.runtime.measure`.

    `failed` is "network/mode" -> reason, of what failed in an earlier process and is left out. `at` is called with each
    "network/mode" that begins, so that it is known where a process died.

    Returns:
        "network/mode" -> record: `status` "timed" with the figures of `summary`, `warm_up` and the comparison with
        eager; "unavailable" with `reason`; or "out of memory" with the size.

    Raises:
        Failed: a mode failed on CUDA; a fresh process is needed to continue without it.
    """
    device = device or description.present()
    contestants: dict[str, Forward] = {}
    inputs: dict[str, Sequence[Tensor]] = {}
    records: dict[str, Record] = {}
    with torch.inference_mode():
        for name in names:
            networks.info(name)  # an unknown name is a mistake, not a failure
            batch: list[Tensor] = []
            reference: Tensor | None = None
            for mode in dict.fromkeys(("eager", *modes)):
                key = f"{name}/{mode}"
                if key in failed:
                    records[key] = {"status": "unavailable", "reason": failed[key]}
                    continue
                at(key)
                try:
                    batch = batch or noise(name, images, height, width, device)
                    forward, check = prepare(name, scale, mode, batch[0], device, reference)
                    if mode == "eager":
                        reference = forward(batch[0]).clone()
                    warm = warm_up(forward, batch[0], device)
                except Unavailable as error:
                    records[key] = {"status": "unavailable", "reason": str(error)}
                except Exception as error:
                    records[key] = _failure(key, error, device, height, width)
                else:
                    contestants[key], inputs[key] = forward, batch
                    records[key] = {"status": "timed", **check, **warm}
        times, dropped = interleave(contestants, inputs, rounds, device, at)
    for key, values in times.items():
        records[key] |= summary(values)
    return records | dropped


def run_habit(
    name: str,
    scale: int,
    images: int,
    height: int = 180,
    width: int = 320,
    device: description.Device | None = None,
    at: Callable[[str], None] = lambda key: None,
) -> Record:
    """Run the field's habit in this process: one pass over the images, first passes included, and the mean.

    Arguments as for `run_interleaved`. The device is synchronised nevertheless: otherwise the time would be that of the
    launches.
    """
    device = device or description.present()
    networks.info(name)
    key = f"{name}/habit"
    at(key)
    try:
        with torch.inference_mode():
            batch = noise(name, images, height, width, device)
            forward = memory.use_form(networks.build(name, scale).eval().to(device.torch_device), "reference")
            times = [timed(forward, image, device) for image in batch]
    except Exception as error:
        return _failure(key, error, device, height, width)
    return {"status": "timed", "mean_ms": statistics.fmean(times), "first_ms": times[0], "images": len(times)}


def _failure(key: str, error: Exception, device: description.Device, height: int, width: int) -> Record:
    """Return the record of a contestant that failed, so that the others can be timed.

    Without the reference in eager mode nothing can be said about any contestant: that error is raised again.
    """
    if is_out_of_memory(error):
        requested = {"height": height, "width": width}
        return {"status": "out of memory", "requested_lr": requested, "message": as_line(error)}
    if key == f"{REFERENCE}/eager" or isinstance(error, UserError):
        raise error
    reason = as_line(error)
    if device.kind == "cuda":
        raise Failed(key, reason) from error
    return {"status": "unavailable", "reason": reason}
