"""Differences to the baseline at a glance: a row a variant, its interval, and the paper's difference as a mark."""

from collections.abc import Mapping, Sequence
from typing import Any

from safmn.paper import verdicts
from safmn.report import ablation
from safmn.report.ablation import BASELINE, METRIC, Comparison
from safmn.report.ablation_table import label, variant_rows
from safmn.report.figures import canvas
from safmn.report.figures.canvas import AUTHORS, COLOURS
from safmn.report.measured import benchmark_title, benchmarks
from safmn.study import Study

LINEAR = 0.1  # dB around 0 that are drawn in proportion; beyond, each decade takes the same width
LOOKS = {  # verdict on the direction -> colour, mark, meaning
    verdicts.REPRODUCED: (COLOURS[0], "o", "same direction as in the paper"),
    verdicts.CONTRADICTED: (COLOURS[1], "X", "opposite direction"),
    verdicts.UNDECIDABLE: ("#70757D", "|", "not decided"),
    "": (COLOURS[4], "s", "not in the paper"),
}


def forest(study: Study, comparisons: Mapping[int, Sequence[Comparison]]) -> Any:
    """Draw each variant's difference on the test set that decides, with its 95 % interval, and the paper's."""
    found = ablation.differences(comparisons)
    benchmark = ablation.decisive(study, found)
    if benchmark is None:
        return canvas.empty("differences", "No difference yet: the baseline or every other variant is not measured.")
    column = f"{benchmark.id}_{METRIC}"
    networks = {network.name: network for _, network, _ in variant_rows(study)}
    names = [name for name in networks if name in found[benchmark.id]]
    figure, (ax,) = canvas.panels(1, "differences", height=1.3 + 0.2 * len(names))
    ax.axvline(0, color="black", lw=1)
    papers, used = BASELINE, set()
    for place, name in enumerate(names):
        difference = found[benchmark.id][name]
        printed, of = ablation.paper_difference(name, column)
        verdict = ablation.direction(difference, printed)
        colour, mark, _ = LOOKS[verdict]
        used.add(verdict)
        if ends := difference.interval.ends:
            ax.plot(ends, (place, place), color=colour, lw=1.6, solid_capstyle="butt")
        ax.plot(difference.value, place, mark, color=colour, ms=5, mew=1.6)
        if printed is not None:
            papers = of
            ax.plot(float(printed), place, "D", ms=5, mfc="none", mec="black", mew=0.9, zorder=4)
    ax.set_xscale("symlog", linthresh=LINEAR, linscale=1)
    ax.set_xticks([each for each in (-10, -3, -1, -0.3, -0.1, 0, 0.1, 0.3, 1) if _within(ax, each)])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.set_yticks(range(len(names)), [canvas.wrapped(label(networks[name]), 26) for name in names], fontsize=6.5)
    ax.tick_params("x", labelsize=7)
    ax.set_ylim(len(names) - 0.4, -0.6)
    right = ax.secondary_yaxis("right")
    right.set_yticks(range(len(names)), names, fontsize=5.5, color=AUTHORS, family="monospace")
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    title, paper = benchmark_title(benchmark.id, study), benchmark_title(papers.rpartition("_")[0], study)
    ax.set_xlabel(f"PSNR minus the baseline's [dB], logarithmic beyond ±{LINEAR:g}")
    ax.set_title(f"Difference to the baseline, x{ablation.scale_of(study)}", loc="left")
    _legend(figure, [verdict for verdict in LOOKS if verdict in used], f"{title}, 95 % interval", f"paper, {paper}")
    return figure


def _legend(figure: Any, used: list[str], measured: str, paper: str) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=mark, lw=1.6, ms=5, mew=1.6, label=f"{measured}: {meaning}")
        for colour, mark, meaning in (LOOKS[verdict] for verdict in used)
    ]
    handles.append(Line2D([], [], lw=0, marker="D", mfc="none", mec="black", ms=5, label=paper))
    figure.legend(handles=handles, loc="outside lower left", fontsize=6.5, ncols=1 if len(measured) > 30 else 2)


def _within(ax: Any, value: float) -> bool:
    low, high = ax.get_xlim()
    return bool(low <= value <= high)


def rows(study: Study, comparisons: Mapping[int, Sequence[Comparison]]) -> list[list[Any]]:
    """Return the numbers on every test set, a header first."""
    header = [
        "variant",
        "name",
        "test set",
        "difference [dB]",
        "low",
        "high",
        "paper [dB]",
        "paper's test set",
        "verdict",
    ]
    networks = {network.name: network for _, network, _ in variant_rows(study)}
    found, lines = ablation.differences(comparisons), []
    for benchmark in benchmarks(study):
        for name in networks:
            difference = found.get(benchmark.id, {}).get(name)
            if difference is None:
                continue
            printed, of = ablation.paper_difference(name, f"{benchmark.id}_{METRIC}")
            ends = difference.interval.ends or ("", "")
            paper = ("", "") if printed is None else (printed, benchmark_title(of.rpartition("_")[0], study))
            title = benchmark_title(benchmark.id, study)
            line = [label(networks[name]), name, title, difference.value, *ends, *paper]
            lines.append([*line, ablation.direction(difference, printed)])
    return [header, *lines]
