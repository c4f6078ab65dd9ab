"""Step *whole*: every file against its hash, the description against its seal and profile, and which code it holds."""

from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from safmn import provenance
from safmn.archive import facts, makers
from safmn.archive.crate import METADATA, PROFILES, ROCRATE
from safmn.archive.findings import CONFIRMED, NOT_CHECKED, NOTED, REFUTED, UNDECIDED, Finding, counted, listed
from safmn.archive.members import WORKFLOW
from safmn.archive.opening import Opened, is_safe

OTHER = "another version than the archived one"


def check(archive: Opened) -> list[Finding]:
    """Return what was found; raise BadArchive where the description cannot be read or a file is a link."""
    return [*seal(archive), *files(archive), *profile(archive), *code(archive)]


def seal(archive: Opened) -> list[Finding]:
    """Compare the description with its seal."""
    written, computed = archive.seals
    if written is None:
        note = f"without one, a change of {METADATA} itself is not noticed; an earlier version wrote this archive"
        return [Finding("seal", UNDECIDED, note)]
    if written != computed:
        return [Finding("seal", REFUTED, f"{METADATA} was changed: its seal is {written}, its content's {computed}")]
    return [Finding("seal", CONFIRMED, written)]


def files(archive: Opened) -> list[Finding]:
    """Compare every file with its size and hash."""
    listed_files, there = archive.listed, archive.files
    wrong = []
    for name, entity in listed_files.items():
        if not is_safe(name):
            wrong.append(Finding(name, REFUTED, "its name leads out of the archive"))
        elif name not in there:
            wrong.append(Finding(name, REFUTED, "it is missing"))
        elif str(there[name].stat().st_size) != entity.get("contentSize"):
            size = there[name].stat().st_size
            wrong.append(Finding(name, REFUTED, f"{size} bytes instead of {entity.get('contentSize')}"))
        elif provenance.of_file(there[name]) != entity.get("sha256"):
            wrong.append(Finding(name, REFUTED, "its content is not the one that was archived (sha256)"))
    wrong += [Finding(name, REFUTED, "the description does not list it") for name in there if name not in listed_files]
    if not listed_files:
        wrong.append(Finding("files", REFUTED, "the description lists none"))
    return wrong or [Finding(f"{len(listed_files)} files", CONFIRMED, "each has its sha256, and no other is there")]


def profile(archive: Opened) -> list[Finding]:
    """Check what the profile Workflow Run Crate asks of the description; with `rocrate`, read it with that, too."""
    graph = archive.graph
    root, run, workflow = graph.get("./", {}), graph.get("#run", {}), graph.get(WORKFLOW, {})
    demands = {
        "it describes itself as an RO-Crate 1.1": (
            "./" in _ids(graph.get(METADATA, {}).get("about"))
            and f"https://w3id.org/ro/crate/{ROCRATE}" in _ids(graph.get(METADATA, {}).get("conformsTo"))
        ),
        "it names its profiles": set(PROFILES) <= set(_ids(root.get("conformsTo"))),
        "it has a name, a description, a date and a licence": all(
            root.get(key) for key in ("name", "description", "datePublished", "license")
        ),
        "its main entity is the workflow": _ids(root.get("mainEntity")) == [WORKFLOW]
        and "ComputationalWorkflow" in str(workflow.get("@type")),
        "it mentions the run, whose instrument is the workflow": "#run" in _ids(root.get("mentions"))
        and _ids(run.get("instrument")) == [WORKFLOW],
        "every file is a part of it": set(archive.listed) == set(_ids(root.get("hasPart"))),
        "every reference leads somewhere": all(
            name in graph or name.startswith("http")
            for entity in graph.values()
            for value in entity.values()
            for name in _ids(value)
        ),
    }
    wrong = [Finding("crate", REFUTED, f"not true: {text}") for text, holds in demands.items() if not holds]
    return (wrong or [Finding("crate", CONFIRMED, "what the profile Workflow Run Crate 0.5 asks for is there")]) + [
        _read_by_rocrate(archive)
    ]


def _read_by_rocrate(archive: Opened) -> Finding:
    what = "crate, read by the package rocrate"
    if find_spec("rocrate") is None:
        return Finding(what, NOT_CHECKED, "it is not installed: `pip install safmn-harness[archive]`")
    from rocrate.rocrate import ROCrate

    try:
        crate = ROCrate(archive.folder)
        main = crate.mainEntity
    except Exception as error:  # of any kind: the content is somebody else's
        return Finding(what, REFUTED, f"it cannot be read ({type(error).__name__})")
    right = main is not None and main.id == WORKFLOW and len(crate.get_by_type("CreateAction")) == 1
    return Finding(what, CONFIRMED if right else REFUTED, "" if right else "no workflow, or not one run")


def code(archive: Opened) -> list[Finding]:
    """Say which code made the results, and whether that in the archive and that of the training are the code here."""
    with makers.of(archive) as found:
        return [*_of_results(archive, found), _code_here(archive), *_of_training(found)]


def _of_results(archive: Opened, found: makers.Makers) -> list[Finding]:
    inside = provenance.code(archive.folder)["code_sha256"]
    made_by: dict[str, tuple[str, list[str]]] = {}
    environments = archive.provenance.get("environments") or []
    for result in archive.provenance.get("results") or []:
        version, name, file = "unknown", "unknown code", str(facts.mapping(result).get("file", "?"))
        with suppress(LookupError, TypeError, AttributeError):
            code = environments[result["environment"]]["code"]
            version, name = str(code["code_sha256"]), found.named(code)
        made_by.setdefault(version, (name, []))[1].append(file)
    made = [
        Finding("code of the results", NOTED, f"{name}, {OTHER}, made {counted(files, 'result')}")
        for version, (name, files) in made_by.items()
        if version != inside
    ]
    if not made_by:
        made = [Finding("code of the results", UNDECIDED, "no record says which code made them")]
    elif not made:
        made = [Finding("code of the results", CONFIRMED, "the archived code made all results")]
    return made


def _of_training(found: makers.Makers) -> list[Finding]:
    """Compare the code that trained the runs with the code here."""
    return [
        Finding(
            "code of the training",
            NOTED,
            f"{counted(runs, 'run')}: trained by {maker}; steps retrained and extrapolated show its effect",
            maker.differing or (),
        )
        for maker, runs in found.others()
    ]


def _code_here(archive: Opened) -> Finding:
    differing = code_differences(archive)
    if not differing:
        return Finding("code here", NOTED, "it is the archived code")
    note = f"it differs from the archived code in {len(differing)} files: {listed(differing)}"
    return Finding("code here", NOTED, note)


def code_differences(archive: Opened) -> list[str]:
    """Return the files of the code and of the variants that differ between the archive and here."""
    theirs, ours = provenance.source_files(archive.folder), provenance.source_files()
    return [
        name
        for name in sorted({*theirs, *ours})
        if name not in theirs or name not in ours or theirs[name].read_bytes() != ours[name].read_bytes()
    ]


def _ids(value: Any) -> list[str]:
    """Return the ids that a property refers to."""
    return [str(each["@id"]) for each in (value if isinstance(value, list) else [value]) if _is_reference(each)]


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and "@id" in value
