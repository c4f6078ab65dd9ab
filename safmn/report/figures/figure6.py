"""Figure 6: the same place of HR, bicubic and each network side by side, with PSNR."""

import math
from typing import Any

from numpy.typing import NDArray

from safmn.report import inspected
from safmn.report.figures import canvas
from safmn.report.inspected import Inspected, Inspections

COLUMNS = 5


def crops(inspections: Inspections) -> Any:
    """Draw one block a scene: the whole image with the place marked, then the crops.

    PSNR is on Y, of the whole image (from the evaluation) and, in brackets, of the crop alone.
    """
    import matplotlib.pyplot as plt

    networks, absent = inspections.alike(_place)
    scenes = networks[0].numbers["crops"] if networks else []
    if not scenes:
        return canvas.empty("Figure 6", "No crops yet. " + inspected.note(absent))
    columns = min(COLUMNS, math.ceil((len(networks) + 1) / 2))  # two lines are as high as the whole image beside them
    lines = math.ceil((len(networks) + 1) / columns)
    high = max(2, lines)  # rows of the grid that a scene takes, the overview's two at least
    cell = 1.3
    said = "PSNR on Y in dB: of the whole image (of the crop alone). " + inspected.note(absent)
    width = (columns + 2) * cell
    height = len(scenes) * high * (cell + 0.35) + canvas.foot_height(said, width)
    figure = plt.figure(figsize=(width, height), layout="constrained")
    figure.set_label("Figure 6")
    grid = figure.add_gridspec(len(scenes) * high, columns + 2)
    for number, scene in enumerate(scenes):
        top = number * high
        _overview(figure.add_subplot(grid[top : top + 2, :2]), networks[0], number, scene, inspections.scale)
        shown = [("HR", networks[0].arrays[f"crop{number}_hr"], "")]
        shown += [
            (network.title, network.arrays[f"crop{number}_sr"], decibels(network.numbers["crops"][number]))
            for network in networks
        ]
        start = top + (high - lines) // 2
        for place, (title, image, figures) in enumerate(shown):
            ax = figure.add_subplot(grid[start + place // columns, 2 + place % columns])
            canvas.picture(ax, image)
            ax.set_title(f"{canvas.wrapped(title, 20)}\n{figures}", fontsize=6.5)
    canvas.foot(figure, said)
    return figure


def decibels(crop: dict[str, Any]) -> str:
    """Show PSNR of the image and of the crop."""
    whole, part = ("inf" if crop[key] is None else f"{crop[key]:.2f}" for key in ("psnr", "psnr_crop"))
    return f"{whole} ({part})"


def rows(inspections: Inspections) -> list[list[Any]]:
    """Return the numbers of the figure, a header first."""
    header = ["network", "weights", "scale", "image", "left", "top", "size", "psnr_image", "psnr_crop"]
    networks, _ = inspections.alike(_place)
    lines = []
    for network in networks:
        for crop in network.numbers["crops"]:
            image = f"{crop['dataset']}/{crop['image']}"
            line = [network.subject.network, network.subject.weights, network.subject.scale, image]
            lines.append(line + [crop[key] for key in ("left", "top", "size", "psnr", "psnr_crop")])
    return [header, *lines]


def reduced_by(overview: NDArray[Any], height: int, width: int) -> int:
    """Return the integer factor by which `record.smaller` reduced HR, whose last rows it may have left out."""
    return max(height, width) // int(max(overview.shape[:2]))


def _overview(ax: Any, network: Inspected, number: int, scene: dict[str, Any], scale: int) -> None:
    image = network.arrays[f"crop{number}_overview"]
    factor = reduced_by(image, scene["hr_height"], scene["hr_width"])
    canvas.picture(ax, image)
    canvas.box(ax, *(scene[key] / factor for key in ("left", "top", "size")))
    ax.set_title(f"{scene['dataset']}/{scene['image']}, x{scale}", fontsize=7)


def _place(network: Inspected) -> Any:
    """Return what must be equal for crops to be compared."""
    keys = ("dataset", "image", "left", "top", "size")
    return [[crop.get(key) for key in keys] for crop in network.numbers["crops"]]
