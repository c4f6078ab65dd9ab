"""What a run needs to go on after it was killed: saved whole, in two generations, under a lock, with a key.

The folder is one that Snakemake does not know of, since it deletes the declared outputs of a job that failed.
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
FORMAT = 2  # of the content; a state of another format is set aside, as one of another run is
DIGEST = hashlib.sha256().digest_size


class StateFolder:
    """The saved states of one run.

    Args:
        folder: `state/` in the run's folder.
        key: fingerprint of specification, code and data; a state with another key is never used.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key
        self._lock: FileLock | None = None
        self._proved = False

    def acquire(self) -> None:
        """Takes the folder for this process; UserError if another process has it.

        The lock dies with its process. After a kill -9 of Snakemake its training job lives on and still holds it.
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
        """Gives the folder back."""
        if self._lock is not None:
            self._lock.release()

    def _owner(self) -> str:
        try:
            return (self.folder / OWNER).read_text().strip()
        except OSError:
            return "unknown"

    def save(self, iteration: int, content: dict[str, Any]) -> None:
        """Writes a generation, then removes the ones before the last two.

        A kill at any moment leaves the previous generation whole: the new one appears under its name when it is synced.
        """
        with atomic(self._file(iteration)) as temporary:
            temporary.write_bytes(serialised(self.key, iteration, content))
        if not self._proved:
            read(self._file(iteration))  # raises if a resume could not read it: better now than then
            self._proved = True
        for old in self._files()[:-GENERATIONS]:
            old.unlink(missing_ok=True)

    def load(self) -> tuple[int, dict[str, Any], list[str]]:
        """The newest sound state that fits: (iteration, content, remarks); iteration 0 and {} if there is none.

        A damaged file is passed over for the older generation. States with another key are moved aside as a whole:
        they belong to a run with another specification, code or data. Each of this is told in a remark.
        """
        remarks = []
        for stray in self.folder.glob(".iteration-*"):  # what a kill in the middle of a save left
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
        """Moves all states to a folder beside this one, which nothing reads or deletes."""
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
    """The bytes of one generation: a digest of what follows, and that."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "key": key, "iteration": iteration, "content": content}, buffer)
    payload = buffer.getvalue()
    return hashlib.sha256(payload).digest() + payload


def read(file: Path) -> dict[str, Any] | None:
    """The content of one generation; None if it is truncated or altered.

    Raises:
        UserError: it is as it was written, yet no state: going back to an older one, or starting anew, would lose more.
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
            return saved
        reason = "it holds something else"
    except Exception as error:  # whatever a strange file does to the reader
        reason = type(error).__name__
    raise UserError(f"{file} is whole but no state that this version can read ({reason}): start anew with --restart")
