"""What a study's own training runs of one network gave on one benchmark: seeds together, best and last apart."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safmn.layout import trained as folder
from safmn.paper.statistics import Spread, over_seeds
from safmn.report.evaluated import device_kind
from safmn.report.measured import Absent, Benchmark, Results, Scores
from safmn.study import Run, Study


@dataclass(frozen=True)
class Trained:
    """One network at one scale on one benchmark.

    Attributes:
        best: seed -> scores of the weights that were best on validation.
        last: seed -> scores of the weights at the end, as far as they were evaluated.
        records: seed -> run.json.
        absent: seed -> why it has no scores.
    """

    best: dict[int, Scores]
    last: dict[int, Scores]
    records: dict[int, Mapping[str, Any]]
    absent: dict[int, str] = field(default_factory=dict)

    def spread(self, metric: str, which: str = "best") -> Spread:
        """Mean, deviation and interval over the seeds of "best" or "last" weights."""
        return over_seeds([scores.mean(metric) for scores in getattr(self, which).values()])

    def by_image(self, metric: str) -> list[dict[str, float]]:
        """Image -> PSNR or SSIM of the best weights, one mapping a seed."""
        return [scores.by_image(metric) for scores in self.best.values()]

    @property
    def devices(self) -> str:
        """The kinds of device that the measured runs were trained on, "cpu+cuda" where they differ."""
        kinds = {device_kind(self.records.get(seed, {})) for seed in self.best}
        return "+".join(sorted(filter(None, kinds)))

    @property
    def collapses(self) -> list[str]:
        """A phrase for each collapsed run that was measured."""
        found = []
        for seed in self.best:
            record = self.records.get(seed, {})
            if record.get("outcome") == "collapsed":
                details = record.get("collapse") or {}
                reason = details.get("reason", "no reason kept")
                found.append(f"seed {seed} at iteration {details.get('iteration', '?')} ({reason})")
        return found


def collect(study: Study, results: Results, network: str, scale: int, benchmark: Benchmark) -> Trained:
    """Reads what is there of a network's runs; nothing in it if the study trains no such run."""
    found = Trained({}, {}, {})
    if scale not in study.scales_of(network) or network not in study.variants:
        return found
    for run in study.runs(network):
        if run.scale != scale:
            continue
        record = results.record(run)
        if not isinstance(record, Absent):
            found.records[run.seed] = record
        best = results.scores(network, scale, folder(run.seed, "best"), benchmark)
        if isinstance(best, Absent):
            found.absent[run.seed] = best.reason or (
                f"trained, but not evaluated on {benchmark.name} yet: `snakemake`"
                if run.seed in found.records
                else results.untrained(run)
            )
            continue
        found.best[run.seed] = best
        last = results.scores(network, scale, folder(run.seed, "last"), benchmark)
        if not isinstance(last, Absent):
            found.last[run.seed] = last
    return found


def note(found: Trained, metric: str) -> str:
    """The collapse first, then the budget: iterations, data, seeds, device, which weights, and what the last give."""
    parts = []
    if found.collapses:
        parts.append(f"* collapsed: {', '.join(found.collapses)}; measured with the weights from before")
    records = [found.records[seed] for seed in found.best if seed in found.records]
    parts += _budget(records)
    seeds = ", ".join(str(seed) for seed in found.best)
    if len(found.best) > 1:
        deviation = found.spread(metric).deviation
        scatter = f", standard deviation {shown(deviation, metric)}" if deviation is not None else ""
        parts.append(f"mean of seeds {seeds}{scatter}")
    else:
        parts.append(f"seed {seeds}")
    iterations = [record.get("best", {}).get("iteration") for record in records]
    if iterations and None not in iterations:
        parts.append(f"best at iteration {', '.join(map(str, iterations))}")
    if found.last:
        parts.append(f"last weights give {shown(found.spread(metric, 'last').mean, metric)}")
    parts += [f"without seed {seed}: {reason}" for seed, reason in found.absent.items()]
    return "; ".join(parts)


def budget(study: Study, results: Results) -> str:
    """What the study trains with, and the devices of the runs that are there; "" if it trains nothing."""
    if study.training is None:
        return ""
    training = study.training
    parts = [
        f"{training.iterations:,} iterations of {training.batch} patches of "
        f"{training.patch}x{training.patch} LR pixels",
        f"on {', '.join(study.data.train)}",
        f"weights chosen on {', '.join(study.data.validation)}",
    ]
    seeds = sorted({run.seed for run in study.runs()})
    parts.append(f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}")
    names = sorted({device(record.get("provenance") or {}) for record in records(study, results)})
    parts.append(f"trained on {', '.join(names)}" if names else "no run is finished yet")
    return "; ".join(parts)


def records(study: Study, results: Results) -> list[Mapping[str, Any]]:
    """The run.json of every run that is finished."""
    found = [results.record(run) for run in study.runs()]
    return [record for record in found if not isinstance(record, Absent)]


def departures(study: Study, run: Run, record: Mapping[str, Any]) -> list[str]:
    """In what a run departs from what the study asks for (it was trained with --iterations, say), a phrase each."""
    asked, done = study.specification(run), record.get("specification") or {}
    if not done:
        return [f"nothing says how seed {run.seed} was trained"]
    found = []
    for key, value in asked["training"].items():
        have = (done.get("training") or {}).get(key, value)
        if have != value:
            found.append(f"this run has {key.replace('_', ' ')} {have} instead of the study's {value}")
    for use, what in (("train", "was trained"), ("validation", "chose its weights")):
        if done.get(use, asked[use]) != asked[use]:
            found.append(f"this run {what} on {', '.join(map(str, done[use]))}")
    return found


def device(provenance: Mapping[str, Any]) -> str:
    """A device in a few words: the GPU's name, or "CPU" with its model."""
    if provenance.get("gpu"):
        return str(provenance["gpu"])
    kind = str(provenance.get("device") or "an unknown device")
    if kind == "cpu":
        return f"CPU ({provenance['cpu']})" if provenance.get("cpu") else "CPU"
    return kind


def shown(value: float, metric: str) -> str:
    """A mean in the digits that notes show."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.3f} dB" if metric == "psnr" else f"{value:.4f}"


def _budget(records: list[Mapping[str, Any]]) -> list[str]:
    if not records:
        return ["run.json is missing, so the budget is not known"]
    found = []
    for record in records:
        done = record.get("specification") or {}
        training = done.get("training") or {}
        text = f"{training.get('iterations', '?')} iterations on {', '.join(map(str, done.get('train') or ['?']))}"
        found.append(f"{text}, {device(record.get('provenance') or {})}")
    return list(dict.fromkeys(found))
