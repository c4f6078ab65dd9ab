"""Figure 6: the same place of HR, bicubic and each network side by side, with PSNR."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from safmn.report import inspected
from safmn.report.figures import canvas
from safmn.report.inspected import Inspected, Inspections

WIDTH = canvas.WIDTH
SIDE = 1.1  # inches of a crop, about
TITLE = 0.32  # inches above a picture
GAP = 0.06
COLUMNS = [
    *("Network", "Weights", "Scale", "Image", "Left [px]", "Top [px]", "Side [px]"),
    *("PSNR of the image [dB]", "PSNR of the crop [dB]"),
]


def draw(inspections: Inspections) -> Any:
    """Draw one block a scene: the whole image with the place marked, the crops right of it and below.

    PSNR is on Y, of the whole image (from the evaluation) and, in brackets, of the crop alone.
    """
    import matplotlib.pyplot as plt

    networks, absent = inspections.alike(_place)
    scenes = networks[0].numbers["crops"] if networks else []
    if not scenes:
        return canvas.empty("Figure 6", "No crops yet. " + inspected.note(absent))
    said = "PSNR on Y in dB: of the whole image (of the crop alone). " + inspected.note(absent)
    blocks = [Block.fitting(scene["hr_width"] / scene["hr_height"], len(networks) + 1) for scene in scenes]
    below = canvas.foot_height(said, WIDTH)
    height = sum(block.height for block in blocks) + below
    figure = plt.figure(figsize=(WIDTH, height))
    figure.set_label("Figure 6")
    top = height
    for number, (scene, block) in enumerate(zip(scenes, blocks, strict=True)):
        shown = [("HR", networks[0].arrays[f"crop{number}_hr"], "")]
        shown += [
            (network.title, network.arrays[f"crop{number}_sr"], decibels(network.numbers["crops"][number]))
            for network in networks
        ]
        _overview(_axes(figure, block.places[0], top), networks[0], number, scene, inspections.scale)
        for place, (title, image, figures) in zip(block.places[1:], shown, strict=True):
            ax = _axes(figure, place, top)
            canvas.picture(ax, image)
            ax.set_title(f"{canvas.wrapped(title, 20)}\n{figures}".strip(), fontsize=6.5, pad=2)
        top -= block.height
    figure.text(0.01, 0.04 / height, canvas.wrapped(said, int(WIDTH * 19)), fontsize=6.5, va="bottom")
    return figure


Box = tuple[float, float, float, float]
"""Left, distance from the top, width and height in inches."""


@dataclass(frozen=True)
class Block:
    """How one scene is laid out, so that little stays empty: two lines of crops beside the image, others below.

    Attributes:
        places: Where the image is, and each crop.
        height: Inches that the scene takes.
        badness: How much stays empty, and how far the crops are from their usual size.
    """

    places: list[Box]
    height: float
    badness: float

    @classmethod
    def of(cls, aspect: float, count: int, beside: int, below: int) -> "Block":
        """Lay out an image of width / height `aspect` and `count` crops.

        Args:
            aspect: Width / height of the image.
            count: Number of crops.
            beside: Crops in each of the two lines beside the image, which is as high as two of them and one title.
            below: Crops in each line below it.
        """
        side = (WIDTH - GAP * (beside + 2) - TITLE * aspect) / (2 * aspect + beside)
        lower = (WIDTH - GAP * (below + 1)) / below
        tall, rest = 2 * side + TITLE, max(0, count - 2 * beside)
        left, under = 2 * GAP + tall * aspect, 2 * (side + TITLE)
        places = [(GAP, TITLE, tall * aspect, tall)]
        for place in range(min(count, 2 * beside)):
            line, column = divmod(place, beside)
            places.append((left + column * (side + GAP), TITLE + line * (side + TITLE), side, side))
        for place in range(rest):
            line, column = divmod(place, below)
            places.append((GAP + column * (lower + GAP), under + TITLE + line * (lower + TITLE), lower, lower))
        empty = max(0, 2 * beside - count) + -rest % below
        badness = empty + 4 * abs(math.log(side / SIDE)) + 2 * abs(math.log(lower / SIDE))
        return cls(places, under + math.ceil(rest / below) * (lower + TITLE) + GAP, badness)

    @classmethod
    def fitting(cls, aspect: float, count: int) -> "Block":
        """Return the layout that leaves least empty with crops of about the usual size."""
        choices = (cls.of(aspect, count, beside, below) for beside in range(1, 5) for below in range(2, 6))
        return min(choices, key=lambda block: block.badness)


def _axes(figure: Any, place: Box, top: float) -> Any:
    """Add axes at a place that is counted from `top`, inches above the figure's lower edge."""
    left, down, width, height = place
    whole = figure.get_figheight()
    return figure.add_axes((left / WIDTH, (top - down - height) / whole, width / WIDTH, height / whole))


def decibels(crop: dict[str, Any]) -> str:
    """Show PSNR of the image and of the crop."""
    whole, part = ("inf" if crop[key] is None else f"{crop[key]:.2f}" for key in ("psnr", "psnr_crop"))
    return f"{whole} ({part})"


def numbers(inspections: Inspections) -> pd.DataFrame:
    """Return the numbers of the figure, a row for each crop of each network."""
    networks, _ = inspections.alike(_place)
    rows = []
    for network in networks:
        for crop in network.numbers["crops"]:
            image = f"{crop['dataset']}/{crop['image']}"
            figures = [crop[key] for key in ("left", "top", "size", "psnr", "psnr_crop")]
            rows.append([network.subject.network, network.subject.weights, network.subject.scale, image, *figures])
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


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
