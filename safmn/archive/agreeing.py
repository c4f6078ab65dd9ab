"""Whether the records of an archive agree with each other: scores, weights, histories, manifests.

A hash that was computed again after an edit satisfies the step *whole*. But each result is also named in other records,
by its hash or by its numbers, and these must be edited as well.
"""

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

from safmn import layout, provenance
from safmn.archive import makers
from safmn.archive.facts import mapping
from safmn.archive.findings import CONFIRMED, REFUTED, Finding
from safmn.archive.opening import Opened
from safmn.data import manifest
from safmn.errors import UserError, as_line
from safmn.files import digest

EQUAL = 1e-9  # of means that are computed again from the same numbers
_EVALUATION = re.compile(r"quality/([^/]+)/x([234])/(?:seed(\d+)_(\w+)|published|legacy)/evaluation\.json")
_RUN = re.compile(r"training/([^/]+)/x([234])_seed(\d+)/run\.json")


def check(archive: Opened) -> list[Finding]:
    """Compare the records of an archive with each other and with the files that they describe."""
    results = archive.results
    names = sorted(file.relative_to(results).as_posix() for file in results.rglob("*") if file.is_file())
    digests: dict[str, str] = {}
    findings = []
    for name in names:
        if name.endswith(f"/{layout.MANIFEST}"):
            findings.append(_manifest(results / name, name, digests))
    for name in names:
        if name.endswith(".safetensors"):
            findings.append(_weights(archive, name))
        elif found := _EVALUATION.fullmatch(name):
            findings += _evaluation(archive, name, found, digests)
        elif found := _RUN.fullmatch(name):
            findings += _run(archive, name, found, digests)
    with makers.of(archive) as code:
        false = [run for maker, runs in code.others() if maker.has_its_key is False for run in runs]
    note = "its key does not belong to its specification, code and data"
    return findings + [Finding(f"{run}/{layout.RUN}", REFUTED, note) for run in false]


def _said(name: str, wrong: list[str], right: str) -> Finding:
    return Finding(name, REFUTED, "; ".join(wrong)) if wrong else Finding(name, CONFIRMED, right)


def _manifest(file: Path, name: str, digests: dict[str, str]) -> Finding:
    place = PurePosixPath(name).parent.relative_to(layout.DATA).as_posix()
    try:
        content = manifest.read(file)
    except UserError as error:
        return Finding(name, REFUTED, as_line(error).partition(" is damaged ")[2] or as_line(error))
    digests[place] = content.digest
    named = f"{content.dataset}/x{content.scale}"
    return _said(name, [] if named == place else [f"it is of {named}"], "its digest is that of its images")


def _weights(archive: Opened, name: str) -> Finding:
    """Compare weights with the place where they lie: network, scale, and which of the run's weights they are."""
    found = re.fullmatch(r"training/([^/]+)/x([234])_seed\d+/(\w+)\.safetensors", name)
    if not found:
        return Finding(name, REFUTED, "weights do not lie here")
    try:
        with safe_open(archive.results / name, framework="pt") as handle:
            facts = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        return Finding(name, REFUTED, f"they cannot be read ({type(error).__name__})")
    expected = dict(zip(("network", "scale", "which"), found.groups(), strict=True))
    wrong = [f"{key} {facts.get(key)} instead of {value}" for key, value in expected.items() if facts.get(key) != value]
    return _said(name, wrong, "network and scale are those of its place")


def _evaluation(archive: Opened, name: str, found: re.Match[str], digests: dict[str, str]) -> Iterator[Finding]:
    record, folder = archive.record(name), PurePosixPath(name).parent
    network, scale, seed, which = found.groups()
    place = (record.get("network"), str(record.get("scale")))
    wrong = [] if place == (network, scale) else [f"it is of {place[0]} x{place[1]}"]
    weights = record.get("weights") if isinstance(record.get("weights"), dict) else None
    trained = archive.results / layout.weights(network, scale, seed, which) if seed is not None else None
    if trained is not None and weights is None:
        wrong.append("it does not say which weights it evaluated")
    elif trained is not None and trained.is_file() and provenance.of_file(trained) != (weights or {}).get("sha256"):
        wrong.append(f"it evaluated other weights than the archived {trained.name} (sha256)")
    wrong += _of_other_data(record, digests)
    yield _said(name, wrong, "network, weights and data are those of its place")
    datasets = record.get("datasets")
    entries = [entry for entry in datasets if isinstance(entry, dict)] if isinstance(datasets, list) else []
    named = {PurePosixPath(str(entry.get("out"))).name: entry for entry in entries}
    files = {file.name for file in (archive.results / folder).glob("*.csv")}
    for file in sorted(files | named.keys()):
        yield _scores(archive.results / folder / file, f"{folder}/{file}", named.get(file))


def _scores(file: Path, name: str, entry: dict[str, Any] | None) -> Finding:
    """Compare PSNR and SSIM of the images with the hash and the means in the record."""
    if entry is None:
        return Finding(name, REFUTED, "the record beside it does not name it")
    if not file.is_file():
        return Finding(name, REFUTED, "it is missing, and the record beside it names it")
    try:
        with open(file, encoding="utf-8", newline="") as handle:
            rows = [(float(row["psnr"]), float(row["ssim"])) for row in csv.DictReader(handle)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError):
        return Finding(name, REFUTED, "it is damaged")
    wrong = []
    if provenance.of_file(file) != entry.get("sha256"):
        wrong.append("it is not the file that was evaluated (sha256 in the record)")
    if len(rows) != entry.get("images"):
        wrong.append(f"{len(rows)} images instead of {entry.get('images')}")
    for place, metric in enumerate(("psnr", "ssim")):
        values = [row[place] for row in rows]
        mean = math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else None
        told = entry.get(metric)
        if mean is not None and not (isinstance(told, int | float) and abs(mean - told) <= EQUAL):
            wrong.append(f"mean {metric} {mean:.6f}, {told} in the record")
    return _said(name, wrong, "hash and means are those of its record")


def _run(archive: Opened, name: str, found: re.Match[str], digests: dict[str, str]) -> Iterator[Finding]:
    record, folder = archive.record(name), PurePosixPath(name).parent
    specification = mapping(record.get("specification"))
    place = tuple(str(specification.get(key)) for key in ("network", "scale", "seed"))
    wrong = [] if place == found.groups() else [f"it is of {place[0]} x{place[1]} seed {place[2]}"]
    facts = mapping(record.get("provenance"))
    if facts.get("specification") != digest(specification):
        wrong.append("its specification is not the one that its provenance names (sha256)")
    wrong += _of_other_data(record, digests)
    yield _said(name, wrong, "specification and data are those of its place")
    try:
        wrong = _of_other_history(archive.results / folder / layout.HISTORY, record, specification)
    except (OSError, UnicodeDecodeError, csv.Error, LookupError, TypeError, ValueError):
        wrong = ["it is missing or damaged"]
    yield _said(f"{folder}/{layout.HISTORY}", wrong, "it goes to the last iteration of the record, with its best PSNR")


def _of_other_history(file: Path, record: dict[str, Any], specification: dict[str, Any]) -> list[str]:
    with open(file, encoding="utf-8", newline="") as handle:
        psnr = {int(row["iteration"]): row["validation_psnr_rgb"] for row in csv.DictReader(handle)}
    wrong = []
    last, best = record["last"]["iteration"], record["best"]
    if record.get("outcome") == "finished" and (max(psnr) != last or last != specification["training"]["iterations"]):
        wrong.append(f"it ends at iteration {max(psnr)}, the run at {last}")
    every = specification["training"]["validate_every"]
    absent = [iteration for iteration in range(every, last + 1, every) if not psnr.get(iteration)]
    if absent:
        wrong.append(f"the validation of iteration {absent[0]} is missing")
    told = best["validation_psnr_rgb"]
    if told is not None and float(psnr.get(best["iteration"]) or "nan") != told:
        wrong.append(f"it has no validation of {told} dB at iteration {best['iteration']}")
    values = [float(value) for value in psnr.values() if value]
    if told is not None and values and max(values) > told:
        wrong.append(f"it has a better validation, {max(values)} dB, than the record's best")
    return wrong


def _of_other_data(record: dict[str, Any], digests: dict[str, str]) -> list[str]:
    """Compare the digests of whole datasets in a record with the manifests; a part of one has a digest of its own."""
    wrong = []
    for text, value in mapping(mapping(record.get("provenance")).get("data")).items():
        place = str(text).rpartition(f"{layout.DATA}/")[2]
        if place in digests and value != digests[place]:
            wrong.append(f"its data {place} are not those of the manifest")
    return wrong
