"""Step *consistent*: tables, claims, figures and page follow from the archived results, byte for byte."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from safmn import layout
from safmn.archive import agreeing
from safmn.archive.findings import CONFIRMED, NOT_CHECKED, NOTED, REFUTED, UNDECIDED, Finding, listed
from safmn.archive.opening import Opened
from safmn.archive.whole import code_differences
from safmn.errors import UserError, as_line
from safmn.paper.cell import Cell
from safmn.report import cells, origins, page
from safmn.report.joined import Joined
from safmn.report.measured import Results
from safmn.report.rendered import render
from safmn.study import Study

FROM_PIXELS = ("figure2", "figure5", "figure6")
"""Figures that show parts of images, which an archive does not hold."""


def check(archive: Opened, scratch: Path) -> Iterator[Finding]:
    """Yield what is found, so that a record which cannot be used hides nothing that was found before.

    Args:
        archive: the archive.
        scratch: an empty folder, in which everything is rendered again.
    """
    yield from agreeing.check(archive)
    try:
        study = archive.study()
    except UserError as error:
        yield Finding("tables, claims, figures", NOT_CHECKED, as_line(error))
        return
    yield from _provenance(archive, study)
    yield from _rendered(archive, study, scratch / study.name)


def _provenance(archive: Opened, study: Study) -> list[Finding]:
    """Gather `provenance.json` again; reasons of missing results come from logs, which an archive does not hold."""
    archived = archive.provenance
    again = json.loads(json.dumps(origins.collect(study, Results(archive.results))))
    wrong = [key for key in sorted({*archived, *again} - {"missing"}) if archived.get(key) != again.get(key)]
    if _without_reasons(archived.get("missing")) != _without_reasons(again["missing"]):
        wrong.append("missing")
    if wrong:
        return [Finding(layout.PROVENANCE, REFUTED, f"the archived records give another {listed(wrong)}")]
    return [Finding(layout.PROVENANCE, CONFIRMED, "it follows from the archived records")]


def _without_reasons(missing: Any) -> list[tuple[Any, Any]]:
    return [(each["what"], each["file"]) for each in missing] if isinstance(missing, list) else []


def _rendered(archive: Opened, study: Study, folder: Path) -> list[Finding]:
    """Render everything again from a copy of the results, and compare."""
    shutil.copytree(archive.results, folder)
    if not (folder / layout.CELLS).is_file():
        return [Finding("tables, claims, figures", NOT_CHECKED, "the archive has none: they had not been rendered")]
    try:
        archived = cells.read(archive.results / layout.CELLS)
    except UserError as error:
        return [Finding(layout.CELLS, REFUTED, as_line(error))]
    taken, borrowed = with_reasons_of(archived, cells.collect(study, Results(folder)))
    pictures = sorted(file.relative_to(archive.results).as_posix() for file in archive.results.glob("figures/*"))
    drawn: list[Finding] = []

    def compare_figures() -> None:
        """Compare the figures, and put the archived ones in their place: the page shows them."""
        from_pixels = [name for name in pictures if Path(name).stem in FROM_PIXELS]
        drawn.extend(_compared(archive, folder, [name for name in pictures if name not in from_pixels], "figures"))
        drawn.extend(_compared(archive, folder, from_pixels, "figures of images", decides=False))
        for name in pictures:
            shutil.copyfile(archive.results / name, folder / name)

    done = render(Joined(study, folder, taken), compare_figures)
    findings = _compared(archive, folder, [layout.CELLS], "its numbers and verdicts")
    names = [*(table.name or table.number for table in (*done.tables, done.one)), "claims"]
    texts = [layout.NETWORKS, *(layout.table(name, form) for name in names for form in layout.FORMS)]
    texts.remove(layout.table("claims", "tex"))  # there is none
    findings += [*_compared(archive, folder, texts, "tables and claims"), *drawn]
    findings += _compared(archive, folder, [layout.PAGE], "page")
    if borrowed:
        note = "the reasons come from logs and folders that are not in the archive; they were taken as they are"
        findings.append(Finding(f"{borrowed} missing cells", NOTED, note))
    differing = code_differences(archive)
    if differing and any(finding.verdict == REFUTED for finding in findings):
        note = f"the code differs, too ({listed(differing, 3)}): repeat this with the archived code to know the cause"
        findings.append(Finding("code", UNDECIDED, note))
    return findings


def with_reasons_of(archived: list[Cell], joined: list[Cell]) -> tuple[list[Cell], int]:
    """Return cells with the archived reason where both are missing, and how many reasons were taken."""
    reasons = {cell.place: cell.note for cell in archived if cell.is_missing}
    differing = [cell for cell in joined if cell.is_missing and reasons.get(cell.place, cell.note) != cell.note]
    taken = [replace(cell, note=reasons[cell.place]) if cell in differing else cell for cell in joined]
    return taken, len(differing)


def _compared(archive: Opened, folder: Path, names: list[str], what: str, decides: bool = True) -> list[Finding]:
    """Compare files byte for byte; one finding for all that are equal."""
    equal, findings = [], []
    for name in names:
        theirs, ours = archive.results / name, folder / name
        if not theirs.is_file():
            findings.append(Finding(name, NOT_CHECKED, "the archive does not hold it"))
        elif ours.is_file() and _content(theirs) == _content(ours):
            equal.append(name)
        elif decides:
            findings.append(Finding(name, REFUTED, f"rendered again it differs{_where(theirs, ours)}"))
        else:
            findings.append(Finding(name, NOT_CHECKED, "it shows parts of images, which the archive does not hold"))
    if equal:
        same = "the same bytes, rendered again"
        findings.insert(0, Finding(f"{what}: {len(equal)} files" if len(equal) > 1 else equal[0], CONFIRMED, same))
    return findings


def _content(file: Path) -> bytes:
    content = file.read_bytes()
    if file.name == layout.PAGE:
        return page.without_other_studies(content.decode("utf-8", "replace")).encode()
    return content


def _where(theirs: Path, ours: Path) -> str:
    """Name the first line in which two texts differ."""
    if theirs.suffix not in (".csv", ".md", ".tex", ".svg", ".html") or not ours.is_file():
        return ""
    first, second = (file.read_text(encoding="utf-8", errors="replace").splitlines() for file in (theirs, ours))
    for number, (a, b) in enumerate(zip(first, second, strict=False), 1):
        if a != b:
            return f" from line {number}: {a[:80]!r} archived, {b[:80]!r} now"
    return f": {len(first)} lines archived, {len(second)} now"
