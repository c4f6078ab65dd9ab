"""Build the paper's tables with measured numbers beside the published ones: fields, marks and footnotes.

`build` makes a Table of plain text and numbers; `safmn.report.rendering` turns it into Markdown, LaTeX and CSV, and
`safmn.report.page` into HTML. Row order, labels and groups are the paper's.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safmn import quantities
from safmn.networks import all_networks, variants
from safmn.paper import published, statistics, verdicts
from safmn.paper.cell import LOWER_BOUND, PREDICTED, UNPUBLISHED, Cell
from safmn.report import ablation, costs, facts
from safmn.report.ablation import Comparison
from safmn.report.evaluated import device_type
from safmn.report.measured import Record, Results, benchmark_title
from safmn.study import Study

CAPTIONS = {
    1: "Efficient SR networks on benchmark datasets",
    2: "Memory and running time at x4",
    3: "Ablation for SAFMN at x4",
    4: "Effect of the number of FMMs on performance, x4",
    5: "Runtime of the operations in SAFMN",
}

SYMBOLS = {
    verdicts.EXACT: "=",
    verdicts.ROUNDING: "≈",
    verdicts.EXPLAINED: "†",
    verdicts.REPRODUCED: "✓",
    verdicts.CONTRADICTED: "✗",
    verdicts.UNDECIDABLE: "?",
    verdicts.NOT_COMPARABLE: "○",
    verdicts.MISSING: "–",
}
MEANINGS = {
    verdicts.EXACT: "the published value is the exact number",
    verdicts.ROUNDING: "equal at the published precision",
    verdicts.EXPLAINED: "differs, and the cause is computed",
    verdicts.REPRODUCED: "within the stated tolerance",
    verdicts.CONTRADICTED: "differs by more than tolerance and spread, and no cause is known",
    verdicts.UNDECIDABLE: "the data cannot decide",
    verdicts.NOT_COMPARABLE: "other data, budget or device than the paper's, or not in the paper",
    verdicts.MISSING: "no measured number",
}

DECISIONS = {  # decision -> symbol for one seed each, and for several seeds
    statistics.ABOVE: ("△", "▲"),
    statistics.BELOW: ("▽", "▼"),
    statistics.UNDECIDED: ("?", "?"),
}
DECISION_MEANINGS = {
    "▲": "above the baseline, across images and seeds",
    "▼": "below the baseline, across images and seeds",
    "△": "above the baseline across images; one seed each, so for these weights only",
    "▽": "below the baseline across images; one seed each, so for these weights only",
    "?": "the data cannot decide",
}
ABLATIONS = 3
OWN = "Own"
COLLAPSE_MARK = "*"
COLLAPSE_MEANING = "measured with weights from before the training collapsed"

HEADERS = {name: quantities.quantity(name).title for name in (*costs.COUNTS, "gpu_memory", "runtime")}
DECIMALS = {"params": 2, "flops": 2, "activations": 2, "gpu_memory": 2, "runtime": 2, "psnr": 3, "ssim": 4}
AT_LEAST, AT_LEAST_MEANING = "≥", "a lower bound: an operation could not be counted"
FLAT = ("published", "measured", "unit", "delta", "verdict", "note", "low", "high", "std", "seeds", "device", "origin")
"""Fields of a cell in the CSV of a table."""


@dataclass(frozen=True)
class Entry:
    """One field of a table.

    Attributes:
        text: As shown, without marks.
        value: The unrounded number (an interval's lower end), None where it is text or blank.
        verdict: A word of VERDICTS for measured fields, else "".
        symbol: Mark behind the text.
        footnote: Number of the footnote, 0 for none.
        note: All that is known about the number.
        header: Whether it is a label of its row.
        name: The network's short name, shown beside its label.
        place: 1 for the best of its column, 2 for the second best, else 0.
    """

    text: str
    value: float | None = None
    verdict: str = ""
    symbol: str = ""
    footnote: int = 0
    note: str = ""
    header: bool = False
    name: str = ""
    place: int = 0


BLANK = Entry("")
Header = tuple[str, str]
"""(quantity, what of it): ("#FLOPs [G]", "measured"). The quantity of a label is ""."""


@dataclass(frozen=True)
class Section:
    """A part of a table that fits beside its row labels; where it is `grouped`, the first label is the row's group."""

    title: str
    headers: list[Header]
    rows: list[list[Entry]]
    grouped: bool = False


@dataclass
class Table:
    """One table, ready to be rendered.

    Attributes:
        number: 1 to 5 in the paper, 0 for one that is not in it.
        caption: What it is about.
        summary: How many cells have which verdict.
        sections: Its parts; none where the study has no row of it.
        legend: (sign, meaning) of every sign in it.
        footnotes: In the order of their numbers, from 1.
        facts: Sentences below the table.
        flat: One mapping a row for the CSV, numbers unrounded.
        name: What its files are called, where they are not called after its number.
    """

    number: int
    caption: str
    summary: str
    sections: list[Section] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    flat: list[dict[str, Any]] = field(default_factory=list)
    name: str = ""

    @property
    def title(self) -> str:
        """Number and caption."""
        return f"Table {self.number}. {self.caption}" if self.number else self.caption


def build_all(
    study: Study,
    folder: Path | str,
    cells: Sequence[Cell],
    comparisons: Mapping[int, Sequence[Comparison]] | None = None,
) -> list[Table]:
    """Build Tables 1 to 5 from a study's cells; see `build`. `comparisons` are those of `ablation.compare_all`."""
    results = Results(folder)
    compared = ablation.compare_all(study, results) if comparisons is None else comparisons
    return [build(study, results, cells, number, compared.get(number, [])) for number in published.TABLES]


def build(
    study: Study, results: Results, cells: Iterable[Cell], number: int, comparisons: Sequence[Comparison] = ()
) -> Table:
    """Build one table.

    Args:
        study: The study.
        results: Its folder, for what cells do not hold: differences to the baseline, other times, provenance.
        cells: The cells of all tables, from `safmn.report.cells.collect`.
        number: 1 to 5.
        comparisons: Of the variants of Table 3 or 4 with the baseline.
    """
    own = [cell for cell in cells if cell.table == number]
    builder = _Builder(study, results, number, own)
    sections = builder.operations() if number == 5 else builder.sections()
    if number == 2:
        sections += builder.other_ways()
    if number in (3, 4):
        sections += builder.to_baseline(comparisons)
    return Table(
        number,
        CAPTIONS[number],
        summary(own),
        sections,
        legend(sections),
        builder.footnotes,
        facts.of_table(study, results, number, comparisons),
        _flat_operations(own) if number == 5 else builder.flat(comparisons),
    )


def measured_part(table: Table) -> Table:
    """Return a table without the parts, rows and quantities that have no measured number.

    `answer.unmeasured` names what is left out.
    """
    sections = []
    for section in table.sections:
        rows = [
            row for row in section.rows if any(_is_measured(entry, what) for entry, what in _with_whats(section, row))
        ]
        filled = {
            place
            for row in rows
            for place, (entry, what) in enumerate(_with_whats(section, row))
            if _is_measured(entry, what)
        }
        kept = [
            place
            for place, (quantity, _) in enumerate(section.headers)
            if not quantity or any(section.headers[other][0] == quantity for other in filled)
        ]
        if rows:
            headers = [section.headers[place] for place in kept]
            sections.append(replace(section, headers=headers, rows=[[row[place] for place in kept] for row in rows]))
    return replace(table, sections=sections, legend=legend(sections))


def _with_whats(section: Section, row: Sequence[Entry]) -> Iterable[tuple[Entry, str]]:
    return zip(row, (what for _, what in section.headers), strict=True)


def _is_measured(entry: Entry, what: str) -> bool:
    return not entry.header and what != "paper" and entry.value is not None


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


class _Builder:
    """Makes the fields of one table, and collects its footnotes."""

    def __init__(self, study: Study, results: Results, number: int, cells: Sequence[Cell]) -> None:
        self.study, self.results, self.number = study, results, number
        self.networks = all_networks()
        self.footnotes: list[str] = []
        self.cells = {(cell.network, cell.scale, cell.column): cell for cell in cells}
        self.rows = list(dict.fromkeys((cell.network, cell.scale) for cell in cells))
        order = {column: place for place, column in enumerate(HEADERS)}  # counts and costs first, as in the paper
        self.columns = sorted(
            dict.fromkeys(cell.column for cell in cells), key=lambda column: order.get(column, len(order))
        )
        self.has_print = {cell.column for cell in cells if cell.published}
        self.shows_scale = number != 1 and len({scale for _, scale in self.rows}) > 1

    # --- labels ---

    def label_headers(self) -> list[Header]:
        names = {1: ["Scale", "Method"], 2: ["Method"], 3: ["Ablation", "Variant"], 4: ["N"], 5: ["Operation"]}
        return [("", name) for name in names[self.number] + ["Scale"] * self.shows_scale]

    def labels(self, network: str, scale: int) -> list[Entry]:
        before = {1: [f"x{scale}"], 3: [group_of(network)]}.get(self.number, [])
        texts = [*before, self.label(network), *[f"x{scale}"] * self.shows_scale]
        return [Entry(text, header=True) for text in texts]

    def label(self, network: str) -> str:
        """Return the row's name in the paper; the network's title if the paper does not have it."""
        own = self.networks.get(network) or self.study.retrained.get(network)
        return own.rows.get(self.number, own.title) if own else network

    # --- fields ---

    def printed(self, cell: Cell | None) -> Entry:
        return Entry(cell.published, float(cell.published)) if cell and cell.published else BLANK

    def measured(self, cell: Cell | None) -> Entry:
        if cell is None:
            return BLANK
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

    def delta(self, cell: Cell | None) -> Entry:
        # It would be the rounding of the published value, or compare what cannot be compared.
        if cell is None or cell.delta is None or cell.verdict in (verdicts.ROUNDING, verdicts.NOT_COMPARABLE):
            return BLANK
        return Entry(number(cell.delta, cell.column, cell.published, signed=True), cell.delta)

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

    # --- sections ---

    def sections(self) -> list[Section]:
        """Return complexity, memory and time, PSNR, and SSIM, as far as the table has columns of them."""
        endings = {
            "Complexity": ("params", "flops", "activations"),
            "Memory and time": ("gpu_memory", "runtime"),
            "PSNR on Y [dB]": ("_psnr",),
            "SSIM on Y": ("_ssim",),
        }
        parts = {title: [column for column in self.columns if column.endswith(ends)] for title, ends in endings.items()}
        return [self.section(title, columns) for title, columns in parts.items() if columns]

    def section(self, title: str, columns: Sequence[str]) -> Section:
        headers = self.label_headers()
        for column in columns:
            whats = ("paper", "measured", "difference") if column in self.has_print else ("measured",)
            headers += [(self.header(column), what) for what in whats]
        ratio = "runtime" in columns
        if ratio:
            headers += [("Time / SAFMN's", "paper"), ("Time / SAFMN's", "measured")]
        rows = []
        for network, scale in self.rows:
            row = self.labels(network, scale)
            for column in columns:
                cell = self.cells.get((network, scale, column))
                fields = [self.printed(cell), self.measured(cell), self.delta(cell)]
                row += fields if column in self.has_print else fields[1:2]
            rows.append(row + (self.ratios(network) if ratio else []))
        return Section(title, headers, rows)

    def header(self, column: str) -> str:
        return HEADERS.get(column) or benchmark_title(column.rsplit("_", 1)[0], self.study)

    def ratios(self, network: str) -> list[Entry]:
        """Return time relative to SAFMN's, published and in the same run: it depends least on the device."""
        printed = published.cells(self.networks.values(), [2])
        times = {cell.network: cell.value for cell in printed if cell.column == "runtime"}
        paper = times[network] / times["safmn"] if network in times and "safmn" in times else None
        record = self.results.runtime(network)
        measured = record.get("ratio_to_safmn") if record else None
        shown = BLANK if paper is None else Entry(f"{paper:.2f}", paper)
        return [shown, _relative(measured, 2, device_type(record or {}))]

    def other_ways(self) -> list[Section]:
        """Return Table 2's times of one pass without warm-up and of the modes other than `eager`."""
        records = {network: self.results.runtime(network) or {} for network, _ in self.rows}
        modes = list(dict.fromkeys(mode for record in records.values() for mode in record.get("modes", {})))
        has_habit = any(record.get("habit") for record in records.values())
        headers = self.label_headers()
        headers += [("one pass, no warm-up", "mean [ms]")] if has_habit else []
        headers += [(mode.replace("_", " "), what) for mode in modes for what in ("mean [ms]", "/ eager")]
        rows = []
        for network, scale in self.rows:
            record = records[network]
            row = self.labels(network, scale)
            row += [self.way(record, record.get("habit") or {})] if has_habit else []
            for mode in modes:
                other = record.get("modes", {}).get(mode, {})
                both = other.get("status") == record.get("status") == "timed"
                ratio = float(other["median_ms"]) / record["median_ms"] if both else None
                row += [self.way(record, other), _relative(ratio, 2, device_type(record))]
            rows.append(row)
        return [Section("Time in other ways than the main column's", headers, rows)] if has_habit or modes else []

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
                *(self.printed(cell), self.measured(cell), self.delta(cell)),
                *(_relative(share, 1, "cuda"), _relative(own, 1, cell.device)),
            ]
            for cell, share, own in zip(cells, printed, measured, strict=True)
        ]
        return [Section("Runtime", headers, rows)] if rows else []

    def to_baseline(self, comparisons: Sequence[Comparison]) -> list[Section]:
        """Return each variant minus the baseline: published on the paper's datasets, measured on the study's."""
        columns = [column for column in self.columns if column.endswith("_psnr") and column in self.has_print]
        scale = ablation.scale_of(self.study)
        headers = self.label_headers()
        headers += [(f"{self.header(column)} [dB]", "paper") for column in columns]
        for comparison in comparisons:
            name = f"{benchmark_title(comparison.benchmark.id, self.study)} [dB]"
            headers += [(name, "measured"), (name, "95 % interval")]
        rows = []
        for network in (network for network, at in self.rows if network != ablation.BASELINE and at == scale):
            row = self.labels(network, scale)
            for column in columns:
                value = ablation.printed_difference(self.number, network, column)
                row.append(BLANK if value is None else Entry(f"{value:+.2f}", float(value)))
            for comparison in comparisons:
                row += self.differences(comparison, network, scale)
            rows.append(row)
        return [Section("Difference to the baseline, PSNR", headers, rows)] if rows else []

    def differences(self, comparison: Comparison, network: str, scale: int) -> list[Entry]:
        """Return the measured difference with its mark, and its interval."""
        difference = comparison.differences.get(network)
        if difference is None:
            return [BLANK, BLANK]
        cell = self.cells.get((network, scale, f"{comparison.benchmark.id}_{ablation.METRIC}"))
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

    def flat(self, comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
        """Return one mapping a row: all cells unrounded, with verdicts and notes."""
        lines = []
        for network, scale in self.rows:
            line: dict[str, Any] = {"row": network, "label": self.label(network), "scale": scale}
            if self.number == 3:
                line["group"] = group_of(network)
            for column in self.columns:
                if cell := self.cells.get((network, scale, column)):
                    line |= {f"{column} {what}": getattr(cell, what) for what in FLAT}
            for comparison in comparisons if scale == ablation.scale_of(self.study) else ():
                if difference := comparison.differences.get(network):
                    line |= _flat_difference(f"{comparison.benchmark.id} difference to baseline", difference)
            if self.number == 2:
                record = self.results.runtime(network) or {}
                ways = {"one pass without warm-up": record.get("habit") or {}, **record.get("modes", {})}
                times = {way: record["mean_ms"] for way, record in ways.items() if "mean_ms" in record}
                line |= {f"runtime {way} [ms]": float(time) for way, time in times.items()}
            lines.append(line)
        return lines


def number(value: float, column: str, printed: str, signed: bool = False) -> str:
    """Show a measured number with one digit more than the published one (PSNR: 3 decimals, SSIM: 4)."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else f"{value:+}"
    quantity = column.rsplit("_", 1)[-1] if column.endswith(("_psnr", "_ssim")) else column
    digits = DECIMALS.get(quantity, 1)
    if quantity in costs.COUNTS and printed:
        digits = max(digits, verdicts.decimals(printed) + 1)
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    # A difference that rounds to nothing has no sign.
    return text.lstrip("+-") if signed and float(text) == 0 else text


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


def mark_best(rows: Sequence[list[Entry]], column: int, most: int = 1, lowest: bool = False) -> None:
    """Mark the `most` largest (or lowest) numbers of a column; those that look equal share a place."""
    known = [
        (row[column].value or 0.0, row[column].text.rstrip(COLLAPSE_MARK), row) for row in rows if _finite(row[column])
    ]
    ranked = dict.fromkeys(text for _, text, _ in sorted(known, key=lambda each: each[0], reverse=not lowest))
    places = {text: place for place, text in enumerate(list(ranked)[:most], 1)}
    for _, text, row in known:
        row[column] = replace(row[column], place=places.get(text, 0))


def _finite(entry: Entry) -> bool:
    return entry.value is not None and math.isfinite(entry.value)


def ends(interval: statistics.Interval) -> str:
    """Show an interval of a difference; "" where there is none."""
    return f"{interval.low:+.3f} to {interval.high:+.3f}" if interval.exists else ""


def legend(sections: Sequence[Section]) -> list[tuple[str, str]]:
    """Return (sign, meaning) of every sign in some sections."""
    entries = [entry for section in sections for row in section.rows for entry in row if not entry.header]
    used = {entry.verdict for entry in entries}
    legend = {SYMBOLS[word]: f"{word}: {MEANINGS[word]}" for word in verdicts.VERDICTS if word in used}
    marks = {entry.symbol for entry in entries if not entry.verdict}
    for sign, text in DECISION_MEANINGS.items():
        if sign in marks:
            legend.setdefault(sign, text)
    if any(entry.text.endswith(COLLAPSE_MARK) for entry in entries):
        legend[COLLAPSE_MARK] = COLLAPSE_MEANING
    if any(entry.text.startswith(AT_LEAST) for entry in entries):
        legend[AT_LEAST] = AT_LEAST_MEANING
    return list(legend.items())


def _flat_difference(name: str, difference: statistics.Difference) -> dict[str, Any]:
    return {
        f"{name} [dB]": difference.value,
        f"{name} images low": difference.images.low,
        f"{name} images high": difference.images.high,
        f"{name} seeds low": difference.seeds.low,
        f"{name} seeds high": difference.seeds.high,
        f"{name} decision": difference.decision,
    }


def _flat_operations(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    return [
        {"operation": costs.OPERATIONS[cell.column], "row": cell.network} | {what: getattr(cell, what) for what in FLAT}
        for cell in cells
    ]
