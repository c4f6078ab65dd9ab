"""Hours, memory and disk that a study needs, from a short calibration of each of its networks."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from safmn import networks
from safmn.configuration import as_plain
from safmn.cost import memory
from safmn.device.description import Device, describe
from safmn.files import digest, free_bytes
from safmn.planning import calibration, disk
from safmn.planning.calibration import as_in_training
from safmn.planning.sizes import Sizes
from safmn.planning.wallclock import makespan
from safmn.study import Run, Study

TIMED_KEYS = ("batch", "patch", "precision", "form", "threads", "ema_buffers", "loss", "optimiser", "gradient_clip")
EVALUATED = 2  # weights of each run: best and last, in one process
PROCESSES = 2  # of each run: training, and evaluation
UNSTEADY = 0.25  # interquartile range over median above which a median of few steps is not reliable
PARTS = ("training_seconds", "validation_seconds", "evaluation_seconds", "start_seconds")


class Costs(NamedTuple):
    """What a network takes on a device, in seconds.

    Attributes:
        step: a training step.
        validation: a validation, for each HR pixel.
        evaluation: an evaluation of one file of weights, for each HR pixel.
        start: the start of a process.
    """

    step: float
    validation: float
    evaluation: float
    start: float


def make(
    study: Study,
    device: Device,
    budget: float,
    parallel: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Plan a study.

    Args:
        study: the study.
        device: the device to calibrate on.
        budget: seconds for each network, approximately; half of them for training steps.
        parallel: the number of devices that work on the study at once.
        on_progress: called with the number of measurements done and the number of all.

    Returns:
        Plain data, times in seconds and sizes in bytes: `networks` (one for each that differs: variants, step, memory,
        seconds for each HR pixel), `runs` (one for each training run), `totals`, `disk`, `measured` and `assumed`
        (sentences), `provenance`, `settings`.
    """
    sizes, groups = Sizes(study), alike(study)
    total = len(groups) + 1
    on_progress(0, total)
    calibrated: list[dict[str, Any]] = []
    for group in groups:
        calibrated.append(_calibrate(study, group, device, budget, sizes))
        on_progress(len(calibrated), total)
    start = calibration.starting(device) if groups else 0.0
    on_progress(total, total)
    training = study.training and as_plain(study.training)
    with as_in_training(device.torch_device, training) if training else nullcontext():
        provenance = describe(device.kind)  # with the threads, precision and kernels of training
    network_of = {run: network for group, network in zip(groups, calibrated, strict=True) for run in group}
    runs = [_run(study, run, network_of[run], start, sizes) for run in study.runs()]
    record = {
        "study": study.name,
        "training": training,
        "provenance": provenance,
        "settings": {
            "device": device.kind,
            "seconds_per_variant": budget,
            "parallel": parallel,
            "cuda_graph": device.kind == "cuda" and study.run.cuda_graph,
        },
        "process_start_seconds": start,
        "networks": calibrated,
        "runs": runs,
        "totals": {
            "runs": len(runs),
            "iterations": sum(run["iterations"] for run in runs),
            **{key: sum(run[key] for run in runs) for key in (*PARTS, "seconds")},
            "longest_run_seconds": max((run["seconds"] for run in runs), default=0.0),
            "wall_clock_seconds": makespan((run["seconds"] for run in runs), parallel),
            "wall_clock_devices": parallel,
        },
        "disk": _disk(study, runs, sizes),
    }
    return record | {"measured": _measured(record), "assumed": _assumed(study, record)}


def alike(study: Study) -> list[list[Run]]:
    """Group the study's runs by network, scale and everything else that decides the time of a step."""
    groups: dict[str, list[Run]] = {}
    for run in study.runs():
        specification = study.specification(run)
        settings = {key: specification["training"].get(key) for key in TIMED_KEYS}
        network = networks.info(run.variant)
        built = [network.code, specification["switches"], dict(network.arguments), specification["train"]]
        groups.setdefault(digest([*built, run.scale, settings]), []).append(run)
    return list(groups.values())


def _calibrate(study: Study, group: list[Run], device: Device, budget: float, sizes: Sizes) -> dict[str, Any]:
    """Predict the memory of one network, and measure its step, validation and evaluation."""
    specification = study.specification(group[0])
    network, scale, settings = (specification[key] for key in ("network", "scale", "training"))
    needs = memory.predict_training(network, scale, settings)
    images = sum(size.bytes for size in sizes.selections(study.train_of(network), scale))
    resident = fits = None
    if device.kind == "cuda":
        resident = 2 * images <= calibration.free_memory(device)  # as the sampler decides
        room = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        fits = study.run.jobs_per_device * (needs["peak"] + (images if resident else 0)) <= room
    with as_in_training(device.torch_device, settings):
        step = calibration.step(specification, study.run, device, budget / 2, needs["peak"], resident)
        validation = calibration.validating(specification, device, budget / 4)
    return {
        "variants": list(dict.fromkeys(run.variant for run in group)),
        "scale": scale,
        "runs": len(group),
        "step": step.record(),
        "images_on_device": resident,
        "memory": needs,
        "fits_memory": fits,
        "bytes_a_run": disk.of_run(specification, study.run),
        "validation_seconds_per_pixel": validation,
        "evaluation_seconds_per_pixel": calibration.evaluating(specification, device, budget / 4),
    }


def seconds_of(study: Study, run: Run, costs: Costs, sizes: Sizes) -> dict[str, float]:
    """Return the seconds of a run, from its first iteration to the evaluation of its weights, by PARTS.

    Args:
        study: the study.
        run: one of its runs.
        costs: of the run's network.
        sizes: of the study's datasets.
    """
    training = study.training_of(run.variant)
    validations = -(-training.iterations // training.validate_every)  # the last iteration is validated, too
    validated, tested = (
        sum(size.hr_pixels for size in sizes.selections(texts, run.scale))
        for texts in (study.data.validation, study.data.test)
    )
    return {
        "training_seconds": training.iterations * costs.step,
        "validation_seconds": validations * validated * costs.validation,
        "evaluation_seconds": EVALUATED * tested * costs.evaluation,
        "start_seconds": PROCESSES * costs.start,
    }


def _run(study: Study, run: Run, network: dict[str, Any], start: float, sizes: Sizes) -> dict[str, Any]:
    validation, evaluation = (network[f"{part}_seconds_per_pixel"] for part in ("validation", "evaluation"))
    seconds = seconds_of(study, run, Costs(network["step"]["seconds"], validation, evaluation, start), sizes)
    iterations = study.training_of(run.variant).iterations
    return {
        "folder": run.folder,
        **asdict(run),
        "iterations": iterations,
        "seconds_per_iteration": (seconds["training_seconds"] + seconds["validation_seconds"]) / iterations,
        **seconds,
        "seconds": sum(seconds.values()),
        "bytes": network["bytes_a_run"],
    }


def _disk(study: Study, runs: list[dict[str, Any]], sizes: Sizes) -> dict[str, Any]:
    datasets = disk.packed(study, sizes)
    absent = dict.fromkeys(dataset["dataset"] for dataset in datasets if dataset["origin"] == "facts")
    # By hand, HR images are enough; the workflow also downloads the publishers' LR images.
    downloads = disk.downloads(list(absent), study.scales if study.data.download else ())
    parts = {key: sum(run["bytes"][key] for run in runs) for key in ("states", "weights", "history", "scalars")}
    parts["packed"] = sum(dataset["bytes"] or 0 for dataset in datasets)
    present = sum(dataset["bytes"] or 0 for dataset in datasets if dataset["present"])
    total, free = sum(parts.values()), free_bytes(study.results)
    return {
        **parts,
        "total": total,
        "present": present,
        "free": free,
        "fits": total - present <= free,
        "datasets": datasets,
        "downloads": downloads,
        "download_bytes": sum(size or 0 for size in downloads.values()),
    }


def _measured(record: dict[str, Any]) -> list[str]:
    """Say what was measured, and how well."""
    steps = [network["step"] for network in record["networks"]]
    if not steps:
        return []
    graph = "recorded as a CUDA graph, " if record["settings"]["cuda_graph"] else ""
    sentences = [
        f"the training step of {len(steps)} networks ({graph}median after warm-up, with the drawing of patches), their "
        "validation and evaluation for each HR pixel, and the start of a process, one at a time"
    ]
    scaled = [step for step in steps if step["measured_batch"] < step["batch"]]
    if scaled:
        sizes = sorted({step["measured_batch"] for step in scaled})
        reasons = "; ".join(dict.fromkeys(step["reason"] for step in scaled))
        sentences.append(
            f"{len(scaled)} of them with {' or '.join(map(str, sizes))} of {scaled[0]['batch']} patches, scaled by the "
            f"number of patches (an overestimate: few patches use a device less well), since {reasons}"
        )
    unsteady = sum(step["timing"]["spread"] > UNSTEADY for step in steps)
    if unsteady:
        sentences.append(
            f"the steps of {unsteady} of them scatter by more than {UNSTEADY:.0%} (IQR): something else keeps this "
            "device busy, so calibrate again when it is idle"
        )
    return sentences


def _assumed(study: Study, record: dict[str, Any]) -> list[str]:
    """Say what was assumed, and what is not counted."""
    sentences = []
    for origin, what in (
        ("facts", "sizes of {} are known facts, since the images are not here"),
        ("unknown", "nothing is known about {}: counted as 0 bytes"),
    ):
        names = dict.fromkeys(each["dataset"] for each in record["disk"]["datasets"] if each["origin"] == origin)
        if names:
            sentences.append(what.format(", ".join(names)))
    if study.training is not None:
        sentences.append("every run reaches its last iteration (one that collapses is shorter)")
        sentences.append("memory is the predicted peak of a training step on CUDA, without cuDNN's workspaces")
        remarks = dict.fromkeys(network["memory"].get("remark", "") for network in record["networks"])
        sentences += [f"memory and disk are predicted {remark}" for remark in remarks if remark]
        shared = study.run.jobs_per_device
        if shared > 1:
            sentences.append(f"{shared} jobs that share a device are no faster together than one after the other")
        if record["settings"]["device"] == "cpu":
            asked, threads = study.training.threads, record["provenance"]["threads"]
            sentences.append(
                f"each job has a CPU to itself with {threads} thread{'s' * (threads > 1)}"
                + (f" (the study says {asked}, but there are no more cores here)" if threads < asked else "")
            )
    sentences.append("not counted: downloading and packing, Tables 2 and 5, other networks' published weights, waiting")
    return sentences
