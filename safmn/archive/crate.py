"""The metadata of an archive, as an RO-Crate: linked data that describes its files and how they were made.

The profile is Workflow Run Crate 0.5, https://w3id.org/ro/wfrun/workflow/0.5, over RO-Crate 1.1. The Snakefile is the
main entity. The run is a `CreateAction`: its instrument is the Snakefile, its objects are the study, the variants and
the data (as digests of their manifests; images are not in the archive), its results are the files. The provenance of
single results is in `provenance.json`.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from operator import add
from pathlib import Path
from typing import Any
from urllib.parse import quote

from safmn import provenance
from safmn.archive import seal
from safmn.archive.members import Member
from safmn.errors import UserError
from safmn.report.origins import facts_of
from safmn.study import Study

METADATA = "ro-crate-metadata.json"
ROCRATE = "1.1"  # the version that the profile is written for
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
WORKFLOW = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
SNAKEMAKE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
LICENCE = "https://spdx.org/licenses/Apache-2.0"
PAPER = "https://openaccess.thecvf.com/content/ICCV2023/html/Sun_Spatially-Adaptive_Feature_Modulation_for_Efficient_Image_Super-Resolution_ICCV_2023_paper.html"
STATUS = "http://schema.org/{}ActionStatus"
FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".png": "image/png",
    ".py": "text/x-python",
    ".rst": "text/x-rst",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".tex": "application/x-tex",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
SOFTWARE = {
    "python": ("Python", "https://www.python.org/"),
    "torch": ("PyTorch", "https://pytorch.org/"),
    "cuda": ("CUDA", "https://developer.nvidia.com/cuda-toolkit"),
    "cudnn": ("cuDNN", "https://developer.nvidia.com/cudnn"),
    "driver": ("NVIDIA driver", "https://www.nvidia.com/drivers/"),
    "fvcore": ("fvcore", "https://github.com/facebookresearch/fvcore"),
    "snakemake": ("Snakemake", "https://snakemake.github.io/"),
    "os": ("Operating system", "https://www.kernel.org/"),
}
"""Fact of an environment -> name and address of the software."""
MAX_NAMED = 5  # missing results that a description names


def write(
    study: Study,
    members: Sequence[Member],
    gathered: dict[str, Any],
    missing: Sequence[dict[str, Any]],
    author: str | None,
    target: Path,
    on_progress: Callable[[int, int], None],
) -> str:
    """Fill the folder `target` with the members and `ro-crate-metadata.json`.

    Args:
        study: the study.
        members: the files.
        gathered: the content of `provenance.json`.
        missing: the files that the study asks for and that do not exist: `file` and `reason` of each.
        author: who ran the study, or None.
        target: an empty folder.
        on_progress: called with (files done, files in all).

    Returns:
        The archive's seal, see `safmn.archive.seal`.
    """
    from rocrate.model.computationalworkflow import ComputationalWorkflow
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version=ROCRATE)
    entities: dict[str, list[Any]] = {}
    for done, member in enumerate(members, 1):
        properties = _describe(member)
        if member.kind == "workflow":
            entity = crate.add(ComputationalWorkflow(crate, str(member.file), member.name, properties=properties))
        else:
            entity = crate.add_file(str(member.file), member.name, properties=properties)
        entities.setdefault(member.kind, []).append(entity)
        on_progress(done, len(members))
    (workflow,) = entities["workflow"]
    run = _run(crate, study, workflow, entities, gathered, missing, author)
    _describe_workflow(crate, workflow, gathered, entities)
    _describe_root(crate, study, workflow, run, missing)
    crate.write(target)
    return seal.write(target / METADATA)


def require() -> None:
    """Raise UserError if the package that writes RO-Crates is not installed."""
    if find_spec("rocrate") is None:
        raise UserError("an archive needs the package rocrate: `pip install safmn-harness[archive]`")


def _describe(member: Member) -> dict[str, Any]:
    return {
        "name": member.name,
        "description": member.about,
        "contentSize": str(member.file.stat().st_size),
        "encodingFormat": FORMATS.get(Path(member.name).suffix, "text/plain"),
        "sha256": provenance.of_file(member.file),
    }


def _describe_root(crate: Any, study: Study, workflow: Any, run: Any, missing: Sequence[dict[str, Any]]) -> None:
    crate.metadata.extra_contexts.append(TERMS)
    crate.metadata["conformsTo"] = [
        {"@id": f"https://w3id.org/ro/crate/{ROCRATE}"},
        {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"},
    ]
    root = crate.root_dataset
    root["name"] = f"SAFMN, reproduced: the study {study.name}"
    root["description"] = (
        f"{study.description}. The paper's tables with what was measured beside each printed number, the "
        f"workflow that made them, and where every result comes from. It has no images and no weights of other people, "
        f"since these have licences of their own; a figure may show parts of test images. "
        f"{_what_is_missing(missing)}"
    )
    root.datePublished = run["endTime"]
    root["conformsTo"] = [
        _entity(crate, url, "CreativeWork", name=name, version=number) for url, (name, number) in PROFILES.items()
    ]
    root["license"] = _entity(
        crate, LICENCE, "CreativeWork", name="Apache License 2.0", description="Of the workflow and its results"
    )
    root["mainEntity"] = workflow
    root["mentions"] = run
    if "agent" in run:
        root["author"] = run["agent"]
    for readme in filter(None, [crate.get("README.md")]):
        readme["about"] = root
    root["identifier"] = _entity(
        crate, seal.IDENTIFIER, "PropertyValue", name="Seal", propertyID="sha256 of this file, see `safmn verify`"
    )
    root["identifier"]["value"] = seal.BLANK
    title = "Spatially-Adaptive Feature Modulation for Efficient Image Super-Resolution (ICCV 2023)"
    root["citation"] = _entity(crate, PAPER, "ScholarlyArticle", name=title)


def _describe_workflow(crate: Any, workflow: Any, gathered: dict[str, Any], entities: dict[str, list[Any]]) -> None:
    language = {
        "name": "Snakemake",
        "identifier": {"@id": "https://doi.org/10.1093/bioinformatics/bts480"},
        "url": {"@id": "https://snakemake.readthedocs.io"},
    }
    workflow["name"] = "SAFMN, reproduced"
    workflow["programmingLanguage"] = _entity(crate, SNAKEMAKE, "ComputerLanguage", **language)
    workflow["conformsTo"] = _entity(
        crate, WORKFLOW, "CreativeWork", name="ComputationalWorkflow", version="1.0-RELEASE"
    )
    workflow["license"] = {"@id": LICENCE}
    codes = [environment["code"] for environment in gathered["environments"]]
    if versions := {code["code_version"] for code in codes if code["code_version"]}:
        workflow["version"] = ", ".join(sorted(versions))
    if commits := provenance.commits(codes):
        workflow["identifier"] = f"git commit {', '.join(sorted(commits))}"
    workflow["softwareRequirements"] = _software(crate, gathered)
    workflow["hasPart"] = entities.get("code", [])


def _software(crate: Any, gathered: dict[str, Any]) -> list[Any]:
    """Return the software of the results with its versions; of Snakemake, the version that is installed now."""
    environments = [facts_of(environment) for environment in gathered["environments"]]
    with suppress(PackageNotFoundError):
        environments.append({"snakemake": version("snakemake")})
    software = []
    for key, (name, url) in SOFTWARE.items():
        for number in sorted({str(facts[key]) for facts in environments if facts.get(key) is not None}):
            facts = {"name": name, "softwareVersion": number, "url": {"@id": url}}
            software.append(_entity(crate, f"{url}#{quote(number)}", "SoftwareApplication", **facts))
    return software


def _run(
    crate: Any,
    study: Study,
    workflow: Any,
    entities: dict[str, list[Any]],
    gathered: dict[str, Any],
    missing: Sequence[dict[str, Any]],
    author: str | None,
) -> Any:
    """Return the `CreateAction`; its objects and results are values of the workflow's parameters."""
    data = [
        _entity(
            crate,
            f"#data-{name.replace('/', '-')}",
            "PropertyValue",
            name=f"Images of {name.partition('/')[0]} at {name.partition('/')[2]}",
            description="Not in this archive. Identified by the digest of its manifest: a sha256 over all pixels.",
            value=f"sha256:{value}",
        )
        for name, value in gathered["data"].items()
    ]

    def parameter(name: str, about: str, values: list[Any]) -> Any:
        kind = "PropertyValue" if name == "images" else "File"
        facts = {"name": name, "description": about, "additionalType": kind, "conformsTo": {"@id": PARAMETER}}
        entity = _entity(crate, f"#parameter-{name}", "FormalParameter", **facts)
        for value in values:
            value["exampleOfWork"] = entity
        return entity

    variants = entities.get("variant", [])
    workflow["input"] = [
        parameter("study", "The study: data, scales, seeds, variants, training", entities["study"]),
        parameter("variants", "Variants of the network, one file each", variants),
        parameter("images", "Images for training, validation and tests", data),
    ]
    workflow["output"] = parameter("results", "Tables, figures, and the results that they show", entities["result"])
    _entity(crate, PARAMETER, "CreativeWork", name="FormalParameter", version="1.0-RELEASE")
    start, end = _times(gathered)
    about = (
        f"{len(gathered['results'])} results in {gathered['seconds']:,.0f} s of computing. {_what_is_missing(missing)}"
    )
    times = {"startTime": start, "endTime": end}
    run = _entity(crate, "#run", "CreateAction", name=f"The study {study.name}, run", **times)
    run["description"] = about
    run["instrument"] = workflow
    run["object"] = [*entities["study"], *variants, *data]
    run["result"] = entities["result"]
    # The profile has no state for a run that is neither completed nor failed.
    if not missing:
        run["actionStatus"] = STATUS.format("Completed")
    elif any("failed" in result["reason"] for result in missing):
        run["actionStatus"] = STATUS.format("Failed")
        run["error"] = _what_is_missing(missing)
    if author:
        run["agent"] = _entity(crate, "#author", "Person", name=author)
    return run


def _times(gathered: dict[str, Any]) -> tuple[str, str]:
    """Return the start of the first result and the end of the last one; now, if no record tells."""
    timed = [result for result in gathered["results"] if result["started"]]
    starts = [datetime.fromisoformat(result["started"]) for result in timed]
    durations = [timedelta(seconds=result["seconds"] or 0) for result in timed]
    now = datetime.now(UTC)
    start, end = min(starts, default=now), max(map(add, starts, durations), default=now)
    return start.isoformat(timespec="seconds"), end.isoformat(timespec="seconds")


def _what_is_missing(missing: Sequence[dict[str, Any]]) -> str:
    """Say in a sentence what is missing."""
    if not missing:
        return "Nothing that the study asks for is missing."
    some = "; ".join(f"{result['file']} ({result['reason']})" for result in missing[:MAX_NAMED])
    more = f"; and {len(missing) - MAX_NAMED} more, see provenance.json" if len(missing) > MAX_NAMED else ""
    return f"UNFINISHED: {len(missing)} files that the study asks for are missing: {some}{more}."


def _entity(crate: Any, identifier: str, kind: str, /, **properties: Any) -> Any:
    from rocrate.model.contextentity import ContextEntity

    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **properties}))
