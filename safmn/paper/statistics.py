"""How much a measured difference says: spread between seeds, spread between images, agreement of two orderings.

Two questions, two intervals. "Would another seed tell the same?" is answered by Student's interval from the runs'
means. "Would other test images tell the same?" is answered by a bootstrap over images, paired, since two networks find
the same images hard: the scatter of single images is some dB, that of their differences some hundredths.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 10_000
SEED = 20230901  # of the resamples: the same data always give the same interval

FEWEST_IMAGES = 3
"""Below this there is nothing to resample."""

TRUSTED_IMAGES = 20
"""A bootstrap over fewer is too narrow: a 95 % interval covers about 74 % with 3 images, 84 % with 5, 90 % with 10."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a number, in its unit; `low` and `high` are None where there is none, `note` says why.

    `method` names how it was found, `n` of how many values (seeds or images).
    """

    low: float | None
    high: float | None
    method: str
    n: int
    note: str = ""

    @property
    def exists(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None and self.high is not None

    @property
    def ends(self) -> tuple[float, float] | None:
        """(low, high), or None."""
        return (self.low, self.high) if self.exists else None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and 0 is outside of it."""
        return self.exists and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1; None for one value) of what several seeds gave."""

    mean: float
    deviation: float | None
    interval: Interval


def over_seeds(values: Sequence[float]) -> Spread:
    """Mean of one value a seed, and Student's interval of the mean; from a single seed there is none."""
    data = np.asarray(values, dtype=float)
    mean, n = float(data.mean()), len(data)
    if not np.isfinite(data).all():
        return Spread(mean, None, Interval(None, None, "Student", n, "a value is not finite"))
    if n < 2:
        return Spread(mean, None, Interval(None, None, "Student", n, "one seed has no spread"))
    deviation = float(data.std(ddof=1))
    return Spread(mean, deviation, _student(mean, deviation / math.sqrt(n), n - 1, n))


def difference_over_seeds(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Student's interval of mean(first) - mean(second), one value a seed, with a standard deviation common to both.

    Networks that differ in a detail scatter alike, so one of the two may have a single seed: the other's scatter then
    stands for both. From one seed each there is no interval.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    n = len(a) + len(b)
    freedom = n - 2
    if freedom < 1:
        return Interval(None, None, "Student", n, "one seed each: the spread between trainings is not known")
    if not np.isfinite([*a, *b]).all():
        return Interval(None, None, "Student", n, "a value is not finite")
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    error = math.sqrt(squares / freedom * (1 / len(a) + 1 / len(b)))
    return _student(float(a.mean() - b.mean()), error, freedom, n)


def _student(centre: float, error: float, freedom: int, n: int) -> Interval:
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Interval(centre - reach, centre + reach, "Student", n)


def paired_bootstrap(first: ArrayLike, second: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """BCa interval of the mean of first - second, one value an image in the same order, by resampling images.

    It treats the trained weights as given: what another seed would give is not in it. Where BCa cannot be computed
    (all differences equal, fewer than three images) there is no interval, and the note says so.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"one value an image of both is needed, not {a.shape} and {b.shape}")
    n = len(a)
    if n < FEWEST_IMAGES:
        return Interval(None, None, "none", n, f"{n} image{'s' * (n != 1)}: too few to resample")
    if not np.isfinite(a).all() or not np.isfinite(b).all():
        return Interval(None, None, "none", n, "an image's value is not finite")
    differences = a - b
    if np.ptp(differences) <= 1e-12 * max(1.0, float(np.abs(a).max())):
        return Interval(None, None, "none", n, "the difference is the same on every image")
    low, high, method = _bootstrap(differences, np.mean, "BCa", resamples, seed)
    note = f"{n} images: a bootstrap over so few is too narrow" if n < TRUSTED_IMAGES else ""
    return Interval(low, high, f"{method} bootstrap over images", n, note)


def _bootstrap(data: NDArray, statistic, method: str, resamples: int, seed: int) -> tuple[float, float, str]:
    # Twenty-four variants share a dataset; batches keep the resamples of one within a few MB.
    batch = max(1, min(resamples, 2**20 // len(data)))
    for chosen in (method, "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns of degenerate data; here it shows as NaN
            found = stats.bootstrap(
                (data,),
                statistic,
                n_resamples=resamples,
                batch=batch,
                confidence_level=CONFIDENCE,
                method=chosen,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if math.isfinite(found.low) and math.isfinite(found.high):
            break
    return float(found.low), float(found.high), chosen


# --- A difference to the baseline ------------------------------------------------------------------------------------

BELOW, ABOVE, UNDECIDED = "below", "above", "undecided"


@dataclass(frozen=True)
class Difference:
    """How a network differs from the baseline on one dataset.

    Attributes:
        value: mean over the common images and all seeds, network minus baseline.
        images: interval over images, the weights as they are.
        seeds: interval over seeds, the images as they are.
    """

    value: float
    images: Interval
    seeds: Interval

    @property
    def trusted(self) -> bool:
        """Whether one of the two intervals covers what it should: that over seeds, or one over 20 images."""
        return self.seeds.exists or (self.images.exists and self.images.n >= TRUSTED_IMAGES)

    @property
    def decision(self) -> str:
        """`below` or `above` the baseline, or `undecided`.

        Decided where every interval that exists excludes 0 and at least one can be trusted.
        """
        intervals = [interval for interval in (self.images, self.seeds) if interval.exists]
        if not self.trusted or not all(interval.excludes_zero for interval in intervals):
            return UNDECIDED
        return ABOVE if self.value > 0 else BELOW

    @property
    def interval(self) -> Interval:
        """The wider of the two that exist: what tables show."""
        found = [interval for interval in (self.seeds, self.images) if interval.exists]
        return max(found, key=lambda interval: interval.high - interval.low) if found else self.images


def difference(first: Sequence[Mapping[str, float]], second: Sequence[Mapping[str, float]]) -> Difference | None:
    """The difference of two networks; each seed gives a mapping image -> value. None where they share no image.

    An image counts only where every seed of both has it.
    """
    common = sorted(set.intersection(*(set(scores) for scores in (*first, *second)))) if first and second else []
    if not common:
        return None
    a = np.array([[scores[image] for image in common] for scores in first], dtype=float)
    b = np.array([[scores[image] for image in common] for scores in second], dtype=float)
    return Difference(
        value=float(a.mean() - b.mean()),
        images=paired_bootstrap(a.mean(0), b.mean(0)),
        seeds=difference_over_seeds(a.mean(1), b.mean(1)),
    )


# --- Orderings -------------------------------------------------------------------------------------------------------

FEWEST_NETWORKS = 3


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b of two orderings of `n` networks, from -1 (reversed) over 0 (unrelated) to 1 (equal).

    `p` is the probability of a |tau| this large if the orderings were unrelated; `interval` is over images.
    """

    tau: float
    p: float
    n: int
    interval: Interval


def agreement(
    published: Mapping[str, float],
    measured: Mapping[str, Mapping[str, float]],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Agreement | None:
    """Kendall's tau between the printed numbers of networks and their measured means, with a bootstrap over images.

    Args:
        published: network -> printed number; ties count as ties.
        measured: network -> image -> value. An image counts where every network has it.

    Returns:
        None with fewer than three networks in common, or where one side has the same number for all of them.
    """
    names = [name for name in published if measured.get(name)]
    if len(names) < FEWEST_NETWORKS:
        return None
    common = sorted(set.intersection(*(set(measured[name]) for name in names)))
    if not common:
        return None
    values = np.array([[measured[name][image] for image in common] for name in names], dtype=float)
    printed = np.array([published[name] for name in names], dtype=float)
    found = stats.kendalltau(printed, values.mean(1))
    if not math.isfinite(found.statistic):
        return None
    return Agreement(
        float(found.statistic), float(found.pvalue), len(names), _tau_interval(printed, values, resamples, seed)
    )


def tau_b(printed: NDArray, values: NDArray) -> NDArray:
    """Kendall's tau-b of `printed` (n) with each column of `values` (n x many); NaN where a column is all ties.

    scipy's takes one ordering at a time, which is too slow for 10,000 resamples.
    """
    first, second = np.triu_indices(len(printed), 1)
    a = np.sign(printed[first] - printed[second])
    b = np.sign(values[first] - values[second])
    with np.errstate(invalid="ignore", divide="ignore"):
        return a @ b / np.sqrt((a**2).sum() * (b**2).sum(0))


def _tau_interval(printed: NDArray, values: NDArray, resamples: int, seed: int) -> Interval:
    n = values.shape[1]
    if n < FEWEST_IMAGES:
        return Interval(None, None, "none", n, f"{n} image{'s' * (n != 1)}: too few to resample")
    if not np.isfinite(values).all():
        return Interval(None, None, "none", n, "an image's value is not finite")

    def statistic(indices: NDArray, axis: int) -> NDArray:
        # Images are resampled through their numbers, so that every network gets the same ones.
        drawn = np.moveaxis(np.atleast_2d(np.moveaxis(indices, axis, -1)), -1, 0).astype(int)
        counts = np.zeros((n, drawn.shape[1]))
        for row in drawn:
            counts[row, np.arange(drawn.shape[1])] += 1
        tau = tau_b(printed, values @ counts / n)
        return tau[0] if indices.ndim == 1 else tau

    # Percentiles: tau takes few values, on which the jackknife behind BCa's correction breaks down.
    low, high, method = _bootstrap(np.arange(n), statistic, "percentile", resamples, seed)
    if not (math.isfinite(low) and math.isfinite(high)):
        return Interval(None, None, "none", n, "the measured numbers are all equal on some resamples")
    note = f"{n} images: a bootstrap over so few is too narrow" if n < TRUSTED_IMAGES else ""
    return Interval(low, high, f"{method} bootstrap over images", n, note)
