"""Zip and tar archives of unknown origin, unpacked into one folder and nowhere else.

Every member is judged before anything is written: a name that leaves the folder, a link, a device, an encrypted or
unreadably packed member, two members for one file, or contents out of proportion to the archive refuse the archive as
a whole. Each file is whole or absent, and one that is there with the right size is kept, so that an extraction that
was cut off goes on.
"""

import contextlib
import os
import re
import stat
import tarfile
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from safmn.data.download import Stopped, Watch, check_space
from safmn.errors import UserError
from safmn.files import atomic

CHUNK = 2**20
BLOCK = 512  # of a tar archive, which is made of these
LARGEST_HEADER = 4 * 2**20  # a longer read while a tar's members are listed is an attack on the memory

# Where a member goes below the folder; None leaves it in the archive.
Place = Callable[[PurePosixPath], PurePosixPath | None]


class BadArchive(UserError):
    """Damaged, or not what an honest archive of images would be."""


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        ratio: bytes unpacked for a byte of archive; images hardly shrink, a bomb grows a thousandfold.
        allowance: bytes that need no justification by the archive's size.
        total: bytes.
        members: entries of any kind.
    """

    ratio: float = 20.0
    allowance: int = 64 * 2**20
    total: int = 200 * 2**30
    members: int = 200_000


@dataclass(frozen=True)
class Member:
    """One file of an archive: its name as stored, where it goes below the folder, its size in bytes."""

    name: str
    path: PurePosixPath
    size: int
    entry: zipfile.ZipInfo | tarfile.TarInfo


def extract(
    archive: Path | str,
    folder: Path | str,
    place: Place | None = None,
    *,
    limits: Limits | None = None,
    watch: Watch | None = None,
    stop: threading.Event | None = None,
) -> list[PurePosixPath]:
    """Unpacks an archive's files below a folder.

    Args:
        archive: zip or plain tar; told apart by content.
        folder: made if it is missing.
        place: chooses and renames members; all are taken under their own names if it is None.
        limits: what is accepted.
        watch: is told of ("unpack", bytes done, bytes in all).
        stop: when set, Stopped is raised soon.

    Returns:
        The files, relative to `folder`, in the archive's order: those written and those that were there already.

    Raises:
        BadArchive: damaged, cut short, or refused as the module's docstring says; what was unpacked before is kept.
        UserError: the folder cannot be written or the disk is full.
    """
    archive, folder, limits = Path(archive), Path(folder), limits or Limits()
    with _reading(archive), _open(archive) as source:
        members = _chosen(archive, source.members(limits), place, limits)
        wanted = [member for member in members if _size_of(folder / member.path) != member.size]
        check_space(folder, sum(member.size for member in wanted), f"unpacking {archive.name}")
        done, total = 0, sum(member.size for member in members)
        for member in members:
            if stop is not None and stop.is_set():
                raise Stopped
            if _size_of(folder / member.path) != member.size:
                _write(archive, source, member, folder, stop)
            done += member.size
            if watch is not None:
                watch("unpack", done, total)
    return [member.path for member in members]


def members(archive: Path | str, limits: Limits | None = None) -> list[Member]:
    """The files of an archive, judged as `extract` judges them; raises BadArchive."""
    archive, limits = Path(archive), limits or Limits()
    with _reading(archive), _open(archive) as source:
        return _chosen(archive, source.members(limits), None, limits)


def safe_path(name: str) -> PurePosixPath:
    """A member's name as a path below any folder.

    Raises:
        ValueError: it is absolute, climbs by `..`, is empty, or is no name that every system could have.
    """
    if not name or not name.isprintable():
        raise ValueError("has an empty name or unprintable signs in it")
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


class _Zip:
    """Members of a zip archive."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.file = zipfile.ZipFile(archive)

    def members(self, limits: Limits) -> Iterator[Member]:
        for entry in self.file.infolist():
            name = entry.orig_filename  # as stored: `filename` ends at a NUL
            path = _checked(self.archive, name)
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if entry.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                raise _bad(self.archive, name, "is a link or a device")
            if entry.flag_bits & 1:
                raise _bad(self.archive, name, "is encrypted")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _bad(self.archive, name, "is packed by a method that is not accepted")
            yield Member(name, path, entry.file_size, entry)

    def open(self, member: Member) -> IO[bytes]:
        return self.file.open(member.entry)

    def close(self) -> None:
        self.file.close()


class _Tar:
    """Members of a tar archive that is not compressed."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.raw = _Sparing(archive)
        try:
            self.file = tarfile.open(fileobj=self.raw, mode="r:")  # noqa: SIM115
        except BaseException:
            self.raw.close()
            raise

    def members(self, limits: Limits) -> Iterator[Member]:
        end, count = 0, 0
        while (entry := self.file.next()) is not None:
            count += 1
            if count > limits.members:
                raise _bad(self.archive, entry.name, f"is one of more than {limits.members:,} members")
            path = _checked(self.archive, entry.name)
            end = entry.offset_data
            if entry.isdir():
                continue
            # isreg() is also true of a sparse file, which a few bytes can declare to be of any size.
            if not entry.isreg() or entry.issparse():
                raise _bad(self.archive, entry.name, "is a link, a device or a sparse file")
            if entry.size < 0:
                raise _bad(self.archive, entry.name, "has a negative size")
            end += -(-entry.size // BLOCK) * BLOCK
            yield Member(entry.name, path, entry.size, entry)
        # `tarfile` takes a damaged header for the end of the archive; the true end is a block of zeros.
        self.raw.seek(end)
        if self.raw.read(BLOCK) != bytes(BLOCK):
            raise BadArchive(f"{self.archive} is damaged or cut short: download or copy it again")

    def open(self, member: Member) -> IO[bytes]:
        return self.file.extractfile(member.entry)

    def close(self) -> None:
        self.file.close()
        self.raw.close()


class _Sparing:
    """A file for `tarfile` that refuses to read much at once: a header can claim to be gigabytes long."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "rb")  # noqa: SIM115
        self.name = str(path)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        self.file.close()


@contextlib.contextmanager
def _open(archive: Path) -> Iterator[_Zip | _Tar]:
    with open(archive, "rb") as file:
        head = file.read(BLOCK)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        source = _Zip(archive)
    elif head[257:262] == b"ustar" or head == bytes(BLOCK):
        source = _Tar(archive)
    elif head[:3] in (b"\x1f\x8b\x08", b"BZh", b"\xfd7z"):
        raise BadArchive(f"{archive} is compressed as a whole: decompress it first, only zip and plain tar are read")
    else:
        raise BadArchive(f"{archive} is no zip or tar archive (it begins with {head[:8]!r}): download it again")
    try:
        yield source
    finally:
        source.close()


@contextlib.contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turns what the two libraries raise on damaged archives into one message."""
    try:
        yield
    except UserError:
        raise
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        ValueError,
        IndexError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadArchive(f"{archive} is damaged or cut short ({reason}): download or copy it again") from error
    except OSError as error:
        raise UserError(f"{archive} cannot be read ({error.strerror or error}): check the path") from error


def _chosen(archive: Path, found: Iterator[Member], place: Place | None, limits: Limits) -> list[Member]:
    """The members to extract, after all have been judged."""
    allowed = min(limits.total, limits.allowance + int(limits.ratio * archive.stat().st_size))
    chosen, total = [], 0
    for count, member in enumerate(found, start=1):
        total += member.size
        if count > limits.members:
            raise BadArchive(f"{archive} has more than {limits.members:,} members: it is refused")
        if total > allowed:
            raise BadArchive(
                f"{archive} would unpack to more than {allowed:,} bytes, out of all proportion to its "
                f"{archive.stat().st_size:,}: it is refused"
            )
        path = member.path if place is None else place(member.path)
        if path is not None:
            chosen.append(Member(member.name, safe_path(str(path)), member.size, member.entry))
    _check_distinct(archive, chosen)
    return chosen


def _check_distinct(archive: Path, chosen: list[Member]) -> None:
    """No two members may fall on one file, on any file system, and none may be another one's folder."""
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
    """Equal for names that some file systems take for one: by case, or by composition of accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())


def _write(
    archive: Path, source: _Zip | _Tar, member: Member, folder: Path, stop: threading.Event | None = None
) -> None:
    """One member, whole or not at all."""
    target = folder / member.path
    # Not through a link that somebody left in the folder.
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{target.parent} leads out of {folder}: remove that link and repeat")
    with atomic(target) as temporary:
        with source.open(member) as packed, open(temporary, "wb") as file:
            written = 0
            while chunk := _read(archive, packed, member):
                if stop is not None and stop.is_set():
                    raise Stopped
                written += len(chunk)
                if written > member.size:
                    break
                file.write(chunk)
        if written != member.size:
            raise _bad(archive, member.name, f"has not the {member.size:,} bytes that it is said to have")


def _read(archive: Path, packed: IO[bytes], member: Member) -> bytes:
    try:
        return packed.read(CHUNK)
    except OSError as error:  # would pass for trouble with the file being written
        raise _bad(archive, member.name, f"cannot be read ({error.strerror or error})") from error


def _checked(archive: Path, name: str) -> PurePosixPath:
    try:
        return safe_path(name.rstrip("/") or name)
    except ValueError as error:
        # "./", which `tar cf x.tar .` begins with, is the folder itself.
        if PurePosixPath(name) == PurePosixPath("."):
            return PurePosixPath(".")
        raise _bad(archive, name, str(error)) from None


def _bad(archive: Path, name: str, reason: str) -> BadArchive:
    return BadArchive(f"{archive}: member {name[:200]!r} {reason}; nothing of this archive is trusted")


def _size_of(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None
