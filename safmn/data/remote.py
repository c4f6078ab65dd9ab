"""What is known of a file before it is downloaded, and the mirrors and corrections that a user may put in its place."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from safmn.errors import UserError

MIRROR = "SAFMN_MIRROR"
CORRECTIONS = "SAFMN_CORRECTIONS"


@dataclass(frozen=True)
class Remote:
    """A file on the web.

    Attributes:
        name: what it is called here.
        urls: where it is, tried in turn.
        size: bytes, None where nobody published it.
        sha256: published checksum, lower-case hex; None where there is none, then the one seen first is recorded.
        md5: likewise, for publishers who give no better one.
        limit: bytes at which a download of unknown size is broken off.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    limit: int = 16 * 2**30

    @property
    def has_checksum(self) -> bool:
        """Whether a checksum was published, so that any bytes can be told from the right ones."""
        return bool(self.sha256 or self.md5)

    @property
    def host(self) -> str:
        """Where it comes from first, for messages."""
        return urlsplit(self.urls[0]).hostname or ""


@dataclass(frozen=True)
class Corrections:
    """What a user knows better than the catalogue: a mirror, other sizes and checksums, sets of fewer images.

    Attributes:
        base: replaces scheme and host of every URL; None for the original sources.
        files: file name -> size, sha256, md5 (None: unknown), in place of the published ones.
        images: dataset -> how many images it has, for a mirror that serves a part of it.
    """

    base: str | None = None
    files: dict[str, dict[str, Any]] | None = None
    images: dict[str, int] | None = None

    def apply(self, remote: Remote) -> Remote:
        """The file as it is to be downloaded."""
        if self.base:
            urls = (self.base + urlsplit(url)._replace(scheme="", netloc="").geturl() for url in remote.urls)
            remote = replace(remote, urls=tuple(dict.fromkeys(urls)))
        if self.files and remote.name in self.files:
            known = self.files[remote.name]
            remote = replace(remote, **{field: known.get(field) for field in ("size", "sha256", "md5")})
        return remote


def corrections(base: str | None = None, file: Path | str | None = None) -> Corrections:
    """From a base URL and a JSON file, by default those that SAFMN_MIRROR and SAFMN_CORRECTIONS name.

    The file: `{"files": {"benchmark.tar": {"size": 123, "sha256": "..."}}, "images": {"Set5": 2}}`, both optional.

    Raises:
        UserError: a base that is no http(s) URL, a file that cannot be read or has something else in it.
    """
    base = base or os.environ.get(MIRROR) or None
    if base is not None:
        base = _checked_base(base)
    file = file or os.environ.get(CORRECTIONS) or None
    if file is None:
        return Corrections(base)
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not readable JSON ({error}): correct the path or the file") from error
    problem = _problem(content)
    if problem:
        raise UserError(f"{file}: {problem}")
    return Corrections(base, content.get("files", {}), content.get("images", {}))


def _checked_base(base: str) -> str:
    try:
        parts = urlsplit(base)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        parts.port  # noqa: B018 (raises where it is no number)
    except ValueError:
        good = False
    if not good:
        raise UserError(f"base URL {base!r} is not one: give http://HOST[:PORT][/FOLDER] or https://...")
    return base.rstrip("/")


def _problem(content: Any) -> str | None:
    """What is wrong with a file of corrections, None if nothing is."""
    if not isinstance(content, dict) or not content.keys() <= {"files", "images"}:
        return 'must be an object with "files" and "images"'
    if not all(isinstance(part, dict) for part in content.values()):
        return '"files" and "images" must be objects'
    for name, known in content.get("files", {}).items():
        if not isinstance(known, dict) or not known.keys() <= {"size", "sha256", "md5"}:
            return f"files: {name} must be an object with size, sha256 and md5"
        size = known.get("size")
        if size is not None and (type(size) is not int or size < 0):
            return f"files: the size of {name} must be a number of bytes"
        for field, length in (("sha256", 64), ("md5", 32)):
            value = known.get(field)
            if value is not None and not (
                isinstance(value, str) and len(value) == length and set(value) <= set("0123456789abcdef")
            ):
                return f"files: the {field} of {name} must be {length} lower-case hexadecimal digits"
    for name, number in content.get("images", {}).items():
        if type(number) is not int or number < 1:
            return f"images: {name} must be a number of images"
    return None
