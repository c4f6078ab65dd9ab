"""Figures of a study, one module each: the paper's 1, 2, 5, 6 and 7, differences, order, curves, sweeps.

Each has a function `draw`, and some `numbers`, which become a CSV of the same name. A figure is written as SVG and PNG,
readable on a phone, in print and by colour-blind readers. Where the input is missing, it says so and why.
"""

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from safmn import layout
from safmn.files import write_csv
from safmn.report import inspected
from safmn.report.figures import canvas, curves, differences, figure1, figure2, figure5, figure6, figure7, order, sweep
from safmn.report.joined import Joined

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


def draw_all(joined: Joined) -> list[Path]:
    """Draw every figure of a study into its folder, and write the CSV files of their numbers; return the SVG files."""
    study, folder, source = joined.study, joined.folder, joined.results
    inspections = inspected.collect(study, source)
    drawings: dict[str, Callable[[], Any]] = {
        "figure1": partial(figure1.draw, joined),
        "figure2": partial(figure2.draw, inspections),
        "figure5": partial(figure5.draw, inspections),
        "figure6": partial(figure6.draw, inspections),
        "figure7": partial(figure7.draw, study, source),
    }
    numbers = {"figure2": figure2.numbers(inspections), "figure6": figure6.numbers(inspections)}
    if study.training is not None:
        drawings |= {"differences": partial(differences.draw, joined), "order": partial(order.draw, joined)}
        numbers |= {"differences": differences.numbers(joined), "order": order.numbers(joined)}
        drawings |= {f"curves_x{scale}": partial(curves.draw, study, source, scale) for scale in study.scales}
        swept = {name: sweep.collect(joined, name) for name in study.sweeps}
        drawings |= {f"sweep_{name}": partial(sweep.draw, study, points, name) for name, points in swept.items()}
        numbers |= {f"sweep_{name}": sweep.numbers(study, points) for name, points in swept.items()}
    written = []
    for name, draw in drawings.items():
        with canvas.style():
            written.append(canvas.save(draw(), folder / layout.figure(name, "svg")))
    for name, frame in numbers.items():
        write_csv(folder / layout.figure(name, "csv"), frame, frame.to_dict("records"))
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
