"""Does the reference's EMA explain the paper's drop of LN → BN? Answered from a study's own numbers, by fixed rules.

The reference's trainer averages parameters only, so a batch-normalised network is evaluated there with running
statistics from the start of training. A study trains such a network both ways: `ln_bn`, whose statistics are averaged
too, and `ln_bn_reference_ema`, whose are not. If the reference's EMA explains the paper's row, the second must lose
against the baseline what the paper's loses, and the first must lose less.
"""

from decimal import Decimal
from enum import Enum

from safmn.paper import verdicts
from safmn.paper.statistics import Difference
from safmn.report import ablation, trained
from safmn.report.joined import Joined
from safmn.report.measured import Benchmark, benchmarks
from safmn.study import differences_from_paper

TRACKED = "ln_bn"
FROZEN = "ln_bn_reference_ema"
PRINTED = {"DIV2K_val": "div2k_val_psnr", "Manga109": "manga109_psnr"}  # Table 3's datasets
TOLERANCE = verdicts.RESOLUTION[ablation.METRIC]  # dB; gaps of this size are what the paper discusses
QUESTION = "Does the reference's EMA explain the paper's drop of LN → BN"


class Drop(Enum):
    """A measured difference to the baseline, compared with the published one."""

    DEEPER = "more than printed"
    AS_PRINTED = "as printed"
    SMALLER = "less than printed"
    UNKNOWN = "not decided"


def answers(joined: Joined) -> list[str]:
    """Return a sentence a test set of the study; none where the study does not train a network both ways."""
    study = joined.study
    if study.training is None or not {TRACKED, FROZEN} <= set(study.variants):
        return []
    drops = printed_drops()
    shown = ", ".join(f"{name} {drop:+.2f} dB" for name, drop in drops.items())
    sentences = []
    for benchmark in benchmarks(study):
        own = [drop for name, drop in drops.items() if PRINTED[name] == f"{benchmark.id}_{ablation.METRIC}"]
        low, high = min(own or drops.values()), max(own or drops.values())
        sentences.append(f"{QUESTION} ({shown})? {_answer(joined, benchmark, float(low), float(high))}")
    return sentences


def printed_drops() -> dict[str, Decimal]:
    """Compute the paper's LN → BN minus its baseline: dataset -> dB."""
    drops = {name: ablation.printed_difference(TRACKED, column) for name, column in PRINTED.items()}
    return {name: drop for name, drop in drops.items() if drop is not None}


def classify(difference: Difference, low: float, high: float) -> Drop:
    """Compare a difference with published ones from `low` to `high` (equal for a single one), in dB.

    Its interval decides, with a tolerance of 0.05 dB. An interval that is wider than that to a side decides only if it
    misses the published values; one that cannot be trusted decides nothing.
    """
    ends = difference.interval.ends
    if not difference.trusted or ends is None:
        return Drop.UNKNOWN
    if ends[1] < low - TOLERANCE:
        return Drop.DEEPER
    if ends[0] > high + TOLERANCE:
        return Drop.SMALLER
    return Drop.AS_PRINTED if difference.interval.width / 2 <= TOLERANCE else Drop.UNKNOWN


def decide(tracked: Drop, frozen: Drop) -> tuple[str, str]:
    """Return answer ("yes", "no" or "undecidable") and reason.

    Args:
        tracked: What BN loses with its statistics averaged.
        frozen: What BN loses with the reference's EMA.
    """
    if tracked is frozen is Drop.DEEPER:
        return "undecidable", "BN loses more than is printed with it and without it"
    if frozen is Drop.DEEPER:
        return "no", "with it BN would have lost more than is printed"
    if frozen is Drop.SMALLER:
        return "no", "with it BN loses less than is printed"
    if tracked in (Drop.AS_PRINTED, Drop.DEEPER):
        return "no", "BN loses that much without it"
    if (tracked, frozen) == (Drop.SMALLER, Drop.AS_PRINTED):
        return "yes", "with it BN loses what is printed, without it less"
    return "undecidable", "the data cannot tell"


def _answer(joined: Joined, benchmark: Benchmark, low: float, high: float) -> str:
    study = joined.study
    title, scale = benchmark.title, ablation.scale_of(study)
    networks = (ablation.BASELINE, TRACKED, FROZEN)
    runs = {name: trained.collect(study, joined.results, name, scale, benchmark) for name in networks}
    unfit = [f"{name} is not measured" for name, own in runs.items() if not own.best]
    unfit += [f"{name} collapsed" for name, own in runs.items() if own.collapses]
    if unfit:
        return f"Undecidable on {title}: {', '.join(unfit)}."
    tracked, frozen = (joined.differences[benchmark.id].get(name) for name in (TRACKED, FROZEN))
    if tracked is None or frozen is None:
        return f"Undecidable on {title}: the networks share no image."
    answer, reason = decide(classify(tracked, low, high), classify(frozen, low, high))
    training = "this study's training" + (", which is not the paper's" if differences_from_paper(study) else "")
    return (
        f"{answer.capitalize()} on {title} by {training}: {reason} (difference to the baseline: with it "
        f"{_shown(frozen)}, statistics averaged too {_shown(tracked)})."
    )


def _shown(difference: Difference) -> str:
    interval = difference.interval
    if not interval.exists:
        return f"{difference.value:+.3f} dB, no interval: {interval.note}"
    note = "" if difference.trusted else f", {interval.note}"
    return f"{difference.value:+.3f} dB, 95 % interval {interval.low:+.3f} to {interval.high:+.3f}{note}"
