"""Read the inspections of a study's networks, as far as they are available: what Figures 2, 5 and 6 draw."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from safmn import networks
from safmn.errors import UserError
from safmn.inspection import record, subjects
from safmn.inspection.subjects import Subject
from safmn.networks import published_weights
from safmn.report.measured import Absent, Results
from safmn.study import Study

MAX_REASONS = 6  # below a figure; the page lists all that are missing


@dataclass(frozen=True, eq=False)
class Inspected:
    """One network with its numbers and arrays, as `safmn.inspection.record` describes them."""

    subject: Subject
    title: str
    numbers: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


@dataclass
class Inspections:
    """All networks of a study's figures, in the figures' order.

    Attributes:
        scale: Scale of all figures.
        available: The networks that were inspected.
        absent: Reason -> titles of the networks that were not.
    """

    scale: int
    available: list[Inspected] = field(default_factory=list)
    absent: dict[str, list[str]] = field(default_factory=dict)

    def alike(self, place: Callable[[Inspected], Any]) -> tuple[list[Inspected], dict[str, list[str]]]:
        """Return the networks that were inspected at the same `place` as the first one, and why others are not shown.

        An unfinished study may hold older inspections, of another scene or with other settings.
        """
        kept = [network for network in self.available if place(network) == place(self.available[0])]
        others = [network.title for network in self.available if network not in kept]
        stale = {"inspected at another place or with other settings: `snakemake` inspects it again": others}
        return kept, self.absent | (stale if others else {})


def collect(study: Study, results: Results) -> Inspections:
    """Read the available inspections; for each of the other networks, say why there is none and what to do."""
    inspections = Inspections(subjects.scale_of(study))
    for subject in subjects.subjects(study):
        title = networks.info(subject.network).title
        if subject.run is None and subject.network in study.trained:
            title += " (authors)"
        elif subject.network in study.retrain and subject.run:
            title += ", retrained"
        inspected = _read(subject, title, results)
        if isinstance(inspected, Absent):
            reason = inspected.reason or _reason(subject, study, results)
            # One line for all networks that wait for the same step.
            reason = reason.replace(f"train_{subject.network}`", "train_NAME`")
            inspections.absent.setdefault(reason, []).append(title)
        else:
            inspections.available.append(inspected)
    return inspections


def note(absent: dict[str, list[str]]) -> str:
    """Say what is not shown and why, a sentence a reason; "" where nothing is missing."""
    shown = [f"Without {', '.join(titles)}: {reason}." for reason, titles in list(absent.items())[:MAX_REASONS]]
    others = sum(len(titles) for titles in list(absent.values())[MAX_REASONS:])
    return " ".join([*shown, f"And without {others} others."] if others else shown)


def _read(subject: Subject, title: str, results: Results) -> Inspected | Absent:
    file = results.folder / f"{subject.stem}.json"
    if not file.exists():
        return Absent(results.complaint("inspect", f"{subject.network}_x{subject.scale}_{subject.weights}"))
    try:
        inspection = record.read(file)
        record.check(inspection)
    except UserError:
        return Absent(f"{results.shown(file)} or the .npz beside it is damaged: delete both and make them again")
    return Inspected(subject, title, inspection.numbers, inspection.arrays)


def _reason(subject: Subject, study: Study, results: Results) -> str:
    """Say why a network was not inspected, and what to do."""
    if not study.data.test:
        return "the study has no test images to inspect"
    if subject.run is not None:
        trained = not isinstance(results.record(subject.run), Absent)
        return "trained, but not inspected yet: `snakemake`" if trained else results.untrained(subject.run)
    if subject.network == "bicubic" or study.published_weights(subject.network, subject.scale) is not None:
        return "not inspected yet: `snakemake`"
    if published_weights.find(subject.network, subject.scale):
        fetch = f"`safmn fetch NAME --scale {subject.scale} --to DIR` downloads them"
        return f"no weights available: {fetch}; then set weights.root to DIR"
    reason = published_weights.obtain(subject.network, subject.scale)
    return f"no weights available: {reason}".replace(f" {subject.network}_x", " NAME_x")
