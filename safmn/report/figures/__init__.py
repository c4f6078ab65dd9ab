"""Figures of a study, one module each: 1 (trade-off), 2 (attribution), 5 (features), 6 (crops), 7 (losses), and more.

The others are the curves of all runs and the sweeps. Each figure is written as SVG and PNG, readable in print and by
colour-blind readers. Where the input is missing, the figure says so and why. `figure2.csv`, `figure6.csv` and
`sweep_*.csv` hold the numbers in the figures.
"""

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from safmn import layout
from safmn.files import write_text
from safmn.paper.cell import Cell
from safmn.report import inspected
from safmn.report.figures import canvas, figure1, figure2, figure5, figure6, figure7, sweep
from safmn.report.measured import Results
from safmn.study import Study

CAPTIONS = {
    "figure1": "PSNR against FLOPs; the area of a circle is the number of parameters (Figure 1)",
    "figure2": "Local attribution maps: which LR pixels make the texture in the marked window, and the diffusion index "
    "DI of each network; a larger one means that a wider range of pixels is used (Figure 2)",
    "figure5": "Features inside the SAFM: (a) LR, (b)-(e) the four scales of multi-scale feature generation, (f) their "
    "aggregation, (g) the modulated output (Figure 5)",
    "figure6": "The same place of HR, bicubic and each network, with PSNR on Y of the whole image and of the crop "
    "(Figure 6)",
    "figure7": "L1 loss with and without normalisation (Figure 7)",
}


def draw_all(study: Study, folder: Path | str, cells: Sequence[Cell]) -> list[Path]:
    """Draw every figure of the study, and write the CSV files of their numbers; return the SVG files.

    Args:
        study: The study.
        folder: The folder `results/<study>`.
        cells: The study's cells.
    """
    folder, source = Path(folder), Results(folder)
    inspections = inspected.collect(study, source)
    drawings: dict[str, Callable[[], Any]] = {
        "figure1": lambda: figure1.trade_off(study, cells),
        "figure2": lambda: figure2.attributions(inspections),
        "figure5": lambda: figure5.features(inspections),
        "figure6": lambda: figure6.crops(inspections),
        "figure7": lambda: figure7.normalisation(study, source),
    }
    for scale in study.scales if study.training is not None else ():
        drawings[f"curves_x{scale}"] = partial(figure7.curves, study, source, scale)
    swept = {name: sweep.collect(study, source, cells, name) for name in (study.sweeps if study.training else ())}
    for name, points in swept.items():
        drawings[f"sweep_{name}"] = partial(sweep.draw, study, points, name)
    written = []
    for name, draw in drawings.items():
        with canvas.style():
            written.append(canvas.save(draw(), folder / layout.figure(name, "svg")))
    numbers_of = {"figure2": figure2.rows(inspections), "figure6": figure6.rows(inspections)}
    numbers_of |= {f"sweep_{name}": sweep.rows(study, points) for name, points in swept.items()}
    for name, rows in numbers_of.items():
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
