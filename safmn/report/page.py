"""Write `report.html`: verdicts, tables, claims, figures, what is missing, and provenance in one file.

The page needs no network and no other file; a content security policy forbids both. The template engine escapes all
text (titles, notes, messages).
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safmn import layout
from safmn.files import write_text
from safmn.paper import claims, verdicts
from safmn.paper.cell import Cell
from safmn.report import figures, origins, rendering, sentences, tables
from safmn.report import overview as other_studies
from safmn.report.tables import Table
from safmn.study import Study

TEMPLATE = Path(__file__).with_name("page.html")
CLAIM_SIGNS = {  # verdict of a claim -> the cells' verdict that has the same colour, and symbol
    claims.FOLLOWS: (verdicts.REPRODUCED, "✓"),
    claims.WITHIN_ROUNDING: (verdicts.ROUNDING, "≈"),
    claims.DOES_NOT_FOLLOW: (verdicts.CONTRADICTED, "✗"),
    claims.HOLDS: (verdicts.REPRODUCED, "✓"),
    claims.DOES_NOT_HOLD: (verdicts.CONTRADICTED, "✗"),
    claims.NOT_DECIDABLE: (verdicts.UNDECIDABLE, "?"),
    claims.NOT_COMPARABLE: (verdicts.NOT_COMPARABLE, "○"),
}
KINDS = {
    "training": "Training",
    "evaluation": "Evaluation",
    "inspection": "Inspection",
    "complexity": "Counting",
    "memory": "Memory",
    "runtime": "Time",
    "operations": "Operations",
}
MAX_FIGURE = 5_000_000  # bytes of SVG; larger ones are left out, so that a phone can open the page


def write(
    study: Study,
    folder: Path | str,
    cells: Sequence[Cell],
    rendered: Sequence[Table],
    judged: Sequence[claims.Result] = (),
) -> Path:
    """Write `report.html` into the study's folder.

    Args:
        study: The study.
        folder: Its folder, with `figures/` and `provenance.json`.
        cells: The study's cells.
        rendered: Its tables.
        judged: Its claims; none leaves their section out.
    """
    file = Path(folder) / layout.PAGE
    write_text(file, html(study, Path(folder), cells, rendered, judged))
    return file


def html(
    study: Study,
    folder: Path,
    cells: Sequence[Cell],
    rendered: Sequence[Table],
    judged: Sequence[claims.Result] = (),
) -> str:
    """Return the page as text; arguments as for `write`."""
    return rendering.html(
        TEMPLATE,
        study=study,
        tables=rendered,
        summary=tables.summary(cells),
        overview=tables.counts_by_table(cells),
        elsewhere=_elsewhere(folder, cells),
        has_overview=(folder.parent / f"{layout.OVERVIEW}.html").is_file(),
        verdicts=verdicts.VERDICTS,
        symbols=tables.SYMBOLS,
        meanings=tables.MEANINGS,
        decisions=tables.DECISION_MEANINGS,
        spans=rendering.spans,
        figures=_figures(folder),
        claims=claimed(judged),
        missing=missing(cells),
        provenance=provenance(origins.read(folder)),
        content=json.dumps(study.shareable, indent=2, ensure_ascii=False),
    )


def without_other_studies(text: str) -> str:
    """Return a page without the numbers of other studies, so that it depends on its own study alone."""
    return re.sub(r"\s*<!-- other studies -->.*?<!-- end of other studies -->", "", text, flags=re.DOTALL)


def _elsewhere(folder: Path, cells: Sequence[Cell]) -> list[tuple[int, dict[str, str], str]]:
    """Return (table, line, verdict) of each published cell that another study beside this one has a number for."""
    evidence = other_studies.elsewhere(folder, cells)
    return [(each.cell.table, other_studies.line(each), each.cell.verdict) for each in evidence]


def missing(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Return each reason for missing cells, the most frequent first: `reason`, `cells`, `tables`, `rows`."""
    reasons: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.is_missing:
            reasons.setdefault(cell.note, []).append(cell)
    lines = []
    for reason, own in reasons.items():
        names = list(dict.fromkeys(cell.network for cell in own))
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        numbers = ", ".join(map(str, sorted({cell.table for cell in own})))
        lines.append({"reason": reason, "cells": len(own), "tables": numbers, "rows": shown})
    return sorted(lines, key=lambda line: -line["cells"])


def provenance(gathered: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Summarise `provenance.json`: `what` and `facts` (key -> text) for each kind of result and environment."""
    if gathered is None:
        return []
    times = Counter((result["what"], result["environment"]) for result in gathered["results"])
    return [
        {
            "what": f"{KINDS[what]} ({count} records)" if count > 1 else KINDS[what],
            "facts": {key: str(value) for key, value in origins.facts_of(gathered["environments"][place]).items()},
        }
        for (what, place), count in times.items()
    ]


def claimed(judged: Sequence[claims.Result]) -> dict[str, Any]:
    """Return what the template shows of the claims; empty where there are none."""
    if not judged:
        return {}
    rows = []
    for result in judged:
        sides = [
            (sentences.number(result.claim, side), side.value, side.verdict, *CLAIM_SIGNS[side.verdict])
            for side in (result.printed, result.measured)
        ]
        rows.append({"claim": result.claim, "sides": sides, "note": result.measured.note})
    return {
        "summary": sentences.summary(judged),
        "doubtful": sentences.doubtful(judged),
        "rows": rows,
        "meanings": claims.MEANINGS,
        "notes": {result.claim.id: result.claim.note for result in judged if result.claim.note},
        "rules": sentences.RULES,
    }


def _figures(folder: Path) -> list[dict[str, Any]]:
    """Return each figure's SVG and caption, and `header` and `rows` of Entry from the CSV of its numbers if any."""
    shown = []
    for file in sorted(folder.glob(layout.figure("*", "svg"))):
        if file.name.startswith(".") or file.stat().st_size > MAX_FIGURE:
            continue
        data = base64.b64encode(file.read_bytes()).decode("ascii")
        header, *rows = figures.numbers(file) or [[]]
        entries = [[_number(text, place == 0) for place, text in enumerate(row)] for row in rows]
        shown.append({"data": data, "caption": figures.caption(file.stem), "header": header, "rows": entries})
    return shown


def _number(text: str, header: bool) -> tables.Entry:
    """Return a field of a figure's CSV, rounded to be shown, unrounded for sorting."""
    try:
        value = float(text)
    except ValueError:
        return tables.Entry(text, header=header)
    return tables.Entry(f"{value:#.4g}" if "." in text else text, value, header=header)
