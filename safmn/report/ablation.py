"""Compare variants on a study's own test sets: each with the baseline, and the ordering of all with the paper's.

PSNR alone is compared, as in the paper's discussion. The absolute numbers of a short study are not the paper's, but its
differences and their order may be.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from safmn.networks import all_networks
from safmn.paper import published, statistics
from safmn.paper.statistics import Agreement, Difference
from safmn.report import trained
from safmn.report.measured import Benchmark, Results, benchmarks
from safmn.study import Study

BASELINE = "safmn"
METRIC = "psnr"
ORDERED_BY = "manga109_psnr"  # by which the paper discusses its ablation


@dataclass(frozen=True)
class Comparison:
    """The variants on one test set.

    Attributes:
        benchmark: The test set.
        differences: Variant -> difference to the baseline; without the baseline itself.
        agreement: Of the paper's ordering with the measured one; None where `remark` says why.
        remark: Why something is missing, else "".
    """

    benchmark: Benchmark
    differences: dict[str, Difference] = field(default_factory=dict)
    agreement: Agreement | None = None
    remark: str = ""


def compare(study: Study, results: Results, table: int = 3) -> list[Comparison]:
    """Compare the variants of Table 3 (with a user's own) or of Table 4 on each of the study's test sets."""
    if study.training is None:
        return []
    networks = all_networks()
    printed = {
        cell.network: float(cell.printed)
        for cell in published.cells([networks[name] for name in study.variants], [table])
        if cell.column == ORDERED_BY
    }
    own = [name for name in study.variants if not networks[name].rows] if table == 3 else []
    return [_compare(study, results, benchmark, printed, own) for benchmark in benchmarks(study)]


def scale_of(study: Study) -> int:
    """Return the scale of the comparison: x4 as in the paper, or the study's first if it has no x4."""
    return 4 if 4 in study.scales else study.scales[0]


def printed_difference(table: int, variant: str, column: str) -> Decimal | None:
    """Compute the published PSNR (dB) of a variant minus the baseline's; None where one of them is missing."""
    networks = all_networks()
    cells = published.cells([networks[name] for name in {BASELINE, variant} if name in networks], [table])
    values = {cell.network: Decimal(cell.printed) for cell in cells if cell.column == column}
    return values[variant] - values[BASELINE] if len(values) == 2 else None


def _compare(
    study: Study, results: Results, benchmark: Benchmark, printed: dict[str, float], own: list[str]
) -> Comparison:
    scale = scale_of(study)
    runs = {name: trained.collect(study, results, name, scale, benchmark) for name in [*printed, *own]}
    scores = {name: trained_runs.by_image(METRIC) for name, trained_runs in runs.items() if trained_runs.best}
    if not scores:
        return Comparison(benchmark, remark="no variant is measured yet")
    agreement = statistics.agreement(printed, {name: _mean_over_seeds(by_seed) for name, by_seed in scores.items()})
    if BASELINE not in scores:
        return Comparison(
            benchmark, agreement=agreement, remark="the baseline is not measured, so there is no difference to it"
        )
    differences = {}
    for name, own_scores in scores.items():
        difference = statistics.difference(own_scores, scores[BASELINE]) if name != BASELINE else None
        if difference is not None:
            differences[name] = difference
    few = "fewer than three of the paper's variants are measured, so there is no ordering to compare"
    return Comparison(benchmark, differences, agreement, "" if agreement else few)


def _mean_over_seeds(scores: list[dict[str, float]]) -> dict[str, float]:
    """Compute image -> mean over seeds, for the images that every seed has."""
    common = set.intersection(*(set(seed) for seed in scores))
    return {image: sum(seed[image] for seed in scores) / len(scores) for image in common}
