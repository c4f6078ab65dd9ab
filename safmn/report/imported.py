"""Results that somebody else made: `imported.json`, which `safmn import` writes, and the marks of their cells.

A file counts as imported as long as it has the content that was imported. A result that is made anew here loses its
mark by itself.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from safmn import layout, provenance
from safmn.errors import UserError
from safmn.files import read_json
from safmn.paper.cell import Cell
from safmn.report.costs import COUNTS
from safmn.report.measured import Absent, Results
from safmn.study import Study

MARK = "imported"
SHOWN = 12  # letters of a seal
_COLUMNS = {"gpu_memory": "memory", "runtime": "runtime"}


class Imported:
    """What of a study's results was imported.

    Args:
        folder: `results/<study>`.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._record = _read(self._folder / layout.IMPORTED)
        self.holds = cache(self._holds)

    @property
    def seal(self) -> str:
        """The seal of the archive that they come from; "" if nothing was imported."""
        return str(self._record.get("seal") or "")

    def _holds(self, name: str) -> bool:
        """Return whether a file below the study's folder is the one that was imported."""
        expected = self._record.get("files", {}).get(name)
        file = self._folder / name
        return expected is not None and file.is_file() and provenance.of_file(file) == expected

    def marked(self, cells: Iterable[Cell], study: Study, results: Results) -> list[Cell]:
        """Return the cells, each that depends on an imported result with that in `origin`, `note` and `remarks`."""
        if not self.seal:
            return list(cells)
        return [self._marked(cell, study, results) for cell in cells]

    def _marked(self, cell: Cell, study: Study, results: Results) -> Cell:
        files = [] if cell.is_missing else _sources(cell, study, results)
        count = sum(map(self.holds, files))
        if not count:
            return cell
        part = "" if count == len(files) else f" {count} of {len(files)} seeds"
        remark = f"imported{part} from an archive (seal {self.seal[:SHOWN]}), not measured here"
        return replace(
            cell,
            origin=f"{cell.origin}, {MARK}{part}",
            note="; ".join(filter(None, [cell.note, remark])),
            remarks=(*cell.remarks, remark),
        )


def _sources(cell: Cell, study: Study, results: Results) -> list[str]:
    """Return the files, below the study's folder, that say where a cell's number comes from."""
    if cell.table == 5:
        return [layout.cost("operations")]
    if cell.column in _COLUMNS:
        return [layout.cost(_COLUMNS[cell.column])]
    name = study.network_of(cell.network)
    if cell.column in COUNTS:
        return [layout.complexity(name)]
    if study.trains(cell.network):
        runs = [run for run in study.runs(name) if run.scale == cell.scale]
        made = [run for run in runs if not isinstance(results.record(run), Absent)]
        return [run.record for run in made]
    return [layout.evaluation(name, cell.scale, "published")]


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict) or not content.get("seal"):
        raise UserError(f"{file} does not say what was imported: import the archive again")
    return content
