"""Files on the web: what is known of each before its download, and a user's mirror and corrections."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from safmn.configuration import Section, check, read_yaml
from safmn.errors import UserError


@dataclass(frozen=True)
class Remote:
    """A file on the web.

    Attributes:
        name: its file name here.
        urls: its sources, tried in turn.
        size: bytes; None where it is not published.
        sha256: published checksum in lower-case hex; None where there is none, then the first one seen is recorded.
        md5: likewise, for publishers who give no better one.
        limit: bytes after which a download of unknown size is stopped.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    limit: int = 16 * 2**30

    @property
    def has_checksum(self) -> bool:
        """Return whether a checksum is published."""
        return bool(self.sha256 or self.md5)

    @property
    def host(self) -> str:
        """Return the host of the first source."""
        return urlsplit(self.urls[0]).hostname or ""


class FileFacts(Section):
    """Size in bytes and checksums of a file, in place of the published ones; None: unknown."""

    size: NonNegativeInt | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None


class Corrections(Section):
    """What replaces the facts of the catalogue.

    Attributes:
        base: replaces scheme and host of every URL; None: the original sources.
        files: file name -> its facts.
        images: dataset -> number of images, for a mirror that serves a part of it.
    """

    base: str | None = None
    files: dict[str, FileFacts] = Field(default_factory=dict)
    images: dict[str, PositiveInt] = Field(default_factory=dict)

    @field_validator("base")
    @classmethod
    def _check_base(cls, base: str | None) -> str | None:
        if base is None:
            return None
        try:
            parts = urlsplit(base)
            valid = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
            parts.port  # noqa: B018 (raises ValueError where it is not a number)
        except ValueError:
            valid = False
        if not valid:
            raise UserError(f"base URL {base!r} is not valid: give http://HOST[:PORT][/FOLDER] or https://...")
        return base.rstrip("/")

    def apply(self, remote: Remote) -> Remote:
        """Return the file with mirror and corrections applied."""
        if self.base:
            urls = (self.base + urlsplit(url)._replace(scheme="", netloc="").geturl() for url in remote.urls)
            remote = replace(remote, urls=tuple(dict.fromkeys(urls)))
        facts = self.files.get(remote.name)
        return remote if facts is None else replace(remote, **facts.model_dump())


def corrections(base: str | None = None, file: Path | str | None = None) -> Corrections:
    """Read corrections from a base URL and a JSON file.

    Args:
        base: URL of a mirror; default: the environment variable SAFMN_MIRROR.
        file: `{"files": {"benchmark.tar": {"size": 123, "sha256": "..."}}, "images": {"Set5": 2}}`, both keys
            optional; default: the environment variable SAFMN_CORRECTIONS.

    Raises:
        UserError: the base is not an http(s) URL, or the file cannot be read or is not valid.
    """
    base = base or os.environ.get("SAFMN_MIRROR") or None
    file = file or os.environ.get("SAFMN_CORRECTIONS") or None
    content = check(Corrections, read_yaml(file), file) if file else Corrections()
    return Corrections(base=base or content.base, files=content.files, images=content.images)
