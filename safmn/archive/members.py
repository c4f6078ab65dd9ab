"""What a study's archive holds: the workflow and its code, what was asked, and what came out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safmn import layout, paths, provenance
from safmn.configuration import check
from safmn.files import write_json, write_text
from safmn.report.provenance import Provenance
from safmn.study import Study

WORKFLOW = "Snakefile"
BESIDE_THE_CODE = (
    *("LICENSE", "README.md", "constraints.txt", "environment.yml", "pyproject.toml", "setup.py"),
    *("profiles/default/profile.yaml", "config/README.md", "config/mini.yaml", "config/paper.yaml"),
)
"""What the workflow reads beside its code, or whoever reads it. Not other studies, nor a cluster's profile."""
RESULTS = {
    layout.CELLS: "One line a cell: published, measured, difference, verdict, note",
    layout.PAGE: "The page to read: verdicts, tables, figures, what is missing",
    layout.table("*", "*"): "A table of the paper, published beside measured, or the claims of its text",
    layout.figure("*", "*"): "A figure, or the numbers in it",
    layout.cost("*"): "Memory, time or operations of networks",
    layout.complexity("*"): "Parameters, FLOPs and activations of a network",
    layout.scores("*", "[234]", "*", "*"): "PSNR (dB) and SSIM on Y, image by image",
    layout.evaluation("*", "[234]", "*"): "What was evaluated, on which images, where and when",
    f"{layout.inspection('*', '[234]', '*')}.json": "What a trained network looks at",
    f"{layout.run('*', '[234]', '*')}/{layout.RUN}": "A training run: specification, outcome, sessions, provenance",
    f"{layout.run('*', '[234]', '*')}/{layout.HISTORY}": "Losses, gradient norm and validation PSNR of a training run",
    f"{layout.packed('*', '[234]')}/{layout.MANIFEST}": "Which images a dataset held, as digests",
}
"""Pattern below results/<study>/ -> what such a file is."""
WEIGHTS = {"none": (), "best": ("best",), "all": layout.WEIGHTS}
RENDERED = (layout.CELLS, layout.PAGE, layout.table(1, "md"), layout.figure("figure1", "svg"))
"""What `safmn tables` leaves, one of each kind."""
TEXT = {".csv", ".json", ".md", ".tex", ".html", ".svg", ".yaml"}


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


def members(
    study: Study, folder: Path, gathered: dict[str, Any], weights: str, redact: Callable[[str], str], scratch: Path
) -> list[Member]:
    """All files of an archive; what can hold a path of this machine as a copy without it, below `scratch`.

    Args:
        folder: `results/<study>`.
        gathered: the content of `provenance.json`, redacted.
        weights: a key of WEIGHTS.
    """

    def clean(member: Member) -> Member:
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

    asked = scratch / layout.STUDY
    write_json(asked, study.shareable)
    found.append(result(layout.STUDY, asked, "The study: what was asked, every default filled in", "asked"))
    origin = scratch / layout.PROVENANCE
    check(Provenance, gathered, layout.PROVENANCE)
    write_json(origin, gathered)
    found.append(result(layout.PROVENANCE, origin, "Where every result comes from, and which are missing"))
    for pattern, about in RESULTS.items():
        for file in sorted(folder.glob(pattern)):
            if file.is_file() and not file.name.startswith("."):
                found.append(result(file.relative_to(folder).as_posix(), file, about))
    for run in study.runs():
        for which in WEIGHTS[weights]:
            name = layout.weights(run.variant, run.scale, run.seed, which)
            if (folder / name).is_file():
                about = f"Weights of {run.variant} x{run.scale}, seed {run.seed}: {which}"
                found.append(result(name, folder / name, about))
    return found


def _code() -> Iterator[Member]:
    """The workflow, so that the archive can be run: laid out as a checkout, a project's variants among the paper's."""
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
            yield Member(name, paths.ROOT / name, "What the workflow reads, or says", "code")


def unrendered(folder: Path) -> list[dict[str, Any]]:
    """What `safmn tables` would leave and is not there."""
    reason = "not rendered yet: `safmn tables`"
    return [{"what": "report", "file": name, "reason": reason} for name in RENDERED if not (folder / name).is_file()]


def without_weights(study: Study, folder: Path, weights: str) -> list[dict[str, Any]]:
    """The weights that were asked for of runs that are done, and are not there."""
    files = [
        layout.weights(run.variant, run.scale, run.seed, which)
        for run in study.runs()
        for which in WEIGHTS[weights]
        if (folder / layout.run(run.variant, run.scale, run.seed) / layout.RUN).is_file()
    ]
    reason = "the file is gone: train again"
    return [{"what": "weights", "file": name, "reason": reason} for name in files if not (folder / name).is_file()]
