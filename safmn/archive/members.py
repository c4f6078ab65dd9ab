"""The files of a study's archive: the workflow with its code, the study, and the results."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safmn import layout, paths, provenance
from safmn.archive import own_files
from safmn.configuration import check
from safmn.files import write_json, write_text
from safmn.report import page
from safmn.report.provenance import Provenance
from safmn.study import Study

WORKFLOW = "Snakefile"
BESIDE_THE_CODE = (
    *("LICENSE", "README.md", "constraints.txt", "environment.yml", "pyproject.toml", "setup.py"),
    *("profiles/default/profile.yaml", "config/README.md", "config/mini.yaml", "config/paper.yaml"),
)
"""Files beside the code that the workflow or its reader needs; no other studies and no cluster's profile."""
RESULTS = {
    layout.IMPORTED: "Which results come from the archive of somebody else",
    layout.CELLS: "One line a cell: published, measured, difference, verdict, note",
    layout.NETWORKS: "One line a network and scale: counts, memory, time, PSNR and SSIM on Y and in RGB",
    layout.PAGE: "The page to read: verdicts, tables, figures, what is missing",
    layout.table("*", "*"): "A table of the paper, published beside measured, or the claims of its text",
    layout.figure("*", "*"): "A figure, or the numbers in it",
    layout.cost("*"): "Memory, time or operations of networks",
    layout.complexity("*"): "Parameters, FLOPs and activations of a network",
    layout.scores("*", "[234]", "*", "*"): "PSNR (dB) and SSIM on Y and in RGB, image by image",
    layout.evaluation("*", "[234]", "*"): "What was evaluated, on which images, where and when",
    f"{layout.inspection('*', '[234]', '*')}.json": "What a trained network looks at",
    layout.record("*", "[234]", "*"): "A training run: specification, outcome, sessions, provenance",
    f"{layout.run('*', '[234]', '*')}/{layout.HISTORY}": "Losses, gradient norm and validation PSNR of a training run",
    f"{layout.packed('*', '[234]')}/{layout.MANIFEST}": "Which images a dataset held, as digests",
}
"""Pattern below results/<study>/ -> description of such a file."""
WEIGHTS = {"none": (), "best": ("best",), "all": layout.WEIGHTS}
RENDERED = (layout.CELLS, layout.PAGE, layout.table(1, "md"), layout.figure("figure1", "svg"))
"""Files that `safmn tables` writes, one of each kind."""
TEXT = {".csv", ".json", ".md", ".tex", ".html", ".svg", ".yaml"}


@dataclass(frozen=True)
class Member:
    """One file of the archive.

    Attributes:
        name: its path in the archive, with /.
        file: the file that is copied.
        about: its description.
        kind: "workflow", "code", "variant", "study" or "result".
    """

    name: str
    file: Path
    about: str
    kind: str


def members(
    study: Study, folder: Path, gathered: dict[str, Any], weights: str, redact: Callable[[str], str], scratch: Path
) -> list[Member]:
    """Return all files of an archive; a text that names a folder of this machine is replaced by a redacted copy.

    Args:
        study: the study.
        folder: its results, `results/<study>`.
        gathered: the content of `provenance.json`, redacted.
        weights: a key of WEIGHTS.
        redact: takes the folders of this machine out of a text.
        scratch: a folder for the copies.
    """

    def clean(member: Member) -> Member:
        if member.file.suffix not in TEXT:
            return member
        text = member.file.read_text(encoding="utf-8", errors="replace")
        own = page.without_other_studies(text) if member.file == folder / layout.PAGE else text
        cleaned = redact(own)
        if cleaned == text:
            return member
        write_text(scratch / member.name, cleaned)
        return replace(member, file=scratch / member.name)

    def result(name: str, file: Path, about: str, kind: str = "result") -> Member:
        return clean(Member(f"results/{study.name}/{name}", file, about, kind))

    files = [clean(member) for member in _code()]
    there = {member.name for member in files}
    about = "Of the study's own: a network, a loss, an optimiser, or what they import and read"
    for name, file in own_files.collect(study)[0].items():
        if name not in there:
            files.append(clean(Member(name, file, about, "variant")))
    content = scratch / layout.STUDY
    write_json(content, study.shareable)
    files.append(result(layout.STUDY, content, "The study, with every default filled in", "study"))
    origin = scratch / layout.PROVENANCE
    check(Provenance, gathered, layout.PROVENANCE)
    write_json(origin, gathered)
    files.append(result(layout.PROVENANCE, origin, "Where every result comes from, and which results are missing"))
    for pattern, about in RESULTS.items():
        for file in sorted(folder.glob(pattern)):
            if file.is_file() and not file.name.startswith("."):
                files.append(result(file.relative_to(folder).as_posix(), file, about))
    for run in study.runs():
        for which in WEIGHTS[weights]:
            name = layout.weights(run.variant, run.scale, run.seed, which)
            if (folder / name).is_file():
                about = f"Weights of {run.variant} x{run.scale}, seed {run.seed}: {which}"
                files.append(result(name, folder / name, about))
    return files


def _code() -> Iterator[Member]:
    """Yield the workflow and all variants in the layout of a checkout, so that the archive can be run."""
    sources = provenance.source_files()
    yield Member(WORKFLOW, sources.pop(WORKFLOW), "The workflow: data, training, quality, cost, report", "workflow")
    for name, file in sources.items():
        if not name.startswith("ablations/"):
            yield Member(name, file, "A part of the workflow", "code")
    variants = [
        file
        for place in filter(None, (paths.ablations(), paths.own_ablations()))
        for file in [*place.glob("*.yaml"), *place.glob("*.py")]
    ]
    for file in sorted(variants, key=lambda file: file.name):
        if not file.name.startswith("."):
            yield Member(f"ablations/{file.name}", file, "A variant of the network", "variant")
    for name in BESIDE_THE_CODE:
        if (paths.ROOT / name).is_file():
            yield Member(name, paths.ROOT / name, "A file that the workflow or its reader needs", "code")


def missing(study: Study, folder: Path, weights: str) -> list[dict[str, Any]]:
    """Return what an archive lacks beside results, as `what`, `file` and `reason` of each.

    That is what `safmn tables` has not written, chosen weights of finished runs, and own files that lie elsewhere.
    """
    rendered = [("report", name, "not rendered yet: `safmn tables`") for name in RENDERED]
    trained = [
        ("weights", layout.weights(run.variant, run.scale, run.seed, which), "the file is gone: train again")
        for run in study.runs()
        for which in WEIGHTS[weights]
        if (folder / run.record).is_file()
    ]
    absent = [each for each in (*rendered, *trained) if not (folder / each[1]).is_file()]
    reason = "it is not below ablations/, config/, own_networks or the present folder: put it there"
    absent += [("code", name, reason) for name in own_files.collect(study)[1]]
    return [{"what": what, "file": name, "reason": reason} for what, name, reason in absent]
