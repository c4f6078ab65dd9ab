"""Does an LR image belong to its HR image? Files that were swapped, mirrored, transposed or shifted are noticed.

HR is reduced by block means, and both pictures lose their finest and coarsest structure. What is left correlates by
0.79 or more for every reduction of real images that was tried (MATLAB's, Pillow's, OpenCV's, blur and subsampling,
Lanczos, JPEG of quality 50), by more than 0.33 under Gaussian noise of deviation 80, and by at most 0.35, mostly below
0.1, for another picture. A picture that was moved correlates better after it is moved back, by 9 % or more, while no
reduction gains more than 4 % by a shift.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SURE = 0.95  # agrees so well that it was not moved: one pixel costs 0.09 or more
STRANGE = 0.25  # of the correlation, below which it is another picture
DOUBTFUL = 0.45  # below which strong noise is as likely
GAIN = 0.065  # of the correlation, by which a picture that was moved agrees better when it is moved back
REACH = 2  # shifts that are tried, in LR pixels
LEVELS = 16.0  # by which the mean may differ; clipped noise of deviation 80 comes to 15
LEAST = 8  # sides of an LR image below which nothing is said

TURNS = {
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned by 180 degrees": lambda image: image[::-1, ::-1],
    "transposed": lambda image: image.swapaxes(0, 1),
    "turned by 90 degrees": lambda image: np.rot90(image),
    "turned by 270 degrees": lambda image: np.rot90(image, 3),
    "transposed and turned": lambda image: image[::-1, ::-1].swapaxes(0, 1),
}
"""What may have been done to an LR image; all but the first three only where its sides are equal."""


@dataclass(frozen=True)
class Agreement:
    """How an LR image agrees with its HR image.

    Attributes:
        correlation: of their structure, -1 to 1; None where there is none, or too little of it, to compare.
        doubt: why they do not seem to belong together, "" if they do.
    """

    correlation: float | None
    doubt: str = ""


def compare(lr: NDArray[np.uint8], hr: NDArray[np.uint8], scale: int) -> Agreement:
    """Holds an LR image, uint8 h x w x 3 RGB, against HR, uint8 at least (h * scale) x (w * scale) x 3."""
    height, width = lr.shape[:2]
    if min(height, width) < LEAST:
        return Agreement(None)
    inside = np.ascontiguousarray(hr[: height * scale, : width * scale])
    made = cv2.resize(inside, (width, height), interpolation=cv2.INTER_AREA)
    first, second = _structure(made), _structure(lr)
    if first.std() < 0.25 and second.std() < 0.25:  # grey levels: both are flat
        return Agreement(None, _colours(made, lr))
    found = _correlation(first, second)
    if found >= SURE:
        return Agreement(found, _colours(made, lr))
    how, best = max(_moved(first, second), key=lambda each: each[1])
    chance = 2 * math.sqrt(max(0.0, 1 - best**2) / first.size)
    if best > DOUBTFUL and best - found > GAIN * best + chance:
        return Agreement(found, f"LR seems to be {how} against HR")
    if found < STRANGE:
        return Agreement(found, "LR shows another picture than HR")
    if found < DOUBTFUL:
        return Agreement(found, "LR hardly agrees with HR: strong noise, or another picture")
    return Agreement(found, _colours(made, lr))


def _structure(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Y without its finest detail, where noise and kernels differ, and without its large areas."""
    plane = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for sigma in (0.8, 3.0))
    return fine - coarse


def _correlation(first: NDArray, second: NDArray) -> float:
    first, second = first - first.mean(), second - second.mean()
    norm = math.sqrt(float((first * first).sum()) * float((second * second).sum()))
    return float((first * second).sum()) / norm if norm > 1e-6 * first.size else 0.0


def _moved(made: NDArray, lr: NDArray) -> list[tuple[str, float]]:
    """(what may have been done to LR, the correlation if that is so)."""
    square = lr.shape[0] == lr.shape[1]
    turns = [turn for turn in TURNS if square or turn in list(TURNS)[:3]]
    found = [(turn, _correlation(TURNS[turn](made), lr)) for turn in turns]
    steps = range(-REACH, REACH + 1)
    for down, right in ((down, right) for down in steps for right in steps if (down, right) != (0, 0)):
        rows, columns = (_overlap(step, length) for step, length in zip((down, right), lr.shape, strict=True))
        correlation = _correlation(made[rows[1], columns[1]], lr[rows[0], columns[0]])
        found.append((f"shifted by {down} pixels down and {right} to the right", correlation))
    return found


def _overlap(step: int, length: int) -> tuple[slice, slice]:
    """The part of a shifted axis that shows the same as a part of the other one."""
    return slice(max(step, 0), length + min(step, 0)), slice(max(-step, 0), length + min(-step, 0))


def _colours(made: NDArray[np.uint8], lr: NDArray[np.uint8]) -> str:
    """What is wrong with the colours of pictures that agree in structure, "" if nothing is."""
    expected, given = made.astype(np.float32), lr.astype(np.float32)
    straight, exchanged = (float(np.abs(expected - each).mean()) for each in (given, given[..., ::-1]))
    if straight > 4 and exchanged < 0.5 * straight:
        return "LR has red and blue exchanged"
    shift = float(given.mean() - expected.mean())
    if abs(shift) > LEVELS:
        return f"LR is {abs(shift):.0f} grey levels {'brighter' if shift > 0 else 'darker'} than HR"
    return ""
