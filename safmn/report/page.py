"""Write `report.html`: the answer, the one table, figures, verdicts, tables, claims, and provenance in one file.

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
from safmn.report import answer, figures, grids, origins, rendering, sentences, tables
from safmn.report import overview as other_studies
from safmn.report.figures import canvas
from safmn.report.grids import Table
from safmn.report.joined import Joined

TEMPLATE = Path(__file__).with_name("page.html")
KINDS = {
    "training": "Training",
    "evaluation": "Evaluation",
    "inspection": "Inspection",
    "complexity": "Counting",
    "memory": "Memory",
    "runtime": "Time",
    "operations": "Operations",
}
FIRST = ("figure1", "differences")
"""Figures that stand at the top."""
MAX_FIGURE = 5_000_000  # bytes of SVG; larger ones are left out, so that a phone can open the page


def write(joined: Joined, built: Sequence[Table], one: Table) -> Path:
    """Write `report.html` into the study's folder, which has `figures/` and `provenance.json`.

    Args:
        joined: The study with its results.
        built: The paper's tables.
        one: The table of `safmn.report.ablation_table`.
    """
    file = joined.folder / layout.PAGE
    write_text(file, html(joined, built, one))
    return file


def html(joined: Joined, built: Sequence[Table], one: Table) -> str:
    """Return the page as text; arguments as for `write`."""
    study, cells, folder = joined.study, joined.cells, joined.folder
    gathered = origins.read(folder)
    return rendering.html(
        TEMPLATE,
        study=study,
        answer=answer.sentences(joined),
        facts=answer.facts(study, gathered),
        one=one,
        unmeasured=answer.unmeasured(study, cells),
        command=answer.own_command(study),
        tables=[grids.measured_part(table) for table in built],
        overview=tables.counts_by_table(cells),
        elsewhere=_elsewhere(folder, cells),
        has_overview=(folder.parent / f"{layout.OVERVIEW}.html").is_file(),
        verdicts=verdicts.VERDICTS,
        symbols=grids.SYMBOLS,
        meanings=grids.MEANINGS,
        decisions=grids.DECISION_MEANINGS,
        spans=rendering.spans,
        figures=_figures(folder),
        first=FIRST,
        claims=sentences.by_heading(joined.claims),
        claims_summary=sentences.summary(joined.claims),
        claims_meanings=claims.MEANINGS,
        claims_rules=sentences.RULES,
        missing=missing(cells),
        provenance=provenance(gathered),
        content=json.dumps(study.shareable, indent=2, ensure_ascii=False),
    )


def without_other_studies(text: str) -> str:
    """Return a page without the numbers of other studies, so that it depends on its own study alone."""
    return re.sub(r"\s*<!-- other studies -->.*?<!-- end of other studies -->", "", text, flags=re.DOTALL)


def _elsewhere(folder: Path, cells: Sequence[Cell]) -> list[tuple[int, dict[str, str]]]:
    """Return table and line of each published cell that another study beside this one has a number for."""
    return [(each.cell.table, other_studies.line(each)) for each in other_studies.elsewhere(folder, cells)]


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
    """Summarise `provenance.json`: `what` and `facts` (key -> text), first those that all results share."""
    if gathered is None:
        return []
    environments = [origins.facts_of(environment) for environment in gathered["environments"]]
    if not environments:
        return []
    shared = {
        key: value
        for key, value in environments[0].items()
        if all(other.get(key) == value for other in environments[1:])
    }
    alike: dict[str, list[str]] = {}  # what differs, as text -> kinds of results
    differing = [{key: value for key, value in facts.items() if key not in shared} for facts in environments]
    times = Counter((result["what"], result["environment"]) for result in gathered["results"])
    for (what, place), count in times.items():
        alike.setdefault(json.dumps(differing[place]), []).append(f"{KINDS[what]} ({count})")
    parts = [(f"All {len(gathered['results'])} results", shared)]
    parts += [(", ".join(kinds), json.loads(text)) for text, kinds in alike.items() if text != "{}"]
    return [{"what": what, "facts": {key: str(value) for key, value in facts.items()}} for what, facts in parts]


def _figures(folder: Path) -> list[dict[str, Any]]:
    """Return each figure's SVG and caption, and `header` and `rows` of Entry from the CSV of its numbers if any."""
    shown = []
    for file in sorted(folder.glob(layout.figure("*", "svg"))):
        if file.name.startswith(".") or file.stat().st_size > MAX_FIGURE:
            continue
        drawn = file.read_bytes()
        header, *rows = figures.numbers(file) or [[]]
        entries = [[_number(text, place == 0) for place, text in enumerate(row)] for row in rows]
        shown.append(
            {
                "name": file.stem,
                "empty": f'id="{canvas.EMPTY}"'.encode() in drawn,
                "data": base64.b64encode(drawn).decode("ascii"),
                "caption": figures.caption(file.stem),
                "header": header,
                "rows": entries,
            }
        )
    return shown


def _number(text: str, header: bool) -> grids.Entry:
    """Return a field of a figure's CSV, rounded to be shown, unrounded for sorting."""
    try:
        value = float(text)
    except ValueError:
        return grids.Entry(text, header=header)
    return grids.Entry(f"{value:#.4g}" if "." in text else text, value, header=header)
