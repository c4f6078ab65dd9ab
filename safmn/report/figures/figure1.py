"""Figure 1: PSNR against FLOPs, published and measured; a circle's area is the number of parameters."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from safmn.networks import all_networks
from safmn.paper.cell import Cell
from safmn.report.ablation import BASELINE
from safmn.report.ablation_table import label
from safmn.report.figures import canvas, labels, pareto
from safmn.report.figures.canvas import AUTHORS, MEASURED, PUBLISHED
from safmn.report.joined import Joined
from safmn.report.measured import benchmark_title, benchmarks

NEAR = 0.15  # dB between two numbers of one network that get one name; part of the range of PSNR that stands out
NUMBERS = ["flops", "psnr", "params"]
MAX_NAMED = 60
"""Number of measured circles up to which a user's own variants are named: more names could not be read."""


def points(cells: Iterable[Cell], tables: tuple[int, ...], scale: int, column: str, which: str) -> pd.DataFrame:
    """Return the networks that have FLOPs (G), PSNR (dB) and parameters (K), each once.

    Args:
        cells: The study's cells.
        tables: Tables to take them from.
        scale: 2, 3 or 4.
        column: `<dataset>_psnr`.
        which: "published" or "measured". A measured network without counts gets the published ones.

    Returns:
        A row a network; columns `name`, `flops`, `psnr`, `params`.
    """
    chosen = {cell.place: cell for cell in cells if cell.table in tables and cell.scale == scale}
    rows = []
    for table, network in dict.fromkeys(place[:2] for place in chosen):
        row: dict[str, Any] = {"name": network}
        for name, key in (("flops", "flops"), ("psnr", column), ("params", "params")):
            cell = chosen.get((table, network, scale, key))
            printed = float(cell.published) if cell and cell.published else None
            own = cell.measured if cell else None
            row[name] = printed if which == "published" or (own is None and name != "psnr") else own
        rows.append(row)
    frame = pd.DataFrame(rows, columns=["name", "flops", "psnr", "params"]).astype(dict.fromkeys(NUMBERS, float))
    finite = frame[np.isfinite(frame[NUMBERS]).all(axis=1) & (frame["flops"] > 0)]
    return finite.drop_duplicates("name", ignore_index=True)


def draw(joined: Joined) -> Any:
    """Draw the paper's Figure 1 (Set5, x2) and the study's own test set, each if something is measured there."""
    study, cells = joined.study, joined.cells
    own = [benchmark.id for benchmark in benchmarks(study)]
    places = [("set5", 2)] + [("set5" if "set5" in own else own[0], scale) for scale in study.scales if own]
    panels = []
    for identity, scale in dict.fromkeys(places):
        column = f"{identity}_psnr"
        measured = points(cells, (1, 3, 4), scale, column, "measured")
        if len(measured):
            panels.append((identity, scale, points(cells, (1,), scale, column, "published"), measured))
    if not panels:
        title = benchmark_title(own[0], study) if own else "a test set"
        return canvas.empty("Figure 1", f"No PSNR on {title} yet: train or evaluate a network first.")
    figure, axes = canvas.panels(len(panels), "Figure 1", height=3.3)
    for ax, (identity, scale, published, measured) in zip(axes, panels, strict=True):
        ax.set_title(f"{benchmark_title(identity, study)}, x{scale}", loc="left")
        _panel(ax, published, measured)
    handles = _handles(any(len(published) for _, _, published, _ in panels))
    figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=6.5)
    for ax, (_, _, published, measured) in zip(axes, panels, strict=True):
        _label(ax, published, measured)
    return figure


PUBLISHED_LOOK: dict[str, Any] = {"facecolors": "none", "edgecolors": PUBLISHED, "linewidths": 1.2}
MEASURED_LOOK: dict[str, Any] = {"facecolors": MEASURED, "edgecolors": "black", "alpha": 0.65, "linewidths": 0.6}


def _panel(ax: Any, published: pd.DataFrame, measured: pd.DataFrame) -> None:
    looks = ((published, PUBLISHED_LOOK, PUBLISHED, "--"), (measured, MEASURED_LOOK, MEASURED, "-"))
    for some, look, colour, style in looks:
        if len(some):
            ax.scatter(some["flops"], some["psnr"], s=_area(some["params"]), **look)
        front = pareto.front(some, "flops")
        ax.plot(front["flops"], front["psnr"], style, color=colour, lw=0.9, zorder=0)
    ax.scatter(measured["flops"], measured["psnr"], s=7, marker="x", color="black", lw=0.7)
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


def _label(ax: Any, published: pd.DataFrame, measured: pd.DataFrame) -> None:
    """Write names beside the circles that matter; of the others, those that find a free place."""
    networks = all_networks()
    chosen = _worth_a_name(published, measured)
    marks = []
    for some, named in zip((published, measured), chosen, strict=True):
        important = {BASELINE, *(measured if some is measured else pareto.front(some, "flops"))["name"]}
        for point in some.to_dict("records"):
            name = point["name"]
            text = label(networks[name]) if name in networks else name
            if name in networks and 1 not in networks[name].rows:
                text = f"{text} ({name})"
            radius = math.sqrt(_area(point["params"]) / math.pi)
            mark = labels.Mark(point["flops"], point["psnr"], text if name in named else "", radius, name in important)
            marks.append(mark)
    labels.label_points(ax, marks)


def _worth_a_name(published: pd.DataFrame, measured: pd.DataFrame) -> tuple[set[str], set[str]]:
    """Return which published and which measured points are named: of the variants near the baseline, a few."""
    networks, psnr = all_networks(), measured.set_index("name")["psnr"]
    apart = published[~((published["psnr"] - published["name"].map(psnr)).abs() <= NEAR)]
    if len(measured) > MAX_NAMED:
        return set(apart["name"]), {BASELINE}
    named = set(measured["name"])
    if BASELINE in named:
        is_variant = measured["name"].map(lambda name: name not in networks or 1 not in networks[name].rows)
        baseline = measured.set_index("name").loc[BASELINE]
        crowd = measured[is_variant & ((measured["flops"] / baseline["flops"] - 1).abs() < 0.1)]
        distance = (crowd["psnr"] - baseline["psnr"]).abs().sort_values(ascending=False, kind="stable")[:3]
        reach = NEAR * (measured["psnr"].max() - measured["psnr"].min())
        named -= set(crowd["name"]) - set(crowd.loc[distance[distance > reach].index, "name"])
    return set(apart["name"]), named


def _area(params: Any) -> Any:
    """Compute a circle's area in square points from parameters in K; the smallest is still visible."""
    return 0.16 * params + 14
