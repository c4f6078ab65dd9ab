"""Figure 1: PSNR against FLOPs, published and measured; a circle's area is the number of parameters."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safmn.networks import all_networks
from safmn.networks.registry import Network
from safmn.paper.cell import Cell
from safmn.report.ablation import BASELINE
from safmn.report.ablation_table import label
from safmn.report.figures import canvas, labels, pareto
from safmn.report.figures.canvas import AUTHORS, MEASURED, PUBLISHED
from safmn.report.measured import benchmark_title, benchmarks
from safmn.study import Study

NEAR = 0.15  # dB between two numbers of one network that get one name; part of the range of PSNR that stands out
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
    """Draw the paper's Figure 1 (Set5, x2) and the study's own test set, each if something is measured there."""
    own = [benchmark.id for benchmark in benchmarks(study)]
    places = [("set5", 2)] + [("set5" if "set5" in own else own[0], scale) for scale in study.scales if own]
    panels = []
    for identity, scale in dict.fromkeys(places):
        column = f"{identity}_psnr"
        measured = points(cells, (1, 3, 4), scale, column, "measured")
        if measured:
            panels.append((identity, scale, points(cells, (1,), scale, column, "published"), measured))
    if not panels:
        title = benchmark_title(own[0], study) if own else "a test set"
        return canvas.empty("Figure 1", f"No PSNR on {title} yet: train or evaluate a network first.")
    figure, axes = canvas.panels(len(panels), "Figure 1", height=3.3)
    for ax, (identity, scale, published, measured) in zip(axes, panels, strict=True):
        ax.set_title(f"{benchmark_title(identity, study)}, x{scale}", loc="left")
        _draw(ax, published, measured)
    figure.legend(handles=_handles(any(panel[2] for panel in panels)), loc="outside lower left", ncols=3, fontsize=6.5)
    for ax, (_, _, published, measured) in zip(axes, panels, strict=True):
        _label(ax, published, measured)
    return figure


PUBLISHED_LOOK: dict[str, Any] = {"facecolors": "none", "edgecolors": PUBLISHED, "linewidths": 1.2}
MEASURED_LOOK: dict[str, Any] = {"facecolors": MEASURED, "edgecolors": "black", "alpha": 0.65, "linewidths": 0.6}


def _draw(ax: Any, published: list[Point], measured: list[Point]) -> None:
    looks = ((published, PUBLISHED_LOOK, PUBLISHED, "--"), (measured, MEASURED_LOOK, MEASURED, "-"))
    for some, look, colour, style in looks:
        if some:
            ax.scatter([p.flops for p in some], [p.psnr for p in some], s=[_area(p.params) for p in some], **look)
        front = _front(some)
        ax.plot([p.flops for p in front], [p.psnr for p in front], style, color=colour, lw=0.9, zorder=0)
    ax.scatter([p.flops for p in measured], [p.psnr for p in measured], s=7, marker="x", color="black", lw=0.7)
    ax.set_xscale("log")
    canvas.log_axis(ax.xaxis)
    ax.margins(0.1)
    ax.set_xlabel("FLOPs [G], output 1280x720")
    ax.set_ylabel("PSNR on Y [dB]")


def _handles(with_published: bool) -> list[Any]:
    """Return the legend: marks, fronts, and two sizes."""
    from matplotlib.lines import Line2D

    def circle(params: float, text: str, **look: Any) -> Any:
        size = math.sqrt(_area(params) * 4 / math.pi)
        return Line2D([], [], lw=0, marker="o", ms=size, label=text, **look)

    hollow: dict[str, Any] = {"mfc": "none", "mec": PUBLISHED, "mew": 1.2}
    handles = [circle(100, "measured (x: its centre)", mfc=MEASURED, mec="black", mew=0.6, alpha=0.65)]
    handles.append(Line2D([], [], color=MEASURED, lw=0.9, label="Pareto front, measured"))
    if with_published:
        handles.append(circle(100, "published", **hollow))
        handles.append(Line2D([], [], color=PUBLISHED, ls="--", lw=0.9, label="Pareto front, published"))
    grey: dict[str, Any] = {"mfc": "none", "mec": AUTHORS}
    return [*handles, circle(250, "250 K parameters", **grey), circle(1000, "1,000 K parameters", **grey)]


def _label(ax: Any, published: list[Point], measured: list[Point]) -> None:
    """Write names beside the circles that matter; of the others, those that find a free place."""
    networks = all_networks()
    chosen = {id(point) for point in _worth_a_name(published, measured, networks)}
    fronts = [*_front(measured), *_front(published)]
    important = {id(point) for point in (*measured, *fronts)} | {id(p) for p in published if p.name == BASELINE}
    marks = []
    for point in (*published, *measured):
        text = label(networks[point.name]) if point.name in networks else point.name
        if point.name in networks and 1 not in networks[point.name].rows:
            text = f"{text} ({point.name})"
        radius = math.sqrt(_area(point.params) / math.pi)
        named = text if id(point) in chosen else ""
        marks.append(labels.Mark(point.flops, point.psnr, named, radius, id(point) in important))
    labels.label_points(ax, marks)


def _worth_a_name(published: list[Point], measured: list[Point], networks: Mapping[str, Network]) -> list[Point]:
    """Return the points that are named: of the many variants that crowd around the baseline, those that stand out."""
    baseline = next((point for point in measured if point.name == BASELINE), None)
    names = {point.name: point for point in measured}
    apart = [p for p in published if p.name not in names or abs(p.psnr - names[p.name].psnr) > NEAR]
    if len(measured) > MAX_NAMED:
        return [*apart, *(point for point in measured if point is baseline)]
    crowd: list[Point] = []
    others: list[Point] = []
    for point in measured:
        is_variant = point.name not in networks or 1 not in networks[point.name].rows
        is_near = baseline is not None and abs(point.flops / baseline.flops - 1) < 0.1
        (crowd if is_variant and is_near else others).append(point)
    if baseline is not None:
        reach = NEAR * (max(p.psnr for p in measured) - min(p.psnr for p in measured))
        crowd = sorted(crowd, key=lambda point: -abs(point.psnr - baseline.psnr))[:3]
        others += [point for point in crowd if abs(point.psnr - baseline.psnr) > reach]
    return [*apart, *others]


def _front(some: list[Point]) -> list[Point]:
    return pareto.front(some, lambda point: (point.flops, point.psnr))


def _area(params: float) -> float:
    """Compute a circle's area in square points from parameters in K; the smallest is still visible."""
    return 0.16 * params + 14


def _number(cell: Cell | None, which: str) -> float | None:
    if cell is None:
        return None
    if which == "measured":
        return cell.measured
    return float(cell.published) if cell.published else None
