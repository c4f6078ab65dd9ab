"""The claims of the paper's text as a table: `tables/claims.md` and `tables/claims.csv`."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from safmn import layout, paths
from safmn.files import atomic, write_text
from safmn.networks import variants
from safmn.networks.registry import Network, published_networks
from safmn.paper import claims, published
from safmn.paper.cell import Cell
from safmn.paper.claims import MEANINGS, MEASURED_VERDICTS, PRINTED_VERDICTS, UNITS, Claim, Result, Side
from safmn.paper.quotations import CLAIMS
from safmn.report.rendering import escape_markdown as escape

DOUBTFUL = {  # whether the claim is held to a reading of this project -> heading
    False: "What does not follow from the printed cells",
    True: "What does not follow as it is read here, and may be meant otherwise",
}

RULES = (
    "About N means within one unit of its last digit; nearly N from 10 % below to half a unit above; a number without "
    "such a word that the computed one rounds to it. Almost the same: at most 0.05 dB apart; comparable: at most "
    "0.10 dB below; similar: at most 0.10 dB, or 10 %, apart; much less: by 50 % or more; small: 10 % or less; a large "
    "margin: 0.10 dB or 0.001 of SSIM, or more."
)


def printed_networks() -> list[Network]:
    """Return the networks that stand for the paper's rows: a user's own variants do not change the paper."""
    own = [variant.network for variant in variants.discover(paths.ROOT / "ablations").values()]
    return [*own, *published_networks().values()]


def evaluate(cells: Iterable[Cell] = ()) -> list[Result]:
    """Evaluate every claim of the paper on its published cells and on a study's."""
    return claims.evaluate(CLAIMS, published.cells(printed_networks()), cells)


def write(folder: Path | str, cells: Iterable[Cell] = ()) -> list[Result]:
    """Write `tables/claims.md` and `tables/claims.csv` into a study's folder; return what they hold."""
    results = evaluate(cells)
    with (
        atomic(Path(folder) / layout.table("claims", "csv")) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as handle,
    ):
        writer = csv.DictWriter(handle, _line(results[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(_line, results))
    write_text(Path(folder) / layout.table("claims", "md"), markdown(results))
    return results


def _line(result: Result) -> dict[str, Any]:
    """Return one line of `claims.csv`, numbers with all digits."""
    claim = result.claim
    line: dict[str, Any] = {
        "id": claim.id,
        "section": claim.section,
        "quotation": claim.quotation,
        "states": claim.reading,
        "unit": claim.unit,
        "compute": claim.arithmetic,
        "cells": "; ".join(f"{name} = {claims.shown(place)}" for name, place in claim.places.items()),
    }
    for kind, side in (("printed", result.printed), ("measured", result.measured)):
        line |= {f"{kind}_{key}": getattr(side, key) for key in ("value", "low", "high", "verdict")}
    return line | {"measured_note": result.measured.note, "is_reading": claim.is_reading, "note": claim.note}


def summary(results: Sequence[Result]) -> str:
    """Say how many claims have which verdict."""
    sides = {
        "On the paper's own printed cells": (PRINTED_VERDICTS, Counter(result.printed.verdict for result in results)),
        "On measured cells": (MEASURED_VERDICTS, Counter(result.measured.verdict for result in results)),
    }
    sentences = [
        f"{where}: {', '.join(f'{word} {counts[word]}' for word in words if counts[word])}."
        for where, (words, counts) in sides.items()
    ]
    return f"{len(results)} claims. {' '.join(sentences)}"


def markdown(results: Sequence[Result]) -> str:
    """Render the summary, the sentences that do not follow, all claims, and what the words mean."""
    parts = ["# Claims of the paper's text", "", escape(summary(results))]
    for title, complaints in doubtful(results).items():
        parts += ["", f"## {title}: {len(complaints)}", ""]
        parts += [f"- {escape(complaint)}" for complaint in complaints] or ["None."]
    rows = [
        {
            "Section": result.claim.section,
            "Sentence": f"“{result.claim.quotation}”",
            "Claim": result.claim.id,
            "States": result.claim.reading,
            "Printed": number(result.claim, result.printed),
            "From the print": result.printed.verdict,
            "Measured": number(result.claim, result.measured),
            "From the measurement": result.measured.verdict
            + (f": {result.measured.note}" if result.measured.note else ""),
        }
        for result in results
    ]
    table = pd.DataFrame(rows).map(escape).to_markdown(index=False, disable_numparse=True)
    parts += ["", "## All claims", "", table]
    parts += ["", "## How they are read", ""]
    parts += [f"- {word}: {escape(text)}." for word, text in MEANINGS.items()]
    parts += [f"- {escape(f'{result.claim.id}: {result.claim.note}')}" for result in results if result.claim.note]
    parts += ["", escape(f"The cells and the arithmetic of each claim are in `claims.csv`. {RULES}")]
    return "\n".join(parts) + "\n"


def doubtful(results: Sequence[Result]) -> dict[str, list[str]]:
    """Return the claims that do not follow from the paper's own cells: heading -> a sentence a claim."""
    complaints: dict[str, list[str]] = {title: [] for title in DOUBTFUL.values()}
    for result in results:
        if result.printed.verdict == claims.DOES_NOT_FOLLOW:
            complaints[DOUBTFUL[result.claim.is_reading]].append(_complaint(result))
    return complaints


def number(claim: Claim, side: Side) -> str:
    """Show a computed number with its unit and its range; "" where there is none."""
    if side.value is None:
        return ""
    digits = UNITS[claim.unit]
    text = f"{side.value:.{digits}f} {claim.unit}"
    low, high = f"{side.low:.{digits}f}", f"{side.high:.{digits}f}"
    return text if low == high else f"{text} ({low} to {high})"


def _complaint(result: Result) -> str:
    claim = result.claim
    text = f"“{claim.quotation}” ({claim.id}): states {claim.reading}, the cells give {number(claim, result.printed)}"
    return f"{text}. {claim.note}" if claim.note else text
