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

MAX_NAMED = 60
"""Number of measured circles up to which a user's own variants are named: more names could not be read."""


@dataclass(frozen=True)
class Point:
    """A network in Figure 1: FLOPs in G, PSNR in dB, parameters in K."""

    name: str
    flops: float
    psnr: float
    params: float


def points(cells: Iterable[Cell], tables: tuple[int, ...], scale: int, column: str, which: str) -> list[Point]:
    """Return the networks that have FLOPs, parameters and PSNR, each once.

    Args:
        cells: The study's cells.
        tables: Tables to take them from.
        scale: 2, 3 or 4.
        column: `<dataset>_psnr`.
        which: "published" or "measured". A measured network without counts gets the published ones.
    """
    chosen = {cell.place: cell for cell in cells if cell.table in tables and cell.scale == scale}
    networks: dict[str, Point] = {}
    for table, network in dict.fromkeys(place[:2] for place in chosen):
        own = {name: chosen.get((table, network, scale, name)) for name in ("flops", column, "params")}
        values = {name: _number(cell, which) for name, cell in own.items()}
        for name in ("flops", "params") if which == "measured" else ():
            values[name] = _number(own[name], "published") if values[name] is None else values[name]
        numbers = [value for value in values.values() if value is not None and math.isfinite(value)]
        if len(numbers) == 3 and numbers[0] > 0:
            networks.setdefault(network, Point(network, *numbers))
    return list(networks.values())


def trade_off(study: Study, cells: Sequence[Cell]) -> Any:
    """Draw the paper's Figure 1 (Set5, x2), and beside it another scale or test set of the study if it has no such.

    A study with networks of a user's own has x4 as well.
    """
    own = [benchmark.id for benchmark in benchmarks(study)]
    scale = 2 if 2 in study.scales else study.scales[0]
    panels: list[tuple[str, int, tuple[int, ...]]] = [("set5", 2, (1, 3, 4))]
    shown = "set5" if "set5" in own else own[0] if own else ""
    if own and (own[0], scale) != ("set5", 2):
        panels.append((shown, scale, (1, 3, 4)))
    if own and 4 in study.scales and scale != 4 and any(all_networks()[name].is_own for name in study.variants):
        panels.append((shown, 4, (1, 3, 4)))  # where a user's own networks are
    figure, axes = canvas.panels(len(panels), "Figure 1")
    for ax, (identity, at, tables) in zip(axes, panels, strict=True):
        _trade_off_panel(ax, study, cells, identity, at, tables)
    return figure


def _trade_off_panel(
    ax: Any, study: Study, cells: Sequence[Cell], identity: str, scale: int, tables: tuple[int, ...]
) -> None:
    column = f"{identity}_psnr"
    name = benchmark_title(identity, study)
    ax.set_title(f"{name}, x{scale}")
    published = points(cells, (1,), scale, column, "published")
    measured = points(cells, tables, scale, column, "measured")
    if not published and not measured:
        canvas.say(ax, f"No PSNR on {name} at x{scale} yet:\nneither printed nor measured")
        return
    looks: list[dict[str, Any]] = [
        {"facecolors": "none", "edgecolors": PUBLISHED, "linewidths": 1.4, "label": "published"},
        {"facecolors": MEASURED, "edgecolors": "black", "alpha": 0.65, "marker": "o", "label": "measured"},
    ]
    for some, look in zip((published, measured), looks, strict=True):
        if some:
            ax.scatter([p.flops for p in some], [p.psnr for p in some], s=[_area(p.params) for p in some], **look)
    if measured:  # the centre of each circle, which may overlap with others
        ax.scatter([p.flops for p in measured], [p.psnr for p in measured], s=9, marker="x", color="black", lw=0.8)
    ax.set_xscale("log")
    canvas.log_axis(ax.xaxis)
    ax.margins(0.08)
    ax.set_xlabel("FLOPs [G], output 1280x720")
    ax.set_ylabel("PSNR on Y [dB]")
    ax.legend(loc="best", markerscale=0.5)
    _label(ax, published, measured)
    if not measured:
        ax.text(0.02, 0.97, "not measured in this study", transform=ax.transAxes, va="top", fontsize=7)


def _label(ax: Any, published: list[Point], measured: list[Point]) -> None:
    """Write names beside the circles, each at the nearest free place."""
    titles = _titles()
    baseline = next((point for point in measured if point.name == "safmn"), None)
    shown = {}
    for point in [*published, *measured]:
        # The ablation's variants crowd around the baseline; those of another size are named, while they are few.
        own = point.name not in titles and point is not baseline
        crowded = len(measured) > MAX_NAMED or (baseline and abs(point.flops / baseline.flops - 1) < 0.1)
        if not (own and crowded):
            shown[point.name] = point
    ax.figure.draw_without_rendering()  # computes the layout, on which places depend
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
    x: float,
    y: float,
    radius: float,
    width: float,
    height: float,
    boxes: list[tuple[float, float, float, float]],
    circles: list[tuple[float, float, float]],
) -> tuple[float, float]:
    """Return left and bottom (in points) of a text near a circle that overlaps least with texts and circles."""
    taken = [*boxes, *((a - r, b - r, 2 * r, 2 * r) for a, b, r in circles)]
    best, least = (x, y), math.inf
    for away in range(0, 60, 6):
        for angle in range(0, 360, 30):
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            left = x + (radius + 2 + away) * cos - width * (1 - cos) / 2
            bottom = y + (radius + 2 + away) * sin - height * (1 - sin) / 2
            overlap = sum(
                max(0, min(left + width, a + w) - max(left, a)) * max(0, min(bottom + height, b + h) - max(bottom, b))
                for a, b, w, h in taken
            )
            if overlap < least:
                best, least = (left, bottom), overlap
            if not overlap:
                return best
    return best


def _area(params: float) -> float:
    """Compute a circle's area in square points from parameters in K; the smallest is still visible."""
    return 0.3 * params + 12


def _number(cell: Cell | None, which: str) -> float | None:
    if cell is None:
        return None
    if which == "measured":
        return cell.measured
    return float(cell.published) if cell.published else None


def _titles() -> dict[str, str]:
    return {
        name: network.rows.get(1, network.title)
        for name, network in all_networks().items()
        if 1 in network.rows or network.is_own
    }
