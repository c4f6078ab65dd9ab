"""The results of a study's own training runs of one network on one test set, over all seeds."""

import math
from dataclasses import dataclass, field
from typing import Any

from safmn import layout
from safmn.paper.statistics import Spread, over_seeds
from safmn.report.evaluated import device_type
from safmn.report.measured import Absent, Benchmark, Record, Results, Scores, benchmarks
from safmn.schema import PAPER, Training
from safmn.study import Run, Study, as_words


@dataclass(frozen=True)
class Trained:
    """One network at one scale on one test set.

    Attributes:
        best: Seed -> scores of the weights that were best on validation.
        last: Seed -> scores of the weights at the end, as far as they were evaluated.
        records: Seed -> run.json.
        absent: Seed -> why it has no scores.
        elsewhere: Those of the absent seeds that have scores on another test set of the study.
    """

    best: dict[int, Scores] = field(default_factory=dict)
    last: dict[int, Scores] = field(default_factory=dict)
    records: dict[int, Record] = field(default_factory=dict)
    absent: dict[int, str] = field(default_factory=dict)
    elsewhere: list[int] = field(default_factory=list)

    def spread(self, metric: str) -> Spread:
        """Compute mean, deviation and interval of the best weights over the seeds."""
        return over_seeds([scores.mean(metric) for scores in self.best.values()])

    def by_image(self, figure: str) -> list[dict[str, float]]:
        """Return image -> figure of the best weights, one mapping a seed; none unless every seed has it."""
        found = [scores.by_image(figure) for scores in self.best.values()]
        return found if all(found) else []

    def lacking(self, figure: str) -> str:
        """Say which evaluated seeds lack a figure that others have, so that it has no mean; "" where none does."""
        having = [seed for seed, scores in self.best.items() if scores.by_image(figure)]
        lacking = sorted({*self.best, *self.elsewhere}.difference(having))
        if not (having and lacking):
            return ""
        numbers = ", ".join(map(str, lacking))
        return f"not measured for {len(lacking)} of {len(having) + len(lacking)} seeds (seed {numbers})"

    @property
    def measured_records(self) -> dict[int, Record]:
        """The run.json of the runs that have scores."""
        return {seed: self.records[seed] for seed in self.best if seed in self.records}

    @property
    def devices(self) -> str:
        """The types of device that the measured runs were trained on, "cpu+cuda" where they differ."""
        return "+".join(sorted(filter(None, {device_type(record) for record in self.measured_records.values()})))

    @property
    def collapses(self) -> list[str]:
        """A phrase for each measured run that collapsed."""
        phrases = []
        for seed, record in self.measured_records.items():
            if record.get("outcome") == "collapsed":
                details = record.get("collapse") or {}
                reason = details.get("reason", "no reason recorded")
                phrases.append(f"seed {seed} at iteration {details.get('iteration', '?')} ({reason})")
        return phrases


def collect(study: Study, results: Results, network: str, scale: int, benchmark: Benchmark) -> Trained:
    """Read the available results of a network's runs; none if the study trains no such run."""
    trained = Trained()
    if network not in study.trained:
        return trained
    for run in study.runs(network):
        if run.scale != scale:
            continue
        record = results.record(run)
        if not isinstance(record, Absent):
            trained.records[run.seed] = record
        best, last = (
            results.scores(network, scale, layout.trained(run.seed, which), benchmark) for which in ("best", "last")
        )
        if isinstance(best, Absent):
            trained.absent[run.seed] = best.reason or (
                f"trained, but not evaluated on {benchmark.name} yet: `snakemake`"
                if run.seed in trained.records
                else results.untrained(run)
            )
            which = layout.trained(run.seed, "best")
            if any(results.scores(network, scale, which, other) for other in benchmarks(study)):
                trained.elsewhere.append(run.seed)
            continue
        trained.best[run.seed] = best
        if not isinstance(last, Absent):
            trained.last[run.seed] = last
    return trained


def note(trained: Trained, metric: str) -> str:
    """Describe the collapse first, then iterations, data, device, seeds, which weights, and what the last ones give."""
    parts = []
    if trained.collapses:
        parts.append(f"* collapsed: {', '.join(trained.collapses)}; measured with the weights from before")
    records = list(trained.measured_records.values())
    parts += dict.fromkeys(map(_budget, records)) if records else ["run.json is missing, so the budget is not known"]
    seeds = ", ".join(str(seed) for seed in trained.best)
    if len(trained.best) > 1:
        deviation = trained.spread(metric).deviation
        scatter = f", standard deviation {shown(deviation, metric)}" if deviation is not None else ""
        parts.append(f"mean of seeds {seeds}{scatter}")
    else:
        parts.append(f"seed {seeds}")
    iterations = [record.get("best", {}).get("iteration") for record in records]
    if iterations and None not in iterations:
        parts.append(f"best at iteration {', '.join(map(str, iterations))}")
    if trained.last:
        last = over_seeds([scores.mean(metric) for scores in trained.last.values()])
        parts.append(f"last weights give {shown(last.mean, metric)}")
    parts += [f"without seed {seed}: {reason}" for seed, reason in trained.absent.items()]
    return "; ".join(parts)


def budget(study: Study, results: Results) -> str:
    """Describe what the study trains with, and the devices of the finished runs; "" if it trains nothing."""
    if study.training is None:
        return ""
    parts = [
        f"{patches(study.training)} LR pixels",
        f"on {', '.join(study.data.train)}",
        f"weights chosen on {', '.join(study.data.validation)}",
    ]
    seeds = sorted({run.seed for run in study.runs()})
    parts.append(f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}")
    records = [record for record in map(results.record, study.runs()) if not isinstance(record, Absent)]
    names = sorted({device(record.get("provenance") or {}) for record in records})
    parts.append(f"trained on {', '.join(names)}" if names else "no run is finished yet")
    return "; ".join(parts)


def patches(training: Training) -> str:
    """Describe how much is trained: "4,000 iterations of 16 patches of 64x64"."""
    plural = "es" * (training.batch > 1)
    return f"{training.iterations:,} iterations of {training.batch} patch{plural} of {training.patch}x{training.patch}"


def departures(study: Study, run: Run, record: Record) -> list[str]:
    """Return how a run departs from its study (it was trained with --iterations, for example), a phrase each."""
    planned, actual = study.specification(run), record.get("specification") or {}
    if not actual:
        return [f"no record says how seed {run.seed} was trained"]
    phrases = []
    training = actual.get("training") or {}
    for key, value in (PAPER | planned["training"]).items():
        have = training.get(key, PAPER.get(key, value))
        if have != value:
            words = f"{as_words(have)} instead of the study's {as_words(value)}"
            phrases.append(f"this run has {key.replace('_', ' ')} {words}")
    for use, what in (("train", "was trained"), ("validation", "chose its weights")):
        if actual.get(use, planned[use]) != planned[use]:
            phrases.append(f"this run {what} on {', '.join(map(str, actual[use]))}")
    return phrases


def device(provenance: Record) -> str:
    """Describe a device in a few words: the GPU's name, or "CPU" with its model."""
    if provenance.get("gpu"):
        return str(provenance["gpu"])
    kind = str(provenance.get("device") or "an unknown device")
    if kind == "cpu":
        return f"CPU ({provenance['cpu']})" if provenance.get("cpu") else "CPU"
    return kind


def shown(value: float, metric: str) -> str:
    """Return a mean in the digits that notes show."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.3f} dB" if metric == "psnr" else f"{value:.4f}"


def _budget(record: Record) -> str:
    done: dict[str, Any] = record.get("specification") or {}
    training = done.get("training") or {}
    data = ", ".join(map(str, done.get("train") or ["?"]))
    how = [f", {key.replace('_', ' ')} {as_words(training[key])}" for key in PAPER if key in training]
    if training.get("fft_weight") == 0 and "loss" not in training:
        how.append(", without the frequency term")
    iterations, place = training.get("iterations", "?"), device(record.get("provenance") or {})
    return f"{iterations} iterations on {data}{''.join(how)}, {place}"
