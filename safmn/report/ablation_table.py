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
from safmn.paper.statistics import Difference
from safmn.report import ablation, costs, tables
from safmn.report.ablation import BASELINE, METRIC, Comparison
from safmn.report.imported import MARK
from safmn.report.measured import Benchmark, benchmark_title, benchmarks
from safmn.report.tables import BLANK, COLLAPSE_MARK, OWN, Entry, Header, Section, Table
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
PAPERS_OTHER = (
    "The paper's differences are on {paper}. Those measured here are on {here}, the study's test set with most images."
)


def build(study: Study, cells: Iterable[Cell], comparisons: Mapping[int, Sequence[Comparison]]) -> Table:
    """Build the table.

    Args:
        study: The study.
        cells: All its cells.
        comparisons: Of its variants with the baseline, from `ablation.compare_all`.
    """
    chosen = best_cells(cells)
    rows = variant_rows(study) if study.training else _published(study, chosen)
    columns = _columns(study, chosen, rows)
    found = ablation.differences(comparisons)
    decisive = ablation.decisive(study, found)
    headers: list[Header] = [("", "Group" if study.training else "Scale"), ("", "Network")]
    headers += [_header(study, column) for column in columns]
    grid = [
        [Entry(group, header=True), _label(network), *(_number(chosen.get((network.name, scale, c))) for c in columns)]
        for group, network, scale in rows
    ]
    facts: list[str] = []
    if study.training:
        headers += _difference_headers(study, decisive)
        for row, (_, network, _) in zip(grid, rows, strict=True):
            row += _difference(network, decisive, found, chosen)
        facts = _facts(study, decisive, found)
        if not any(row[-3].text for row in grid):  # no interval
            del headers[-3]
            for row in grid:
                del row[-3]
    else:
        headers += [("PSNR on Y [dB]", "largest difference to the paper"), ("", "Verdict")]
        for row, (_, network, scale) in zip(grid, rows, strict=True):
            row += _distance([chosen.get((network.name, scale, column)) for column in columns])
        facts = ["A difference is shown where it is more than the rounding of the published value."]
    shown = [chosen.get((network.name, scale, column)) for _, network, scale in rows for column in columns]
    facts += provisos(filter(None, shown), {network.name: label(network) for _, network, _ in rows})
    for place, column in enumerate(columns, 2):
        if study.training and _is_decided(found.get(column.removesuffix(f"_{METRIC}"), {})):
            tables.mark_best(grid, place)
        if not study.training and column.endswith(METRIC):
            for group in dict.fromkeys(row[0].text for row in grid):
                tables.mark_best([row for row in grid if row[0].text == group], place)
    section = Section("", headers, grid, grouped=True)
    title = "Ablation" if study.training else "Published networks"
    return Table(
        0,
        f"{title}, study {study.name}" + (f", x{ablation.scale_of(study)}" if study.training else ""),
        "",
        [section] if grid else [],
        tables.legend([section]),
        facts=facts,
        flat=[_flat(row, columns, chosen, found) for row in rows],
        name=NAME,
    )


# --- Rows and columns -------------------------------------------------------------------------------------------------

Row = tuple[str, Network, int]
"""Group, network, scale."""
Chosen = Mapping[tuple[str, int, str], Cell]


def best_cells(cells: Iterable[Cell]) -> Chosen:
    """Return (network, scale, column) -> cell: one with a number before one without, the ablation's tables first."""
    found: dict[tuple[str, int, str], Cell] = {}
    for cell in sorted(cells, key=lambda cell: (cell.measured is None, cell.table not in (3, 4))):
        found.setdefault((cell.network, cell.scale, cell.column), cell)
    return found


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


def _published(study: Study, chosen: Chosen) -> list[Row]:
    """Return the networks of a study that trains nothing, those that have a measured PSNR."""
    networks = all_networks()
    return [
        (f"x{scale}", networks[name], scale)
        for scale in study.scales
        for name in [*study.networks, *study.variants]
        if any(
            (cell := chosen.get((name, scale, f"{benchmark.id}_{METRIC}"))) and cell.measured is not None
            for benchmark in benchmarks(study)
        )
    ]


def _columns(study: Study, chosen: Chosen, rows: Sequence[Row]) -> list[str]:
    """Return the columns that have a number in any row."""
    columns = [*costs.COUNTS, *(f"{benchmark.id}_{METRIC}" for benchmark in benchmarks(study))]
    return [
        column
        for column in columns
        if any(
            (cell := chosen.get((network.name, scale, column))) and cell.measured is not None
            for _, network, scale in rows
        )
    ]


def _header(study: Study, column: str) -> Header:
    if column in tables.HEADERS:
        return "", tables.HEADERS[column]
    return "PSNR on Y [dB]", benchmark_title(column.removesuffix(f"_{METRIC}"), study)


# --- Fields -----------------------------------------------------------------------------------------------------------


def label(network: Network) -> str:
    """Return a variant's name in Table 3; its title where that is "-" or a number, or the paper does not have it."""
    return network.title if network.name == BASELINE else network.rows.get(3, network.title)


def provisos(cells: Iterable[Cell], labels: Mapping[str, str]) -> list[str]:
    """Return what numbers that are shown without their notes are not: a sentence for each kind, with its rows.

    Args:
        cells: those that are shown.
        labels: row -> its name.
    """
    kinds = {
        "FLOPs and activations are lower bounds, since an operation could not be counted": lambda cell: (
            cell.origin.startswith(LOWER_BOUND)
        ),
        "Memory is predicted, not measured": lambda cell: cell.origin.startswith(PREDICTED),
        "Times are of a CPU": lambda cell: cell.is_time and cell.device == "cpu",
        "Imported from an archive, not measured here": lambda cell: f", {MARK}" in cell.origin,
    }
    shown = [cell for cell in cells if cell.measured is not None]
    found = {text: dict.fromkeys(cell.network for cell in shown if fits(cell)) for text, fits in kinds.items()}
    return [f"{text}: {', '.join(labels[row] for row in rows)}." for text, rows in found.items() if rows]


def _label(network: Network) -> Entry:
    return Entry(label(network), header=True, name=network.name)


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
    return Entry(text, cell.measured, verdict, tables.SYMBOLS[verdict] if verdict else "", note=note)


def _difference_headers(study: Study, decisive: Benchmark | None) -> list[Header]:
    title = benchmark_title(decisive.id, study) if decisive else "measured"
    paper = benchmark_title(ablation.paper_difference("no_fm", _column(decisive))[1].rpartition("_")[0], study)
    return [(VERSUS, title), (VERSUS, "95 % interval"), (VERSUS, f"paper, {paper}"), ("", "Verdict")]


def _is_decided(differences: Mapping[str, Difference]) -> bool:
    """Return whether any difference is decided; otherwise the best number may be the best by chance."""
    return any(difference.decision != statistics.UNDECIDED for difference in differences.values())


def _column(decisive: Benchmark | None) -> str:
    return f"{decisive.id}_{METRIC}" if decisive else ablation.ORDERED_BY


def _difference(
    network: Network, decisive: Benchmark | None, found: Mapping[str, Mapping[str, Difference]], chosen: Chosen
) -> list[Entry]:
    if network.name == BASELINE:
        return [BLANK] * 4
    own = found[decisive.id].get(network.name) if decisive else None
    printed, _ = ablation.paper_difference(network.name, _column(decisive))
    verdict = ablation.direction(own, printed)
    paper = BLANK if printed is None else Entry(f"{printed:+.2f}" if printed else "0.00", float(printed))
    judged = Entry(verdict, None, verdict, tables.SYMBOLS[verdict]) if verdict else BLANK
    if own is None:
        return [BLANK, BLANK, paper, judged]
    collapsed = any(cell.collapsed for (name, _, _), cell in chosen.items() if name == network.name)
    star = COLLAPSE_MARK if collapsed else ""
    interval = tables.ends(own.interval)
    text = tables.number(own.value, ablation.METRIC, "", signed=True)
    return [Entry(text + star, own.value), Entry(interval, own.interval.low), paper, judged]


def _distance(cells: Sequence[Cell | None]) -> list[Entry]:
    """Return the largest difference of a row's PSNR to the paper's, and the row's most severe verdict."""
    judged = [cell for cell in cells if cell and cell.published and cell.measured is not None]
    apart = [cell.delta for cell in judged if cell.delta is not None and _is_shown(cell)]
    worst = next((word for word in SEVERITY if any(cell.verdict == word for cell in judged)), "")
    largest = max(apart, key=abs, default=None)
    shown = BLANK if largest is None else Entry(f"{largest:+.3f}", largest)
    return [shown, Entry(worst, None, worst, tables.SYMBOLS[worst]) if worst else BLANK]


def _is_shown(cell: Cell) -> bool:
    return cell.column.endswith(METRIC) and cell.verdict not in (verdicts.ROUNDING, verdicts.NOT_COMPARABLE)


def _facts(study: Study, decisive: Benchmark | None, found: Mapping[str, Mapping[str, Difference]]) -> list[str]:
    if decisive is None:
        return ["There is no difference to the baseline yet: no other variant is measured, or the baseline is not."]
    _, column = ablation.paper_difference("no_fm", _column(decisive))
    sentences = [DIRECTION]
    if not _is_decided(found[decisive.id]):
        intervals = [each for own in found[decisive.id].values() for each in (own.images, own.seeds)]
        notes = "; ".join(dict.fromkeys(filter(None, (each.note for each in intervals))))
        reason = f" ({notes})" if notes else ""
        sentences.append(f"No difference is decided{reason}, so no PSNR is marked as the best.")
    if column != _column(decisive):
        here, paper = (benchmark_title(identity, study) for identity in (decisive.id, column.rpartition("_")[0]))
        sentences.append(PAPERS_OTHER.format(paper=paper, here=here))
    if departures := differences_from_paper(study):
        sentences.append(f"Not comparable with the paper's PSNR: {'; '.join(departures)}.")
    return sentences


def _flat(
    row: Row, columns: Sequence[str], chosen: Chosen, found: Mapping[str, Mapping[str, Difference]]
) -> dict[str, Any]:
    """Return one line of the CSV, all numbers unrounded."""
    group, network, scale = row
    line: dict[str, Any] = {"group": group, "row": network.name, "label": label(network), "scale": scale}
    for column in columns:
        cell = chosen.get((network.name, scale, column))
        line |= {column: cell.measured if cell else None, f"{column} std": cell.std if cell else None}
    for identity, own in found.items():
        printed, of = ablation.paper_difference(network.name, f"{identity}_{METRIC}")
        difference = own.get(network.name)
        name = f"{identity} difference to baseline"
        ends = (difference.interval.ends if difference else None) or (None, None)
        line |= {f"{name} [dB]": difference.value if difference else None, f"{name} low": ends[0]}
        judged = "" if network.name == BASELINE else ablation.direction(difference, printed)
        line |= {f"{name} high": ends[1], f"{name} paper": printed, f"{name} paper column": of}
        line |= {f"{name} verdict": judged}
    return line
