"""The Pareto front of points with a cost and a PSNR."""

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def front(points: Iterable[T], place: Callable[[T], tuple[float, float]]) -> list[T]:
    """Return the points that no other one beats, cheapest first.

    A point beats another one if it is no worse in cost and in PSNR, and better in one of them. So of points that are
    equal in both, all are on the front.

    Args:
        points: The points.
        place: Gives cost and PSNR of a point, both finite.
    """
    best: list[T] = []
    for point in sorted(points, key=lambda point: (place(point)[0], -place(point)[1])):
        if not best or place(point)[1] > place(best[-1])[1] or place(point) == place(best[-1]):
            best.append(point)
    return best
