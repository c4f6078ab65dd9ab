"""What a network is measured by: the names in `networks.csv` and in own tables, their titles, units and digits."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Quantity:
    """One quantity of a network.

    Attributes:
        title: Its words above a column, with the unit that a table shows it in.
        decimals: How many a table shows; None where it is a text.
        unit: What a value of `networks.csv` is divided by to get the unit in the title.
        best: Whether the lowest or the highest value is the best; "" for neither.
    """

    title: str
    decimals: int | None = None
    unit: float = 1
    best: Literal["lowest", "highest", ""] = ""


COLUMNS = {
    "network": Quantity("Name"),
    "title": Quantity("Title"),
    "scale": Quantity("Scale", 0),
    "params": Quantity("#Params [K]", 1, 10**3, "lowest"),
    "flops": Quantity("#FLOPs [G]", 2, 10**9, "lowest"),
    "activations": Quantity("#Acts [M]", 2, 10**6, "lowest"),
    "convolutions": Quantity("#Conv", 0, best="lowest"),
    "lower_bound": Quantity("Counts are lower bounds"),
    "predicted_memory": Quantity("Memory, predicted [MiB]", 2, 2**20, "lowest"),
    "measured_memory": Quantity("Memory, measured [MiB]", 2, 2**20, "lowest"),
    "memory_device": Quantity("GPU of the memory"),
    "time": Quantity("Time, median [ms]", 2, best="lowest"),
    "time_device": Quantity("Device of the time"),
    "weights": Quantity("Weights"),
    "seeds": Quantity("Seeds"),
}
"""Columns of `networks.csv` in front of those of the test sets."""

SHORT = {
    "gpu_memory": Quantity("#GPU Mem. [MiB]", 2, best="lowest"),
    "runtime": Quantity("#Avg. Time [ms]", 2, best="lowest"),
    "training_hours": Quantity("Training [h]", 1, best="lowest"),
}
"""What an own table may have beside them: memory and mean time as in Table 2, and the time of a training run."""

QUALITIES = {
    "psnr": Quantity("PSNR [dB]", 2, best="highest"),
    "ssim": Quantity("SSIM", 4, best="highest"),
    "psnr_rgb": Quantity("PSNR, RGB [dB]", 2, best="highest"),
    "ssim_rgb": Quantity("SSIM, RGB", 4, best="highest"),
    "lpips": Quantity("LPIPS", 4, best="lowest"),
}
"""Figures of image quality, as `safmn.quality.figures` lists them; a column is `<test set>_<figure>`."""


def columns(test_sets: Iterable[str]) -> list[str]:
    """Return every name of a quantity for a study with these test sets."""
    return [*COLUMNS, *SHORT, *(f"{test_set}_{figure}" for test_set in test_sets for figure in QUALITIES)]


def split(column: str) -> tuple[str, str]:
    """Return the test set and the quantity of a column; the test set is "" where it has none."""
    for figure in QUALITIES:
        if column.endswith(f"_{figure}"):
            return column.removesuffix(f"_{figure}"), figure
    return "", column


def quantity(column: str) -> Quantity:
    """Return what a column holds."""
    return (COLUMNS | SHORT | QUALITIES)[split(column)[1]]
