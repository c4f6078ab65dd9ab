"""Check whether an LR image belongs to its HR image; find files that were swapped, mirrored, transposed or shifted.

HR is reduced by block means, and the finest and coarsest structure is removed from both pictures. The rest correlates
by 0.79 or more for every reduction of real images that was tried (MATLAB's, Pillow's, OpenCV's, blur and subsampling,
Lanczos, JPEG of quality 50), by more than 0.33 under Gaussian noise of deviation 80, and by at most 0.35, mostly below
0.1, for another picture. A picture that was moved correlates better after it is moved back, by 9 % or more; no
reduction gains more than 4 % by a shift.

Whether LR was made by MATLAB's bicubic is another question: `kernel_difference` answers it. Of Set5, Set14 and B100 the
published files differ by 0, those that Pillow's bicubic makes by at most 0.26 (it rounds otherwise), those of any other
kernel of Pillow and OpenCV, JPEG of quality 95 and noise of deviation 1 by at least 0.34.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from safmn.data import bicubic

SURE = 0.95  # correlation from which the picture was not moved: one pixel costs 0.09 or more
STRANGE = 0.25  # correlation below which it is another picture
DOUBTFUL = 0.45  # correlation below which strong noise is as likely
GAIN = 0.065  # relative gain of the correlation when a picture that was moved is moved back
MAX_SHIFT = 2  # LR pixels that are tried
MAX_LEVELS = 16.0  # difference of the means in grey levels; clipped noise of deviation 80 causes 15
MIN_SIDE = 8  # LR pixels; smaller images are not judged
OTHER_KERNEL = 0.3  # mean absolute difference in grey levels from which LR is not MATLAB's (or Pillow's) bicubic
_CROP = 64  # LR pixels of a side that are compared with MATLAB's bicubic
_MARGIN = 3  # LR pixels around them: the kernel reaches 2, so what lies beyond the picture's border has no influence

Plane = NDArray[np.float32]

TURNS: dict[str, Callable[[Plane], Plane]] = {
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned by 180 degrees": lambda image: image[::-1, ::-1],
    "transposed": lambda image: image.swapaxes(0, 1),
    "turned by 90 degrees": lambda image: np.rot90(image),
    "turned by 270 degrees": lambda image: np.rot90(image, 3),
    "transposed and turned": lambda image: image[::-1, ::-1].swapaxes(0, 1),
}
"""Possible mistakes -> the inverse; all but the first three only where the sides are equal."""


@dataclass(frozen=True)
class Agreement:
    """How an LR image agrees with its HR image.

    Attributes:
        correlation: of their structure, -1 to 1; None where there is too little structure to compare.
        doubt: why they do not seem to belong together; "" if they do.
    """

    correlation: float | None
    doubt: str = ""


def compare(lr: NDArray[np.uint8], hr: NDArray[np.uint8], scale: int) -> Agreement:
    """Compare an LR image, uint8 h x w x 3 RGB, with HR, uint8 at least (h * scale) x (w * scale) x 3."""
    height, width = lr.shape[:2]
    if min(height, width) < MIN_SIDE:
        return Agreement(None)
    inside = np.ascontiguousarray(hr[: height * scale, : width * scale])
    reduced = cv2.resize(inside, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    first, second = _structure(reduced), _structure(lr)
    if first.std() < 0.25 and second.std() < 0.25:  # grey levels: both are flat
        return Agreement(None, _colours(reduced, lr))
    correlation = _correlation(first, second)
    if correlation >= SURE:
        return Agreement(correlation, _colours(reduced, lr))
    move, best = max(_moved(first, second), key=lambda candidate: candidate[1])
    chance = 2 * math.sqrt(max(0.0, 1 - best**2) / first.size)
    if best > DOUBTFUL and best - correlation > GAIN * best + chance:
        return Agreement(correlation, f"LR seems to be {move} against HR")
    if correlation < STRANGE:
        return Agreement(correlation, "LR shows another picture than HR")
    if correlation < DOUBTFUL:
        return Agreement(correlation, "LR hardly agrees with HR: strong noise, or another picture")
    return Agreement(correlation, _colours(reduced, lr))


def kernel_difference(lr: NDArray[np.uint8], hr: NDArray[np.uint8], scale: int) -> float | None:
    """Compare LR with HR reduced by MATLAB's bicubic, in a crop of at most 64 x 64 LR pixels in the middle.

    Args:
        lr: uint8 h x w x 3 RGB.
        hr: uint8 at least (h * scale) x (w * scale) x 3.
        scale: HR size / LR size.

    Returns:
        The mean absolute difference, 0 to 255; None where the image is too small.
    """
    top, left = (max(_MARGIN, (side - _CROP) // 2) for side in lr.shape[:2])
    inside = lr[top : min(top + _CROP, lr.shape[0] - _MARGIN), left : min(left + _CROP, lr.shape[1] - _MARGIN)]
    height, width = inside.shape[:2]
    if min(height, width) < MIN_SIDE:
        return None
    rows, columns = (
        slice((start - _MARGIN) * scale, (start + length + _MARGIN) * scale)
        for start, length in ((top, height), (left, width))
    )
    made = bicubic.downscale(hr[rows, columns], scale)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return float(np.abs(made.astype(np.int16) - inside).mean())


def _structure(image: NDArray[np.uint8]) -> Plane:
    """Compute Y without its finest detail, where noise and kernels differ, and without its large areas."""
    plane = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for sigma in (0.8, 3.0))
    return np.asarray(fine - coarse, np.float32)


def _correlation(first: Plane, second: Plane) -> float:
    first, second = first - first.mean(), second - second.mean()
    norm = math.sqrt(float((first * first).sum()) * float((second * second).sum()))
    return float((first * second).sum()) / norm if norm > 1e-6 * first.size else 0.0


def _moved(reduced: Plane, lr: Plane) -> list[tuple[str, float]]:
    """Return (what may have been done to LR, the correlation if that is undone)."""
    square = lr.shape[0] == lr.shape[1]
    turns = [turn for turn in TURNS if square or turn in list(TURNS)[:3]]
    candidates = [(turn, _correlation(TURNS[turn](reduced), lr)) for turn in turns]
    steps = range(-MAX_SHIFT, MAX_SHIFT + 1)
    for down, right in ((down, right) for down in steps for right in steps if (down, right) != (0, 0)):
        rows, columns = (_overlap(step, length) for step, length in zip((down, right), lr.shape, strict=True))
        correlation = _correlation(reduced[rows[1], columns[1]], lr[rows[0], columns[0]])
        candidates.append((f"shifted by {down} pixels down and {right} to the right", correlation))
    return candidates


def _overlap(step: int, length: int) -> tuple[slice, slice]:
    """Return the part of a shifted axis, and the part of the other one that shows the same."""
    return slice(max(step, 0), length + min(step, 0)), slice(max(-step, 0), length + min(-step, 0))


def _colours(reduced: NDArray[np.uint8], lr: NDArray[np.uint8]) -> str:
    """Return what is wrong with the colours of pictures that agree in structure; "" if nothing is."""
    expected, actual = reduced.astype(np.float32), lr.astype(np.float32)
    straight, exchanged = (float(np.abs(expected - image).mean()) for image in (actual, actual[..., ::-1]))
    if straight > 4 and exchanged < 0.5 * straight:
        return "LR has red and blue exchanged"
    shift = float(actual.mean() - expected.mean())
    if abs(shift) > MAX_LEVELS:
        return f"LR is {abs(shift):.0f} grey levels {'brighter' if shift > 0 else 'darker'} than HR"
    return ""
