"""Locks on files: one holder among all processes and threads.

The system frees a lock when its holder dies, `kill -9` included. Lock files stay where they are.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from safmn.errors import UserError

if sys.platform != "win32":
    import fcntl

POLL = 0.2  # seconds between two looks at a lock that somebody else holds


def acquire(path: Path, timeout: float | None = None) -> FileLock | None:
    """Take the lock on a file; folders that are missing are made.

    Args:
        path: the lock file.
        timeout: seconds to wait for another holder; None waits as long as it takes.

    Returns:
        The lock, to be released with `.release()`; None if another holder kept it all the time.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, thread_local=False)  # any thread may release it
        lock.acquire(timeout=-1 if timeout is None else timeout)
    except Timeout:
        return None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; choose another folder, or check its permissions") from error
    return lock


@contextmanager
def hold(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Wait for the lock on a file, and keep it for the `with` block.

    Args:
        path: the lock file.
        on_wait: called every POLL seconds while somebody else has the lock; may raise to give up.

    Raises:
        UserError: the file cannot be written.
    """
    while (lock := acquire(path, POLL if on_wait else None)) is None:
        if on_wait:
            on_wait()
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Say whether somebody holds the lock on a file now; False if the file cannot be read.

    A free lock is taken for less than a millisecond, so whoever wants it should wait a moment before giving up.
    """
    if not path.exists():
        return False
    if sys.platform != "win32":  # as filelock does it, but without the right to write
        try:
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # freed when the file is closed
        except OSError as error:
            return isinstance(error, BlockingIOError)
        return False
    try:
        lock = acquire(path, 0)
    except UserError:
        return False
    if lock is not None:
        lock.release()
    return lock is None
