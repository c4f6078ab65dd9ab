"""Files that are either complete or absent: they are written beside their final name and renamed."""

import csv
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safmn.errors import UserError

RESERVE = 32 * 2**20  # bytes of a disk that are left free for others


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success sync and rename it to `path`, else remove it.

    The folder is synced, too: otherwise a power cut may undo the renaming. The temporary name has the suffix of `path`,
    since many writers choose their format by it.

    Raises:
        UserError: the disk is full, the folder cannot be written, or `path` is a folder, a device or a pipe.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        changed = [path.parent, *(folder.parent for folder in path.parents if not folder.exists())]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # root could replace a device such as /dev/stdout
            raise UserError(f"cannot write {path}: it exists and is no file; choose another name")
        new = path.parent / f".{path.stem}.{secrets.token_hex(4)}{path.suffix}"
        # Not from tempfile, whose files are private: this one has the mode of an ordinary open().
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary = new
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        temporary = None
        for folder in changed:
            sync_folder(folder)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_csv(path: Path | str, columns: Iterable[str], lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV with a header; None is an empty field, a float the shortest text that reads back as the same number.

    Args:
        path: the file.
        columns: of the header, in its order.
        lines: column -> value; an absent one is an empty field.
    """
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


@contextmanager
def staging(place: Path, prefix: str, target: Path | str) -> Iterator[Path]:
    """Yield a new private folder in `place`, to be filled and renamed; remove it at the end if it still exists.

    Args:
        place: the folder around it.
        prefix: of its name.
        target: what is written, for the error.

    Raises:
        UserError: the disk is full, or a folder cannot be written.
    """
    staged: Path | None = None
    try:
        place.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        yield staged
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)


def _unwritable(target: Path | str, error: OSError) -> UserError:
    return UserError(f"cannot write {target}: {error.strerror or error}; free some space or choose another place")


def sync_folder(folder: Path | str) -> None:
    """Make renamed, new and removed files of `folder` survive a power cut.

    Does nothing if the system cannot do that: some file systems, a folder that may be written but not read, Windows.
    """
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS):
            raise
    finally:
        os.close(descriptor)


def remove_strays(path: Path | str) -> None:
    """Remove temporary files of processes that were killed in `atomic(path)`; no other process may write it now."""
    path = Path(path)
    for stray in path.parent.glob(f".{glob.escape(path.stem)}.????????{glob.escape(path.suffix)}"):
        stray.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON that is also YAML; NaN and infinity, unknown to JSON, are a ValueError."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # YAML has no control characters (DEL, C1), and reads some characters (NEL, U+2028) as the end of a line.
    text = re.sub("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]", lambda sign: f"\\u{ord(sign[0]):04x}", text)
    write_text(path, text + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON; raise UserError that names the file if it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run the step that makes it first") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable JSON ({error}): delete it and make it again") from error


def free_bytes(folder: Path) -> int:
    """Return the bytes that are free on the disk of a folder, which need not exist yet."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise UserError unless `needed` bytes, and RESERVE for others, are free on the disk of a folder."""
    free = free_bytes(folder)
    if needed > 0 and free < needed + RESERVE:
        raise UserError(
            f"{what} needs {megabytes(needed)} in {folder}, where {megabytes(free)} are free: "
            "free some or choose another folder"
        )


def megabytes(size: int) -> str:
    """Format bytes as `"12.3 MB"` (10**6 bytes)."""
    return f"{size / 1e6:,.1f} MB"


def digest(value: Any) -> str:
    """Return the sha256 of plain data, whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
