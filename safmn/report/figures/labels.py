"""Names beside the points of a diagram, placed so that they cover neither each other nor the points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safmn.report.figures.canvas import AUTHORS

SIZE = 6  # of the letters, in points
HEIGHT, MARGIN = 7.0, 3.0  # of a line, and between two names beside each other, in points
STEP = 4.0  # points between two places of a line that no name should cover
TOGETHER = 2.0  # points between two marks that a reader sees as one


Box = tuple[float, float, float, float]
"""Left, bottom, width and height in points."""


@dataclass(frozen=True)
class Mark:
    """A point of a diagram.

    Attributes:
        x: Its place in data.
        y: Likewise.
        text: Its name; "" for a point without a name, which no name may cover.
        radius: Of what is drawn there, in points.
        important: Whether its name is written even if there is no free place.
    """

    x: float
    y: float
    text: str = ""
    radius: float = 2.5
    important: bool = True


def label_points(ax: Any, marks: Sequence[Mark]) -> None:
    """Write the names, the important ones first; a line leads from a name that is far to its point.

    Marks that coincide get one text with all their names. If there is room, no name covers a thin line either.

    Args:
        ax: The diagram, with its final limits.
        marks: Its points.
    """
    from matplotlib.textpath import TextPath

    ax.figure.draw_without_rendering()  # computes the layout, on which places depend
    per_point = ax.figure.dpi / 72
    places = [tuple(ax.transData.transform((mark.x, mark.y)) / per_point) for mark in marks]
    dots = [(x, y, mark.radius * 0.8) for (x, y), mark in zip(places, marks, strict=True)]
    dots += [(x, y, STEP / 8) for x, y in _along_lines(ax, per_point)]
    drawn = [(x - r, y - r, 2 * r, 2 * r) for x, y, r in dots]
    frame = np.array([ax.get_window_extent().bounds]) / per_point
    boxes: list[Box] = []
    for place, group in sorted(_together(places, marks), key=lambda item: (not item[1][0].important, item[0])):
        (x, y), radius = place, max(mark.radius for mark in group)
        text = "; ".join(dict.fromkeys(mark.text for mark in group))
        width = float(TextPath((0, 0), text, size=SIZE).get_extents().width) + MARGIN
        box, overlap = _free_place(place, radius, width, np.array([*boxes, *drawn]), frame)
        if overlap and not group[0].important:
            continue
        boxes.append(box)
        left, bottom = box[:2]
        far = math.hypot(left + width / 2 - x, bottom + HEIGHT / 2 - y) > radius + width / 2 + 8
        ax.annotate(
            text,
            (group[0].x, group[0].y),
            xytext=(left - x, bottom - y),
            textcoords="offset points",
            fontsize=SIZE,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.2},
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": AUTHORS} if far else None,
        )


def _together(
    places: Sequence[tuple[float, float]], marks: Sequence[Mark]
) -> list[tuple[tuple[float, float], list[Mark]]]:
    """Return the marks with names, those that coincide together, each with its place."""
    groups: list[tuple[tuple[float, float], list[Mark]]] = []
    for place, mark in zip(places, marks, strict=True):
        near = next((own for at, own in groups if math.dist(at, place) < TOGETHER), None)
        if mark.text and near is not None and near[0].important == mark.important:
            near.append(mark)
        elif mark.text:
            groups.append((place, [mark]))
    return groups


def _along_lines(ax: Any, per_point: float) -> list[tuple[float, float]]:
    """Return places in points along the thin lines of a diagram."""
    found: list[tuple[float, float]] = []
    for line in (line for line in ax.get_lines() if line.get_linestyle() != "None" and line.get_alpha() is None):
        ends = ax.transData.transform(line.get_xydata()) / per_point
        for (x, y), (to_x, to_y) in pairwise(ends):
            count = max(1, int(math.dist((x, y), (to_x, to_y)) / STEP))
            found += [(x + (to_x - x) * k / count, y + (to_y - y) * k / count) for k in range(count + 1)]
    return found


def _free_place(
    place: tuple[float, float], radius: float, width: float, taken: NDArray[np.float64], frame: NDArray[np.float64]
) -> tuple[Box, float]:
    """Return the box of a text near a circle that overlaps least with the boxes that are taken, and how much.

    What is outside of the frame's box counts as overlap.
    """
    (x, y), (best, least) = place, ((*place, width, HEIGHT), math.inf)
    for away in range(0, 60, 6):
        for angle in range(0, 360, 30):
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            left = x + (radius + 2 + away) * cos - width * (1 - cos) / 2
            bottom = y + (radius + 2 + away) * sin - HEIGHT * (1 - sin) / 2
            box = left, bottom, width, HEIGHT
            overlap = _common(box, taken) + width * HEIGHT - _common(box, frame)
            if overlap < 1e-6:
                return box, 0.0
            if overlap < least:
                best, least = box, overlap
    return best, least


def _common(box: Box, others: NDArray[np.float64]) -> float:
    """Compute the area that a box has in common with others, a row each."""
    left, bottom, width, height = box
    a, b, w, h = others.T
    across = np.minimum(left + width, a + w) - np.maximum(left, a)
    up = np.minimum(bottom + height, b + h) - np.maximum(bottom, b)
    return float((across.clip(0) * up.clip(0)).sum())
