"""The figure of a sweep: its numbers, and its Pareto fronts against the definition."""

import itertools
import random

import pandas as pd
import pytest

from safmn.report.figures import canvas, pareto, sweep


def frame(points: list[dict]) -> pd.DataFrame:
    """Points as `sweep.collect` returns them; what is left out is not measured."""
    columns = ["network", "label", "keys", "psnr", "std", "collapsed", "device", *sweep.COSTS]
    label = {point["network"]: ", ".join(map(str, point["keys"].values())) or point["network"] for point in points}
    full = [{"collapsed": False, "label": label[point["network"]]} | point for point in points]
    return pd.DataFrame(full, columns=columns).astype(dict.fromkeys(["psnr", "std", *sweep.COSTS], float))


def by_definition(points: list[tuple[int, int]]) -> set[int]:
    """Places of those that no other point beats: at most its cost and at least its PSNR, one of them strictly."""

    def beats(one, other):
        return one[0] <= other[0] and one[1] >= other[1] and one != other

    return {place for place, each in enumerate(points) if not any(beats(other, each) for other in points)}


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_nothing_beats(seed):
    draw = random.Random(seed)
    points = [(draw.randrange(5), draw.randrange(5)) for _ in range(draw.randrange(12))]
    found = pareto.front(pd.DataFrame(points, columns=["flops", "psnr"]).assign(place=range(len(points))), "flops")
    assert set(found["place"]) == by_definition(points)
    assert found["flops"].is_monotonic_increasing


def test_names_of_points_do_not_overlap_and_coinciding_points_share_one(study_of_a_sweep):
    """Nine points and the baseline: three on one place, the others close to each other on a line."""
    costs = [100.0, 100.0, 100.0, *(200.0 + 4 * number for number in range(6))]
    points = [
        {"network": f"s_{n}_{c}", "keys": {"n": n, "c": c}, "psnr": 29.7, "params": cost, "flops": cost}
        for cost, (n, c) in zip(costs, itertools.product((4, 8, 12), (24, 36, 48)), strict=True)
    ]
    points.append({"network": "safmn", "keys": {}, "psnr": 29.7, "params": 100.0, "flops": 100.0})
    with canvas.style():
        figure = sweep.draw(study_of_a_sweep, frame(points), "s")
        figure.draw_without_rendering()
        assert len(figure.axes) == 2  # none of times, which are not measured
        assert "Without a panel of time" in figure.axes[-1].get_xlabel()
        for ax in figure.axes:
            names = [text.get_text() for text in ax.texts]
            assert "4, 24; 4, 36; 4, 48; safmn" in names
            assert sorted(name for name in names if ";" not in name) == sorted(frame(points)["label"][3:9])
            boxes = [text.get_window_extent() for text in ax.texts]
            assert not [(a, b) for a, b in itertools.combinations(boxes, 2) if a.shrunk(0.9, 0.7).overlaps(b)]


def test_the_numbers_of_the_figure(study_of_a_sweep):
    points = [
        {"network": f"s_{n}_{c}", "keys": {"network.n_blocks": n, "network.dim": c}}
        | {"psnr": n + c / 100, "std": 0.1, "params": n * c}
        for n, c in itertools.product((4, 8), (24, 36))
    ]
    points.append({"network": "safmn", "keys": {}, "psnr": 9.0, "params": 300.0, "runtime": 2.0, "collapsed": True})
    rows = sweep.numbers(study_of_a_sweep, frame(points)).to_dict("records")
    assert [row["network"] for row in rows] == ["s_4_24", "s_4_36", "s_8_24", "s_8_36", "safmn"]
    assert [row["front_params"] for row in rows] == [True, True, True, True, True]
    assert (rows[1]["network.dim"], rows[1]["photographs_psnr"], rows[1]["runtime_ms"]) == (36, 4.36, None)
    assert (rows[4]["network.dim"], rows[4]["collapsed"]) == (None, True)
    assert [row["front_runtime"] for row in rows] == [False] * 4 + [True]


@pytest.fixture
def study_of_a_sweep():
    from safmn.study import Study

    return Study.load("mini")
