"""Writes a study's archive: the workflow, the study, its results and their provenance.

An archive is made to be passed on: folders of the machine and of its users are taken out of all texts that are not
code. Code and weights are copied byte for byte. The same results give the same bytes, whenever they are archived.
"""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safmn import paths
from safmn.archive import crate
from safmn.archive.members import members, missing
from safmn.archive.redaction import redactor
from safmn.errors import UserError
from safmn.files import atomic, staging
from safmn.report import origins
from safmn.report.measured import Results
from safmn.study import Study

ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip file


def write(
    study: Study,
    folder: Path,
    out: Path,
    weights: str = "none",
    author: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write the archive of a study: a zip file if `out` ends with .zip, else a folder.

    Args:
        study: the study.
        folder: its results, `results/<study>`.
        out: a new file or folder.
        weights: "none", "best" or "all" of each run.
        author: who ran the study, if the archive shall name them.
        on_progress: called with (files done, files in all).

    Returns:
        `files` and `results` (their numbers), `bytes` (unpacked), `own` (names of files of a user's own),
        `missing` (`file` and `reason` of each) and `seal` (see `safmn.archive.seal`).

    Raises:
        UserError: rocrate is not installed, there is no result, or `out` cannot be written.
    """
    crate.require()
    _check_out(out)
    redact = redactor(study, folder)
    gathered = json.loads(redact(json.dumps(origins.collect(study, Results(folder)), ensure_ascii=False)))
    if not gathered["results"]:
        raise UserError(f"{folder} holds no result of {study.name}: run Snakemake first")
    with tempfile.TemporaryDirectory(prefix="safmn-archive-") as scratch, _target(out) as target:
        inside = members(study, folder, gathered, weights, redact, Path(scratch))
        lacking = [*gathered["missing"], *missing(study, folder, weights)]
        sealed = crate.write(study, inside, gathered, lacking, author, target, on_progress)
        written = [file for file in target.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in written)
    own = [member.name for member in inside if member.kind == "variant" and not (paths.ROOT / member.name).exists()]
    numbers = {"files": len(written), "bytes": size, "results": len(gathered["results"])}
    return numbers | {"own": own, "missing": lacking, "seal": sealed}


# --- Where it goes ---


def _check_out(out: Path) -> None:
    if out.suffix == ".zip":
        if out.is_dir():
            raise UserError(f"--out {out} is a folder: choose another name")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} exists already: choose a new folder, or a name that ends with .zip")


@contextmanager
def _target(out: Path) -> Iterator[Path]:
    """Yield a folder to fill; its content appears as `out`, complete or not at all."""
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
    """Pack a folder; the bytes depend on names and contents alone."""
    with zipfile.ZipFile(out, "w") as packed:
        files = [file for file in folder.rglob("*") if file.is_file()]
        for file in sorted(files, key=lambda file: (file != folder / crate.METADATA, str(file))):  # readers look there
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), ZIP_TIME)
            entry.external_attr = 0o644 << 16
            is_dense = file.suffix in (".png", ".safetensors", ".npz")  # hardly shrinks
            entry.compress_type = zipfile.ZIP_STORED if is_dense else zipfile.ZIP_DEFLATED
            with open(file, "rb") as source, packed.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)
