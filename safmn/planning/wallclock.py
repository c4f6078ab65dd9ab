"""How long jobs take on several devices."""

import heapq
from collections.abc import Iterable


def makespan(seconds: Iterable[float], devices: int) -> float:
    """Seconds until the last of these jobs is done on `devices` devices, each taking the longest job that waits."""
    busy = [0.0] * max(1, devices)
    for job in sorted(seconds, reverse=True):
        heapq.heappush(busy, heapq.heappop(busy) + job)
    return max(busy)


def spoken(seconds: float) -> str:
    """A duration in the unit that suits it: "45 s", "12.5 min", "20.9 h"; above four days with the days."""
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    hours = seconds / 3600
    return f"{hours:,.1f} h" + (f" ({hours / 24:,.1f} days)" if hours >= 96 else "")
