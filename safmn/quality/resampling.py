"""Bicubic reduction as different programs do it: a difference between evaluation protocols, and between results.

`safmn.data.bicubic` is the one that makes data (two passes, each rounded to uint8: bit-identical to published LR
files). Here are MATLAB's double-precision path, not rounded or rounded once at the end, and those of other libraries.
"""

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import csr_array

from safmn.data.colour import round_uint8


def matlab_once(image: NDArray[Any], factor: float) -> NDArray[np.uint8]:
    """Compute MATLAB's `imresize(image, factor)` in float64, rounded once at the end: uint8; see `matlab`."""
    return round_uint8(matlab(image, factor))


def matlab(image: NDArray[Any], factor: float) -> NDArray[np.float64]:
    """Compute MATLAB's `imresize(image, factor)` in float64, neither rounded nor clamped; the border is mirrored.

    Args:
        image: H x W or H x W x C, values in [0, 255].
        factor: new size / old size; below 1 the kernel is widened (antialiasing).

    Returns:
        ceil(H * factor) x ceil(W * factor) (x C).
    """
    halfway = _along_rows(image.astype(np.float64), factor)
    return _along_rows(halfway.swapaxes(0, 1), factor).swapaxes(0, 1)


def _along_rows(image: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Resize the first axis."""
    resized: NDArray[np.float64] = matrix(image.shape[0], factor) @ image.reshape(image.shape[0], -1)
    return resized.reshape(-1, *image.shape[1:])


@cache
def matrix(length: int, factor: float) -> csr_array:
    """Return the linear map of one axis, output length x input length, each row of sum 1.

    Keys' cubic kernel with a = -0.5; arguments as for `matlab`.
    """
    stretch = min(factor, 1.0)
    centres = (np.arange(np.ceil(length * factor - 1e-9)) + 0.5) / factor - 0.5
    reach = int(np.ceil(2 / stretch)) + 1
    taps = np.floor(centres).astype(int)[:, None] + np.arange(-reach, reach + 1)
    weights = _cubic((centres[:, None] - taps) * stretch)
    weights /= weights.sum(1, keepdims=True)
    taps = taps % (2 * length)
    taps = np.minimum(taps, 2 * length - 1 - taps)  # mirrored, the edge repeated
    rows = np.repeat(np.arange(len(centres)), taps.shape[1])
    # Taps that the border folds onto one input are summed.
    result = csr_array((weights.ravel(), (rows, taps.ravel())), shape=(len(centres), length))
    result.eliminate_zeros()
    return result


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(distance)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def opencv(image: NDArray[np.uint8], scale: int, interpolation: int = cv2.INTER_CUBIC) -> NDArray[np.uint8]:
    """Reduce by OpenCV: H x W (x C) -> H/scale x W/scale.

    `INTER_CUBIC` has a = -0.75 and no antialiasing, so that LR aliases.
    """
    height, width = image.shape[:2]
    return np.asarray(cv2.resize(image, (width // scale, height // scale), interpolation=interpolation), np.uint8)


def opencv_area(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Reduce by OpenCV's `INTER_AREA`, the mean of each scale x scale block: H x W (x C) -> H/scale x W/scale."""
    return opencv(image, scale, cv2.INTER_AREA)


def pillow(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Reduce uint8 RGB or grey by Pillow's `BICUBIC`: a = -0.5, antialiased; its window is cut off at the border."""
    height, width = image.shape[:2]
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width // scale, height // scale), Image.Resampling.BICUBIC))
