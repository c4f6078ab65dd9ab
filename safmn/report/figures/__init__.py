"""Figures of a study, one module each: the paper's 1, 2, 5, 6 and 7, differences, order, curves, sweeps.

Each is written as SVG and PNG, readable on a phone, in print and by colour-blind readers. Where the input is missing,
the figure says so and why. Beside some, a CSV of the same name holds their numbers.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from safmn import layout
from safmn.files import write_text
from safmn.paper.cell import Cell
from safmn.report import ablation, inspected
from safmn.report.ablation import Comparison
from safmn.report.figures import canvas, curves, differences, figure1, figure2, figure5, figure6, figure7, order, sweep
from safmn.report.measured import Results
from safmn.study import Study

CAPTIONS = {
    "figure1": "PSNR against FLOPs; the area of a circle is the number of parameters, and no network is better in both "
    "than those on a Pareto front (Figure 1)",
    "differences": "Difference of each variant's PSNR to the baseline's, with its 95 % interval, and the paper's "
    "difference",
    "order": "Is the order of the rows stable over the iterations? Kendall's tau: 1 is the same order, 0 is none",
    "figure2": "Local attribution maps: which LR pixels make the texture in the marked window, and the diffusion index "
    "DI of each network; a larger one means that a wider range of pixels is used (Figure 2)",
    "figure5": "Features inside the SAFM: (a) LR, (b)-(e) the four scales of multi-scale feature generation, (f) their "
    "aggregation, (g) the modulated output (Figure 5)",
    "figure6": "The same place of HR, bicubic and each network, with PSNR on Y of the whole image and of the crop "
    "(Figure 6)",
    "figure7": "L1 loss with and without normalisation (Figure 7)",
}


def draw_all(
    study: Study,
    folder: Path | str,
    cells: Sequence[Cell],
    comparisons: Mapping[int, Sequence[Comparison]] | None = None,
) -> list[Path]:
    """Draw every figure of the study, and write the CSV files of their numbers; return the SVG files.

    Args:
        study: The study.
        folder: The folder `results/<study>`.
        cells: The study's cells.
        comparisons: Of its variants with the baseline, from `ablation.compare_all`, which is called without them.
    """
    folder, source = Path(folder), Results(folder)
    compared = ablation.compare_all(study, source) if comparisons is None else comparisons
    inspections = inspected.collect(study, source)
    drawings: dict[str, Callable[[], Any]] = {
        "figure1": lambda: figure1.trade_off(study, cells),
        "figure2": lambda: figure2.attributions(inspections),
        "figure5": lambda: figure5.features(inspections),
        "figure6": lambda: figure6.crops(inspections),
        "figure7": lambda: figure7.normalisation(study, source),
    }
    numbers = {"figure2": figure2.rows(inspections), "figure6": figure6.rows(inspections)}
    if study.training is not None:
        drawings["differences"] = lambda: differences.forest(study, compared)
        drawings["order"] = lambda: order.stability(study, source, compared)
        numbers |= {"differences": differences.rows(study, compared), "order": order.rows(study, source, compared)}
        for scale in study.scales:
            drawings[f"curves_x{scale}"] = partial(curves.curves, study, source, scale)
    swept = {name: sweep.collect(study, source, cells, name) for name in (study.sweeps if study.training else ())}
    for name, points in swept.items():
        drawings[f"sweep_{name}"] = partial(sweep.draw, study, points, name)
    numbers |= {f"sweep_{name}": sweep.rows(study, points) for name, points in swept.items()}
    written = []
    for name, draw in drawings.items():
        with canvas.style():
            written.append(canvas.save(draw(), folder / layout.figure(name, "svg")))
    for name, rows in numbers.items():
        write_text(folder / layout.figure(name, "csv"), _csv(rows))
    return written


def caption(name: str) -> str:
    """Return what a figure shows, by its file's name."""
    if name.startswith("curves_x"):
        return f"Training at {name.removeprefix('curves_')}: L1 loss and validation PSNR, the authors' logs beside it"
    if name.startswith("sweep_"):
        return (
            f"The sweep {name.removeprefix('sweep_')}: PSNR over parameters, FLOPs and time, and the Pareto fronts. A "
            "point's values are beside it, * marks weights from before a collapse"
        )
    return CAPTIONS.get(name, name.replace("_", " "))


def numbers(figure: Path) -> list[list[str]]:
    """Read the CSV beside a figure's file, a header first; empty where there is none."""
    try:
        with open(figure.with_suffix(".csv"), encoding="utf-8", newline="") as handle:
            return list(csv.reader(handle))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
