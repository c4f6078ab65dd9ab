"""The one table that answers: a row a variant, with counts, PSNR, difference to the baseline and the paper's.

Of a study that trains nothing it has the published networks instead, and how far they are from the paper's values.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from safmn.networks import all_networks, variants
from safmn.networks.registry import Network
from safmn.paper import statistics, verdicts
from safmn.paper.cell import LOWER_BOUND, PREDICTED, Cell
from safmn.report import ablation, costs, grids, tables
from safmn.report.ablation import BASELINE, METRIC
from safmn.report.grids import BLANK, COLLAPSE_MARK, Entry, Header, Section, Table
from safmn.report.imported import MARK
from safmn.report.joined import Joined
from safmn.report.measured import benchmark_title, benchmarks
from safmn.report.tables import OWN
from safmn.study import Study, differences_from_paper

NAME = "ablation"
BLOCKS = "Number of FMMs"  # the group of Table 4's rows
RETRAINED = "Published networks"  # the group of those that the study trains itself
SEVERITY = (  # of verdicts: the first that a row has is shown
    verdicts.CONTRADICTED,
    verdicts.UNDECIDABLE,
    verdicts.NOT_COMPARABLE,
    verdicts.EXPLAINED,
    verdicts.REPRODUCED,
    verdicts.ROUNDING,
    verdicts.EXACT,
)
VERSUS = "vs. baseline [dB]"
DIRECTION = (
    'A number "vs. baseline" is PSNR minus the baseline\'s. The verdict is on its direction, above or below the '
    "baseline, and not on its size. It rests on the 95 % interval over images and, with several seeds, over seeds; "
    "with one seed it holds for these weights only."
)
DIRECTIONS = {
    verdicts.REPRODUCED: "the direction is the paper's",
    verdicts.CONTRADICTED: "the direction is another than the paper's",
    verdicts.UNDECIDABLE: "the data cannot decide the direction",
    verdicts.MISSING: "no measured difference",
}
"""Verdict on a direction -> what it means; `grids.MEANINGS` are those of verdicts on a value."""
PROVISOS = {
    "FLOPs and activations are lower bounds, since an operation could not be counted": (
        lambda cell: cell.origin.startswith(LOWER_BOUND)
    ),
    "Memory is predicted, not measured": lambda cell: cell.origin.startswith(PREDICTED),
    "Times are of a CPU": lambda cell: cell.is_time and cell.device == "cpu",
    "Imported from an archive, not measured here": lambda cell: f", {MARK}" in cell.origin,
}
"""What a reader must know about a number that is shown without its note -> whether it is true of a cell."""

Row = tuple[str, Network, int]
"""Group, network, scale."""


def build(joined: Joined) -> Table:
    """Build the table."""
    study, trains = joined.study, joined.study.training is not None
    rows = variant_rows(study) if trains else _published(joined)
    columns = [
        column
        for column in (*costs.COUNTS, *(f"{benchmark.id}_{METRIC}" for benchmark in benchmarks(study)))
        if any(joined.measured(network.name, scale, column) for _, network, scale in rows)
    ]
    headers: list[Header] = [("", "Group" if trains else "Scale"), ("", "Network")]
    headers += [_header(study, column) for column in columns]
    shown = [[joined.measured(network.name, scale, column) for column in columns] for _, network, scale in rows]
    grid = [
        [Entry(group, header=True), Entry(label(network), header=True, name=network.name), *map(_number, cells)]
        for (group, network, _), cells in zip(rows, shown, strict=True)
    ]
    if trains:
        headers += _difference_headers(joined)
        for row, (_, network, _) in zip(grid, rows, strict=True):
            row += _difference(joined, network.name)
        facts = _facts(joined)
        if not any(row[-3].text for row in grid):  # no interval
            del headers[-3]
            for row in grid:
                del row[-3]
    else:
        headers += [("PSNR on Y [dB]", "largest difference to the paper"), ("", "Verdict")]
        for row, cells in zip(grid, shown, strict=True):
            row += _distance(cells)
        facts = ["A difference is shown where it is more than the rounding of the published value."]
    named = {network.name: label(network) for _, network, _ in rows}
    facts += provisos((cell for cells in shown for cell in cells), named)
    for place, column in enumerate(columns, 2):
        if trains and _is_decided(joined, column.removesuffix(f"_{METRIC}")):
            grids.mark_best(grid, place)
        if not trains and column.endswith(METRIC):
            for group in dict.fromkeys(row[0].text for row in grid):
                grids.mark_best([row for row in grid if row[0].text == group], place)
    section = Section("", headers, grid, grouped=True)
    title = "Ablation" if trains else "Published networks"
    return Table(
        0,
        f"{title}, study {study.name}" + (f", x{ablation.scale_of(study)}" if trains else ""),
        "",
        [section] if grid else [],
        _legend(section) if trains else grids.legend([section]),
        facts=facts,
        flat=[_flat(joined, row, columns) for row in rows],
        name=NAME,
    )


# --- Rows and columns -------------------------------------------------------------------------------------------------


def variant_rows(study: Study) -> list[Row]:
    """Return the study's variants: a user's own first, then the paper's groups and Table 4's rows."""
    networks, known, scale = all_networks(), variants.discover(), ablation.scale_of(study)
    rows = []
    for name in study.variants:
        own = not networks[name].rows and not (name in known and known[name].beside)
        group = OWN if own else tables.group_of(name)
        rows.append((BLOCKS if group == OWN and not own else group, networks[name], scale))
    rows += [(RETRAINED, replace(network, name=name), scale) for name, network in study.retrained.items()]
    return sorted(rows, key=lambda row: row[0] != OWN)


def _published(joined: Joined) -> list[Row]:
    """Return the networks of a study that trains nothing, those that have a measured PSNR."""
    networks, study = all_networks(), joined.study
    columns = [f"{benchmark.id}_{METRIC}" for benchmark in benchmarks(study)]
    return [
        (f"x{scale}", networks[name], scale)
        for scale in study.scales
        for name in [*study.networks, *study.variants]
        if any(joined.measured(name, scale, column) for column in columns)
    ]


def _header(study: Study, column: str) -> Header:
    if column in tables.HEADERS:
        return "", tables.HEADERS[column]
    return "PSNR on Y [dB]", benchmark_title(column.removesuffix(f"_{METRIC}"), study)


# --- Fields -----------------------------------------------------------------------------------------------------------


def label(network: Network) -> str:
    """Return a variant's name in Table 3; its title where that is "-" or a number, or the paper does not have it."""
    return network.title if network.name == BASELINE else network.rows.get(3, network.title)


def provisos(cells: Iterable[Cell | None], labels: Mapping[str, str]) -> list[str]:
    """Return a sentence for each of PROVISOS that is true of some cells, with the names of their rows.

    Args:
        cells: those that are shown, None for a blank field.
        labels: row -> its name.
    """
    shown = [cell for cell in cells if cell and cell.measured is not None]
    found = {text: dict.fromkeys(cell.network for cell in shown if fits(cell)) for text, fits in PROVISOS.items()}
    return [f"{text}: {', '.join(labels[row] for row in rows)}." for text, rows in found.items() if rows]


def _number(cell: Cell | None) -> Entry:
    """Show a measured number; its verdict only where the number is not the paper's."""
    if cell is None or cell.measured is None:
        return BLANK
    digits = 2 if cell.column.endswith(METRIC) else 3
    text = f"{cell.measured:.{digits}f}" if math.isfinite(cell.measured) else str(cell.measured)
    if cell.collapsed:
        text += COLLAPSE_MARK
    noted = cell.published and cell.verdict in (verdicts.EXPLAINED, verdicts.CONTRADICTED)
    verdict = cell.verdict if noted else ""
    note = f"paper {cell.published}: {cell.verdict}; {cell.note}" if cell.published else cell.note
    return Entry(text, cell.measured, verdict, grids.SYMBOLS[verdict] if verdict else "", note=note)


def _difference_headers(joined: Joined) -> list[Header]:
    title = joined.decisive.title if joined.decisive else "measured"
    return [
        (VERSUS, title),
        (VERSUS, "95 % interval"),
        (VERSUS, f"paper, {ablation.paper_title(joined.decisive)}"),
        ("", "Direction"),
    ]


def _is_decided(joined: Joined, identity: str) -> bool:
    """Return whether any difference is decided; otherwise the best number may be the best by chance."""
    differences = joined.differences.get(identity, {}).values()
    return any(difference.decision != statistics.UNDECIDED for difference in differences)


def _verdict(word: str) -> Entry:
    return Entry(word, None, word, grids.SYMBOLS[word]) if word else BLANK


def _legend(section: Section) -> list[tuple[str, str]]:
    """Return (sign, meaning) of the signs in the table of variants, whose last column judges directions."""
    values = replace(section, rows=[row[:-1] for row in section.rows])
    used = {row[-1].verdict for row in section.rows}
    directions = [(grids.SYMBOLS[word], f"{word}: {text}") for word, text in DIRECTIONS.items() if word in used]
    return [*grids.legend([values]), *directions]


def _difference(joined: Joined, network: str) -> list[Entry]:
    """Return a variant's difference to the baseline, its interval, the paper's, and the verdict on the direction."""
    if network == BASELINE:
        return [BLANK] * 4
    contrast = joined.contrast(network, joined.decisive)
    own, printed = contrast.measured, contrast.printed
    paper = BLANK if printed is None else Entry(f"{printed:+.2f}" if printed else "0.00", float(printed))
    measured = [BLANK, BLANK]
    if own is not None:
        text = grids.number(own.value, METRIC, "", signed=True) + COLLAPSE_MARK * (network in joined.collapsed)
        measured = [Entry(text, own.value), Entry(grids.ends(own.interval), own.interval.low)]
    return [*measured, paper, _verdict(contrast.verdict)]


def _distance(cells: Sequence[Cell | None]) -> list[Entry]:
    """Return the largest difference of a row's PSNR to the paper's, and the row's most severe verdict."""
    judged = [cell for cell in cells if cell and cell.published]
    unknown = (verdicts.ROUNDING, verdicts.NOT_COMPARABLE)
    psnr = [cell for cell in judged if cell.column.endswith(METRIC) and cell.verdict not in unknown]
    largest = max((cell.delta for cell in psnr if cell.delta is not None), key=abs, default=None)
    worst = next((word for word in SEVERITY if any(cell.verdict == word for cell in judged)), "")
    return [BLANK if largest is None else Entry(f"{largest:+.3f}", largest), _verdict(worst)]


def _facts(joined: Joined) -> list[str]:
    study, decisive = joined.study, joined.decisive
    if decisive is None:
        return ["There is no difference to the baseline yet: no other variant is measured, or the baseline is not."]
    sentences = [DIRECTION]
    if not _is_decided(joined, decisive.id):
        intervals = [each for own in joined.differences[decisive.id].values() for each in (own.images, own.seeds)]
        notes = "; ".join(dict.fromkeys(filter(None, (each.note for each in intervals))))
        reason = f" ({notes})" if notes else ""
        sentences.append(f"No difference is decided{reason}, so no PSNR is marked as the best.")
    if ablation.paper_column(decisive) != f"{decisive.id}_{METRIC}":
        sentences.append(
            f"The paper's differences are on {ablation.paper_title(joined.decisive)}. Those measured here are on "
            f"{decisive.title}, the study's test set with most images."
        )
    if departures := differences_from_paper(study):
        sentences.append(f"Not comparable with the paper's PSNR: {'; '.join(departures)}.")
    return sentences


def _flat(joined: Joined, row: Row, columns: Sequence[str]) -> dict[str, Any]:
    """Return one line of the CSV, all numbers unrounded."""
    group, network, scale = row
    line: dict[str, Any] = {"group": group, "row": network.name, "label": label(network), "scale": scale}
    for column in columns:
        cell = joined.measured(network.name, scale, column)
        line |= {column: cell.measured if cell else None, f"{column} std": cell.std if cell else None}
    for benchmark in (each for each in benchmarks(joined.study) if each.id in joined.differences):
        contrast = joined.contrast(network.name, benchmark)
        measured, name = contrast.measured, f"{benchmark.id} difference to baseline"
        low, high = (measured.interval.ends if measured else None) or (None, None)
        line |= {f"{name} [dB]": measured.value if measured else None, f"{name} low": low, f"{name} high": high}
        line |= {f"{name} paper": contrast.printed, f"{name} paper column": ablation.paper_column(benchmark)}
        line |= {f"{name} verdict": contrast.verdict}
    return line
