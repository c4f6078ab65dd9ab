"""Is the order of the rows stable over the iterations? Kendall's tau with the final order, and with the paper's."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from safmn.paper.statistics import MIN_NETWORKS, Agreement, tau_b
from safmn.report import ablation
from safmn.report.figures import canvas
from safmn.report.figures.canvas import MEASURED, PUBLISHED
from safmn.report.joined import Joined
from safmn.report.measured import Results
from safmn.study import Study

STABLE = 0.9  # tau from which two orders count as nearly the same
FINAL, PAPER = "with the final order", "with the paper's order"


def validations(study: Study, results: Results) -> pd.DataFrame:
    """Return validation PSNR on RGB (dB), mean over seeds: a row an iteration, a column a variant.

    Only variants whose runs all reached the last iteration are in it: not those that collapsed, nor those that train
    for another number of iterations than most.
    """
    scale = ablation.scale_of(study)
    iterations = {name: study.training_of(name).iterations for name in study.variants}
    most = max(Counter(iterations.values()).items(), key=lambda item: item[::-1], default=(0, 0))[0]
    curves = {}
    for name in (name for name in study.variants if iterations[name] == most):
        own = [results.curve(run, "validation_psnr_rgb") for run in study.runs(name) if run.scale == scale]
        if own and all(len(curve) for curve in own):
            curves[name] = pd.concat(own, axis=1).mean(axis=1, skipna=False)
    frame = pd.DataFrame(curves)
    return frame.loc[:, frame.iloc[-1].notna()].dropna() if len(frame) else frame


def taus(frame: pd.DataFrame) -> pd.DataFrame:
    """Return Kendall's tau of the variants' order at each iteration with the final one and with the paper's."""
    if len(frame.columns) < MIN_NETWORKS:
        return pd.DataFrame(columns=[FINAL, PAPER])
    orders = {FINAL: frame.iloc[-1]}
    printed = ablation.published_psnr(frame.columns, ablation.ORDERED_BY)
    if len(printed) >= MIN_NETWORKS:
        orders[PAPER] = pd.Series(printed)
    found = {name: tau_b(order.to_numpy(float), frame[order.index].to_numpy(float).T) for name, order in orders.items()}
    return pd.DataFrame(found, index=frame.index).dropna(axis="columns", how="all")  # NaN where all rows are equal


def stable_from(tau: pd.DataFrame) -> float | None:
    """Return the iteration from which tau with the final order stays at STABLE or above; None without any."""
    if FINAL not in tau or not len(tau):
        return None
    low = tau.index[~(tau[FINAL] >= STABLE)]
    later = tau.index if not len(low) else tau.index[tau.index > low[-1]]
    return float(later[0]) if len(later) else None


def sentence(frame: pd.DataFrame) -> str:
    """Say from when on the order of `validations` is stable; "" where it cannot be told."""
    start = stable_from(taus(frame))
    if start is None or len(frame) < MIN_NETWORKS:
        return ""
    end, rows = frame.index[-1], f"The order of {len(frame.columns)} rows by validation PSNR"
    if start == end:
        return f"{rows} still changes at the end, iteration {end:,.0f}."
    return (
        f"{rows} stays at Kendall's tau of {STABLE:g} or more with the final order from iteration {start:,.0f} of "
        f"{end:,.0f} on."
    )


def draw(joined: Joined) -> Any:
    """Draw both over iterations, and tau with the paper's order on each test set with its interval."""
    frame = validations(joined.study, joined.results)
    tau = taus(frame)
    if FINAL not in tau or not len(tau):
        return canvas.empty("order", f"No order yet: fewer than {MIN_NETWORKS} variants are trained to the end.")
    agreed = _agreements(joined)
    figure, axes = canvas.panels(2 if agreed else 1, "order", height=2.4)
    ax = axes[0]
    names = []
    for name, colour, style in ((FINAL, MEASURED, "-"), (PAPER, PUBLISHED, "--")):
        if name in tau:
            ax.plot(tau[name], color=colour, linestyle=style, marker=".", lw=1.4)
            last = tau[name].dropna()
            names.append((float(last.index[-1]), float(last.iloc[-1]), canvas.wrapped(name, 14), colour))
    ax.axhline(0, color="black", lw=0.6)
    ax.set_ylim(min(-0.1, float(np.nanmin(tau.to_numpy())) - 0.05), 1.05)
    ax.set_ylabel("Kendall's tau")
    ax.set_xlabel("iteration")
    ax.set_title(f"Order of {len(frame.columns)} rows by validation PSNR", loc="left")
    canvas.label_ends(ax, names)
    if agreed:
        _agreement_panel(axes[1], agreed)
    canvas.foot(figure, sentence(frame) + " The paper's order is by PSNR on Manga109.")
    return figure


def _agreements(joined: Joined) -> list[tuple[str, Agreement]]:
    return [
        (f"{comparison.benchmark.name}, Table {table}", comparison.agreement)
        for table, own in joined.comparisons.items()
        for comparison in own
        if comparison.agreement
    ]


def _agreement_panel(ax: Any, agreed: list[tuple[str, Agreement]]) -> None:
    for place, (_, agreement) in enumerate(agreed):
        if ends := agreement.interval.ends:
            ax.plot(ends, (place, place), color=PUBLISHED, lw=1.6)
        ax.plot(agreement.tau, place, "o", color=PUBLISHED, ms=5)
    ax.set_yticks(range(len(agreed)), [f"{name} ({agreement.n} rows)" for name, agreement in agreed], fontsize=7)
    ax.set_ylim(len(agreed) - 0.4, -0.6)
    ax.axvline(0, color="black", lw=0.6)
    ax.set_xlim(-1.05, 1.05)
    ax.set_xlabel("Kendall's tau with the paper's order, 95 % interval over images")
    ax.set_title("Agreement on each test set at the end", loc="left")


def numbers(joined: Joined) -> pd.DataFrame:
    """Return tau at each validation, and on each test set at the end with its interval."""
    frame = validations(joined.study, joined.results)
    tau, count = taus(frame), len(frame.columns)
    rows: list[list[Any]] = [
        [f"validation, {name}", int(iteration), count, float(value), None, None]
        for name in tau
        for iteration, value in tau[name].items()
    ]
    end = int(frame.index[-1]) if len(frame) else None
    for name, agreement in _agreements(joined):
        interval = agreement.interval
        rows.append([f"{name}, {PAPER}", end, agreement.n, agreement.tau, interval.low, interval.high])
    return pd.DataFrame(rows, columns=["order", "iteration", "rows", "Kendall's tau", "low", "high"], dtype=object)
