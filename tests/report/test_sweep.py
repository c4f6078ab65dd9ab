"""The figure of a sweep: its numbers, and its Pareto fronts against the definition."""

import itertools
import random

import pytest

from safmn.report.figures import canvas, sweep
from safmn.report.figures.sweep import Point, front


def point(name, psnr, **costs):
    return Point(name, {"network.dim": name}, psnr, None, costs, False, "cpu" if "runtime" in costs else "")


def by_definition(points, cost):
    """Those that no other point beats: at most its cost and at least its PSNR, one of them strictly."""
    able = [each for each in points if each.psnr is not None and cost in each.costs]

    def beats(one, other):
        no_worse = one.costs[cost] <= other.costs[cost] and one.psnr >= other.psnr
        return no_worse and (one.costs[cost], one.psnr) != (other.costs[cost], other.psnr)

    return {each.network for each in able if not any(beats(other, each) for other in able)}


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_nothing_beats(seed):
    draw = random.Random(seed)
    points = [
        point(str(number), draw.choice([None, *range(5)]), **{draw.choice(["flops", "params"]): draw.randrange(5)})
        for number in range(draw.randrange(12))
    ]  # fmt: skip
    assert {each.network for each in front(points, "flops")} == by_definition(points, "flops")


def test_names_of_points_do_not_overlap_and_coinciding_points_share_one(study_of_a_sweep):
    """Nine points and the baseline: three on one place, the others close to each other on a line."""
    costs = [100.0, 100.0, 100.0, *(200.0 + 4 * number for number in range(6))]
    points = [
        Point(f"s_{n}_{c}", {"n": n, "c": c}, 29.7, None, {"params": costs[place], "flops": costs[place]}, False, "")
        for place, (n, c) in enumerate(itertools.product((4, 8, 12), (24, 36, 48)))
    ]
    points.append(Point("safmn", {}, 29.7, None, {"params": 100.0, "flops": 100.0}, False, ""))
    with canvas.style():
        figure = sweep.draw(study_of_a_sweep, points, "s")
        figure.draw_without_rendering()
        assert len(figure.axes) == 2  # none of times, which are not measured
        assert "Without a panel of time" in figure.axes[-1].get_xlabel()
        for ax in figure.axes:
            names = [text.get_text() for text in ax.texts]
            assert "4, 24; 4, 36; 4, 48; safmn" in names
            assert sorted(name for name in names if ";" not in name) == sorted(p.label for p in points[3:9])
            boxes = [text.get_window_extent() for text in ax.texts]
            assert not [(a, b) for a, b in itertools.combinations(boxes, 2) if a.shrunk(0.9, 0.7).overlaps(b)]


def test_no_point_has_no_front():
    assert front([], "params") == []
    assert front([point("a", None, params=1.0)], "params") == []


def test_the_numbers_of_the_figure(study_of_a_sweep):
    no = False
    points = [
        *(
            Point(f"s_{n}_{c}", {"network.n_blocks": n, "network.dim": c}, n + c / 100, 0.1, {"params": n * c}, no, "")
            for n, c in itertools.product((4, 8), (24, 36))
        ),
        Point("safmn", {}, 9.0, None, {"params": 300.0, "runtime": 2.0}, True, "cpu"),
    ]  # fmt: skip
    header, *lines = sweep.rows(study_of_a_sweep, points)
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    assert [row["network"] for row in rows] == ["s_4_24", "s_4_36", "s_8_24", "s_8_36", "safmn"]
    assert [row["front_params"] for row in rows] == [True, True, True, True, True]
    assert (rows[1]["network.dim"], rows[1]["photographs_psnr"], rows[1]["runtime_ms"]) == (36, 4.36, "")
    assert (rows[4]["network.dim"], rows[4]["collapsed"], rows[4]["device"]) == ("", True, "cpu")
    assert [row["front_runtime"] for row in rows] == [False] * 4 + [True]


@pytest.fixture
def study_of_a_sweep():
    from safmn.study import Study

    return Study.load("mini")
