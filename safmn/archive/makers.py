"""The code that trained a run, and where it differs from the code here.

A run names the commit of its code and the hash over it. A study may be trained by one commit and evaluated by a later
one: then the archive holds the later code, and that of the earlier commit is taken from the repository that is here. It
counts only if its hash is the recorded one. It is read, never run.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safmn import provenance
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
    """

    name: str
    differing: tuple[str, ...] | None
    reason: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is known to be the code here."""
        return self.differing == ()

    def __str__(self) -> str:
        if self.differing is None:
            return f"{self.name}; whether the training code here is another is not known: {self.reason}"
        if not self.differing:
            return f"{self.name}; the training code here is the same"
        return f"{self.name}; the training code differs now: {in_modules(self.differing)}"


class Makers:
    """Finds the code that trained the runs of an archive.

    Args:
        archive: the archive.
        scratch: a folder for the code of earlier commits.
    """

    def __init__(self, archive: Opened, scratch: Path) -> None:
        self._archive = archive
        self._scratch = scratch
        self._found: dict[tuple[str, str], Path | str] = {}

    def of(self, record: Mapping[str, Any]) -> Maker:
        """Return the code that trained a run.

        Args:
            record: its `run.json`.
        """
        origin = facts.of(record)
        name = named(origin)
        if fitting.has_the_key_here(record):
            return Maker(name, ())
        wanted, commit = str(origin.get("code_sha256")), str(origin.get("code_commit"))
        if (wanted, commit) not in self._found:
            self._found[wanted, commit] = self._code(wanted, commit)
        folder = self._found[wanted, commit]
        if isinstance(folder, str):
            return Maker(name, None, folder)
        try:
            return Maker(name, tuple(fitting.of_training(folder, record["specification"])))
        except (UserError, LookupError, TypeError, AttributeError) as error:
            return Maker(name, None, as_line(error))

    def _code(self, wanted: str, commit: str) -> Path | str:
        """Return a folder with the code of this hash, or why there is none."""
        if provenance.code(self._archive.folder)["code_sha256"] == wanted:
            return self._archive.folder
        if not re.fullmatch("[0-9a-f]{7,64}", commit):
            return "it is neither the archived code nor that of a commit"
        folder = self._scratch / f"{len(self._found)}"
        if not provenance.unpack(commit, folder):
            return f"commit {commit[:10]} is in no repository here (`git fetch` in a clone may get it)"
        if provenance.code(folder)["code_sha256"] != wanted:
            return f"it had changes that commit {commit[:10]} has not"
        return folder


def others(archive: Opened, records: Mapping[str, Mapping[str, Any]]) -> list[tuple[Maker, list[str]]]:
    """Return the runs whose key is not the one that they would have here, by the code that trained them.

    Args:
        archive: the archive.
        records: a run's name -> its `run.json`.

    Returns:
        The code, with all pieces that differ for one of its runs, and the names of these.
    """
    found: dict[str, list[tuple[str, Maker]]] = {}
    with tempfile.TemporaryDirectory(prefix="safmn-code-") as scratch:
        makers = Makers(archive, Path(scratch))
        for name, record in records.items():
            if not fitting.has_the_key_here(record):
                maker = makers.of(record)
                found.setdefault(maker.name, []).append((name, maker))
    merged = []
    for of in found.values():
        unknown = next((maker for _, maker in of if maker.differing is None), None)
        pieces = dict.fromkeys(piece for _, maker in of for piece in maker.differing or ())
        merged.append((unknown or replace(of[0][1], differing=tuple(pieces)), [name for name, _ in of]))
    return merged


def named(origin: Mapping[str, Any]) -> str:
    """Name the code of a result by its provenance."""
    commit, content = origin.get("code_commit"), origin.get("code_sha256")
    if isinstance(commit, str):
        return f"commit {commit[:10]}" + (" with changes that are in no commit" if origin.get("code_dirty") else "")
    return f"the code with sha256 {content[:10]}" if isinstance(content, str) else "unknown code"


def in_modules(pieces: tuple[str, ...]) -> str:
    """Say how many pieces of code there are, and in which modules."""
    modules = dict.fromkeys(piece if piece.startswith("file ") else piece.rpartition(".")[0] for piece in pieces)
    return f"{len(pieces)} piece{'s' * (len(pieces) > 1)} of {listed(list(modules), 12)}"
