"""The learning rate of Section 4.1: cosine annealing over the whole run, no warm-up, no restart."""

import math


def learning_rate(iteration: int, iterations: int, highest: float, lowest: float) -> float:
    """Return the learning rate of step `iteration` (0-based) of `iterations`: from `highest` at 0 towards `lowest`."""
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * iteration / iterations)) / 2
