"""Unpack zip and tar archives of unknown origin into one new folder and nowhere else.

All members are checked before anything is written. A name outside the folder, a link, a device, an encrypted member, an
unknown compression, two members for one file, or a size out of proportion to the archive refuses the whole archive.
"""

import contextlib
import io
import os
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from safmn.data.download import Watch
from safmn.errors import UserError, as_line
from safmn.files import check_space

BLOCK = tarfile.BLOCKSIZE
MAX_RATIO = 20  # bytes unpacked for each byte of an archive; images hardly shrink, a bomb grows a thousandfold
ALLOWANCE = 64 * 2**20  # bytes that are allowed in addition
MAX_BYTES = 200 * 2**30  # unpacked
MAX_MEMBERS = 200_000
MAX_HEADER = 4 * 2**20  # bytes; `tarfile` reads a header in one piece, whatever length it claims

Place = Callable[[PurePosixPath], PurePosixPath | None]
"""Maps a member's name to its path below the folder; None leaves it in the archive."""


# What `zipfile` and `tarfile` raise for damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    ArithmeticError,
    RuntimeError,
    ValueError,
    IndexError,
)


class BadArchive(UserError):
    """The archive is damaged or refused."""


@dataclass(frozen=True)
class _Member:
    """A regular file of an archive: its stored name, its path below the folder, its size in bytes, how to read it."""

    name: str
    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


def extract(
    archive: Path | str,
    folder: Path | str,
    place: Place = lambda name: name,
    watch: Watch = lambda stage, done, total: None,
) -> list[PurePosixPath]:
    """Unpack an archive's files below a folder.

    Args:
        archive: zip or uncompressed tar; told apart by content.
        folder: a new or empty one; what is in it after an error is of no use.
        place: chooses and renames members; default: all, under their own names.
        watch: receives ("unpack", bytes done, bytes in all); raises Stopped to end the extraction.

    Returns:
        The files relative to `folder`, in the archive's order; they survive a power cut.

    Raises:
        BadArchive: damaged, cut short or refused.
        UserError: the folder cannot be written or the disk is full.
    """
    archive, folder = Path(archive), Path(folder)
    with _one_message(archive, folder), _open(archive) as members:
        chosen = _choose(archive, members, place)
        done, total = 0, sum(member.size for member in chosen)
        check_space(folder, total, f"unpacking {archive.name}")
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):  # a link in it could lead elsewhere
            raise UserError(f"{folder} is not empty: choose another folder to unpack {archive.name}, or empty it")
        for member in chosen:
            target = folder / member.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, open(target, "xb") as file:  # neither library gives more than member.size
                shutil.copyfileobj(source, file)
                file.flush()
                os.fsync(file.fileno())
                if file.tell() != member.size:
                    raise _bad(archive, member.name, f"has not the {member.size:,} bytes that it is said to have")
            done += member.size
            watch("unpack", done, total)
    return [member.path for member in chosen]


def safe_path(name: str) -> PurePosixPath:
    """Return a member's name as a path that stays below any folder.

    Raises:
        ValueError: it is absolute, has `..`, is empty, or is not a file name on every system.
    """
    if not name or not name.isprintable():
        raise ValueError("has an empty name or unprintable characters in it")
    try:
        length = max(len(part.encode()) for part in name.split("/"))
    except UnicodeEncodeError:
        raise ValueError("has a name that is not UTF-8") from None
    if length > 255 or len(name.encode()) > 2048:
        raise ValueError("has too long a name")
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name):
        raise ValueError("has an absolute name or one of another system")
    path = PurePosixPath(name)
    if ".." in path.parts or not path.parts:
        raise ValueError("would be written outside the folder")
    return path


@contextlib.contextmanager
def _open(archive: Path) -> Iterator[Iterator[_Member | None]]:
    """Yield the members of an archive, None for folders."""
    with open(archive, "rb") as file:
        head = file.read(BLOCK)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        with zipfile.ZipFile(archive) as zipped:
            yield _zip_members(archive, zipped)
    elif head[257:262] == b"ustar" or head == bytes(BLOCK):
        with _Reader(archive) as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            yield _tar_members(archive, tar, raw)
    elif head[:3] in (b"\x1f\x8b\x08", b"BZh", b"\xfd7z"):
        raise BadArchive(f"{archive} is compressed as a whole: decompress it first, only zip and plain tar are read")
    else:
        raise BadArchive(f"{archive} is no zip or tar archive (it begins with {head[:8]!r}): download it again")


class _Reader(io.FileIO):
    """A file that refuses to read more than a header may be long."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return super().read(size)


def _zip_members(archive: Path, zipped: zipfile.ZipFile) -> Iterator[_Member | None]:
    for entry in zipped.infolist():
        name = entry.orig_filename  # as stored: `filename` ends at a NUL
        path = _checked(archive, name)
        if entry.is_dir():
            yield None
            continue
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _bad(archive, name, "is a link or a device")
        if entry.flag_bits & 1:
            raise _bad(archive, name, "is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _bad(archive, name, "is packed by a method that is not accepted")
        yield _Member(name, path, entry.file_size, lambda entry=entry: zipped.open(entry))  # type: ignore[misc]


def _tar_members(archive: Path, tar: tarfile.TarFile, raw: _Reader) -> Iterator[_Member | None]:
    end = 0
    while (entry := tar.next()) is not None:
        path = _checked(archive, entry.name)
        end = entry.offset_data
        if entry.isdir():
            yield None
            continue
        # isreg() is also true of a sparse file, which a few bytes can declare to be of any size.
        if not entry.isreg() or entry.issparse():
            raise _bad(archive, entry.name, "is a link, a device or a sparse file")
        if entry.size < 0:
            raise _bad(archive, entry.name, "has a negative size")
        end += -(-entry.size // BLOCK) * BLOCK
        yield _Member(entry.name, path, entry.size, lambda entry=entry: tar.extractfile(entry))  # type: ignore[misc,arg-type]
    # `tarfile` takes a damaged header for the end of the archive; the true end is a block of zeros.
    raw.seek(end)
    if raw.read(BLOCK) != bytes(BLOCK):
        raise BadArchive(f"{archive} is damaged or cut short: download or copy it again")


@contextlib.contextmanager
def _one_message(archive: Path, folder: Path) -> Iterator[None]:
    """Turn what the two libraries raise on damaged archives into one message, and what the disk does into another."""
    try:
        yield
    except _DAMAGE as error:
        raise BadArchive(f"{archive} is damaged or cut short ({as_line(error)}): download or copy it again") from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{archive} cannot be unpacked into {folder} ({reason}): check the path, or choose another folder"
        ) from error


def _choose(archive: Path, members: Iterator[_Member | None], place: Place) -> list[_Member]:
    """Check all members; return those to extract, with their paths below the folder."""
    size = archive.stat().st_size
    allowed = min(MAX_BYTES, ALLOWANCE + MAX_RATIO * size)
    chosen, total = [], 0
    for count, member in enumerate(members, start=1):
        total += member.size if member else 0
        if count > MAX_MEMBERS:
            raise BadArchive(f"{archive} has more than {MAX_MEMBERS:,} members: it is refused")
        if total > allowed:
            raise BadArchive(
                f"{archive} would unpack to more than {allowed:,} bytes, out of all proportion to its {size:,}: "
                "it is refused"
            )
        if member and (path := place(member.path)):
            chosen.append(replace(member, path=safe_path(str(path))))
    _check_distinct(archive, chosen)
    return chosen


def _check_distinct(archive: Path, chosen: list[_Member]) -> None:
    """No two members may be one file on any file system, and none may be the folder of another one."""
    files: dict[str, str] = {}
    for member in chosen:
        key = _key(member.path)
        if key in files:
            both = f"{files[key]!r} and {member.name!r}"
            raise BadArchive(f"{archive} has two members for one file, {both}: it is refused")
        files[key] = member.name
    for member in chosen:
        for parent in member.path.parents:
            if _key(parent) in files:
                raise BadArchive(f"{archive} has {files[_key(parent)]!r} as a file and as a folder: it is refused")


def _key(path: PurePosixPath) -> str:
    """Return a key that is equal for names that some file systems take for one: by case, or by composed accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())


def _checked(archive: Path, name: str) -> PurePosixPath:
    # "./", with which `tar cf x.tar .` begins, is the folder itself.
    if name and PurePosixPath(name) == PurePosixPath("."):
        return PurePosixPath(".")
    try:
        return safe_path(name.rstrip("/") or name)
    except ValueError as error:
        raise _bad(archive, name, str(error)) from None


def _bad(archive: Path, name: str, reason: str) -> BadArchive:
    return BadArchive(f"{archive}: member {name[:200]!r} {reason}; nothing of this archive is trusted")
