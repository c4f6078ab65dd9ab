"""The time of a study's runs from a calibration of a few seconds: one network is timed, the others by their FLOPs."""

import time
from collections.abc import Sequence

from safmn import networks
from safmn.configuration import as_plain
from safmn.cost import memory
from safmn.device import lease
from safmn.device.description import Device
from safmn.paper import published
from safmn.planning import calibration, plan
from safmn.planning.sizes import Sizes
from safmn.planning.wallclock import makespan, spoken, with_days
from safmn.report.measured import Results
from safmn.study import Run, Study

BUDGET = 1.0  # seconds of training steps


def sentence(study: Study, runs: Sequence[Run], device: Device, cores: int) -> str:
    """Return about how long some runs take, each from its first iteration, and from what that follows.

    A step of one network is timed; other networks take as long as their FLOPs say, which is rough: memory traffic
    counts as well. `safmn plan` times every network.

    Args:
        study: the study.
        runs: the runs of it that have to be done.
        device: the device to calibrate on.
        cores: CPU cores that jobs may use.
    """
    if not runs or study.training is None:
        return "no runs to train"
    first = next((run for run in runs if run.variant == "safmn"), runs[0])
    specification = study.specification(first)
    settings = specification["training"]
    needs = memory.predict_training(first.variant, first.scale, settings)
    with calibration.as_in_training(device.torch_device, as_plain(study.training)):
        step = calibration.step(specification, study.run, device, BUDGET, needs["peak"]).seconds
        pixel = calibration.evaluating(specification, device, BUDGET / 2)
    # What this process did beside the two measurements, each job does before it works: above all, it imports torch.
    start = max(0.0, time.process_time() - 1.5 * BUDGET)
    sizes = Sizes(study)
    results = Results(study.results)
    reference = _flops(results, first)
    seconds = []
    for run in runs:
        training = study.training_of(run.variant)
        work = (_flops(results, run) or reference) / reference if reference else 1.0
        pixels = training.batch * training.patch**2 / (settings["batch"] * settings["patch"] ** 2)
        costs = plan.Costs(work * pixels * step, work * pixel, work * pixel, start)
        seconds.append(sum(plan.seconds_of(study, run, costs, sizes).values()))
    is_cpu = device.kind == "cpu"
    at_once = max(1, cores // study.training.threads if is_cpu else len(lease.visible_devices()))
    count, what = (cores, "core") if is_cpu else (at_once, "GPU")
    return (
        f"about {with_days(makespan(seconds, at_once))} on {count} {what}{'s' * (count > 1)} for {len(runs)} "
        f"run{'s' * (len(runs) > 1)} ({spoken(step)} a step of {first.variant}, others by their FLOPs)"
    )


def _flops(results: Results, run: Run) -> float | None:
    """Return a network's FLOPs as counted in the study, else as published; None if neither is there."""
    counted = results.complexity(run.variant, run.scale)
    if isinstance(counted, dict):
        return float(counted["flops"])
    cells = published.of(networks.info(run.variant))
    return next((1e9 * cell.value for cell in cells if (cell.column, cell.scale) == ("flops", run.scale)), None)
