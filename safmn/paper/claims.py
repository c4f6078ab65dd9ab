"""Evaluate the quantitative sentences of the paper's text, which `safmn.paper.quotations` lists.

A claim binds names to cells and computes one number from them. It is evaluated twice. On the paper's own cells: does
the sentence follow from the tables? A published value stands for all numbers that round to it, so there are three
answers: `reproduced` (the published digits satisfy the sentence), `rounding` (they do not, but some numbers that
round to them do) and `contradicted` (none does). And on measured cells: `reproduced`, `contradicted`, `undecidable`,
`not comparable`, `missing`. The words are those of `safmn.paper.verdicts`.

How exactly a sentence is meant ("unit" is one of the last digit that the sentence states):

- `exactly 0.17`: rounds to it, so from half a unit below to half a unit above;
- `about 85`: one unit below to one above, so 84 to 86;
- `nearly 33`: from 10 % below it to half a unit above, since a number that rounds to 33 is often called nearly 33;
- `at least`, `at most`, `more than`, `less than`: as they say, without any tolerance.

Words without a number get one here, once for all sentences; the paper calls a drop of 0.13 dB noticeable:

- `almost the same`: at most 0.05 dB apart;
- `comparable`: at most 0.10 dB below; `similar`: at most 0.10 dB, or 10 %, apart;
- `much less`: by 50 % or more; `small`: 10 % or less;
- `large margin`: 0.10 dB or 0.001 of SSIM, or more.

Uncertainty is carried by interval arithmetic, so `contradicted` is certain.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from safmn.paper import verdicts
from safmn.paper.cell import PREDICTED, Cell
from safmn.paper.published import Place, PrintedCell
from safmn.paper.spans import Span

PRINTED_VERDICTS = (verdicts.REPRODUCED, verdicts.ROUNDING, verdicts.CONTRADICTED)
MEASURED_VERDICTS = (
    verdicts.REPRODUCED,
    verdicts.CONTRADICTED,
    verdicts.UNDECIDABLE,
    verdicts.NOT_COMPARABLE,
    verdicts.MISSING,
)

MEANINGS = {  # of the cells' verdicts, where they are about a sentence
    verdicts.REPRODUCED: "the numbers satisfy the sentence: the printed digits, or the measured ones with all of their "
    "spread between seeds",
    verdicts.ROUNDING: "the printed digits do not satisfy it, but numbers that round to them can",
    verdicts.CONTRADICTED: "no numbers that round to the printed digits, or lie within the spread, satisfy it",
    verdicts.UNDECIDABLE: "the spread reaches to both sides, or a single seed has none",
    verdicts.NOT_COMPARABLE: "a cell was measured with other data, budget or device than the paper's",
    verdicts.MISSING: "a cell has no measured number",
}

UNITS = {"%": 2, "times": 2, "dB": 3, "SSIM": 4, "K": 2, "G": 2, "M": 2, "MiB": 2, "ms": 2, "blocks": 3, "channels": 3}
"""Unit of a claim's number -> decimals that are shown."""


# --- How exactly a sentence is meant ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Allowed:
    """The numbers that make a sentence true: from `low` to `high` (None: no limit), ends included unless `strict`."""

    low: Fraction | None = None
    high: Fraction | None = None
    strict: bool = False

    def covers(self, span: Span) -> bool:
        """Return whether all numbers of `span` are allowed."""
        return self._is_above(span.low) and self._is_below(span.high)

    def meets(self, span: Span) -> bool:
        """Return whether some number of `span` is allowed."""
        return self._is_above(span.high) and self._is_below(span.low)

    def _is_above(self, value: Fraction) -> bool:
        return self.low is None or value > self.low or (value == self.low and not self.strict)

    def _is_below(self, value: Fraction) -> bool:
        return self.high is None or value < self.high or (value == self.high and not self.strict)


STATED: dict[str, Callable[[Fraction, Fraction], Allowed]] = {  # of the stated number and one unit of its last digit
    "exactly": lambda value, unit: Allowed(value - unit / 2, value + unit / 2),
    "about": lambda value, unit: Allowed(value - unit, value + unit),
    "nearly": lambda value, unit: Allowed(value - abs(value) / 10, value + unit / 2),
    "at least": lambda value, unit: Allowed(low=value),
    "at most": lambda value, unit: Allowed(high=value),
    "more than": lambda value, unit: Allowed(low=value, strict=True),
    "less than": lambda value, unit: Allowed(high=value, strict=True),
}

WORDS: dict[str, dict[str, Allowed]] = {  # word -> unit -> what it allows
    "almost the same": {"dB": Allowed(Fraction("-0.05"), Fraction("0.05"))},
    "comparable": {"dB": Allowed(low=Fraction("-0.10"))},
    "similar": {
        "dB": Allowed(Fraction("-0.10"), Fraction("0.10")),
        "%": Allowed(Fraction(-10), Fraction(10)),
    },
    "much less": {"%": Allowed(low=Fraction(50))},
    "small": {"%": Allowed(high=Fraction(10))},
    "large margin": {"dB": Allowed(low=Fraction("0.10")), "SSIM": Allowed(low=Fraction("0.001"))},
}


@dataclass(frozen=True)
class Claim:
    """One number that a sentence of the paper states.

    Attributes:
        id: Its name.
        precision: How exactly it is meant, a word of STATED or WORDS.
        value: The stated number as printed, "" where `precision` is of WORDS.
        unit: Unit of the stated and of the computed number, of UNITS.
        cells: Name -> place of a cell, or a group of cells: name -> part of the name -> place.
        compute: Computes the number from the cells in their order, a list for a group.
        read: Whether the sentence can be meant otherwise.
        note: How the sentence is read, or what is known about it.
        section: "Abstract", or the number of the section.
        quotation: The paper's words.
    """

    id: str
    precision: str
    value: str
    unit: str
    cells: Mapping[str, Place | Mapping[str, Place]]
    compute: Callable[..., Span]
    read: bool = False
    note: str = ""
    section: str = ""
    quotation: str = ""

    @property
    def places(self) -> dict[str, Place]:
        """Name -> place of every cell; those of a group are called `group_part`."""
        places: dict[str, Place] = {}
        for name, cell in self.cells.items():
            if isinstance(cell, Mapping):
                places |= {f"{name}_{part}": place for part, place in cell.items()}
            else:
                places[name] = cell
        return places

    @property
    def arithmetic(self) -> str:
        """How the number is computed, as a formula of the cells' names."""
        return self.number(dict.fromkeys(self.places.values(), Span.point(1))).text

    @property
    def is_reading(self) -> bool:
        """Whether it is held to a reading or a rule of this project instead of a number or an order that it states."""
        return self.read or self.precision in WORDS

    @property
    def allowed(self) -> Allowed:
        """The numbers that make it true."""
        if self.precision in WORDS:
            return WORDS[self.precision][self.unit]
        unit = Fraction(1, 10 ** verdicts.decimals(self.value))  # of the last digit
        return STATED[self.precision](Fraction(self.value), unit)

    @property
    def reading(self) -> str:
        """What the sentence states, in a few words."""
        return self.precision if self.precision in WORDS else f"{self.precision} {self.value} {self.unit}"

    def number(self, spans: Mapping[Place, Span]) -> Span:
        """Compute the claim's number in `unit` from the value of each cell.

        Raises:
            ZeroDivisionError: If it divides by a value that may be 0.
        """
        arguments: list[Span | list[Span]] = []
        for name, cell in self.cells.items():
            if isinstance(cell, Mapping):
                arguments.append([replace(spans[place], text=f"{name}_{part}") for part, place in cell.items()])
            else:
                arguments.append(replace(spans[cell], text=name))
        return self.compute(*arguments)


# --- Evaluation -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """A claim evaluated on one kind of cells.

    Attributes:
        verdict: A word of PRINTED_VERDICTS or MEASURED_VERDICTS.
        value: The number in the claim's unit, from the published digits or the measured means; None without one.
        low: Lower end of what it may be, by the rounding of the published values or the spread between seeds.
        high: Upper end.
        note: Why.
    """

    verdict: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
    """A claim, on the paper's published cells and on measured ones."""

    claim: Claim
    printed: Side
    measured: Side

    @property
    def verdicts(self) -> tuple[str, str]:
        """The verdicts on both."""
        return self.printed.verdict, self.measured.verdict


def evaluate(claims: Iterable[Claim], printed: Iterable[PrintedCell], measured: Iterable[Cell] = ()) -> list[Result]:
    """Evaluate every claim on the published and on the measured cells.

    Args:
        claims: The claims.
        printed: All cells of the paper, with the networks that stand for their rows.
        measured: A study's cells; empty where nothing is measured.
    """
    digits = {cell.place: cell.printed for cell in printed}
    cells = {cell.place: cell for cell in measured}
    return [Result(claim, on_print(claim, digits), on_measurement(claim, cells)) for claim in claims]


def on_print(claim: Claim, digits: Mapping[Place, str]) -> Side:
    """Decide whether the sentence follows from the paper's published digits."""
    places = claim.places.values()
    point = claim.number({place: Span.point(digits[place]) for place in places})
    span = claim.number({place: Span.printed(digits[place]) for place in places})
    if claim.allowed.covers(point):
        verdict = verdicts.REPRODUCED
    elif claim.allowed.meets(span):
        verdict = verdicts.ROUNDING
    else:
        verdict = verdicts.CONTRADICTED
    return Side(verdict, float(point.low), float(span.low), float(span.high))


def on_measurement(claim: Claim, cells: Mapping[Place, Cell]) -> Side:
    """Decide whether the sentence holds on the measured cells.

    A trained number counts with its interval over seeds; one without (a single seed) decides nothing. Times of a CPU
    are never computed with; other numbers that are not comparable are, for information.
    """
    nothing = "the study does not have it" if cells else "nothing is measured yet"
    own = {place: cells.get(place) or Cell(*place, note=nothing) for place in claim.places.values()}
    if absent := [cell for cell in own.values() if cell.measured is None]:
        return Side(verdicts.MISSING, note=_about(absent))
    values = {place: cell.measured for place, cell in own.items() if cell.measured is not None}
    if broken := [own[place] for place, value in values.items() if not math.isfinite(value)]:
        return Side(verdicts.UNDECIDABLE, note=_about(broken, " is not finite"))
    if foreign := [cell for cell in own.values() if cell.is_time and cell.device != "cuda"]:
        return Side(verdicts.NOT_COMPARABLE, note=_about(foreign, " is not of a GPU"))
    try:
        point = claim.number({place: Span.point(repr(float(value))) for place, value in values.items()})
        span = claim.number({place: spread(cell) for place, cell in own.items()})
    except ZeroDivisionError as error:
        return Side(verdicts.UNDECIDABLE, note=str(error))
    numbers = (float(point.low), float(span.low), float(span.high))
    if others := [cell for cell in own.values() if cell.verdict == verdicts.NOT_COMPARABLE]:
        return Side(verdicts.NOT_COMPARABLE, *numbers, _about(others))
    if single := [cell for cell in own.values() if cell.verdict == verdicts.UNDECIDABLE and cell.interval is None]:
        return Side(verdicts.UNDECIDABLE, *numbers, _about(single, " has no interval"))
    note = "memory predicted without a GPU" if any(cell.origin.startswith(PREDICTED) for cell in own.values()) else ""
    if claim.allowed.covers(span):
        return Side(verdicts.REPRODUCED, *numbers, note)
    if not claim.allowed.meets(span):
        return Side(verdicts.CONTRADICTED, *numbers, note)
    return Side(verdicts.UNDECIDABLE, *numbers, "the spread between seeds reaches to both sides")


def spread(cell: Cell) -> Span:
    """Return what a measured number may be: its interval over seeds, extended to the mean, which may be rounded."""
    ends = [Fraction(repr(float(value))) for value in (cell.measured, *(cell.interval or ())) if value is not None]
    return Span(min(ends), max(ends))


def shown(place: Place) -> str:
    """Return a cell's place by its fixed names, as in cells.csv."""
    table, network, scale, column = place
    return f"Table {table} {network} x{scale} {column}"


def _about(cells: list[Cell], what: str = "") -> str:
    """Name the first of several cells, how many others there are, and the first one's note."""
    others = f" (and {len(cells) - 1} more)" if len(cells) > 1 else ""
    note = f": {cells[0].note}" if cells[0].note else ""
    return f"{shown(cells[0].place)}{what}{others}{note}"
