"""Interval arithmetic: a number is a range with exact ends, and carries the formula that it was computed by.

Cells count as independent of each other, so a computed range is never too narrow.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import wraps
from itertools import pairwise

from safmn.paper import verdicts


@dataclass(frozen=True)
class Span:
    """All numbers from `low` to `high`, both ends included.

    Attributes:
        low: Smallest number.
        high: Largest number.
        text: The formula that it was computed by, for people.
        is_difference: Whether `text` needs brackets inside a longer formula.
    """

    low: Fraction
    high: Fraction
    text: str = field(default="", compare=False)
    is_difference: bool = field(default=False, compare=False)

    @classmethod
    def point(cls, value: Fraction | Decimal | int | str) -> "Span":
        """Return a number without uncertainty."""
        return cls(Fraction(value), Fraction(value), str(value))

    @classmethod
    def printed(cls, digits: str) -> "Span":
        """Return all numbers that round to `digits`, both ends included: a tie may be rounded either way."""
        half = Fraction(1, 2 * 10 ** verdicts.decimals(digits))
        return cls(Fraction(digits) - half, Fraction(digits) + half, digits)

    def __sub__(self, other: "Span | int") -> "Span":
        other = _span(other)
        return Span(self.low - other.high, self.high - other.low, _formula(self, "-", other), is_difference=True)

    def __mul__(self, other: "Span | int") -> "Span":
        other = _span(other)
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Span(min(ends), max(ends), _formula(self, "*", other))

    def __truediv__(self, other: "Span | int") -> "Span":
        other = _span(other)
        if other.low <= 0 <= other.high:
            raise ZeroDivisionError("it divides by what may be 0")
        inverse = Span(1 / other.high, 1 / other.low)
        product = self * inverse
        return Span(product.low, product.high, _formula(self, "/", other))


def _span(value: Span | int) -> Span:
    return Span.point(value) if isinstance(value, int) else value


def _formula(left: Span, sign: str, right: Span) -> str:
    a, b = (f"({span.text})" if span.is_difference else span.text for span in (left, right))
    return f"{a} {sign} {b}"


def _named(function: Callable[..., Span]) -> Callable[..., Span]:
    """Make the call the formula of the result: `least(a, b)`."""

    @wraps(function)
    def call(*values: Span) -> Span:
        result = function(*values)
        return Span(result.low, result.high, f"{function.__name__}({', '.join(value.text for value in values)})")

    return call


@_named
def difference(a: Span, b: Span) -> Span:
    """Compute a - b."""
    return a - b


@_named
def ratio(a: Span, b: Span) -> Span:
    """Compute a / b."""
    return a / b


@_named
def percent(a: Span, b: Span) -> Span:
    """Compute how many per cent of `b` `a` is."""
    return a / b * 100


@_named
def percent_less(a: Span, b: Span) -> Span:
    """Compute by how many per cent of `b` `a` is less than `b`."""
    return (Span.point(1) - a / b) * 100


@_named
def magnitude(a: Span) -> Span:
    """Compute the absolute value."""
    ends = sorted((abs(a.low), abs(a.high)))
    return Span(Fraction(0) if a.low <= 0 <= a.high else ends[0], ends[1])


@_named
def least(*values: Span) -> Span:
    """Compute the smallest of the values."""
    return Span(min(value.low for value in values), min(value.high for value in values))


@_named
def greatest(*values: Span) -> Span:
    """Compute the largest of the values."""
    return Span(max(value.low for value in values), max(value.high for value in values))


@_named
def mean(*values: Span) -> Span:
    """Compute the mean of the values."""
    return Span(
        sum((value.low for value in values), Fraction()) / len(values),
        sum((value.high for value in values), Fraction()) / len(values),
    )


@_named
def smallest_step(*values: Span) -> Span:
    """Compute the least growth from one value to the next."""
    return least(*(after - before for before, after in pairwise(values)))
