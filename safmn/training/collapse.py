"""Detection of collapsed runs, which Table 3 marks with *, "obtained before the training collapse"."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

WINDOW = 100  # iterations whose median L1 loss is the run's level
FACTOR = 3.0  # a level this many times the lowest one so far is far above it; batches differ by 30 %
PATIENCE = 200  # iterations for which it must stay there
BLACK = 1.0  # L1 loss of a black image against a white one, the first level: a run may explode before it has its own
SHARE, SCATTER = 3, 6  # of a user's own loss, see `OwnLossWatch`
RECENT = 10  # iterations whose median is the current loss; with fewer there is no level yet


@dataclass(frozen=True)
class Collapse:
    """The iteration and the reason of a collapse.

    Attributes:
        iteration: number of iterations done when it did (the first sign of it).
        reason: a phrase.
        loss: total loss at that iteration; None if it is not finite.
        gradient_norm: Euclidean norm of all gradients there; None if it is not finite.
    """

    iteration: int
    reason: str
    loss: float | None
    gradient_norm: float | None

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


class CollapseWatch:
    """Watches the loss and the gradient norm of every iteration; does not influence the training.

    The L1 loss has a level, its median over the last iterations. A level above `FACTOR` times the lowest one so far is
    far above it.
    """

    reason = f"the L1 loss stayed above {FACTOR:g} times its lowest level for {PATIENCE} iterations"

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._lowest = BLACK
        self._above = 0
        self._first: list[float] = []  # iteration, loss and gradient norm where it went above

    def look(self, iteration: int, terms: Sequence[float], gradient_norm: float) -> Collapse | None:
        """Return the collapse that iteration number `iteration` (1-based) with these loss terms shows, or None."""
        loss = sum(terms)
        for name, value in (("loss", loss), ("gradient norm", gradient_norm)):
            if not math.isfinite(value):
                return Collapse(iteration, f"the {name} is not finite", _finite(loss), _finite(gradient_norm))
        self._recent.append(self._watched(terms))
        if len(self._recent) < RECENT:
            return None
        level = median(self._recent)
        self._lower(level)
        self._above = self._above + 1 if level > self._limit() else 0
        if self._above == 1:
            self._first = [iteration, loss, gradient_norm]
        if self._above < PATIENCE:
            return None
        return Collapse(int(self._first[0]), self.reason, *self._first[1:])

    @property
    def healthy(self) -> bool:
        """Whether there is no sign of a collapse: neither level nor current loss is far above the lowest level."""
        now = list(self._recent)[-RECENT:]
        return self._above == 0 and (not now or median(now) <= self._limit())

    def _watched(self, terms: Sequence[float]) -> float:
        """Return the loss that has the level."""
        return terms[0]

    def _lower(self, level: float) -> None:
        self._lowest = min(self._lowest, level)

    def _limit(self) -> float:
        """Return the level above which a level is far above the lowest one."""
        return FACTOR * self._lowest

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs to reach the same verdict, as plain data."""
        return {**vars(self), "_recent": list(self._recent)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        vars(self).update(state, _recent=deque(state["_recent"], maxlen=WINDOW))


class OwnLossWatch(CollapseWatch):
    """Watches a loss of a user's own, whose size is not known and which may be negative.

    Its level is far above the lowest one if the run has lost a third of all that it had gained since its first
    iteration, and if that is more than the loss scatters: `SCATTER` times the interquartile range that it had around
    the lowest level. Neither depends on the unit of the loss, nor on a constant that is added to it.
    """

    reason = (
        f"for {PATIENCE} iterations the loss stayed above its lowest level by more than 1/{SHARE} of what it had "
        f"fallen, and by more than {SCATTER} times its scatter"
    )

    def __init__(self) -> None:
        super().__init__()
        self._lowest = math.inf
        self._start: float | None = None
        self._scatter = 0.0

    def _watched(self, terms: Sequence[float]) -> float:
        loss = sum(terms)
        if self._start is None:
            self._start = self._lowest = loss
            self._scatter = abs(loss) / SHARE  # a guess, until the loss falls below its start
        return loss

    def _lower(self, level: float) -> None:
        if level < self._lowest:
            low, _, high = quantiles(self._recent, n=4)
            self._lowest, self._scatter = level, high - low

    def _limit(self) -> float:
        if self._start is None:
            return math.inf
        return self._lowest + max((self._start - self._lowest) / SHARE, SCATTER * self._scatter)


def watch_of(is_own: bool) -> CollapseWatch:
    """Return the watch of the paper's loss, or of a user's own."""
    return OwnLossWatch() if is_own else CollapseWatch()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
