"""Figure 5: features inside one SAFM, panels (a) to (g)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from safmn.report import inspected
from safmn.report.figures import canvas
from safmn.report.inspected import Inspected, Inspections

PREFERRED = "safmn"
SHADES = "viridis"
PANELS = {
    "b": "X\u0302\u2080, full resolution",
    "c": "X\u0302\u2081, pooled to 1/2",
    "d": "X\u0302\u2082, pooled to 1/4",
    "e": "X\u0302\u2083, pooled to 1/8",
    "f": "aggregation X\u0302",
    "g": "output of the SAFM",
}


def draw(inspections: Inspections) -> Any:
    """Draw the baseline's features, or those of the first network with a SAFM if the baseline is missing."""
    chosen = _chosen(inspections)
    if chosen is None:
        reason = inspected.note(inspections.absent) or "None of the networks has a SAFM."
        return canvas.empty("Figure 5", f"No features of a SAFM yet. {reason}")
    numbers = chosen.numbers["features"]
    lr = chosen.arrays["features_lr"]
    tall = min(1.6, max(0.5, lr.shape[0] / lr.shape[1]))
    figure, places = canvas.pictures(4, 2, "Figure 5", (2.5, 2.5 * tall + 0.35))
    canvas.picture(places[0], lr)
    places[0].set_title(f"(a) LR x{inspections.scale}: {numbers['image']}", fontsize=7)
    for ax, (panel, title) in zip(places[1:], PANELS.items(), strict=False):
        image = chosen.arrays.get(f"features_{panel}")
        ax.set_title(f"({panel}) {title}", fontsize=7)
        if image is None:
            ax.text(0.5, 0.5, "not in this variant", ha="center", va="center", transform=ax.transAxes, fontsize=7)
            continue
        low, high = limits(image)
        canvas.picture(ax, image, cmap=SHADES, vmin=low, vmax=high)
        ax.text(0.0, -0.03, f"{low:.2g} to {high:.2g}", transform=ax.transAxes, fontsize=6, va="top")
    said = (
        f"{chosen.title}, SAFM {numbers['block']} of {numbers['blocks']} ({numbers['module']}). Each map is the mean "
        "over channels, dark where it is smallest and light where it is largest; its range is below it, the lowest and "
        "the highest twentieth of the values left out."
    )
    places[7].text(0, 1, canvas.wrapped(said, 46), transform=places[7].transAxes, fontsize=6.5, va="top")
    return figure


def limits(image: NDArray[Any]) -> tuple[float, float]:
    """Return the range that is shaded: without the lowest and the highest twentieth, which would flatten the rest."""
    low, high = (float(value) for value in np.percentile(image, (5, 95)))
    return (low, high) if high > low else (low, low + 1e-6)


def _chosen(inspections: Inspections) -> Inspected | None:
    able = [network for network in inspections.available if network.numbers["features"] is not None]
    return next((network for network in able if network.subject.network == PREFERRED), able[0] if able else None)
