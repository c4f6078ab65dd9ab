"""Everything that is rendered of a study: cells.csv, networks.csv, tables, claims, figures, and the page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safmn import layout
from safmn.files import write_text
from safmn.paper import claims
from safmn.paper.cell import Cell
from safmn.report import (
    ablation,
    ablation_table,
    cells,
    figures,
    networks,
    own_tables,
    page,
    rendering,
    sentences,
    tables,
)
from safmn.report.ablation import Comparison
from safmn.report.measured import Results
from safmn.report.tables import Table
from safmn.study import Study


@dataclass(frozen=True)
class Rendered:
    """What was rendered.

    Attributes:
        cells: all cells.
        tables: Tables 1 to 5.
        one: the table of variants, all numbers in one.
        comparisons: table -> differences to the baseline.
        judged: the claims.
        page: the file report.html.
    """

    cells: list[Cell]
    tables: list[Table]
    one: Table
    comparisons: Mapping[int, Sequence[Comparison]]
    judged: list[claims.Result]
    page: Path


def render(
    study: Study,
    folder: Path,
    amend: Callable[[list[Cell]], list[Cell]] = lambda joined: joined,
    before_page: Callable[[], object] = lambda: None,
) -> Rendered:
    """Join a study's results and write all files into its folder.

    Args:
        study: the study.
        folder: its folder, `results/<study>`.
        amend: changes the cells before anything is rendered from them.
        before_page: called when all but the page is written; the page shows the figures and `provenance.json`.
    """
    joined = amend(cells.collect(study, folder))
    cells.write(joined, folder / layout.CELLS)
    networks.write(study, folder)
    results = Results(folder)
    comparisons = ablation.compare_all(study, results)
    built = tables.build_all(study, folder, joined, comparisons)
    one = ablation_table.build(study, joined, comparisons)
    for table in (*built, one, *own_tables.build_all(study, results, joined)):
        for form, write in (("md", rendering.markdown), ("tex", rendering.latex), ("csv", rendering.flat_csv)):
            write_text(folder / layout.table(table.name or table.number, form), write(table))
    figures.draw_all(study, folder, joined, comparisons)
    judged = sentences.write(folder, joined)
    before_page()
    file = page.write(folder, page.Content(study, joined, built, one, comparisons, judged))
    return Rendered(joined, built, one, comparisons, judged, file)
