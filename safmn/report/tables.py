"""Build the paper's Tables 1 to 5 with measured numbers beside the published ones.

Row order, labels and groups are the paper's. A table is rows of cells, put together from blocks of columns.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from safmn import quantities
from safmn.networks import all_networks, variants
from safmn.paper import published, statistics, verdicts
from safmn.paper.cell import LOWER_BOUND, PREDICTED, UNPUBLISHED, Cell
from safmn.report import ablation, costs, facts
from safmn.report.ablation import Comparison
from safmn.report.evaluated import device_type
from safmn.report.grids import (
    AT_LEAST,
    BLANK,
    COLLAPSE_MARK,
    DECISIONS,
    SYMBOLS,
    Entry,
    Header,
    Section,
    Table,
    ends,
    legend,
    number,
)
from safmn.report.joined import Joined
from safmn.report.measured import Record, benchmark_title

CAPTIONS = {
    1: "Efficient SR networks on benchmark datasets",
    2: "Memory and running time at x4",
    3: "Ablation for SAFMN at x4",
    4: "Effect of the number of FMMs on performance, x4",
    5: "Runtime of the operations in SAFMN",
}
LABELS = {1: ["Scale", "Method"], 2: ["Method"], 3: ["Ablation", "Variant"], 4: ["N"], 5: ["Operation"]}
ABLATIONS = 3
OWN = "Own"
HEADERS = {name: quantities.quantity(name).title for name in (*costs.COUNTS, "gpu_memory", "runtime")}
SECTIONS = {  # title -> how the columns of the section end
    "Complexity": ("params", "flops", "activations"),
    "Memory and time": ("gpu_memory", "runtime"),
    "PSNR on Y [dB]": ("_psnr",),
    "SSIM on Y": ("_ssim",),
}
FLAT = ("published", "measured", "unit", "delta", "verdict", "note", "low", "high", "std", "seeds", "device", "origin")
"""Fields of a cell in the CSV of a table."""

Row = tuple[str, int]
"""Network and scale."""
Block = tuple[list[Header], Callable[[Row], list[Entry]]]
"""Some columns of a section: their headers, and their fields in a row."""


def build_all(joined: Joined) -> list[Table]:
    """Build Tables 1 to 5."""
    return [build(joined, number) for number in published.TABLES]


def build(joined: Joined, number: int) -> Table:
    """Build one table by its number, 1 to 5."""
    builder = _Builder(joined, number)
    sections = builder.sections()
    return Table(
        number,
        CAPTIONS[number],
        summary(builder.cells.values()),
        sections,
        legend(sections),
        builder.footnotes,
        facts.of_table(joined, number),
        builder.flat(),
    )


# --- Counts of verdicts -----------------------------------------------------------------------------------------------


def summary(cells: Iterable[Cell]) -> str:
    """Say how many published cells have which verdict, and how many cells there are beyond the paper."""
    own = list(cells)
    printed = [cell for cell in own if cell.published]
    beyond = [cell for cell in own if not cell.published]
    counts = ", ".join(f"{count} {word}" for word, count in verdict_counts(printed).items() if count)
    text = f"{len(printed)} printed cells: {counts or 'none in this study'}."
    if beyond:
        missing = sum(cell.is_missing for cell in beyond)
        text += f" Beyond the paper: {len(beyond) - missing} measured, {missing} missing."
    return text


def counts_by_table(cells: Iterable[Cell]) -> dict[str, dict[str, int]]:
    """Count published cells: "Table 1" -> verdict -> cells and so on, and "all"."""
    printed = [cell for cell in cells if cell.published]
    parts = {f"Table {number}": [cell for cell in printed if cell.table == number] for number in published.TABLES}
    return {name: verdict_counts(own) for name, own in (parts | {"all": printed}).items()}


def verdict_counts(cells: Iterable[Cell]) -> dict[str, int]:
    """Count the cells of each verdict, in the order of VERDICTS."""
    counts = Counter(cell.verdict for cell in cells)
    return {word: counts[word] for word in verdicts.VERDICTS}


def group_of(network: str) -> str:
    """Return the paper's group of a variant's row in Table 3, or of the row that it stands beside; else OWN."""
    variant = variants.discover().get(network)
    if variant and variant.beside and ABLATIONS not in variant.network.rows:
        variant = variants.discover().get(variant.beside)
    label = variant.network.rows.get(ABLATIONS) if variant else None
    return published.groups().get(label, OWN) if label else OWN


# --- One table --------------------------------------------------------------------------------------------------------


class _Builder:
    """Puts the sections of one table together, and collects its footnotes."""

    def __init__(self, joined: Joined, number: int) -> None:
        self.joined, self.study, self.number = joined, joined.study, number
        self.networks = all_networks() | self.study.retrained
        self.footnotes: list[str] = []
        own = [cell for cell in joined.cells if cell.table == number]
        self.cells = {(cell.network, cell.scale, cell.column): cell for cell in own}
        self.rows = list(dict.fromkeys((cell.network, cell.scale) for cell in own))
        order = {column: place for place, column in enumerate(HEADERS)}  # counts and costs first, as in the paper
        present = dict.fromkeys(cell.column for cell in own)
        self.columns = sorted(present, key=lambda column: order.get(column, len(order)))
        self.has_print = {cell.column for cell in own if cell.published}
        self.shows_scale = number != 1 and len({scale for _, scale in self.rows}) > 1
        self.comparisons = joined.comparisons.get(number, [])
        timed = dict.fromkeys(network for network, _ in self.rows) if number == 2 else ()
        self.times: dict[str, Record] = {network: joined.results.runtime(network) or {} for network in timed}

    def sections(self) -> list[Section]:
        """Return the table's sections, without those that have no columns or no rows."""
        if self.number == 5:
            return self.operations()
        sections = []
        for title, endings in SECTIONS.items():
            columns = [column for column in self.columns if column.endswith(endings)]
            blocks = [self.block(column) for column in columns]
            blocks += [self.ratios()] if "runtime" in columns else []
            sections += self.section(title, self.rows, blocks)
        if self.number == 2:
            sections += self.section("Time in other ways than the main column's", self.rows, self.other_ways())
        if self.number in ablation.TABLES:
            scale = ablation.scale_of(self.study)
            rows = [row for row in self.rows if row[0] != ablation.BASELINE and row[1] == scale]
            sections += self.section("Difference to the baseline, PSNR", rows, self.to_baseline())
        return sections

    def section(self, title: str, rows: Sequence[Row], blocks: Sequence[Block]) -> list[Section]:
        """Return the blocks side by side behind the labels of the rows; nothing without rows or blocks."""
        if not rows or not blocks:
            return []
        headers = [*self.label_headers(), *(header for headers, _ in blocks for header in headers)]
        grid = [[*self.labels(row), *(entry for _, fields in blocks for entry in fields(row))] for row in rows]
        return [Section(title, headers, grid)]

    # --- labels ---

    def label_headers(self) -> list[Header]:
        return [("", name) for name in LABELS[self.number] + ["Scale"] * self.shows_scale]

    def labels(self, row: Row) -> list[Entry]:
        network, scale = row
        before = {1: [f"x{scale}"], 3: [group_of(network)]}.get(self.number, [])
        texts = [*before, self.label(network), *[f"x{scale}"] * self.shows_scale]
        return [Entry(text, header=True) for text in texts]

    def label(self, network: str) -> str:
        """Return the row's name in the paper; the network's title if the paper does not have it."""
        own = self.networks.get(network)
        return own.rows.get(self.number, own.title) if own else network

    def header(self, column: str) -> str:
        return HEADERS.get(column) or benchmark_title(column.rsplit("_", 1)[0], self.study)

    # --- a cell ---

    def block(self, column: str) -> Block:
        """Return a column of cells: published, measured and difference, or measured alone."""
        whats = ("paper", "measured", "difference") if column in self.has_print else ("measured",)

        def fields(row: Row) -> list[Entry]:
            shown = self.fields(self.cells.get((*row, column)))
            return shown if column in self.has_print else shown[1:2]

        return [(self.header(column), what) for what in whats], fields

    def fields(self, cell: Cell | None) -> list[Entry]:
        """Return a cell's published number, its measured one and the difference, each blank where there is none."""
        if cell is None:
            return [BLANK] * 3
        printed = Entry(cell.published, float(cell.published)) if cell.published else BLANK
        difference = BLANK
        # It would be the rounding of the published value, or compare what cannot be compared.
        if cell.delta is not None and cell.verdict not in (verdicts.ROUNDING, verdicts.NOT_COMPARABLE):
            difference = Entry(number(cell.delta, cell.column, cell.published, signed=True), cell.delta)
        return [printed, self.measured(cell), difference]

    def measured(self, cell: Cell) -> Entry:
        symbol, footnote = SYMBOLS[cell.verdict], self.footnote(cell)
        if cell.measured is None:
            return Entry("", None, cell.verdict, symbol, footnote, cell.note)
        text = number(cell.measured, cell.column, cell.published)
        if cell.origin.startswith(LOWER_BOUND):
            text = f"{AT_LEAST} {text}"
        if cell.collapsed:
            text += COLLAPSE_MARK
        elif cell.std is not None:
            text += f" ± {number(cell.std, cell.column, '')}"
        if cell.is_time:
            text += _device_mark(cell.device)
        if cell.origin.startswith(PREDICTED):
            text += " (predicted)"
        return Entry(text, cell.measured, cell.verdict, symbol, footnote, cell.note)

    def footnote(self, cell: Cell) -> int:
        """Return the number of a cell's footnote, 0 for none: why there is no number or another one, and remarks."""
        if cell.verdict in (verdicts.EXPLAINED, verdicts.MISSING) and not cell.collapsed:
            # One footnote for all cells that wait for the same step.
            return self.number_of(cell.note.replace(f"train_{cell.network}`", "train_NAME`"))
        # The whole note would be too long; its first clause says what happened.
        short = cell.collapsed or cell.verdict == verdicts.CONTRADICTED
        first = cell.note.partition("; ")[0].removeprefix(COLLAPSE_MARK).strip()
        return self.number_of("; ".join([*[first] * short, *cell.remarks]))

    def number_of(self, text: str) -> int:
        """Return the number of the footnote with a text, which is added if it is new; 0 for no text."""
        if not text:
            return 0
        if text not in self.footnotes:
            self.footnotes.append(text)
        return self.footnotes.index(text) + 1

    # --- times: Tables 2 and 5 ---

    def ratios(self) -> Block:
        """Return time relative to SAFMN's, published and in the same run: it depends least on the device."""
        printed = published.cells(self.networks.values(), [2])
        times = {cell.network: cell.value for cell in printed if cell.column == "runtime"}

        def fields(row: Row) -> list[Entry]:
            record = self.times[row[0]]
            paper = times[row[0]] / times["safmn"] if row[0] in times and "safmn" in times else None
            return [_relative(paper, 2, "cuda"), _relative(record.get("ratio_to_safmn"), 2, device_type(record))]

        return [("Time / SAFMN's", "paper"), ("Time / SAFMN's", "measured")], fields

    def other_ways(self) -> list[Block]:
        """Return Table 2's times of one pass without warm-up, and of the modes other than `eager`."""
        blocks: list[Block] = []
        if any(record.get("habit") for record in self.times.values()):
            headers = [("one pass, no warm-up", "mean [ms]")]
            blocks.append((headers, lambda row: [self.way(self.times[row[0]], self.times[row[0]].get("habit") or {})]))
        modes = dict.fromkeys(mode for record in self.times.values() for mode in record.get("modes", {}))
        return blocks + [self.mode(mode) for mode in modes]

    def mode(self, mode: str) -> Block:
        """Return the times of a mode, and how they compare with those of `eager`."""

        def fields(row: Row) -> list[Entry]:
            record = self.times[row[0]]
            other = record.get("modes", {}).get(mode, {})
            both = other.get("status") == record.get("status") == "timed"
            ratio = float(other["median_ms"]) / record["median_ms"] if both else None
            return [self.way(record, other), _relative(ratio, 2, device_type(record))]

        return [(mode.replace("_", " "), what) for what in ("mean [ms]", "/ eager")], fields

    def way(self, eager: Record, record: Record) -> Entry:
        """Return the mean time of one record, or why there is none."""
        if record.get("status") != "timed":
            reason = costs.untimed(record)
            if not reason:
                return BLANK
            return Entry("", None, verdicts.MISSING, SYMBOLS[verdicts.MISSING], self.number_of(reason), reason)
        value, symbol = float(record["mean_ms"]), SYMBOLS[verdicts.NOT_COMPARABLE]
        text = f"{value:.2f}{_device_mark(device_type(eager))}"
        return Entry(text, value, verdicts.NOT_COMPARABLE, symbol, note=UNPUBLISHED)

    def operations(self) -> list[Section]:
        """Return Table 5: one operation a row, with its share of the six, which depends less on the device."""
        headers = [
            *self.label_headers(),
            *(("Runtime [ms]", what) for what in ("paper", "measured", "difference")),
            *(("Share of the six [%]", what) for what in ("paper", "measured")),
        ]
        cells = list(self.cells.values())
        printed = _shares([float(cell.published) for cell in cells])
        measured = _shares([cell.measured for cell in cells])
        rows = [
            [
                Entry(costs.OPERATIONS[cell.column], header=True),
                *self.fields(cell),
                *(_relative(share, 1, "cuda"), _relative(own, 1, cell.device)),
            ]
            for cell, share, own in zip(cells, printed, measured, strict=True)
        ]
        return [Section("Runtime", headers, rows)] if rows else []

    # --- differences to the baseline: Tables 3 and 4 ---

    def to_baseline(self) -> list[Block]:
        """Return each variant minus the baseline: published on the paper's datasets, measured on the study's."""
        columns = [column for column in self.columns if column.endswith("_psnr") and column in self.has_print]
        blocks: list[Block] = [
            ([(f"{self.header(column)} [dB]", "paper")], partial(self.papers_difference, column)) for column in columns
        ]
        for comparison in self.comparisons:
            name = f"{comparison.benchmark.title} [dB]"
            headers = [(name, "measured"), (name, "95 % interval")]
            blocks.append((headers, partial(self.own_difference, comparison)))
        return blocks

    def papers_difference(self, column: str, row: Row) -> list[Entry]:
        value = ablation.printed_difference(row[0], column, [self.number])
        return [BLANK if value is None else Entry(f"{value:+.2f}", float(value))]

    def own_difference(self, comparison: Comparison, row: Row) -> list[Entry]:
        """Return the measured difference with its mark, and its interval."""
        difference = comparison.differences.get(row[0])
        if difference is None:
            return [BLANK, BLANK]
        cell = self.cells.get((*row, f"{comparison.benchmark.id}_{ablation.METRIC}"))
        star = COLLAPSE_MARK if cell and cell.collapsed else ""
        interval, intervals = difference.interval, {"images": difference.images, "seeds": difference.seeds}
        note = "; ".join(
            f"over {name}: {ends(own) or 'no interval'}" + (f" ({own.note})" if own.note else "")
            for name, own in intervals.items()
        )
        reason = interval.note if interval.exists else f"no interval: {interval.note}"
        symbol = DECISIONS[difference.decision][difference.seeds.exists]
        return [
            Entry(f"{difference.value:+.3f}{star}", difference.value, symbol=symbol, note=note),
            Entry(ends(interval), interval.low, footnote=self.number_of(reason), note=note),
        ]

    # --- CSV ---

    def flat(self) -> list[dict[str, Any]]:
        """Return one mapping a row: all cells unrounded, with verdicts and notes."""
        if self.number == 5:
            return [
                {"operation": costs.OPERATIONS[cell.column], "row": cell.network}
                | {what: getattr(cell, what) for what in FLAT}
                for cell in self.cells.values()
            ]
        return [self.line(network, scale) for network, scale in self.rows]

    def line(self, network: str, scale: int) -> dict[str, Any]:
        line: dict[str, Any] = {"row": network, "label": self.label(network), "scale": scale}
        if self.number == ABLATIONS:
            line["group"] = group_of(network)
        for column in self.columns:
            if cell := self.cells.get((network, scale, column)):
                line |= {f"{column} {what}": getattr(cell, what) for what in FLAT}
        for comparison in self.comparisons if scale == ablation.scale_of(self.study) else ():
            if difference := comparison.differences.get(network):
                line |= _flat_difference(f"{comparison.benchmark.id} difference to baseline", difference)
        record = self.times.get(network, {})
        ways = {"one pass without warm-up": record.get("habit") or {}, **record.get("modes", {})}
        times = {way: own["mean_ms"] for way, own in ways.items() if "mean_ms" in own}
        return line | {f"runtime {way} [ms]": float(time) for way, time in times.items()}


def _shares(values: Sequence[float | None]) -> list[float | None]:
    """Return each value in per cent of their sum; None for all where one is missing."""
    numbers = [value for value in values if value is not None]
    total = sum(numbers)
    if len(numbers) < len(values) or not 0 < total < math.inf:
        return [None] * len(values)
    return [100 * value / total for value in numbers]


def _device_mark(device: str) -> str:
    """Return what is written behind a time, so that a CPU's is not taken for a GPU's."""
    return {"cuda": "", "cpu": " (CPU)"}.get(device, f" ({device or 'unknown'})")


def _relative(value: float | None, digits: int, device: str) -> Entry:
    """Show a ratio or share of measured times; marked, as the times themselves, where they are not a GPU's."""
    if value is None:
        return BLANK
    text, value = f"{float(value):.{digits}f}", float(value)
    if device == "cuda":
        return Entry(text, value)
    verdict = verdicts.NOT_COMPARABLE
    return Entry(text, value, verdict, SYMBOLS[verdict], note="of times of a CPU, not of a GPU")


def _flat_difference(name: str, difference: statistics.Difference) -> dict[str, Any]:
    parts = {"images": difference.images, "seeds": difference.seeds}
    ends = {f"{name} {over} {end}": getattr(own, end) for over, own in parts.items() for end in ("low", "high")}
    return {f"{name} [dB]": difference.value} | ends | {f"{name} decision": difference.decision}
