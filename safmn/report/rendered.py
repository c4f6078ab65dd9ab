"""Everything that is rendered of a study: cells.csv, networks.csv, tables, claims, figures, and the page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safmn import layout
from safmn.files import write_csv, write_text
from safmn.report import ablation_table, cells, figures, networks, own_tables, page, rendering, sentences, tables
from safmn.report.grids import Table
from safmn.report.joined import Joined


@dataclass(frozen=True)
class Rendered:
    """What was rendered.

    Attributes:
        tables: Tables 1 to 5.
        one: The table of variants, all numbers in one.
        page: The file report.html.
    """

    tables: list[Table]
    one: Table
    page: Path


def render(joined: Joined, before_page: Callable[[], object] = lambda: None) -> Rendered:
    """Write all files of a study into its folder.

    Args:
        joined: The study with its results.
        before_page: Called when all but the page is written; the page shows the figures and `provenance.json`.
    """
    folder = joined.folder
    cells.write(joined.cells, folder / layout.CELLS)
    networks.write(joined.study, list(joined.networks.values()), folder / layout.NETWORKS)
    built, one = tables.build_all(joined), ablation_table.build(joined)
    for table in (*built, one, *own_tables.build_all(joined)):
        name, columns = table.name or table.number, dict.fromkeys(key for line in table.flat for key in line)
        write_text(folder / layout.table(name, "md"), rendering.markdown(table))
        write_text(folder / layout.table(name, "tex"), rendering.latex(table))
        write_csv(folder / layout.table(name, "csv"), columns, table.flat)
    figures.draw_all(joined)
    sentences.write(joined.claims, folder)
    before_page()
    return Rendered(built, one, page.write(joined, built, one))
