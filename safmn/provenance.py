"""The provenance of a result: specification, code, data, device, host, start and duration.

Every command that writes a result calls `begin()` first, and puts `Begun.result(...)` into its record under the key
`provenance`. `safmn.device.description.describe` adds device and host. No host, user or folder is named, since results
are made to be passed on. Weights and histories have no times, so that they are the same bytes whenever they are made.
"""

import hashlib
import subprocess
import tarfile
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safmn import __version__, layout, paths
from safmn.errors import UserError
from safmn.files import digest, read_json

CODE = ("Snakefile", "ablations", "safmn", "workflow")
"""Files and folders of the harness that are executed."""
OF_PROJECT = ("Snakefile", "ablations", "config")
"""Files and folders of a user's project that are executed."""
OF_ONE_RESULT = ("specification", "data", "seed", "started", "seconds")
"""Facts of one result; the others are the same for all results of the same code, device and host."""


class Begun:
    """The start of some work, and the code at that time.

    Attributes:
        started: UTC, to the second, as ISO 8601.
        code: as `code()` returns it.
    """

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.code = code()
        self._clock = time.monotonic()

    def session(self, device: dict[str, Any]) -> dict[str, Any]:
        """Return device, code and start: what each process adds to a run that is done in several."""
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
        """Return the provenance of a result that is finished now.

        Args:
            device: as `safmn.device.description.describe` returns it.
            specification: plain data that says what was asked for; its sha256 is recorded.
            data: the images that it depends on, name in the specification -> digest of their manifest
                (`safmn.data.manifest`); None if it depends on no images.
            seed: the seed of random draws; None if it depends on none.
            started: instead of this process's start, for a run that several processes did.
            seconds: instead of this process's duration.
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
    """Return the start of some work; call this before it."""
    return Begun()


def of_file(path: Path | str) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def seed_of(weights: Path | str | None) -> int | None:
    """Return the seed of the run that wrote a file of weights; None if there is no record of a run beside it."""
    if weights is None:
        return None
    try:
        return int(read_json(Path(weights).with_name(layout.RUN))["specification"]["seed"])
    except (UserError, LookupError, TypeError, ValueError):
        return None


def shown(path: Path | str) -> str:
    """Return a path that may be passed on: relative to the current folder if it is below, else the name alone."""
    path = Path(path)
    if not path.is_absolute():
        return path.name if ".." in path.parts else str(path)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return path.name


# --- The code ---


def code(root: Path = paths.ROOT) -> dict[str, Any]:
    """Identify the code.

    Args:
        root: the folder with the harness's files.

    Returns:
        `code_version` (of the package); `code_commit` and `code_dirty` (whether anything differs from that commit),
        both None outside of a git checkout or without git; `code_sha256` (over names and contents of the files in CODE,
        the same in a checkout and in its wheel). In a user's project under git, `project_commit` and `project_dirty`.
    """
    commit, dirty = _commit(root)
    facts = {
        "code_version": __version__,
        "code_commit": commit,
        "code_dirty": dirty,
        "code_sha256": _source(root),
    }
    return facts | (_project() if root == paths.ROOT else {})


def _commit(root: Path) -> tuple[str | None, bool | None]:
    top = _git(root, "rev-parse", "--show-toplevel")
    # An environment may be inside a repository of other code.
    if not top or Path(top.strip()).resolve() != root.resolve():
        return None, None
    return _state(root, CODE)


def _project() -> dict[str, Any]:
    project = paths.project()
    commit, dirty = _state(project, OF_PROJECT) if project else (None, None)
    return {"project_commit": commit, "project_dirty": dirty} if commit else {}


def _state(folder: Path, runs: tuple[str, ...]) -> tuple[str | None, bool | None]:
    """Return the commit of a folder's repository, and whether files below the folder differ from it.

    An untracked file counts if it is in one of `runs`, a tracked file anywhere.
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
    # Without git's locks: a job must not disturb somebody who works in the tree.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def unpack(commit: str, folder: Path, root: Path = paths.ROOT) -> bool:
    """Write the code of a commit, the files in CODE, into a new folder; return whether git knows it here."""
    folder.mkdir(parents=True)
    packed = folder / "code.tar"
    if _git(root, "archive", "--format=tar", f"--output={packed}", commit, "--", *CODE) is None:
        return False
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    packed.unlink()
    return True


def clean(codes: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Return commit and sha256 of those codes, as `code()` returns them, that had no changes to their commit."""
    return {_commit_and_content(each) for each in codes if not each.get("code_dirty")}


def is_changed(code: Mapping[str, Any], unchanged: Container[tuple[str, str]]) -> bool:
    """Return whether the code may differ from that of its commit.

    It does not where only other files were changed, such as the README.

    Args:
        code: as `code()` returns it.
        unchanged: commit and sha256 of code that is known to be that of its commit.
    """
    return bool(code.get("code_dirty")) and _commit_and_content(code) not in unchanged


def _commit_and_content(code: Mapping[str, Any]) -> tuple[str, str]:
    return str(code.get("code_commit")), str(code.get("code_sha256"))


def commits(codes: Iterable[Mapping[str, Any]], digits: int | None = None) -> list[str]:
    """Name the commits of some codes, each once; once more, "with changes", where a code may differ from its commit.

    The records alone decide, so that a page has the same bytes with and without git. `safmn verify` asks git too.

    Args:
        codes: as `code()` returns them.
        digits: of a commit, all by default.
    """
    known = [each for each in codes if each.get("code_commit")]
    unchanged = clean(known)
    compared = {commit for commit, _ in unchanged}
    names = []
    for each in known:
        commit, changes = str(each["code_commit"]), ""
        if is_changed(each, unchanged):
            changes = " with changed code" if commit in compared else " with changes, maybe outside of the code"
        names.append(commit[:digits] + changes)
    return list(dict.fromkeys(names))


def source_files(root: Path = paths.ROOT) -> dict[str, Path]:
    """Return the files in CODE and the variants of a user's project, name in a checkout -> file.

    Hidden files and Python's caches are left out.
    """
    places = {name: root / name for name in CODE}
    if root == paths.ROOT:
        places["safmn"] = paths.PACKAGE
    files = dict(item for name, place in places.items() for item in _below(name, place))
    own = paths.own_ablations() if root == paths.ROOT else None
    if own is not None:
        files |= dict(_below("ablations", own))
    return dict(sorted(item for item in files.items() if not item[0].startswith("safmn/project/")))


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
