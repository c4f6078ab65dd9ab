"""Each rule at its edges."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safmn.paper import verdicts


def word(verdict):
    assert verdict.verdict in verdicts.VERDICTS
    return verdict.verdict


# --- Counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "unit", "measured", "expected"),
    [
        ("239.52", "K", 239_520, "exact"),
        ("239.52", "K", 239_521, "rounding"),
        ("240", "K", 239_520, "rounding"),
        ("240", "K", 240_000, "exact"),
        ("14", "G", 13_554_915_840, "rounding"),
        ("13.56", "G", 13_554_915_840, "contradicted"),
        ("13.55", "G", 13_554_915_840, "rounding"),
        ("350.97", "K", 350_976, "contradicted"),
        ("110.00", "M", 109_877_760, "contradicted"),  # the zeros are printed digits
        ("110", "M", 109_877_760, "rounding"),
        ("0.5", "K", 450, "rounding"),  # a tie goes up ...
        ("0.4", "K", 450, "rounding"),  # ... or to the even digit
        ("0.5", "K", 550, "contradicted"),  # but not down to an odd one
        ("0.6", "K", 550, "rounding"),
    ],
)
def test_counts(printed, unit, measured, expected):
    assert word(verdicts.count(printed, unit, measured)) == expected


def test_a_contradicted_count_says_both_numbers():
    note = verdicts.count("13.56", "G", 13_554_915_840).note
    assert note == "counted 13.55491584 G, printed 13.56 G"
    assert verdicts.count("1", "K", 20_000_000).note == "counted 20000 K, printed 1 K"


@pytest.mark.parametrize(
    ("alternative", "expected"),
    [
        ({"value": 13_555_000_000}, "explained"),
        ({"value": 13_564_999_999, "rule": "equal"}, "explained"),
        ({"value": 13_565_000_001, "rule": "equal"}, "contradicted"),
        ({"value": 0, "low": 13_560_000_000, "high": 14_000_000_000, "rule": "between"}, "explained"),
        ({"value": 0, "low": 13_560_000_001, "high": 14_000_000_000, "rule": "between"}, "contradicted"),
        ({"value": 0, "low": 12_000_000_000, "high": 13_559_999_999, "rule": "between"}, "contradicted"),
        ({"value": 13_660_000_000, "rule": "one digit"}, "explained"),
        ({"value": 13_670_000_000, "rule": "one digit"}, "contradicted"),
        ({"value": 13_560_000_000, "rule": "one digit"}, "contradicted"),  # no slip at all
        ({"value": 113_560_000_000, "rule": "one digit"}, "contradicted"),  # another number of digits
    ],
)
def test_alternatives(alternative, expected):
    found = verdicts.count("13.56", "G", 15_000_000_000, [{"sentence": "as it was", **alternative}])
    assert word(found) == expected
    assert (found.note == "as it was") == (expected == "explained")


def test_alternatives_do_not_matter_where_the_count_itself_fits():
    other = [{"value": 240_000, "sentence": "other"}]
    assert word(verdicts.count("240", "K", 239_520, other)) == "rounding"
    assert word(verdicts.count("240", "K", 240_000, other)) == "exact"


def test_the_first_alternative_that_fits_is_the_note():
    found = verdicts.count("5", "K", 9_000, [{"value": 1, "sentence": "no"}, {"value": 5_100, "sentence": "yes"}])
    assert found == verdicts.Verdict("explained", "yes")


@given(
    value=st.integers(0, 10**15),
    digits=st.integers(0, 3),
    shift=st.integers(-2, 2),
)
def test_rounding_is_by_the_definition(value, digits, shift):
    """A print fits if it is nearer than half of its last digit, or the tie goes up or to the even digit."""
    step = Fraction(1, 10**digits)
    nearest = round(Fraction(value, 10**9) / step) + shift  # in units of the last digit
    if nearest < 0:
        return
    text = f"{Decimal(nearest).scaleb(-digits):.{digits}f}"
    distance = nearest * step - Fraction(value, 10**9)
    tie = abs(distance) == step / 2
    fits = abs(distance) < step / 2 or (tie and (distance > 0 or nearest % 2 == 0))
    expected = "exact" if distance == 0 else "rounding" if fits else "contradicted"
    assert word(verdicts.count(text, "G", value)) == expected


@given(st.decimals(allow_nan=False, allow_infinity=False), st.sampled_from(["0.00", "32.21", "1120", "0.8948"]))
def test_any_number_has_an_answer(value, printed):
    fits = verdicts.rounds_to(value, printed)
    half = Fraction(1, 2 * 10 ** verdicts.decimals(printed))
    distance = abs(Fraction(value) - Fraction(printed))
    if distance != half:
        assert fits == (distance < half)


# --- Quality ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "metric", "measured", "expected"),
    [
        ("32.21", "psnr", 32.2149, "rounding"),
        ("32.21", "psnr", 32.2199, "reproduced"),
        ("32.21", "psnr", 32.22, "reproduced"),
        ("32.21", "psnr", 32.2201, "contradicted"),
        ("32.21", "psnr", 32.1999, "contradicted"),
        ("0.8948", "ssim", 0.89484, "rounding"),
        ("0.8948", "ssim", 0.8950, "reproduced"),
        ("0.8948", "ssim", 0.89501, "contradicted"),
        ("32.21", "psnr", float("nan"), "contradicted"),
        ("32.21", "psnr", float("inf"), "contradicted"),
    ],
)
def test_published_weights(printed, metric, measured, expected):
    assert word(verdicts.evaluation(printed, metric, measured)) == expected


@pytest.mark.parametrize(
    ("measured", "interval", "expected"),
    [
        (32.20, None, "undecidable"),
        (32.21, None, "undecidable"),
        (32.20, (32.18, 32.22), "reproduced"),
        (32.19, (32.18, 32.20), "reproduced"),  # just within the tolerance
        (32.18, (32.17, 32.19), "contradicted"),
        (32.24, (32.23, 32.25), "contradicted"),
        (32.20, (32.10, 32.30), "undecidable"),  # covers the print, but also differences that matter
        (31.00, (30.50, 31.50), "contradicted"),  # wide, and still without the print
        (32.20, (float("nan"), float("nan")), "undecidable"),
        (float("nan"), None, "contradicted"),
    ],
)
def test_trained_networks(measured, interval, expected):
    assert word(verdicts.training("32.21", "psnr", measured, interval=interval)) == expected


@pytest.mark.parametrize(
    ("printed", "metric", "centre", "reach", "expected"),
    [
        ("32.21", "psnr", 32.21, 0.0499, "reproduced"),
        ("32.21", "psnr", 32.21, 0.0501, "undecidable"),
        ("32.21", "psnr", 32.17, 0.0499, "reproduced"),  # the width decides, not where the ends lie
        ("32.21", "psnr", 32.17, 0.0501, "undecidable"),
        ("0.8948", "ssim", 0.8948, 0.00099, "reproduced"),
        ("0.8948", "ssim", 0.8948, 0.00101, "undecidable"),
        ("0.8948", "ssim", 0.8956, 0.00099, "reproduced"),
        ("0.8948", "ssim", 0.8956, 0.00101, "undecidable"),
    ],
)
def test_an_interval_must_be_narrower_than_what_the_paper_discusses(printed, metric, centre, reach, expected):
    """0.05 dB and 0.001 to a side: just below and just above."""
    found = verdicts.training(printed, metric, centre, interval=(centre - reach, centre + reach))
    assert word(found) == expected


@pytest.mark.parametrize(("printed", "metric", "tolerance"), [("32.21", "psnr", 0.01), ("0.8948", "ssim", 0.0002)])
def test_an_interval_contradicts_from_the_tolerance_on(printed, metric, tolerance):
    for side in (-1, 1):
        for factor, expected in ((0.95, "reproduced"), (1.05, "contradicted")):
            near = float(printed) + side * factor * tolerance
            far = near + side * 2 * tolerance
            found = verdicts.training(printed, metric, (near + far) / 2, interval=(min(near, far), max(near, far)))
            assert word(found) == expected, (side, factor)


@pytest.mark.parametrize(
    ("printed", "metric", "measured", "tolerance", "expected"),
    [
        ("32.21", "psnr", 32.22, None, True),
        ("32.21", "psnr", 32.2201, None, False),
        ("32.21", "psnr", 32.2299, 0.02, True),
        ("32.21", "psnr", 32.2301, 0.02, False),
        ("0.8948", "ssim", 0.8950, None, True),
        ("0.8948", "ssim", 0.89501, None, False),
        ("32", "psnr", 32.4, None, True),  # rounds to it, further than the tolerance
        ("32.21", "psnr", float("inf"), 1e9, False),
        ("32.21", "psnr", float("nan"), 1e9, False),
    ],
)
def test_what_agrees_with_a_print(printed, metric, measured, tolerance, expected):
    assert verdicts.agrees(printed, metric, measured, tolerance) == expected


def test_another_budget_is_not_comparable_however_near():
    found = verdicts.training("32.21", "psnr", 32.21, interval=(32.20, 32.22), reason="600 iterations")
    assert found == verdicts.Verdict("not comparable", "600 iterations")


# --- Cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "measured", "expected"),
    [
        ("65.26", 65.258, "rounding"),
        ("65.26", 64.90, "reproduced"),
        ("203.44", 200.28, "reproduced"),
        ("100", 103.0, "reproduced"),
        ("100", 103.1, "contradicted"),
        ("100", 96.9, "contradicted"),
        ("100", float("nan"), "contradicted"),
    ],
)
def test_memory(printed, measured, expected):
    assert word(verdicts.cost(printed, measured)) == expected


def test_times_of_another_device_are_not_comparable():
    assert word(verdicts.cost("10.71", 10.71, reason="measured on a CPU")) == "not comparable"
