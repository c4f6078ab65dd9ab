"""Curves of every run at a scale: the baseline and what stands out have a colour and a name, the others are grey."""

from typing import Any

import numpy as np
import pandas as pd

from safmn.networks import all_networks
from safmn.paper import NUMBERS
from safmn.report.ablation import BASELINE
from safmn.report.ablation_table import label
from safmn.report.figures import canvas
from safmn.report.figures.canvas import AUTHORS, COLOURS, LINES, OTHERS
from safmn.report.measured import Results, read_curve
from safmn.study import Run, Study

NAMED = tuple(COLOURS[place] for place in (0, 1, 5, 4, 6))  # that nobody sees as the grey of the others
MAX_NAMED = 5  # lines that stand out
FAR = 2.5  # median absolute deviations from the median, from which a line stands out


def draw(study: Study, results: Results, scale: int) -> Any:
    """Draw loss and validation PSNR of every run at a scale, with the authors' logs."""
    runs = [run for run in study.runs() if run.scale == scale]
    figure, axes = canvas.panels(2, "curves")
    axes[0].set_title(f"L1 loss, smoothed, x{scale}", loc="left")
    axes[1].set_title(f"Validation PSNR on RGB, x{scale}", loc="left")
    validated = {run: results.curve(run, "validation_psnr_rgb") for run in runs}
    lines = {run: curve for run, curve in validated.items() if len(curve)}
    named = outstanding(lines)
    losses(axes[0], results, runs, scale, "the study's variants", named)
    if not lines:
        canvas.say(axes[1], "No run has been validated yet")
        return figure
    end = max(curve.index[-1] for curve in lines.values())
    authors = read_curve(NUMBERS / f"validation_log_x{scale}.csv", "div2k_val_psnr_rgb").loc[:end]
    # The rise at the beginning would leave no room for the differences.
    late = [value for curve in lines.values() for value in curve.loc[end / 10 :]]
    axes[1].set_ylim(min(late) - 0.05, max([*late, *authors]) + 0.05)
    lines_over_iterations(axes[1], lines, named, authors, "authors, DIV2K_val", results)
    axes[1].set_ylabel("PSNR on RGB [dB]")
    others = len({run.variant for run in lines} - {*named, BASELINE})
    said = f"Grey: {others} other variants." if others else ""
    said += "" if len(authors) else " The authors' first validation is later."
    canvas.foot(figure, said)
    return figure


def outstanding(curves: dict[Run, pd.Series]) -> list[str]:
    """Return the variants whose last value is far from the others', the farthest first; the baseline is not one."""
    last = {run.variant: float(curve.iloc[-1]) for run, curve in curves.items()}
    if len(last) <= MAX_NAMED:
        return [name for name in last if name != BASELINE]
    values = np.array([*last.values()])
    centre = float(np.median(values))
    scatter = float(np.median(np.abs(values - centre))) or 1.0
    far = {name: abs(value - centre) / scatter for name, value in last.items() if name != BASELINE}
    return [name for name in sorted(far, key=lambda name: -far[name]) if far[name] > FAR][:MAX_NAMED]


def losses(ax: Any, results: Results, runs: list[Run], scale: int, what: str, named: list[str]) -> None:
    """Draw smoothed L1 loss over iterations on a logarithmic axis, with the authors' up to the same iteration."""
    lines = {run: smooth(results.curve(run, "l1_loss")) for run in runs}
    others = [run for run in runs if lines[run].empty and len(results.curve(run, "gradient_norm"))]
    lines = {run: curve for run, curve in lines.items() if len(curve)}
    if not lines:
        untold = f"No history yet of {what}:\ntrain them first"
        canvas.say(ax, "Trained by another loss than L1:\nsee history.csv" if others else untold)
        return
    end = max(curve.index[-1] for curve in lines.values())
    authors = smooth(read_curve(NUMBERS / f"training_log_x{scale}.csv", "l1_loss").loc[:end])
    ax.set_yscale("log")
    lines_over_iterations(ax, lines, named, authors, "authors (DF2K, batch 64)", results)
    canvas.log_axis(ax.yaxis)
    ax.set_ylabel("L1 loss" + (f" ({len(others)} with another loss not shown)" if others else ""))


def lines_over_iterations(
    ax: Any, lines: dict[Run, pd.Series], named: list[str], authors: pd.Series, authors_name: str, results: Results
) -> None:
    """Draw lines over iterations, and write the names of those that have one at their ends."""
    networks = all_networks()
    looks = {name: (NAMED[place % len(NAMED)], LINES[1 + place % 3]) for place, name in enumerate(named)}
    looks[BASELINE] = ("black", "-")
    ends: dict[str, list[tuple[float, float]]] = {}
    for run, curve in lines.items():
        colour, style = looks.get(run.variant, (OTHERS, "-"))
        is_named = run.variant in looks
        ax.plot(curve, color=colour, linestyle=style, lw=1.3 if is_named else 0.7, zorder=3 if is_named else 2)
        if (results.record(run) or {}).get("outcome") == "collapsed":
            ax.plot(curve.iloc[-1:], marker="X", ms=6, color=colour, zorder=4)
        if is_named:
            ends.setdefault(run.variant, []).append((float(curve.index[-1]), float(curve.iloc[-1])))
    if len(authors):
        ax.plot(authors, color=AUTHORS, lw=2, alpha=0.6, marker="D" if len(authors) < 4 else "")
    names = [
        (*np.mean(values, axis=0), _name(lines, results, name, label(networks[name])), looks[name][0])
        for name, values in ends.items()
    ]
    names += [(float(authors.index[-1]), float(authors.iloc[-1]), authors_name, AUTHORS)] if len(authors) else []
    ax.set_xlabel("iteration")
    canvas.label_ends(ax, names)


def _name(lines: dict[Run, pd.Series], results: Results, variant: str, title: str) -> str:
    """Return a line's name: the paper's row, the short name, and where it collapsed."""
    records = [results.record(run) or {} for run in lines if run.variant == variant]
    at = [
        (record.get("collapse") or {}).get("iteration", "?")
        for record in records
        if record.get("outcome") == "collapsed"
    ]
    said = canvas.wrapped(title, 22) + (f"\n{variant}" if variant != BASELINE else " (baseline)")
    return said + (f", collapsed at {at[0]}" if at else "")


def smooth(curve: pd.Series) -> pd.Series:
    """Compute the running mean over a fiftieth of the curve, at least 1 and at most 50 points, as in Figure 7."""
    return curve.rolling(min(50, max(1, len(curve) // 50)), min_periods=1).mean()
