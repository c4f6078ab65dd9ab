"""Compare variants on a study's own test sets: each with the baseline, and the ordering of all with the paper's.

PSNR alone is compared, as in the paper's discussion. The absolute numbers of a short study are not the paper's, but its
differences and their order may be.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from safmn.networks import all_networks
from safmn.paper import published, statistics, verdicts
from safmn.paper.statistics import Agreement, Difference
from safmn.report import trained
from safmn.report.measured import Benchmark, Results, benchmarks, names
from safmn.study import Study

BASELINE = "safmn"
METRIC = "psnr"
ORDERED_BY = "manga109_psnr"  # by which the paper discusses its ablation
TABLES = (3, 4)


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


@dataclass(frozen=True)
class Contrast:
    """A variant minus the baseline, measured and published.

    Attributes:
        measured: On one test set; None where one of the two is not measured there.
        printed: In dB; None for the baseline, and for a row that the paper does not have.
    """

    measured: Difference | None
    printed: Decimal | None

    @property
    def verdict(self) -> str:
        """On which side of the baseline the variant is: a word of VERDICTS; "" where nothing is published.

        The size is not judged. Where the paper prints no difference, a difference within RESOLUTION reproduces it.
        """
        if self.printed is None:
            return ""
        if self.measured is None:
            return verdicts.MISSING
        if self.printed == 0:
            ends, reach = self.measured.interval.ends, verdicts.RESOLUTION[METRIC]
            if not self.measured.trusted or ends is None:
                return verdicts.UNDECIDABLE
            if -reach <= ends[0] and ends[1] <= reach:
                return verdicts.REPRODUCED
            return verdicts.CONTRADICTED if ends[0] > reach or ends[1] < -reach else verdicts.UNDECIDABLE
        if self.measured.decision == statistics.UNDECIDED:
            return verdicts.UNDECIDABLE
        return verdicts.REPRODUCED if (self.measured.value > 0) == (self.printed > 0) else verdicts.CONTRADICTED


def compare_all(study: Study, results: Results) -> dict[int, list[Comparison]]:
    """Compare the variants of Table 3 (with a user's own and retrained networks) and of Table 4 on each test set."""
    if study.training is None:
        return {}
    own = {3: [*(name for name in study.variants if not all_networks()[name].rows), *study.retrained], 4: []}
    return {
        table: [_compare(study, results, benchmark, table, own[table]) for benchmark in benchmarks(study)]
        for table in TABLES
    }


def _compare(study: Study, results: Results, benchmark: Benchmark, table: int, own: list[str]) -> Comparison:
    scale, printed = scale_of(study), published_psnr(study.variants, ORDERED_BY, [table])
    runs = {
        name: trained.collect(study, results, study.network_of(name), scale, benchmark) for name in [*printed, *own]
    }
    scores = {name: trained_runs.by_image(METRIC) for name, trained_runs in runs.items() if trained_runs.best}
    if not scores:
        return Comparison(benchmark, remark="no variant is measured yet")
    numbers = {name: float(value) for name, value in printed.items()}
    agreement = statistics.agreement(numbers, {name: _mean_over_seeds(by_seed) for name, by_seed in scores.items()})
    if BASELINE not in scores:
        return Comparison(
            benchmark, agreement=agreement, remark="the baseline is not measured, so there is no difference to it"
        )
    differences = {
        name: statistics.difference(by_seed, scores[BASELINE]) for name, by_seed in scores.items() if name != BASELINE
    }
    few = "fewer than three of the paper's variants are measured, so there is no ordering to compare"
    found = {name: difference for name, difference in differences.items() if difference is not None}
    return Comparison(benchmark, found, agreement, "" if agreement else few)


def _mean_over_seeds(scores: list[dict[str, float]]) -> dict[str, float]:
    """Compute image -> mean over seeds, for the images that every seed has."""
    common = set.intersection(*(set(seed) for seed in scores))
    return {image: sum(seed[image] for seed in scores) / len(scores) for image in common}


def scale_of(study: Study) -> int:
    """Return the scale of the comparison: x4 as in the paper, or the study's first if it has no x4."""
    return 4 if 4 in study.scales else study.scales[0]


# --- The paper's own ablation -----------------------------------------------------------------------------------------


def published_psnr(names: Iterable[str], column: str, tables: Iterable[int] = TABLES) -> dict[str, Decimal]:
    """Return the published numbers of a column, in dB: network -> number, in the paper's order."""
    networks = all_networks()
    cells = published.cells([networks[name] for name in names if name in networks], tables)
    return {cell.network: Decimal(cell.printed) for cell in cells if cell.column == column}


def printed_difference(variant: str, column: str, tables: Iterable[int] = TABLES) -> Decimal | None:
    """Compute the published PSNR (dB) of a variant minus the baseline's; None for the baseline, and without the row."""
    for table in tables:
        values = published_psnr({BASELINE, variant}, column, [table])
        if len(values) == 2:
            return values[variant] - values[BASELINE]
    return None


def paper_column(benchmark: Benchmark | None) -> str:
    """Return the column that the paper's differences are of: the test set's, or Manga109's if its ablation lacks it."""
    own = f"{benchmark.id}_{METRIC}" if benchmark else ORDERED_BY
    return own if any(cell.column == own for cell in published.printed(3)) else ORDERED_BY


def paper_title(benchmark: Benchmark | None) -> str:
    """Return the name of the test set that the paper's differences are of."""
    identity = paper_column(benchmark).rpartition("_")[0]
    return names().get(identity, identity)
