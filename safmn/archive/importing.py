"""Import an archive's results into `results/<study>`, so that more can be computed beside them.

Results are taken only where they could have been made here: the same images, by hash, and the same code, piece by
piece. What differs is named. `imported.json` keeps the hash of each file, by which cells and provenance are marked.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from safmn import layout, paths, provenance
from safmn.archive import facts, fitting, makers, whole
from safmn.archive.findings import CONFIRMED, REFUTED, counted, listed
from safmn.archive.opening import Opened
from safmn.archive.own_data import OwnData
from safmn.archive.restoring import hidden, restored
from safmn.cost.identity import of_counts
from safmn.errors import UserError
from safmn.files import staging, write_json
from safmn.study import Study

RENDERED = (layout.CELLS, layout.NETWORKS, layout.PAGE, layout.PROVENANCE, "tables/", "figures/")
"""What is rendered again instead of copied."""
FORMAT = 1
STAGES = {"quality": "evaluation", "inspection": "inspection"}
"""Folder of results -> the stage whose code they depend on beside a network's."""


@dataclass(frozen=True)
class Summary:
    """What was imported.

    Attributes:
        study: the study, with the folders of whoever imports.
        folder: `results/<study>`.
        seal: the archive's seal.
        files: the imported files, below the folder.
        absent: those that the archive does not hold although they belong to its results, such as weights.
        own_files: variants, networks and losses of the archive that are new in the project.
        hidden: those in whose place the harness here has another file, which is taken.
    """

    study: Study
    folder: Path
    seal: str
    files: list[str]
    absent: list[str]
    own_files: list[str]
    hidden: list[str]


def take(
    archive: Opened,
    data_root: str | None,
    weights_root: str | None,
    stages: Mapping[str, Sequence[str]],
    results: Path = Path("results"),
    trust_code: bool = False,
) -> Summary:
    """Copy the results of an archive into `results/<study>`, with the verifier's own data packed beside them.

    Args:
        archive: the archive.
        data_root: datasets of whoever imports.
        weights_root: likewise, published weights.
        stages: "packing", "evaluation", "inspection", "memory" -> the functions ("module:name") whose code decides.
        results: the folder for all studies.
        trust_code: whether variants, networks and losses that only the archive has are put into the project.

    Raises:
        UserError: the archive is damaged, the study exists here, or data or code do not fit; it names what differs.
    """
    wrong = [finding for finding in whole.check(archive) if finding.verdict == REFUTED]
    if wrong:
        raise UserError(f"{archive.path} is damaged ({wrong[0]}): `safmn verify` shows all; get the archive again")
    with _with_own_files(archive) if trust_code else nullcontext([]) as own_files:
        summary = _take(archive, archive.study(data_root, weights_root), stages, results)
    return replace(summary, own_files=own_files, hidden=hidden(archive) if trust_code else [])


def _with_own_files(archive: Opened) -> AbstractContextManager[list[str]]:
    """Return what puts the archive's own files into the project; UserError if the present folder is none."""
    project = paths.project() or (None if paths.INSTALLED or Path.cwd() != paths.ROOT else paths.ROOT)
    if project is None:
        raise UserError("--trust-code: the present folder is no project: `safmn init` makes one, import there")
    return restored(archive, project)


def _take(archive: Opened, study: Study, stages: Mapping[str, Sequence[str]], results: Path) -> Summary:
    folder = results / study.name
    if folder.exists():
        raise UserError(f"{folder} exists already: move it away, or import in another folder")
    files = sorted(_results(archive))
    _check_code(archive, study, files, stages)
    with staging(results, f".{study.name}.", folder) as staged:
        _pack(archive, study, staged / layout.DATA)
        for name in files:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive.results / name, staged / name)
        write_json(staged / layout.STUDY, study.content)
        record = {"format": FORMAT, "archive": archive.path.name, "seal": archive.seals[1]}
        record["files"] = {name: provenance.of_file(staged / name) for name in files}
        write_json(staged / layout.IMPORTED, record)
        staged.chmod(0o755)
        staged.rename(folder)
    return Summary(study, folder, archive.seals[1], files, sorted(_absent(study, folder)), [], [])


def _results(archive: Opened) -> Iterator[str]:
    for file in archive.results.rglob("*"):
        name = file.relative_to(archive.results).as_posix()
        is_own = name in (layout.STUDY, layout.IMPORTED) or name.startswith(f"{layout.DATA}/")
        if file.is_file() and not is_own and not name.startswith(RENDERED):
            yield name


def _absent(study: Study, folder: Path) -> Iterator[str]:
    """Yield what jobs that are done leave and an archive may not hold: weights, arrays of inspections."""
    for run in study.runs():
        if (folder / run.record).is_file():
            files = [layout.weights(run.variant, run.scale, run.seed, which) for which in layout.WEIGHTS]
            yield from (name for name in files if not (folder / name).is_file())
    for file in folder.glob(f"{layout.inspection('*', '[234]', '*')}.json"):
        if not file.with_suffix(".npz").is_file():
            yield file.with_suffix(".npz").relative_to(folder).as_posix()


# --- data ---


def _pack(archive: Opened, study: Study, folder: Path) -> None:
    """Pack the own datasets; UserError where they are not the archive's."""
    data = OwnData(archive, study, folder)
    for name, scale in study.packed_datasets():
        if (archive.results / layout.packed(name, scale) / layout.MANIFEST).is_file():
            with suppress(UserError):  # the findings say why
                data.open([name], scale)
    wrong = [finding for finding in data.findings if finding.verdict != CONFIRMED]
    if wrong:
        raise UserError(f"the data do not fit: {wrong[0]}; `safmn import --data-root DIR` names a folder of datasets")


# --- code ---


def _check_code(archive: Opened, study: Study, files: Sequence[str], stages: Mapping[str, Sequence[str]]) -> None:
    """Raise UserError for the first result that the code here would not have made."""
    code = fitting.Other(archive.folder)
    _check_runs(archive, study)
    if any(name.startswith(("quality/", "training/", "inspection/")) for name in files):
        _refuse("packed data", code.of_functions(stages["packing"]))
    for name in files:
        place, _, rest = name.partition("/")
        if name.startswith(f"{layout.COMPLEXITY}/"):
            network = Path(name).stem
            if archive.record(name).get("key") != of_counts(network):
                _refuse(name, code.of_network(network) or ["the code that counts"])
        elif name == layout.cost("memory"):
            _refuse(name, code.of_functions(stages["memory"]))
            for network in facts.mapping(archive.record(name).get("networks")):
                _refuse(name, code.of_network(network))
        elif place in STAGES:
            _refuse(name, code.of_functions(stages[STAGES[place]]) + code.of_network(rest.partition("/")[0]))


def _check_runs(archive: Opened, study: Study) -> None:
    """Compare the key of each run, of specification, data and code, with the one that it would have here.

    Runs that the study does not ask for are left alone: nothing depends on them.
    """
    there = [run for run in study.runs() if (archive.results / run.record).is_file()]
    names = [layout.run(run.variant, run.scale, run.seed) for run in there]
    for name, run in zip(names, there, strict=True):
        if archive.record(run.record).get("specification") != study.specification(run):
            raise UserError(f"{name} was trained by another specification than its study's: it cannot be imported")
    with makers.of(archive) as found:
        others = found.others(names)
    for maker, of in others:
        runs = counted(of, "run")
        if maker.has_its_key is False:
            raise UserError(f"{runs}: the key is not that of specification, images and code: they cannot be imported")
        environments = archive.provenance.get("environments") or ()
        several = len({str(each.get("code", {}).get("code_sha256")) for each in environments}) > 1
        raise UserError(
            f"{runs}: trained by {maker}; Snakemake would train them again: check out {maker.name} and "
            + (
                "run the study there, since later code made other results of this archive"
                if several
                else "import there, or run the study anew"
            )
            + "; `safmn verify` and `safmn compare` take the archive as it is"
        )


def _refuse(what: str, pieces: list[str]) -> None:
    if pieces:
        raise UserError(
            f"{what}: the code here is not the one that made it; {listed(pieces)} differ{'s' * (len(pieces) == 1)}; "
            "install the version of the archive, or run the study anew"
        )
