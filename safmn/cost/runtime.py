"""Inference time of networks (Table 2, #Avg. Time), in milliseconds an image.

Two protocols, so that both kinds of print can be compared:

- **interleaved** (the one to trust): warm-up until stable, then the images in rounds in which the networks take turns,
  so that a drifting clock hits all alike; CUDA events (CPU: the clock), the device synchronised before and after every
  image; median, mean and interquartile range; repeated in processes of their own, whose medians show the spread between
  runs. The main figure is the ratio to SAFMN in the same process.
- **habit** (what the field prints): a fresh process, one pass over the images, no warm-up, the mean.

A contestant is a network in a mode. Mode `eager` is the authors' code as it stands: float32, NCHW, LayerNorm step by
step. Every other mode is compared with `eager` on one image before it is timed, and is not timed where the outputs
differ by more than the stated tolerance.
"""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from safmn import networks
from safmn.cost import memory
from safmn.device import description
from safmn.device.memory import is_out_of_memory
from safmn.errors import UserError

REFERENCE = "safmn"
AT = "at "  # begins the lines by which a timing process says what it is at
WINDOW = 300.0  # ms; warm-up ends when the medians of two windows in a row agree
STABLE = 0.05  # to within 5 %
LEAST_WARMUP = 1000.0  # ms; a GPU takes hundreds of them to raise its clocks, and looks stable before it begins
MOST_WARMUP = 30_000.0  # ms; a device that still drifts after these is recorded as not stable

# --- Modes -----------------------------------------------------------------------------------------------------------


class Unavailable(Exception):
    """A mode cannot be timed here; the message says why."""


class Failed(Exception):
    """A mode failed on CUDA, which may leave the device unusable for this process: a failed capture does."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason


Forward = Callable[[Tensor], Tensor]


def _eager(network: nn.Module, sample: Tensor) -> Forward:
    return memory.use_form(network, "reference")


def _fused(network: nn.Module, sample: Tensor) -> Forward:
    if not memory.has_layer_norm(network):
        raise Unavailable("the network has no LayerNorm to fuse: the same as eager")
    return memory.use_form(network, "fused")


def _channels_last(network: nn.Module, sample: Tensor) -> Forward:
    network = _with_fused_norms(network).to(memory_format=torch.channels_last)
    return lambda image: network(image.contiguous(memory_format=torch.channels_last))


def _half(network: nn.Module, sample: Tensor) -> Forward:
    if sample.device.type != "cuda":
        raise Unavailable("half precision is timed on CUDA only")
    network = _with_fused_norms(network).half()
    return lambda image: network(image.half()).float()


def _compiled(network: nn.Module, sample: Tensor) -> Forward:
    forward = torch.compile(_with_fused_norms(network))
    try:
        forward(sample)
    except Exception as error:  # a missing compiler shows itself in many ways, and the other modes can still be timed
        raise Unavailable(f"torch.compile failed: {first_line(error)}") from error
    return forward


def _cuda_graph(network: nn.Module, sample: Tensor) -> Forward:
    if sample.device.type != "cuda":
        raise Unavailable("CUDA graphs need CUDA")
    network = _with_fused_norms(network)
    image = sample.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # capture wants passes on a side stream first
        for _ in range(3):
            network(image)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = network(image)

    def replay(new: Tensor) -> Tensor:
        image.copy_(new)
        graph.replay()
        return output

    return replay


def _with_fused_norms(network: nn.Module) -> nn.Module:
    return memory.use_form(network, "fused")


MODES: dict[str, Callable[[nn.Module, Tensor], Forward]] = {
    "eager": _eager,
    "fused": _fused,
    "channels_last": _channels_last,
    "half": _half,
    "compiled": _compiled,
    "cuda_graph": _cuda_graph,
}


def tolerance(mode: str, tf32: bool) -> float:
    """Largest difference from `eager` that `mode` may show, as a fraction of the largest absolute output value.

    Float32 modes sum in another order: 1e-4; where convolutions run in TF32, whose mantissa has 10 bits, 5e-3. Half
    precision: 2e-2.
    """
    if mode == "half":
        return 2e-2
    return 5e-3 if tf32 else 1e-4


def prepare(
    name: str, scale: int, mode: str, sample: Tensor, device: description.Device, reference: Tensor | None
) -> tuple[Forward, dict[str, Any]]:
    """A network in a mode, ready to be timed, and the record of the check against `reference`, the eager output.

    Raises Unavailable where the mode cannot run here, or where its output differs by more than the tolerance.
    """
    torch.manual_seed(0)  # the same weights in every mode
    network = networks.build(name, scale).eval().to(device.torch_device)
    forward = MODES[mode](network, sample)
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
    """Milliseconds of one pass: the device is idle at the start, and done when its marks are read."""
    device.synchronise()
    start = device.mark()
    forward(image)
    stop = device.mark()
    device.synchronise()
    return device.elapsed(start, stop)


def warm_up(forward: Forward, image: Tensor, device: description.Device) -> dict[str, Any]:
    """Runs passes for 1 s at least, until two windows of 0.3 s in a row have medians within 5 %, for 30 s at most.

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
        if (stable and spent >= LEAST_WARMUP) or (previous is not None and spent >= MOST_WARMUP):
            return {"warmup_passes": passes, "warmup_stable": stable}
        previous = median


def interleave(
    contestants: dict[str, Forward],
    images: dict[str, Sequence[Tensor]],
    rounds: int,
    device: description.Device,
    at: Callable[[str], None] = lambda key: None,
) -> tuple[dict[str, list[float]], dict[str, dict[str, Any]]]:
    """Milliseconds an image of each contestant, taking turns; and the records of those that failed.

    Round r has images r, r + rounds, r + 2 rounds, ... The order of the contestants turns by one each round, and each
    turn begins with an untimed pass, so that none inherits the caches that its neighbour left.
    """
    times: dict[str, list[float]] = {key: [] for key in contestants}
    failed: dict[str, dict[str, Any]] = {}
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
                failed[key] = _failure(key, error, device, share[0])
        order = order[1:] + order[:1]
    return {key: values for key, values in times.items() if key not in failed}, failed


def summary(times: Sequence[float]) -> dict[str, Any]:
    """Median, mean and quartiles in ms, and how many images were timed."""
    low, high = (times[0], times[0]) if len(times) == 1 else _quartiles(times)
    return {
        "median_ms": statistics.median(times),
        "mean_ms": statistics.fmean(times),
        "quartiles_ms": [low, high],
        "iqr_ms": high - low,
        "images": len(times),
    }


def _quartiles(times: Sequence[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return low, high


# --- One process -----------------------------------------------------------------------------------------------------


def noise(name: str, count: int, height: int, width: int, device: description.Device) -> list[Tensor]:
    """`count` images, 1 x C x height x width in [0, 1], on the device: no network's time depends on what it sees."""
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
) -> dict[str, dict[str, Any]]:
    """The interleaved protocol in this process: "network/mode" -> record.

    A record has `status` "timed" with the figures of `summary`, `warm_up` and the check against eager; "unavailable"
    with `reason`; or "out of memory" with the size that was asked for.

    Args:
        failed: "network/mode" -> reason, of what failed in an earlier process and is left out.
        at: is told which "network/mode" begins, so that it is known where a process died.

    Raises:
        Failed: a mode failed on CUDA; a fresh process is needed to go on without it.
    """
    device = device or description.present()
    contestants: dict[str, Forward] = {}
    inputs: dict[str, list[Tensor]] = {}
    records: dict[str, dict[str, Any]] = {}
    with torch.inference_mode():
        for name in names:
            batch: list[Tensor] = []
            reference: Tensor | None = None
            for mode in dict.fromkeys(("eager", *modes)):
                key = f"{name}/{mode}"
                if key in failed:
                    records[key] = {"status": "unavailable", "reason": failed[key]}
                    continue
                networks.info(name)  # an unknown name is a mistake, not a failure
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
                    records[key] = _failure(key, error, device, height=height, width=width)
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
) -> dict[str, Any]:
    """The field's habit in this process: one pass over the images, first passes included, and the mean.

    The device is still synchronised: a print without that would be the time to launch, not to compute.
    """
    device = device or description.present()
    networks.info(name)
    at(f"{name}/habit")
    try:
        with torch.inference_mode():
            batch = noise(name, images, height, width, device)
            forward = _eager(networks.build(name, scale).eval().to(device.torch_device), batch[0])
            times = [timed(forward, image, device) for image in batch]
    except Exception as error:
        return _failure(f"{name}/habit", error, device, height=height, width=width)
    return {"status": "timed", "mean_ms": statistics.fmean(times), "first_ms": times[0], "images": len(times)}


def _failure(
    key: str, error: Exception, device: description.Device, image: Tensor | None = None, height: int = 0, width: int = 0
) -> dict[str, Any]:
    """The record of a contestant that failed: one that fails does not take the others with it.

    Without the reference in eager mode nothing can be said about any, so that error goes on. `image` gives the size.
    """
    if image is not None:
        height, width = image.shape[-2:]
    if is_out_of_memory(error):
        requested = {"height": height, "width": width}
        return {"status": "out of memory", "requested_lr": requested, "message": first_line(error)}
    if key == f"{REFERENCE}/eager" or isinstance(error, UserError):
        raise error
    reason = f"{type(error).__name__}: {first_line(error)}"
    if device.kind == "cuda":
        raise Failed(key, reason) from error
    return {"status": "unavailable", "reason": reason}


def first_line(error: BaseException) -> str:
    """What an error says, at most 300 characters; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


# --- Several processes -----------------------------------------------------------------------------------------------


def measure(
    names: Sequence[str],
    scale: int,
    images: int = 50,
    rounds: int = 5,
    processes: int = 3,
    modes: Sequence[str] = ("eager",),
    height: int = 180,
    width: int = 320,
    habit: bool = True,
    device: str | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Both protocols over all `names` (SAFMN is added, as the ratio's reference), each process on its own.

    Args:
        images: how many images are timed, in each process.
        rounds: in how many rounds the networks take turns.
        processes: how often the interleaved protocol is repeated, each time in a fresh process.
        modes: keys of MODES beside "eager", which is always timed.
        height, width: LR pixels (the paper: 180 x 320).
        habit: also time each network in the field's habit, in a process of its own.
        device: "cpu" or "cuda"; None takes CUDA where there is one.
        say: is told what begins.

    Returns:
        `provenance`, `settings`, and `networks`: name -> mode -> record. A record's `median_ms`, `mean_ms` and `iqr_ms`
        are medians over processes, `spread_percent` (of two processes or more) is (highest - lowest) / median of their
        medians, `ratio_to_safmn` the median of the processes' ratios of medians to SAFMN in the same mode, `ratios` all
        of them, and `processes` what each process found. Mode `eager` also holds `habit`.

    Raises:
        UserError: no images, rounds or processes; an unknown network or mode; an image below 8 pixels.
    """
    for value, what in ((images, "images"), (rounds, "rounds"), (processes, "processes")):
        if value < 1:
            raise UserError(f"{value} {what} give no time: ask for 1 or more")
    for mode in modes:
        if mode not in MODES:
            raise UserError(f"mode {mode!r} is not known: choose from {', '.join(MODES)}")
    memory.check_size(height, width)
    names = list(dict.fromkeys([*names, REFERENCE]))
    for name in names:
        if scale not in networks.info(name).scales:
            networks.build(name, scale)  # raises, naming the scales that there are
    modes = list(dict.fromkeys(["eager", *modes]))
    rounds = min(rounds, images)
    size = {"scale": scale, "images": images, "height": height, "width": width}

    request = {**size, "device": device}
    interleaved = {"protocol": "interleaved", "names": names, "rounds": rounds, "modes": modes, **request}
    runs: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    while len(runs) < processes:
        say(f"process {len(runs) + 1} of {processes}: {len(names)} networks, {images} images in {rounds} rounds")
        answer = _child({**interleaved, "failed": failed})
        if "failed" in answer:
            failed |= answer["failed"]
            for key, reason in answer["failed"].items():
                say(f"{key} failed ({reason}): again in a fresh process, without it")
        else:
            runs.append(answer)
    habits = {}
    for name in names if habit else ():
        say(f"one pass without warm-up: {name}")
        answer = _child({"protocol": "habit", "name": name, **request})
        reasons = answer.get("failed", {}).values()
        habits[name] = answer.get("figures") or {"status": "unavailable", "reason": "; ".join(reasons)}
    return {
        "provenance": runs[0]["provenance"],
        "settings": {
            **size,
            "rounds": rounds,
            "processes": processes,
            "modes": modes,
            "unit": "ms an image, batch 1",
            "precision": "float32 but for mode half",
            "layout": "NCHW but for mode channels_last",
            "execution": "eager but for modes compiled and cuda_graph",
            "layer_norm": "step by step in mode eager, torch's kernel in the others",
            "reference": REFERENCE,
        },
        "networks": combine(names, modes, [run["figures"] for run in runs], habits),
    }


def combine(
    names: Sequence[str], modes: Sequence[str], runs: Sequence[dict[str, Any]], habits: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Joins the records of several processes: name -> mode -> record, as `measure` returns them."""
    joined: dict[str, dict[str, Any]] = {}
    for name in names:
        joined[name] = {}
        for mode in modes:
            records = [run[f"{name}/{mode}"] for run in runs]
            joined[name][mode] = _join(records, [run[f"{REFERENCE}/{mode}"] for run in runs])
        if name in habits:
            joined[name]["eager"]["habit"] = habits[name]
    return joined


def _join(records: list[dict[str, Any]], references: list[dict[str, Any]]) -> dict[str, Any]:
    failed = next((record for record in records if record["status"] != "timed"), None)
    if failed is not None:
        return dict(failed)
    medians = [record["median_ms"] for record in records]
    joined: dict[str, Any] = {"status": "timed"}
    for key in ("median_ms", "mean_ms", "iqr_ms"):
        joined[key] = statistics.median(record[key] for record in records)
    if len(medians) > 1:  # one process shows no spread, which is not a spread of nothing
        joined["spread_percent"] = 100.0 * (max(medians) - min(medians)) / statistics.median(medians)
    if all(reference["status"] == "timed" for reference in references):
        ratios = [median / reference["median_ms"] for median, reference in zip(medians, references, strict=True)]
        joined["ratio_to_safmn"] = statistics.median(ratios)
        joined["ratios"] = ratios
    joined["processes"] = records
    return joined


def _child(request: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own answers: `figures` and `provenance`, or `failed`, "network/mode" -> reason."""
    request |= {"threads": torch.get_num_threads(), "parent": os.getpid()}
    command = [sys.executable, "-m", "safmn.cost.runtime"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode == 0:
        return json.loads(lines[-1])
    # A network that takes the process down (killed for memory, say) must be told apart from a mistake here.
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    reason = f"ended with status {done.returncode}: {last}"
    begun = [line.removeprefix(AT) for line in lines if line.startswith(AT)]
    if begun and begun[-1] != f"{REFERENCE}/eager" and begun[-1] not in request.get("failed", {}):
        return {"failed": {begun[-1]: f"its process {reason}"}}
    what = request.get("name") or ", ".join(request["names"])
    raise UserError(f"the timing process of {what} {reason}")


def _end_with(parent: int) -> None:
    """Ends this process once its parent is gone: the lease on the device went with the parent."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _serve(request: dict[str, Any]) -> dict[str, Any]:
    _end_with(request.pop("parent"))
    torch.set_num_threads(request.pop("threads"))
    protocol, device = request.pop("protocol"), description.present(request.pop("device", None))
    run = run_habit if protocol == "habit" else run_interleaved
    try:
        figures = run(**request, device=device, at=lambda key: print(f"{AT}{key}", flush=True))
    except Failed as failure:
        return {"failed": {failure.key: failure.reason}}
    # Described afterwards, while the clocks are still those of the measurement.
    return {"provenance": description.describe(device.kind), "figures": figures}


if __name__ == "__main__":
    answer = _serve(json.load(sys.stdin))
    print(json.dumps(answer), flush=True)
    if "failed" in answer:
        os._exit(0)  # a device that is unusable may take the rest of the way out down with it
