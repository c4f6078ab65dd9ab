"""The parts of `safmn gpu-check`: each measures or compares one thing, in a process of its own.

`python -m safmn.planning.gpu_parts` reads a request as JSON from stdin and ends with one line of JSON: what the part
found. On a CPU the parts that apply run in a small size; the others raise `NeedsGpu`.
"""

import copy
import hashlib
import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # documented, but not in torch's stubs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

from safmn import networks, paths
from safmn.configuration import as_plain
from safmn.cost import memory, operations, runtime, timing
from safmn.device import description
from safmn.device.memory import is_out_of_memory
from safmn.errors import as_line
from safmn.networks import variants
from safmn.planning import calibration, plan
from safmn.quality import batched, evaluation
from safmn.schema import Training
from safmn.study import Study
from safmn.training import capture, forms, loss
from safmn.training.step import TrainStep

Record = dict[str, Any]
SCALE = 4
ITERATIONS = {"cuda": 50, "cpu": 6}  # of the comparisons bit for bit
TOLERANCE = {"forward": 1e-4, "gradient": 3e-2, "loss": 1e-4, "metrics": 1e-6, "evaluation_db": 1e-2}
"""Largest differences from the CPU's float64: of values relative to the largest, of gradients by norms, and in dB."""
SAME_LOSS = 5e-3  # relative; two forms whose first losses differ by more do not learn the same


class NeedsGpu(Exception):
    """A part that says nothing on a CPU."""


def settings_of(device: description.Device, **changes: Any) -> dict[str, Any]:
    """Return the `training` section of the paper's step; on a CPU with few patches."""
    content = as_plain(Training(iterations=500_000, validate_every=5000, batch=64, patch=64, precision="tf32"))
    size = {} if device.kind == "cuda" else {"batch": 2, "precision": "float32"}
    return {**content, "threads": torch.get_num_threads(), **size, **changes}


def batches(count: int, settings: Mapping[str, Any], device: description.Device) -> list[tuple[Tensor, Tensor]]:
    """Return batches of noise on the device: uint8 LR and HR."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(count):
        sides = (settings["patch"], settings["patch"] * SCALE)
        shapes = [(settings["batch"], 3, side, side) for side in sides]
        made.append(tuple(torch.randint(0, 256, s, dtype=torch.uint8, generator=generator) for s in shapes))
    return [(lr.to(device.torch_device), hr.to(device.torch_device)) for lr, hr in made]


def new_step(name: str, settings: dict[str, Any], device: description.Device, scale: int = SCALE) -> TrainStep:
    """Return the training step of a network at the initial weights of seed 0."""
    torch.manual_seed(0)
    return forms.step(networks.accelerate(networks.build(name, scale)), settings, device.torch_device)


# --- Equal results ---------------------------------------------------------------------------------------------------


def tests(device: description.Device, request: Record) -> Record:
    """Run the tests that are marked `gpu`."""
    if device.kind != "cuda":
        raise NeedsGpu
    if not (paths.ROOT / "tests").is_dir():
        raise RuntimeError("the tests are in a checkout only")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stdout + done.stderr)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    return {"passed": done.returncode == 0, "summary": last}


def equality(device: description.Device, request: Record) -> Record:
    """Compare every network's forward pass and gradients, the loss, metrics and evaluation with the CPU's float64."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    found: dict[str, Record] = {}
    for name in networks.all_networks():
        try:
            found[name] = _network_differs(name, device)
        except Exception as error:  # one network must not lose the others
            found[name] = {"error": as_line(error)}
    found["loss"] = _loss_differs(device)
    found["metrics"] = _metrics_differ(device)
    found["evaluation"] = _evaluation_differs(device)
    wrong = [name for name, each in found.items() if not _is_within(each)]
    worst = {key: max((each.get(key, 0.0) for each in found.values()), default=0.0) for key in ("forward", "gradient")}
    summary = f"{len(found) - len(wrong)} of {len(found)} equal to float64 on the CPU; largest difference of a forward "
    summary += f"pass {worst['forward']:.1e}, of a gradient {worst['gradient']:.1e}"
    summary += f"; NOT EQUAL: {', '.join(wrong)}" if wrong else ""
    return {"passed": not wrong, "summary": summary, "tolerance": TOLERANCE, "differences": found}


def _is_within(differences: Record) -> bool:
    return "error" not in differences and all(
        value <= TOLERANCE[key] for key, value in differences.items() if key in TOLERANCE
    )


def _network_differs(name: str, device: description.Device) -> Record:
    """Variants in training mode, as they are trained; published networks in eval mode, as they are used."""
    info = networks.info(name)
    scale = SCALE if SCALE in info.scales else info.scales[0]
    torch.manual_seed(0)
    written = networks.build(name, scale).train(name in variants.discover())
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, info.channels, 24, 32, generator=generator)
    weight = torch.randn(2, info.channels, 24 * scale, 32 * scale, generator=generator)

    def both(network: nn.Module, on: torch.device, dtype: torch.dtype) -> list[Tensor]:
        network = network.to(on, dtype)
        x = image.to(on, dtype).requires_grad_()
        y = network(x)
        wanted = [x, *(each for each in network.parameters() if each.requires_grad)]
        gradients = (
            torch.autograd.grad((y * weight.to(on, dtype)).sum(), wanted, allow_unused=True) if y.requires_grad else ()
        )
        return [y.detach().cpu().double(), *(each.cpu().double() for each in gradients if each is not None)]

    fast = networks.accelerate(copy.deepcopy(written))
    exact = both(written, torch.device("cpu"), torch.float64)
    got = both(fast, device.torch_device, torch.float32)
    largest = max((float(each.norm()) for each in exact[1:]), default=0.0)
    # By norms: where rounding turns the sign of a ReLU's input, single values of a gradient differ as a whole.
    gradients = [
        float((one - other).norm()) / max(float(other.norm()), 1e-3 * largest, 1e-30)
        for one, other in zip(got[1:], exact[1:], strict=True)
    ]
    forward = float((got[0] - exact[0]).abs().max() / exact[0].abs().max())
    return {"forward": forward, "gradient": max(gradients, default=0.0)}


def _loss_differs(device: description.Device) -> Record:
    generator = torch.Generator().manual_seed(0)
    sr, hr = (torch.rand(2, 3, 64, 64, generator=generator) for _ in range(2))

    def both(on: torch.device, dtype: torch.dtype) -> list[Tensor]:
        x = sr.to(on, dtype).requires_grad_()
        terms = loss.terms(x, hr.to(on, dtype))
        (gradient,) = torch.autograd.grad(terms[0] + 0.05 * terms[1], x)
        return [*(term.detach().cpu().double() for term in terms), gradient.cpu().double()]

    pairs = zip(both(device.torch_device, torch.float32), both(torch.device("cpu"), torch.float64), strict=True)
    values = [float((one - other).abs().max() / other.abs().max()) for one, other in pairs]
    return {"loss": max(values[:2]), "gradient": values[2]}


def _metrics_differ(device: description.Device) -> Record:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(2, 48, 64, dtype=torch.float64, generator=generator) * 255 for _ in range(2))
    worst = 0.0
    for metric in (batched.psnr_planes, batched.ssim_planes):
        there = metric(first.to(device.torch_device), second.to(device.torch_device)).cpu()
        worst = max(worst, float((there - metric(first, second)).abs().max()))
    return {"metrics": worst}


def _evaluation_differs(device: description.Device) -> Record:
    noise = calibration.Noise(SCALE, 96, 128, 3)
    torch.manual_seed(0)
    network = networks.build("safmn", SCALE).eval()
    scores = []
    for on in (device.torch_device, torch.device("cpu")):
        evaluated = evaluation.evaluate(networks.accelerate(copy.deepcopy(network)).to(on), noise, SCALE)
        scores.append([score.psnr for score in evaluated.scores])
    return {"evaluation_db": max(abs(one - other) for one, other in zip(*scores, strict=True))}


# --- Equal bits ------------------------------------------------------------------------------------------------------


def graph(device: description.Device, request: Record) -> Record:
    """Train eagerly, as a CUDA graph, and resumed from one in the other: all must end with the same bits."""
    count = ITERATIONS[device.kind]
    ways = {"eager": ["eager"], "eager, resumed": ["eager", "eager"]}
    if device.kind == "cuda":
        ways |= {"graph": ["graph"], "graph, resumed eagerly": ["graph", "eager"]}
        ways |= {"eager, resumed as a graph": ["eager", "graph"]}
    settings = settings_of(device, batch=8 if device.kind == "cuda" else 1, patch=32)
    digests = {name: _trained("safmn", modes, count, settings, device) for name, modes in ways.items()}
    different = [name for name, digest in digests.items() if digest != digests["eager"]]
    summary = f"{', '.join(ways)}: {count} iterations, "
    summary += f"OTHER BITS: {', '.join(different)}" if different else "the same bits"
    summary += "" if device.kind == "cuda" else " (a CUDA graph needs a GPU)"
    return {"passed": not different, "summary": summary, "digests": digests}


def determinism(device: description.Device, request: Record) -> Record:
    """Train every variant twice from the same seed."""
    count = 10 if device.kind == "cuda" else 1
    settings = settings_of(device, batch=8 if device.kind == "cuda" else 1, patch=64 if device.kind == "cuda" else 16)
    names = list(variants.discover()) if device.kind == "cuda" else ["safmn", "ln_bn", "avg_pool"]
    different = []
    for name in names:
        one, other = (_trained(name, ["eager"], count, settings, device) for _ in range(2))
        if one != other:
            different.append(name)
    summary = f"{len(names)} variants trained twice for {count} iterations: "
    summary += f"OTHER BITS: {', '.join(different)}" if different else "the same bits"
    return {"passed": not different, "summary": summary, "different": different}


def _trained(name: str, modes: Sequence[str], count: int, settings: dict[str, Any], device: description.Device) -> str:
    """Train for `count` iterations, an equal share in each mode with a saved state between; digest the last state."""
    made = batches(count, settings, device)
    state: Record | None = None
    done = 0
    with calibration.as_in_training(device.torch_device, settings):
        for number, mode in enumerate(modes, 1):
            step = new_step(name, settings, device)
            if state is not None:
                step.restore(state)
            learn = capture.CapturedStep(step) if mode == "graph" else step
            until = count * number // len(modes)
            for iteration in range(done, until):
                learn(iteration, *made[iteration])
            done = until
            state = tree_map(lambda value: value.cpu().clone() if isinstance(value, Tensor) else value, step.state())
    digested = hashlib.sha256()
    for leaf in tree_leaves(state):
        if isinstance(leaf, Tensor):
            digested.update(leaf.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digested.hexdigest()


# --- Memory ----------------------------------------------------------------------------------------------------------


def memory_inference(device: description.Device, request: Record) -> Record:
    """Compare the predicted peak of every network's inference with the measured one."""
    if not isinstance(device, description.Cuda):
        raise NeedsGpu
    found: dict[str, Record] = {}
    for name in networks.all_networks():
        info = networks.info(name)
        scale = SCALE if SCALE in info.scales else info.scales[0]
        try:
            record = memory.measure(name, scale, 180, 320, device=device)
        except Exception as error:
            record = {"status": as_line(error)}
        if record["status"] == "measured":
            record["workspace"] = record["peak"] - record["predicted"]
        found[name] = record
    measured = {name: each for name, each in found.items() if each["status"] == "measured"}
    far = [name for name, each in measured.items() if each["flagged"]]
    summary = f"{len(measured)} of {len(found)} measured; {len(far)} differ by more than {memory.MAX_DIFFERENCE:g} %"
    summary += f": {', '.join(far)}" if far else ""
    return {"passed": not far and len(measured) == len(found), "summary": summary, "networks": found}


def memory_training(device: description.Device, request: Record) -> Record:
    """Compare the predicted peak of a training step with the measured one."""
    settings = settings_of(device)
    predicted = memory.predict_training("safmn", SCALE, settings)
    said = f"batch {settings['batch']}: predicted {predicted['peak'] / 2**20:,.0f} MiB"
    if not isinstance(device, description.Cuda):
        return {"passed": True, "summary": f"{said} (measuring needs a GPU)", "predicted": predicted}
    with calibration.as_in_training(device.torch_device, settings):
        device.empty()
        before = device.allocated()
        step = new_step("safmn", settings, device)
        made = batches(1, settings, device)
        step(0, *made[0])
        device.synchronise()
        device.reset_peak()
        step(1, *made[0])
        device.synchronise()
        peak = device.peak() - before
    difference = 100 * (peak / predicted["peak"] - 1)
    summary = f"{said}, measured {peak / 2**20:,.0f} MiB ({difference:+.1f} %, workspaces of cuDNN included)"
    passed = abs(difference) <= memory.MAX_DIFFERENCE
    return {"passed": passed, "summary": summary, "predicted": predicted, "measured": peak}


# --- Tables 2 and 5 --------------------------------------------------------------------------------------------------


def table2(device: description.Device, request: Record) -> Record:
    """Time the networks of Table 2, by turns; not compiled, which takes minutes (`safmn runtime --modes all` does)."""
    names = ["safmn", *(name for name, each in networks.all_networks().items() if 2 in each.rows)]
    size = {"images": 20, "rounds": 2, "modes": [mode for mode in timing.MODES if mode != "compiled"]}
    if device.kind == "cpu":
        size = {"images": 1, "rounds": 1, "modes": ["eager"], "height": 24, "width": 32}
        names = names[:3]
    record = runtime.measure(list(dict.fromkeys(names)), SCALE, processes=1, habit=False, device=device.kind, **size)  # type: ignore[arg-type]
    shown = {
        name: each["eager"]["median_ms"] for name, each in record["networks"].items() if "median_ms" in each["eager"]
    }
    summary = ", ".join(f"{name} {value:.2f}" for name, value in shown.items())
    return {"passed": len(shown) == len(record["networks"]), "summary": f"eager, ms an image: {summary}", **record}


def table5(device: description.Device, request: Record) -> Record:
    """Time the operations of Table 5."""
    images, height, width = (20, 180, 320) if device.kind == "cuda" else (1, 24, 32)
    record = operations.measure(images, SCALE, height, width, on=device.kind)
    shares = {each["title"]: each["share"] for each in record["operations"].values()}
    summary = ", ".join(f"{title} {share:.0%}" for title, share in shares.items())
    return {"passed": True, "summary": summary, **record}


# --- The training step -----------------------------------------------------------------------------------------------


def step_form(device: description.Device, request: Record) -> Record:
    """Time one form of the training step beside the usual one, by turns, eagerly and as a CUDA graph.

    For the usual form also the reference trainer's step (benchmarks/train_step.py) where this is a checkout.
    """
    form = request["form"]
    usual = settings_of(device)
    if form == "bf16":
        settings = usual | {"precision": "bf16"}
    else:
        settings = usual if form == forms.USUAL else usual | {"form": form}
    made = batches(4, usual, device)
    figures: dict[str, Record] = {}
    reference = _reference(device, made) if form == forms.USUAL else None
    losses = [_first_losses(each, device, made) for each in (usual, settings)]
    difference = max(abs(one / other - 1) for one, other in zip(*losses, strict=True))
    _time_beside(figures, form, usual, settings, device, made, reference, False)
    if device.kind == "cuda":
        try:
            _time_beside(figures, f"{form}, graph", usual, settings, device, made, None, True)
        except Exception as error:
            figures[f"{form}, graph"] = {"error": as_line(error)}
    same = difference <= SAME_LOSS or form == "bf16"
    parts = [
        f"{name} {each['ms']:.1f} ms ({each['times_usual']:.2f} of the usual)" if "ms" in each else f"{name}: failed"
        for name, each in figures.items()
    ]
    summary = f"batch {usual['batch']}: {'; '.join(parts)}; losses differ by {difference:.1e}"
    record = {"passed": same, "summary": summary, "form": form, "settings": settings, "times": figures}
    return record | {"loss_difference": difference, "first_losses": losses[1]}


def _first_losses(settings: dict[str, Any], device: description.Device, made: list[Any], count: int = 3) -> list[float]:
    with calibration.as_in_training(device.torch_device, settings):
        step = new_step("safmn", settings, device)
        return [float(step(iteration, *made[iteration])[:2].sum()) for iteration in range(count)]


def _time_beside(
    figures: dict[str, Record],
    name: str,
    usual: dict[str, Any],
    settings: dict[str, Any],
    device: description.Device,
    made: list[tuple[Tensor, Tensor]],
    reference: Callable[[int], object] | None,
    as_graph: bool,
) -> None:
    """Add the median milliseconds of a step to `figures`, and its ratio to the usual step of the same turns."""
    blocks, steps = (5, 20) if device.kind == "cuda" else (3, 1)

    def stepping(own: dict[str, Any], recorded: bool) -> Callable[[int], object]:
        step = new_step("safmn", own, device)
        learn = capture.CapturedStep(step) if recorded else step
        return lambda iteration: learn(iteration, *made[iteration % len(made)])

    # The flags of a precision hold for all in a process, so each turn sets its own.
    ways: dict[str, tuple[dict[str, Any], Callable[[int], object]]] = {"usual": (usual, stepping(usual, False))}
    if name != "usual":
        with calibration.as_in_training(device.torch_device, settings):
            ways[name] = (settings, stepping(settings, as_graph))
    if reference is not None:
        ways["reference"] = (usual, reference)
    times: dict[str, list[float]] = {each: [] for each in ways}
    for block in range(-1, blocks):  # the first is warm-up: compilation, recording
        for each, (own, work) in ways.items():
            with calibration.as_in_training(device.torch_device, own):
                count = max(steps if block >= 0 else steps // 4, capture.WARM_UP + 2 if as_graph and block < 0 else 1)
                for iteration in range(count if block < 0 else 0):
                    work(iteration)
                if block < 0:
                    continue
                device.synchronise()
                start = device.mark()
                for iteration in range(count):
                    work(iteration)
                stop = device.mark()
                device.synchronise()
                times[each].append(device.elapsed(start, stop) / count)
    for each, values in times.items():
        ratios = [value / base for value, base in zip(values, times["usual"], strict=True)]
        times_usual = {"times_usual": statistics.median(ratios), "times_usual_at_most": max(ratios)}
        figures.setdefault(each, {"ms": statistics.median(values), **times_usual, "all_ms": values})


def _reference(device: description.Device, made: list[tuple[Tensor, Tensor]]) -> Callable[[int], object] | None:
    folder = paths.ROOT / "benchmarks"
    if not (folder / "train_step.py").is_file():
        return None
    sys.path.insert(0, str(folder))
    module = importlib.import_module("train_step")
    torch.manual_seed(0)
    step = module.ReferenceStep(networks.build("safmn", SCALE), device.torch_device)
    floats = [(lr.float() / 255, hr.float() / 255) for lr, hr in made]
    return lambda iteration: step(*floats[iteration % len(floats)])


def sharing(device: description.Device, request: Record) -> Record:
    """Count the training steps a second of one, two, three and four jobs on the device."""
    if device.kind != "cuda":
        raise NeedsGpu
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
    words = json.dumps({"part": "busy", "device": "cuda", **{key: request.get(key) for key in ("form", "graph")}})
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "safmn.planning.gpu_parts"]
    jobs = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=sys.stderr, text=True) for _ in range(count)]
    try:
        for job in jobs:
            assert job.stdin
            assert job.stdout
            job.stdin.write(words + "\n")
            job.stdin.flush()
            if job.stdout.readline().strip() != "ready":
                raise RuntimeError(f"{count} jobs do not fit the device")
        for job in jobs:
            assert job.stdin
            job.stdin.write("go\n")
            job.stdin.flush()
        answers = [job.communicate(timeout=120)[0].strip().splitlines() for job in jobs]
        return sum(float(json.loads(answer[-1])["steps_a_second"]) for answer in answers)
    finally:
        for job in jobs:
            job.kill()
            job.wait()


def busy(device: description.Device, request: Record) -> Record:
    """Train for six seconds once "go" comes on stdin; one of the jobs of `sharing`."""
    usual = settings_of(device)
    settings = usual | ({"form": request["form"]} if request.get("form") not in (None, forms.USUAL) else {})
    made = batches(4, settings, device)
    with calibration.as_in_training(device.torch_device, settings):
        step = new_step("safmn", settings, device)
        learn = capture.CapturedStep(step) if request.get("graph") else step
        for iteration in range(10):
            learn(iteration, *made[iteration % 4])
        device.synchronise()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        began, done = time.monotonic(), 0
        while time.monotonic() - began < 6.0:
            for iteration in range(5):
                learn(iteration, *made[iteration % 4])
            device.synchronise()
            done += 5
        return {"steps_a_second": done / (time.monotonic() - began)}


def profile(device: description.Device, request: Record) -> Record:
    """Name the ten dearest kernels (on a CPU: operations) of the usual step."""
    settings = settings_of(device)
    made, steps = batches(2, settings, device), 5 if device.kind == "cuda" else 2
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if device.kind == "cuda" else []
    with calibration.as_in_training(device.torch_device, settings):
        step = new_step("safmn", settings, device)
        for iteration in range(2):
            step(iteration, *made[iteration])
        device.synchronise()
        with torch.profiler.profile(activities=activities) as profiler:
            for iteration in range(steps):
                step(iteration, *made[iteration % 2])
            device.synchronise()
    spent: dict[str, list[float]] = {}
    for event in profiler.events():
        on_device = event.device_type == DeviceType.CUDA
        if getattr(event, "is_user_annotation", False) or event.name.startswith("Optimizer."):  # a range around kernels
            continue
        if on_device == (device.kind == "cuda"):
            took = event.device_time_total if on_device else event.self_cpu_time_total
            spent.setdefault(event.name, []).append(took / 1e3)
    if not spent:  # a container or an administrator may forbid it
        return {"passed": False, "summary": "the profiler saw no kernel: CUPTI is missing or not allowed here"}
    whole = sum(map(sum, spent.values())) or 1.0
    dearest = sorted(spent.items(), key=lambda item: -sum(item[1]))[:10]
    rows: list[Record] = [
        {"name": name[:120], "ms": sum(v) / steps, "calls": len(v) / steps, "share": sum(v) / whole}
        for name, v in dearest
    ]
    calls = sum(map(len, spent.values())) / steps
    what = "kernels" if device.kind == "cuda" else "operations"
    summary = f"{calls:,.0f} {what} a step, {whole / steps:.1f} ms; dearest: {rows[0]['name'][:40]}"
    return {"passed": calls > 0, "summary": summary, "dearest": rows, "calls": calls, "ms": whole / steps}


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


def floor(device: description.Device, request: Record) -> Record:
    """Compare the bytes and products of a step with what this device moves and multiplies at best."""
    settings = settings_of(device)
    traffic, total = traffic_of(settings)
    with calibration.as_in_training(device.torch_device, settings):
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


def _rates(device: description.Device) -> dict[str, float]:
    """Measure what the device copies and multiplies in a second, and how long it takes to launch a kernel."""
    count, side = (2**27, 8192) if device.kind == "cuda" else (2**23, 512)
    source = torch.ones(count, device=device.torch_device)
    target = torch.empty_like(source)
    matrix = torch.ones(side, side, device=device.torch_device)
    tiny = torch.ones(1, device=device.torch_device)
    copying = calibration.timed(lambda: target.copy_(source), device, 0.5).seconds
    multiplying = calibration.timed(lambda: matrix @ matrix, device, 0.5).seconds
    launching = calibration.timed(lambda: [tiny.add_(1.0) for _ in range(200)], device, 0.3).seconds / 200
    return {
        "bytes_a_second": 2 * source.nbytes / copying,
        "flops_a_second": 2 * side**3 / multiplying,
        "seconds_a_launch": launching,
    }


# --- Hours -----------------------------------------------------------------------------------------------------------


def hours(device: description.Device, request: Record) -> Record:
    """Plan a study in the recommended form."""
    if device.kind != "cuda":
        raise NeedsGpu
    content = copy.deepcopy(Study.load(request["study"]).content)
    content["run"]["cuda_graph"] = bool(request.get("graph"))
    if request.get("form") not in (None, forms.USUAL):
        content["training"]["form"] = request["form"]
    study = Study.from_content(content, f"config/{request['study']}.yaml")
    record = plan.make(study, device, budget=1.0, parallel=1)
    totals = record["totals"]
    summary = f"{study.name}: {totals['seconds'] / 3600:,.1f} device-hours, {totals['runs']} runs, one job at a time"
    return {"passed": True, "summary": summary, "totals": totals, "assumed": record["assumed"]}


def describe(device: description.Device, request: Record) -> Record:
    """Describe the device: in a process of its own, since the one that asks must not use it."""
    return {"passed": True, "summary": ""}


PARTS: dict[str, Callable[[description.Device, Record], Record]] = {
    "describe": describe,
    "tests": tests,
    "equality": equality,
    "graph": graph,
    "determinism": determinism,
    "memory": memory_inference,
    "memory-training": memory_training,
    "table2": table2,
    "table5": table5,
    "step": step_form,
    "sharing": sharing,
    "busy": busy,
    "profile": profile,
    "floor": floor,
    "hours": hours,
}


def serve(request: Record) -> Record:
    """Run the part that a request names: its record with `status` "done", "needs a GPU" or "failed"."""
    device = description.present(request["device"])
    try:
        found = PARTS[request["part"]](device, request)
    except NeedsGpu:
        return {"status": "needs a GPU", "passed": None, "summary": "needs a GPU"}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return {"status": "failed", "passed": False, "summary": f"out of memory: {as_line(error)}"}
    return {"status": "done", "device": description.describe(device.kind), **found}


def end_group() -> None:
    """End this process and those that it started, such as tests, which would go on and use the device."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    runtime.end_with(os.getppid(), end_group)
    sys.stdout.write(json.dumps(serve(asked)) + "\n")
