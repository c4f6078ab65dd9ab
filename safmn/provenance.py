"""Where a result comes from: what was asked, which code and data, on what device and host, when and for how long.

Every command that leaves a result calls `begin()` first and puts `Begun.result(...)` into its record under the key
`provenance`. The facts of device and host are `safmn.device.description.describe`'s. No host, user or folder is
named, since results are made to be passed on. Facts of the clock stay out of weights and histories, which are the
same bytes whenever they are made.
"""

import hashlib
import subprocess
import time
import tomllib
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safmn import paths
from safmn.errors import UserError
from safmn.files import digest, read_json

PACKAGE = "safmn-harness"
CODE = ("Snakefile", "ablations", "safmn", "workflow")
"""What runs. An untracked file makes the tree dirty if it lies in one of these, a tracked one wherever it lies."""
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
                (`safmn.data.manifest`), which a store of images has as its `fingerprint`; None if it depends on none.
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
        return read_json(Path(weights).with_name("run.json"))["specification"]["seed"]
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
        two dirty trees can be told apart).
    """
    commit, dirty = _commit(root)
    return {
        "code_version": _version(root),
        "code_commit": commit,
        "code_dirty": dirty,
        "code_sha256": _source(root),
    }


def _version(root: Path) -> str:
    try:
        return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    except (OSError, ValueError, KeyError):
        pass
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "unknown"


def _commit(root: Path) -> tuple[str | None, bool | None]:
    top = _git(root, "rev-parse", "--show-toplevel")
    # An environment may lie in somebody's repository, which is not this code's.
    if not top or Path(top.strip()).resolve() != root.resolve():
        return None, None
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    entries = _git(root, "status", "--porcelain", "-z", "--untracked-files=all")
    if not commit or entries is None:
        return commit and commit.strip(), None
    dirty = any(_matters(entry) for entry in entries.split("\0") if entry)
    return commit.strip(), dirty


def _matters(entry: str) -> bool:
    """Whether a line of `git status` is a change of a tracked file, or a file that might run."""
    return not entry.startswith("?? ") or entry[3:].partition("/")[0] in CODE


def _git(root: Path, *arguments: str) -> str | None:
    # Without its locks: a job must not be in the way of whoever works in the tree.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def source_files(root: Path = paths.ROOT) -> list[Path]:
    """The files of `CODE`, sorted by name; none that Python or an editor left."""
    found = []
    for name in CODE:
        place = root / name
        found += [place] if place.is_file() else place.rglob("*")
    return sorted(
        file
        for file in found
        if file.is_file()
        and not any(part.startswith(".") or part == "__pycache__" for part in file.relative_to(root).parts)
    )


def _source(root: Path) -> str:
    digested = hashlib.sha256()
    for file in source_files(root):
        digested.update(f"{file.relative_to(root).as_posix()}\0{of_file(file)}\n".encode())
    return digested.hexdigest()
