"""The learning rate of each iteration; in Section 4.1 cosine annealing over the whole run, no warm-up, no restart."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from safmn.schema import PAPER


def learning_rate(iteration: int, iterations: int, highest: float, lowest: float) -> float:
    """Return the learning rate of step `iteration` (0-based) of `iterations`: from `highest` at 0 towards `lowest`."""
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * iteration / iterations)) / 2


def rate_of(settings: Mapping[str, Any], iteration: int) -> float:
    """Return the learning rate of step `iteration` (0-based).

    In a warm-up of w iterations, it is (iteration + 1) / w of the highest, so that the last of them has the highest.
    Cosine annealing then goes over the iterations that remain. The milestones of "multistep" count from the start of
    the run: the iteration with the number of a milestone is the first one after that drop.

    Args:
        settings: the `training` section of a specification.
        iteration: 0-based.
    """
    highest, warm_up = settings["learning_rate"], settings.get("warm_up", PAPER["warm_up"])
    if iteration < warm_up:
        return float(highest * (iteration + 1) / warm_up)
    schedule = settings.get("schedule", PAPER["schedule"])
    if schedule["name"] == "constant":
        return float(highest)
    if schedule["name"] == "multistep":
        return float(highest * schedule["gamma"] ** bisect_right(schedule["milestones"], iteration))
    total = settings["iterations"] - warm_up
    return learning_rate(iteration - warm_up, total, highest, settings["minimum_learning_rate"])
