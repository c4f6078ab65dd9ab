"""What a study's archive holds, and how it is written: the workflow, what was asked, what came out, and provenance.

Texts that are not code are searched for the folders of whoever ran the study, which are taken out: an archive is made
to be passed on. Code and weights go in byte for byte. The same results give the same bytes, whenever they are archived.
"""

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safmn import paths, provenance
from safmn.archive import crate as archive_crate
from safmn.configuration import check
from safmn.errors import UserError
from safmn.files import atomic, write_json, write_text
from safmn.report import origins
from safmn.report.measured import Results
from safmn.study import Study

WORKFLOW = "Snakefile"
BESIDE_THE_CODE = (
    *("LICENSE", "README.md", "constraints.txt", "environment.yml", "pyproject.toml", "profiles/default/profile.yaml"),
    *("config/README.md", "config/mini.yaml", "config/paper.yaml", "safmn/paper/numbers/*.*"),
)
"""What the workflow reads beside its code, or whoever reads it. Not other studies, nor a cluster's profile."""
RESULTS = {
    "cells.csv": "One line a cell: published, measured, difference, verdict, note",
    "report.html": "The page to read: verdicts, tables, figures, what is missing",
    "tables/*.*": "A table of the paper, published beside measured, or the claims of its text",
    "figures/*.*": "A figure, or the numbers in it",
    "cost/*.json": "Memory, time or operations of networks",
    "cost/complexity/*.json": "Parameters, FLOPs and activations of a network",
    "quality/*/x[234]/*/*.csv": "PSNR (dB) and SSIM on Y, image by image",
    "quality/*/x[234]/*/*.json": "What was evaluated, on which images, where and when",
    "inspection/*/x[234]/*.json": "What a trained network looks at",
    "training/*/x[234]_seed*/run.json": "A training run: specification, outcome, sessions, provenance",
    "training/*/x[234]_seed*/history.csv": "Losses, gradient norm and validation PSNR of a training run",
    "data/*/x[234]/manifest.json": "Which images a dataset held, as hashes",
}
"""Pattern below results/<study>/ -> what such a file is."""
WEIGHTS = {"none": (), "best": ("best",), "all": ("best", "last", "last_raw")}
RENDERED = ("cells.csv", "report.html", "tables/table1.md", "figures/figure1.svg")
"""What `safmn tables` leaves, one of each kind."""
TEXT = {".csv", ".json", ".md", ".tex", ".html", ".svg", ".yaml"}
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold


@dataclass(frozen=True)
class Member:
    """One file of the archive.

    Attributes:
        name: its place in the archive, with /.
        file: where it is read from.
        about: what it is.
        kind: "workflow", "code", "variant", "asked" or "result".
    """

    name: str
    file: Path
    about: str
    kind: str


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
    gathered = _redacted(origins.collect(study, Results(folder)), redact)
    if not gathered["results"]:
        raise UserError(f"{folder} holds no result of {study.name}: run Snakemake first")
    with tempfile.TemporaryDirectory(prefix="safmn-archive-") as scratch, _target(out) as target:
        members = _members(study, folder, gathered, weights, redact, Path(scratch))
        missing = [*gathered["missing"], *_unrendered(folder), *_without_weights(study, folder, weights)]
        archive_crate.write(study, members, gathered, missing, author, target, on_progress)
        written = [file for file in target.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in written)
    return {"files": len(written), "bytes": size, "results": len(gathered["results"]), "missing": missing}


# --- What goes in ---


def _members(
    study: Study, folder: Path, gathered: dict[str, Any], weights: str, redact: Callable[[str], str], scratch: Path
) -> list[Member]:
    def clean(member: Member) -> Member:
        # What can hold a path goes in as a copy without those of this machine.
        if member.file.suffix not in TEXT:
            return member
        text = member.file.read_text(encoding="utf-8", errors="replace")
        cleaned = redact(text)
        if cleaned == text:
            return member
        write_text(scratch / member.name, cleaned)
        return replace(member, file=scratch / member.name)

    def result(name: str, file: Path, about: str, kind: str = "result") -> Member:
        return clean(Member(f"results/{study.name}/{name}", file, about, kind))

    found = [clean(member) for member in _code()]

    asked = scratch / "study.json"
    write_json(asked, study.shareable)
    found.append(result("study.json", asked, "The study: what was asked, every default filled in", "asked"))
    origin = scratch / origins.FILE
    check(gathered, "provenance", origins.FILE)
    write_json(origin, gathered)
    found.append(result(origins.FILE, origin, "Where every result comes from, and which are missing"))
    for pattern, about in RESULTS.items():
        for file in sorted(folder.glob(pattern)):
            if file.is_file() and not file.name.startswith("."):
                found.append(result(file.relative_to(folder).as_posix(), file, about))
    for run in study.runs():
        for which in WEIGHTS[weights]:
            file = folder / "training" / run.folder / f"{which}.safetensors"
            if file.is_file():
                about = f"Weights of {run.variant} x{run.scale}, seed {run.seed}: {which}"
                found.append(result(file.relative_to(folder).as_posix(), file, about))
    return found


def _code() -> Iterator[Member]:
    """The workflow, so that the archive can be run."""
    yield Member(WORKFLOW, paths.ROOT / WORKFLOW, "The workflow: data, training, quality, cost, report", "workflow")
    own = paths.ablations().resolve()
    for file in provenance.source_files():
        name = file.relative_to(paths.ROOT).as_posix()
        if name != WORKFLOW and not name.startswith("ablations/"):
            yield Member(name, file, "A part of the workflow", "code")
    for file in sorted([*own.glob("*.yaml"), *own.glob("*.py")]):
        if not file.name.startswith("."):
            yield Member(f"ablations/{file.name}", file, "A variant of the network", "variant")
    for pattern in BESIDE_THE_CODE:
        for file in sorted(paths.ROOT.glob(pattern)):
            if file.is_file() and not file.name.startswith("."):
                yield Member(file.relative_to(paths.ROOT).as_posix(), file, "What the workflow reads, or says", "code")


def _unrendered(folder: Path) -> list[dict[str, Any]]:
    reason = "not rendered yet: `safmn tables`"
    return [{"what": "report", "file": name, "reason": reason} for name in RENDERED if not (folder / name).is_file()]


def _without_weights(study: Study, folder: Path, weights: str) -> list[dict[str, Any]]:
    """The weights that were asked for of runs that are done, and are not there."""
    files = [
        f"training/{run.folder}/{which}.safetensors"
        for run in study.runs()
        for which in WEIGHTS[weights]
        if (folder / "training" / run.folder / "run.json").is_file()
    ]
    reason = "the file is gone: train again"
    return [{"what": "weights", "file": name, "reason": reason} for name in files if not (folder / name).is_file()]


# --- What must not go in ---


def redactor(study: Study, folder: Path) -> Callable[[str], str]:
    """A function that takes the folders of this machine, and of whoever ran the study, out of a text."""
    known: dict[str, str] = {}

    def add(path: str | Path | None, word: str) -> None:
        if not path:
            return
        absolute = Path(path).expanduser()
        for each in {str(absolute), str(absolute.absolute()), os.path.realpath(absolute)}:
            if each.startswith("/") and len(each) > 1:
                known.setdefault(each, word)

    add(study.data["root"], "[data root]")
    add(study.data.get("download"), "[downloads]")
    for name, place in study.data["folders"].items():
        add(place, f"[folder of {name}]")
    for place in study.content["weights"].values():
        add(place if isinstance(place, str) else None, "[weights root]")
    add(paths.ablations() if os.environ.get("SAFMN_ABLATIONS") else None, "[variants]")
    add(folder, "[results]")
    add(Path.cwd(), "[here]")
    add(paths.ROOT, "[project]")
    add(tempfile.gettempdir(), "[temporary folder]")
    add(Path.home(), "[home]")
    longest_first = sorted(known, key=len, reverse=True)
    # Not in the middle of another path or of an address: a folder /data is no part of results/data or http://x/data.
    begins = r"(?:(?<![\w.~/-])|(?<=file://))"
    pattern = re.compile(rf"{begins}(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")
    homes = re.compile(rf"{begins}/(?:home|Users)/[^\s/\"'<>,;:)]+")

    def redact(text: str) -> str:
        return homes.sub("[home]", pattern.sub(lambda match: known[match[0]], text))

    return redact


def _redacted(record: dict[str, Any], redact: Callable[[str], str]) -> dict[str, Any]:
    """Plain data with every text redacted."""
    return json.loads(redact(json.dumps(record, ensure_ascii=False)))


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
    place = out.absolute().parent
    staged: Path | None = None
    try:
        place.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{out.stem}.", dir=place))
        yield staged
        if out.suffix == ".zip":
            with atomic(out) as temporary:
                _zip(staged, temporary)
        else:
            if out.is_dir():
                out.rmdir()
            staged.chmod(0o755)
            staged.rename(out)
            staged = None
    except OSError as error:
        raise UserError(
            f"cannot write {out}: {error.strerror or error}; free some space or choose another place"
        ) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)


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
    return sorted(found, key=lambda file: (file.name != archive_crate.METADATA or file.parent != folder, str(file)))
