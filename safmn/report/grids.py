"""What a table consists of, whatever it is about: fields, sections, signs and their legend, best numbers.

`tables`, `ablation_table` and `own_tables` build a Table of plain text and numbers; `rendering` turns it into Markdown,
LaTeX and CSV, and `page` into HTML.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from safmn.paper import statistics, verdicts
from safmn.report import costs

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
COLLAPSE_MARK = "*"
COLLAPSE_MEANING = "measured with weights from before the training collapsed"
AT_LEAST, AT_LEAST_MEANING = "≥", "a lower bound: an operation could not be counted"
DECIMALS = {"params": 2, "flops": 2, "activations": 2, "gpu_memory": 2, "runtime": 2, "psnr": 3, "ssim": 4}


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


def ends(interval: statistics.Interval) -> str:
    """Show an interval of a difference; "" where there is none."""
    return f"{interval.low:+.3f} to {interval.high:+.3f}" if interval.exists else ""


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


def measured_part(table: Table) -> Table:
    """Return a table without the parts, rows and quantities that have no measured number.

    `answer.unmeasured` names what is left out.
    """
    sections = []
    for section in table.sections:
        rows = [row for row in section.rows if any(_are_measured(section, row))]
        filled = {place for row in rows for place, is_measured in enumerate(_are_measured(section, row)) if is_measured}
        quantities = {section.headers[place][0] for place in filled}
        kept = [place for place, (name, _) in enumerate(section.headers) if not name or name in quantities]
        if rows:
            headers = [section.headers[place] for place in kept]
            sections.append(replace(section, headers=headers, rows=[[row[place] for place in kept] for row in rows]))
    return replace(table, sections=sections, legend=legend(sections))


def _are_measured(section: Section, row: Sequence[Entry]) -> list[bool]:
    whats = (what for _, what in section.headers)
    return [
        not entry.header and what != "paper" and entry.value is not None for entry, what in zip(row, whats, strict=True)
    ]
