"""How a study's archive is written: the workflow, what was asked, what came out, and provenance.

Texts that are not code are searched for the folders of whoever ran the study, which are taken out: an archive is made
to be passed on. Code and weights go in byte for byte. The same results give the same bytes, whenever they are archived.
"""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safmn.archive import crate
from safmn.archive.members import members, unrendered, without_weights
from safmn.archive.redaction import redactor
from safmn.errors import UserError
from safmn.files import atomic, staging
from safmn.report import origins
from safmn.report.measured import Results
from safmn.study import Study

ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold


def write(
    study: Study,
    folder: Path,
    out: Path,
    weights: str = "none",
    author: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Writes the archive of a study: a zip file where `out` ends with .zip, else a folder.

    Args:
        folder: `results/<study>`.
        weights: "none", "best" or "all" of each run.
        author: who ran the study, if that is to be named.
        on_progress: called with (files done, files in all).

    Returns:
        `files`, `bytes` (unpacked), `results` and `missing` (list of what is missing and why).

    Raises:
        UserError: nothing was made yet, or `out` cannot be written.
    """
    _check_out(out)
    redact = redactor(study, folder)
    gathered = json.loads(redact(json.dumps(origins.collect(study, Results(folder)), ensure_ascii=False)))
    if not gathered["results"]:
        raise UserError(f"{folder} holds no result of {study.name}: run Snakemake first")
    with tempfile.TemporaryDirectory(prefix="safmn-archive-") as scratch, _target(out) as target:
        inside = members(study, folder, gathered, weights, redact, Path(scratch))
        missing = [*gathered["missing"], *unrendered(folder), *without_weights(study, folder, weights)]
        crate.write(study, inside, gathered, missing, author, target, on_progress)
        written = [file for file in target.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in written)
    return {"files": len(written), "bytes": size, "results": len(gathered["results"]), "missing": missing}


# --- Where it goes ---


def _check_out(out: Path) -> None:
    if out.suffix == ".zip":
        if out.is_dir():
            raise UserError(f"--out {out} is a folder: choose another name")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is there already: choose a new folder, or a name that ends with .zip")


@contextmanager
def _target(out: Path) -> Iterator[Path]:
    """A folder to fill; what was put into it appears as `out`, whole or not at all."""
    with staging(out.absolute().parent, f".{out.stem}.", out) as staged:
        yield staged
        if out.suffix == ".zip":
            with atomic(out) as temporary:
                _zip(staged, temporary)
        else:
            if out.is_dir():
                out.rmdir()
            staged.chmod(0o755)
            staged.rename(out)


def _zip(folder: Path, out: Path) -> None:
    """Packs a folder; the bytes depend on names and contents alone."""
    with zipfile.ZipFile(out, "w") as packed:
        for file in _in_order(folder.rglob("*"), folder):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), ZIP_TIME)
            entry.external_attr = 0o644 << 16
            # What is compressed already would only take time.
            dense = file.suffix in (".png", ".safetensors", ".npz")
            entry.compress_type = zipfile.ZIP_STORED if dense else zipfile.ZIP_DEFLATED
            with open(file, "rb") as source, packed.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)


def _in_order(files: Iterable[Path], folder: Path) -> list[Path]:
    """Metadata first, as readers like it; then by name."""
    found = [file for file in files if file.is_file()]
    return sorted(found, key=lambda file: (file.name != crate.METADATA or file.parent != folder, str(file)))
