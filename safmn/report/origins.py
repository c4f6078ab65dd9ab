"""`provenance.json`: where every result of a study comes from, gathered from the records that the stages write.

It only joins files: the same results give the same bytes. What several results have in common (code, device, host) is
an *environment*, written once. Every missing result is listed with the reason; for a record of an earlier version, the
facts that it lacks are listed.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
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
from safmn.report.imported import Imported
from safmn.report.measured import Absent, Record, Results
from safmn.report.provenance import Code, Device, Host, Provenance, Result
from safmn.study import Study

FORMAT = 1
OF_ENVIRONMENT = {"code": Code.model_fields, "device": Device.model_fields, "host": Host.model_fields}
"""Groups of facts in an environment."""
MAX_NUMBER = 2**63  # that any reader of JSON takes
MAY_LACK = {"gpu", "driver", "cuda", "cudnn"}
"""What a result that was not made on CUDA does not have."""


def write(study: Study, folder: Path | str) -> Path:
    """Write `provenance.json` into the study's folder, checked against its schema."""
    file = Path(folder) / layout.PROVENANCE
    record = collect(study, Results(folder))
    check(Provenance, record, file)
    write_json(file, record)
    return file


def read(folder: Path | str) -> dict[str, Any] | None:
    """Read a study's `provenance.json`; None where there is no usable one."""
    try:
        content = json.loads((Path(folder) / layout.PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def collect(study: Study, results: Results) -> dict[str, Any]:
    """Gather the content of `provenance.json`; `safmn.report.provenance` describes its parts."""
    imported = Imported(results.folder)
    numbers: dict[str, int] = {}  # digest of an environment -> its number
    environments: list[dict[str, Any]] = []
    available: list[dict[str, Any]] = []
    missing: list[dict[str, Any]] = []
    for what, file, network, scale, reason in _expected(study, results):
        document = results.json(file)
        result = {"what": what, "file": file, "network": network, "scale": scale}
        if isinstance(document, Absent):
            missing.append(result | {"reason": document.reason or reason})
            continue
        facts = _facts(document)
        environment = steady(facts)
        number = numbers.setdefault(digest(environment), len(numbers))
        if number == len(environments):
            environments.append(_environment(environment))
        result |= {key: facts.get(key) for key in OF_ONE_RESULT}
        if imported.holds(file):
            result["imported"] = imported.seal
        available.append(result | {"environment": number, "sessions": _sessions(document), "lacks": _lacks(facts)})
    return {
        "format": FORMAT,
        "study": study.name,
        "specification": digest(study.shareable),
        "started": min((result["started"] for result in available if result["started"]), default=None),
        "seconds": round(sum(result["seconds"] or 0 for result in available), 3),
        "data": _data(results),
        "environments": environments,
        "results": available,
        "missing": missing,
    }


def steady(facts: Record) -> dict[str, Any]:
    """Return provenance without the facts that differ from one result, or one moment, to the next."""
    return {
        key: value
        for key, value in facts.items()
        if key not in OF_ONE_RESULT and not key.startswith(("clock_", "temperature"))
    }


def facts_of(environment: Record) -> dict[str, Any]:
    """Return all known facts of an environment in one mapping."""
    return {key: value for group in environment.values() for key, value in group.items() if value is not None}


# --- Facts of one record ----------------------------------------------------------------------------------------------


def _facts(document: Record) -> dict[str, Any]:
    """Return a record's facts about its provenance that are valid by the schema."""
    parts = [document.get(key) for key in ("versions", "provenance")]
    facts = {key: value for part in parts if isinstance(part, Mapping) for key, value in part.items()}
    return {key: value for key, value in facts.items() if _is_valid(key, value)}


def _is_valid(key: str, value: Any) -> bool:
    """Return whether a value can be that fact, by the schema; facts that it does not name are texts or numbers."""
    if isinstance(value, int | float) and not abs(value) < MAX_NUMBER:  # nor is NaN
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
    rules = ((key, Annotated[field.annotation, field]) for key, field in fields.items())
    return {key: TypeAdapter(rule) for key, rule in rules}  # type: ignore[arg-type]  # a type built at run time


def _environment(facts: dict[str, Any]) -> dict[str, Any]:
    """Group facts by what they are about; the rest is `further`."""
    groups = {group: {key: facts.get(key) for key in keys} for group, keys in OF_ENVIRONMENT.items()}
    named = {key for keys in OF_ENVIRONMENT.values() for key in keys}
    return groups | {"further": {key: value for key, value in sorted(facts.items()) if key not in named}}


def _lacks(facts: Record) -> list[str]:
    keys = [key for group in OF_ENVIRONMENT.values() for key in group] + [*OF_ONE_RESULT]
    optional = set() if facts.get("device") == "cuda" else MAY_LACK
    return [key for key in keys if key not in facts and key not in optional]


def _sessions(document: Record) -> int:
    """Return the number of processes that made the result."""
    sessions = document.get("sessions")
    return len(sessions) if isinstance(sessions, list) and sessions else 1


def _data(results: Results) -> dict[str, str]:
    """Return packed dataset -> digest of its manifest, for those that can be read."""
    digests: dict[str, str] = {}
    for file in sorted(results.folder.glob(f"{layout.packed('*', '[234]')}/{layout.MANIFEST}")):
        with suppress(UserError):
            digests |= manifest.digests(file)
    return digests


# --- Results that a study should have ---------------------------------------------------------------------------------


def _expected(study: Study, results: Results) -> Iterator[tuple[str, str, str | None, int | None, str]]:
    """Yield what, file, network and scale of each result, and why it is missing if it is."""
    tests = bool(study.data.test)
    for run in study.runs():
        yield "training", run.record, run.variant, run.scale, results.untrained(run)
    for run in study.runs() if tests else []:
        for which in ("best", "last"):
            file = layout.evaluation(run.variant, run.scale, layout.trained(run.seed, which))
            yield "evaluation", file, run.variant, run.scale, _unevaluated(results, file)
    for subject in subjects.subjects(study) if tests else []:
        file = f"{subject.stem}.json"
        # Published networks are inspected only if their weights were available.
        if subject.run is not None or (results.folder / file).is_file():
            yield "inspection", file, subject.network, subject.scale, _uninspected(results, subject)
    for name in study.counted:
        for scale in study.scales:
            for weights in ("published", "legacy"):  # likewise
                file = layout.evaluation(name, scale, weights)
                if (results.folder / file).is_file():
                    yield "evaluation", file, name, scale, _unevaluated(results, file)
    for name in study.counted:
        reason = getattr(results.complexity(name, 4), "reason", "") or "not counted yet: `snakemake`"
        yield "complexity", layout.complexity(name), name, None, reason
    untimed = study.efficiency.reason_untimed
    for what, why in ("memory", ""), ("runtime", untimed), ("operations", untimed):
        yield what, layout.cost(what), None, None, results.complaint(what) or why or "not measured yet: `snakemake`"


def _unevaluated(results: Results, file: str) -> str:
    if any((results.folder / file).parent.glob("*.csv")):
        return "evaluated by a version that kept no record: delete the CSV files beside it and run `snakemake`"
    return "not evaluated yet: `snakemake`"


def _uninspected(results: Results, subject: subjects.Subject) -> str:
    run = subject.run
    weights = layout.weights(run.variant, run.scale, run.seed, "best") if run else ""
    return "not inspected yet: `snakemake`" if (results.folder / weights).exists() else "there are no weights yet"
