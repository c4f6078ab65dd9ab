"""Figure 7: loss with and without normalisation. Also the curves of every run, with the authors' own logs."""

from typing import Any

import pandas as pd

from safmn.paper import NUMBERS
from safmn.report import ablation
from safmn.report.figures import canvas
from safmn.report.figures.canvas import AUTHORS, COLOURS, LINES
from safmn.report.measured import Results, read_curve
from safmn.study import Run, Study

NORMALISATION = (  # panel -> variants
    ("(a) with and without normalisation", ("safmn", "ln_none", "ln_none_low_lr")),
    ("(b) kinds of normalisation", ("safmn", "ln_bn", "ln_fbn", "ln_l2")),
)

MAX_IN_A_COLUMN = 21  # names in a legend; a longer one is cut off


def normalisation(study: Study, results: Results) -> Any:
    """Draw Figure 7: smoothed L1 loss over iterations at x4, with the authors' log up to the same iteration."""
    scale = ablation.scale_of(study)
    figure, axes = canvas.panels(2, "Figure 7")
    for ax, (title, names) in zip(axes, NORMALISATION, strict=True):
        runs = [run for name in names if name in study.variants for run in study.runs(name) if run.scale == scale]
        ax.set_title(f"{title}, x{scale}")
        _loss_panel(ax, results, runs, scale, ", ".join(names))
    return figure


def curves(study: Study, results: Results, scale: int) -> Any:
    """Draw loss and validation PSNR of every run at a scale."""
    runs = [run for run in study.runs() if run.scale == scale]
    figure, axes = canvas.panels(2, "curves", wide=True)
    axes[0].set_title(f"L1 loss, smoothed, x{scale}")
    _loss_panel(axes[0], results, runs, scale, "the study's variants", legend=False)
    ax = axes[1]
    ax.set_title(f"Validation PSNR on RGB, x{scale}")
    end = 0.0
    for number, run in enumerate(runs):
        curve = results.curve(run, "validation_psnr_rgb")
        if len(curve):
            end = max(end, curve.index[-1])
            ax.plot(curve, marker=".", ms=3, label=_run_label(run, runs), **_look(number, run))
    if not end:
        canvas.say(ax, "No run has been validated yet")
        return figure
    curve = read_curve(NUMBERS / f"validation_log_x{scale}.csv", "div2k_val_psnr_rgb").loc[:end]
    if len(curve):
        ax.plot(curve, label="authors' log, DIV2K_val (other images)", **_authors(len(curve)))
    else:
        ax.text(0.02, 0.02, "authors' first validation is later", transform=ax.transAxes, fontsize=7)
    ax.set_xlabel("iteration")
    ax.set_ylabel("PSNR on RGB [dB]")
    ax.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.01, 1.0), ncols=min(3, 1 + len(runs) // MAX_IN_A_COLUMN))
    return figure


def _loss_panel(ax: Any, results: Results, runs: list[Run], scale: int, what: str, legend: bool = True) -> None:
    end, others = 0.0, 0
    for number, run in enumerate(runs):
        curve = smooth(results.curve(run, "l1_loss"))
        if curve.empty:
            others += not results.curve(run, "gradient_norm").empty  # trained by a loss of a user's own
            continue
        end = max(end, curve.index[-1])
        look = _look(number, run)
        ax.plot(curve, label=_run_label(run, runs), **look)
        record = results.record(run) or {}
        if record.get("outcome") == "collapsed":
            ax.plot(curve.iloc[-1:], marker="X", ms=7, color=look["color"])
            at = (record.get("collapse") or {}).get("iteration", "?")
            ax.annotate(f"collapsed at {at}", (curve.index[-1], curve.iloc[-1]), fontsize=6)
    if not end:
        untold = f"No history yet of {what}:\ntrain them first"
        canvas.say(ax, "Trained by another loss than L1:\nsee history.csv" if others else untold)
        return
    curve = smooth(read_curve(NUMBERS / f"training_log_x{scale}.csv", "l1_loss").loc[:end])
    if len(curve):
        ax.plot(curve, label="authors' log (DF2K, batch 64)", **_authors(len(curve)))
    ax.set_yscale("log")
    canvas.log_axis(ax.yaxis)
    ax.set_xlabel("iteration")
    ax.set_ylabel("L1 loss" + (f" ({others} with another loss not shown)" if others else ""))
    if legend:
        ax.legend(fontsize=6)


def smooth(curve: pd.Series) -> pd.Series:
    """Compute the running mean over a fiftieth of the curve, at least 1 and at most 50 points, as in Figure 7."""
    return curve.rolling(min(50, max(1, len(curve) // 50)), min_periods=1).mean()


def _look(number: int, run: Run) -> dict[str, Any]:
    if run.variant == "safmn":
        return {"color": "black", "linestyle": LINES[run.seed % len(LINES)], "lw": 1.8, "zorder": 5}
    palette = COLOURS[:-1]
    return {"color": palette[number % len(palette)], "linestyle": LINES[number // len(palette) % len(LINES)], "lw": 1.0}


def _authors(points: int) -> dict[str, Any]:
    """Return the look of the authors' line, or of points where there are too few for a line."""
    return {"color": AUTHORS, "lw": 2.2, "alpha": 0.6, "marker": "D" if points < 4 else "", "zorder": 4}


def _run_label(run: Run, runs: list[Run]) -> str:
    several = sum(other.variant == run.variant for other in runs) > 1
    return f"{run.variant}, seed {run.seed}" if several else run.variant
