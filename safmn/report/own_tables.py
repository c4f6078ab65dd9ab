"""Tables for a paper of one's own, as a study's `own_tables` names their rows and columns."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from safmn.networks import all_networks
from safmn.paper import statistics
from safmn.paper.cell import Cell
from safmn.quantities import SHORT, quantity, split
from safmn.report import ablation, grids, trained
from safmn.report.ablation_table import label, provisos
from safmn.report.grids import BLANK, Entry, Header, Section, Table
from safmn.report.joined import Joined
from safmn.report.measured import Absent, Benchmark, benchmark_title, benchmarks
from safmn.schema import OwnTable

PUBLISHED, DIFFERENCE = "published_", "difference_"
NOTED = {"time": "runtime", "predicted_memory": "gpu_memory", "measured_memory": "gpu_memory", "convolutions": "params"}
"""Quantity of `networks.csv` -> the column of `cells.csv` whose reservations hold for it too."""
PLACES = {"none": 0, "best": 1, "both": 2}

Scores = list[dict[str, float]]
"""One mapping image -> figure a seed."""
Value = float | str | None


def build_all(joined: Joined) -> list[Table]:
    """Build every table of the study's `own_tables`; a number that is not measured is blank."""
    return [_Builder(joined, name, wanted).table() for name, wanted in joined.study.own_tables.items()]


class _Builder:
    """Builds one table."""

    def __init__(self, joined: Joined, name: str, wanted: OwnTable) -> None:
        self.joined, self.study, self.results = joined, joined.study, joined.results
        self.name, self.wanted = name, wanted
        fine_last = sorted(joined.cells, key=lambda cell: cell.table in ablation.TABLES)  # more digits than Table 1
        self.printed = {(c.network, c.scale, c.column): float(c.published) for c in fine_last if c.published}
        self.scale = wanted.scale or ablation.scale_of(self.study)
        self.benchmarks = {benchmark.id: benchmark for benchmark in benchmarks(self.study)}
        self.networks = all_networks() | self.study.retrained
        self.difference = cache(self._difference)

    def table(self) -> Table:
        """Return the table, its rows sorted and its best numbers marked."""
        wanted = self.wanted
        numbers: dict[str, list[Any]] = {
            row: [self.value(row, column) for column in wanted.columns] for row in wanted.rows
        }
        rows = list(wanted.rows)
        if wanted.sort:
            place = wanted.columns.index(wanted.sort.removeprefix("-"))
            known = [row for row in rows if _is_known(numbers[row][place])]
            others = [row for row in rows if row not in known]
            rows = sorted(known, key=lambda row: numbers[row][place], reverse=wanted.sort[0] == "-") + others
        grid = [
            [Entry(label(self.networks[row]), header=True), *map(self.entry, wanted.columns, numbers[row])]
            for row in rows
        ]
        for place, column in enumerate(wanted.columns, 1):
            best = "" if column.startswith((PUBLISHED, DIFFERENCE)) else quantity(column).best
            if best:
                grids.mark_best(grid, place, PLACES[wanted.mark], best == "lowest")
        decided = {(row, column): self.decided(row, column) for row in rows for column in wanted.columns}
        for line, row in zip(grid, rows, strict=True):
            for place, column in enumerate(wanted.columns, 1):
                if (symbol := decided[row, column]) and line[place].text:
                    line[place] = replace(line[place], symbol=symbol)
        section = Section("", [("", "Network"), *map(self.header, wanted.columns)], grid)
        legend = [(sign, self.said(text)) for sign, text in grids.legend([section])]
        flat = [self.flat(row, numbers[row]) for row in rows]
        title = wanted.title or self.study.description
        return Table(0, title, "", [section], legend, facts=self.facts(rows), flat=flat, name=self.name)

    # --- numbers ---

    def value(self, row: str, column: str) -> Value:
        """Return a number with all digits in the unit that is shown, or a text; None where there is none."""
        if column.startswith(DIFFERENCE):
            difference = self.difference(row, column.removeprefix(DIFFERENCE))
            return difference.value if difference else None
        if column.startswith(PUBLISHED):
            return self.printed.get((row, self.scale, column.removeprefix(PUBLISHED)))
        if column == "training_hours":
            return self.hours(row)
        if column in SHORT:
            cell = self.joined.chosen.get((row, self.scale, column))
            return cell.measured if cell else None
        value = self.joined.networks.get((row, self.scale), {}).get(column)
        if isinstance(value, bool):
            return "yes" if value else "no"
        unit = quantity(column).unit
        return value if value is None or unit == 1 else value / unit

    def hours(self, row: str) -> float | None:
        """Return the mean time of a training run in hours."""
        network = self.study.network_of(row)
        runs = self.study.runs(network) if network in self.study.trained else []
        seconds = [(self.results.record(run) or {}).get("seconds") for run in runs if run.scale == self.scale]
        known = [float(each) for each in seconds if isinstance(each, int | float)]
        return sum(known) / len(known) / 3600 if known else None

    def scores(self, row: str, benchmark: Benchmark, figure: str) -> Scores:
        """Return the scores behind a row's numbers: of its trained weights, a mapping a seed, or of published ones.

        Empty where one of its evaluated seeds lacks them.
        """
        network = self.study.network_of(row)
        if self.study.trains(row):
            runs = self.trained(row, benchmark)
            return [] if runs.lacking(figure) else runs.by_image(figure)
        published = self.results.scores(network, self.scale, "published", benchmark)
        return [] if isinstance(published, Absent) else [published.by_image(figure)]

    def trained(self, row: str, benchmark: Benchmark) -> trained.Trained:
        """Return the results of the study's own runs of a row."""
        return trained.collect(self.study, self.results, self.study.network_of(row), self.scale, benchmark)

    def _difference(self, row: str, column: str) -> statistics.Difference | None:
        """Return the difference to the row of `significance` on a test set."""
        against = self.wanted.significance
        identity, figure = split(column)
        if against is None or row == against or identity not in self.benchmarks:
            return None
        benchmark = self.benchmarks[identity]
        return statistics.difference(*(self.scores(name, benchmark, figure) for name in (row, against)))

    def decided(self, row: str, column: str) -> str:
        """Return the mark of a decided difference to the row of `significance`, else ""."""
        difference = self.difference(row, column.removeprefix(DIFFERENCE))
        if difference is None or difference.decision == statistics.UNDECIDED:
            return ""
        return grids.DECISIONS[difference.decision][difference.seeds.exists]

    # --- what is shown ---

    def entry(self, column: str, value: Value) -> Entry:
        """Show a number or a text; a difference with its sign and a digit more of PSNR."""
        if value is None:
            return BLANK
        if isinstance(value, str):
            return Entry(value)
        is_difference = column.startswith(DIFFERENCE)
        name = column.removeprefix(PUBLISHED).removeprefix(DIFFERENCE)
        short, of = split(name)[1], quantity(name)
        decimals = max(of.decimals or 0, 3 * is_difference)
        digits = self.wanted.decimals.get(column, self.wanted.decimals.get(short, decimals))
        text = f"{value:{'+' * is_difference}.{digits}f}" if math.isfinite(value) else str(value)
        return Entry(text, value)

    def header(self, column: str) -> Header:
        """Return the words above a column."""
        name = column.removeprefix(PUBLISHED).removeprefix(DIFFERENCE)
        identity = split(name)[0]
        what = " ".join(filter(None, [identity and benchmark_title(identity, self.study), quantity(name).title]))
        if column.startswith(DIFFERENCE):
            return "", f"{what}, difference"
        return "", f"{what}, published" if column.startswith(PUBLISHED) else what

    def said(self, text: str) -> str:
        """Name the row that a mark compares with."""
        return text.replace("the baseline", label(self.networks[self.wanted.significance or ablation.BASELINE]))

    def facts(self, rows: Sequence[str]) -> list[str]:
        """Return what a reader must know beside the numbers."""
        collapsed = [row for row in rows if row in self.joined.collapsed]
        names = ", ".join(label(self.networks[row]) for row in collapsed)
        facts = [f"Measured with weights from before the training collapsed: {names}."] if collapsed else []
        facts += [fact for row in rows for column in self.wanted.columns if (fact := self.without_mean(row, column))]
        shown = (self.noted(row, column) for row in rows for column in self.wanted.columns)
        return facts + provisos(shown, {row: label(self.networks[row]) for row in rows})

    def without_mean(self, row: str, column: str) -> str:
        """Say that a number is blank since some of the row's seeds lack it; "" where that is not so."""
        identity, figure = split(column)
        if identity not in self.benchmarks or not self.study.trains(row):
            return ""
        lacking = self.trained(row, self.benchmarks[identity]).lacking(figure)
        return f"{self.header(column)[1]} of {label(self.networks[row])} is blank: {lacking}." if lacking else ""

    def noted(self, row: str, column: str) -> Cell | None:
        """Return the cell whose reservations hold for a number: its own, or that of the same measurement."""
        identity, figure = split(column)
        base = f"{identity}_{figure.removesuffix('_rgb').replace('lpips', 'psnr')}" if identity else figure
        return self.joined.chosen.get((row, self.scale, NOTED.get(base, base)))

    def flat(self, row: str, numbers: Sequence[Value]) -> dict[str, Any]:
        """Return one line of the CSV, all digits."""
        line: dict[str, Any] = {"row": row, "label": label(self.networks[row]), "scale": self.scale}
        for column, value in zip(self.wanted.columns, numbers, strict=True):
            line[column] = value
            if self.wanted.significance and split(column)[0] and not column.startswith(PUBLISHED):
                difference = self.difference(row, column.removeprefix(DIFFERENCE))
                ends = (difference.interval.ends if difference else None) or (None, None)
                line |= {f"{column} decision": difference.decision if difference else "", f"{column} low": ends[0]}
                line |= {f"{column} high": ends[1]}
        return line


def _is_known(value: Value) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))
