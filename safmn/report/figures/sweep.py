"""A sweep: PSNR over parameters, FLOPs and time of its points, with the Pareto front of each."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from safmn.networks import variants
from safmn.paper.cell import Cell
from safmn.report import ablation
from safmn.report.evaluated import device_type
from safmn.report.figures import canvas, labels, pareto
from safmn.report.figures.canvas import AUTHORS, COLOURS, LINES
from safmn.report.measured import Results, benchmark_title, benchmarks
from safmn.study import Study

COSTS = {"params": "parameters [K]", "flops": "FLOPs [G], output 1280x720", "runtime": "time of an image [ms]"}
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
MAX_NAMED = 40
"""Number of points up to which each has its values beside it: more could not be read."""


@dataclass(frozen=True)
class Point:
    """One variant of a sweep.

    Attributes:
        network: Its name.
        values: Key -> value; empty for the baseline.
        psnr: On Y in dB; None where it is not measured.
        std: Standard deviation over seeds, None from a single seed.
        costs: Key of COSTS -> number; only those that are known.
        collapsed: Whether the weights are from before a collapse.
        device: Of the time: "cuda" or "cpu"; "" without a time.
    """

    network: str
    values: dict[str, Any]
    psnr: float | None
    std: float | None
    costs: dict[str, float]
    collapsed: bool
    device: str

    @property
    def label(self) -> str:
        """Its values, or the baseline's name."""
        return ", ".join(str(value) for value in self.values.values()) or self.network


def collect(study: Study, results: Results, cells: Iterable[Cell], name: str) -> list[Point]:
    """Return the points of the sweep `name`, then the baseline, on the study's first test set."""
    own, scale = benchmarks(study), ablation.scale_of(study)
    column = f"{own[0].id}_{ablation.METRIC}" if own else ""
    table = {(cell.network, cell.column): cell for cell in cells if cell.table == 3 and cell.scale == scale}
    found = variants.discover()
    baseline = [ablation.BASELINE] if ablation.BASELINE in study.variants else []
    points = []
    for network in [*study.sweeps[name], *baseline]:
        cell = table.get((network, column))
        finite = cell is not None and cell.measured is not None and math.isfinite(cell.measured)
        costs = {key: table[network, key].measured for key in ("params", "flops") if (network, key) in table}
        time = results.runtime(network) or {}
        if time.get("status") == "timed":
            costs["runtime"] = float(time["mean_ms"])
        points.append(
            Point(
                network,
                dict(found[network].point) if network in study.sweeps[name] else {},
                cell.measured if cell and finite else None,
                cell.std if cell and finite else None,
                {key: value for key, value in costs.items() if value is not None},
                bool(cell and cell.collapsed),
                device_type(time) if "runtime" in costs else "",
            )
        )
    return points


def front(points: Iterable[Point], cost: str) -> list[Point]:
    """Return the Pareto front over a cost of those points that have it and a PSNR."""
    return pareto.front(measured(points, cost), lambda point: (point.costs[cost], point.psnr or 0.0))


def measured(points: Iterable[Point], cost: str) -> list[Point]:
    """Return the points that have a PSNR and a cost."""
    return [point for point in points if point.psnr is not None and cost in point.costs]


def draw(study: Study, points: Sequence[Point], name: str) -> Any:
    """Draw PSNR over each cost, a line for each value of the sweep's first key, and the Pareto front.

    A sweep over one number, such as a learning rate, has PSNR over that number as its first panel.
    """
    if not any(point.psnr is not None and point.values for point in points):
        return canvas.empty(f"sweep {name}", f"No point of the sweep {name} is measured yet: `snakemake train_{name}`")
    own, scale = benchmarks(study), ablation.scale_of(study)
    key = _numeric(points)
    panels = {key: key.rpartition(".")[2], **COSTS} if key else COSTS
    drawn = {cost: title for cost, title in panels.items() if measured(points, cost)}
    if not drawn:
        return canvas.empty(f"sweep {name}", f"No point of the sweep {name} is counted yet: `snakemake`")
    figure, axes = canvas.panels(len(drawn), f"sweep {name}")
    for ax, (cost, title) in zip(axes, drawn.items(), strict=True):
        shown = measured(points, cost)
        devices = sorted({point.device for point in shown if point.device}) if cost == "runtime" else []
        where = f" ({', '.join({'cuda': 'GPU', 'cpu': 'CPU'}.get(device, device) for device in devices)})"
        ax.set_xlabel(title + where * bool(devices))
        ax.set_ylabel(f"PSNR on Y [dB], {benchmark_title(own[0].id, study)}, x{scale}")
        _panel(ax, shown, cost)
    handles, names = axes[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), fontsize=7)
    if "runtime" not in drawn:
        reason = study.efficiency.reason_untimed or "not timed yet, or more points than are timed"
        said = canvas.wrapped(f"Without a panel of time: {reason}.", 70)
        axes[-1].set_xlabel(f"{axes[-1].get_xlabel()}\n\n{said}")
    for ax, cost in zip(axes, drawn, strict=True):  # when all that takes room is there
        _label(ax, measured(points, cost), cost)
    return figure


def _label(ax: Any, points: Sequence[Point], cost: str) -> None:
    """Write the values of each point beside it; coinciding points share a text."""
    if len(points) <= MAX_NAMED:
        named = [(point.costs[cost], point.psnr or 0.0, point.label + " *" * point.collapsed) for point in points]
        labels.label_points(ax, [labels.Mark(*each) for each in named])


def _numeric(points: Sequence[Point]) -> str:
    """Return the only key of a sweep if its values are numbers, which then become costs of the points; else ""."""
    keys = {key for point in points for key in point.values}
    values = [value for point in points for value in point.values.values()]
    if len(keys) != 1 or any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return ""
    (key,) = keys
    for point in points:
        if key in point.values:
            point.costs[key] = float(point.values[key])
    return key


def _panel(ax: Any, points: Sequence[Point], cost: str) -> None:
    groups: dict[str, list[Point]] = {}
    key = next((key for point in points for key in point.values), "")
    for point in points:
        several = len(point.values) > 1
        groups.setdefault(f"{key.rpartition('.')[2]} {point.values[key]}" if several else "", []).append(point)
    if cost in COSTS:
        best = front(points, cost)
        x, y = [point.costs[cost] for point in best], [point.psnr for point in best]
        ax.plot(x, y, drawstyle="steps-post", color=AUTHORS, lw=5, alpha=0.25, label="Pareto front", zorder=1)
    number = 0
    for label, group in groups.items():
        swept = [point for point in group if point.values]
        look: dict[str, Any] = {
            "color": COLOURS[number % (len(COLOURS) - 1)],
            "marker": MARKS[number % len(MARKS)],
            "linestyle": LINES[number // len(COLOURS) % len(LINES)] if label else "",
        }
        if swept:
            swept.sort(key=lambda point: point.costs[cost])
            errors = [point.std or 0 for point in swept] if any(point.std for point in swept) else None
            places = [point.costs[cost] for point in swept], [point.psnr for point in swept]
            ax.errorbar(*places, yerr=errors, ms=4.5, lw=1, capsize=2, label=label or "points", zorder=3, **look)
            number += 1
        for point in (point for point in group if not point.values):
            ax.plot(point.costs[cost], point.psnr, marker="*", ms=11, color="black", ls="", label="baseline", zorder=4)
    if all(point.costs[cost] > 0 for point in points):
        ax.set_xscale("log")
        canvas.log_axis(ax.xaxis)
    ax.margins(0.1)


def rows(study: Study, points: Sequence[Point]) -> list[list[Any]]:
    """Return the numbers of the figure, a header first; `front_` says whether a point is on that Pareto front."""
    keys = list(dict.fromkeys(key for point in points for key in point.values))
    own = benchmarks(study)
    header = ["network", *keys, f"{own[0].id}_psnr" if own else "psnr", "std", "collapsed"]
    header += ["params_k", "flops_g", "runtime_ms", "device", *(f"front_{cost}" for cost in COSTS)]
    fronts = {cost: {point.network for point in front(points, cost)} for cost in COSTS}
    return [
        header,
        *(
            [
                point.network,
                *(point.values.get(key, "") for key in keys),
                *("" if value is None else value for value in (point.psnr, point.std)),
                point.collapsed,
                *(point.costs.get(cost, "") for cost in COSTS),
                point.device,
                *(point.network in fronts[cost] for cost in COSTS),
            ]
            for point in points
        ),
    ]
