"""Results that somebody else made: `imported.json`, which `safmn import` writes, and the marks of their cells.

A file counts as imported as long as it has the content that was imported. A result that is made anew here loses its
mark by itself.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from safmn import layout, provenance
from safmn.errors import UserError
from safmn.files import read_json
from safmn.paper.cell import Cell

MARK = "imported"
SHOWN = 12  # letters of a seal


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

    def marked(self, cell: Cell) -> Cell:
        """Return the cell; if it depends on an imported result, with that in `origin`, `note` and `remarks`."""
        count = sum(map(self.holds, cell.files)) if self.seal else 0
        if not count:
            return cell
        part = "" if count == len(cell.files) else f" {count} of {len(cell.files)} seeds"
        remark = f"imported{part} from an archive (seal {self.seal[:SHOWN]}), not measured here"
        return replace(
            cell,
            origin=f"{cell.origin}, {MARK}{part}",
            note="; ".join(filter(None, [cell.note, remark])),
            remarks=(*cell.remarks, remark),
        )


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict) or not content.get("seal"):
        raise UserError(f"{file} does not say what was imported: import the archive again")
    return content
