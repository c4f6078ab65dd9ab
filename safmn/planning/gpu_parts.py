"""The parts of `safmn gpu-check`: each measures or compares one thing, in a process of its own.

`python -m safmn.planning.gpu_parts` reads a request as JSON from stdin and ends with one line of JSON: what the part
found. On a CPU the parts that apply run in a small size.
"""

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from safmn import networks, paths
from safmn.cost import memory, operations, runtime
from safmn.cost.timing import MODES
from safmn.device import description
from safmn.device.description import Cuda, Device
from safmn.device.memory import is_out_of_memory
from safmn.errors import as_line
from safmn.planning import calibration, gpu_equal, gpu_steps, plan
from safmn.planning.gpu_steps import SCALE, Record, settings_of
from safmn.study import Study
from safmn.training.forms import USUAL


def describe(device: Device, request: Record) -> Record:
    """Describe the device: in a process of its own, since the one that asks must not use it."""
    return {"passed": True, "summary": ""}


def tests(device: Device, request: Record) -> Record:
    """Run the tests that are marked `gpu`."""
    if not (paths.ROOT / "tests").is_dir():
        raise RuntimeError("the tests are in a checkout only")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stdout + done.stderr)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    return {"passed": done.returncode == 0, "summary": last}


def memory_inference(device: Any, request: Record) -> Record:
    """Compare the predicted peak of every network's inference with the measured one."""
    found: dict[str, Record] = {}
    for name in networks.all_networks():
        try:
            record = memory.measure(name, gpu_equal.scale_of(name), 180, 320, device=device)
        except Exception as error:  # one network must not lose the others
            record = {"status": as_line(error)}
        if record["status"] == "measured":
            record["workspace"] = record["peak"] - record["predicted"]
        found[name] = record
    measured = {name: each for name, each in found.items() if each["status"] == "measured"}
    far = [name for name, each in measured.items() if each["flagged"]]
    summary = f"{len(measured)} of {len(found)} measured; {len(far)} differ by more than {memory.MAX_DIFFERENCE:g} %"
    summary += f": {', '.join(far)}" if far else ""
    return {"passed": not far and len(measured) == len(found), "summary": summary, "networks": found}


def memory_training(device: Device, request: Record) -> Record:
    """Compare the predicted peak of a training step with the measured one."""
    settings = settings_of(device)
    predicted = memory.predict_training("safmn", SCALE, settings)
    said = f"batch {settings['batch']}: predicted {predicted['peak'] / 2**20:,.0f} MiB"
    if not isinstance(device, Cuda):
        return {"passed": True, "summary": f"{said} (measuring needs a GPU)", "predicted": predicted}
    with calibration.as_in_training(device.torch_device, settings):
        device.empty()
        before = device.allocated()
        work = gpu_steps.training(settings, device, gpu_steps.batches(1, settings, device))
        work(0)
        device.synchronise()
        device.reset_peak()
        work(1)
        device.synchronise()
        peak = device.peak() - before
    difference = 100 * (peak / predicted["peak"] - 1)
    summary = f"{said}, measured {peak / 2**20:,.0f} MiB ({difference:+.1f} %, workspaces of cuDNN included)"
    passed = abs(difference) <= memory.MAX_DIFFERENCE
    return {"passed": passed, "summary": summary, "predicted": predicted, "measured": peak}


def table2(device: Device, request: Record) -> Record:
    """Time the networks of Table 2, by turns; not compiled, which takes minutes (`safmn runtime --modes all` does)."""
    names = ["safmn", *(name for name, each in networks.all_networks().items() if 2 in each.rows)]
    size: Record = {"images": 20, "rounds": 2, "modes": [mode for mode in MODES if mode != "compiled"]}
    if device.kind == "cpu":
        size = {"images": 1, "rounds": 1, "modes": ["eager"], "height": 24, "width": 32}
        names = names[:3]
    record = runtime.measure(list(dict.fromkeys(names)), SCALE, processes=1, habit=False, device=device.kind, **size)
    eager = {name: each["eager"] for name, each in record["networks"].items()}
    shown = [f"{name} {each['median_ms']:.2f}" for name, each in eager.items() if "median_ms" in each]
    return {"passed": len(shown) == len(eager), "summary": f"eager, ms an image: {', '.join(shown)}", **record}


def table5(device: Device, request: Record) -> Record:
    """Time the operations of Table 5."""
    images, height, width = (20, 180, 320) if device.kind == "cuda" else (1, 24, 32)
    record = operations.measure(images, SCALE, height, width, on=device.kind)
    shares = [f"{each['title']} {each['share']:.0%}" for each in record["operations"].values()]
    return {"passed": True, "summary": ", ".join(shares), **record}


def hours(device: Device, request: Record) -> Record:
    """Plan a study in the recommended form."""
    content = copy.deepcopy(Study.load(request["study"]).content)
    content["run"]["cuda_graph"] = bool(request.get("graph"))
    if request.get("form") not in (None, USUAL):
        content["training"]["form"] = request["form"]
    study = Study.from_content(content, f"config/{request['study']}.yaml")
    record = plan.make(study, device, budget=1.0, parallel=1)
    totals = record["totals"]
    summary = f"{study.name}: {totals['seconds'] / 3600:,.1f} device-hours, {totals['runs']} runs, one job at a time"
    return {"passed": True, "summary": summary, "totals": totals, "assumed": record["assumed"]}


PARTS: dict[str, Callable[[Device, Record], Record]] = {
    "describe": describe,
    "tests": tests,
    "equality": gpu_equal.equality,
    "graph": gpu_equal.graph,
    "determinism": gpu_equal.determinism,
    "memory": memory_inference,
    "memory-training": memory_training,
    "table2": table2,
    "table5": table5,
    "step": gpu_steps.step_form,
    "sharing": gpu_steps.sharing,
    "busy": gpu_steps.busy,
    "profile": gpu_steps.profile,
    "floor": gpu_steps.floor,
    "hours": hours,
}
NEED_A_GPU = {"tests", "memory", "sharing", "hours"}
"""The parts that say nothing on a CPU."""


def serve(request: Record) -> Record:
    """Run the part that a request names: its record with `status` "done", "needs a GPU" or "failed"."""
    device, part = description.present(request["device"]), request["part"]
    if part in NEED_A_GPU and device.kind != "cuda":
        return {"status": "needs a GPU", "passed": None, "summary": "it says nothing on a CPU"}
    try:
        found = PARTS[part](device, request)
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
