"""What the ablation shows on a study's own benchmarks: each variant against the baseline, and the ordering of all.

PSNR alone is compared, as in the paper's discussion. The absolute numbers of a short study are not the paper's; whether
the differences and their order already are is what a study of any size can ask.
"""

from dataclasses import dataclass
from decimal import Decimal

from safmn.networks import all_networks
from safmn.paper import published, statistics
from safmn.paper.statistics import Agreement, Difference, Spread
from safmn.report import trained
from safmn.report.measured import Benchmark, Results, benchmarks
from safmn.study import Study

BASELINE = "safmn"
METRIC = "psnr"
ORDERED_BY = "manga109_psnr"  # the paper discusses its ablation by it


@dataclass(frozen=True)
class Comparison:
    """One benchmark.

    Attributes:
        spreads: variant -> mean, deviation and interval over its seeds.
        differences: variant -> difference to the baseline; the baseline itself is not among them.
        agreement: of the paper's ordering with this one; None where `remark` says why.
        remark: why something is missing; "".
    """

    benchmark: Benchmark
    spreads: dict[str, Spread]
    differences: dict[str, Difference]
    agreement: Agreement | None
    remark: str = ""


def compare(study: Study, results: Results, table: int = 3) -> list[Comparison]:
    """One comparison a benchmark of the study, over the variants of the paper's Table 3 (one's own too) or 4."""
    if study.training is None:
        return []
    scale = scale_of(study)
    printed = printed_psnr(study, table)
    own = unprinted_variants(study) if table == 3 else []
    return [_one(study, results, scale, each, printed, own) for each in benchmarks(study)]


def scale_of(study: Study) -> int:
    """Where the ablation is compared: at x4 as in the paper, or at the study's first scale if it has no x4."""
    return 4 if 4 in study.scales else study.scales[0]


def printed_psnr(study: Study, table: int, column: str = ORDERED_BY) -> dict[str, Decimal]:
    """Variant -> printed PSNR (dB) of a table, for the study's variants, in the order of print."""
    networks = all_networks()
    cells = published.cells([networks[name] for name in study.variants], [table])
    return {cell.network: Decimal(cell.printed) for cell in cells if cell.column == column}


def unprinted_variants(study: Study) -> list[str]:
    """The study's variants that stand for no row of the paper."""
    networks = all_networks()
    return [name for name in study.variants if not networks[name].rows]


def printed_difference(study: Study, table: int, variant: str, column: str) -> Decimal | None:
    """Printed PSNR of a variant minus the baseline's, exact in the print's digits; None where one of them is missing.

    The baseline's is the paper's even if the study leaves it out.
    """
    networks = all_networks()
    cells = published.cells([networks[name] for name in {BASELINE, variant} if name in networks], [table])
    found = {cell.network: Decimal(cell.printed) for cell in cells if cell.column == column}
    return found[variant] - found[BASELINE] if len(found) == 2 else None


def _one(
    study: Study, results: Results, scale: int, benchmark: Benchmark, printed: dict[str, Decimal], own: list[str]
) -> Comparison:
    found = {name: trained.collect(study, results, name, scale, benchmark) for name in [*printed, *own]}
    measured = {name: each for name, each in found.items() if each.best}
    scores = {name: each.by_image(METRIC) for name, each in measured.items()}
    differences = {}
    if BASELINE in scores:
        for name, own_scores in scores.items():
            difference = statistics.difference(own_scores, scores[BASELINE]) if name != BASELINE else None
            if difference is not None:
                differences[name] = difference
    means = {name: _mean_of_seeds(each) for name, each in scores.items()}
    agreement = statistics.agreement({name: float(value) for name, value in printed.items()}, means)
    remark = ""
    if not measured:
        remark = "no variant is measured yet"
    elif BASELINE not in scores:
        remark = "the baseline is not measured, so there is no difference to it"
    elif agreement is None:
        remark = "fewer than three of the paper's variants are measured, so there is no ordering to compare"
    spreads = {name: each.spread(METRIC) for name, each in measured.items()}
    return Comparison(benchmark, spreads, differences, agreement, remark)


def _mean_of_seeds(scores: list[dict[str, float]]) -> dict[str, float]:
    common = set.intersection(*(set(each) for each in scores))
    return {image: sum(each[image] for each in scores) / len(scores) for image in common}
