"""Where a result comes from: what was asked, which code and data, on what device and host, when and for how long.

Every command that leaves a result calls `begin()` first and puts `Begun.result(...)` into its record under the key
`provenance`. The facts of device and host are `safmn.device.description.describe`'s. No host, user or folder is
named, since results are made to be passed on. Facts of the clock stay out of weights and histories, which are the
same bytes whenever they are made.
"""

import hashlib
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safmn import __version__, layout, paths
from safmn.errors import UserError
from safmn.files import digest, read_json

CODE = ("Snakefile", "ablations", "safmn", "workflow")
"""What runs."""
OF_PROJECT = ("Snakefile", "ablations", "config")
"""What runs of a user's project."""
OF_ONE_RESULT = ("specification", "data", "seed", "started", "seconds")
"""What differs from one result to the next though code, device and host are the same."""


class Begun:
    """A piece of work that has begun; it runs the code that is there now, however long it takes.

    Attributes:
        started: UTC, to the second, as ISO 8601.
        code: as `code()` returns it.
    """

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.code = code()
        self._clock = time.monotonic()

    def session(self, device: dict[str, Any]) -> dict[str, Any]:
        """Device, code and start: what one process of a run that is done in several has of its own."""
        return {**device, **self.code, "started": self.started}

    def result(
        self,
        device: dict[str, Any],
        *,
        specification: Any,
        data: dict[str, str] | None = None,
        seed: int | None = None,
        started: str | None = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """The provenance of a result that is done now.

        Args:
            device: what `safmn.device.description.describe` says.
            specification: plain data that says what was asked; its sha256 is recorded.
            data: the images that it depends on, as what was asked names them, with the digest of their manifest
                (`safmn.data.manifest`), which a packed dataset has in its index; None if it depends on none.
            seed: None if nothing is drawn that it depends on.
            started, seconds: in place of this process's own, for a run that was done in several.
        """
        elapsed = time.monotonic() - self._clock if seconds is None else seconds
        return {
            **device,
            **self.code,
            "specification": digest(specification),
            "data": data,
            "seed": seed,
            "started": started or self.started,
            "seconds": round(elapsed, 3),
        }


def begin() -> Begun:
    """To be called before the work."""
    return Begun()


def of_file(path: Path | str) -> str:
    """A file's sha256."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def seed_of(weights: Path | str | None) -> int | None:
    """The seed of the run that left a file of weights; None where no record of one lies beside it."""
    if weights is None:
        return None
    try:
        return read_json(Path(weights).with_name(layout.RUN))["specification"]["seed"]
    except (UserError, LookupError, TypeError, ValueError):
        return None


def shown(path: Path | str) -> str:
    """A path as it may be passed on: below the present folder, or the name alone."""
    path = Path(path)
    if not path.is_absolute():
        return path.name if ".." in path.parts else str(path)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return path.name


# --- The code ---


def code(root: Path = paths.ROOT) -> dict[str, Any]:
    """Which code runs.

    Returns:
        `code_version` (the package's), `code_commit` and `code_dirty` (whether anything differs from that commit; both
        None outside of a git checkout, or without git), `code_sha256` (over names and contents of what runs, so that
        two dirty trees can be told apart; the same in a checkout and in a wheel made of it). In a user's project that
        is under git, `project_commit` and `project_dirty` as well.
    """
    commit, dirty = _commit(root)
    found = {
        "code_version": __version__,
        "code_commit": commit,
        "code_dirty": dirty,
        "code_sha256": _source(root),
    }
    return found | (_project() if root == paths.ROOT else {})


def _commit(root: Path) -> tuple[str | None, bool | None]:
    top = _git(root, "rev-parse", "--show-toplevel")
    # An environment may lie in somebody's repository, which is not this code's.
    if not top or Path(top.strip()).resolve() != root.resolve():
        return None, None
    return _state(root, CODE)


def _project() -> dict[str, Any]:
    project = paths.project()
    commit, dirty = _state(project, OF_PROJECT) if project else (None, None)
    return {"project_commit": commit, "project_dirty": dirty} if commit else {}


def _state(folder: Path, runs: tuple[str, ...]) -> tuple[str | None, bool | None]:
    """The commit of a folder's repository, and whether what is below the folder differs from it.

    An untracked file counts if it lies in one of `runs`, a tracked one wherever it lies.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    entries = _git(folder, "status", "--porcelain", "-z", "--untracked-files=all", "--", ".")
    prefix = _git(folder, "rev-parse", "--show-prefix")
    if not commit or entries is None or prefix is None:
        return commit and commit.strip(), None
    changed = [entry for entry in entries.split("\0") if entry]
    untracked = [entry[3:].removeprefix(prefix.rstrip("\n")) for entry in changed if entry.startswith("?? ")]
    return commit.strip(), len(changed) > len(untracked) or any(name.partition("/")[0] in runs for name in untracked)


def _git(root: Path, *arguments: str) -> str | None:
    # Without its locks: a job must not be in the way of whoever works in the tree.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def source_files(root: Path = paths.ROOT) -> dict[str, Path]:
    """The files of `CODE`, by their names in a checkout, and the variants of a user's project.

    None that Python or an editor left.
    """
    places = {name: root / name for name in CODE}
    if root == paths.ROOT:
        places["safmn"] = paths.PACKAGE
    found = dict(item for name, place in places.items() for item in _below(name, place))
    own = paths.own_ablations() if root == paths.ROOT else None
    if own is not None:
        found |= dict(_below("ablations", own))
    return dict(sorted(item for item in found.items() if not item[0].startswith("safmn/project/")))


def _below(name: str, place: Path) -> Iterator[tuple[str, Path]]:
    if place.is_file():
        yield name, place
    for file in place.rglob("*"):
        parts = file.relative_to(place).parts
        if file.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield "/".join((name, *parts)), file


def _source(root: Path) -> str:
    digested = hashlib.sha256()
    for name, file in source_files(root).items():
        digested.update(f"{name}\0{of_file(file)}\n".encode())
    return digested.hexdigest()
