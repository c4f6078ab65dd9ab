"""Detection of collapsed runs, which Table 3 marks with *, "obtained before the training collapse"."""

import math
from collections import deque
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

WINDOW = 100  # iterations whose median L1 loss is the run's level
FACTOR = 3.0  # a level this many times the lowest one so far is far above it; batches differ by 30 %
PATIENCE = 200  # iterations for which it must stay there
BLACK = 1.0  # L1 loss of a black image against a white one, the first level: a run may explode before it has its own
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
    """Watches the loss and the gradient norm of every iteration; does not influence the training."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._lowest = BLACK
        self._above = 0
        self._first: list[float] = []  # iteration, loss and gradient norm where it went above

    def look(self, iteration: int, l1: float, frequency: float, gradient_norm: float) -> Collapse | None:
        """Return the collapse that iteration number `iteration` (1-based) with these loss terms shows, or None."""
        loss = l1 + frequency
        for name, value in (("loss", loss), ("gradient norm", gradient_norm)):
            if not math.isfinite(value):
                return Collapse(iteration, f"the {name} is not finite", _finite(loss), _finite(gradient_norm))
        self._recent.append(l1)
        if len(self._recent) < RECENT:
            return None
        level = median(self._recent)
        self._lowest = min(self._lowest, level)
        self._above = self._above + 1 if level > FACTOR * self._lowest else 0
        if self._above == 1:
            self._first = [iteration, loss, gradient_norm]
        if self._above < PATIENCE:
            return None
        reason = f"the L1 loss stayed above {FACTOR:g} times its lowest level for {PATIENCE} iterations"
        return Collapse(int(self._first[0]), reason, *self._first[1:])

    @property
    def healthy(self) -> bool:
        """Whether there is no sign of a collapse: neither level nor current loss is far above the lowest level."""
        now = list(self._recent)[-RECENT:]
        return self._above == 0 and (not now or median(now) <= FACTOR * self._lowest)

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs to reach the same verdict, as plain data."""
        return {"recent": list(self._recent), "lowest": self._lowest, "above": self._above, "first": self._first}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._recent = deque(state["recent"], maxlen=WINDOW)
        self._lowest = state["lowest"]
        self._above = state["above"]
        self._first = state["first"]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
