"""The learning rate of Section 4.1: cosine annealing from the first iteration to the last, no warm-up, no restart."""

import math


def learning_rate(iteration: int, iterations: int, highest: float, lowest: float) -> float:
    """The rate of step `iteration` (0-based) of `iterations`: `highest` at 0, towards `lowest` at the end."""
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * iteration / iterations)) / 2
