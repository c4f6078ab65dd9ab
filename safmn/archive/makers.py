"""The code that trained a run, and where it differs from the code here.

A run names the commit of its code and the hash over it. A study may be trained by one commit and evaluated by a later
one: then the archive holds the later code, and that of the earlier commit is taken from the repository that is here. It
counts only if its hash is the recorded one. It is read, never run.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from safmn import layout, provenance
from safmn.archive import facts, fitting
from safmn.archive.findings import listed
from safmn.archive.opening import Opened
from safmn.errors import UserError, as_line


@dataclass(frozen=True)
class Maker:
    """The code that trained a run.

    Attributes:
        name: "commit 8684e80afc".
        differing: the pieces of code that decide the run's result and are others here, as "module.name"; None where
            that is not known.
        reason: why it is not known.
        has_its_key: whether the run's key is the one that this code or the code here gives it; None if not known.
    """

    name: str
    differing: tuple[str, ...] | None
    reason: str = ""
    has_its_key: bool | None = None

    @property
    def is_here(self) -> bool:
        """Whether it is known to be the code here."""
        return self.differing == ()

    def __str__(self) -> str:
        if self.differing is None:
            return f"{self.name}; whether the training code here is another is not known: {self.reason}"
        if self.differing:
            return f"{self.name}; the training code differs now: {in_modules(self.differing)}"
        other = ", but it gives another key: keys are made in another way now, or something differs that no archive "
        other += "holds (installed packages, hidden files)"
        return f"{self.name}; the training code here is the same{other if self.has_its_key is None else ''}"


class Makers:
    """Finds the code that trained the runs of an archive.

    Args:
        archive: the archive.
        scratch: a folder for the code of earlier commits.
    """

    def __init__(self, archive: Opened, scratch: Path) -> None:
        self._archive = archive
        self._scratch = scratch
        self._commit = cache(self._unpacked)
        self._code = cache(self._found)

    def of(self, record: Mapping[str, Any]) -> Maker:
        """Return the code that trained a run.

        Args:
            record: its `run.json`.
        """
        origin = facts.of(record)
        name = self.named(origin)
        if fitting.has_the_key_here(record):
            return Maker(name, (), has_its_key=True)
        code = self._code(str(origin.get("code_sha256")), str(origin.get("code_commit")))
        if isinstance(code, str):
            return Maker(name, None, code)
        try:
            differing = tuple(code.of_training(record["specification"]))
            return Maker(name, differing, has_its_key=code.gives(record))
        except (UserError, LookupError, TypeError, AttributeError) as error:
            return Maker(name, None, as_line(error))

    def others(self, names: Iterable[str] | None = None) -> list[tuple[Maker, list[str]]]:
        """Return the runs whose key is not the one that they would have here, by the code that trained them.

        Args:
            names: folders of runs below the study's; None for all.

        Returns:
            The code, with all pieces that differ for one of its runs, and the names of these.
        """
        results = self._archive.results
        files = sorted(results.glob(layout.record("*", "[234]", "*")))
        found: dict[tuple[str, bool | None], list[tuple[str, Maker]]] = {}
        for name in [file.parent.relative_to(results).as_posix() for file in files] if names is None else names:
            maker = self.of(self._archive.record(f"{name}/{layout.RUN}"))
            if not (maker.is_here and maker.has_its_key):
                found.setdefault((maker.name, maker.has_its_key), []).append((name, maker))
        merged = []
        for of in found.values():
            unknown = next((maker for _, maker in of if maker.differing is None), None)
            pieces = dict.fromkeys(piece for _, maker in of for piece in maker.differing or ())
            merged.append((unknown or replace(of[0][1], differing=tuple(pieces)), [name for name, _ in of]))
        return merged

    def named(self, origin: Mapping[str, Any]) -> str:
        """Name the code of a result by its provenance."""
        commit, content = origin.get("code_commit"), str(origin.get("code_sha256"))
        if not isinstance(commit, str):
            return f"the code with sha256 {content[:10]}" if origin.get("code_sha256") else "unknown code"
        changed = provenance.is_changed(origin, self._clean) and self._commit(commit)[1] != content
        return f"commit {commit[:10]}{' with changes that are in no commit' if changed else ''}"

    @cached_property
    def _clean(self) -> set[tuple[str, str]]:
        """Commit and hash of code without changes, by the records of the archive."""
        environments = self._archive.provenance.get("environments")
        known = environments if isinstance(environments, list) else []
        return provenance.clean(facts.mapping(facts.mapping(each).get("code")) for each in known)

    def _found(self, wanted: str, commit: str) -> fitting.Other | str:
        """Return the code of this hash, or why there is none."""
        if provenance.code(self._archive.folder)["code_sha256"] == wanted:
            return fitting.Other(self._archive.folder)
        if provenance.code()["code_sha256"] == wanted:
            return fitting.Other(None)
        if not re.fullmatch("[0-9a-f]{7,64}", commit):
            return "it is neither the archived code nor that of a commit"
        folder, content = self._commit(commit)
        if content is None:
            return f"commit {commit[:10]} is in no repository here (`git fetch` in a clone may get it)"
        return fitting.Other(folder) if content == wanted else f"it had changes that commit {commit[:10]} has not"

    def _unpacked(self, commit: str) -> tuple[Path, str | None]:
        """Return a folder with the code of a commit, and its hash; None for a commit that is not known here."""
        folder = self._scratch / commit
        if not re.fullmatch("[0-9a-f]{7,64}", commit) or not provenance.unpack(commit, folder):
            return folder, None
        return folder, str(provenance.code(folder)["code_sha256"])


@contextmanager
def of(archive: Opened) -> Iterator[Makers]:
    """Yield what finds the code that trained the runs of an archive."""
    with tempfile.TemporaryDirectory(prefix="safmn-code-") as scratch:
        yield Makers(archive, Path(scratch))


def in_modules(pieces: tuple[str, ...]) -> str:
    """Say how many pieces of code there are, and in which modules."""
    modules = dict.fromkeys(piece if piece.startswith("file ") else piece.rpartition(".")[0] for piece in pieces)
    return f"{len(pieces)} piece{'s' * (len(pieces) > 1)} of {listed(list(modules), 12)}"
