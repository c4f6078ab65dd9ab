"""Figures of a study: Figure 1 (PSNR against FLOPs), Figure 7 (loss with and without normalisation), training curves.

Each is written as SVG and PNG. Colours are Okabe and Ito's, told apart by colour-blind readers; what is published and
what is measured differs in shape and filling too. Where the input is not there yet, the figure says so.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from safmn import paths
from safmn.files import atomic
from safmn.report import ablation, cells
from safmn.report.measured import Absent, Results, benchmarks, read_curve
from safmn.study import Run, Study

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#000000")
PUBLISHED, MEASURED = COLOURS[0], COLOURS[1]
AUTHORS = "#555555"
LINES = ("-", "--", ":", "-.")

NORMALISATION = (  # Figure 7: panel -> variants
    ("(a) with and without normalisation", ("safmn", "ln_none", "ln_none_low_lr")),
    ("(b) kinds of normalisation", ("safmn", "ln_bn", "ln_fbn", "ln_l2")),
)

CAPTIONS = {
    "figure1": "PSNR against FLOPs; the area of a circle is the number of parameters (Figure 1)",
    "figure7": "L1 loss with and without normalisation (Figure 7)",
}


def draw_all(study: Study, results: Path | str, frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws every figure of the study into `folder`; returns the SVG files.

    Args:
        results: the folder `results/<study>`.
        frame: `cells.csv`.
    """
    source = Results(results)
    drawings: dict[str, Callable[[], Any]] = {
        "figure1": lambda: trade_off(study, frame),
        "figure7": lambda: normalisation(study, source),
    }
    for scale in study.scales if study.training is not None else ():
        drawings[f"curves_x{scale}"] = lambda scale=scale: curves(study, source, scale)
    written = []
    for name, draw in drawings.items():
        with _style():
            written.append(_save(draw(), folder / name))
    return written


def caption(name: str) -> str:
    """What a figure shows, by its file's name."""
    if name.startswith("curves_x"):
        return f"Training at {name.removeprefix('curves_')}: L1 loss and validation PSNR, the authors' logs beside it"
    return CAPTIONS.get(name, name.replace("_", " "))


# --- Figure 1 --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """A network in Figure 1: FLOPs in G, PSNR in dB, parameters in K."""

    name: str
    flops: float
    psnr: float
    params: float


def points(frame: pd.DataFrame, tables: tuple[int, ...], scale: int, column: str, which: str) -> list[Point]:
    """The networks whose FLOPs, parameters and PSNR are all there, each once.

    Args:
        column: `<dataset>_psnr`.
        which: "published" or "measured". A network whose counts were not made stands at the printed ones.
    """
    found: dict[str, Point] = {}
    chosen = frame[frame.table.isin(tables) & (frame.scale == scale)]
    for (_, row), own in chosen.groupby(["table", "row"], sort=False):
        values = {line.column: line for line in own.itertuples(index=False)}
        figures = [_number(values.get(name), which) for name in ("flops", column, "params")]
        if which == "measured":
            figures[::2] = [
                _number(values.get(name), "published") if math.isnan(value) else value
                for name, value in zip(("flops", "params"), figures[::2], strict=True)
            ]
        if all(math.isfinite(value) for value in figures) and figures[0] > 0:
            found.setdefault(row, Point(row, *figures))
    return list(found.values())


def trade_off(study: Study, frame: pd.DataFrame) -> Any:
    """The paper's Figure 1 (Set5, x2), and beside it the study's first test set where that is another."""
    own = benchmarks(study)
    scale = 2 if 2 in study.scales else study.scales[0]
    panels = [("set5", 2, (1,))]
    if own and (own[0].id, scale) != ("set5", 2):
        if "set5" in [each.id for each in own]:
            panels.append(("set5", scale, (1, 3, 4)))
        else:
            panels.append((own[0].id, scale, (1, 3, 4)))
    figure, axes = _canvas(len(panels), "Figure 1")
    for ax, (identity, at, tables) in zip(axes, panels, strict=True):
        _trade_off_panel(ax, study, frame, identity, at, tables)
    return figure


def _trade_off_panel(ax: Any, study: Study, frame: pd.DataFrame, identity: str, scale: int, tables: tuple) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    column = f"{identity}_psnr"
    name = cells.benchmark_title(identity, study)
    ax.set_title(f"{name}, x{scale}")
    published = points(frame, (1,), scale, column, "published")
    measured = points(frame, tables, scale, column, "measured")
    if not published and not measured:
        _say(ax, f"No PSNR on {name} at x{scale} yet:\nneither printed nor measured")
        return
    for some, look in (
        (published, {"facecolors": "none", "edgecolors": PUBLISHED, "linewidths": 1.4, "label": "published"}),
        (measured, {"facecolors": MEASURED, "edgecolors": "black", "alpha": 0.65, "marker": "o", "label": "measured"}),
    ):
        if some:
            ax.scatter([p.flops for p in some], [p.psnr for p in some], s=[_area(p.params) for p in some], **look)
    if measured:  # the centre, so that a filled circle upon an empty one can be read
        ax.scatter([p.flops for p in measured], [p.psnr for p in measured], s=9, marker="x", color="black", lw=0.8)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(0.08)
    ax.set_xlabel("FLOPs [G], output 1280x720")
    ax.set_ylabel("PSNR on Y [dB]")
    ax.legend(loc="lower right", markerscale=0.5)
    _label(ax, published, measured)
    if not measured:
        ax.text(0.02, 0.97, "not measured in this study", transform=ax.transAxes, va="top", fontsize=7)


def _label(ax: Any, published: list[Point], measured: list[Point]) -> None:
    """Writes names beside the circles, each at the first place near its own that is still free."""
    titles = _titles()
    baseline = next((point for point in measured if point.name == "safmn"), None)
    shown = {}
    for point in [*published, *measured]:
        # The ablation's variants crowd around the baseline; those of another size are told apart.
        crowded = point.name not in titles and baseline and abs(point.flops / baseline.flops - 1) < 0.1
        if not crowded or point is baseline:
            shown[point.name] = point
    ax.figure.draw_without_rendering()  # settles the layout, on which places depend
    per_point = ax.figure.dpi / 72
    places = {name: ax.transData.transform((p.flops, p.psnr)) / per_point for name, p in shown.items()}
    taken = [(x, y, math.sqrt(_area(shown[name].params) / math.pi) * 0.7) for name, (x, y) in places.items()]
    boxes: list[tuple[float, float, float, float]] = []
    for name, (x, y) in sorted(places.items(), key=lambda item: tuple(item[1])):
        text = titles.get(name, name)
        width, height = 3.9 * len(text), 7.0
        radius = math.sqrt(_area(shown[name].params) / math.pi)
        left, bottom = _free_place(x, y, radius, width, height, boxes, taken)
        boxes.append((left, bottom, width, height))
        far = math.hypot(left + width / 2 - x, bottom + height / 2 - y) > radius + width / 2 + 8
        ax.annotate(
            text,
            (shown[name].flops, shown[name].psnr),
            xytext=(left - x, bottom - y),
            textcoords="offset points",
            fontsize=6,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": AUTHORS} if far else None,
        )


def _free_place(
    x: float, y: float, radius: float, width: float, height: float, boxes: list[tuple], circles: list[tuple]
) -> tuple[float, float]:
    """Left and bottom of a text (in points) near a circle that overlaps neither texts nor the inside of circles."""
    best, least = (x, y), math.inf
    for away in range(0, 60, 6):
        for angle in range(0, 360, 30):
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            left = x + (radius + 2 + away) * cos - width * (1 - cos) / 2
            bottom = y + (radius + 2 + away) * sin - height * (1 - sin) / 2
            overlap = sum(
                max(0, min(left + width, a + w) - max(left, a)) * max(0, min(bottom + height, b + h) - max(bottom, b))
                for a, b, w, h in boxes
            )
            overlap += sum(
                max(0, min(left + width, a + r) - max(left, a - r))
                * max(0, min(bottom + height, b + r) - max(bottom, b - r))
                for a, b, r in circles
            )
            if overlap < least:
                best, least = (left, bottom), overlap
            if not overlap:
                return best
    return best


def _area(params: float) -> float:
    """A circle's area in square points, from parameters in K; the smallest can still be seen."""
    return 0.3 * params + 12


def _number(cell: Any, which: str) -> float:
    if cell is None:
        return math.nan
    if which == "measured":
        return cell.measured
    return float(cell.published) if cell.published else math.nan


def _titles() -> dict[str, str]:
    from safmn.networks import all_networks

    return {name: network.rows[1] for name, network in all_networks().items() if 1 in network.rows}


# --- Training curves -------------------------------------------------------------------------------------------------


def normalisation(study: Study, results: Results) -> Any:
    """Figure 7: L1 loss over iterations, smoothed, x4; the authors' own log up to the same iteration."""
    scale = ablation.scale_of(study)
    figure, axes = _canvas(2, "Figure 7")
    for ax, (title, names) in zip(axes, NORMALISATION, strict=True):
        runs = [run for name in names if name in study.variants for run in study.runs(name) if run.scale == scale]
        ax.set_title(f"{title}, x{scale}")
        _loss_panel(ax, results, runs, scale, ", ".join(names))
    return figure


def curves(study: Study, results: Results, scale: int) -> Any:
    """Loss and validation PSNR of every run at a scale."""
    runs = [run for run in study.runs() if run.scale == scale]
    figure, axes = _canvas(2, "curves", wide=True)
    axes[0].set_title(f"L1 loss, smoothed, x{scale}")
    _loss_panel(axes[0], results, runs, scale, "the study's variants", legend=False)
    ax = axes[1]
    ax.set_title(f"Validation PSNR on RGB, x{scale}")
    end = 0.0
    for number, run in enumerate(runs):
        xs, ys = _column(results.history(run), "validation_psnr_rgb")
        if xs:
            end = max(end, xs[-1])
            ax.plot(xs, ys, marker=".", ms=3, label=_run_label(run, runs), **_look(number, run))
    if not end:
        _say(ax, "No run has been validated yet")
        return figure
    xs, ys = _column(read_curve(paths.PUBLISHED / f"validation_log_x{scale}.csv"), "div2k_val_psnr_rgb", end)
    if xs:
        label = "authors' log, DIV2K_val (other images)"
        ax.plot(xs, ys, label=label, **_authors(xs))
    else:
        ax.text(0.02, 0.02, "authors' first validation is later", transform=ax.transAxes, fontsize=7)
    ax.set_xlabel("iteration")
    ax.set_ylabel("PSNR on RGB [dB]")
    ax.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.01, 1.0), ncols=1 + (len(runs) > 26))
    return figure


def _loss_panel(ax: Any, results: Results, runs: list[Run], scale: int, what: str, legend: bool = True) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    end = 0.0
    for number, run in enumerate(runs):
        xs, ys = _column(results.history(run), "l1_loss")
        if not xs:
            continue
        end = max(end, xs[-1])
        look = _look(number, run)
        ax.plot(xs, _smooth(ys), label=_run_label(run, runs), **look)
        record = results.record(run)
        if not isinstance(record, Absent) and record.get("outcome") == "collapsed":
            ax.plot(xs[-1], _smooth(ys)[-1], marker="X", ms=7, color=look["color"])
            at = (record.get("collapse") or {}).get("iteration", "?")
            ax.annotate(f"collapsed at {at}", (xs[-1], _smooth(ys)[-1]), fontsize=6)
    if not end:
        _say(ax, f"No history yet of {what}:\ntrain them first")
        return
    xs, ys = _column(read_curve(paths.PUBLISHED / f"training_log_x{scale}.csv"), "l1_loss", end)
    if xs:
        ax.plot(xs, _smooth(ys), label="authors' log (DF2K, batch 64)", **_authors(xs))
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("iteration")
    ax.set_ylabel("L1 loss")
    if legend:
        ax.legend(fontsize=6)


def _column(rows: list[dict[str, float]], name: str, end: float = math.inf) -> tuple[list[float], list[float]]:
    """Iterations and finite values of a column, up to iteration `end`."""
    pairs = [
        (row["iteration"], row[name])
        for row in rows
        if "iteration" in row and math.isfinite(row.get(name, math.nan)) and row["iteration"] <= end
    ]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _smooth(values: list[float]) -> list[float]:
    """Running mean over a fiftieth of the curve, at least 1 and at most 50 points, as Figure 7 is smoothed."""
    window = min(50, max(1, len(values) // 50))
    return pd.Series(values).rolling(window, min_periods=1).mean().tolist()


def _look(number: int, run: Run) -> dict[str, Any]:
    if run.variant == "safmn":
        return {"color": "black", "linestyle": LINES[run.seed % len(LINES)], "lw": 1.8, "zorder": 5}
    palette = COLOURS[:-1]
    return {"color": palette[number % len(palette)], "linestyle": LINES[number // len(palette) % len(LINES)], "lw": 1.0}


def _authors(xs: list[float]) -> dict[str, Any]:
    """Their line, or points where there are too few for one."""
    return {"color": AUTHORS, "lw": 2.2, "alpha": 0.6, "marker": "D" if len(xs) < 4 else "", "zorder": 4}


def _run_label(run: Run, runs: list[Run]) -> str:
    several = sum(each.variant == run.variant for each in runs) > 1
    return f"{run.variant}, seed {run.seed}" if several else run.variant


# --- Canvas ----------------------------------------------------------------------------------------------------------


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = {
        "font.size": 8,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "safmn",  # the same figure is the same file
        "svg.fonttype": "none",  # text stays text, for searching and for screen readers
        "text.parse_math": False,  # a $ in a name is a $
    }
    with plt.rc_context(settings):
        yield
    plt.close("all")


def _canvas(panels: int, title: str, wide: bool = False) -> tuple[Any, list[Any]]:
    import matplotlib.pyplot as plt

    width = (4.6 + 1.4 * wide) * panels
    figure, axes = plt.subplots(1, panels, figsize=(width, 3.6), layout="constrained", squeeze=False)
    figure.set_label(title)
    return figure, list(axes[0])


def _say(ax: Any, text: str) -> None:
    """A panel without data says so."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=9)


def _save(figure: Any, stem: Path) -> Path:
    for suffix, options in ((".png", {"dpi": 150}), (".svg", {"metadata": {"Date": None}})):
        with atomic(stem.with_name(stem.name + suffix)) as temporary:
            figure.savefig(temporary, format=suffix[1:], **options)
    return stem.with_name(stem.name + ".svg")
