"""One file from the web to the disk: resumed where it was cut off, verified, and under its final name only when whole.

While it is under way a file is called `<name>.part`, and `<name>.part.json` beside it says which version of which URL
it is a part of. Checksums that nobody published are recorded in `checksums.json` of the folder when they are first
seen, and compared from then on.
"""

import contextlib
import datetime
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from safmn.data.remote import Remote
from safmn.errors import UserError
from safmn.files import read_json, sync_folder, write_json

CHUNK = 2**20
RECORD = "checksums.json"
RESERVE = 32 * 2**20  # bytes of disk that are left to others

# HTTP: too slow, too early, too many requests, and the server's own troubles, which pass.
PASSING = {408, 425, 429, 500, 502, 503, 504}

# What a file must begin with where no checksum tells it from a web page of apologies: (offset, alternatives).
BEGINNINGS = {
    ".pth": (0, (b"PK\x03\x04", b"\x80")),
    ".pt": (0, (b"PK\x03\x04", b"\x80")),
    ".zip": (0, (b"PK\x03\x04", b"PK\x05\x06")),
    ".tar": (257, (b"ustar",)),
}

# Called with what is being done ("download", "verify", "wait"), bytes done, bytes in all or None.
Watch = Callable[[str, int, int | None], None]


class Unavailable(UserError):
    """No source delivered the file; another file with the same content may be tried instead."""


class Stopped(Exception):
    """The user stopped the download; what is there is kept."""


class _Trouble(Exception):
    """May pass: try the same URL again."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Refusal(Exception):
    """This URL will not deliver the file."""


class _Wrong(_Refusal):
    """All bytes are there, but not the right ones."""


@dataclass(frozen=True)
class Patience:
    """How long to put up with a bad connection.

    Attributes:
        attempts: in a row that brought no new byte, for each URL.
        first_wait: seconds before the second attempt, doubled from one to the next.
        longest_wait: seconds, also where the server asks for more.
        connect: seconds until a connection must stand.
        silence: seconds without a byte after which a connection is taken for dead.
        redirects: how many are followed.
    """

    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 30.0
    connect: float = 20.0
    silence: float = 60.0
    redirects: int = 10


def client(patience: Patience | None = None) -> httpx.Client:
    """A connection pool for any number of downloads at once."""
    patience = patience or Patience()
    return httpx.Client(
        follow_redirects=True,
        max_redirects=patience.redirects,
        timeout=httpx.Timeout(patience.silence, connect=patience.connect),
        # Content must arrive as stored: its size and checksum are those of the stored file.
        headers={"Accept-Encoding": "identity", "User-Agent": "safmn-harness"},
    )


def download(
    remote: Remote,
    folder: Path | str,
    *,
    connections: httpx.Client | None = None,
    patience: Patience | None = None,
    watch: Watch | None = None,
    stop: threading.Event | None = None,
) -> Path:
    """Downloads a file into a folder, or verifies the one that is there.

    Args:
        remote: what and where from; its URLs are tried in turn.
        folder: made if it is missing.
        connections: a pool to share, from `client`.
        patience: with bad connections.
        watch: is told of progress.
        stop: when set, Stopped is raised soon.

    Returns:
        The file, whole and verified.

    Raises:
        Unavailable: no URL delivered it; the message has each one's reason. What arrived and may be right is kept.
        UserError: a file of that name is there already and is another one; the disk is full or cannot be written.
        Stopped: `stop` was set.
    """
    folder, patience = Path(folder), patience or Patience()
    watch, stop = watch or (lambda *_: None), stop or threading.Event()
    final = folder / remote.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}; choose another folder") from error
    with alone(final, watch, stop):
        if final.exists():
            _check_present(remote, final, watch, stop)
            return final
        with contextlib.ExitStack() as stack:
            connections = connections or stack.enter_context(client(patience))
            _Download(remote, final, connections, patience, watch, stop).run()
    return final


@contextlib.contextmanager
def alone(path: Path, watch: Watch | None = None, stop: threading.Event | None = None) -> Iterator[None]:
    """Keeps others off `path`, in this process or another; waits for them. The lock goes when its holder dies."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    while True:
        try:
            lock.acquire(timeout=0.2)
            break
        except Timeout:
            if watch is not None:
                watch("wait", 0, None)
            if stop is not None and stop.is_set():
                raise Stopped from None
        except OSError as error:
            raise UserError(f"cannot write into {path.parent}: {error.strerror or error}; choose another") from error
    try:
        yield
    finally:
        lock.release()


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises UserError where the disk of `folder` (or of what is there of its path) has not `needed` bytes free."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed > 0 and free < needed + RESERVE:
        raise UserError(
            f"{what} needs {megabytes(needed)} in {folder}, where {megabytes(free)} are free: "
            "free some or choose another folder"
        )


def megabytes(size: int | None) -> str:
    """`"12.3 MB"` (10**6 bytes), or `"unknown size"`."""
    return "unknown size" if size is None else f"{size / 1e6:,.1f} MB"


def checksums(
    path: Path, names: tuple[str, ...] = ("sha256",), watch: Watch | None = None, stop: threading.Event | None = None
) -> dict[str, str]:
    """The checksums of a file that `names` asks for ("sha256", "md5"), lower-case hex."""
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    size, done = path.stat().st_size, 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            if stop is not None and stop.is_set():
                raise Stopped
            for each in sums.values():
                each.update(chunk)
            done += len(chunk)
            if watch is not None:
                watch("verify", done, size)
    return {name: each.hexdigest() for name, each in sums.items()}


class _Download:
    """One file on its way."""

    def __init__(
        self,
        remote: Remote,
        final: Path,
        connections: httpx.Client,
        patience: Patience,
        watch: Watch,
        stop: threading.Event,
    ) -> None:
        self.remote = remote
        self.final = final
        self.part = final.with_name(f"{final.name}.part")
        self.note = final.with_name(f"{final.name}.part.json")
        self.connections = connections
        self.patience = patience
        self.watch = watch
        self.stop = stop
        # Whether the bytes came in one go, so that wrong ones are the server's fault and not that of the pieces.
        self.in_one_go = False

    def run(self) -> None:
        """Tries the URLs in turn until one delivers the file."""
        if self.remote.size is not None:
            check_space(self.final.parent, self.remote.size - self._length(), self.remote.name)
        reasons = []
        for url in self.remote.urls:
            try:
                sums = self._from(url)
            except _Refusal as refusal:
                reasons.append(f"{url}: {refusal}")
                continue
            if not self.remote.sha256:
                _record(self.final, sums["sha256"], url)
            self._finish()
            return
        kept = self._length()
        rest = f"; {megabytes(kept)} are kept in {self.part}, a repeat goes on there" if kept else ""
        raise Unavailable(f"cannot download {self.remote.name} ({'; '.join(reasons)}){rest}: try later or elsewhere")

    def _from(self, url: str) -> dict[str, str]:
        """The file from one URL, verified; returns its checksums."""
        failures, reached, wait, afresh = 0, self._length(), self.patience.first_wait, False
        while True:
            try:
                self._transfer(url)
                return self._verify()
            except _Wrong:
                # Pieces of different versions, or a bad piece left by someone else: once more, from the start.
                whole, self.in_one_go = self.in_one_go, False
                self._discard()
                if whole or afresh:
                    raise
                afresh, reached = True, 0
            except _Trouble as trouble:
                # A server that cuts every connection still gets us there, as long as each brings something new.
                if self._length() > reached:
                    failures, reached, wait = 0, self._length(), self.patience.first_wait
                else:
                    failures += 1
                if failures >= self.patience.attempts:
                    raise _Refusal(f"{trouble}, {failures} times in a row") from trouble
                if self.stop.wait(min(max(wait, trouble.wait or 0), self.patience.longest_wait)):
                    raise Stopped from None
                wait *= 2

    def _transfer(self, url: str) -> None:
        """One connection: appends to the part what is missing, as far as it gets."""
        noted = self._noted()
        have = self._length()
        same_url = noted.get("url") == url
        validator = noted.get("etag") or noted.get("last_modified") if same_url else None
        # Without a checksum to judge the outcome, only the same version of the same URL may be continued.
        if have and not (self.remote.has_checksum or validator):
            have = self._discard()
        if self.remote.size is not None and have > self.remote.size:
            have = self._discard()
        if have and have == (noted.get("size") if self.remote.size is None else self.remote.size):
            return  # only verification was left
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and validator:
            headers["If-Range"] = validator
        try:
            with self.connections.stream("GET", url, headers=headers) as response:
                self._receive(url, response, have, validator)
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
            raise _Refusal(f"cannot be asked for ({_reason(error)})") from error
        except httpx.TooManyRedirects as error:
            raise _Refusal(f"redirects more than {self.patience.redirects} times") from error
        except httpx.TimeoutException as error:
            raise _Trouble("no answer in time") from error
        except httpx.RequestError as error:
            raise _Trouble(_reason(error)) from error

    def _receive(self, url: str, response: httpx.Response, have: int, validator: str | None) -> None:
        _check_redirects(url, response)
        if response.status_code == 416 and have:
            if _total(response) != have:  # else only verification was left
                self._discard()
                raise _Trouble("HTTP 416 to the part that is here")
            return
        _check_status(response)
        total = _total(response)
        if self.remote.size is not None and total not in (None, self.remote.size):
            raise _Refusal(f"offers {total:,} bytes instead of {self.remote.size:,}")
        if (
            total is None
            and self.remote.size is None
            and "chunked" not in response.headers.get("transfer-encoding", "")
        ):
            raise _Refusal("does not say how long the file is, so that a cut one could not be told from a whole one")
        start = _start(response)
        new = {"etag": _strong_etag(response), "last_modified": response.headers.get("last-modified")}
        changed = validator is not None and validator not in new.values()
        if response.status_code == 206 and (start != have or changed):
            self._discard()
            raise _Trouble("answers with another part than the one asked for")
        # A server that knows no ranges sends everything; of the same version, what is here already is passed over.
        keep = 0 if changed else have
        expected = total if total is not None else self.remote.size
        check_space(self.final.parent, (expected or 0) - keep, self.remote.name)
        write_json(self.note, {"url": url, **new, "size": expected})
        self.in_one_go = keep == 0
        self._write(response, keep, start, expected)
        if expected is not None and self._length() < expected:
            raise _Trouble(f"ends after {self._length():,} of {expected:,} bytes")
        if expected is None:
            write_json(self.note, {"url": url, **new, "size": self._length()})

    def _write(self, response: httpx.Response, keep: int, start: int, expected: int | None) -> None:
        """Puts the body, which begins at `start` of the file, behind the first `keep` bytes of the part."""
        done, passed_over, limit = keep, keep - start, expected if expected is not None else self.remote.limit
        with self._open(keep) as file:
            for chunk in response.iter_raw():
                if self.stop.is_set():
                    raise Stopped
                if passed_over:
                    chunk, passed_over = chunk[passed_over:], max(0, passed_over - len(chunk))
                done += len(chunk)
                if done > limit:
                    raise _Refusal(f"sends more than {limit:,} bytes")
                rest = memoryview(chunk)
                while rest:  # an unbuffered write may take a part only
                    rest = rest[file.write(rest) :]
                self.watch("download", done, expected)

    @contextlib.contextmanager
    def _open(self, keep: int) -> Iterator:
        try:
            # Unbuffered: whatever was received is in the file when the process is killed.
            file = open(self.part, "r+b" if self.part.exists() else "wb", buffering=0)  # noqa: SIM115
            with file:
                file.truncate(keep)
                file.seek(keep)
                yield file
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(
            f"cannot write {self.part}: {error.strerror or error}; what is there is kept: free some space or choose "
            "another folder, and repeat"
        )

    def _verify(self) -> dict[str, str]:
        size = self._length()
        if self.remote.size is not None and size != self.remote.size:
            raise _Wrong(f"has {size:,} bytes instead of {self.remote.size:,}")
        if not self.remote.has_checksum:
            _check_beginning(self.part, self.remote.name)
        sums = checksums(self.part, _kinds(self.remote), self.watch, self.stop)
        difference = _difference(self.remote, self.final, sums)
        if difference:
            raise _Wrong(difference)
        return sums

    def _finish(self) -> None:
        try:
            with open(self.part, "rb+") as file:
                os.fsync(file.fileno())
            self.part.replace(self.final)
            sync_folder(self.final.parent)
            self.note.unlink(missing_ok=True)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _length(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _discard(self) -> int:
        """Removes the part; returns 0, its length from now on."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        return 0

    def _noted(self) -> dict:
        """What the note beside the part says; nothing where it is missing or damaged."""
        try:
            noted = read_json(self.note)
        except UserError:
            return {}
        return noted if isinstance(noted, dict) else {}


def _check_present(remote: Remote, final: Path, watch: Watch, stop: threading.Event) -> None:
    """A file that is there under the final name: verified, never touched."""
    advice = "move it away and repeat"
    if not final.is_file():
        raise UserError(f"{final} is there already, but is no file: {advice}")
    size = final.stat().st_size
    if remote.size is not None and size != remote.size:
        raise UserError(f"{final} is there already, but has {size:,} bytes instead of {remote.size:,}: {advice}")
    if not remote.has_checksum:
        try:
            _check_beginning(final, remote.name)
        except _Wrong as wrong:
            raise UserError(f"{final} is there already, but {wrong}: {advice}") from wrong
    sums = checksums(final, _kinds(remote), watch, stop)
    difference = _difference(remote, final, sums)
    if difference:
        raise UserError(f"{final} is there already, but {difference}: {advice}")
    if not remote.sha256:
        _record(final, sums["sha256"], None)


def _kinds(remote: Remote) -> tuple[str, ...]:
    return ("sha256", "md5") if remote.md5 else ("sha256",)


def _difference(remote: Remote, final: Path, sums: dict[str, str]) -> str | None:
    """How the checksums differ from the published ones, or from the one recorded earlier where none is published."""
    for name in ("sha256", "md5"):
        published = getattr(remote, name)
        if published and sums[name] != published:
            return f"its {name} is {sums[name]} instead of {published}, the published one"
    if remote.sha256:
        return None
    entry = _recorded(final).get(final.name)
    if entry and entry.get("sha256") != sums["sha256"]:
        record = final.with_name(RECORD)
        return (
            f"its sha256 is {sums['sha256']} instead of {entry.get('sha256')}, which {record} has since "
            f"{entry.get('first_seen')} (delete that entry if you trust the new one)"
        )
    return None


def _recorded(final: Path) -> dict[str, dict]:
    record = final.with_name(RECORD)
    if not record.exists():
        return {}
    entries = read_json(record)
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise UserError(f"{record} is not a record of checksums: delete it, and files count as seen for the first time")
    return entries


def _record(final: Path, sha256: str, url: str | None) -> None:
    """Writes down a checksum that nobody published; the first one stays."""
    with alone(final.with_name(RECORD)):
        entries = _recorded(final)
        if final.name in entries:
            return
        entries[final.name] = {
            "sha256": sha256,
            "url": url,  # None: the file was there already
            "first_seen": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        write_json(final.with_name(RECORD), dict(sorted(entries.items())))


def _check_beginning(path: Path, name: str) -> None:
    known = BEGINNINGS.get(Path(name).suffix)
    if known is None:
        return
    offset, beginnings = known
    with open(path, "rb") as file:
        head = file.read(offset + 16)
    if not head[offset:].startswith(beginnings):
        raise _Wrong(f"is no {Path(name).suffix} file (it begins with {head[:16]!r})")


def _check_redirects(url: str, response: httpx.Response) -> None:
    if url.startswith("https:") and any(each.url.scheme != "https" for each in [*response.history, response]):
        raise _Refusal("redirects to a connection that is not encrypted")


def _check_status(response: httpx.Response) -> None:
    """Raises unless this is the file or a part of it."""
    code = response.status_code
    if code in PASSING:
        asked = response.headers.get("retry-after", "")
        raise _Trouble(f"HTTP {code}", float(asked) if re.fullmatch(r"[0-9]{1,5}", asked) else None)
    if code not in (200, 206):
        raise _Refusal(f"HTTP {code}")
    if response.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise _Refusal("sends the file in another encoding, although asked not to")
    if response.headers.get("content-type", "").lower().startswith("text/html"):
        raise _Refusal("sends a web page instead of the file")


def _total(response: httpx.Response) -> int | None:
    """Bytes of the whole file, if the response says so."""
    if response.status_code == 200:
        text = response.headers.get("content-length", "")
    else:
        text = response.headers.get("content-range", "").rpartition("/")[2]
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _start(response: httpx.Response) -> int:
    """Where in the file the body begins; -1 where a partial answer does not say."""
    if response.status_code == 200:
        return 0
    match = re.match(r"bytes ([0-9]{1,18})-", response.headers.get("content-range", ""))
    return int(match[1]) if match else -1


def _strong_etag(response: httpx.Response) -> str | None:
    """The version of the content; a weak one (`W/`) may not be used for ranges (RFC 9110, section 13.1.5)."""
    etag = response.headers.get("etag")
    return None if etag is None or etag.startswith("W/") else etag


def _reason(error: Exception) -> str:
    text = str(error).splitlines()
    return text[0] if text and text[0] else type(error).__name__


def remaining(remote: Remote, folder: Path) -> int:
    """Bytes that are still to be downloaded, as far as they are known."""
    final, part = folder / remote.name, folder / f"{remote.name}.part"
    if remote.size is None or final.exists():
        return 0
    return max(0, remote.size - (part.stat().st_size if part.is_file() else 0))
