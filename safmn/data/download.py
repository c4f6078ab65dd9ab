"""Download one file with curl: resumed where it was cut off, verified, and under its final name only when complete.

An incomplete file is called `<name>.part`. Checksums that nobody published are recorded in `checksums.json` of the
folder when first seen, and compared later. A file without a published checksum is resumed only if the server still
sends the same ETag, Last-Modified and size as at first, which `.<name>.version` keeps; else it is downloaded anew.
"""

import datetime
import hashlib
import http.client
import io
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Literal

from safmn.data.remote import Remote
from safmn.errors import UserError
from safmn.files import check_space, megabytes, read_json, sync_folder, write_json
from safmn.locks import POLL, hold

CHUNK = 2**20
RECORD = "checksums.json"

ATTEMPTS = 5  # for each URL, in a row without a new byte
FIRST_WAIT = 1.0  # seconds before the second attempt; doubled from one attempt to the next
MAX_WAIT = 30.0  # seconds between attempts, also where the server asks for more
MAX_CONNECT = 20  # seconds until a connection must be established
MAX_SILENCE = 60  # seconds without a byte after which a connection is given up

TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
"""HTTP status codes after which the same URL is tried again."""

# curl's exit codes after which it is not: protocol, URL, redirects, certificate.
FINAL = {1, 3, 47, 60}
CANNOT_RESUME = 33

MAGIC = {
    ".pth": (0, (b"PK\x03\x04", b"\x80")),
    ".pt": (0, (b"PK\x03\x04", b"\x80")),
    ".zip": (0, (b"PK\x03\x04", b"PK\x05\x06")),
    ".tar": (257, (b"ustar",)),
}
"""Suffix -> offset and alternatives of the bytes there; tells a file without a checksum from a web page."""

Watch = Callable[[str, int, int | None], None]
"""Called often with a stage, bytes done, and bytes in all or None; raises Stopped to end the work.

Stages: "download", "verify", "unpack", "wait" (for another process), "retry" (wait after a failure).
"""


class Unavailable(UserError):
    """No source delivered the file; another file with the same content may be tried instead."""


class Stopped(Exception):
    """The work was stopped; what arrived is kept."""


class _Transient(Exception):
    """The same URL may deliver the file later; `wait`: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Refused(Exception):
    """This URL does not deliver the file."""


class _Wrong(_Refused):
    """The file is complete, but is not the right one."""


def download(
    remote: Remote,
    folder: Path | str,
    *,
    attempts: int = ATTEMPTS,
    watch: Watch = lambda stage, done, total: None,
) -> Path:
    """Download a file into a folder, or verify the one that is already there.

    Args:
        remote: the file; its URLs are tried in turn.
        folder: made if it is missing.
        attempts: for each URL, in a row without a new byte.
        watch: receives the progress.

    Returns:
        The path of the complete and verified file.

    Raises:
        Unavailable: no URL delivered it; the message has the reason for each. What arrived is kept.
        UserError: another file has that name, curl is missing, or the disk is full or cannot be written.
        Stopped: `watch` raised it.
    """
    job = _Job(remote, Path(folder) / remote.name, attempts, watch)
    with hold(lock_of(job.final), lambda: watch("wait", 0, None)):
        if job.final.exists():
            job.check_existing()
        else:
            job.run()
    return job.final


def lock_of(path: Path) -> Path:
    """Return the file whose lock keeps others off `path`."""
    return path.with_name(f".{path.name}.lock")


def require_curl() -> None:
    """Raise UserError where curl is not installed."""
    if shutil.which("curl") is None:
        raise UserError("downloads need curl, which is not installed: install it with your system's package manager")


def checksums(
    path: Path, names: tuple[str, ...] = ("sha256",), watch: Watch = lambda stage, done, total: None
) -> dict[str, str]:
    """Compute checksums of a file ("sha256", "md5"), lower-case hex."""
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    size, done = path.stat().st_size, 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            for value in sums.values():
                value.update(chunk)
            done += len(chunk)
            watch("verify", done, size)
    return {name: value.hexdigest() for name, value in sums.items()}


def remaining(remote: Remote, folder: Path) -> int:
    """Return how many bytes are still to be downloaded, as far as the size is known."""
    final = folder / remote.name
    if remote.size is None or final.exists():
        return 0
    return max(0, remote.size - _length(final.with_name(f"{final.name}.part")))


@dataclass
class _Job:
    """One file on its way; the arguments of `download`."""

    remote: Remote
    final: Path
    attempts: int
    watch: Watch

    def __post_init__(self) -> None:
        self.part = self.final.with_name(f"{self.final.name}.part")
        self.version = self.final.with_name(f".{self.final.name}.version")  # of the part, without a published checksum

    def check_existing(self) -> None:
        """Verify the file that has the final name; it is never changed."""
        try:
            self._verify(self.final, url=None)
        except _Wrong as wrong:
            raise UserError(f"{self.final} is there already, but {wrong}: move it away and repeat") from wrong

    def run(self) -> None:
        """Try the URLs in turn until one delivers the file."""
        require_curl()
        if self.remote.size is not None:
            check_space(self.final.parent, self.remote.size - _length(self.part), self.remote.name)
        reasons = []
        for url in self.remote.urls:
            try:
                self._fetch(url)
            except _Refused as refused:
                reasons.append(f"{url}: {refused}")
            else:
                self._finish()
                return
        kept = _length(self.part) if self._can_resume() else self._discard()
        hint = f"; {megabytes(kept)} are kept in {self.part}, a repeat resumes there" if kept else ""
        raise Unavailable(f"cannot download {self.remote.name} ({'; '.join(reasons)}){hint}: try later or elsewhere")

    def _fetch(self, url: str) -> None:
        """Download the file from one URL, with as many connections as needed, and verify it."""
        failures, reached, wait, restarted = 0, _length(self.part), FIRST_WAIT, False
        while True:
            resumed = _length(self.part) > 0
            try:
                self._connect(url)
                self._verify(self.part, url)
                return
            except _Wrong:
                # The part may have been another version's: try once more from the start.
                self._discard()
                if restarted or not resumed:
                    raise
                restarted, reached = True, 0
            except _Transient as trouble:
                if _length(self.part) > reached:
                    failures, reached, wait = 0, _length(self.part), FIRST_WAIT
                else:
                    failures += 1
                if failures >= self.attempts:
                    raise _Refused(f"{trouble}, {failures} times in a row") from trouble
                self._pause(min(max(wait, trouble.wait), MAX_WAIT))
                wait *= 2

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.watch("retry", 0, None)
            time.sleep(min(seconds, POLL))

    def _connect(self, url: str) -> None:
        """Run curl once; it appends to the part."""
        have = _length(self.part)
        if not self._can_resume() or (self.remote.size is not None and have > self.remote.size):
            have = self._discard()
        if have and have == self.remote.size:
            return  # only the verification is missing
        command = self._command(url, have)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, bufsize=0) as curl:
            assert isinstance(curl.stdout, io.FileIO)
            assert curl.stderr is not None
            try:
                outcome = self._receive(curl.stdout, url, have)
            except BaseException:
                curl.kill()
                raise
            if outcome in ("complete", "other"):
                curl.kill()  # the body, of any length, is not needed
            message = curl.stderr.read().decode(errors="replace").strip().partition(") ")[2]
        if outcome == "complete":
            return
        if outcome == "other" or (curl.returncode == CANNOT_RESUME and have):
            self._discard()
            self._connect(url)
        elif curl.returncode in FINAL:
            raise _Refused(message)
        elif curl.returncode:
            raise _Transient(message or f"curl ended with status {curl.returncode}")
        elif outcome == "nothing":
            raise _Refused("no answer")

    def _command(self, url: str, have: int) -> list[str]:
        """Return the call of curl that writes headers and the body from byte `have` on to its output."""
        redirects = "=https" if url.startswith("https:") else "=http,https"
        command = ["curl", "--disable", "--silent", "--show-error", "--include", "--no-buffer", "--globoff"]
        command += ["--suppress-connect-headers", "--user-agent", "safmn-harness", "--proto", "=http,https"]
        command += ["--location", "--max-redirs", "10", "--proto-redir", redirects]
        command += ["--connect-timeout", str(MAX_CONNECT)]
        command += ["--speed-limit", "1", "--speed-time", str(MAX_SILENCE)]
        if have:
            command += ["--continue-at", str(have)]
        return [*command, "--url", url]

    def _receive(self, stream: io.FileIO, url: str, have: int) -> Literal["appended", "complete", "other", "nothing"]:
        """Check the headers that curl passes on, and append the body to the part.

        Returns:
            "appended"; "complete" if the part has all bytes already; "other" if it cannot be resumed, but downloaded
            anew; "nothing" if there is no answer, which curl's exit status explains.
        """
        self._await(stream, have, self.remote.size)
        version, status, headers = _read_headers(stream)
        length = _number(headers.get("content-length"))
        if status == 416 and have:  # the part is complete or wrong, which the verification tells
            return "complete" if self.remote.has_checksum else "other"
        if status == 200 and have:  # a server without ranges
            is_same = self.remote.has_checksum or self._recorded() == _version(url, headers, length)
            return "complete" if length == have and is_same else "other"
        if not status or (300 <= status < 400 and headers.get("location")):
            return "nothing"
        if status in TRANSIENT:
            raise _Transient(f"HTTP {status}", _number(headers.get("retry-after")) or 0)
        if status not in (200, 206):
            raise _Refused(f"HTTP {status}")
        if headers.get("content-type", "").lower().startswith("text/html"):
            raise _Refused("sends a web page instead of the file")
        total = self.remote.size if length is None else have + length
        if not have and self.remote.size not in (None, total):
            raise _Refused(f"offers {total:,} bytes instead of {self.remote.size:,}")
        if total is None and version.startswith("HTTP/1") and "transfer-encoding" not in headers:
            raise _Refused("does not say how long the file is, so that an incomplete file could not be detected")
        if have and not self.remote.has_checksum and self._recorded() != _version(url, headers, total):
            return "other"
        check_space(self.final.parent, (total or 0) - have, self.remote.name)
        if not self.remote.has_checksum and not have:
            self._record(_version(url, headers, total))
        self._append(stream, have, total)
        if total is not None and _length(self.part) < total:
            raise _Transient(f"ends after {_length(self.part):,} of {total:,} bytes")
        return "appended"

    def _can_resume(self) -> bool:
        return self.remote.has_checksum or self._recorded() != ""

    def _recorded(self) -> str:
        """Return the version that the part is of; "" if that is unknown."""
        return self.version.read_text(encoding="utf-8", errors="replace") if self.version.is_file() else ""

    def _record(self, version: str) -> None:
        try:
            self.version.write_text(version, encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error

    def _append(self, stream: io.FileIO, done: int, total: int | None) -> None:
        limit = self.remote.limit if total is None else total
        try:
            with open(self.part, "ab", buffering=0) as file:
                while chunk := stream.read(CHUNK):
                    done += len(chunk)
                    if done > limit:
                        raise _Refused(f"sends more than {limit:,} bytes")
                    rest = memoryview(chunk)
                    while rest:  # an unbuffered write may take less than all
                        rest = rest[file.write(rest) :]
                    self.watch("download", done, total)
                    self._await(stream, done, total)
        except OSError as error:
            raise self._unwritable(error) from error

    def _await(self, stream: io.FileIO, done: int, total: int | None) -> None:
        """Wait for more from curl; `watch` may end the work meanwhile."""
        while not select.select([stream], [], [], POLL)[0]:
            self.watch("download", done, total)

    def _verify(self, path: Path, url: str | None) -> None:
        """Raise _Wrong unless `path` has the right size and checksums; record the first checksum seen.

        Args:
            path: the part, or the file that was there before.
            url: where it comes from; None where that is unknown.
        """
        if not path.is_file():
            raise _Wrong("is not a file")
        size = path.stat().st_size
        if self.remote.size not in (None, size):
            raise _Wrong(f"has {size:,} bytes instead of {self.remote.size:,}")
        if not self.remote.has_checksum:
            _check_magic(path, self.remote.name)
        sums = checksums(path, ("sha256", "md5") if self.remote.md5 else ("sha256",), self.watch)
        for name, published in (("sha256", self.remote.sha256), ("md5", self.remote.md5)):
            if published and sums[name] != published:
                raise _Wrong(f"its {name} is {sums[name]} instead of {published}, the published one")
        if not self.remote.sha256:
            _compare_with_record(self.final, sums["sha256"], url)

    def _finish(self) -> None:
        """Give the part its final name, safe from a power cut."""
        try:
            with open(self.part, "rb+") as file:
                os.fsync(file.fileno())
            self.part.replace(self.final)
            self.version.unlink(missing_ok=True)
            sync_folder(self.final.parent)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"cannot write {self.part}: {error.strerror or error}; what arrived is kept: free some space or choose "
            "another folder, and repeat"
        )

    def _discard(self) -> int:
        """Remove the part; return its length from now on, 0."""
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)
        return 0


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _read_headers(stream: io.FileIO) -> tuple[str, int, Message]:
    """Read protocol, status code and headers of the last answer before a body; the status is 0 where there is none."""
    version, status, headers = "", 0, Message()
    try:
        while (line := stream.readline().decode("latin-1")).startswith("HTTP/"):
            version, code = line.split()[:2]
            status, headers = int(code), http.client.parse_headers(stream)
            if status >= 200 and not (300 <= status < 400 and headers.get("location")):
                break
    except (ValueError, http.client.HTTPException) as error:
        raise _Refused(f"sends headers that cannot be read ({error})") from error
    return version, status, headers


def _number(text: str | None) -> int | None:
    """Read the number of a header; None where it is missing or none."""
    return int(text) if text and text.isdecimal() and len(text) < 19 else None


def _version(url: str, headers: Message, total: int | None) -> str:
    """Return URL, ETag, Last-Modified and size (bytes) of a version as one line; "" if both headers are missing."""
    marks = [headers.get("etag", ""), headers.get("last-modified", "")]
    return " ".join([url, *marks, str(total)]) if any(marks) else ""


def _compare_with_record(final: Path, sha256: str, url: str | None) -> None:
    """Raise _Wrong where a file differs from the checksum that was recorded first; record it where there is none."""
    record = final.with_name(RECORD)
    with hold(lock_of(record)):
        entries = read_json(record) if record.exists() else {}
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise UserError(
                f"{record} is not a record of checksums: delete it, and files count as seen for the first time"
            )
        entry = entries.get(final.name)
        if entry is None:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            entries[final.name] = {"sha256": sha256, "url": url, "first_seen": now}
            write_json(record, dict(sorted(entries.items())))
        elif entry.get("sha256") != sha256:
            raise _Wrong(
                f"its sha256 is {sha256} instead of {entry.get('sha256')}, which {record} has since "
                f"{entry.get('first_seen')} (delete that entry if you trust the new one)"
            )


def _check_magic(path: Path, name: str) -> None:
    """Raise _Wrong where a file does not begin as its suffix demands."""
    suffix = Path(name).suffix
    offset, alternatives = MAGIC.get(suffix, (0, (b"",)))
    with open(path, "rb") as file:
        head = file.read(offset + 16)
    if not head[offset:].startswith(alternatives):
        raise _Wrong(f"is no {suffix} file (it begins with {head[:16]!r})")
