"""The claims of the paper's text as a table: `tables/claims.md` and `tables/claims.csv`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from safmn import layout, paths
from safmn.files import write_csv, write_text
from safmn.networks import all_networks, variants
from safmn.networks.registry import Network, published_networks
from safmn.paper import claims, published, verdicts
from safmn.paper.cell import Cell
from safmn.paper.claims import MEANINGS, MEASURED_VERDICTS, PRINTED_VERDICTS, UNITS, Claim, Result, Side
from safmn.paper.quotations import CLAIMS
from safmn.report.rendering import escape_markdown as escape

DOUBTFUL = {  # whether the claim is held to a reading of this project -> heading
    False: "What does not follow from the printed cells",
    True: "What does not follow as it is read here, and may be meant otherwise",
}
FOLLOWING = "What follows from the paper's own cells"
DECIDING = (verdicts.REPRODUCED, verdicts.CONTRADICTED)

MAX_NAMED = 3  # rows that are named of those that a claim is about
_QUANTITIES = {
    "params": "parameters",
    "flops": "FLOPs",
    "activations": "activations",
    "memory": "memory",
    "runtime": "time",
    "psnr": "PSNR",
    "ssim": "SSIM",
} | {column.rpartition("_")[2]: title for title, column in published.OPERATIONS.items()}
"""The last word of a column of `cells.csv` -> the quantity in words."""

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


def write(results: Sequence[Result], folder: Path | str) -> None:
    """Write `tables/claims.md` and `tables/claims.csv` into a study's folder."""
    write_csv(Path(folder) / layout.table("claims", "csv"), _line(results[0]), map(_line, results))
    write_text(Path(folder) / layout.table("claims", "md"), markdown(results))


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
    counted = [
        f"{where}: {', '.join(f'{counts[word]} {word}' for word in words if counts[word])}."
        for where, (words, counts) in sides.items()
    ]
    return f"{len(results)} claims in {len(by_sentence(results))} sentences. {' '.join(counted)}"


def markdown(results: Sequence[Result]) -> str:
    """Render the summary, the sentences that do not follow, all claims, and what the words mean."""
    parts = ["# Claims of the paper's text", "", escape(summary(results))]
    for title, complaints in doubtful(results).items():
        parts += ["", f"## {title}: {len(complaints)}", ""]
        parts += [f"- {escape(complaint)}" for complaint in complaints] or ["None."]
    rows = [
        {
            "Section": each.section,
            "Sentence": "" if place else f"“{each.quotation}”",
            "About": row["about"],
            "States": row["reading"],
            "Printed": row["printed"],
            "From the print": row["printed_verdict"],
            "Measured": row["measured"],
            "From the measurement": "; ".join(filter(None, (row["measured_verdict"], row["remark"]))),
        }
        for each in by_sentence(results)
        for place, row in enumerate(each.rows)
    ]
    table = pd.DataFrame(rows).map(escape).to_markdown(index=False, disable_numparse=True)
    parts += ["", "## All claims", "", table]
    parts += ["", "## How they are read", ""]
    parts += [f"- {word}: {escape(text)}." for word, text in MEANINGS.items()]
    parts += ["", escape(f"The cells and the arithmetic of each claim are in `claims.csv`. {RULES}")]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True)
class Sentence:
    """A sentence of the paper, and its claims."""

    section: str
    quotation: str
    results: list[Result]

    @property
    def notes(self) -> list[str]:
        """How its claims are read, each note once."""
        return list(dict.fromkeys(result.claim.note for result in self.results if result.claim.note))

    @property
    def rows(self) -> list[dict[str, str]]:
        """What is shown of each claim."""
        return [
            {
                "about": about(result.claim),
                "reading": result.claim.reading,
                "printed": number(result.claim, result.printed),
                "printed_verdict": result.printed.verdict,
                "measured": number(result.claim, result.measured),
                "measured_verdict": result.measured.verdict,
                # The words of a verdict that does not decide say why.
                "remark": result.measured.note if result.measured.verdict in DECIDING else "",
            }
            for result in self.results
        ]

    @property
    def heading(self) -> str:
        """The heading that it stands below: a value of DOUBTFUL where a claim is contradicted, else FOLLOWING."""
        wrong = [result for result in self.results if verdicts.CONTRADICTED in result.verdicts]
        return DOUBTFUL[all(result.claim.is_reading for result in wrong)] if wrong else FOLLOWING


def by_sentence(results: Iterable[Result]) -> list[Sentence]:
    """Group claims by their sentence, in the paper's order."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault((result.claim.section, result.claim.quotation), []).append(result)
    return [Sentence(section, quotation, own) for (section, quotation), own in found.items()]


def by_heading(results: Iterable[Result]) -> dict[str, list[Sentence]]:
    """Group the sentences by their heading, those that follow last."""
    sentences = by_sentence(results)
    return {title: [each for each in sentences if each.heading == title] for title in (*DOUBTFUL.values(), FOLLOWING)}


def doubtful(results: Sequence[Result]) -> dict[str, list[str]]:
    """Return the claims that do not follow from the paper's own cells: heading -> a sentence a claim."""
    complaints: dict[str, list[str]] = {title: [] for title in DOUBTFUL.values()}
    for result in results:
        if result.printed.verdict == verdicts.CONTRADICTED:
            complaints[DOUBTFUL[result.claim.is_reading]].append(_complaint(result))
    return complaints


def about(claim: Claim) -> str:
    """Name the cells that a claim is about in words: "#Params of SAFMN and CARN, x4 (Table 1)"."""
    networks = all_networks()
    tables, names, scales, columns = (list(dict.fromkeys(part)) for part in zip(*claim.places.values(), strict=True))
    rows = [networks[name].title if name in networks else name for name in names]
    if len(rows) > MAX_NAMED:
        rows = [*rows[: MAX_NAMED - 1], f"{len(rows) - MAX_NAMED + 1} others"]
    quantities = list(dict.fromkeys(_QUANTITIES.get(column.rpartition("_")[2], column) for column in columns))
    at = ", ".join(f"x{scale}" for scale in scales)
    return f"{_listed(quantities)} of {_listed(rows)}, {at} (Table {', '.join(map(str, tables))})"


def number(claim: Claim, side: Side) -> str:
    """Show a computed number with its unit and its range; "" where there is none."""
    if side.value is None:
        return ""
    digits = UNITS[claim.unit]
    text = f"{side.value:.{digits}f} {claim.unit}"
    low, high = f"{side.low:.{digits}f}", f"{side.high:.{digits}f}"
    return text if low == high else f"{text} ({low} to {high})"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _complaint(result: Result) -> str:
    claim = result.claim
    text = f"“{claim.quotation}” states {claim.reading}, the cells give {number(claim, result.printed)}: {about(claim)}"
    return f"{text}. {claim.note}" if claim.note else f"{text}."
