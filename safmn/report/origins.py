"""`provenance.json`: where every result of a study comes from, gathered from the records that the stages leave.

A pure join, as everything in the report: the same results give the same bytes. What several results have in common
(device, code, host) is an *environment*, written once. A result that is not there is named with the reason; one whose
record lacks a fact (it was left by an earlier version) is named with what it lacks.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from safmn import layout
from safmn.configuration import check
from safmn.data import manifest
from safmn.errors import UserError
from safmn.files import digest, write_json
from safmn.inspection import subjects
from safmn.provenance import OF_ONE_RESULT
from safmn.report.measured import Absent, Results
from safmn.report.provenance import Code, Device, Host, Provenance, Result
from safmn.study import Study

FILE = layout.PROVENANCE
FORMAT = 1
OF_ENVIRONMENT = {
    "code": ("code_version", "code_commit", "code_dirty", "code_sha256"),
    "device": ("device", "gpu", "driver", "torch", "cuda", "cudnn"),
    "host": ("cpu", "cores", "memory_mib", "os", "python"),
}
LARGEST = 2**63  # of numbers that any reader of JSON takes
MAY_LACK = {"gpu", "driver", "cuda", "cudnn"}
"""What a result that was not made on CUDA does not have."""


def write(study: Study, folder: Path | str) -> Path:
    """Writes `provenance.json` into the study's folder, checked against its schema."""
    file = Path(folder) / FILE
    record = collect(study, Results(folder))
    check(Provenance, record, file)
    write_json(file, record)
    return file


def collect(study: Study, results: Results) -> dict[str, Any]:
    """The content of `provenance.json`; its parts are described in `safmn.report.provenance`."""
    environments: dict[str, int] = {}
    described: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    missing: list[dict[str, Any]] = []
    for what, file, network, scale, reason in _expected(study, results):
        document = results.json(file)
        named = {"what": what, "file": file, "network": network, "scale": scale}
        if isinstance(document, Absent):
            missing.append(named | {"reason": document.reason or reason()})
            continue
        facts = _facts(document)
        environment = steady(facts)
        place = environments.setdefault(digest(environment), len(environments))
        if place == len(described):
            described.append(_environment(environment))
        found.append(
            named
            | {key: facts.get(key) for key in OF_ONE_RESULT}
            | {"environment": place, "sessions": _sessions(document), "lacks": _lacks(facts)}
        )
    return {
        "format": FORMAT,
        "study": study.name,
        "specification": digest(study.shareable),
        "started": min((each["started"] for each in found if each["started"]), default=None),
        "seconds": round(sum(each["seconds"] or 0 for each in found), 3),
        "data": _data(results),
        "environments": described,
        "results": found,
        "missing": missing,
    }


def _facts(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of its provenance, as far as it makes sense; the rest counts as not said."""
    said = [document.get(key) for key in ("versions", "provenance")]
    facts = {key: value for each in said if isinstance(each, Mapping) for key, value in each.items()}
    return {key: value for key, value in facts.items() if _fits(key, value)}


def _fits(key: str, value: Any) -> bool:
    """Whether a value can be that fact, by the schema of the file that is written; others are texts or numbers."""
    if isinstance(value, int | float) and not abs(value) < LARGEST:  # nor is NaN
        return False
    rule = _rules().get(key)
    if rule is None:
        return isinstance(value, str | int | float | None)
    try:
        rule.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


@cache
def _rules() -> dict[str, TypeAdapter[Any]]:
    fields = {key: field for model in (Result, Code, Device, Host) for key, field in model.model_fields.items()}
    return {key: TypeAdapter(Annotated[field.annotation, field]) for key, field in fields.items()}


def steady(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance without what differs from one result, or one moment, to the next."""
    return {
        key: value
        for key, value in facts.items()
        if key not in OF_ONE_RESULT and not key.startswith(("clock_", "temperature"))
    }


def _environment(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts by what they are about; the rest as `further`."""
    named = {key for keys in OF_ENVIRONMENT.values() for key in keys}
    grouped = {group: {key: facts.get(key) for key in keys} for group, keys in OF_ENVIRONMENT.items()}
    return grouped | {"further": {key: value for key, value in sorted(facts.items()) if key not in named}}


def facts_of(environment: Mapping[str, Any]) -> dict[str, Any]:
    """All that is known about an environment, in one mapping."""
    return {key: value for group in environment.values() for key, value in group.items() if value is not None}


def _lacks(facts: Mapping[str, Any]) -> list[str]:
    wanted = [key for keys in OF_ENVIRONMENT.values() for key in keys] + [*OF_ONE_RESULT]
    optional = set() if facts.get("device") == "cuda" else MAY_LACK
    return [key for key in wanted if key not in facts and key not in optional]


def _sessions(document: Mapping[str, Any]) -> int:
    """In how many processes it was made."""
    sessions = document.get("sessions")
    return len(sessions) if isinstance(sessions, list) and sessions else 1


def _expected(study: Study, results: Results) -> Iterator[tuple[str, str, str | None, int | None, Callable[[], str]]]:
    """What the study should leave: what, file, network, scale, and what says why it is not there."""
    for run in study.runs():
        yield (
            "training",
            f"{layout.run(run.variant, run.scale, run.seed)}/{layout.RUN}",
            run.variant,
            run.scale,
            partial(results.untrained, run),
        )
    for run in study.runs() if study.data.test else []:
        for which in ("best", "last"):
            file = layout.evaluation(run.variant, run.scale, layout.trained(run.seed, which))
            yield "evaluation", file, run.variant, run.scale, partial(_unevaluated, results, file)
    for subject in subjects.subjects(study) if study.data.test else []:
        file = f"{subject.stem}.json"
        # Others are looked into as far as weights were at hand.
        if subject.run is not None or (results.folder / file).is_file():
            reason = partial(_uninspected, results, subject)
            yield "inspection", file, subject.network, subject.scale, reason
    names = list(dict.fromkeys([*study.variants, *study.networks]))
    for name in names:
        for scale in study.scales:
            for weights in ("published", "legacy"):  # as far as weights were at hand
                file = layout.evaluation(name, scale, weights)
                if (results.folder / file).is_file():
                    yield "evaluation", file, name, scale, partial(_unevaluated, results, file)
    for name in names:
        yield "complexity", layout.complexity(name), name, None, partial(_uncounted, results, name)
    for what in ("memory", "runtime", "operations"):
        yield what, layout.cost(what), None, None, partial(_unmeasured, results, what)


def _unevaluated(results: Results, file: str) -> str:
    if any((results.folder / file).parent.glob("*.csv")):
        return "evaluated by a version that kept no record: delete the CSV files beside it and run `snakemake`"
    return "not evaluated yet: `snakemake`"


def _uninspected(results: Results, subject: subjects.Subject) -> str:
    run = subject.run
    weights = layout.weights(run.variant, run.scale, run.seed, "best") if run else ""
    return "not looked into yet: `snakemake`" if (results.folder / weights).exists() else "there are no weights yet"


def _uncounted(results: Results, name: str) -> str:
    return getattr(results.complexity(name, 4), "reason", "") or "not counted yet: `snakemake`"


def _unmeasured(results: Results, what: str) -> str:
    return results.complaint(what) or "not measured yet: `snakemake`"


def _data(results: Results) -> dict[str, str]:
    """Packed dataset -> digest of its manifest, as far as they can be read."""
    found: dict[str, str] = {}
    for file in sorted(results.folder.glob(f"{layout.packed('*', '[234]')}/{layout.MANIFEST}")):
        with suppress(UserError):
            found |= manifest.digests(file)
    return found


def read(folder: Path | str) -> dict[str, Any] | None:
    """A study's `provenance.json` as it is; None where there is no usable one."""
    try:
        content = json.loads((Path(folder) / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
