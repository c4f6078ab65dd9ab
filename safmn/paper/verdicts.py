"""The verdict of a cell, by fixed rules.

Counts (parameters, FLOPs, activations) have no spread: `count`.
Evaluations of published weights on a benchmark have none either, up to a device's arithmetic: `evaluation`.
Results of networks trained here differ from seed to seed: `training`.
Memory and time are predicted, or measured on a device: `cost`.
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
"""How far apart two evaluations of the same weights may be (dB; SSIM): devices and libraries sum in other orders."""

RESOLUTION = {"psnr": 0.05, "ssim": 0.001}
"""Gaps of this size are discussed in the paper's ablation (dB; SSIM).

An interval with a larger half-width does not decide, unless it misses the published value.
"""

OLDER_SSIM_REST = 0.001
"""How far SSIM of the older protocol may be from the published value if PSNR agrees: that SSIM's code is not known."""

AUTHORS_TOLERANCE = {"psnr": 0.02, "ssim": 0.0002}
"""How far a published value may be from what its authors' own metric gives for their own file."""

COST_TOLERANCE = 0.03
"""Relative: memory depends a little on the allocator and on the workspace that a convolution library takes."""


@dataclass(frozen=True)
class Verdict:
    """A word of VERDICTS, and why."""

    verdict: str
    note: str = ""


def not_comparable(reason: str) -> Verdict:
    """Return the verdict on a number that measures something else than the paper's number; `reason` says what."""
    return Verdict(NOT_COMPARABLE, reason)


def count(printed: str, unit: str, measured: int, alternatives: Sequence[Mapping[str, Any]] = ()) -> Verdict:
    """Decide about an exact quantity.

    `exact`: the published value has all digits of the number. `rounding`: the number rounds to the published value.
    `explained`: one of the alternative ways of counting gives the published value. `contradicted`: none does.

    Args:
        printed: Published digits, in `unit`.
        unit: "K", "M" or "G".
        measured: The exact number, not scaled.
        alternatives: What `safmn.cost.conventions.alternatives` computed for the column: mappings with `value` (not
            scaled), `sentence`, and `rule`, one of "equal" (`value` rounds to the published value), "between" (the
            published value is from `low` to `high`) and "one digit" (the rounded `value` differs in a single digit).
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
    """Decide about an evaluation of published weights, in which nothing is random.

    `rounding`: equal at the published precision. `reproduced`: within 0.01 dB or 0.0002. Else `contradicted`.

    Args:
        printed: Published digits.
        metric: "psnr" (dB) or "ssim".
        measured: Mean over the images.
    """
    value = Decimal(repr(float(measured)))
    if not value.is_finite():
        return Verdict(CONTRADICTED, f"measured {measured}, printed {printed}")
    if rounds_to(value, printed):
        return Verdict(ROUNDING)
    difference = value - Decimal(printed)
    if agrees(printed, metric, measured):
        return Verdict(REPRODUCED, f"{difference:+.4f} from the published value")
    return Verdict(CONTRADICTED, f"{difference:+.4f} from the published value, more than {TOLERANCE[metric]}")


def agrees(printed: str, metric: str, measured: float, tolerance: float | None = None) -> bool:
    """Return whether a number rounds to the published value or is within `tolerance` of it (TOLERANCE if None)."""
    value = Decimal(repr(float(measured)))
    reach = Decimal(str(TOLERANCE[metric] if tolerance is None else tolerance))
    return value.is_finite() and (rounds_to(value, printed) or abs(value - Decimal(printed)) <= reach)


def training(
    printed: str,
    metric: str,
    measured: float,
    *,
    interval: tuple[float, float] | None = None,
    reason: str = "",
) -> Verdict:
    """Decide about a network trained here, whose result depends on the seed.

    `not comparable`: other data, budget or protocol than the paper's, as `reason` says. `contradicted`: the interval
    misses the published value by more than TOLERANCE. `reproduced`: the published value lies in the
    interval or within TOLERANCE of it, and the half-width is at most RESOLUTION, narrow enough to show the gaps that
    the paper discusses. `undecidable`: the interval is wider, or a single run gives no interval.

    Args:
        printed: Published digits.
        metric: "psnr" (dB) or "ssim".
        measured: Mean over the seeds.
        interval: Lower and upper end for that mean, from two seeds or more.
        reason: Why the network was not trained as in the paper; "" if it was.
    """
    if reason:
        return not_comparable(reason)
    if not math.isfinite(measured):
        return Verdict(CONTRADICTED, f"measured {measured}, printed {printed}")
    shown = f"{measured - float(printed):+.4f} from the published value"
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


def cost(printed: str, measured: float, reason: str = "") -> Verdict:
    """Decide about memory or time, in the published unit.

    `not comparable`: another device or another quantity, as `reason` says. `rounding`: equal at the published
    precision. `reproduced`: within COST_TOLERANCE (relative). Else `contradicted`.
    """
    if reason:
        return not_comparable(reason)
    value = Decimal(repr(float(measured)))
    if not value.is_finite():
        return Verdict(CONTRADICTED, f"measured {measured}, printed {printed}")
    if rounds_to(value, printed):
        return Verdict(ROUNDING)
    relative = value / Decimal(printed) - 1
    if abs(relative) <= Decimal(str(COST_TOLERANCE)):
        return Verdict(REPRODUCED, f"{relative:+.1%} from the published value")
    return Verdict(CONTRADICTED, f"{relative:+.1%} from the published value, more than {COST_TOLERANCE:.0%}")


def decimals(printed: str) -> int:
    """Return the number of decimals of a published value."""
    return len(printed.partition(".")[2])


def rounds_to(value: Decimal, printed: str) -> bool:
    """Return whether `value` rounds to the published value, a tie upwards or to the even digit: both are in use."""
    step = Decimal(1).scaleb(-decimals(printed))
    target = Decimal(printed)
    if abs(value - target) > step:
        return False
    return any(value.quantize(step, mode) == target for mode in (ROUND_HALF_UP, ROUND_HALF_EVEN))


def rounded(value: int, unit: str, digits: int = 2) -> Decimal:
    """Return an exact number in "K", "M" or "G", rounded half up to `digits` decimals."""
    return _scaled(value, unit).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def _scaled(value: int, unit: str) -> Decimal:
    """Return an exact number in "K", "M" or "G", without rounding."""
    return Decimal(value) / UNITS[unit]


def _equal(alternative: Mapping[str, Any], printed: str, unit: str) -> bool:
    return rounds_to(_scaled(alternative["value"], unit), printed)


def _between(alternative: Mapping[str, Any], printed: str, unit: str) -> bool:
    return bool(alternative["low"] <= Decimal(printed) * UNITS[unit] <= alternative["high"])


def _one_digit(alternative: Mapping[str, Any], printed: str, unit: str) -> bool:
    step = Decimal(1).scaleb(-decimals(printed))
    for mode in (ROUND_HALF_UP, ROUND_HALF_EVEN):
        expected = f"{_scaled(alternative['value'], unit).quantize(step, mode):f}"
        if len(expected) == len(printed) and sum(a != b for a, b in zip(expected, printed, strict=True)) == 1:
            return True
    return False


_RULES = {"equal": _equal, "between": _between, "one digit": _one_digit}
