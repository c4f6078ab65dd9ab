"""What every number of a table rests on, as sentences below it: orderings, data, budget, device, convention."""

from collections.abc import Sequence

from safmn.paper import published
from safmn.report import costs, reference_ema, trained
from safmn.report.ablation import Comparison
from safmn.report.measured import Results
from safmn.study import Study, differences_from_paper


def of_table(study: Study, results: Results, table: int, comparisons: Sequence[Comparison]) -> list[str]:
    """The sentences below a table; `comparisons` with the baseline, for those that have them."""
    found = reference_ema.answers(study, results) if table == 3 else []
    found += [_ordering(each) for each in comparisons]
    found.append(f"Study: {study.name}, {study.description}.")
    if table in (1, 3, 4):
        found += _counting(study, results)
        found.append(
            "Quality: on Y of MATLAB's YCbCr, SR rounded to uint8, border of scale pixels cropped, means over images; "
            f"tested on {', '.join(study.data.test) or 'nothing'}."
        )
        budget = trained.budget(study, results)
        found.append(f"Training: {budget}." if budget else "Training: none, this study only evaluates.")
        departures = differences_from_paper(study)
        if budget and departures:
            found.append(f"Not comparable with the paper's PSNR and SSIM: {'; '.join(departures)}.")
    if table == 2:
        found += _devices(study, results)
    if table == 5:
        record = next((results.operation(title) for title in published.OPERATIONS), None)
        if record:
            settings = record["settings"]
            how = (settings.get("clock"), f"LayerNorm {settings.get('form')}", settings.get("precision"))
            found.append(f"Operations: {_listed(_where(record), *how)}; times are of {costs.PAPER_IMAGES} images.")
    return found


def _ordering(comparison: Comparison) -> str:
    """Kendall's tau on a benchmark, or why there is none."""
    name, agreement = comparison.benchmark.selection, comparison.agreement
    if agreement is None:
        return f"Ordering on {name}: {comparison.remark}."
    interval = agreement.interval
    spread = "no interval"
    if interval.exists:
        spread = f"95 % interval {interval.low:.2f} to {interval.high:.2f} over images, the weights as they are"
    remark = f"; {interval.note}" if interval.note else ""
    return (
        f"Ordering on {name}: Kendall's tau {agreement.tau:.2f} ({spread}{remark}; p = {agreement.p:.2g}) between "
        f"the paper's Manga109 PSNR and the measured PSNR of {agreement.n} rows; 1 is the same order, 0 is none."
    )


def _counting(study: Study, results: Results) -> list[str]:
    for name in [*study.variants, *study.networks]:
        for scale in (4, 3, 2):
            record = results.complexity(name, scale)
            if record:
                versions = ", ".join(f"{key} {value}" for key, value in (record["versions"] or {}).items())
                return [f"Counting: {record['convention']}" + (f" ({versions})." if versions else ".")]
    return []


def _devices(study: Study, results: Results) -> list[str]:
    found = []
    names = ["safmn", *study.networks]
    memory = next(filter(None, (results.memory(name) for name in names)), None)
    if memory:
        how = f"measured on {memory['gpu'] or 'a GPU'}" if memory["measured"] else "predicted without a GPU"
        found.append(f"Memory: {how}; {memory['settings'].get('convention', 'max_memory_allocated')}.")
    runtime = next(filter(None, (results.runtime(name) for name in names)), None)
    if runtime:
        settings, how = runtime["settings"], ("precision", "layout", "execution")
        found.append(f"Time: {_listed(_where(runtime), *(settings.get(key) for key in how))}.")
    found += _equal_outputs([record for record in map(results.runtime, names) if record])
    return found


def _equal_outputs(records: list[dict]) -> list[str]:
    """How far each mode's output is from eager's, at most, and what was allowed."""
    worst: dict[str, tuple[float, float]] = {}
    for record in records:
        for mode, other in record["modes"].items():
            for run in other.get("processes", []):
                if "difference_from_eager" in run:
                    found = float(run["difference_from_eager"]), float(run["tolerance"])
                    worst[mode] = max(worst.get(mode, found), found)
    if not worst:
        return []
    shown = ", ".join(
        f"{mode.replace('_', ' ')} {far:.1g} (tolerance {limit:g})" for mode, (far, limit) in worst.items()
    )
    return [f"Outputs, checked before timing, differ from eager's by at most this part of its maximum: {shown}."]


def _where(record: dict) -> str:
    """Device, version and size of what was timed."""
    settings, provenance = record["settings"], record["provenance"]
    processes = settings.get("processes")
    return _listed(
        trained.device(provenance),
        f"torch {provenance.get('torch')}",
        f"{settings.get('images')} LR images of {settings.get('width')}x{settings.get('height')}",
        f"{processes} process{'es' * (processes != 1)}" if processes else "",
    )


def _listed(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)
