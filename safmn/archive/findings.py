"""What a verification found: steps, each with findings and a verdict."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

CONFIRMED = "confirmed"
REFUTED = "refuted"
UNDECIDED = "undecided"
NOT_CHECKED = "not checked"
NOTED = "noted"  # says something, decides nothing
VERDICTS = (REFUTED, UNDECIDED, CONFIRMED, NOT_CHECKED)
"""Of a step; the first of them that one of its findings has is the step's."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: a file, a network, a variant.
        verdict: CONFIRMED, REFUTED, UNDECIDED, NOT_CHECKED or NOTED.
        note: numbers or the reason.
        differing: the pieces of code that are others here, as "module.name", where that may matter.
    """

    what: str
    verdict: str
    note: str = ""
    differing: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.what}: {self.note}" if self.note else self.what


@dataclass
class Step:
    """One step of a verification.

    Attributes:
        name: "whole", "consistent", "evaluated", "counted", "retrained" or "extrapolated".
        asks: the question that it answers.
        cost: what it was expected to take, stated before it began.
        findings: in the order in which they were made.
        seconds: that it took.
    """

    name: str
    asks: str
    cost: str
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """A word of VERDICTS."""
        words = {finding.verdict for finding in self.findings}
        return next((word for word in VERDICTS if word in words), NOT_CHECKED)

    def of(self, *verdicts: str) -> list[Finding]:
        """Return the findings with one of these verdicts."""
        return [finding for finding in self.findings if finding.verdict in verdicts]

    def record(self) -> dict[str, Any]:
        """Return the step as plain data."""
        return {
            "step": self.name,
            "asks": self.asks,
            "verdict": self.verdict,
            "cost": self.cost,
            "seconds": round(self.seconds, 1),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def counted(self) -> str:
        """Return how many findings have which verdict, as "3 confirmed, 1 not checked"."""
        counts = Counter(finding.verdict for finding in self.findings)
        return ", ".join(f"{counts[word]} {word}" for word in VERDICTS if counts[word])


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Return names with commas, the first ones only where there are many."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def counted(names: Sequence[str], what: str, limit: int = 3) -> str:
    """Return the number of things with the first names: "24 runs (training/no_fm/x4_seed0, ... and 21 more)"."""
    return f"{len(names)} {what}{'s' * (len(names) != 1)} ({listed(names, limit)})"
