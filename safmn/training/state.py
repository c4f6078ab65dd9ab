"""Saved states, from which a killed run resumes: written whole or not at all, two generations, one writer.

Snakemake does not know their folder, since it deletes the declared outputs of a failed job.
"""

import hashlib
import io
import os
import socket
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from safmn import locks
from safmn.errors import UserError
from safmn.files import atomic

LOCK, OWNER = "lock", "owner"  # files in the folder: the lock, and its holder as "PROCESS on MACHINE"
PATIENCE = 2.0  # seconds to wait for the lock: `safmn status` tries it for a moment
GENERATIONS = 2
FORMAT = 3  # of the content; a state of another format is set aside, like one of another run
DIGEST = hashlib.sha256().digest_size


class StateFolder:
    """The saved states of one run.

    Args:
        folder: `state/` in the run's folder.
        key: digest of specification, code and data; a state with another key is never used.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key
        self._lock: FileLock | None = None
        self._proved = False

    def acquire(self) -> None:
        """Lock the folder for this process; UserError if another process holds the lock.

        The lock ends with its process. After a kill -9 of Snakemake its training job continues and still holds it.
        """
        self._lock = locks.acquire(self.folder / LOCK, PATIENCE)
        if self._lock is None:
            raise UserError(
                f"{self.folder} is in use by process {self._owner()}: another run trains here; wait for it or end it"
            )
        try:
            (self.folder / OWNER).write_text(f"{os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        except OSError as error:
            self.release()
            raise UserError(f"cannot write {self.folder}: {error.strerror or error}; choose another folder") from error

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            self._lock.release()

    def _owner(self) -> str:
        try:
            return (self.folder / OWNER).read_text().strip()
        except OSError:
            return "unknown"

    def save(self, iteration: int, content: dict[str, Any]) -> None:
        """Write a generation, then remove all but the last two.

        A kill at any moment leaves the previous generation intact: the new file gets its name only after it is synced.
        """
        with atomic(self._file(iteration)) as temporary:
            temporary.write_bytes(serialised(self.key, iteration, content))
        if not self._proved:
            read(self._file(iteration))  # raises if a resume could not read it
            self._proved = True
        for old in self._files()[:-GENERATIONS]:
            old.unlink(missing_ok=True)

    def load(self) -> tuple[int, dict[str, Any], list[str]]:
        """Return the newest valid state with the right key: (iteration, content, remarks); (0, {}, remarks) if none.

        If a file is damaged, the older generation is used. States with another key belong to a run with another
        specification, code or data: all of them are moved aside. A remark reports each of these.
        """
        remarks = []
        for stray in self.folder.glob(".iteration-*"):  # left by a kill during a save
            stray.unlink(missing_ok=True)
        for file in reversed(self._files()):
            saved = read(file)
            if saved is None:
                damaged = file.with_suffix(".damaged")
                file.replace(damaged)
                remarks.append(f"{file.name} is damaged (kept as {damaged.name}); going back to the state before it")
            elif (saved.get("format"), saved["key"]) != (FORMAT, self.key):
                remarks.append(
                    f"the state at iteration {saved['iteration']} belongs to another specification, code or data; "
                    f"set aside in {self.set_aside().name}, starting anew"
                )
                break
            else:
                return saved["iteration"], saved["content"], remarks
        return 0, {}, remarks

    def set_aside(self) -> Path:
        """Move all states to a new folder beside this one, which nothing reads or deletes, and return it."""
        number = 1
        while (target := self.folder.with_name(f"{self.folder.name}-set-aside-{number}")).exists():
            number += 1
        for file in self._files():
            target.mkdir(exist_ok=True)
            file.replace(target / file.name)
        return target

    def _file(self, iteration: int) -> Path:
        return self.folder / f"iteration-{iteration:09d}.state"

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("iteration-*.state"))


def serialised(key: str, iteration: int, content: dict[str, Any]) -> bytes:
    """Return the bytes of one generation: the sha256 of the payload, then the payload."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "key": key, "iteration": iteration, "content": content}, buffer)
    payload = buffer.getvalue()
    return hashlib.sha256(payload).digest() + payload


def read(file: Path) -> dict[str, Any] | None:
    """Return the content of one generation; None if it is truncated or altered.

    Raises:
        UserError: the file is undamaged but holds no state of this version. The user decides, since falling back to an
            older state, or starting anew, could lose work.
    """
    try:
        data = file.read_bytes()
    except OSError:
        return None
    digest, payload = data[:DIGEST], data[DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    try:
        saved = torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
        kinds = {"key": str, "iteration": int, "content": dict}
        if all(isinstance(saved[name], kind) for name, kind in kinds.items()):
            return dict(saved)
        reason = "it holds something else"
    except Exception as error:  # torch.load may raise anything on such a file
        reason = type(error).__name__
    raise UserError(f"{file} is whole but no state that this version can read ({reason}): start anew with --restart")
