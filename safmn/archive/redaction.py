"""Redaction: takes folders of the machine and of its users out of texts, since an archive is made to be passed on."""

import html
import os
import re
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from safmn import paths
from safmn.study import Study

HARMLESS = {"ablations", "config", "data", "datasets", "images", "weights"}
HARMLESS |= {"results", "training", "quality", "cost", "inspection", "tables", "figures"}
"""Relative folders that identify nobody, and that are names in results as well."""


def redactor(study: Study, folder: Path) -> Callable[[str], str]:
    """Return a function that replaces the folders of this machine and of its users in a text by words in brackets.

    It finds folders as they are spelled in the study, absolute, and with links resolved; in plain text, JSON, HTML, TeX
    and URLs.

    Args:
        study: the study, which names folders.
        folder: its results.
    """
    words: dict[str, str] = {}

    def add(path: str | Path | None, word: str) -> None:
        for spelling in _spellings(path) if path else ():
            words.setdefault(spelling, f"[{word}]")

    add(study.data.root, "data root")
    add(study.data.download, "downloads")
    for name, place in study.data.folders.items():
        add(place, f"folder of {name}")
    for key, word in (("root", "weights root"), ("download", "downloaded weights")):
        add(getattr(study.weights, key), word)
    add(os.environ.get("SAFMN_ABLATIONS"), "variants")
    add(folder.absolute(), "results")
    add(Path.cwd(), "here")
    add(paths.project(), "project")
    add(paths.ROOT, "project")
    add(paths.PACKAGE.parent, "packages")
    add(sys.prefix if sys.prefix != sys.base_prefix else None, "environment")
    add(tempfile.gettempdir(), "temporary folder")
    add(Path.home(), "home")
    longest_first = sorted(words, key=len, reverse=True)
    # Not inside another path or address: the folder /data is no part of results/data or http://x/data.
    begins = r"(?:(?<![\w.~/-])|(?<=file://)|(?<=\\[nrt]))"
    # A single name may be an ordinary word: it counts only if a file below it is named.
    ends = (r"(?![\w-])" if "/" in path else r"(?=\\?/)" for path in longest_first)
    groups = (f"({_written(path)}){end}" for path, end in zip(longest_first, ends, strict=True))
    pattern = re.compile(f"{begins}(?:{'|'.join(groups)})")
    homes = re.compile(rf"{begins}/(?:home|Users)/[^\s/\"'<>,;:)]+")

    def redact(text: str) -> str:
        text = pattern.sub(lambda match: words[longest_first[(match.lastindex or 1) - 1]], text)
        return homes.sub("[home]", text)

    return redact


def _spellings(path: str | Path) -> Iterator[str]:
    """Yield a folder as texts may spell it: as normal, absolute, and from the home folder (`~/x`)."""
    normal = os.path.normpath(path)
    full = Path(path).expanduser()
    ways = [str(path), normal, str(full.absolute()), *map(os.path.abspath, (path, full)), os.path.realpath(full)]
    if full.is_relative_to(Path.home()) and full != Path.home():
        from_home = f"~/{full.relative_to(Path.home())}"
        ways += [from_home, os.path.abspath(from_home)]
    for way in ways:
        for form in ("NFC", "NFD"):
            text = unicodedata.normalize(form, way).rstrip("/")
            if text and not set(text) <= set("./~") and text not in HARMLESS:
                yield text


def _written(path: str) -> str:
    """Return a pattern for a path in any text: messages join white space, and formats escape signs differently."""
    return "".join(r"(?:\s|%20|\\u0020)+" if part.isspace() else _sign(part) for part in re.findall(r"\s+|\S", path))


def _sign(sign: str) -> str:
    if sign.isascii() and (sign.isalnum() or sign in "/.-"):
        return re.escape(sign)
    units = sign.encode("utf-16-be")
    escaped = "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
    ways = {sign, quote(sign), quote(sign).lower(), escaped, f"\\{sign}", html.escape(sign)}
    ways |= {"&#39;"} if sign == "'" else set()
    return f"(?:{'|'.join(map(re.escape, sorted(ways, key=len, reverse=True)))})"
