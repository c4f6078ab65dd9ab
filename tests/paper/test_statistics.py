"""Intervals against scipy called directly, against known cases, and by how often they cover a known difference."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from safmn.paper import statistics

# --- Seeds -----------------------------------------------------------------------------------------------------------


def test_a_known_case_of_students_interval():
    spread = statistics.over_seeds([1.0, 2.0, 3.0, 4.0])
    assert spread.mean == 2.5
    assert spread.deviation == pytest.approx(math.sqrt(5 / 3))
    # t(0.975, 3) = 3.182446..., a value of every printed table of Student's distribution.
    reach = 3.182446305284263 * math.sqrt(5 / 3) / 2
    assert spread.interval.ends == pytest.approx((2.5 - reach, 2.5 + reach))


def test_one_seed_has_no_spread():
    spread = statistics.over_seeds([31.5])
    assert (spread.mean, spread.deviation, spread.interval.ends) == (31.5, None, None)
    assert "one seed" in spread.interval.note


def test_equal_seeds_give_an_interval_of_no_width():
    assert statistics.over_seeds([2.0, 2.0]).interval.ends == (2.0, 2.0)


def test_a_value_that_is_not_finite_gives_no_interval():
    assert not statistics.over_seeds([30.0, math.nan]).interval.exists
    assert not statistics.difference_over_seeds([math.inf, 1.0], [1.0]).exists


def test_the_difference_of_seeds_is_students_two_sample_interval():
    first, second = [30.1, 30.4, 30.2], [30.0, 29.9, 30.3, 30.1]
    expected = stats.ttest_ind(first, second, equal_var=True).confidence_interval(0.95)
    assert statistics.difference_over_seeds(first, second).ends == pytest.approx((expected.low, expected.high))


def test_one_seed_against_three_borrows_their_scatter():
    # Deviation 1 with two degrees of freedom; t(0.975, 2) = 4.302652...; the single seed scatters alike.
    reach = 4.302652729911275 * math.sqrt(1 + 1 / 3)
    assert statistics.difference_over_seeds([5.0], [0.0, 1.0, 2.0]).ends == pytest.approx((4 - reach, 4 + reach))


def test_one_seed_each_has_no_interval():
    interval = statistics.difference_over_seeds([5.0], [4.0])
    assert not interval.exists
    assert "one seed each" in interval.note


# --- Images ----------------------------------------------------------------------------------------------------------


def images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two networks' PSNR on images that differ far more from each other than the networks do."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(28, 4, count)
    return hard + 0.05 + rng.gamma(2, 0.05, count), hard


@pytest.mark.parametrize("count", [5, 14, 100])
def test_the_bootstrap_is_scipys_paired_bca(count):
    first, second = images(count)
    direct = stats.bootstrap(
        (first, second),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        paired=True,
        n_resamples=10_000,
        method="BCa",
        batch=max(1, min(10_000, 2**20 // count)),
        rng=np.random.default_rng(statistics.SEED),
    ).confidence_interval
    found = statistics.paired_bootstrap(first, second)
    assert found.ends == pytest.approx((direct.low, direct.high), abs=1e-12)


def test_pairing_matters():
    first, second = images(100)
    paired = statistics.paired_bootstrap(first, second)
    shuffled = statistics.paired_bootstrap(first, np.random.default_rng(1).permutation(second))
    assert paired.high - paired.low < 0.05 < 0.5 < shuffled.high - shuffled.low


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([30.0, 31.0], [29.0, 30.5], "2 images: too few"),
        ([30.0], [29.0], "1 image: too few"),
        ([30.0, 31.0, 32.0], [29.0, 30.0, 31.0], "the same on every image"),
        ([30.1, 31.1, 32.1], [30.0, 31.0, 32.0], "the same on every image"),
        ([30.0, math.inf, 32.0], [29.0, 30.0, 30.0], "not finite"),
    ],
)
def test_where_there_is_nothing_to_resample_the_reason_is_said(first, second, reason):
    interval = statistics.paired_bootstrap(first, second)
    assert not interval.exists
    assert reason in interval.note


def test_few_images_are_warned_of():
    assert "too narrow" in statistics.paired_bootstrap(*images(5)).note
    assert statistics.paired_bootstrap(*images(20)).note == ""


def covered(studies: int, count: int, resamples: int) -> float:
    """How often the interval holds the true difference, over simulated studies with skewed differences."""
    rng = np.random.default_rng(7)
    truth = 0.03
    hits = 0
    for _ in range(studies):
        hard = rng.normal(28, 4, count)
        # Image-wise gains are skewed: some pictures gain much.
        gain = truth + 0.1 * (rng.gamma(4, 1, count) - 4)
        interval = statistics.paired_bootstrap(hard + gain, hard, resamples=resamples, seed=int(rng.integers(2**31)))
        hits += interval.low <= truth <= interval.high
    return hits / studies


def test_coverage_of_a_known_difference():
    # 400 studies scatter by 1.1 %: a sound interval falls outside of this once in 10,000 series.
    assert 0.90 <= covered(400, 60, 1000) <= 0.985


@pytest.mark.slow
def test_coverage_over_2000_simulated_studies():
    assert 0.93 <= covered(2000, 100, 10_000) <= 0.97


# --- The difference to a baseline ------------------------------------------------------------------------------------


def scores(values) -> dict[str, float]:
    return {f"image{number}": float(value) for number, value in enumerate(values)}


def test_the_difference_takes_common_images_and_all_seeds():
    first = [{"a": 30.0, "b": 31.0, "c": 32.0, "only here": 99.0}, {"a": 30.2, "b": 31.2, "c": 32.2}]
    second = [{"c": 31.0, "b": 30.5, "a": 29.0}]
    found = statistics.difference(first, second)
    # Means over a, b, c: 31.1 and 30.1666...
    assert found.value == pytest.approx(31.1 - 90.5 / 3)
    assert found.images.n == 3
    assert found.seeds.n == 3


def test_no_common_image_is_no_difference():
    assert statistics.difference([{"a": 1.0}], [{"b": 1.0}]) is None
    assert statistics.difference([], [{"b": 1.0}]) is None


def test_what_the_data_can_decide():
    better, base = images(100)
    assert statistics.difference([scores(better)], [scores(base)]).decision == statistics.ABOVE
    assert statistics.difference([scores(base)], [scores(better)]).decision == statistics.BELOW
    noise = np.random.default_rng(3).normal(0, 0.1, 100)
    assert statistics.difference([scores(base + noise)], [scores(base)]).decision == statistics.UNDECIDED


def test_few_images_decide_nothing_on_their_own():
    better, base = images(5)
    found = statistics.difference([scores(better)], [scores(base)])
    assert found.images.excludes_zero
    assert found.decision == statistics.UNDECIDED


def test_scatter_between_seeds_takes_a_decision_back():
    better, base = images(100)
    seeds = [scores(base + shift) for shift in (-0.3, 0.0, 0.3)]
    assert statistics.difference([scores(better)], [scores(base)]).decision == statistics.ABOVE
    found = statistics.difference([scores(better)], seeds)
    assert found.decision == statistics.UNDECIDED
    assert found.interval == found.seeds  # the wider one is shown


def test_seeds_that_agree_decide():
    better, base = images(100)
    found = statistics.difference(
        [scores(better), scores(better + 0.001)], [scores(base), scores(base + 0.001), scores(base - 0.001)]
    )
    assert found.decision == statistics.ABOVE


# --- Orderings -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=12))
def test_tau_of_many_at_once_is_scipys(pairs):
    printed, measured = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    columns = np.stack([measured, measured[::-1], -measured], axis=1)
    expected = [stats.kendalltau(printed, column).statistic for column in columns.T]
    assert statistics.tau_b(printed, columns) == pytest.approx(expected, nan_ok=True)


def ablation(noise: float, count: int = 40) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Eight networks 0.05 dB apart, measured with noise that differs from image to image."""
    rng = np.random.default_rng(2)
    printed = {f"net{number}": 30 - 0.05 * number for number in range(8)}
    hard = rng.normal(28, 4, count)
    return printed, {name: scores(hard + value - 30 + rng.normal(0, noise, count)) for name, value in printed.items()}


def test_equal_and_reversed_orders():
    printed, measured = ablation(0.0)
    found = statistics.agreement(printed, measured)
    assert found.tau == pytest.approx(1)
    assert found.n == 8
    assert found.p == pytest.approx(2 / math.factorial(8))
    reverse = statistics.agreement({name: -value for name, value in printed.items()}, measured)
    assert reverse.tau == pytest.approx(-1)


def test_the_interval_of_tau_is_that_of_a_plain_loop():
    printed, measured = ablation(0.5)
    found = statistics.agreement(printed, measured)
    names = list(printed)
    values = np.array([list(measured[name].values()) for name in names])
    assert found.tau == pytest.approx(stats.kendalltau(list(printed.values()), values.mean(1)).statistic)
    rng = np.random.default_rng(11)
    drawn = [
        stats.kendalltau(list(printed.values()), values[:, rng.integers(0, 40, 40)].mean(1)).statistic
        for _ in range(2000)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    # Tau of eight moves in steps of 2/28; two series of resamples may differ by one of them.
    assert found.interval.ends == pytest.approx((low, high), abs=2 / 28 + 1e-9)
    assert found.interval.low < found.tau < found.interval.high


def test_an_ordering_takes_three_networks_and_three_images():
    printed, measured = ablation(0.1)
    two = dict(list(measured.items())[:2])
    assert statistics.agreement(printed, two) is None
    assert statistics.agreement(printed, {}) is None
    few = {name: dict(list(values.items())[:2]) for name, values in measured.items()}
    found = statistics.agreement(printed, few)
    assert not found.interval.exists
    assert "2 images" in found.interval.note


def test_ties_count_as_ties():
    """Tau-b by its definition, over all pairs: (concordant - discordant) / sqrt(untied x untied)."""
    printed = {"a": 30.43, "b": 30.43, "c": 30.32, "d": 30.30, "e": 30.32}
    means = {"a": 30.0, "b": 29.0, "c": 29.5, "d": 29.0, "e": 28.0}
    pairs = [(one, two) for one in printed for two in printed if one < two]
    signs = [(np.sign(printed[a] - printed[b]), np.sign(means[a] - means[b])) for a, b in pairs]
    untied = [sum(bool(sign[side]) for sign in signs) for side in (0, 1)]
    assert untied == [8, 9]  # ties on both sides, so that no other tau gives the same
    expected = sum(a * b for a, b in signs) / math.sqrt(untied[0] * untied[1])
    found = statistics.agreement(printed, {name: scores([value] * 30) for name, value in means.items()})
    assert found.tau == pytest.approx(expected)
    assert found.interval.ends == pytest.approx((expected, expected))  # equal images: every resample is the same


def test_figures_that_are_all_equal_have_no_order():
    printed, measured = ablation(0.0)
    assert statistics.agreement(dict.fromkeys(printed, 30.0), measured) is None
