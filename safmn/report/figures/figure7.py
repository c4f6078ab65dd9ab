"""Figure 7: loss with and without normalisation."""

from typing import Any

from safmn.report import ablation
from safmn.report.figures import canvas, curves
from safmn.report.measured import Results
from safmn.study import Study

NORMALISATION = (  # panel -> variants
    ("(a) with and without normalisation", ("safmn", "ln_none", "ln_none_low_lr")),
    ("(b) kinds of normalisation", ("safmn", "ln_bn", "ln_fbn", "ln_l2")),
)


def draw(study: Study, results: Results) -> Any:
    """Draw Figure 7: smoothed L1 loss over iterations at x4, with the authors' log up to the same iteration."""
    scale = ablation.scale_of(study)
    figure, axes = canvas.panels(2, "Figure 7")
    for ax, (title, names) in zip(axes, NORMALISATION, strict=True):
        runs = [run for name in names if name in study.variants for run in study.runs(name) if run.scale == scale]
        ax.set_title(f"{title}, x{scale}", loc="left")
        curves.losses(ax, results, runs, scale, ", ".join(names), list(names[1:]))
    return figure
