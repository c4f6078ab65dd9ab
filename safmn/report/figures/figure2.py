"""Figure 2: local attribution maps and diffusion indices, one network a picture."""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from safmn.inspection.record import DECADES
from safmn.report import inspected
from safmn.report.figures import canvas
from safmn.report.inspected import Inspected, Inspections

ACROSS = 3  # pictures in a row
CELL = (1.66, 2.0)  # inches
SHADES = "magma_r"  # from white to black in one direction, in colour and in grey
COLUMNS = [
    *("Network", "Weights", "Scale", "Image", "Diffusion index", "Texture of SR", "Texture at the path's start"),
    "Sum of the map minus their difference",
]


def draw(inspections: Inspections) -> Any:
    """Draw the LR image with the window, and each network's map on a logarithmic scale, relative to its maximum."""
    import matplotlib
    from matplotlib.colors import LogNorm

    networks, absent = inspections.alike(_place)
    if not networks:
        return canvas.empty("Figure 2", "No attribution map yet. " + inspected.note(absent))
    columns = min(ACROSS, len(networks) + 1)
    rows = math.ceil((len(networks) + 1) / columns)
    said = inspected.note(absent)
    below = 0.6 + canvas.foot_height(said, columns * CELL[0])
    figure, places = canvas.pictures(rows, columns, "Figure 2", CELL, below)
    lr, window, where = _scene(networks[0], inspections.scale)
    canvas.picture(places[0], lr)
    canvas.box(places[0], *window)
    places[0].set_title(f"LR x{inspections.scale}: {where}\nwindow marked", fontsize=7)
    shades = matplotlib.colormaps[SHADES].with_extremes(under="white", bad="white")
    bar = None
    for ax, network in zip(places[1:], networks, strict=False):
        bar = canvas.picture(ax, relative(network), cmap=shades, norm=LogNorm(10.0**-DECADES, 1))
        _frame(ax)
        canvas.box(ax, *window, lw=0.7, rim=0)
        index = network.numbers["attribution"]["diffusion_index"]
        shown = "not defined" if index is None else f"{index:.2f}"
        ax.set_title(f"{canvas.wrapped(network.title, 24)}\nDI {shown}", fontsize=7)
    label = f"contribution of an LR pixel, relative to the largest (white: below {10.0**-DECADES:g})"
    side: dict[str, Any] = {"location": "bottom", "aspect": 40, "shrink": 0.7, "pad": 0.02}
    figure.colorbar(bar, ax=places, **side, format="{x:g}").set_label(label, fontsize=7)
    canvas.foot(figure, said)
    return figure


def relative(network: Inspected) -> NDArray[np.float64]:
    """Return the absolute map divided by its maximum, in [0, 1]."""
    size: NDArray[np.float64] = np.abs(network.arrays["attribution"].astype(np.float64))
    return size / (size.max() or 1.0)


def numbers(inspections: Inspections) -> pd.DataFrame:
    """Return the numbers of the figure, a row a network."""
    networks, _ = inspections.alike(_place)
    rows = []
    for network in networks:
        own = network.numbers["attribution"]
        image = f"{own['dataset']}/{own['image']}"
        figures = [own[key] for key in ("diffusion_index", "detector", "baseline", "gap")]
        rows.append([network.subject.network, network.subject.weights, network.subject.scale, image, *figures])
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def _place(network: Inspected) -> Any:
    """Return what must be equal for two maps to be compared."""
    numbers = network.numbers["attribution"]
    settings = network.numbers.get("settings")
    return settings, *(numbers.get(key) for key in ("dataset", "image", "window", "patch_at"))


def _scene(network: Inspected, scale: int) -> tuple[NDArray[Any], tuple[float, float, float], str]:
    """Return the LR image, the window (left, top, size) in its pixels, and the image's name."""
    numbers = network.numbers["attribution"]
    left, top, size = (numbers["window"][key] / scale for key in ("left", "top", "size"))
    return network.arrays["attribution_lr"], (left, top, size), str(numbers["image"])


def _frame(ax: Any) -> None:
    """Draw a thin line around a map whose own border is white."""
    ax.set_axis_on()
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(visible=True, linewidth=0.5, color=canvas.AUTHORS)
