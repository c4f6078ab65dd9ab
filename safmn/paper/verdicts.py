"""The verdict of a cell, by stated rules.

What is counted (parameters, FLOPs, activations) has no spread: `count`.
What published weights give on a benchmark has none either, up to the arithmetic of a device: `evaluation`.
What was trained here differs from seed to seed: `training`.
What was predicted or measured on a device (memory, time): `cost`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from typing import Any

from safmn.paper.published import UNITS

EXACT = "exact"
ROUNDING = "rounding"
EXPLAINED = "explained"
REPRODUCED = "reproduced"
CONTRADICTED = "contradicted"
UNDECIDABLE = "undecidable"
NOT_COMPARABLE = "not comparable"
MISSING = "missing"
VERDICTS = (EXACT, ROUNDING, EXPLAINED, REPRODUCED, CONTRADICTED, UNDECIDABLE, NOT_COMPARABLE, MISSING)

TOLERANCE = {"psnr": 0.01, "ssim": 0.0002}
"""How far apart two evaluations of the same weights may lie: devices and libraries sum in different orders."""

RESOLUTION = {"psnr": 0.05, "ssim": 0.001}
"""The paper's ablation discusses gaps of this size: an interval that reaches further to a side decides nothing."""

OLDER_SSIM_REST = 0.001
"""How far SSIM of the older protocol may stay from the print where its PSNR agrees: nobody knows the SSIM code used."""

AUTHORS_TOLERANCE = {"psnr": 0.02, "ssim": 0.0002}
"""How far a print may lie from what its authors' own metric gives for their own file."""

COST_TOLERANCE = 0.03
"""Relative: memory depends a little on the allocator and on the workspace that a convolution library takes."""


@dataclass(frozen=True)
class Verdict:
    """A word of VERDICTS, and why."""

    verdict: str
    note: str = ""


def missing(reason: str) -> Verdict:
    """There is no measured number; `reason` says why."""
    return Verdict(MISSING, reason)


def not_comparable(reason: str) -> Verdict:
    """There is a measured number, but of something else than the paper's; `reason` says of what."""
    return Verdict(NOT_COMPARABLE, reason)


def count(printed: str, unit: str, measured: int, alternatives: Sequence[Mapping[str, Any]] = ()) -> Verdict:
    """The verdict of an exact quantity.

    `exact`: the print is the exact number, all digits of it. `rounding`: the exact number rounds to the print.
    `explained`: one of the alternative ways of counting gives the print. `contradicted`: nothing does.

    Args:
        printed: digits as printed, in `unit`.
        unit: "K", "M" or "G".
        measured: the exact number, not scaled.
        alternatives: what `safmn.cost.conventions.alternatives` computed for the column: mappings with `value` (not
            scaled), `sentence`, and `rule`, one of "equal" (the value rounds to the print), "between" (the print lies
            from `low` to `high`) and "one digit" (the rounded value and the print differ in a single digit).
    """
    if Decimal(printed) * UNITS[unit] == measured:
        return Verdict(EXACT)
    if rounds_to(_scaled(measured, unit), printed):
        return Verdict(ROUNDING)
    for alternative in alternatives:
        if _RULES[alternative.get("rule", "equal")](alternative, printed, unit):
            return Verdict(EXPLAINED, alternative["sentence"])
    shown = f"{_scaled(measured, unit).normalize():f} {unit}"
    return Verdict(CONTRADICTED, f"counted {shown}, printed {printed} {unit}")


def evaluation(printed: str, metric: str, measured: float) -> Verdict:
    """The verdict of published weights, evaluated: nothing in it is random.

    `rounding`: equal at the print's precision. `reproduced`: within 0.01 dB or 0.0002 of it. Else `contradicted`.

    Args:
        printed: digits as printed.
        metric: "psnr" (dB) or "ssim".
        measured: mean over the images.
    """
    value = Decimal(repr(float(measured)))
    if not value.is_finite():
        return Verdict(CONTRADICTED, f"measured {measured}, printed {printed}")
    if rounds_to(value, printed):
        return Verdict(ROUNDING)
    difference = value - Decimal(printed)
    if agrees(printed, metric, measured):
        return Verdict(REPRODUCED, f"{difference:+.4f} from the print")
    return Verdict(CONTRADICTED, f"{difference:+.4f} from the print, more than {TOLERANCE[metric]}")


def agrees(printed: str, metric: str, measured: float, tolerance: float | None = None) -> bool:
    """Whether a number rounds to the print or lies within `tolerance` of it (that of `evaluation`, if None)."""
    value = Decimal(repr(float(measured)))
    reach = Decimal(str(TOLERANCE[metric] if tolerance is None else tolerance))
    return value.is_finite() and (rounds_to(value, printed) or abs(value - Decimal(printed)) <= reach)


def training(
    printed: str,
    metric: str,
    measured: float,
    *,
    interval: tuple[float, float] | None = None,
    comparable: bool = True,
    reason: str = "",
) -> Verdict:
    """The verdict of a network trained here, whose result depends on the seed.

    `not comparable`: other data, budget or protocol than the paper's, as `reason` says. `contradicted`: the interval
    misses the print by more than the tolerance of `evaluation`. `reproduced`: it does not, and it is narrow enough
    (0.05 dB, 0.001 to a side) to have shown a difference of the size that the paper discusses. `undecidable`: it is
    not, or a single run gives no interval.

    Args:
        printed: digits as printed.
        metric: "psnr" (dB) or "ssim".
        measured: mean over the seeds.
        interval: of that mean, lower and upper end, from two seeds or more.
    """
    if not comparable:
        return not_comparable(reason)
    if not math.isfinite(measured):
        return Verdict(CONTRADICTED, f"measured {measured}, printed {printed}")
    shown = f"{measured - float(printed):+.4f} from the print"
    if interval is None:
        return Verdict(UNDECIDABLE, f"{shown}; one run has no interval: train further seeds")
    low, high = interval
    if not low <= high:  # NaN too
        return Verdict(UNDECIDABLE, f"{shown}; the interval is not a number")
    target, tolerance = Decimal(printed), Decimal(str(TOLERANCE[metric]))
    shown += f", interval {low:.4f} to {high:.4f}"
    if Decimal(repr(float(high))) < target - tolerance or Decimal(repr(float(low))) > target + tolerance:
        return Verdict(CONTRADICTED, shown)
    if (high - low) / 2 > RESOLUTION[metric]:
        return Verdict(UNDECIDABLE, f"{shown}: too wide to tell; train further seeds")
    return Verdict(REPRODUCED, shown)


def cost(
    printed: str,
    measured: float,
    *,
    comparable: bool = True,
    reason: str = "",
    tolerance: float = COST_TOLERANCE,
) -> Verdict:
    """The verdict of memory or time, both in the print's unit.

    `not comparable`: another device or another quantity, as `reason` says. `rounding`: equal at the print's precision.
    `reproduced`: within `tolerance` (relative). Else `contradicted`.
    """
    if not comparable:
        return not_comparable(reason)
    value = Decimal(repr(float(measured)))
    if not value.is_finite():
        return Verdict(CONTRADICTED, f"measured {measured}, printed {printed}")
    if rounds_to(value, printed):
        return Verdict(ROUNDING)
    relative = value / Decimal(printed) - 1
    if abs(relative) <= Decimal(str(tolerance)):
        return Verdict(REPRODUCED, f"{relative:+.1%} from the print")
    return Verdict(CONTRADICTED, f"{relative:+.1%} from the print, more than {tolerance:.0%}")


def decimals(printed: str) -> int:
    """How many decimals a print has."""
    return max(0, -Decimal(printed).as_tuple().exponent)


def rounds_to(value: Decimal, printed: str) -> bool:
    """Whether `value` rounds to the print, a tie upwards or to the even digit: both are in use."""
    step = Decimal(1).scaleb(-decimals(printed))
    target = Decimal(printed)
    if abs(value - target) > step:
        return False
    return any(value.quantize(step, mode) == target for mode in (ROUND_HALF_UP, ROUND_HALF_EVEN))


def rounded(value: int, unit: str, digits: int = 2) -> Decimal:
    """An exact number in a unit of print, rounded half up to `digits` decimals."""
    return _scaled(value, unit).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def _scaled(value: int, unit: str) -> Decimal:
    """An exact number in a unit of print; exact, since units are powers of ten."""
    return Decimal(value) / UNITS[unit]


def _equal(alternative: Mapping[str, Any], printed: str, unit: str) -> bool:
    return rounds_to(_scaled(alternative["value"], unit), printed)


def _between(alternative: Mapping[str, Any], printed: str, unit: str) -> bool:
    return alternative["low"] <= Decimal(printed) * UNITS[unit] <= alternative["high"]


def _one_digit(alternative: Mapping[str, Any], printed: str, unit: str) -> bool:
    step = Decimal(1).scaleb(-decimals(printed))
    for mode in (ROUND_HALF_UP, ROUND_HALF_EVEN):
        expected = f"{_scaled(alternative['value'], unit).quantize(step, mode):f}"
        if len(expected) == len(printed) and sum(a != b for a, b in zip(expected, printed, strict=True)) == 1:
            return True
    return False


_RULES = {"equal": _equal, "between": _between, "one digit": _one_digit}
