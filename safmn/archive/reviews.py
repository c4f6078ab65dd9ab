"""Reviews: what others found, put into an archive's folder `reviews/` without changing what is sealed."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from safmn.archive.findings import listed
from safmn.archive.opening import REVIEWS, Opened
from safmn.errors import UserError
from safmn.files import atomic, digest, write_json, write_text

MAX_BYTES = 10_000_000  # of a review that is read


def add(path: Path, record: dict[str, Any], text: str) -> str:
    """Put a review into an archive, a zip file or a folder; return its name in it, without suffix.

    Args:
        path: the archive.
        record: from `Verification.record`.
        text: from `Verification.text`.

    Raises:
        UserError: the archive cannot be written.
    """
    name = f"{REVIEWS}/{str(record['date'])[:10]}-{digest(record)[:12]}"
    if path.is_dir():
        write_json(path / f"{name}.json", record)
        write_text(path / f"{name}.md", text)
        return name
    with atomic(path) as temporary:  # the present bytes first: what is there does not change
        shutil.copyfile(path, temporary)
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as packed:
            if f"{name}.json" not in packed.namelist():
                content = json.dumps(record, indent=2, ensure_ascii=False)
                for suffix, part in (("json", content), ("md", text)):
                    entry = zipfile.ZipInfo(f"{name}.{suffix}", (1980, 1, 1, 0, 0, 0))
                    entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
                    packed.writestr(entry, part)
    return name


def sentences(archive: Opened) -> list[str]:
    """Say what the reviews in an archive say; one of another content is named as such."""
    told = []
    for file in sorted((archive.folder / REVIEWS).glob("*.json")):
        record = _read(file)
        if record is None:
            told.append(f"{REVIEWS}/{file.name} is not readable")
            continue
        who, date = record.get("reviewer") or "somebody who is not named", str(record.get("date"))[:10]
        if record.get("seal") != archive.seals[1]:
            told.append(f"{who}, {date}: of another content than this archive's (seal {str(record.get('seal'))[:12]})")
            continue
        steps = [step for step in record.get("steps") or () if isinstance(step, dict)]
        verdicts = [f"{step.get('step')} {step.get('verdict')}" for step in steps]
        told.append(f"{who}, {date}: {listed(verdicts, 6)}")
    return told


def _read(file: Path) -> dict[str, Any] | None:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UserError(f"{file} is too long")
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, UserError):
        return None
    return record if isinstance(record, dict) else None
