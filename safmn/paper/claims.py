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
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema

from safmn.configuration import read_yaml
from safmn.errors import UserError
from safmn.paper import NUMBERS, published, verdicts
from safmn.paper.cell import PREDICTED, Cell
from safmn.paper.published import Claimant, PrintedCell

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
    cells: Mapping[str, PrintedCell]
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


def load(networks: Iterable[Claimant], file: Path | str | None = None) -> list[Claim]:
    """The claims of a file (default `numbers/claims.yaml`); UserError that names file, entry and key.

    Args:
        networks: those that stand for the paper's rows, by whose names the file calls its cells.
    """
    file = Path(file or NUMBERS / "claims.yaml")
    entries = read_yaml(file)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: should hold a list of claims, each with an id")
    validator = jsonschema.Draft202012Validator(ENTRY)
    known = {cell.place: cell for cell in published.cells(networks)}
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


def _claim(where: str, entry: dict[str, Any], known: Mapping[tuple, PrintedCell]) -> Claim:
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


def evaluate(claims: Iterable[Claim], cells: Iterable[Cell] = ()) -> list[Result]:
    """Every claim, on the print and on the measured cells; cells left out mean that nothing was measured."""
    known = {cell.place: cell for cell in cells}
    return [Result(claim, on_print(claim), on_measurement(claim, known)) for claim in claims]


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


def on_measurement(claim: Claim, cells: Mapping[tuple, Cell]) -> Side:
    """Whether the sentence holds on the measured cells, by (table, network, scale, column).

    A trained number counts with its interval over seeds, and one without (a single seed) decides nothing. Times of a
    CPU are never computed with; other numbers that are not comparable are, for information.
    """
    found = {name: cells.get(printed.place) for name, printed in claim.cells.items()}

    def about(names: list[str], what: str, reason: str | None = None) -> str:
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        said = found[names[0]].note if reason is None else reason
        return f"{shown(claim.cells[names[0]])}{what}{others}" + (f": {said}" if said else "")

    if absent := [name for name, cell in found.items() if cell is None or cell.is_missing]:
        nothing = "the study does not have it" if cells else "nothing is measured yet"
        return Side(NOT_DECIDABLE, note=about(absent, " is missing", nothing if found[absent[0]] is None else None))
    if broken := [name for name, cell in found.items() if not math.isfinite(cell.measured)]:
        return Side(NOT_DECIDABLE, note=about(broken, " is not finite"))
    if foreign := [name for name, cell in found.items() if claim.cells[name].is_time and cell.device != "cuda"]:
        return Side(NOT_COMPARABLE, note=about(foreign, " is not of a GPU"))
    try:
        point = claim.compute.value({name: Span.point(repr(float(cell.measured))) for name, cell in found.items()})
        span = claim.compute.value({name: spread(cell) for name, cell in found.items()})
    except Refused as error:
        return Side(NOT_DECIDABLE, note=str(error))
    numbers = (float(point.low), float(span.low), float(span.high))
    if other := [name for name, cell in found.items() if cell.verdict == verdicts.NOT_COMPARABLE]:
        return Side(NOT_COMPARABLE, *numbers, about(other, ""))
    single = [name for name, cell in found.items() if cell.verdict == verdicts.UNDECIDABLE and cell.interval is None]
    if single:
        return Side(NOT_DECIDABLE, *numbers, about(single, " has no interval"))
    note = "memory predicted without a GPU" if any(cell.origin == PREDICTED for cell in found.values()) else ""
    if claim.allowed.covers(span):
        return Side(HOLDS, *numbers, note)
    if not claim.allowed.meets(span):
        return Side(DOES_NOT_HOLD, *numbers, note)
    return Side(NOT_DECIDABLE, *numbers, "the spread between seeds reaches to both sides")


def spread(cell: Cell) -> Span:
    """What a measured number may be: its interval over seeds, never without the mean itself, which may be rounded."""
    ends = [Fraction(repr(float(value))) for value in (cell.measured, *(cell.interval or ()))]
    return Span(min(ends), max(ends))


def shown(cell: PrintedCell) -> str:
    """A cell by its fixed names, as in cells.csv."""
    return f"Table {cell.table} {cell.network} x{cell.scale} {cell.column}"
