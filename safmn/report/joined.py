"""A study joined with its results: the one thing that tables, figures, claims and the page are made from.

A number of the page comes from a `Cell` of `Joined.cells`, which `safmn.report.cells` fills from the files that
`safmn.report.measured` reads; a difference to the baseline comes from `Joined.comparisons`.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from safmn.paper import claims
from safmn.paper.cell import Cell
from safmn.paper.statistics import Difference
from safmn.report import ablation, sentences
from safmn.report import cells as all_cells
from safmn.report import networks as all_networks
from safmn.report.ablation import METRIC, Comparison, Contrast
from safmn.report.measured import Benchmark, Results, benchmarks
from safmn.study import Study


class Joined:
    """What a study measured, read once.

    Args:
        study: The study.
        folder: Its folder, `results/<study>`; may be empty or missing.
        cells: Its cells, if they are not to be read from its files.
    """

    def __init__(self, study: Study, folder: Path | str, cells: Sequence[Cell] | None = None) -> None:
        self.study, self.folder, self.results = study, Path(folder), Results(folder)
        self.cells = all_cells.collect(study, self.results) if cells is None else cells

    @cached_property
    def chosen(self) -> dict[tuple[str, int, str], Cell]:
        """(network, scale, column) -> cell: one with a number before one without, the ablation's tables first."""
        found: dict[tuple[str, int, str], Cell] = {}
        for cell in sorted(self.cells, key=lambda cell: (cell.measured is None, cell.table not in ablation.TABLES)):
            found.setdefault((cell.network, cell.scale, cell.column), cell)
        return found

    def measured(self, network: str, scale: int, column: str) -> Cell | None:
        """Return the chosen cell if it has a number, else None."""
        cell = self.chosen.get((network, scale, column))
        return cell if cell and cell.measured is not None else None

    @cached_property
    def collapsed(self) -> set[str]:
        """The networks that have a number from weights before a collapse."""
        return {cell.network for cell in self.chosen.values() if cell.collapsed}

    @cached_property
    def networks(self) -> dict[tuple[str, int], dict[str, Any]]:
        """(network, scale) -> its line of `networks.csv`."""
        lines = all_networks.collect(self.study, self.results)
        return {(line["network"], line["scale"]): line for line in lines}

    @cached_property
    def claims(self) -> list[claims.Result]:
        """The claims of the paper's text, on its own cells and on the study's."""
        return sentences.evaluate(self.cells)

    # --- differences to the baseline ---

    @cached_property
    def comparisons(self) -> dict[int, list[Comparison]]:
        """Table 3 or 4 -> its variants compared with the baseline, on each test set."""
        return ablation.compare_all(self.study, self.results)

    @cached_property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """Id of the test set -> variant of Table 3 or 4 -> difference to the baseline."""
        found: dict[str, dict[str, Difference]] = {}
        for comparison in (each for own in self.comparisons.values() for each in own):
            found.setdefault(comparison.benchmark.id, {}).update(comparison.differences)
        return found

    @cached_property
    def decisive(self) -> Benchmark | None:
        """The test set whose differences say most: the paper's Manga109, else the one with most images."""

        def rank(benchmark: Benchmark) -> tuple[bool, int]:
            images = max(difference.images.n for difference in self.differences[benchmark.id].values())
            return f"{benchmark.id}_{METRIC}" != ablation.ORDERED_BY, -images

        measured = (benchmark for benchmark in benchmarks(self.study) if self.differences.get(benchmark.id))
        return min(measured, key=rank, default=None)

    def contrast(self, variant: str, benchmark: Benchmark | None) -> Contrast:
        """Return a variant's difference to the baseline on a test set, beside the paper's; without one, the paper's."""
        measured = self.differences.get(benchmark.id, {}).get(variant) if benchmark else None
        return Contrast(measured, ablation.printed_difference(variant, ablation.paper_column(benchmark)))
