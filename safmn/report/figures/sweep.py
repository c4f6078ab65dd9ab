"""A sweep: PSNR over parameters, FLOPs and time of its points, with the Pareto front of each."""

import math
from typing import Any

import pandas as pd

from safmn.networks import variants
from safmn.report import ablation
from safmn.report.evaluated import device_type
from safmn.report.figures import canvas, labels, pareto
from safmn.report.figures.canvas import AUTHORS, COLOURS, LINES
from safmn.report.joined import Joined
from safmn.report.measured import benchmarks
from safmn.study import Study

COSTS = {"params": "parameters [K]", "flops": "FLOPs [G], output 1280x720", "runtime": "time of an image [ms]"}
IN_FILE = {"params": "params_k", "flops": "flops_g", "runtime": "runtime_ms"}
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
MAX_NAMED = 40
"""Number of points up to which each has its values beside it: more could not be read."""


def collect(joined: Joined, name: str) -> pd.DataFrame:
    """Return the points of the sweep `name` and then the baseline, a row a network.

    Columns: `network`; `label`, its values or the baseline's name; `keys`, key -> value, empty for the baseline; `psnr`
    on the study's first test set in dB, and `std` over its seeds; `collapsed`; `device` of the time; and the COSTS. NaN
    where a number is not measured.
    """
    study, scale = joined.study, ablation.scale_of(joined.study)
    test_sets, found = benchmarks(study), variants.discover()
    baseline = [ablation.BASELINE] if ablation.BASELINE in study.variants else []
    points = []
    for network in [*study.sweeps[name], *baseline]:
        keys = dict(found[network].point) if network in study.sweeps[name] else {}
        point: dict[str, Any] = {
            "network": network,
            "label": ", ".join(map(str, keys.values())) or network,
            "keys": keys,
        }
        cell = joined.measured(network, scale, f"{test_sets[0].id}_{ablation.METRIC}") if test_sets else None
        if cell and cell.measured is not None and math.isfinite(cell.measured):
            point |= {"psnr": cell.measured, "std": cell.std}
        point["collapsed"] = bool(cell and cell.collapsed)
        counts = {cost: joined.measured(network, scale, cost) for cost in ("params", "flops")}
        point |= {cost: own.measured for cost, own in counts.items() if own}
        time = joined.results.runtime(network) or {}
        if time.get("status") == "timed":
            point |= {"runtime": float(time["mean_ms"]), "device": device_type(time)}
        points.append(point)
    frame = pd.DataFrame(points, columns=["network", "label", "keys", "psnr", "std", "collapsed", "device", *COSTS])
    return frame.astype(dict.fromkeys(["psnr", "std", *COSTS], float))


def numbers(study: Study, points: pd.DataFrame) -> pd.DataFrame:
    """Return what `collect` returned with a column for each key; `front_` says whether a point is on a Pareto front."""
    own = benchmarks(study)
    front = {
        f"front_{cost}": points["network"].isin(pareto.front(measured(points, cost), cost)["network"]) for cost in COSTS
    }
    renamed = points.rename(columns=IN_FILE | {"psnr": f"{own[0].id}_psnr" if own else "psnr"})
    shown = renamed[[column for column in renamed if column not in ("network", "label", "keys", "device")]]
    keys = pd.DataFrame(list(points["keys"]), index=points.index, dtype=object)
    whole = pd.concat([points["network"], keys, shown, points["device"], pd.DataFrame(front)], axis=1).astype(object)
    return whole.where(whole.notna(), None)


def measured(points: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Return the points that have a PSNR and a cost."""
    return points.dropna(subset=["psnr", cost])


def draw(study: Study, points: pd.DataFrame, name: str) -> Any:
    """Draw PSNR over each cost, a line for each value of the sweep's first key, and the Pareto front.

    A sweep over one number, such as a learning rate, has PSNR over that number as its first panel.
    """
    if not any(points["psnr"].notna() & points["keys"].map(bool)):
        return canvas.empty(f"sweep {name}", f"No point of the sweep {name} is measured yet: `snakemake train_{name}`")
    own, scale = benchmarks(study), ablation.scale_of(study)
    key = _numeric(points)
    if key:
        points = points.assign(**{key: [keys.get(key, math.nan) for keys in points["keys"]]}).astype({key: float})
    panels = {key: key.rpartition(".")[2], **COSTS} if key else COSTS
    drawn = {cost: title for cost, title in panels.items() if len(measured(points, cost))}
    if not drawn:
        return canvas.empty(f"sweep {name}", f"No point of the sweep {name} is counted yet: `snakemake`")
    figure, axes = canvas.panels(len(drawn), f"sweep {name}")
    for ax, (cost, title) in zip(axes, drawn.items(), strict=True):
        shown = measured(points, cost)
        devices = sorted(set(shown["device"].dropna())) if cost == "runtime" else []
        where = f" ({', '.join({'cuda': 'GPU', 'cpu': 'CPU'}.get(device, device) for device in devices)})"
        ax.set_xlabel(title + where * bool(devices))
        ax.set_ylabel(f"PSNR on Y [dB], {own[0].title}, x{scale}")
        _panel(ax, shown, cost)
    handles, names = axes[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), fontsize=7)
    if "runtime" not in drawn:
        reason = study.efficiency.reason_untimed or "not timed yet, or more points than are timed"
        said = canvas.wrapped(f"Without a panel of time: {reason}.", 70)
        axes[-1].set_xlabel(f"{axes[-1].get_xlabel()}\n\n{said}")
    for ax, cost in zip(axes, drawn, strict=True):  # when all that takes room is there
        shown = measured(points, cost)
        if len(shown) <= MAX_NAMED:
            named = shown["label"] + shown["collapsed"].map({True: " *", False: ""})
            labels.label_points(
                ax, [labels.Mark(*each) for each in zip(shown[cost], shown["psnr"], named, strict=True)]
            )
    return figure


def _numeric(points: pd.DataFrame) -> str:
    """Return the only key of a sweep if its values are numbers, which are then drawn like a cost; else ""."""
    values = [(key, value) for keys in points["keys"] for key, value in keys.items()]
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for _, value in values)
    return values[0][0] if are_numbers and len({key for key, _ in values}) == 1 else ""


def _panel(ax: Any, points: pd.DataFrame, cost: str) -> None:
    if cost in COSTS:
        best = pareto.front(points, cost)
        look: dict[str, Any] = {"color": AUTHORS, "lw": 5, "alpha": 0.25}
        ax.plot(best[cost], best["psnr"], drawstyle="steps-post", label="Pareto front", zorder=1, **look)
    names = [
        f"{next(iter(keys)).rpartition('.')[2]} {next(iter(keys.values()))}" if len(keys) > 1 else ""
        for keys in points["keys"]
    ]
    swept = points["keys"].map(bool)
    for number, (name, group) in enumerate(points[swept].groupby(pd.Series(names, points.index)[swept], sort=False)):
        look = {
            "color": COLOURS[number % (len(COLOURS) - 1)],
            "marker": MARKS[number % len(MARKS)],
            "linestyle": LINES[number // len(COLOURS) % len(LINES)] if name else "",
        }
        line = group.sort_values(cost, kind="stable")
        errors = line["std"].fillna(0) if line["std"].any() else None
        ax.errorbar(
            line[cost], line["psnr"], yerr=errors, ms=4.5, lw=1, capsize=2, label=name or "points", zorder=3, **look
        )
    for _, point in points[~swept].iterrows():
        ax.plot(point[cost], point["psnr"], marker="*", ms=11, color="black", ls="", label="baseline", zorder=4)
    if (points[cost] > 0).all():
        ax.set_xscale("log")
        canvas.log_axis(ax.xaxis)
    ax.margins(0.1)
