"""The seal of an archive: one hash over its description, which holds the hash of every file.

Whoever knows the seal, from a paper or a review, knows whether an archive is the one that is meant. The seal stands in
the description that it is computed from: it is the sha256 of `ro-crate-metadata.json` with zeros in its place.
"""

import hashlib
import re
from pathlib import Path

from safmn.errors import UserError
from safmn.files import atomic

BLANK = "0" * 64
IDENTIFIER = "#seal"
_PLACE = re.compile(rb'("@id": "#seal",(?:(?!"@id")[^{}])*?"value": ")([0-9a-f]{64})"')


def write(metadata: Path) -> str:
    """Put the seal into a description that was written with BLANK in its place; return the seal."""
    content = metadata.read_bytes()
    found = _PLACE.findall(content)
    if len(found) != 1 or found[0][1].decode() != BLANK:
        raise UserError(f"{metadata} has no place for its seal: this is an error of the program")
    seal = hashlib.sha256(content).hexdigest()
    with atomic(metadata) as temporary:
        temporary.write_bytes(_PLACE.sub(rb"\g<1>" + seal.encode() + b'"', content))
    return seal


def read(content: bytes) -> tuple[str | None, str]:
    """Return the seal that stands in a description (None without one), and the seal that belongs to it."""
    found = _PLACE.findall(content)
    if len(found) != 1:
        return None, hashlib.sha256(content).hexdigest()
    blank = _PLACE.sub(rb"\g<1>" + BLANK.encode() + b'"', content)
    return found[0][1].decode(), hashlib.sha256(blank).hexdigest()
