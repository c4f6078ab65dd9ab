"""Each quantitative sentence of the paper's text, held against the cells it rests on: `numbers/claims.yaml`.

A claim binds names to cells, computes one number from them and says which numbers would make the sentence true. It is
evaluated twice. On the paper's own printed cells: does the sentence follow from the tables? Every print stands for all
numbers that round to it, so there are three answers: `follows` (the printed digits themselves satisfy the sentence),
`within rounding` (they do not, but some numbers that round to them do) and `does not follow` (none does). And on
measured cells (`cells.csv`): `holds`, `does not hold`, `not decidable`, `not comparable`.

How precisely a sentence is meant ("unit" is one of the last digit that the sentence states):

- `exactly 0.17`: rounds to it, so from half a unit below to half a unit above;
- `about 85`: one unit below to one above, so 84 to 86;
- `nearly 33`: from 10 % below it to half a unit above, since a number that rounds to 33 is often called nearly 33;
- `at least`, `at most`, `more than`, `less than`: as they say, without any allowance.

Words without a number get one here, once for all sentences; the paper calls a drop of 0.13 dB noticeable:

- `almost the same`: at most 0.05 dB apart;
- `comparable`: at most 0.10 dB below; `similar`: at most 0.10 dB, or 10 %, apart;
- `much less`: by 50 % or more; `small`: 10 % or less;
- `large margin`: 0.10 dB or 0.001 of SSIM, or more.

Uncertainty is carried by interval arithmetic, which takes cells as independent: an interval is never too narrow, so
`does not follow` and `does not hold` are certain.
"""

import ast
import math
import operator
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd

from safmn import paths
from safmn.configuration import read_yaml
from safmn.errors import UserError
from safmn.files import atomic, write_text
from safmn.networks import variants
from safmn.networks.registry import published_networks
from safmn.paper import published, verdicts
from safmn.paper.published import Cell

FOLLOWS = "follows"
WITHIN_ROUNDING = "within rounding"
DOES_NOT_FOLLOW = "does not follow"
PRINTED_VERDICTS = (FOLLOWS, WITHIN_ROUNDING, DOES_NOT_FOLLOW)

HOLDS = "holds"
DOES_NOT_HOLD = "does not hold"
NOT_DECIDABLE = "not decidable"
NOT_COMPARABLE = verdicts.NOT_COMPARABLE
MEASURED_VERDICTS = (HOLDS, DOES_NOT_HOLD, NOT_DECIDABLE, NOT_COMPARABLE)

MEANINGS = {
    FOLLOWS: "the printed digits satisfy the sentence",
    WITHIN_ROUNDING: "the printed digits do not, but numbers that round to them can",
    DOES_NOT_FOLLOW: "no numbers that round to the printed digits do",
    HOLDS: "the measured numbers satisfy the sentence, with all of their spread between seeds",
    DOES_NOT_HOLD: "they do not, with all of their spread",
    NOT_DECIDABLE: "a cell is missing, or the spread reaches to both sides",
    NOT_COMPARABLE: "a cell was measured with other data, budget or device than the paper's",
}

UNITS = {"%": 2, "times": 2, "dB": 3, "SSIM": 4, "K": 2, "G": 2, "M": 2, "MiB": 2, "ms": 2, "blocks": 3, "channels": 3}
"""Unit of a claim's number -> decimals that are shown."""


# --- Arithmetic -------------------------------------------------------------------------------------------------------


class Refused(ValueError):
    """An expression that is not of the small language of claims, or has no value."""


@dataclass(frozen=True)
class Span:
    """All numbers from `low` to `high`, both included, exact."""

    low: Fraction
    high: Fraction

    @classmethod
    def point(cls, value: Fraction | Decimal | int | str) -> "Span":
        """A number without uncertainty."""
        return cls(Fraction(value), Fraction(value))

    @classmethod
    def printed(cls, text: str) -> "Span":
        """The numbers that round to a print; both ends, since both ways of rounding a tie are in use."""
        half = Fraction(1, 2 * 10 ** verdicts.decimals(text))
        return cls(Fraction(text) - half, Fraction(text) + half)

    def __neg__(self) -> "Span":
        return Span(-self.high, -self.low)

    def __add__(self, other: "Span") -> "Span":
        return Span(self.low + other.low, self.high + other.high)

    def __sub__(self, other: "Span") -> "Span":
        return self + -other

    def __mul__(self, other: "Span") -> "Span":
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Span(min(ends), max(ends))

    def __truediv__(self, other: "Span") -> "Span":
        if other.low <= 0 <= other.high:
            raise Refused("it divides by what may be 0")
        return self * Span(1 / other.high, 1 / other.low)


ONE, HUNDRED = Span.point(1), Span.point(100)


def _magnitude(a: Span) -> Span:
    if a.low <= 0 <= a.high:
        return Span(Fraction(0), max(-a.low, a.high))
    return a if a.low > 0 else -a


def _least(*values: Span) -> Span:
    return Span(min(each.low for each in values), min(each.high for each in values))


def _greatest(*values: Span) -> Span:
    return Span(max(each.low for each in values), max(each.high for each in values))


def _mean(*values: Span) -> Span:
    return Span(sum(each.low for each in values) / len(values), sum(each.high for each in values) / len(values))


def _smallest_step(*values: Span) -> Span:
    return _least(*(after - before for before, after in pairwise(values)))


OPERATIONS: dict[str, tuple[Callable[..., Span], int, int | None]] = {  # name -> function, fewest and most arguments
    "difference": (lambda a, b: a - b, 2, 2),
    "ratio": (lambda a, b: a / b, 2, 2),
    "percent": (lambda a, b: HUNDRED * (a / b), 2, 2),  # a is so many per cent of b
    "percent_less": (lambda a, b: HUNDRED * (ONE - a / b), 2, 2),  # a is so many per cent less than b
    "magnitude": (_magnitude, 1, 1),
    "least": (_least, 1, None),
    "greatest": (_greatest, 1, None),
    "mean": (_mean, 1, None),
    "smallest_step": (_smallest_step, 2, None),  # the least growth from one value to the next
}

_BINARY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
LONGEST = 500  # characters
DEEPEST = 40  # levels: Python's own stack must not end it


class Expression:
    """One number from cells: + - * /, brackets, decimal numbers, names of cells and the functions OPERATIONS.

    Anything else is refused when it is read; nothing is ever executed.

    Attributes:
        text: as written.
        names: the names that it binds to cells.
    """

    def __init__(self, text: str) -> None:
        """Raises Refused."""
        if len(text) > LONGEST:
            raise Refused(f"is longer than {LONGEST} characters")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the parser comments on strange code; it is refused below
                self._root = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Refused("is not an expression") from error
        self.text = text
        self.names: set[str] = set()
        self._check(self._root, DEEPEST)

    def _check(self, node: ast.expr, levels: int) -> None:
        if not levels:
            raise Refused(f"is nested more than {DEEPEST} levels deep")
        match node:
            case ast.Name(id=name):
                if name in OPERATIONS:
                    raise Refused(f"{name} is a function: give it arguments")
                self.names.add(name)
            case ast.Constant(value=value):
                if type(value) not in (int, float) or not math.isfinite(value):
                    raise Refused("holds a constant that is not a number")
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                self._check(left, levels - 1)
                self._check(right, levels - 1)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                self._check(operand, levels - 1)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in OPERATIONS:
                _, fewest, most = OPERATIONS[name]
                if len(arguments) < fewest or (most is not None and len(arguments) > most):
                    wanted = str(fewest) if fewest == most else f"{fewest} or more"
                    raise Refused(f"{name} takes {wanted} arguments, not {len(arguments)}")
                for each in arguments:
                    self._check(each, levels - 1)
            case ast.Call(func=ast.Name(id=name)) if name not in OPERATIONS:
                raise Refused(f"{name} is no function of claims; they are {', '.join(OPERATIONS)}")
            case _:
                raise Refused(f"holds {type(node).__name__}: only + - * / and functions of cells are known")

    def value(self, cells: Mapping[str, Span]) -> Span:
        """The number, from a span for every name. Raises Refused where it divides by what may be 0."""
        return self._value(self._root, cells)

    def _value(self, node: ast.expr, cells: Mapping[str, Span]) -> Span:
        match node:
            case ast.Name(id=name):
                return cells[name]
            case ast.Constant(value=value):
                return Span.point(str(value))  # the digits as written, not the nearest binary number
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](self._value(left, cells), self._value(right, cells))
            case ast.UnaryOp(operand=operand):
                return -self._value(operand, cells)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return OPERATIONS[name][0](*(self._value(each, cells) for each in arguments))
        raise AssertionError(node)  # the constructor let nothing else through


# --- How precise a sentence is ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Allowed:
    """The numbers that make a sentence true: from `low` to `high` (None: no end), ends included unless `strict`."""

    low: Fraction | None = None
    high: Fraction | None = None
    strict: bool = False

    def covers(self, span: Span) -> bool:
        """Whether all numbers of `span` are allowed."""
        return self._above(span.low) and self._below(span.high)

    def meets(self, span: Span) -> bool:
        """Whether some number of `span` is allowed."""
        return self._above(span.high) and self._below(span.low)

    def _above(self, value: Fraction) -> bool:
        return self.low is None or value > self.low or (value == self.low and not self.strict)

    def _below(self, value: Fraction) -> bool:
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


def allowed(precision: str, value: str, unit: str) -> Allowed:
    """The numbers that a sentence allows; `value` as stated, "" for a word of WORDS."""
    if precision in WORDS:
        return WORDS[precision][unit]
    return STATED[precision](Fraction(value), Fraction(1, 10 ** verdicts.decimals(value)))


# --- The file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """One entry of claims.yaml.

    Attributes:
        id: its name.
        section: "Abstract", or the number of the section.
        quotation: the paper's words.
        cells: name -> printed cell.
        compute: the arithmetic.
        precision: a word of STATED or WORDS.
        value: the stated number as printed, "" where `precision` is of WORDS.
        unit: of that number and of the computed one.
        read: whether the sentence can be meant otherwise.
        note: how the sentence is read, or what is known about it.
    """

    id: str
    section: str
    quotation: str
    cells: Mapping[str, Cell]
    compute: Expression
    precision: str
    value: str
    unit: str
    read: bool = False
    note: str = ""

    @property
    def is_reading(self) -> bool:
        """Whether it is held to a reading or a rule of this project instead of a number or an order that it states."""
        return self.read or self.precision in WORDS

    @property
    def allowed(self) -> Allowed:
        """The numbers that make it true."""
        return allowed(self.precision, self.value, self.unit)

    @property
    def reading(self) -> str:
        """What the sentence states, in a few words."""
        return self.precision if self.precision in WORDS else f"{self.precision} {self.value} {self.unit}"


NAME = "^[a-z][a-z0-9_]*$"
TEXT = {"type": "string", "pattern": r"\S"}
ENTRY = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "section", "quotation", "cells", "compute", "precision", "unit"],
    "properties": {
        "id": {"type": "string", "pattern": NAME},
        "section": TEXT,
        "quotation": TEXT,
        "cells": {  # name: [table, row, scale, column], as in cells.csv
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": NAME, "not": {"enum": list(OPERATIONS)}},
            "additionalProperties": {
                "type": "array",
                "minItems": 4,
                "maxItems": 4,
                "prefixItems": [{"type": "integer"}, {"type": "string"}, {"type": "integer"}, {"type": "string"}],
            },
        },
        "compute": TEXT,
        "precision": {"enum": [*STATED, *WORDS]},
        "value": {"type": "string", "pattern": r"^-?[0-9]{1,9}(\.[0-9]{1,9})?$"},  # text: its digits say how precise
        "unit": {"enum": list(UNITS)},
        "read": {"type": "boolean"},
        "note": TEXT,
    },
}


def load(file: Path | str | None = None) -> list[Claim]:
    """The claims of a file (default `safmn/paper/numbers/claims.yaml`); UserError that names file, entry and key."""
    file = Path(file or paths.NUMBERS / "claims.yaml")
    entries = read_yaml(file)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: should hold a list of claims, each with an id")
    return _claims(file, entries)


def _claims(file: Path, entries: list[Any]) -> list[Claim]:
    validator = jsonschema.Draft202012Validator(ENTRY)
    known = _printed_cells()
    found = []
    for number, entry in enumerate(entries, 1):
        name = entry.get("id") if isinstance(entry, dict) else None
        where = f"{file}: claim {name!r}" if isinstance(name, str) else f"{file}: entry {number}"
        error = jsonschema.exceptions.best_match(validator.iter_errors(entry))
        if error is not None:
            key = ".".join(map(str, error.absolute_path))
            raise UserError(f"{where}: {f'{key}: ' if key else ''}{' '.join(error.message.split())[:200]}")
        found.append(_claim(where, entry, known))
    repeated = [name for name, times in Counter(claim.id for claim in found).items() if times > 1]
    if repeated:
        raise UserError(f"{file}: claim {repeated[0]!r} is there more than once: give each entry an id of its own")
    return found


def _claim(where: str, entry: dict[str, Any], known: Mapping[tuple, Cell]) -> Claim:
    cells = {}
    for name, place in entry["cells"].items():
        if tuple(place) not in known:
            shown = "table {}, row {}, x{}, {}".format(*place)
            raise UserError(f"{where}: cells.{name}: the paper prints no cell {shown}")
        cells[name] = known[tuple(place)]
    try:
        compute = Expression(entry["compute"])
    except Refused as error:
        raise UserError(f"{where}: compute: {error}") from error
    if compute.names != set(cells):
        unknown, idle = sorted(compute.names - set(cells)), sorted(set(cells) - compute.names)
        what = f"{unknown[0]!r} is not among its cells" if unknown else f"does not use the cell {idle[0]!r}"
        raise UserError(f"{where}: compute: {what}")
    precision, value, unit = entry["precision"], entry.get("value", ""), entry["unit"]
    if precision in STATED and not value:
        raise UserError(f'{where}: value: is missing: {precision!r} needs the stated number, as text ("0.17")')
    if precision in WORDS and value:
        raise UserError(f"{where}: value: {precision!r} is a word without a number")
    if precision in WORDS and unit not in WORDS[precision]:
        raise UserError(f"{where}: unit: {precision!r} has a rule for {', '.join(WORDS[precision])} only")
    claim = Claim(
        entry["id"],
        entry["section"],
        " ".join(entry["quotation"].split()),
        cells,
        compute,
        precision,
        value,
        unit,
        entry.get("read", False),
        " ".join(entry.get("note", "").split()),
    )
    try:
        compute.value({name: Span.printed(cell.printed) for name, cell in cells.items()})
    except Refused as error:
        raise UserError(f"{where}: compute: {error} on the printed cells") from error
    return claim


@cache
def _printed_cells() -> dict[tuple[int, str, int, str], Cell]:
    """(table, row, scale, column) -> cell. By the project's own variants: a user's folder does not change the print."""
    own = [variant.network for variant in variants.discover(paths.ROOT / "ablations").values()]
    cells = published.cells([*own, *published_networks().values()])
    return {(cell.table, cell.row, cell.scale, cell.column): cell for cell in cells}


# --- Evaluation -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """A claim on one kind of cells.

    Attributes:
        verdict: a word of PRINTED_VERDICTS or MEASURED_VERDICTS.
        value: the computed number in the claim's unit, from the printed digits or the measured means; None without one.
        low, high: what it may be, by the print's rounding or the seeds' spread.
        note: why.
    """

    verdict: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
    """A claim, on the paper's printed cells and on measured ones."""

    claim: Claim
    printed: Side
    measured: Side


def evaluate(cells: pd.DataFrame | None, claims: Iterable[Claim] | None = None) -> list[Result]:
    """Every claim (of claims.yaml, if None), on the print and on the measured cells.

    Args:
        cells: `cells.csv` as `safmn.report.cells` gives it; None or rows left out mean that nothing was measured.
    """
    lines = {} if cells is None else {(each.table, each.row, each.scale, each.column): each for each in _lines(cells)}
    return [
        Result(claim, on_print(claim), on_measurement(claim, lines)) for claim in (load() if claims is None else claims)
    ]


def _lines(cells: pd.DataFrame) -> Iterable[Any]:
    return cells.itertuples(index=False)


def on_print(claim: Claim) -> Side:
    """Whether the sentence follows from the paper's printed cells."""
    point = claim.compute.value({name: Span.point(cell.printed) for name, cell in claim.cells.items()})
    span = claim.compute.value({name: Span.printed(cell.printed) for name, cell in claim.cells.items()})
    if claim.allowed.covers(point):
        verdict = FOLLOWS
    elif claim.allowed.meets(span):
        verdict = WITHIN_ROUNDING
    else:
        verdict = DOES_NOT_FOLLOW
    return Side(verdict, float(point.low), float(span.low), float(span.high))


def on_measurement(claim: Claim, lines: Mapping[tuple, Any]) -> Side:
    """Whether the sentence holds on the measured cells, rows of `cells.csv` by (table, row, scale, column).

    A trained figure counts with its interval over seeds, and one without (a single seed) decides nothing. Times of a
    CPU are never computed with; other figures that are not comparable are, for information.
    """
    found = {name: lines.get((cell.table, cell.row, cell.scale, cell.column)) for name, cell in claim.cells.items()}
    absent = {name: line for name, line in found.items() if line is None or line.verdict == verdicts.MISSING}
    if absent:
        name, line = next(iter(absent.items()))
        reason = line.note if line is not None else "the study does not have it" if lines else "nothing is measured yet"
        return Side(NOT_DECIDABLE, note=_first(f"{_shown(claim.cells[name])} is missing", reason, len(absent)))
    broken = [name for name, line in found.items() if not math.isfinite(line.measured)]
    if broken:
        shown = _shown(claim.cells[broken[0]])
        return Side(NOT_DECIDABLE, note=_first(f"{shown} is not finite", found[broken[0]].note, len(broken)))
    other = {name: line for name, line in found.items() if line.verdict == verdicts.NOT_COMPARABLE}
    foreign = [name for name, line in found.items() if line.unit != claim.cells[name].unit]  # "ms (CPU)"
    if foreign:
        shown, unit = _shown(claim.cells[foreign[0]]), found[foreign[0]].unit
        return Side(NOT_COMPARABLE, note=_first(f"{shown} is in {unit}", found[foreign[0]].note, len(foreign)))
    try:
        point = claim.compute.value({name: Span.point(repr(float(line.measured))) for name, line in found.items()})
        span = claim.compute.value({name: _spread(line) for name, line in found.items()})
    except Refused as error:
        return Side(NOT_DECIDABLE, note=str(error))
    numbers = (float(point.low), float(span.low), float(span.high))
    if other:
        name, line = next(iter(other.items()))
        return Side(NOT_COMPARABLE, *numbers, _first(_shown(claim.cells[name]), line.note, len(other)))
    single = [name for name, line in found.items() if line.verdict == verdicts.UNDECIDABLE and not _interval(line)]
    if single:
        note = _first(f"{_shown(claim.cells[single[0]])} has no interval", found[single[0]].note, len(single))
        return Side(NOT_DECIDABLE, *numbers, note)
    note = f"memory {PREDICTED}" if any(PREDICTED in line.note for line in found.values()) else ""
    if claim.allowed.covers(span):
        return Side(HOLDS, *numbers, note)
    if not claim.allowed.meets(span):
        return Side(DOES_NOT_HOLD, *numbers, note)
    return Side(NOT_DECIDABLE, *numbers, "the spread between seeds reaches to both sides")


PREDICTED = "predicted without a GPU"  # as `safmn.report.cells` notes it
INTERVAL = re.compile(r"\binterval (-?[0-9.]+) to (-?[0-9.]+)")  # as `verdicts.training` writes it


def _interval(line: Any) -> tuple[str, str] | None:
    """The interval over seeds that a cell's note gives."""
    match = INTERVAL.search(line.note)
    return (match[1].rstrip("."), match[2].rstrip(".")) if match else None


def _spread(line: Any) -> Span:
    measured = Fraction(repr(float(line.measured)))
    ends = _interval(line)
    if ends is None:
        return Span(measured, measured)
    # The note's ends are rounded: never let that leave out the mean itself.
    return Span(min(measured, Fraction(ends[0])), max(measured, Fraction(ends[1])))


def _first(what: str, reason: str, count: int) -> str:
    others = f" (and {count - 1} more)" if count > 1 else ""
    return f"{what}{others}: {reason}" if reason else what + others


def _shown(cell: Cell) -> str:
    """A cell by its fixed names, as in cells.csv."""
    return f"Table {cell.table} {cell.row} x{cell.scale} {cell.column}"


# --- What is written --------------------------------------------------------------------------------------------------


def write(folder: Path | str, cells: pd.DataFrame | None) -> list[Result]:
    """Writes `tables/claims.md` and `tables/claims.csv` into a study's folder, and returns what stands in them."""
    results = evaluate(cells)
    tables = Path(folder) / "tables"
    with atomic(tables / "claims.csv") as temporary:
        frame(results).to_csv(temporary, index=False, lineterminator="\n")
    write_text(tables / "claims.md", markdown(results))
    return results


def frame(results: Sequence[Result]) -> pd.DataFrame:
    """One row a claim, every digit of every number."""
    return pd.DataFrame([_row(each) for each in results])


def _row(result: Result) -> dict[str, Any]:
    claim = result.claim
    row: dict[str, Any] = {
        "id": claim.id,
        "section": claim.section,
        "quotation": claim.quotation,
        "states": claim.reading,
        "unit": claim.unit,
        "compute": claim.compute.text,
        "cells": "; ".join(f"{name} = {_shown(cell)}" for name, cell in claim.cells.items()),
    }
    for kind, side in (("printed", result.printed), ("measured", result.measured)):
        row |= {
            f"{kind}_value": side.value,
            f"{kind}_low": side.low,
            f"{kind}_high": side.high,
            f"{kind}_verdict": side.verdict,
        }
    return row | {"measured_note": result.measured.note, "is_reading": claim.is_reading, "note": claim.note}


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
    from safmn.report.rendering import escape_markdown as escape  # it draws in all tables; evaluating needs none

    parts = ["# Claims of the paper's text", "", escape(summary(results))]
    for title, complaints in doubtful(results).items():
        parts += ["", f"## {title}: {len(complaints)}", ""]
        parts += [f"- {escape(each)}" for each in complaints] or ["None."]
    parts += ["", "## All claims", ""]
    rows = [
        {
            "Section": each.claim.section,
            "Sentence": f"“{each.claim.quotation}”",
            "Claim": each.claim.id,
            "States": each.claim.reading,
            "Printed": figure(each.claim, each.printed),
            "From the print": each.printed.verdict,
            "Measured": figure(each.claim, each.measured),
            "From the measurement": each.measured.verdict + (f": {each.measured.note}" if each.measured.note else ""),
        }
        for each in results
    ]
    table = pd.DataFrame(rows).map(escape)
    parts += [table.to_markdown(index=False, disable_numparse=True), "", "## How they are read", ""]
    parts += [f"- {word}: {escape(text)}." for word, text in MEANINGS.items()]
    parts += [f"- {escape(f'{each.claim.id}: {each.claim.note}')}" for each in results if each.claim.note]
    parts += ["", escape(f"The cells and the arithmetic of each claim are in `claims.csv`. {RULES}")]
    return "\n".join(parts) + "\n"


def doubtful(results: Sequence[Result]) -> dict[str, list[str]]:
    """Heading -> a sentence for each claim that does not follow from the paper's own cells."""
    return {
        title: [
            _complaint(each)
            for each in results
            if each.printed.verdict == DOES_NOT_FOLLOW and each.claim.is_reading == is_reading
        ]
        for title, is_reading in (
            ("What does not follow from the printed cells", False),
            ("What does not follow as it is read here, and may be meant otherwise", True),
        )
    }


RULES = (
    "About N means within one unit of its last digit; nearly N from 10 % below to half a unit above; a number without "
    "such a word that the computed one rounds to it. Almost the same: at most 0.05 dB apart; comparable: at most "
    "0.10 dB below; similar: at most 0.10 dB, or 10 %, apart; much less: by 50 % or more; small: 10 % or less; a large "
    "margin: 0.10 dB or 0.001 of SSIM, or more."
)


def figure(claim: Claim, side: Side) -> str:
    """A computed number with its unit and what it may be; "" where there is none."""
    if side.value is None:
        return ""
    digits = UNITS[claim.unit]
    text = f"{side.value:.{digits}f} {claim.unit}"
    low, high = f"{side.low:.{digits}f}", f"{side.high:.{digits}f}"
    return text if low == high else f"{text} ({low} to {high})"


def _complaint(result: Result) -> str:
    claim = result.claim
    text = f"“{claim.quotation}” ({claim.id}): states {claim.reading}, the cells give {figure(claim, result.printed)}"
    return f"{text}. {claim.note}" if claim.note else text
