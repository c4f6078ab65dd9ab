"""A study as an archive to keep or to pass on."""

from pathlib import Path

from safmn.errors import UserError


def must_exist(path: Path) -> None:
    """Refuse an archive or a folder of results that is not there; commands ask before they import what is slow."""
    if not (path.is_dir() or path.is_file()):
        raise UserError(f"{path} does not exist: name an archive of `safmn archive`, a zip file or a folder")
