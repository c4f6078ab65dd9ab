"""Training steps on a GPU, for `safmn gpu-check`: their forms, jobs that share a device, kernels, and the floor.

A part takes the device and a request, and returns what it found: `passed`, `summary` and its figures.
"""

import importlib
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # documented, but not in torch's stubs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from safmn import networks, paths
from safmn.configuration import as_plain
from safmn.cost import memory
from safmn.device.description import Device
from safmn.errors import as_line
from safmn.planning import calibration
from safmn.planning.calibration import as_in_training
from safmn.schema import Training
from safmn.training import capture, forms
from safmn.training.forms import USUAL
from safmn.training.step import TrainStep

Record = dict[str, Any]
Batches = list[tuple[Tensor, Tensor]]
Work = Callable[[int], object]
SCALE = 4
SAME_LOSS = 5e-3  # relative; two forms whose first losses differ by more do not learn the same


def settings_of(device: Device, **changes: Any) -> dict[str, Any]:
    """Return the `training` section of the paper's step; on a CPU with few patches."""
    content = as_plain(Training(iterations=500_000, validate_every=5000, batch=64, patch=64, precision="tf32"))
    size = {} if device.kind == "cuda" else {"batch": 2, "precision": "float32"}
    return {**content, "threads": torch.get_num_threads(), **size, **changes}


def batches(count: int, settings: Mapping[str, Any], device: Device) -> Batches:
    """Return batches of noise on the device: uint8 LR and HR."""
    generator = torch.Generator().manual_seed(1)

    def noise(side: int) -> Tensor:
        shape = (settings["batch"], 3, side, side)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device.torch_device)

    return [(noise(settings["patch"]), noise(settings["patch"] * SCALE)) for _ in range(count)]


def new_step(name: str, settings: dict[str, Any], device: Device) -> TrainStep:
    """Return the training step of a network at the initial weights of seed 0."""
    torch.manual_seed(0)
    return forms.step(networks.accelerate(networks.build(name, SCALE)), settings, device.torch_device)


def training(settings: dict[str, Any], device: Device, made: Batches, recorded: bool = False) -> Work:
    """Return a function that trains SAFMN for one iteration, on the batches by turns; `recorded` as a CUDA graph."""
    step = new_step("safmn", settings, device)
    learn = capture.CapturedStep(step) if recorded else step
    return lambda iteration: learn(iteration, *made[iteration % len(made)])


# --- Forms of the step -----------------------------------------------------------------------------------------------


def step_form(device: Device, request: Record) -> Record:
    """Time one form of the training step beside the usual one, by turns, eagerly and as a CUDA graph.

    For the usual form also the reference trainer's step (benchmarks/train_step.py) where this is a checkout.
    """
    form, usual = request["form"], settings_of(device)
    settings = usual | ({"precision": "bf16"} if form == "bf16" else {"form": form} if form != USUAL else {})
    made = batches(4, usual, device)
    losses = [_first_losses(each, device, made) for each in (usual, settings)]
    difference = max(abs(one / other - 1) for one, other in zip(*losses, strict=True))

    def way(own: dict[str, Any], recorded: bool = False) -> tuple[dict[str, Any], Work]:
        with as_in_training(device.torch_device, own):
            return own, training(own, device, made, recorded)

    ways = {USUAL: way(usual)}
    if form != USUAL:
        ways[form] = way(settings)
    elif reference := _reference(device, made):
        ways["reference"] = usual, reference
    times = _by_turns(ways, device)
    if device.kind == "cuda":
        name = f"{form}, graph"
        try:
            times[name] = _by_turns({USUAL: way(usual), name: way(settings, recorded=True)}, device)[name]
        except Exception as error:  # the eager steps are worth keeping
            times[name] = {"error": as_line(error)}
    parts = [
        f"{name} {each['ms']:.1f} ms ({each['times_usual']:.2f} of the usual)" if "ms" in each else f"{name}: failed"
        for name, each in times.items()
    ]
    return {
        "passed": difference <= SAME_LOSS or form == "bf16",
        "summary": f"batch {usual['batch']}: {'; '.join(parts)}; losses differ by {difference:.1e}",
        "form": form,
        "settings": settings,
        "times": times,
        "loss_difference": difference,
        "first_losses": losses[1],
    }


def _first_losses(settings: dict[str, Any], device: Device, made: Batches) -> list[float]:
    with as_in_training(device.torch_device, settings):
        step = new_step("safmn", settings, device)
        return [float(step(iteration, *made[iteration])[:2].sum()) for iteration in range(3)]


def _by_turns(ways: dict[str, tuple[dict[str, Any], Work]], device: Device) -> dict[str, Record]:
    """Return name -> median milliseconds of a step, and its ratio to the usual step of the same turns.

    The flags of a precision hold for all in a process, so each turn sets its own.
    """
    turns, steps = (5, 20) if device.kind == "cuda" else (3, 1)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + turns):  # the first is warm-up: compilation, recording
        for name, (settings, work) in ways.items():
            with as_in_training(device.torch_device, settings):
                device.synchronise()
                start = device.mark()
                for iteration in range(steps):
                    work(iteration)
                stop = device.mark()
                device.synchronise()
            times[name].append(device.elapsed(start, stop) / steps)
    figures = {}
    for name, (_, *values) in times.items():
        ratios = [value / base for value, base in zip(values, times[USUAL][1:], strict=True)]
        figures[name] = {
            "ms": statistics.median(values),
            "times_usual": statistics.median(ratios),
            "times_usual_at_most": max(ratios),
            "all_ms": values,
        }
    return figures


def _reference(device: Device, made: Batches) -> Work | None:
    folder = paths.ROOT / "benchmarks"
    if not (folder / "train_step.py").is_file():
        return None
    sys.path.insert(0, str(folder))
    torch.manual_seed(0)
    step = importlib.import_module("train_step").ReferenceStep(networks.build("safmn", SCALE), device.torch_device)
    floats = [(lr.float() / 255, hr.float() / 255) for lr, hr in made]
    return lambda iteration: step(*floats[iteration % len(floats)])


# --- Several jobs ----------------------------------------------------------------------------------------------------


def sharing(device: Device, request: Record) -> Record:
    """Count the training steps a second of one, two, three and four jobs on the device."""
    rates: dict[str, Record] = {}
    for count in (1, 2, 3, 4):
        try:
            rates[str(count)] = {"steps_a_second": _together(count, request)}
        except RuntimeError as error:
            rates[str(count)] = {"error": as_line(error)}
            break
    told = [f"{n} job{'s' * (n != '1')} {r['steps_a_second']:.1f}" for n, r in rates.items() if "error" not in r]
    return {"passed": "error" not in rates["1"], "summary": f"steps a second: {', '.join(told)}", "rates": rates}


def _together(count: int, request: Record) -> float:
    asked = {"part": "busy", "device": "cuda", **{key: request.get(key) for key in ("form", "graph")}}
    command, pipe = [sys.executable, "-m", "safmn.planning.gpu_parts"], subprocess.PIPE
    jobs = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=sys.stderr, text=True) for _ in range(count)]
    try:
        for job in jobs:
            print(json.dumps(asked), file=job.stdin, flush=True)
            if next(job.stdout or iter(()), "").strip() != "ready":
                raise RuntimeError(f"{count} jobs do not fit the device")
        for job in jobs:
            print("go", file=job.stdin, flush=True)
        answers = [job.communicate(timeout=120)[0].strip().splitlines() for job in jobs]
        return sum(float(json.loads(answer[-1])["steps_a_second"]) for answer in answers)
    finally:
        for job in jobs:
            job.kill()
            job.wait()


def busy(device: Device, request: Record) -> Record:
    """Train for six seconds once "go" comes on stdin; one of the jobs of `sharing`."""
    form = request.get("form") or USUAL
    settings = settings_of(device) | ({"form": form} if form != USUAL else {})
    with as_in_training(device.torch_device, settings):
        work = training(settings, device, batches(4, settings, device), bool(request.get("graph")))
        for iteration in range(10):
            work(iteration)
        device.synchronise()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        began, done = time.monotonic(), 0
        while time.monotonic() - began < 6.0:
            for iteration in range(5):
                work(iteration)
            device.synchronise()
            done += 5
        return {"steps_a_second": done / (time.monotonic() - began)}


# --- What a step consists of -----------------------------------------------------------------------------------------


def profile(device: Device, request: Record) -> Record:
    """Name the ten dearest kernels (on a CPU: operations) of the usual step."""
    is_cuda, settings = device.kind == "cuda", settings_of(device)
    activities = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if is_cuda else [])]
    steps = 5 if is_cuda else 2
    with as_in_training(device.torch_device, settings):
        work = training(settings, device, batches(2, settings, device))
        for iteration in range(2):
            work(iteration)
        device.synchronise()
        with torch.profiler.profile(activities=activities) as profiler:
            for iteration in range(steps):
                work(iteration)
            device.synchronise()
    spent = defaultdict(list)  # ms
    for event in profiler.events():
        is_range = getattr(event, "is_user_annotation", False) or event.name.startswith("Optimizer.")  # around kernels
        if not is_range and (event.device_type == DeviceType.CUDA) == is_cuda:
            spent[event.name].append((event.device_time_total if is_cuda else event.self_cpu_time_total) / 1e3)
    if not spent:  # a container or an administrator may forbid it
        return {"passed": False, "summary": "the profiler saw no kernel: CUPTI is missing or not allowed here"}
    whole = sum(map(sum, spent.values())) or 1.0
    rows: list[Record] = [
        {"name": name[:120], "ms": sum(times) / steps, "calls": len(times) / steps, "share": sum(times) / whole}
        for name, times in sorted(spent.items(), key=lambda item: -sum(item[1]))[:10]
    ]
    calls = sum(map(len, spent.values())) / steps
    what = "kernels" if is_cuda else "operations"
    summary = f"{calls:,.0f} {what} a step, {whole / steps:.1f} ms; dearest: {rows[0]['name'][:40]}"
    return {"passed": True, "summary": summary, "dearest": rows, "calls": calls, "ms": whole / steps}


class Traffic(TorchDispatchMode):
    """Counts operations that compute something, and the bytes that each reads and writes.

    Of an operation that changes a list of tensors in place, only what it reads: it returns nothing.

    Attributes:
        operations: those that launch kernels, without views.
        views: the others: slices, permutations, detached tensors; they cost time of the CPU alone.
        bytes: read and written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.views = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns):
            self.views += 1
        else:
            for side in ((args, kwargs), result):
                tensors = {id(leaf): leaf for leaf in tree_leaves(side) if isinstance(leaf, Tensor)}
                self.bytes += sum(each.numel() * each.element_size() for each in tensors.values())
            self.operations += 1
        return result


def floor(device: Device, request: Record) -> Record:
    """Compare the bytes and products of a step with what this device moves and multiplies at best."""
    settings = settings_of(device)
    traffic, total = traffic_of(settings)
    with as_in_training(device.torch_device, settings):
        rates = _rates(device)
    moving, computing = 1e3 * traffic.bytes / rates["bytes_a_second"], 1e3 * total / rates["flops_a_second"]
    launching = 1e3 * traffic.operations * rates["seconds_a_launch"]
    summary = (
        f"{traffic.bytes / 1e9:.1f} GB at {rates['bytes_a_second'] / 1e9:,.0f} GB/s: {moving:.1f} ms; "
        f"{total / 1e9:,.0f} GFLOP at {rates['flops_a_second'] / 1e12:,.2f} TFLOP/s: {computing:.1f} ms; "
        f"{traffic.operations} operations at {1e6 * rates['seconds_a_launch']:.1f} microseconds: {launching:.1f} ms"
    )
    record = {"bytes": traffic.bytes, "flops": total, "operations": traffic.operations, "views": traffic.views, **rates}
    times = {"moving_ms": moving, "computing_ms": computing, "launching_ms": launching}
    return {"passed": True, "summary": summary, **record, **times, "batch": settings["batch"]}


def traffic_of(settings: dict[str, Any]) -> tuple[Traffic, int]:
    """Count the operations, bytes and FLOPs of SAFMN's training step on CUDA, on tensors without data."""
    traffic, flops = Traffic(), FlopCounterMode(display=False)
    torch.manual_seed(0)
    network = memory.use_form(networks.build("safmn", SCALE), "fused")
    step = forms.step(network, settings, torch.device("meta"))
    sides = (settings["patch"], settings["patch"] * SCALE)
    lr, hr = (torch.empty(settings["batch"], 3, s, s, dtype=torch.uint8, device="meta") for s in sides)
    # torch's fused Adam, one operation on CUDA, has no form for tensors without data; tensor by tensor it is thousands.
    weights = sum(each.numel() * each.element_size() for each in step.network.parameters())
    step.optimiser.step = lambda: None  # type: ignore[method-assign,assignment]
    with traffic:
        step(0, lr, hr)
    with flops:  # apart: it takes operations to pieces, which would be counted too
        step(1, lr, hr)
    traffic.operations += 1
    traffic.bytes += 7 * weights  # weight, gradient and two moments are read, weight and moments written
    return traffic, flops.get_total_flops()


def _rates(device: Device) -> dict[str, float]:
    """Measure what the device copies and multiplies in a second, and how long it takes to launch a kernel."""
    count, side = (2**27, 8192) if device.kind == "cuda" else (2**23, 512)
    source, matrix, tiny = (torch.ones(shape, device=device.torch_device) for shape in ((count,), (side, side), (1,)))
    target = torch.empty_like(source)
    copying = calibration.timed(lambda: target.copy_(source), device, 0.5).seconds
    multiplying = calibration.timed(lambda: matrix @ matrix, device, 0.5).seconds
    launching = calibration.timed(lambda: [tiny.add_(1.0) for _ in range(200)], device, 0.3).seconds / 200
    return {
        "bytes_a_second": 2 * source.nbytes / copying,
        "flops_a_second": 2 * side**3 / multiplying,
        "seconds_a_launch": launching,
    }
