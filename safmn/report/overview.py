"""One page over all studies: for each published cell the best evidence that any study has.

Reads `cells.csv` and `study.json` of finished or half-finished studies and computes nothing anew.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from safmn import layout
from safmn.errors import UserError
from safmn.files import write_csv, write_text
from safmn.paper import published, verdicts
from safmn.paper.cell import Cell
from safmn.paper.published import Place
from safmn.report import cells as cell_files
from safmn.report import grids, rendering, tables
from safmn.report.rendering import escape_markdown as escape
from safmn.report.sentences import printed_networks
from safmn.report.trained import patches
from safmn.study import Study

log = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("overview.html")
OTHER_EVIDENCE = (verdicts.UNDECIDABLE, verdicts.NOT_COMPARABLE, verdicts.MISSING)
"""From better to worse; every other verdict decides the cell and comes before them."""


@dataclass(frozen=True)
class Source:
    """A study that gives evidence.

    Attributes:
        name: the study's name.
        description: the study's own sentence.
        budget: iterations, batch, LR patch and training images of a run, as text; "" where the study trains nothing.
        pixels: iterations x batch x patch² of a run, in LR pixels; 0 where the study trains nothing.
        cells: place of a cell -> the cell.
    """

    name: str
    description: str
    budget: str
    pixels: int
    cells: dict[Place, Cell]


@dataclass(frozen=True)
class Evidence:
    """The best evidence on one published cell.

    Attributes:
        label: the row as the paper names it.
        cell: the cell of the chosen study; without a number where no study has one.
        source: the chosen study, None where no study has a number.
        others: the verdicts of the other studies that have a number, study -> verdict.
    """

    label: str
    cell: Cell
    source: Source | None
    others: dict[str, str]

    @property
    def study(self) -> str:
        """The name of the chosen study, "" without one."""
        return self.source.name if self.source else ""

    @property
    def budget(self) -> str:
        """The budget behind the number, "" where nothing was trained for it."""
        return self.source.budget if self.source and self.cell.seeds else ""

    @property
    def note(self) -> str:
        """The cell's note, and what other studies found where their verdict differs."""
        differing = [f"{name} says {verdict}" for name, verdict in self.others.items() if verdict != self.cell.verdict]
        return "; ".join(filter(None, [self.cell.note, *differing]))


def read(folder: Path | str) -> Source:
    """Read one study's folder `results/<study>`.

    Raises:
        UserError: if the folder has no readable `cells.csv` or `study.json`.
    """
    folder = Path(folder)
    for name in (layout.CELLS, layout.STUDY):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}: run the study, or `safmn tables --study ... --results {folder}`")
    study = Study.load(folder / layout.STUDY)
    training, budget, pixels = study.training, "", 0
    if training is not None:
        budget = f"{patches(training)} on {', '.join(study.data.train)}"
        pixels = training.iterations * training.batch * training.patch**2
    cells = {cell.place: cell for cell in cell_files.read(folder / layout.CELLS) if cell.published}
    return Source(study.name, study.description, budget, pixels, cells)


def choose(sources: Sequence[Source]) -> list[Evidence]:
    """Return the best evidence on every published cell, in the order of the paper's tables.

    A verdict that decides comes before `undecidable`, that before `not comparable`, that before `missing`. Where two
    studies decide differently, `contradicted` is shown, so that no agreement hides a contradiction. Between equals the
    larger training budget, then the larger number of seeds, then the order of `sources` decides.
    """
    filled = {place for source in sources for place in source.cells}
    printed = published.cells(printed_networks())
    return [_best(cell.place, cell.label, sources) for cell in printed if cell.place in filled]


def elsewhere(folder: Path, cells: Iterable[Cell]) -> list[Evidence]:
    """Return the evidence of the neighbouring studies on published cells that a study has not measured.

    A neighbour that cannot be read is left out with a warning.

    Args:
        folder: `results/<study>`.
        cells: the cells of this study.
    """
    folder = folder.resolve()
    files = sorted(folder.parent.glob(f"*/{layout.CELLS}"))
    sources = _readable([file.parent for file in files if file.parent != folder])
    missing = {cell.place for cell in cells if cell.published and cell.is_missing}
    return [each for each in choose(sources) if each.cell.place in missing and not each.cell.is_missing]


def _readable(folders: Iterable[Path | str]) -> list[Source]:
    sources = []
    for folder in folders:
        try:
            sources.append(read(folder))
        except UserError as error:
            log.warning("left out: %s", error)
    return sources


def _best(place: Place, label: str, sources: Sequence[Source]) -> Evidence:
    candidates = [(source, source.cells[place]) for source in sources if place in source.cells]
    source, cell = min(candidates, key=lambda pair: _rank(*pair))
    others = {other.name: its.verdict for other, its in candidates if other is not source and not its.is_missing}
    return Evidence(label, cell, None if cell.is_missing else source, others)


def _rank(source: Source, cell: Cell) -> tuple[int, bool, int, int]:
    place = OTHER_EVIDENCE.index(cell.verdict) + 1 if cell.verdict in OTHER_EVIDENCE else 0
    return place, cell.verdict != verdicts.CONTRADICTED, -source.pixels if cell.seeds else 0, -cell.seeds


# --- What is written --------------------------------------------------------------------------------------------------


def counts(evidence: Iterable[Evidence]) -> pd.DataFrame:
    """Return how many cells have which verdict: a row for each table and one for all, a column for each verdict."""
    frame = pd.DataFrame(tables.counts_by_table(item.cell for item in evidence)).T.rename({"all": "All"})
    frame.insert(0, "cells", frame.sum(axis=1))
    return frame


def markdown(sources: Sequence[Source], evidence: Sequence[Evidence]) -> str:
    """Return the overview as GitHub's Markdown."""
    parts = ["# What is known about the paper's numbers", "", escape(summary(evidence)), ""]
    parts += [counts(evidence).to_markdown(), "", "## Studies", ""]
    parts += [f"- **{escape(source.name)}**: {escape(_described(source))}" for source in sources]
    for number, (lines, missing) in by_table(evidence).items():
        parts += ["", f"## Table {number}", ""]
        parts += [pd.DataFrame(lines).map(escape).to_markdown(index=False, disable_numparse=True)] if lines else []
        if missing:
            parts += ["", f"{missing} published cells of this table have no measured number in any study."]
    return "\n".join(parts) + "\n"


def html(sources: Sequence[Source], evidence: Sequence[Evidence]) -> str:
    """Return the overview as one page that needs no other file and no network."""
    return rendering.html(
        TEMPLATE,
        summary=summary(evidence),
        counts=counts(evidence),
        sources=[(source.name, _described(source)) for source in sources],
        tables=by_table(evidence),
        meanings=grids.MEANINGS,
    )


def summary(evidence: Iterable[Evidence]) -> str:
    """Return the counts as one sentence."""
    number = tables.verdict_counts(item.cell for item in evidence)
    words = ", ".join(f"{count} {verdict}" for verdict, count in number.items() if count)
    return f"{sum(number.values())} published cells{': ' * bool(words)}{words}."


def write(folders: Sequence[Path | str], stem: Path | str) -> list[Evidence]:
    """Write `<stem>.md`, `<stem>.html` and `<stem>.csv` over the studies in `folders`, and return the evidence.

    A folder that cannot be read is left out with a warning.

    Raises:
        UserError: no folder can be read, or two hold studies of one name.
    """
    sources = _readable(folders)
    if not sources:
        raise UserError("none of the folders holds the cells of a study: run one first, `snakemake --cores all`")
    names = Counter(source.name for source in sources)
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise UserError(f"two of the folders hold a study named {repeated[0]}: give only one of them")
    evidence = choose(sources)
    write_text(f"{stem}.md", markdown(sources, evidence))
    write_text(f"{stem}.html", html(sources, evidence))
    lines = [cell_files.columns(item.cell) | _source(item) for item in evidence]
    write_csv(f"{stem}.csv", [*cell_files.FIELDS, "study", "budget"], lines)
    return evidence


def for_json(evidence: Iterable[Evidence]) -> list[dict[str, Any]]:
    """Return one object for each published cell, for JSON: as in the CSV, with None for a number that is not finite."""
    return [cell_files.for_json(item.cell) | _source(item) for item in evidence]


def _source(evidence: Evidence) -> dict[str, str]:
    return {"note": evidence.note, "study": evidence.study, "budget": evidence.budget}


def _described(source: Source) -> str:
    budget = f" A run is trained for {source.budget}." if source.budget else " It trains nothing."
    return source.description.rstrip(".") + "." + budget


def by_table(evidence: Iterable[Evidence]) -> dict[int, tuple[list[dict[str, str]], int]]:
    """Return table -> what is shown of its cells that have a number, and how many others there are."""
    found: dict[int, tuple[list[dict[str, str]], int]] = {}
    everything = list(evidence)
    for number in published.TABLES:
        own = [each for each in everything if each.cell.table == number]
        shown = [line(each) for each in own if not each.cell.is_missing]
        found[number] = shown, len(own) - len(shown)
    return found


def line(evidence: Evidence) -> dict[str, str]:
    """Return one line of the tables that people read, as text."""
    cell = evidence.cell
    interval = "" if cell.interval is None else f" [{cell.low:.3f}, {cell.high:.3f}]"
    digits = verdicts.decimals(cell.published) + 1  # so that a rounded value can be told from an equal one
    return {
        "row": "Baseline" if evidence.label == "-" else evidence.label,
        "scale": f"x{cell.scale}",
        "quantity": cell.column,
        "published": cell.published,
        "measured": f"{cell.measured:.{digits}f}{interval}",
        "unit": cell.unit,
        "verdict": cell.verdict,
        "study": evidence.study,
        "device": cell.device,
        "seeds": str(cell.seeds or ""),
        "budget": evidence.budget,
    }
