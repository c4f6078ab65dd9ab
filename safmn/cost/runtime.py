"""Inference time of networks (Table 2, #Avg. Time), in milliseconds an image.

There are two protocols, so that both kinds of published times can be compared:

- **interleaved**, the one to trust: warm-up until stable, then the images in rounds in which the networks take turns,
  so that a drifting clock hits all alike. Times come from CUDA events (CPU: the clock), and the device is synchronised
  before and after every image. Reported are median, mean and interquartile range, repeated in processes of their own,
  whose medians show the spread between runs. The main result is the ratio to SAFMN in the same process.
- **habit**, what the field publishes: a fresh process, one pass over the images, no warm-up, the mean.

A contestant is a network in a mode. Mode `eager` is the authors' code as it is: float32, NCHW, LayerNorm step by step.
Every other mode is compared with `eager` on one image before it is timed. It is not timed if the outputs differ by more
than the stated tolerance.
"""

import json
import logging
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from safmn import networks
from safmn.cost import complexity, memory
from safmn.device import description
from safmn.device.memory import is_out_of_memory
from safmn.errors import UserError, as_line

REFERENCE = "safmn"
AT = "at "  # begins the lines in which a timing process names the contestant that it works on
WINDOW = 300.0  # ms; warm-up ends when the medians of two windows in a row agree
STABLE = 0.05  # to within 5 %
MIN_WARMUP = 1000.0  # ms; a GPU takes hundreds of them to raise its clocks, and looks stable before it begins
MAX_WARMUP = 30_000.0  # ms; a device that still drifts after these is recorded as not stable

_log = logging.getLogger(__name__)

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
    """Run the interleaved protocol in this process; arguments as for `measure`.

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


# --- Several processes -----------------------------------------------------------------------------------------------


def forecast(
    names: Sequence[str],
    scale: int,
    images: int,
    rounds: int,
    processes: int,
    modes: Sequence[str],
    height: int,
    width: int,
    habit: bool,
    device: str | None,
) -> float:
    """Return about how many seconds `measure` takes with these arguments.

    Two passes of SAFMN are timed in a process of their own; other networks take as much longer as they have more FLOPs.
    """
    request = {"scale": scale, "images": 2, "height": height, "width": width, "device": device}
    began = time.monotonic()
    record = _child({"protocol": "habit", "name": REFERENCE, **request})["figures"]
    if record["status"] != "timed":
        return 0.0  # the measurement itself will say what is wrong
    pass_seconds = (2 * record["mean_ms"] - record["first_ms"]) / 1e3
    start = max(0.0, time.monotonic() - began - 2 * record["mean_ms"] / 1e3)
    flops = {name: complexity.measure(name, scale)["flops"] for name in {*names, REFERENCE}}
    once = {name: pass_seconds * count / flops[REFERENCE] for name, count in flops.items()}
    of_modes = len({"eager", *modes})
    warm_up_seconds = [max(MIN_WARMUP / 1e3, 2 * seconds) for seconds in once.values()]
    timing = [(images + min(rounds, images)) * seconds for seconds in once.values()]
    seconds = processes * (start + of_modes * (sum(warm_up_seconds) + sum(timing)))
    return float(seconds + habit * sum(start + images * each for each in once.values()))


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
) -> Record:
    """Run both protocols over all `names` and SAFMN, the ratio's reference; each run in a process of its own.

    Args:
        names: the networks.
        scale: 2, 3 or 4.
        images: how many images are timed, in each process.
        rounds: in how many rounds the networks take turns.
        processes: how often the interleaved protocol is repeated, each time in a fresh process.
        modes: keys of MODES beside "eager", which is always timed.
        height: LR pixels, from 8 (the paper: 180).
        width: LR pixels, from 8 (the paper: 320).
        habit: also time each network in the field's habit, in a process of its own.
        device: "cpu" or "cuda"; None takes CUDA where there is one.

    Returns:
        `provenance`, `settings`, and `networks`: name -> mode -> record. A record's `median_ms`, `mean_ms` and `iqr_ms`
        are medians over processes, `spread_percent` (of two processes or more) is (highest - lowest) / median of their
        medians, `ratio_to_safmn` the median of the processes' ratios of medians to SAFMN in the same mode, `ratios` all
        of them, and `processes` the record of each process. Mode `eager` also holds `habit`.

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
    runs: list[Record] = []
    failed: dict[str, str] = {}
    while len(runs) < processes:
        _log.info(
            "process %d of %d: %d networks, %d images in %d rounds",
            len(runs) + 1,
            processes,
            len(names),
            images,
            rounds,
        )
        answer = _child({**interleaved, "failed": failed})
        if "failed" in answer:
            failed |= answer["failed"]
            for key, reason in answer["failed"].items():
                _log.info("%s failed (%s): again in a fresh process, without it", key, reason)
        else:
            runs.append(answer)
    habits = {}
    for name in names if habit else ():
        _log.info("one pass without warm-up: %s", name)
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
    names: Sequence[str], modes: Sequence[str], runs: Sequence[dict[str, Record]], habits: dict[str, Record]
) -> dict[str, dict[str, Record]]:
    """Join the records of several processes: name -> mode -> record, as `measure` returns them."""
    joined: dict[str, dict[str, Record]] = {}
    for name in names:
        joined[name] = {
            mode: _join([run[f"{name}/{mode}"] for run in runs], [run[f"{REFERENCE}/{mode}"] for run in runs])
            for mode in modes
        }
        if name in habits:
            joined[name]["eager"]["habit"] = habits[name]
    return joined


def _join(records: list[Record], references: list[Record]) -> Record:
    for record in records:
        if record["status"] != "timed":
            return dict(record)
    medians = [record["median_ms"] for record in records]
    joined: Record = {"status": "timed"}
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


def _child(request: Record) -> Record:
    """Run a request in a process of its own: `figures` and `provenance`, or `failed`, "network/mode" -> reason."""
    request |= {"threads": torch.get_num_threads(), "parent": os.getpid()}
    command = [sys.executable, "-m", "safmn.cost.runtime"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode == 0:
        answer: Record = json.loads(lines[-1])
        return answer
    # A network that takes the process down (killed for memory, say) must be told apart from a mistake here.
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    reason = f"ended with status {done.returncode}: {last}"
    begun = [line.removeprefix(AT) for line in lines if line.startswith(AT)]
    if begun and begun[-1] != f"{REFERENCE}/eager" and begun[-1] not in request.get("failed", {}):
        return {"failed": {begun[-1]: f"its process {reason}"}}
    what = request.get("name") or ", ".join(request["names"])
    raise UserError(f"the timing process of {what} {reason}")


def end_with(parent: int, first: Callable[[], None] = lambda: None) -> None:
    """End this process once its parent is gone: the lease on the device went with the parent.

    Args:
        parent: its process number.
        first: what is done before.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        first()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _serve(request: Record) -> Record:
    end_with(request.pop("parent"))
    torch.set_num_threads(request.pop("threads"))
    protocol, device = request.pop("protocol"), description.present(request.pop("device", None))
    run: Callable[..., Record] = run_habit if protocol == "habit" else run_interleaved
    try:
        figures = run(**request, device=device, at=lambda key: _answer(f"{AT}{key}"))
    except Failed as failure:
        return {"failed": {failure.key: failure.reason}}
    # Described afterwards, while the clocks are still those of the measurement.
    return {"provenance": description.describe(device.kind), "figures": figures}


def _answer(line: str) -> None:
    """Send a line to the parent process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    answer = _serve(json.load(sys.stdin))
    _answer(json.dumps(answer))
    if "failed" in answer:
        os._exit(0)  # an unusable device may crash the interpreter on its way out
