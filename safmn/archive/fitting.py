"""Whether results of an archive could have been made by the code that is here, and where the two differ.

The code in the archive is read, never imported: its fingerprint is compared piece by piece with that of the code here.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safmn import networks, syntax
from safmn.archive.opening import Opened
from safmn.errors import UserError, as_line
from safmn.fingerprint import Walk
from safmn.networks.identity import modules


class _Elsewhere(syntax.Library):
    """Finds the project's modules in another folder than this one's.

    Args:
        root: the folder with `safmn/`.
        installed: as for `Library`.
    """

    def __init__(self, root: Path, installed: bool = False) -> None:
        super().__init__(root / "ablations", installed)
        self._root = root

    def _find(self, name: str) -> Path | None:
        if syntax.top(name) != syntax.PROJECT:
            return super()._find(name)
        stem = self._root.joinpath(*name.split("."))
        files = (stem / "__init__.py", stem.parent / f"{stem.name}.py")
        return next((file for file in files if file.is_file()), None)


def of_stage(archive: Opened, roots: Sequence[str]) -> list[str]:
    """Return the pieces of code that differ among all that some functions use; empty for the same code.

    Args:
        archive: the archive.
        roots: the functions, as "module:name".
    """

    def pieces(library: syntax.Library) -> Mapping[str, str]:
        walk = Walk(library, apart=modules())
        for root in roots:
            walk.start(root)
        return walk.pieces

    return _differing(pieces, _Elsewhere(archive.folder), syntax.Library())


def of_network(archive: Opened, name: str) -> list[str]:
    """Return the pieces of code that differ among all that a network uses; empty for the same code."""
    network = networks.info(name)

    def pieces(library: syntax.Library) -> Mapping[str, str]:
        walk = Walk(library)
        walk.start(network.code, dict(network.arguments) if network.file else None)
        return walk.pieces

    here = syntax.Library(network.file.parent if network.file else None, installed=True)
    return _differing(pieces, _Elsewhere(archive.folder, installed=True), here)


def _differing(
    pieces: Callable[[syntax.Library], Mapping[str, str]], there: syntax.Library, here: syntax.Library
) -> list[str]:
    try:
        theirs = pieces(there)
    except UserError as error:
        return [as_line(error)]
    ours = pieces(here)
    return [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
