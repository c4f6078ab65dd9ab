"""Hours, memory and disk of a study, from a short calibration of each of its networks."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from safmn.configuration import as_plain
from safmn.cost import memory
from safmn.device.description import Cpu, Cuda, describe
from safmn.files import digest
from safmn.planning import calibration, disk
from safmn.planning.calibration import Step, as_in_training
from safmn.planning.sizes import Sizes
from safmn.planning.wallclock import makespan
from safmn.study import Run, Study

TIMED_KEYS = ("batch", "patch", "precision", "threads", "ema_buffers")
EVALUATED = 2  # weights of each run: best and last
UNSTEADY = 0.25  # interquartile range over median, from which a median of few steps says little
PROCESSES = 1 + EVALUATED  # jobs of each run: training, and an evaluation of each


def make(
    study: Study,
    device: Cpu | Cuda,
    budget: float,
    parallel: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """The plan of a study as plain data; times in seconds, sizes in bytes.

    Args:
        device: what is calibrated on.
        budget: seconds for each network, about: half of them for training steps.
        parallel: devices that work on the study at once.
        on_progress: called with (calibrations done, calibrations in all).

    Returns:
        `networks` (one for each that differs: variants, step, memory, seconds for each HR pixel), `runs` (one for each
        training run), `totals`, `disk`, `measured` and `assumed` (sentences), `provenance`, `settings`.
    """
    sizes = Sizes(study)
    groups = alike(study)
    steps = len(groups) * 3 + bool(groups)
    ticks = itertools.count()

    def advance() -> None:
        on_progress(next(ticks), steps)

    advance()
    found: list[dict[str, Any]] = []
    if groups:
        first = study.specification(groups[0][0])
        peaks = [_memory(study.specification(group[0])) for group in _telling(groups, advance)]
        with as_in_training(device.torch_device, first["training"]):
            # Here, since it holds what decides a figure: threads, precision, kernels.
            provenance = describe(device.kind)
            for group, peak in zip(_telling(groups, advance), peaks, strict=True):
                found.append(_calibrate(study, group, device, budget, peak, sizes))
        for group, figures in zip(_telling(groups, advance), found, strict=True):
            specification = study.specification(group[0])
            figures["evaluation_seconds_per_pixel"] = calibration.evaluating(specification, device, budget / 4)
        start = calibration.starting(device)
        advance()
    else:
        provenance, start = describe(device.kind), 0.0
    runs = [
        _run(study, run, figures, start, sizes) for group, figures in zip(groups, found, strict=True) for run in group
    ]
    order = {run.folder: place for place, run in enumerate(study.runs())}
    runs.sort(key=lambda each: order[each["folder"]])
    record = {
        "study": study.name,
        "training": study.training and as_plain(study.training),
        "provenance": provenance,
        "settings": {
            "device": device.kind,
            "seconds_per_variant": budget,
            "parallel": parallel,
            "cuda_graph": device.kind == "cuda" and study.run.cuda_graph,
        },
        "process_start_seconds": start,
        "networks": found,
        "runs": runs,
        "totals": _totals(runs, parallel),
        "disk": _disk(study, runs, sizes),
    }
    return record | {"measured": _measured(record), "assumed": _assumed(study, record)}


def alike(study: Study) -> list[list[Run]]:
    """The study's runs in groups of the same network, scale and whatever else decides the time of a step."""
    groups: dict[str, list[Run]] = {}
    for run in study.runs():
        specification = study.specification(run)
        settings = {key: specification["training"][key] for key in TIMED_KEYS}
        groups.setdefault(digest([specification["switches"], run.scale, settings]), []).append(run)
    return list(groups.values())


def _telling(groups: list[list[Run]], advance: Callable[[], None]) -> Iterator[list[Run]]:
    """The groups one by one, telling after each that it is done."""
    for group in groups:
        yield group
        advance()


def _calibrate(
    study: Study, group: list[Run], device: Cpu | Cuda, budget: float, needs: dict[str, Any], sizes: Sizes
) -> dict[str, Any]:
    run = group[0]
    specification = study.specification(run)
    resident = None
    if device.kind == "cuda":  # as the sampler decides with the study's own images
        resident = 2 * _training_bytes(sizes, run.scale) <= calibration.free_memory(device)
    run_settings = study.run
    step: Step = calibration.step(specification, run_settings, device, budget / 2, needs["peak"], resident)
    return {
        "variants": list(dict.fromkeys(each.variant for each in group)),
        "scale": run.scale,
        "runs": len(group),
        "step": step.record(),
        "images_on_device": resident,
        "memory": needs,
        "fits_memory": _fits(study, needs["peak"], _training_bytes(sizes, run.scale) if resident else 0, device),
        "bytes_a_run": disk.of_run(specification, run_settings),
        "validation_seconds_per_pixel": calibration.validating(specification, device, budget / 4),
    }


def _memory(specification: dict[str, Any]) -> dict[str, Any]:
    return memory.predict_training(specification["network"], specification["scale"], specification["training"])


def _fits(study: Study, peak: int, images: int, device: Cpu | Cuda) -> bool | None:
    """Whether as many jobs as are to share the device fit into its memory; None on a CPU, of which nothing is said."""
    if device.kind != "cuda":
        return None
    room = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return study.run.jobs_per_device * (peak + images) <= room


def _training_bytes(sizes: Sizes, scale: int) -> int:
    return sum(size.bytes for size in sizes.selections("train", scale))


def _run(study: Study, run: Run, figures: dict[str, Any], start: float, sizes: Sizes) -> dict[str, Any]:
    specification = study.specification(run)
    settings = specification["training"]
    validations = settings["iterations"] // settings["validate_every"]
    validations += settings["iterations"] % settings["validate_every"] != 0  # one at the end, in any case
    pixels = {use: sum(each.hr_pixels for each in sizes.selections(use, run.scale)) for use in ("validation", "test")}
    parts = {
        "training_seconds": settings["iterations"] * figures["step"]["seconds"],
        "validation_seconds": validations * pixels["validation"] * figures["validation_seconds_per_pixel"],
        "evaluation_seconds": EVALUATED * pixels["test"] * figures["evaluation_seconds_per_pixel"],
        "start_seconds": PROCESSES * start,
    }
    return {
        "folder": run.folder,
        "variant": run.variant,
        "scale": run.scale,
        "seed": run.seed,
        "iterations": settings["iterations"],
        "seconds_per_iteration": (parts["training_seconds"] + parts["validation_seconds"]) / settings["iterations"],
        **parts,
        "seconds": sum(parts.values()),
        "bytes": figures["bytes_a_run"],
    }


def _totals(runs: list[dict[str, Any]], parallel: int) -> dict[str, Any]:
    keys = ("training_seconds", "validation_seconds", "evaluation_seconds", "start_seconds", "seconds")
    return {
        "runs": len(runs),
        "iterations": sum(run["iterations"] for run in runs),
        **{key: sum(run[key] for run in runs) for key in keys},
        "longest_run_seconds": max((run["seconds"] for run in runs), default=0.0),
        "wall_clock_seconds": makespan((run["seconds"] for run in runs), parallel),
        "wall_clock_devices": parallel,
    }


def _disk(study: Study, runs: list[dict[str, Any]], sizes: Sizes) -> dict[str, Any]:
    datasets = disk.packed(study, sizes)
    missing = [each["dataset"] for each in datasets if each["origin"] == "facts"]
    # By hand, HR images are enough; the workflow takes the publishers' LR images as well.
    fetched = disk.downloads(list(dict.fromkeys(missing)), study.scales if study.data.download else ())
    parts = {key: sum(run["bytes"][key] for run in runs) for key in ("states", "weights", "history", "scalars")}
    parts["packed"] = sum(each["bytes"] or 0 for each in datasets)
    there = sum(each["bytes"] or 0 for each in datasets if each["present"])
    total = sum(parts.values())
    return {
        **parts,
        "total": total,
        "present": there,
        "free": disk.free(study.results),
        "fits": total - there <= disk.free(study.results),
        "datasets": datasets,
        "downloads": fetched,
        "download_bytes": sum(size or 0 for size in fetched.values()),
    }


def _measured(record: dict[str, Any]) -> list[str]:
    if not record["networks"]:
        return []
    graph = "recorded as a CUDA graph, " if record["settings"]["cuda_graph"] else ""
    said = [
        f"the training step of {len(record['networks'])} networks ({graph}median after warm-up, the data's draw "
        "included), their validation and evaluation for each HR pixel, and the start of a process, one thing at a time"
    ]
    scaled = [each["step"] for each in record["networks"] if each["step"]["measured_batch"] < each["step"]["batch"]]
    if scaled:
        sizes = sorted({step["measured_batch"] for step in scaled})
        reasons = "; ".join(dict.fromkeys(step["reason"] for step in scaled))
        said.append(
            f"{len(scaled)} of them with {' or '.join(map(str, sizes))} of {scaled[0]['batch']} patches, scaled by the "
            f"number of patches (rather too much: few patches use a device less well), since {reasons}"
        )
    unsteady = sum(each["step"]["timing"]["spread"] > UNSTEADY for each in record["networks"])
    if unsteady:
        said.append(
            f"the steps of {unsteady} of them scatter by more than {UNSTEADY:.0%} (IQR): something else keeps this "
            "device busy, so calibrate again when it is quiet"
        )
    return said


def _assumed(study: Study, record: dict[str, Any]) -> list[str]:
    said = []
    origins: dict[str, list[str]] = {}
    for each in record["disk"]["datasets"]:
        origins.setdefault(each["origin"], []).append(each["dataset"])
    for origin in ("facts", "unknown"):
        names = ", ".join(dict.fromkeys(origins.get(origin, [])))
        if names and origin == "facts":
            said.append(f"sizes of {names} are known facts, not looked at: the images are not here")
        elif names:
            said.append(f"nothing is known about {names}: counted as nothing")
    if record["runs"]:
        said.append("every run goes on to its last iteration (one that collapses is shorter)")
        said.append("memory is the peak of a training step on CUDA, predicted, without cuDNN's workspaces")
        shared = study.run.jobs_per_device
        if shared > 1:
            said.append(f"{shared} jobs that share a device are no faster together than one after the other")
        if record["settings"]["device"] == "cpu":
            asked, had = study.training.threads, record["provenance"]["threads"]
            said.append(
                f"each job has a CPU to itself with {had} thread{'s' * (had > 1)}"
                + (f" (the study says {asked}, but there are no more cores here)" if had < asked else "")
            )
    said.append("not counted: downloading and packing, Tables 2 and 5, other networks' published weights, waiting")
    return said
