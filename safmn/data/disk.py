"""What downloads and packed datasets ask of a disk: a lock for one writer, and enough room."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from safmn.errors import UserError

RESERVE = 32 * 2**20  # bytes that are left free for others


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock on `path` against other threads and processes; it is released when its holder dies.

    Args:
        path: a file or folder; the lock is `.<name>.lock` beside it. Missing parent folders are made.
        waiting: called five times a second while somebody else holds the lock; may raise to give up.

    Raises:
        UserError: the folder cannot be written.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0.2)
            except Timeout:
                waiting()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write into {path.parent}: {reason}; choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise UserError unless the disk of `folder`, which may not exist yet, has `needed` bytes and RESERVE free."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > 0 and free < needed + RESERVE:
        raise UserError(
            f"{what} needs {megabytes(needed)} in {folder}, where {megabytes(free)} are free: "
            "free some or choose another folder"
        )


def megabytes(size: int) -> str:
    """Format bytes as `"12.3 MB"` (10**6 bytes)."""
    return f"{size / 1e6:,.1f} MB"
