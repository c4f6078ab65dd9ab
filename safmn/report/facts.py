"""The sentences below a table: orderings, data, budget, devices, and how its numbers were counted and measured."""

from collections.abc import Sequence
from typing import Any

from safmn.paper import published
from safmn.report import costs, reference_ema, trained
from safmn.report.ablation import Comparison
from safmn.report.joined import Joined
from safmn.report.measured import Record, Results
from safmn.study import Study, differences_from_paper


def of_table(joined: Joined, table: int) -> list[str]:
    """Return the sentences below a table."""
    study, results = joined.study, joined.results
    sentences = reference_ema.answers(joined) if table == 3 else []
    sentences += [_ordering(comparison) for comparison in joined.comparisons.get(table, ())]
    sentences.append(f"Study: {study.name}, {study.description}.")
    if table in (1, 3, 4):
        sentences += _counting(study, results)
        sentences.append(
            "Quality: on Y of MATLAB's YCbCr, SR rounded to uint8, border of scale pixels cropped, means over images; "
            f"tested on {', '.join(study.data.test) or 'nothing'}."
        )
        budget = trained.budget(study, results)
        sentences.append(f"Training: {budget}." if budget else "Training: none, this study only evaluates.")
        departures = differences_from_paper(study)
        if budget and departures:
            sentences.append(f"Not comparable with the paper's PSNR and SSIM: {'; '.join(departures)}.")
    if table == 2:
        sentences += _devices(study, results)
    if table == 5 and (record := results.operation(next(iter(published.OPERATIONS)))):
        settings = record["settings"]
        how = (settings.get("clock"), f"LayerNorm {settings.get('form')}", settings.get("precision"))
        sentences.append(f"Operations: {_listed(_where(record), *how)}; times are of {costs.PAPER_IMAGES} images.")
    return sentences


def _ordering(comparison: Comparison) -> str:
    """Tell Kendall's tau on a test set, or why there is none."""
    name, agreement = comparison.benchmark.selection, comparison.agreement
    if agreement is None:
        return f"Ordering on {name}: {comparison.remark}."
    interval = agreement.interval
    spread = "no interval"
    if interval.exists:
        spread = f"95 % interval {interval.low:.2f} to {interval.high:.2f} over images, the weights taken as given"
    remark = f"; {interval.note}" if interval.note else ""
    return (
        f"Ordering on {name}: Kendall's tau {agreement.tau:.2f} ({spread}{remark}; p = {agreement.p:.2g}) between "
        f"the paper's Manga109 PSNR and the measured PSNR of {agreement.n} rows; 1 is the same order, 0 is none."
    )


def _counting(study: Study, results: Results) -> list[str]:
    for name in [*study.variants, *study.networks]:
        for scale in (4, 3, 2):
            if record := results.complexity(name, scale):
                versions = ", ".join(f"{key} {value}" for key, value in (record["versions"] or {}).items())
                return [f"Counting: {record['convention']}" + (f" ({versions})." if versions else ".")]
    return []


def _devices(study: Study, results: Results) -> list[str]:
    sentences = []
    networks = ["safmn", *study.networks]
    memories = [record for record in map(results.memory, networks) if record]
    if memories:
        memory = memories[0]
        how = f"measured on {memory['gpu'] or 'a GPU'}" if memory["measured"] else "predicted without a GPU"
        sentences.append(f"Memory: {how}; {memory['settings'].get('convention', 'max_memory_allocated')}.")
    records = [record for record in map(results.runtime, networks) if record]
    if records:
        settings = records[0]["settings"]
        modes = [settings.get(key) for key in ("precision", "layout", "execution")]
        sentences.append(f"Time: {_listed(_where(records[0]), *modes)}.")
    return sentences + _equal_outputs(records)


def _equal_outputs(records: Sequence[Record]) -> list[str]:
    """Tell how far each mode's output was from eager's, at most, and what was allowed."""
    worst: dict[str, tuple[float, float]] = {}
    for record in records:
        for mode, other in record["modes"].items():
            for run in other.get("processes", []):
                if "difference_from_eager" in run:
                    gap = float(run["difference_from_eager"]), float(run["tolerance"])
                    worst[mode] = max(worst.get(mode, gap), gap)
    shown = ", ".join(
        f"{mode.replace('_', ' ')} {gap:.1g} (tolerance {limit:g})" for mode, (gap, limit) in worst.items()
    )
    if not shown:
        return []
    return [f"Outputs, checked before timing, differ from eager's by at most this part of its maximum: {shown}."]


def _where(record: Record) -> str:
    """Describe device, version and size of what was timed."""
    settings, provenance = record["settings"], record["provenance"]
    processes = settings.get("processes")
    return _listed(
        trained.device(provenance),
        f"torch {provenance.get('torch')}",
        f"{settings.get('images')} LR images of {settings.get('width')}x{settings.get('height')}",
        f"{processes} process{'es' * (processes != 1)}" if processes else "",
    )


def _listed(*parts: Any) -> str:
    return ", ".join(part for part in parts if part)
