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
from safmn.paper import claims
from safmn.paper.cell import Cell
from safmn.paper.claims import MEANINGS, MEASURED_VERDICTS, PRINTED_VERDICTS, UNITS, Claim, Result, Side
from safmn.report.rendering import escape_markdown as escape

DOUBTFUL = {  # whether the claim is held to a reading of this project -> heading
    False: "What does not follow from the printed cells",
    True: "What does not follow as it is read here, and may be meant otherwise",
}


def printed_networks() -> list[Network]:
    """Those that stand for the paper's rows: the project's own variants, since a user's do not change the print."""
    own = [variant.network for variant in variants.discover(paths.ROOT / "ablations").values()]
    return [*own, *published_networks().values()]


def evaluate(cells: Iterable[Cell] = ()) -> list[Result]:
    """Every claim of the paper, on the print and on a study's cells."""
    return claims.evaluate(claims.load(printed_networks()), cells)


def write(folder: Path | str, cells: Iterable[Cell] = ()) -> list[Result]:
    """Writes `tables/claims.md` and `tables/claims.csv` into a study's folder, and returns what stands in them."""
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
    """One claim, every digit of every number."""
    claim = result.claim
    line: dict[str, Any] = {
        "id": claim.id,
        "section": claim.section,
        "quotation": claim.quotation,
        "states": claim.reading,
        "unit": claim.unit,
        "compute": claim.compute.text,
        "cells": "; ".join(f"{name} = {claims.shown(cell)}" for name, cell in claim.cells.items()),
    }
    for kind, side in (("printed", result.printed), ("measured", result.measured)):
        line |= {
            f"{kind}_value": side.value,
            f"{kind}_low": side.low,
            f"{kind}_high": side.high,
            f"{kind}_verdict": side.verdict,
        }
    return line | {"measured_note": result.measured.note, "is_reading": claim.is_reading, "note": claim.note}


def summary(results: Sequence[Result]) -> str:
    """How many claims have which verdict."""
    sides = (
        ("On the paper's own printed cells", PRINTED_VERDICTS, Counter(each.printed.verdict for each in results)),
        ("On measured cells", MEASURED_VERDICTS, Counter(each.measured.verdict for each in results)),
    )
    said = [
        f"{where}: {', '.join(f'{word} {counts[word]}' for word in words if counts[word])}."
        for where, words, counts in sides
    ]
    return f"{len(results)} claims. {' '.join(said)}"


def markdown(results: Sequence[Result]) -> str:
    """The summary, the sentences that do not follow, all claims, and what the words mean."""
    parts = ["# Claims of the paper's text", "", escape(summary(results))]
    for title, complaints in doubtful(results).items():
        parts += ["", f"## {title}: {len(complaints)}", ""]
        parts += [f"- {escape(each)}" for each in complaints] or ["None."]
    rows = [
        {
            "Section": each.claim.section,
            "Sentence": f"“{each.claim.quotation}”",
            "Claim": each.claim.id,
            "States": each.claim.reading,
            "Printed": number(each.claim, each.printed),
            "From the print": each.printed.verdict,
            "Measured": number(each.claim, each.measured),
            "From the measurement": each.measured.verdict + (f": {each.measured.note}" if each.measured.note else ""),
        }
        for each in results
    ]
    table = pd.DataFrame(rows).map(escape).to_markdown(index=False, disable_numparse=True)
    parts += ["", "## All claims", "", table]
    parts += ["", "## How they are read", ""]
    parts += [f"- {word}: {escape(text)}." for word, text in MEANINGS.items()]
    parts += [f"- {escape(f'{each.claim.id}: {each.claim.note}')}" for each in results if each.claim.note]
    parts += ["", escape(f"The cells and the arithmetic of each claim are in `claims.csv`. {RULES}")]
    return "\n".join(parts) + "\n"


def doubtful(results: Sequence[Result]) -> dict[str, list[str]]:
    """Heading -> a sentence for each claim that does not follow from the paper's own cells."""
    found: dict[str, list[str]] = {title: [] for title in DOUBTFUL.values()}
    for each in results:
        if each.printed.verdict == claims.DOES_NOT_FOLLOW:
            found[DOUBTFUL[each.claim.is_reading]].append(_complaint(each))
    return found


RULES = (
    "About N means within one unit of its last digit; nearly N from 10 % below to half a unit above; a number without "
    "such a word that the computed one rounds to it. Almost the same: at most 0.05 dB apart; comparable: at most "
    "0.10 dB below; similar: at most 0.10 dB, or 10 %, apart; much less: by 50 % or more; small: 10 % or less; a large "
    "margin: 0.10 dB or 0.001 of SSIM, or more."
)


def number(claim: Claim, side: Side) -> str:
    """A computed number with its unit and what it may be; "" where there is none."""
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
