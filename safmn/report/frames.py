"""A study's numbers as data frames, for a notebook; each takes a study or its file, and reads what is there."""

from pathlib import Path

import pandas as pd

from safmn.errors import UserError
from safmn.paper import published
from safmn.report import cells as all_cells
from safmn.report import networks as all_networks
from safmn.report import tables
from safmn.report.joined import Joined
from safmn.study import Study, opened


def networks(study: Study | str | Path, folder: str | Path | None = None) -> pd.DataFrame:
    """Return all figures, a row for each network and scale; see `safmn.report.networks`."""
    return all_networks.frame(*opened(study, folder))


def cells(study: Study | str | Path, folder: str | Path | None = None) -> pd.DataFrame:
    """Return every cell of the paper's tables, published and measured, with its verdict, as in `cells.csv`."""
    joined = Joined(*opened(study, folder))
    return pd.DataFrame([all_cells.columns(cell) for cell in joined.cells], columns=list(all_cells.FIELDS))


def table(study: Study | str | Path, number: int, folder: str | Path | None = None) -> pd.DataFrame:
    """Return one of Tables 1 to 5 with unrounded numbers, as in `tables/tableN.csv`."""
    joined = Joined(*opened(study, folder))
    if number not in published.TABLES:
        raise UserError(f"there is no Table {number}: the paper has Tables 1 to 5")
    return pd.DataFrame(tables.build(joined, number).flat)
