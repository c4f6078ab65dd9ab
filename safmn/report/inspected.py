"""What was found inside a study's networks, as far as it is there: what Figures 2, 5 and 6 draw."""

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

MOST_REASONS = 6  # below a figure; the page lists all that are missing


@dataclass(frozen=True, eq=False)
class Inspected:
    """One network with its numbers and arrays, as `safmn.inspection.record` describes them."""

    subject: Subject
    title: str
    numbers: dict[str, Any]
    arrays: dict[str, NDArray]


@dataclass
class Seen:
    """All networks of a study's figures, in the figures' order.

    Attributes:
        scale: of all figures.
        found: those that were looked into.
        absent: reason -> titles of those that were not.
    """

    scale: int
    found: list[Inspected] = field(default_factory=list)
    absent: dict[str, list[str]] = field(default_factory=dict)

    def alike(self, place: Callable[[Inspected], Any]) -> tuple[list[Inspected], dict[str, list[str]]]:
        """Those that were looked at where the first one was, and why the others are not shown.

        A half-finished study may hold older ones, of another scene or other settings.
        """
        kept = [each for each in self.found if place(each) == place(self.found[0])]
        others = [each.title for each in self.found if each not in kept]
        stale = {"looked at another place or in another way before: `snakemake` looks again": others}
        return kept, self.absent | (stale if others else {})


def collect(study: Study, results: Results) -> Seen:
    """Reads what is there; a network that is not says why, and what to do."""
    seen = Seen(subjects.scale_of(study))
    for subject in subjects.subjects(study):
        title = title_of(subject, study)
        found = _read(subject, title, results)
        if isinstance(found, Absent):
            reason = found.reason or _unlooked(subject, study, results)
            # One line for all that wait for the same step.
            reason = reason.replace(f"train_{subject.network}`", "train_NAME`")
            seen.absent.setdefault(reason, []).append(title)
        else:
            seen.found.append(found)
    return seen


def title_of(subject: Subject, study: Study) -> str:
    """A network's title; the weights too where they are not the study's own training of a variant."""
    title = networks.info(subject.network).title
    return f"{title} (authors)" if subject.run is None and subject.network in study.variants else title


def note(absent: dict[str, list[str]]) -> str:
    """What is not shown and why, a sentence each; "" where nothing lacks."""
    shown = [f"Without {', '.join(titles)}: {reason}." for reason, titles in list(absent.items())[:MOST_REASONS]]
    left = sum(len(titles) for titles in list(absent.values())[MOST_REASONS:])
    return " ".join([*shown, f"And without {left} others."] if left else shown)


def _read(subject: Subject, title: str, results: Results) -> Inspected | Absent:
    file = results.folder / f"{subject.stem}.json"
    if not file.exists():
        return Absent(results.complaint("inspect", f"{subject.network}_x{subject.scale}_{subject.weights}"))
    try:
        found = record.read(file)
        record.check(found)
    except UserError:
        return Absent(f"{results.shown(file)} or the .npz beside it is damaged: delete both and make them again")
    return Inspected(subject, title, found.numbers, found.arrays)


def _unlooked(subject: Subject, study: Study, results: Results) -> str:
    if not study.data.test:
        return "the study tests on no images that could be looked at"
    if subject.run is not None:
        trained = not isinstance(results.record(subject.run), Absent)
        return "trained, but not looked into yet: `snakemake`" if trained else results.untrained(subject.run)
    if subject.network == "bicubic" or subject.published_file(study) is not None:
        return "not looked into yet: `snakemake`"
    if published_weights.find(subject.network, subject.scale):
        fetch = f"`safmn fetch NAME --scale {subject.scale} --to DIR` downloads them"
        return f"no weights at hand: {fetch}; then set weights.root to DIR"
    reason = published_weights.obtain(subject.network, subject.scale)
    return f"no weights at hand: {reason}".replace(f" {subject.network}_x", " NAME_x")
