"""The paper's tables beside the measured ones: what stands in which row and column, with which mark and footnote.

`build` makes a Table of plain text and numbers; `safmn.report.rendering` turns it into Markdown, LaTeX and CSV, and
`safmn.report.page` into HTML. Row order, labels and groups are the paper's.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from safmn import paths
from safmn.networks import variants
from safmn.paper import published, statistics, verdicts
from safmn.report import ablation, cells, reference_ema, trained
from safmn.report.ablation import Comparison
from safmn.report.measured import Results, benchmarks
from safmn.study import Study, differences_from_paper

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
    verdicts.EXACT: "the print is the exact number",
    verdicts.ROUNDING: "equal at the print's precision",
    verdicts.EXPLAINED: "differs, and the cause is computed",
    verdicts.REPRODUCED: "within the stated tolerance",
    verdicts.CONTRADICTED: "differs by more than tolerance and spread, and no cause is known",
    verdicts.UNDECIDABLE: "the data cannot decide",
    verdicts.NOT_COMPARABLE: "other data, budget or device than the paper's, or not in the paper",
    verdicts.MISSING: "no measured number",
}

DECISIONS = {  # (decision, whether several seeds were there) -> symbol
    (statistics.ABOVE, True): "▲",
    (statistics.BELOW, True): "▼",
    (statistics.ABOVE, False): "△",
    (statistics.BELOW, False): "▽",
    (statistics.UNDECIDED, True): "?",
    (statistics.UNDECIDED, False): "?",
}
DECISION_MEANINGS = {
    "▲": "above the baseline, across images and seeds",
    "▼": "below the baseline, across images and seeds",
    "△": "above the baseline across images; one seed each, so for these weights only",
    "▽": "below the baseline across images; one seed each, so for these weights only",
    "?": "the data cannot decide",
}
COLLAPSE_MARK = "*"
COLLAPSE_MEANING = "measured with weights from before the training collapsed"

HEADERS = {
    "params": "#Params [K]",
    "flops": "#FLOPs [G]",
    "activations": "#Acts [M]",
    "gpu_memory": "#GPU Mem. [MiB]",
    "runtime": "#Avg. Time [ms]",
}
DECIMALS = {"params": 2, "flops": 2, "activations": 2, "gpu_memory": 2, "runtime": 2, "psnr": 3, "ssim": 4}
FOOTNOTED = (verdicts.EXPLAINED, verdicts.CONTRADICTED, verdicts.MISSING)


@dataclass(frozen=True)
class Entry:
    """One field of a table.

    Attributes:
        text: as shown, without marks.
        value: the unrounded number behind it (an interval's lower end), None where it is text or blank.
        verdict: a word of VERDICTS for measured fields, else "".
        symbol: mark behind the text.
        footnote: number of the footnote, 0 for none.
        note: everything that is known about the number.
        header: whether it labels its row.
    """

    text: str
    value: float | None = None
    verdict: str = ""
    symbol: str = ""
    footnote: int = 0
    note: str = ""
    header: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a table that fits beside its row labels: headers are (quantity, what of it)."""

    title: str
    headers: list[tuple[str, str]]
    rows: list[list[Entry]]


@dataclass
class Table:
    """One table of the paper, ready to be rendered."""

    number: int
    caption: str
    summary: str
    sections: list[Section] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    flat: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def title(self) -> str:
        return f"Table {self.number}. {self.caption}"


def build_all(study: Study, folder: Path | str, frame: pd.DataFrame) -> list[Table]:
    """Tables 1 to 5 of `cells.csv`; see `build`."""
    results = Results(folder)
    return [build(study, results, frame, number) for number in published.TABLES]


def build(study: Study, results: Results, frame: pd.DataFrame, number: int) -> Table:
    """One table.

    Args:
        study: whose tables they are.
        results: the study's folder, for what cells do not hold: seeds, differences to the baseline, provenance.
        frame: `cells.csv`.
        number: 1 to 5.
    """
    own = frame[frame.table == number]
    builder = _Builder(study, results, number, own)
    table = Table(number, CAPTIONS[number], summary(own))
    if number == 5:
        table.sections = builder.operations()
    else:
        table.sections = builder.sections()
    if number == 2:
        table.sections += builder.other_ways()
    comparisons = ablation.compare(study, results, number) if number in (3, 4) else []
    if number in (3, 4):
        section = builder.to_baseline(comparisons)
        if section:
            table.sections.append(section)
    table.footnotes = builder.footnotes
    table.legend = _legend(table.sections)
    asked = reference_ema.answers(study, results) if number == 3 else []
    table.facts = [*asked, *_orderings(comparisons, number), *_facts(study, results, number)]
    table.flat = _flat(builder, own, number, comparisons)
    return table


def summary(frame: pd.DataFrame) -> str:
    """How many printed cells have which verdict, and what there is beyond the paper."""
    printed, beyond = frame[frame.published != ""], frame[frame.published == ""]
    counts = verdict_counts(printed)
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none in this study"
    text = f"{len(printed)} printed cells: {said}."
    if len(beyond):
        absent = int((beyond.verdict == verdicts.MISSING).sum())
        text += f" Beyond the paper: {len(beyond) - absent} measured, {absent} missing."
    return text


def verdict_counts(frame: pd.DataFrame) -> dict[str, int]:
    """Verdict -> number of cells, all verdicts in their order."""
    found = frame.verdict.value_counts()
    return {word: int(found.get(word, 0)) for word in verdicts.VERDICTS}


class _Builder:
    """The fields of one table, and its footnotes as they come up."""

    def __init__(self, study: Study, results: Results, number: int, frame: pd.DataFrame) -> None:
        from safmn.networks import all_networks

        self.study, self.results, self.number = study, results, number
        self.networks = all_networks()
        self.footnotes: list[str] = []
        self.cells = {(line.row, line.scale, line.column): line for line in frame.itertuples(index=False)}
        self.rows = list(dict.fromkeys((line.row, line.scale) for line in frame.itertuples(index=False)))
        self.columns = _in_order(line.column for line in frame.itertuples(index=False))

    # --- labels ---

    def label_headers(self) -> list[tuple[str, str]]:
        names = {1: ["Scale", "Method"], 2: ["Method"], 3: ["Ablation", "Variant"], 4: ["N"], 5: ["Operation"]}
        found = [("", name) for name in names[self.number]]
        if self.number != 1 and len({scale for _, scale in self.rows}) > 1:
            found.append(("", "Scale"))
        return found

    def labels(self, row: str, scale: int) -> list[str]:
        label = self.label(row)
        if self.number == 1:
            return [f"x{scale}", label]
        found = [self.group(row), label] if self.number == 3 else [label]
        if len({each for _, each in self.rows}) > 1:
            found.append(f"x{scale}")
        return found

    def label(self, row: str) -> str:
        """As the paper prints it; the title of one that the paper does not have."""
        network = self.networks.get(row)
        if network is None:
            return row
        return network.rows.get(self.number, network.title)

    def group(self, row: str) -> str:
        """The paper's group of a row of Table 3, or of the row that it stands beside."""
        if not self.is_printed(row):
            variant = variants.discover().get(row)
            row = variant.beside if variant else ""
        return group_of(self.label(row)) if self.is_printed(row) else "Own"

    def is_printed(self, row: str) -> bool:
        return row in self.networks and self.number in self.networks[row].rows

    # --- fields ---

    def has_print(self, column: str) -> bool:
        return any(cell.published for (_, _, name), cell in self.cells.items() if name == column)

    def printed(self, row: str, scale: int, column: str) -> Entry:
        cell = self.cells.get((row, scale, column))
        if cell is None or not cell.published:
            return Entry("")
        return Entry(cell.published, float(cell.published))

    def measured(self, row: str, scale: int, column: str) -> Entry:
        cell = self.cells.get((row, scale, column))
        if cell is None:
            return Entry("")
        symbol = SYMBOLS[cell.verdict]
        footnote = self.footnote(cell)
        if math.isnan(cell.measured) and cell.verdict == verdicts.MISSING:
            return Entry("", None, cell.verdict, symbol, footnote, cell.note)
        text = number(cell.measured, column, cell.published)
        if cells.is_collapsed(cell.note):
            text += COLLAPSE_MARK
        elif column.endswith(("_psnr", "_ssim")):
            text += self.deviation(row, scale, column)
        if "(" in cell.unit:  # "ms (CPU)": no figure of a CPU may pass for one of a GPU
            text += f" {cell.unit[cell.unit.index('(') :]}"
        if column == "gpu_memory" and "predicted without a GPU" in cell.note:
            text += " (predicted)"
        return Entry(text, cell.measured, cell.verdict, symbol, footnote, cell.note)

    def deviation(self, row: str, scale: int, column: str) -> str:
        """+- standard deviation where there were several seeds."""
        identity, metric = column.rsplit("_", 1)
        benchmark = next((each for each in benchmarks(self.study) if each.id == identity), None)
        if benchmark is None:
            return ""
        found = trained.collect(self.study, self.results, row, scale, benchmark)
        deviation = found.spread(metric).deviation if found.best else None
        return "" if deviation is None else f" ± {number(deviation, column, '')}"

    def delta(self, row: str, scale: int, column: str) -> Entry:
        cell = self.cells.get((row, scale, column))
        if cell is None or math.isnan(cell.delta):
            return Entry("")
        return Entry(number(cell.delta, column, cell.published, signed=True), cell.delta)

    def footnote(self, cell) -> int:
        if cells.is_collapsed(cell.note):
            text = next(part for part in cell.note.split("; ") if part.startswith(trained.COLLAPSED))
            return self.number_of(text.removeprefix(COLLAPSE_MARK).strip())
        if cell.verdict not in FOOTNOTED:
            return 0
        text = cell.note.split("; ")[0] if cell.verdict == verdicts.CONTRADICTED else cell.note
        # One footnote for all that wait for the same step.
        return self.number_of(text.replace(f"train_{cell.row}`", "train_NAME`"))

    def number_of(self, text: str) -> int:
        if text not in self.footnotes:
            self.footnotes.append(text)
        return self.footnotes.index(text) + 1

    # --- sections ---

    def sections(self) -> list[Section]:
        parts = [
            ("Complexity", [each for each in self.columns if each in ("params", "flops", "activations")]),
            ("Memory and time", [each for each in self.columns if each in ("gpu_memory", "runtime")]),
            ("PSNR on Y [dB]", [each for each in self.columns if each.endswith("_psnr")]),
            ("SSIM on Y", [each for each in self.columns if each.endswith("_ssim")]),
        ]
        return [self.section(title, columns) for title, columns in parts if columns]

    def section(self, title: str, columns: Sequence[str]) -> Section:
        headers = self.label_headers()
        for column in columns:
            name = self.header(column)
            headers += (
                [(name, "paper"), (name, "measured"), (name, "difference")]
                if self.has_print(column)
                else [(name, "measured")]
            )
        ratio = "runtime" in columns
        if ratio:
            headers += [("Time / SAFMN's", "paper"), ("Time / SAFMN's", "measured")]
        rows = []
        for row, scale in self.rows:
            fields = [Entry(text, header=True) for text in self.labels(row, scale)]
            for column in columns:
                if self.has_print(column):
                    fields += [
                        self.printed(row, scale, column),
                        self.measured(row, scale, column),
                        self.delta(row, scale, column),
                    ]
                else:
                    fields.append(self.measured(row, scale, column))
            if ratio:
                fields += self.ratios(row)
            rows.append(fields)
        return Section(title, headers, rows)

    def header(self, column: str) -> str:
        if column in HEADERS:
            return HEADERS[column]
        return cells.benchmark_title(column.rsplit("_", 1)[0], self.study)

    def ratios(self, row: str) -> list[Entry]:
        """Time relative to SAFMN's, printed and in the same run: what a different device changes least."""
        times = {
            cell.row: float(cell.printed) for cell in published.cells(self.networks.values(), [2]) if cell.unit == "ms"
        }
        paper = times[row] / times["safmn"] if row in times and "safmn" in times else None
        record = self.results.runtime(row)
        measured = record.get("ratio_to_safmn") if record else None
        printed = Entry("") if paper is None else Entry(f"{paper:.2f}", paper)
        return [printed, _relative(measured, 2, _is_gpus(record))]

    def other_ways(self) -> list[Section]:
        """Table 2: the field's habit and the other modes, beside the protocol and the mode of the main column."""
        records = {row: self.results.runtime(row) or {} for row, _ in self.rows}
        modes = list(dict.fromkeys(mode for record in records.values() for mode in record.get("modes", {})))
        has_habit = any(record.get("habit") for record in records.values())
        headers = self.label_headers()
        headers += [("one pass, no warm-up", "mean [ms]")] if has_habit else []
        headers += [(mode.replace("_", " "), what) for mode in modes for what in ("mean [ms]", "/ eager")]
        rows = []
        for row, scale in self.rows:
            record = records[row]
            fields = [Entry(text, header=True) for text in self.labels(row, scale)]
            fields += [self.way(record, record.get("habit") or {})] if has_habit else []
            for mode in modes:
                other = record.get("modes", {}).get(mode, {})
                both = other.get("status") == record.get("status") == "timed"
                ratio = float(other["median_ms"]) / record["median_ms"] if both else None
                fields += [self.way(record, other), _relative(ratio, 2, _is_gpus(record))]
            rows.append(fields)
        return [Section("Time in other ways than the main column's", headers, rows)] if has_habit or modes else []

    def other_times(self, row: str) -> dict[str, float]:
        """What `other_ways` shows of a row, by name and in ms."""
        record = self.results.runtime(row) or {}
        found = {"one pass without warm-up": record.get("habit") or {}, **record.get("modes", {})}
        return {f"runtime {way} [ms]": float(each["mean_ms"]) for way, each in found.items() if "mean_ms" in each}

    def way(self, eager: dict, record: dict) -> Entry:
        """The mean time of one record, or why there is none."""
        if record.get("status") != "timed":
            size = record.get("requested_lr")
            asked = f" with an LR image of {size.get('width')}x{size.get('height')}" if size else ""
            reason = record.get("reason") or record.get("message")
            if not reason:
                return Entry("")
            symbol, footnote = SYMBOLS[verdicts.MISSING], self.number_of(f"{record['status']}{asked}: {reason}")
            return Entry("", None, verdicts.MISSING, symbol, footnote, reason)
        value = float(record["mean_ms"])
        device = eager["provenance"].get("device")
        kind = "" if device == "cuda" else f" ({'CPU' if device == 'cpu' else trained.device(eager['provenance'])})"
        symbol = SYMBOLS[verdicts.NOT_COMPARABLE]
        return Entry(f"{value:.2f}{kind}", value, verdicts.NOT_COMPARABLE, symbol, note=cells.UNPUBLISHED)

    def operations(self) -> list[Section]:
        """Table 5: one operation a row, with its share of the six, which a different device changes less."""
        titles = {column: title for title, column in published.OPERATIONS.items()}
        headers = [
            *self.label_headers(),
            *(("Runtime [ms]", what) for what in ("paper", "measured", "difference")),
            *(("Share of the six [%]", what) for what in ("paper", "measured")),
        ]
        printed = {key: float(cell.published) for key, cell in self.cells.items()}
        measured = {key: cell.measured for key, cell in self.cells.items()}
        rows = []
        for key in self.cells:
            row, scale, column = key
            paper, own = (_share(values, key) for values in (printed, measured))
            rows.append(
                [
                    Entry(titles[column], header=True),
                    self.printed(row, scale, column),
                    self.measured(row, scale, column),
                    self.delta(row, scale, column),
                    Entry("") if paper is None else Entry(f"{paper:.1f}", paper),
                    _relative(own, 1, "(" not in self.cells[key].unit),
                ]
            )
        return [Section("Runtime", headers, rows)] if rows else []

    def to_baseline(self, comparisons: list[Comparison]) -> Section | None:
        """Each variant minus the baseline: printed on the paper's datasets, measured on the study's."""
        columns = [each for each in self.columns if each.endswith("_psnr") and self.has_print(each)]
        at = ablation.scale_of(self.study)
        variants = [row for row, scale in self.rows if row != ablation.BASELINE and scale == at]
        if not variants:
            return None
        headers = self.label_headers()
        headers += [(f"{self.header(column)} [dB]", "paper") for column in columns]
        for each in comparisons:
            name = f"{cells.benchmark_title(each.benchmark.id, self.study)} [dB]"
            headers += [(name, "measured"), (name, "95 % interval")]
        rows = []
        for row in variants:
            fields = [Entry(text, header=True) for text in self.labels(row, at)]
            for column in columns:
                value = ablation.printed_difference(self.study, self.number, row, column)
                fields.append(Entry("") if value is None else Entry(f"{value:+.2f}", float(value)))
            for each in comparisons:
                fields += self.difference_entries(each, row)
            rows.append(fields)
        return Section("Difference to the baseline, PSNR", headers, rows)

    def difference_entries(self, comparison: Comparison, row: str) -> list[Entry]:
        found = comparison.differences.get(row)
        if found is None:
            return [Entry(""), Entry("")]
        symbol = DECISIONS[found.decision, found.seeds.exists]
        cell = self.cells.get((row, ablation.scale_of(self.study), f"{comparison.benchmark.id}_{ablation.METRIC}"))
        star = COLLAPSE_MARK if cell is not None and cells.is_collapsed(cell.note) else ""
        interval = found.interval
        note = "; ".join(
            f"{name}: {_ends(each) if each.exists else 'no interval'}" + (f" ({each.note})" if each.note else "")
            for name, each in (("over images", found.images), ("over seeds", found.seeds))
        )
        shown = Entry(_ends(interval), interval.low, note=note) if interval.exists else Entry("", note=note)
        if not interval.exists:
            shown = Entry("", footnote=self.number_of(f"no interval: {interval.note}"), note=note)
        elif interval.note:
            shown = Entry(shown.text, shown.value, footnote=self.number_of(interval.note), note=note)
        return [Entry(f"{found.value:+.3f}{star}", found.value, symbol=symbol, note=note), shown]


def number(value: float, column: str, printed: str, signed: bool = False) -> str:
    """A measured figure with one digit more than the print has (quality: 3 decimals of a dB, 4 of SSIM)."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else f"{value:+}"
    kind = column.rsplit("_", 1)[-1] if column.endswith(("_psnr", "_ssim")) else column
    digits = DECIMALS.get(kind, 1)
    if kind in cells.COUNTS and printed:
        digits = max(digits, verdicts.decimals(printed) + 1)
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    # A difference that rounds to nothing has no sign.
    return text.lstrip("+-") if signed and float(text) == 0 else text


@cache
def _groups() -> dict[str, str]:
    with open(paths.NUMBERS / "table3.csv", encoding="utf-8", newline="") as handle:
        return {line["variant"]: line["group"] for line in csv.DictReader(handle)}


def group_of(label: str) -> str:
    """The group of a row of Table 3, as the paper prints it in the first column."""
    return _groups().get(label, "")


def _in_order(columns: Iterable[str]) -> list[str]:
    """Counts and costs as in the paper, then quality as it first appears: the paper's datasets before one's own."""
    place = {column: index for index, column in enumerate(HEADERS)}
    return sorted(dict.fromkeys(columns), key=lambda column: place.get(column, len(place)))


def _share(values: dict, key: tuple) -> float | None:
    total = sum(values.values())
    return 100 * values[key] / total if math.isfinite(total) and total > 0 else None


def _is_gpus(record: Mapping[str, Any] | None) -> bool:
    """Whether a record of times is a GPU's."""
    return bool(record) and record["provenance"].get("device") == "cuda"


def _relative(value: float | None, digits: int, of_gpu: bool) -> Entry:
    """A ratio or share of measured times; marked where they are not of a GPU, as the times themselves are."""
    if value is None:
        return Entry("")
    value = float(value)
    if of_gpu:
        return Entry(f"{value:.{digits}f}", value)
    verdict = verdicts.NOT_COMPARABLE
    return Entry(f"{value:.{digits}f}", value, verdict, SYMBOLS[verdict], note="of times of a CPU, not of a GPU")


def _ends(interval: statistics.Interval) -> str:
    return f"{interval.low:+.3f} to {interval.high:+.3f}"


def _legend(sections: list[Section]) -> list[tuple[str, str]]:
    entries = [entry for section in sections for row in section.rows for entry in row]
    used = {entry.verdict for entry in entries}
    found = [(SYMBOLS[word], f"{word}: {MEANINGS[word]}") for word in verdicts.VERDICTS if word in used]
    marks = {entry.symbol for entry in entries if not entry.verdict}
    found += [
        (symbol, meaning)
        for symbol, meaning in DECISION_MEANINGS.items()
        if symbol in marks and symbol not in (known for known, _ in found)
    ]
    if any(entry.text.endswith(COLLAPSE_MARK) and not entry.header for entry in entries):
        found.append((COLLAPSE_MARK, COLLAPSE_MEANING))
    return found


def _orderings(comparisons: list[Comparison], table: int) -> list[str]:
    """Kendall's tau for each benchmark, or why there is none."""
    found = []
    for each in comparisons:
        name = each.benchmark.selection
        agreement = each.agreement
        if agreement is None:
            found.append(f"Ordering on {name}: {each.remark}.")
            continue
        interval = agreement.interval
        spread = (
            f"95 % interval {interval.low:.2f} to {interval.high:.2f} over images, the weights as they are"
            if interval.exists
            else "no interval"
        )
        remark = f"; {interval.note}" if interval.note else ""
        found.append(
            f"Ordering on {name}: Kendall's tau {agreement.tau:.2f} ({spread}{remark}; p = {agreement.p:.2g}) between "
            f"the paper's Manga109 PSNR and the measured PSNR of {agreement.n} rows; 1 is the same order, 0 is none."
        )
    return found


def _facts(study: Study, results: Results, table: int) -> list[str]:
    """Data, budget, device and convention: what every number of the table rests on."""
    found = [f"Study: {study.name}, {study.content['description']}."]
    if table in (1, 3, 4):
        found += _counting(study, results)
        found.append(
            "Quality: on Y of MATLAB's YCbCr, SR rounded to uint8, border of scale pixels cropped, means over images; "
            f"tested on {', '.join(study.data['test']) or 'nothing'}."
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
            found.append(f"Operations: {_listed(_where(record), *how)}; times are of {cells.PAPER_IMAGES} images.")
    return found


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


def _flat(builder: _Builder, frame: pd.DataFrame, number: int, comparisons: list[Comparison]) -> pd.DataFrame:
    """Everything in one sheet: a row a network, unrounded, with verdicts and notes."""
    if number == 5:
        titles = {column: title for title, column in published.OPERATIONS.items()}
        flat = frame.drop(columns=["table", "scale"]).copy()
        flat.insert(0, "operation", [titles[column] for column in flat["column"]])
        return flat.drop(columns="column")
    records = []
    for row, scale in builder.rows:
        record: dict[str, object] = {"row": row, "label": builder.label(row), "scale": scale}
        if number == 3:
            record["group"] = builder.labels(row, scale)[0]
        for column in builder.columns:
            cell = builder.cells.get((row, scale, column))
            if cell is None:
                continue
            for what in ("published", "measured", "unit", "delta", "verdict", "note"):
                record[f"{column} {what}"] = getattr(cell, what)
        for each in comparisons:
            found = each.differences.get(row)
            if found is None:
                continue
            name = f"{each.benchmark.id} difference to baseline"
            record |= {
                f"{name} [dB]": found.value,
                f"{name} images low": found.images.low,
                f"{name} images high": found.images.high,
                f"{name} seeds low": found.seeds.low,
                f"{name} seeds high": found.seeds.high,
                f"{name} decision": found.decision,
            }
        if number == 2:
            record |= builder.other_times(row)
        records.append(record)
    return pd.DataFrame(records)
