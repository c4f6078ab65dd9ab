"""Compare variants on a study's own test sets: each with the baseline, and the ordering of all with the paper's.

PSNR alone is compared, as in the paper's discussion. The absolute numbers of a short study are not the paper's, but its
differences and their order may be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from safmn.networks import all_networks
from safmn.paper import published, statistics, verdicts
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
    """Compare the variants of Table 3 (with a user's own and retrained networks) or of Table 4 on each test set."""
    if study.training is None:
        return []
    networks = all_networks()
    printed = {
        cell.network: float(cell.printed)
        for cell in published.cells([networks[name] for name in study.variants], [table])
        if cell.column == ORDERED_BY
    }
    own = [name for name in study.variants if not networks[name].rows] if table == 3 else []
    own += study.retrained if table == 3 else []
    return [_compare(study, results, benchmark, printed, own) for benchmark in benchmarks(study)]


def compare_all(study: Study, results: Results) -> dict[int, list[Comparison]]:
    """Compare the variants of Tables 3 and 4: number of the table -> comparisons."""
    return {table: compare(study, results, table) for table in (3, 4)}


def differences(comparisons: Mapping[int, Sequence[Comparison]]) -> dict[str, dict[str, Difference]]:
    """Return the differences to the baseline of both tables: id of the test set -> variant -> difference."""
    found: dict[str, dict[str, Difference]] = {}
    for own in comparisons.values():
        for comparison in own:
            found.setdefault(comparison.benchmark.id, {}).update(comparison.differences)
    return found


def decisive(study: Study, found: Mapping[str, Mapping[str, Difference]]) -> Benchmark | None:
    """Return the test set whose differences say most: the paper's Manga109, else the one with most images."""
    measured = [benchmark for benchmark in benchmarks(study) if found.get(benchmark.id)]
    images = {
        benchmark.id: max(difference.images.n for difference in found[benchmark.id].values()) for benchmark in measured
    }
    ranked = sorted(measured, key=lambda benchmark: (f"{benchmark.id}_{METRIC}" != ORDERED_BY, -images[benchmark.id]))
    return ranked[0] if ranked else None


def direction(difference: Difference | None, printed: Decimal | None) -> str:
    """Judge on which side of the baseline a variant is: a word of VERDICTS; "" where the paper has no such row.

    The size is not judged. Where the paper prints no difference, a difference within RESOLUTION reproduces it.
    """
    if printed is None:
        return ""
    if difference is None:
        return verdicts.MISSING
    if printed == 0:
        ends, reach = difference.interval.ends, verdicts.RESOLUTION[METRIC]
        if not difference.trusted or ends is None:
            return verdicts.UNDECIDABLE
        if -reach <= ends[0] and ends[1] <= reach:
            return verdicts.REPRODUCED
        return verdicts.CONTRADICTED if ends[0] > reach or ends[1] < -reach else verdicts.UNDECIDABLE
    if difference.decision == statistics.UNDECIDED:
        return verdicts.UNDECIDABLE
    return verdicts.REPRODUCED if (difference.value > 0) == (printed > 0) else verdicts.CONTRADICTED


def paper_difference(variant: str, column: str) -> tuple[Decimal | None, str]:
    """Return the paper's difference to the baseline in dB, and the column that it is of.

    It is that of `column`, or of Manga109 where the paper's ablation has no such column; None for a row that the paper
    does not have.
    """
    rows = all_networks()[variant].rows if variant in all_networks() else {}
    for table in (table for table in (3, 4) if table in rows):
        for each in (column, ORDERED_BY):
            if (value := printed_difference(table, variant, each)) is not None:
                return value, each
    return None, ORDERED_BY


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
    runs = {
        name: trained.collect(study, results, study.network_of(name), scale, benchmark) for name in [*printed, *own]
    }
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
