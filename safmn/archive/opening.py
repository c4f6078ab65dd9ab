"""Open an archive that somebody else made, from a zip file or a folder. Nothing in it is trusted or run."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safmn import layout, paths
from safmn.archive import must_exist, seal
from safmn.archive.crate import METADATA
from safmn.configuration import read_yaml
from safmn.data.archives import BadArchive, extract, safe_path
from safmn.errors import UserError, as_line
from safmn.study import Study

REVIEWS = "reviews"
"""The folder of an archive for what others found; its files are no part of what is sealed."""
MAX_FILES = 200_000


@dataclass(frozen=True)
class Opened:
    """An archive as a folder.

    Attributes:
        path: what the user named.
        folder: the folder with its files; a temporary one for a zip file.
    """

    path: Path
    folder: Path

    @cached_property
    def metadata(self) -> bytes:
        """The bytes of its description; UserError if it has none."""
        try:
            return (self.folder / METADATA).read_bytes()
        except OSError as error:
            raise BadArchive(
                f"{self.path} has no {METADATA} ({error.strerror}): it is no archive of `safmn archive`"
            ) from error

    @cached_property
    def graph(self) -> dict[str, dict[str, Any]]:
        """The entities of its description by their ids; BadArchive if it is damaged."""
        try:
            content = json.loads(self.metadata)
            return {str(entity["@id"]): dict(entity) for entity in content["@graph"]}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadArchive(f"{self.path}: {METADATA} is damaged: get the archive again") from error

    @cached_property
    def seals(self) -> tuple[str | None, str]:
        """The seal that stands in its description, or None, and the seal that belongs to it."""
        return seal.read(self.metadata)

    @cached_property
    def listed(self) -> dict[str, dict[str, Any]]:
        """The files that its description lists: name -> entity."""
        return {name: entity for name, entity in self.graph.items() if "File" in _words(entity.get("@type"))}

    @cached_property
    def files(self) -> dict[str, Path]:
        """The files that are there, without reviews and the description: name -> file; BadArchive for a link."""
        found: dict[str, Path] = {}
        for file in sorted(self.folder.rglob("*")):
            name = file.relative_to(self.folder).as_posix()
            if file.is_symlink() or not (file.is_file() or file.is_dir()):
                raise BadArchive(f"{self.path}: {name} is a link or a device; nothing of this archive is trusted")
            if len(found) > MAX_FILES:
                raise BadArchive(f"{self.path} has more than {MAX_FILES:,} files: it is refused")
            if file.is_file() and name != METADATA and not name.startswith(f"{REVIEWS}/"):
                found[name] = file
        return found

    @cached_property
    def results(self) -> Path:
        """The folder with the results of its study; BadArchive if there is not exactly one."""
        studies = sorted(self.folder.glob(f"results/*/{layout.STUDY}"))
        if len(studies) != 1:
            raise BadArchive(f"{self.path} has {len(studies)} studies below results/, not one: get the archive again")
        return studies[0].parent

    def study(self, data_root: str | None = None, weights_root: str | None = None) -> Study:
        """Return its study.

        Args:
            data_root: the datasets of whoever reads it.
            weights_root: likewise, published weights.

        Raises:
            UserError: it is not valid with the variants and networks that are here.
        """
        content = read_yaml(self.results / layout.STUDY)
        if isinstance(content, dict):
            for section, root in (("data", data_root), ("weights", weights_root)):
                if root and isinstance(content.get(section, {}), dict):
                    content[section] = {**content.get(section, {}), "root": root}
            if content.get("own_networks"):
                content["own_networks"] = _own_networks()
        try:
            study = Study.from_content(content, self.results / layout.STUDY)
        except UserError as error:
            raise UserError(
                f"{as_line(error)}; what is not here is in the archive's folders ablations/, networks/ and config/: "
                "read it, then put it into yours, or give --trust-code"
            ) from error
        if study.name != self.results.name:
            raise UserError(f"{self.path}: its study is called {study.name}, its folder {self.results.name}")
        return study

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """The content of its `provenance.json`, empty where there is no usable one."""
        return self.record(layout.PROVENANCE)

    def record(self, name: str) -> dict[str, Any]:
        """Return a JSON object below the study's folder, empty where there is no usable one."""
        try:
            content = json.loads((self.results / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}


@contextmanager
def opened(path: Path | str) -> Iterator[Opened]:
    """Yield an archive, a zip file or a folder; a zip file is unpacked into a temporary folder.

    Raises:
        BadArchive: it is damaged, or refused: names outside its folder, links, devices, a size out of proportion.
        UserError: there is nothing, or it cannot be read.
    """
    path = Path(path)
    must_exist(path)
    if path.is_dir():
        yield Opened(path, path)
    else:
        with tempfile.TemporaryDirectory(prefix="safmn-archive-") as scratch:
            extract(path, scratch)
            yield Opened(path, Path(scratch))


def is_safe(name: str) -> bool:
    """Return whether the name of a file stays below any folder."""
    try:
        safe_path(name)
    except ValueError:
        return False
    return True


def _own_networks() -> str | None:
    """Return the first folder of networks of one's own that is here, below the present folder if it is there."""
    folder = next(iter(paths.own_networks()), None)
    if folder is None:
        return None
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


def _words(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]
