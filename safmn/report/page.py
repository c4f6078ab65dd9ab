"""`report.html`: one file that holds verdicts, tables, figures, what is missing, and where every number comes from.

It needs no network and no other file, and forbids itself both by a content security policy. All text of others (titles,
notes, messages) goes through the template engine's escaping.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd

from safmn.files import write_text
from safmn.report import figures, rendering, tables, trained, verdicts
from safmn.report.measured import Absent, Results
from safmn.report.tables import Table
from safmn.study import Study

TEMPLATE = Path(__file__).with_name("page.html")
LARGEST_FIGURE = 5_000_000  # bytes of SVG; a page that a phone opens


def write(study: Study, folder: Path | str, frame: pd.DataFrame, rendered: Sequence[Table]) -> Path:
    """Writes `report.html` into the study's folder from `cells.csv`, the tables and what lies in `figures/`."""
    file = Path(folder) / "report.html"
    write_text(file, html(study, Path(folder), frame, rendered))
    return file


def html(study: Study, folder: Path, frame: pd.DataFrame, rendered: Sequence[Table]) -> str:
    """The page as text."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    results = Results(folder)
    return template.render(
        study=study,
        tables=rendered,
        overview=overview(frame),
        verdicts=verdicts.VERDICTS,
        symbols=tables.SYMBOLS,
        meanings=tables.MEANINGS,
        decisions=tables.DECISION_MEANINGS,
        spans=rendering.spans,
        figures=_figures(folder / "figures"),
        claims=_text(folder / "tables" / "claims.md"),
        missing=missing(frame),
        provenance=provenance(study, results),
        content=json.dumps(_without_paths(study.content), indent=2, ensure_ascii=False),
    )


def overview(frame: pd.DataFrame) -> list[tuple[str, dict[str, int]]]:
    """("Table 1", verdict -> printed cells) and so on, and the sum of all."""
    printed = frame[frame.published != ""]
    rows = [(f"Table {number}", tables.verdict_counts(printed[printed.table == number])) for number in range(1, 6)]
    return [*rows, ("all", tables.verdict_counts(printed))]


def missing(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Each reason for missing cells, the most frequent first: `reason`, `cells`, `tables`, `rows`."""
    absent = frame[frame.verdict == verdicts.MISSING]
    found = []
    for reason, own in absent.groupby("note", sort=False):
        rows = list(dict.fromkeys(own.row))
        shown = ", ".join(rows[:4]) + (f" and {len(rows) - 4} more" if len(rows) > 4 else "")
        numbers = ", ".join(str(number) for number in sorted(set(own.table)))
        found.append({"reason": reason, "cells": len(own), "tables": numbers, "rows": shown})
    return sorted(found, key=lambda each: -each["cells"])


def provenance(study: Study, results: Results) -> list[dict[str, Any]]:
    """What was made where: `what` and `facts` (key -> text), one entry for each distinct device and versions."""
    made: list[tuple[str, Mapping[str, Any]]] = []
    made += [("Training", record.get("provenance") or {}) for record in trained.records(study, results)]
    for name in [*study.variants, *study.networks]:
        for scale in (2, 3, 4):
            record = results.complexity(name, scale)
            if record and record["versions"]:
                made.append(("Counting", record["versions"]))
    for what, file in (("Memory", "memory"), ("Time", "runtime"), ("Operations", "operations")):
        document = results.json(f"cost/{file}.json")
        if not isinstance(document, Absent) and isinstance(document.get("provenance"), Mapping):
            made.append((what, document["provenance"]))
    found: list[dict[str, Any]] = []
    times: dict[int, int] = {}
    for what, facts in made:
        known = next((each for each in found if each["what"] == what and each["raw"] == _steady(facts)), None)
        if known is None:
            known = {"what": what, "raw": _steady(facts), "facts": {key: str(value) for key, value in facts.items()}}
            found.append(known)
        times[id(known)] = times.get(id(known), 0) + 1
    return [
        {
            "what": f"{each['what']} ({times[id(each)]} records)" if times[id(each)] > 1 else each["what"],
            "facts": each["facts"],
        }
        for each in found
    ]


def _steady(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance without what differs from one moment to the next."""
    return {key: value for key, value in facts.items() if not key.startswith(("clock_", "temperature"))}


def _without_paths(content: dict[str, Any]) -> dict[str, Any]:
    """A study without the folders of whoever ran it: the page is made to be passed on."""
    shown = deepcopy(content)
    for key in ("root", "folders"):
        shown.get("data", {}).pop(key, None)
    shown.pop("weights", None)
    return shown


def _figures(folder: Path) -> list[dict[str, str]]:
    found = []
    for file in sorted(folder.glob("*.svg")):
        if file.name.startswith(".") or file.stat().st_size > LARGEST_FIGURE:
            continue
        data = base64.b64encode(file.read_bytes()).decode("ascii")
        found.append({"data": data, "caption": figures.caption(file.stem)})
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
