"""Tables for a paper of one's own, as a study's `own_tables` names their rows and columns."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from safmn.networks import all_networks
from safmn.paper import statistics
from safmn.paper.cell import Cell
from safmn.report import ablation, tables, trained
from safmn.report.ablation_table import best_cells, label, provisos
from safmn.report.measured import METRICS, Absent, Benchmark, Results, benchmark_title, benchmarks
from safmn.report.tables import BLANK, Entry, Header, Section, Table
from safmn.schema import OwnTable
from safmn.study import Study

HIGHER_IS_BETTER = METRICS
PUBLISHED, DIFFERENCE = "published_", "difference_"
DECIMALS = {"params": 1, "flops": 2, "activations": 2, "memory": 2, "runtime": 2, "psnr": 2, "ssim": 4, "hours": 1}
DIFFERENCE_DECIMALS = {"psnr": 3, "ssim": 4}
PLACES = {"none": 0, "best": 1, "both": 2}

Scores = list[dict[str, float]]
"""One mapping image -> PSNR or SSIM a seed."""


def build_all(study: Study, results: Results, cells: Iterable[Cell]) -> list[Table]:
    """Build every table of the study's `own_tables`; a number that is not measured is blank."""
    chosen = best_cells(cells)
    return [_Builder(study, results, chosen, name, wanted).table() for name, wanted in study.own_tables.items()]


class _Builder:
    """Builds one table."""

    def __init__(
        self,
        study: Study,
        results: Results,
        cells: Mapping[tuple[str, int, str], Cell],
        name: str,
        wanted: OwnTable,
    ) -> None:
        self.study, self.results, self.cells, self.name, self.wanted = study, results, cells, name, wanted
        self.scale = wanted.scale or ablation.scale_of(study)
        self.benchmarks = {benchmark.id: benchmark for benchmark in benchmarks(study)}
        self.networks = all_networks() | study.retrained
        self.difference = cache(self._difference)

    def table(self) -> Table:
        """Return the table, its rows sorted and its best numbers marked."""
        wanted = self.wanted
        numbers = {row: [self.number(row, column) for column in wanted.columns] for row in wanted.rows}
        rows = list(wanted.rows)
        if wanted.sort:
            place, sign = wanted.columns.index(wanted.sort.removeprefix("-")), -1 if wanted.sort[0] == "-" else 1
            rows.sort(key=lambda row: _sign(numbers[row][place], sign))
        grid = [
            [Entry(label(self.networks[row]), header=True), *map(self.entry, wanted.columns, numbers[row])]
            for row in rows
        ]
        for place, column in enumerate(wanted.columns, 1):
            if not column.startswith((PUBLISHED, DIFFERENCE)):
                lowest = _quantity(column) not in HIGHER_IS_BETTER
                tables.mark_best(grid, place, PLACES[wanted.mark], lowest)
        decided = {(row, column): self.decided(row, column) for row in rows for column in wanted.columns}
        for line, row in zip(grid, rows, strict=True):
            for place, column in enumerate(wanted.columns, 1):
                if (symbol := decided[row, column]) and line[place].text:
                    line[place] = replace(line[place], symbol=symbol)
        section = Section("", [("", "Network"), *map(self.header, wanted.columns)], grid)
        legend = [(sign, self.said(text)) for sign, text in tables.legend([section])]
        flat = [self.flat(row, numbers[row]) for row in rows]
        title = wanted.title or self.study.description
        return Table(0, title, "", [section], legend, facts=self.facts(rows), flat=flat, name=self.name)

    # --- numbers ---

    def number(self, row: str, column: str) -> float | None:
        """Return a number with all digits; None where there is none."""
        if column.startswith(DIFFERENCE):
            difference = self.difference(row, column.removeprefix(DIFFERENCE))
            return difference.value if difference else None
        if column == "training_hours":
            return self.hours(row)
        cell = self.cells.get((row, self.scale, column.removeprefix(PUBLISHED)))
        if cell is None or not column.startswith(PUBLISHED):
            return cell.measured if cell else None
        return float(cell.published) if cell.published else None

    def hours(self, row: str) -> float | None:
        """Return the mean time of a training run in hours."""
        network = self.study.retrained[row].name if row in self.study.retrained else row
        runs = self.study.runs(network) if network in self.study.trained else []
        seconds = [(self.results.record(run) or {}).get("seconds") for run in runs if run.scale == self.scale]
        known = [float(each) for each in seconds if isinstance(each, int | float)]
        return sum(known) / len(known) / 3600 if known else None

    def scores(self, row: str, benchmark: Benchmark, metric: str) -> Scores:
        """Return the scores behind a row's numbers: of its trained weights, a mapping a seed, or of published ones."""
        network = self.study.retrained[row].name if row in self.study.retrained else row
        if row in self.study.retrained or (row in self.study.variants and self.study.training is not None):
            return trained.collect(self.study, self.results, network, self.scale, benchmark).by_image(metric)
        published = self.results.scores(network, self.scale, "published", benchmark)
        return [] if isinstance(published, Absent) else [published.by_image(metric)]

    def _difference(self, row: str, column: str) -> statistics.Difference | None:
        """Return the difference to the row of `significance` on a test set."""
        against = self.wanted.significance
        identity, _, metric = column.rpartition("_")
        if against is None or row == against or identity not in self.benchmarks or metric not in METRICS:
            return None
        benchmark = self.benchmarks[identity]
        return statistics.difference(*(self.scores(name, benchmark, metric) for name in (row, against)))

    def decided(self, row: str, column: str) -> str:
        """Return the mark of a decided difference to the row of `significance`, else ""."""
        difference = self.difference(row, column.removeprefix(DIFFERENCE))
        if difference is None or difference.decision == statistics.UNDECIDED:
            return ""
        return tables.DECISIONS[difference.decision][difference.seeds.exists]

    # --- what is shown ---

    def entry(self, column: str, value: float | None) -> Entry:
        """Show a number; a difference with its sign."""
        if value is None:
            return BLANK
        is_difference = column.startswith(DIFFERENCE)
        quantity = _quantity(column)
        decimals = (DIFFERENCE_DECIMALS if is_difference else DECIMALS)[quantity]
        digits = self.wanted.decimals.get(column, self.wanted.decimals.get(quantity, decimals))
        text = f"{value:{'+' * is_difference}.{digits}f}" if math.isfinite(value) else str(value)
        return Entry(text, value)

    def header(self, column: str) -> Header:
        """Return the words above a column."""
        name = column.removeprefix(PUBLISHED).removeprefix(DIFFERENCE)
        if name == "training_hours":
            what = "Training [h]"
        elif name in tables.HEADERS:
            what = tables.HEADERS[name]
        else:
            identity, _, metric = name.rpartition("_")
            unit = " [dB]" if metric == "psnr" else ""
            what = f"{benchmark_title(identity, self.study)} {metric.upper()}{unit}"
        if column.startswith(DIFFERENCE):
            return "", f"{what}, difference"
        return "", f"{what}, published" if column.startswith(PUBLISHED) else what

    def said(self, text: str) -> str:
        """Name the row that a mark compares with."""
        return text.replace("the baseline", label(self.networks[self.wanted.significance or ablation.BASELINE]))

    def facts(self, rows: Sequence[str]) -> list[str]:
        """Return what a reader must know beside the numbers."""
        collapsed = [row for row in rows if any(cell.collapsed for key, cell in self.cells.items() if key[0] == row)]
        names = ", ".join(label(self.networks[row]) for row in collapsed)
        facts = [f"Measured with weights from before the training collapsed: {names}."] if collapsed else []
        shown = (self.cells.get((row, self.scale, column)) for row in rows for column in self.wanted.columns)
        return facts + provisos(filter(None, shown), {row: label(self.networks[row]) for row in rows})

    def flat(self, row: str, numbers: list[float | None]) -> dict[str, Any]:
        """Return one line of the CSV, all digits."""
        line: dict[str, Any] = {"row": row, "label": label(self.networks[row]), "scale": self.scale}
        for column, value in zip(self.wanted.columns, numbers, strict=True):
            line[column] = value
            if self.wanted.significance and column.endswith(METRICS) and not column.startswith(PUBLISHED):
                difference = self.difference(row, column.removeprefix(DIFFERENCE))
                ends = (difference.interval.ends if difference else None) or (None, None)
                line |= {f"{column} decision": difference.decision if difference else "", f"{column} low": ends[0]}
                line |= {f"{column} high": ends[1]}
        return line


def _quantity(column: str) -> str:
    return column.rpartition("_")[2]


def _sign(value: float | None, sign: int) -> tuple[bool, float]:
    """Return what rows are sorted by: those without a number last."""
    return value is None or math.isnan(value), sign * (value or 0.0)
