"""Differences to the baseline at a glance: a row a variant, its interval, and the paper's difference as a mark."""

from typing import Any

import pandas as pd

from safmn.paper import verdicts
from safmn.report import ablation
from safmn.report.ablation_table import label, variant_rows
from safmn.report.figures import canvas
from safmn.report.figures.canvas import AUTHORS, COLOURS
from safmn.report.joined import Joined
from safmn.report.measured import benchmarks

LINEAR = 0.1  # dB around 0 that are drawn in proportion; beyond, each decade takes the same width
LOOKS = {  # verdict on the direction -> colour, mark, meaning
    verdicts.REPRODUCED: (COLOURS[0], "o", "same direction as in the paper"),
    verdicts.CONTRADICTED: (COLOURS[1], "X", "opposite direction"),
    verdicts.UNDECIDABLE: ("#70757D", "|", "not decided"),
    "": (COLOURS[4], "s", "not in the paper"),
}
COLUMNS = ("variant", "name", "test set", "difference [dB]", "low", "high", "paper [dB]", "paper's test set", "verdict")


def numbers(joined: Joined) -> pd.DataFrame:
    """Return the differences on every test set, a row each; None where there is no such number."""
    study, rows = joined.study, []
    for benchmark in benchmarks(study):
        title, paper = benchmark.title, ablation.paper_title(benchmark)
        for _, network, _ in variant_rows(study):
            contrast = joined.contrast(network.name, benchmark)
            if (measured := contrast.measured) is not None:
                interval, printed = measured.interval, contrast.printed
                row = [label(network), network.name, title, measured.value, interval.low, interval.high]
                rows.append([*row, printed, None if printed is None else paper, contrast.verdict])
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def draw(joined: Joined) -> Any:
    """Draw each variant's difference on the test set that decides, with its 95 % interval, and the paper's."""
    if joined.decisive is None:
        return canvas.empty("differences", "No difference yet: the baseline or every other variant is not measured.")
    title = joined.decisive.title
    shown = numbers(joined)
    shown = shown[shown["test set"] == title]
    figure, (ax,) = canvas.panels(1, "differences", height=1.3 + 0.2 * len(shown))
    ax.axvline(0, color="black", lw=1)
    for place, row in enumerate(shown.to_dict("records")):
        colour, mark, _ = LOOKS[row["verdict"]]
        if row["low"] is not None:
            ax.plot((row["low"], row["high"]), (place, place), color=colour, lw=1.6, solid_capstyle="butt")
        ax.plot(row["difference [dB]"], place, mark, color=colour, ms=5, mew=1.6)
        if row["paper [dB]"] is not None:
            ax.plot(float(row["paper [dB]"]), place, "D", ms=5, mfc="none", mec="black", mew=0.9, zorder=4)
    ax.set_xscale("symlog", linthresh=LINEAR, linscale=1)
    low, high = ax.get_xlim()
    ax.set_xticks([each for each in (-10, -3, -1, -0.3, -0.1, 0, 0.1, 0.3, 1) if low <= each <= high])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.set_yticks(range(len(shown)), [canvas.wrapped(name, 26) for name in shown["variant"]], fontsize=6.5)
    ax.tick_params("x", labelsize=7)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    right = ax.secondary_yaxis("right")
    right.set_yticks(range(len(shown)), shown["name"], fontsize=5.5, color=AUTHORS, family="monospace")
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    ax.set_xlabel(f"PSNR minus the baseline's [dB], logarithmic beyond ±{LINEAR:g}")
    ax.set_title(f"Difference to the baseline, x{ablation.scale_of(joined.study)}", loc="left")
    used = [verdict for verdict in LOOKS if verdict in set(shown["verdict"])]
    _legend(figure, used, f"{title}, 95 % interval", f"paper, {ablation.paper_title(joined.decisive)}")
    return figure


def _legend(figure: Any, used: list[str], measured: str, paper: str) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=mark, lw=1.6, ms=5, mew=1.6, label=f"{measured}: {meaning}")
        for colour, mark, meaning in (LOOKS[verdict] for verdict in used)
    ]
    handles.append(Line2D([], [], lw=0, marker="D", mfc="none", mec="black", ms=5, label=paper))
    figure.legend(handles=handles, loc="outside lower left", fontsize=6.5, ncols=1 if len(measured) > 30 else 2)
