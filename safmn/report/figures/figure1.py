"""Figure 1: PSNR against FLOPs, published and measured; the area of a circle is the number of parameters."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from safmn.networks import all_networks
from safmn.paper.cell import Cell
from safmn.report.figures import canvas
from safmn.report.figures.canvas import AUTHORS, MEASURED, PUBLISHED
from safmn.report.measured import benchmark_title, benchmarks
from safmn.study import Study

MOST_NAMED = 60
"""Measured circles up to which those of own variants get their names: more could neither be read nor placed in time."""


@dataclass(frozen=True)
class Point:
    """A network in Figure 1: FLOPs in G, PSNR in dB, parameters in K."""

    name: str
    flops: float
    psnr: float
    params: float


def points(cells: Iterable[Cell], tables: tuple[int, ...], scale: int, column: str, which: str) -> list[Point]:
    """The networks whose FLOPs, parameters and PSNR are all there, each once.

    Args:
        column: `<dataset>_psnr`.
        which: "published" or "measured". A network whose counts were not made stands at the printed ones.
    """
    known = {cell.place: cell for cell in cells if cell.table in tables and cell.scale == scale}
    found: dict[str, Point] = {}
    for table, network in dict.fromkeys(place[:2] for place in known):
        own = {name: known.get((table, network, scale, name)) for name in ("flops", column, "params")}
        values = {name: _number(cell, which) for name, cell in own.items()}
        for name in ("flops", "params") if which == "measured" else ():
            values[name] = _number(own[name], "published") if values[name] is None else values[name]
        numbers = [value for value in values.values() if value is not None and math.isfinite(value)]
        if len(numbers) == 3 and numbers[0] > 0:
            found.setdefault(network, Point(network, *numbers))
    return list(found.values())


def trade_off(study: Study, cells: Sequence[Cell]) -> Any:
    """The paper's Figure 1 (Set5, x2), and beside it the study's first test set where that is another."""
    own = benchmarks(study)
    scale = 2 if 2 in study.scales else study.scales[0]
    panels = [("set5", 2, (1,))]
    if own and (own[0].id, scale) != ("set5", 2):
        if "set5" in [each.id for each in own]:
            panels.append(("set5", scale, (1, 3, 4)))
        else:
            panels.append((own[0].id, scale, (1, 3, 4)))
    figure, axes = canvas.panels(len(panels), "Figure 1")
    for ax, (identity, at, tables) in zip(axes, panels, strict=True):
        _trade_off_panel(ax, study, cells, identity, at, tables)
    return figure


def _trade_off_panel(ax: Any, study: Study, cells: Sequence[Cell], identity: str, scale: int, tables: tuple) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    column = f"{identity}_psnr"
    name = benchmark_title(identity, study)
    ax.set_title(f"{name}, x{scale}")
    published = points(cells, (1,), scale, column, "published")
    measured = points(cells, tables, scale, column, "measured")
    if not published and not measured:
        canvas.say(ax, f"No PSNR on {name} at x{scale} yet:\nneither printed nor measured")
        return
    for some, look in (
        (published, {"facecolors": "none", "edgecolors": PUBLISHED, "linewidths": 1.4, "label": "published"}),
        (measured, {"facecolors": MEASURED, "edgecolors": "black", "alpha": 0.65, "marker": "o", "label": "measured"}),
    ):
        if some:
            ax.scatter([p.flops for p in some], [p.psnr for p in some], s=[_area(p.params) for p in some], **look)
    if measured:  # the centre, so that a filled circle upon an empty one can be read
        ax.scatter([p.flops for p in measured], [p.psnr for p in measured], s=9, marker="x", color="black", lw=0.8)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(0.08)
    ax.set_xlabel("FLOPs [G], output 1280x720")
    ax.set_ylabel("PSNR on Y [dB]")
    ax.legend(loc="best", markerscale=0.5)
    _label(ax, published, measured)
    if not measured:
        ax.text(0.02, 0.97, "not measured in this study", transform=ax.transAxes, va="top", fontsize=7)


def _label(ax: Any, published: list[Point], measured: list[Point]) -> None:
    """Writes names beside the circles, each at the first place near its own that is still free."""
    titles = _titles()
    baseline = next((point for point in measured if point.name == "safmn"), None)
    shown = {}
    for point in [*published, *measured]:
        # The ablation's variants crowd around the baseline; those of another size are told apart, while they are few.
        own = point.name not in titles and point is not baseline
        crowded = len(measured) > MOST_NAMED or (baseline and abs(point.flops / baseline.flops - 1) < 0.1)
        if not (own and crowded):
            shown[point.name] = point
    ax.figure.draw_without_rendering()  # settles the layout, on which places depend
    per_point = ax.figure.dpi / 72
    places = {name: ax.transData.transform((p.flops, p.psnr)) / per_point for name, p in shown.items()}
    taken = [(x, y, math.sqrt(_area(shown[name].params) / math.pi) * 0.7) for name, (x, y) in places.items()]
    boxes: list[tuple[float, float, float, float]] = []
    for name, (x, y) in sorted(places.items(), key=lambda item: tuple(item[1])):
        text = titles.get(name, name)
        width, height = 3.9 * len(text), 7.0
        radius = math.sqrt(_area(shown[name].params) / math.pi)
        left, bottom = _free_place(x, y, radius, width, height, boxes, taken)
        boxes.append((left, bottom, width, height))
        far = math.hypot(left + width / 2 - x, bottom + height / 2 - y) > radius + width / 2 + 8
        ax.annotate(
            text,
            (shown[name].flops, shown[name].psnr),
            xytext=(left - x, bottom - y),
            textcoords="offset points",
            fontsize=6,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": AUTHORS} if far else None,
        )


def _free_place(
    x: float, y: float, radius: float, width: float, height: float, boxes: list[tuple], circles: list[tuple]
) -> tuple[float, float]:
    """Left and bottom of a text (in points) near a circle that overlaps neither texts nor the inside of circles."""
    best, least = (x, y), math.inf
    for away in range(0, 60, 6):
        for angle in range(0, 360, 30):
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            left = x + (radius + 2 + away) * cos - width * (1 - cos) / 2
            bottom = y + (radius + 2 + away) * sin - height * (1 - sin) / 2
            overlap = sum(
                max(0, min(left + width, a + w) - max(left, a)) * max(0, min(bottom + height, b + h) - max(bottom, b))
                for a, b, w, h in boxes
            )
            overlap += sum(
                max(0, min(left + width, a + r) - max(left, a - r))
                * max(0, min(bottom + height, b + r) - max(bottom, b - r))
                for a, b, r in circles
            )
            if overlap < least:
                best, least = (left, bottom), overlap
            if not overlap:
                return best
    return best


def _area(params: float) -> float:
    """A circle's area in square points, from parameters in K; the smallest can still be seen."""
    return 0.3 * params + 12


def _number(cell: Cell | None, which: str) -> float | None:
    if cell is None or which == "measured":
        return cell and cell.measured
    return float(cell.published) if cell.published else None


def _titles() -> dict[str, str]:
    return {name: network.rows[1] for name, network in all_networks().items() if 1 in network.rows}
