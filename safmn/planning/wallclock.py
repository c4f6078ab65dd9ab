"""The time of jobs on several devices, and durations in words."""

import heapq
from collections.abc import Iterable


def makespan(seconds: Iterable[float], devices: int) -> float:
    """Return the seconds until all jobs are done on `devices` devices, each taking the longest waiting job."""
    busy = [0.0] * max(1, devices)
    for job in sorted(seconds, reverse=True):
        heapq.heappush(busy, heapq.heappop(busy) + job)
    return max(busy)


def spoken(seconds: float) -> str:
    """Return a duration in a suitable unit: "58.2 ms", "4.8 s", "45 s", "12.5 min", "20.9 h"."""
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def with_days(seconds: float) -> str:
    """Return a duration as `spoken` does, followed by the days if it is more than four."""
    days = seconds / 86400
    return spoken(seconds) + (f" ({days:,.1f} days)" if days > 4 else "")
