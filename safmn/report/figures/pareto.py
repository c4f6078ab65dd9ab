"""The Pareto front of points with a cost and a PSNR."""

import math

import pandas as pd


def front(points: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Return the points that no other one beats, cheapest first.

    A point beats another one if it is no worse in cost and in PSNR, and better in one of them. So of points that are
    equal in both, all are on the front.

    Args:
        points: A row a point; its columns `cost` and "psnr" are finite.
        cost: The column of the cost.
    """
    ordered = points.sort_values([cost, "psnr"], ascending=[True, False], kind="stable")
    places = ordered[[cost, "psnr"]].drop_duplicates()
    best = places[places["psnr"] > places["psnr"].cummax().shift(fill_value=-math.inf)]
    return ordered.merge(best, on=[cost, "psnr"])
