"""What a study finds on this machine: its images, room on the disk, memory and time of a training step."""

from collections.abc import Iterator, Sequence

from safmn.cost import memory
from safmn.data import sources
from safmn.device import host
from safmn.device.description import Device
from safmn.device.doctor import Finding
from safmn.errors import UserError
from safmn.files import free_bytes
from safmn.planning import calibration, disk, estimate
from safmn.planning.sizes import Sizes
from safmn.study import Run, Study


def data(study: Study) -> Iterator[Finding]:
    """Say which images of a study are there, for each use; scales need the same HR."""
    for use in ("train", "validation", "test"):
        there: list[str] = []
        for text in study.selections(use):
            try:
                found = sources.select(text, study.scales[-1], study.roots, study.data.folders, study.data.border)
            except UserError as error:
                yield _absent(study, use, text, str(error))
            else:
                there.append(f"{text} ({len(found.pairs)} image{'s' * (len(found.pairs) != 1)})")
        if there:
            yield Finding(f"{use} images", "ok", ", ".join(there))


def _absent(study: Study, use: str, text: str, why: str) -> Finding:
    name, _ = sources.parse_selection(text)
    says, _, todo = why.partition(": ")
    if not sources.can_be_expected(text, study.roots, study.data.folders):
        return Finding(f"{use} images", "warning", f"{says}; cells of it will be missing", todo)
    if study.data.download:
        size = sum(each or 0 for each in disk.downloads([name], study.scales).values()) / 1e9
        says = f"{text} is not here: about {size:,.1f} GB will be downloaded to {study.data.download}"
        return Finding(f"{use} images", "warning", says)
    return Finding(f"{use} images", "error", says, todo)


def room(study: Study, runs: Sequence[Run] | None = None) -> Finding:
    """Compare what a study will still write with what is free; `runs` are those to be trained, all by default."""
    runs = study.runs() if runs is None else runs
    of_one = sum(disk.of_run(study.specification(runs[0]), study.run).values()) if runs else 0
    packed = sum(each["bytes"] or 0 for each in disk.packed(study, Sizes(study)) if not each["present"])
    needed, free = packed + len(runs) * of_one, free_bytes(study.results)
    says = (
        f"{study.name} writes about {needed / 1e9:,.1f} GB ({len(runs)} runs, the first counted for each); "
        f"{free / 1e9:,.1f} GB are free"
    )
    todo = "free some, or work on another disk"
    return Finding("room", "ok", says) if needed <= free else Finding("room", "error", says, todo)


def step(study: Study, device: Device) -> Iterator[Finding]:
    """Predict the memory of the first run's training step, and estimate the time of all runs."""
    if not study.runs():
        yield Finding("step", "ok", f"{study.name} trains nothing")
        return
    run = study.runs()[0]
    specification = study.specification(run)
    settings = specification["training"]
    peak = memory.predict_training(specification["network"], run.scale, settings)["peak"]
    free = calibration.free_memory(device)
    needs = f"{peak / 2**30:.1f} GiB" if peak >= 2**30 else f"{peak / 2**20:.0f} MiB"
    says = f"{run.variant} x{run.scale}, batch {settings['batch']}: {needs} predicted, "
    says += f"{free / 2**30:,.1f} GiB free"
    if peak > free:
        yield Finding("step memory", "error", says, "a smaller training.batch (another result), or another device")
    else:
        yield Finding("step memory", "ok", says)
    says = estimate.sentence(study, study.runs(), device, host.cores())
    yield Finding("step time", "ok", says, f"more exactly: safmn plan {study.where}")
