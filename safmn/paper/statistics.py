"""How much a measured difference says: spread between seeds, spread between images, agreement of two orderings.

Two questions, two intervals. "Would other seeds give the same?" is answered by Student's interval from the runs' means.
"Would other test images give the same?" is answered by a bootstrap over images, paired, since two networks find the
same images hard: single images differ by some dB, their differences by some hundredths.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 10_000
SEED = 20230901  # of the resamples: the same data always give the same interval

MIN_IMAGES = 3  # to resample
MIN_NETWORKS = 3  # to compare orderings
TRUSTED_IMAGES = 20
"""A bootstrap over fewer is too narrow: a 95 % interval covers about 74 % with 3 images, 84 % with 5, 90 % with 10."""

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a number, in the number's unit.

    Attributes:
        low: Lower end, None where there is no interval.
        high: Upper end.
        n: Number of values (seeds or images) that it is computed from.
        note: Why there is no interval, or why it is too narrow; else "".
    """

    low: float | None
    high: float | None
    n: int
    note: str = ""

    @property
    def ends(self) -> tuple[float, float] | None:
        """(low, high), or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def exists(self) -> bool:
        """Whether there is an interval."""
        return self.ends is not None

    @property
    def width(self) -> float:
        """High minus low; 0 where there is no interval."""
        return self.ends[1] - self.ends[0] if self.ends else 0.0

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and 0 is outside of it."""
        return self.ends is not None and (self.ends[0] > 0 or self.ends[1] < 0)


def _no_interval(n: int, note: str) -> Interval:
    return Interval(None, None, n, note)


# --- Seeds ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Mean over several seeds, sample standard deviation (n - 1; None for one seed), and interval of the mean."""

    mean: float
    deviation: float | None
    interval: Interval


def over_seeds(values: Sequence[float]) -> Spread:
    """Compute the mean of one value a seed, and Student's interval of the mean; a single seed has none."""
    data = np.asarray(values, dtype=float)
    mean, n = float(data.mean()), len(data)
    if not np.isfinite(data).all():
        return Spread(mean, None, _no_interval(n, "a value is not finite"))
    if n < 2:
        return Spread(mean, None, _no_interval(n, "one seed has no spread"))
    deviation = float(data.std(ddof=1))
    return Spread(mean, deviation, _student(mean, deviation / math.sqrt(n), n - 1, n))


def difference_over_seeds(first: Sequence[float] | Array, second: Sequence[float] | Array) -> Interval:
    """Compute Student's interval of mean(first) - mean(second), one value a seed, with a common standard deviation.

    Networks that differ in a detail scatter alike, so one of the two may have a single seed: the other's scatter then
    stands for both. One seed each has no interval.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    n = len(a) + len(b)
    freedom = n - 2
    if freedom < 1:
        return _no_interval(n, "one seed each: the spread between trainings is not known")
    if not np.isfinite([*a, *b]).all():
        return _no_interval(n, "a value is not finite")
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    error = math.sqrt(squares / freedom * (1 / len(a) + 1 / len(b)))
    return _student(float(a.mean() - b.mean()), error, freedom, n)


def _student(centre: float, error: float, freedom: int, n: int) -> Interval:
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Interval(centre - reach, centre + reach, n)


# --- Images -----------------------------------------------------------------------------------------------------------


def paired_bootstrap(first: ArrayLike, second: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Compute the BCa interval of mean(first - second) by resampling images; one value an image, in the same order.

    The trained weights are taken as given: the spread between seeds is not in it. There is no interval for fewer than
    three images, or where all differences are equal.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"one value an image of both is needed, not {a.shape} and {b.shape}")
    if note := _why_not_resampled(np.stack([a, b])):
        return _no_interval(len(a), note)
    differences = a - b
    if np.ptp(differences) <= 1e-12 * max(1.0, float(np.abs(a).max())):
        return _no_interval(len(a), "the difference is the same on every image")
    low, high = _bootstrap(differences, np.mean, "BCa", resamples, seed)
    return Interval(low, high, len(a), _few(len(a)))


def _why_not_resampled(values: Array) -> str:
    """Say why the images (columns) cannot be resampled; "" if they can."""
    n = values.shape[1]
    if n < MIN_IMAGES:
        return f"{n} image{'s' * (n != 1)}: too few to resample"
    return "" if np.isfinite(values).all() else "an image's value is not finite"


def _few(n: int) -> str:
    return f"{n} images: a bootstrap over so few is too narrow" if n < TRUSTED_IMAGES else ""


def _bootstrap(
    data: NDArray[Any], statistic: Callable[..., Any], method: str, resamples: int, seed: int
) -> tuple[float, float]:
    """Return the ends of a bootstrap interval: by percentiles where `method` cannot be computed."""
    # Twenty-four variants share a dataset; batches keep the resamples of one within a few MB.
    batch = max(1, min(resamples, 2**20 // len(data)))
    for chosen in (method, "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns of degenerate data; here it shows as NaN
            interval = stats.bootstrap(
                (data,),
                statistic,
                n_resamples=resamples,
                batch=batch,
                confidence_level=CONFIDENCE,
                method=chosen,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            break
    return float(interval.low), float(interval.high)


# --- A difference to the baseline -------------------------------------------------------------------------------------

BELOW, ABOVE, UNDECIDED = "below", "above", "undecided"


@dataclass(frozen=True)
class Difference:
    """How a network differs from the baseline on one dataset.

    Attributes:
        value: Mean over the common images and all seeds, network minus baseline.
        images: Interval over images, the weights taken as given.
        seeds: Interval over seeds, the images taken as given.
    """

    value: float
    images: Interval
    seeds: Interval

    @property
    def trusted(self) -> bool:
        """Whether one of the intervals covers what it should: that over seeds, or one over 20 images."""
        return self.seeds.exists or (self.images.exists and self.images.n >= TRUSTED_IMAGES)

    @property
    def decision(self) -> str:
        """BELOW or ABOVE where every interval excludes 0 and at least one can be trusted, else UNDECIDED."""
        intervals = [interval for interval in (self.images, self.seeds) if interval.exists]
        if not self.trusted or not all(interval.excludes_zero for interval in intervals):
            return UNDECIDED
        return ABOVE if self.value > 0 else BELOW

    @property
    def interval(self) -> Interval:
        """The wider of the intervals that exist: what tables show."""
        existing = [interval for interval in (self.seeds, self.images) if interval.exists]
        return max(existing, key=lambda interval: interval.width) if existing else self.images


def difference(first: Sequence[Mapping[str, float]], second: Sequence[Mapping[str, float]]) -> Difference | None:
    """Compute the difference of two networks from one mapping image -> value a seed.

    Returns:
        The difference over the images that every seed of both has; None where there is no such image.
    """
    common = sorted(set.intersection(*(set(scores) for scores in (*first, *second)))) if first and second else []
    if not common:
        return None
    a, b = (np.array([[scores[image] for image in common] for scores in seeds]) for seeds in (first, second))
    return Difference(
        value=float(a.mean() - b.mean()),
        images=paired_bootstrap(a.mean(0), b.mean(0)),
        seeds=difference_over_seeds(a.mean(1), b.mean(1)),
    )


# --- Orderings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b of two orderings.

    Attributes:
        tau: From -1 (reversed) over 0 (unrelated) to 1 (equal).
        p: Probability of a |tau| this large if the orderings were unrelated.
        n: Number of networks.
        interval: Of tau, over images.
    """

    tau: float
    p: float
    n: int
    interval: Interval


def agreement(published: Mapping[str, float], measured: Mapping[str, Mapping[str, float]]) -> Agreement | None:
    """Compute Kendall's tau between published numbers of networks and measured means, with a bootstrap over images.

    Args:
        published: Network -> published number; ties count as ties.
        measured: Network -> image -> value. Only images that every network has count.

    Returns:
        None with fewer than three networks in common, or where one side has the same number for all of them.
    """
    names = [name for name in published if measured.get(name)]
    if len(names) < MIN_NETWORKS:
        return None
    common = sorted(set.intersection(*(set(measured[name]) for name in names)))
    if not common:
        return None
    values = np.array([[measured[name][image] for image in common] for name in names], dtype=float)
    printed = np.array([published[name] for name in names], dtype=float)
    tau = stats.kendalltau(printed, values.mean(1))
    if not math.isfinite(tau.statistic):
        return None
    return Agreement(float(tau.statistic), float(tau.pvalue), len(names), _tau_interval(printed, values))


def tau_b(printed: Array, values: Array) -> Array:
    """Compute Kendall's tau-b of `printed` (n) with each column of `values` (n x m); NaN for a column of ties only.

    scipy's function takes one ordering at a time, which is too slow for 10,000 resamples.
    """
    first, second = np.triu_indices(len(printed), 1)
    a = np.sign(printed[first] - printed[second])
    b = np.sign(values[first] - values[second])
    with np.errstate(invalid="ignore", divide="ignore"):
        tau: Array = a @ b / np.sqrt((a**2).sum() * (b**2).sum(0))
    return tau


def _tau_interval(printed: Array, values: Array) -> Interval:
    """Compute the interval of tau over images; `values` is networks x images."""
    n = values.shape[1]
    if note := _why_not_resampled(values):
        return _no_interval(n, note)

    def statistic(indices: NDArray[Any], axis: int) -> Any:
        # Images are resampled by their numbers, so that every network gets the same ones.
        drawn = np.moveaxis(np.atleast_2d(np.moveaxis(indices, axis, -1)), -1, 0).astype(int)
        counts = np.zeros((n, drawn.shape[1]))
        for row in drawn:
            counts[row, np.arange(drawn.shape[1])] += 1
        tau = tau_b(printed, values @ counts / n)
        return tau[0] if indices.ndim == 1 else tau

    # Percentiles: tau takes few values, for which the jackknife of BCa's correction fails.
    low, high = _bootstrap(np.arange(n), statistic, "percentile", RESAMPLES, SEED)
    if not (math.isfinite(low) and math.isfinite(high)):
        return _no_interval(n, "the measured numbers are all equal on some resamples")
    return Interval(low, high, n, _few(n))
