"""PSNR and SSIM as super-resolution papers report them: the definition, in numpy, one image at a time.

The super-resolved image is clamped and rounded to uint8, and a border of `scale` pixels is cropped on each side. Most
papers measure on the Y of MATLAB's YCbCr, not rounded. Challenges measure in RGB: the definition here is that of the
NTIRE challenges on efficient super-resolution (`calculate_psnr` and `calculate_ssim` of their programs).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from safmn.data.colour import luma
from safmn.errors import UserError

PEAK = 255.0
C1 = (0.01 * PEAK) ** 2
C2 = (0.03 * PEAK) ** 2
WINDOW = 11
SIGMA = 1.5

Plane = NDArray[np.float64]


def psnr_y(sr: NDArray[np.uint8], hr: NDArray[np.uint8], border: int) -> float:
    """Compute PSNR on Y in dB; inf for equal images.

    Args:
        sr: uint8 H x W x 3 RGB.
        hr: uint8 H x W x 3 RGB.
        border: pixels cropped on each side; papers crop `scale`.

    Raises:
        UserError: the sizes differ, or the border leaves nothing.
    """
    _check_rgb(sr, hr)
    return psnr_plane(luma(sr), luma(hr), border)


def ssim_y(sr: NDArray[np.uint8], hr: NDArray[np.uint8], border: int) -> float:
    """Compute SSIM on Y, at most 1: the mean over the positions where an 11 x 11 Gaussian window fits whole.

    Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", Eq. (13); sigma 1.5.

    Args:
        sr: uint8 H x W x 3 RGB.
        hr: uint8 H x W x 3 RGB.
        border: pixels cropped on each side; papers crop `scale`.

    Raises:
        UserError: the sizes differ, or less than 11 pixels a side remain.
    """
    _check_rgb(sr, hr)
    return ssim_plane(luma(sr), luma(hr), border)


def psnr_rgb(sr: NDArray[np.uint8], hr: NDArray[np.uint8], border: int) -> float:
    """Compute PSNR in RGB in dB: of the mean squared error over all three channels; inf for equal images.

    Arguments and errors as for `psnr_y`.
    """
    _check_rgb(sr, hr)
    return psnr_plane(sr, hr, border)


def ssim_rgb(sr: NDArray[np.uint8], hr: NDArray[np.uint8], border: int) -> float:
    """Compute SSIM in RGB, at most 1: the mean of the SSIM of the three channels; window as for `ssim_y`.

    Arguments and errors as for `ssim_y`.
    """
    _check_rgb(sr, hr)
    return float(np.mean([ssim_plane(sr[..., channel], hr[..., channel], border) for channel in range(3)]))


def psnr_plane(first: NDArray[Any], second: NDArray[Any], border: int = 0) -> float:
    """Compute PSNR in dB of two arrays of equal size, H x W or H x W x C, with values in [0, 255]."""
    first, second = _crop(first, second, border, 1)
    return psnr_of_error(float(np.mean((first - second) ** 2)))


def psnr_of_error(mean_squared_error: float) -> float:
    """Compute 10 log10(255² / MSE) in dB; inf for no error."""
    return math.inf if mean_squared_error == 0 else 10.0 * math.log10(PEAK**2 / mean_squared_error)


def ssim_plane(first: NDArray[Any], second: NDArray[Any], border: int = 0) -> float:
    """Compute SSIM of two H x W planes with values in [0, 255]."""
    first, second = _crop(first, second, border, WINDOW)
    mean_first, mean_second = _blur(first), _blur(second)
    variance_first = _blur(first * first) - mean_first**2
    variance_second = _blur(second * second) - mean_second**2
    covariance = _blur(first * second) - mean_first * mean_second
    ssim = ((2 * mean_first * mean_second + C1) * (2 * covariance + C2)) / (
        (mean_first**2 + mean_second**2 + C1) * (variance_first + variance_second + C2)
    )
    return float(np.mean(ssim))


def gaussian_taps() -> NDArray[np.float64]:
    """Return the 11 weights of the window along one axis, sum 1; the window is their outer product."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    taps: NDArray[np.float64] = np.exp(-(offsets**2) / (2 * SIGMA**2))
    taps /= taps.sum()
    return taps


def _blur(plane: Plane) -> Plane:
    """Compute the weighted mean in the window, at each position where the window fits whole: (H-10) x (W-10)."""
    taps, margin = gaussian_taps(), WINDOW // 2
    rows = correlate1d(plane, taps, axis=0)[margin:-margin]
    blurred: Plane = correlate1d(rows, taps, axis=1)[:, margin:-margin]
    return blurred


def _check_rgb(*images: NDArray[Any]) -> None:
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(f"metrics take uint8 H x W x 3 RGB images, got {image.dtype} {image.shape}: convert them")


def _crop(first: NDArray[Any], second: NDArray[Any], border: int, smallest: int) -> tuple[Plane, Plane]:
    """Return both arrays as float64 without the border; errors as for `check_sizes`."""
    check_sizes(first.shape[:2], second.shape[:2], border, smallest)
    inner = (slice(border, first.shape[0] - border), slice(border, first.shape[1] - border))
    return first[inner].astype(np.float64, copy=False), second[inner].astype(np.float64, copy=False)


def check_sizes(first: tuple[int, ...], second: tuple[int, ...], border: int, smallest: int) -> None:
    """Raise a UserError unless both (H, W) are equal and `smallest` pixels a side remain inside the border."""
    if tuple(first) != tuple(second):
        raise UserError(
            f"images of different size, {first[0]}x{first[1]} and {second[0]}x{second[1]}: crop HR to LR size x scale"
        )
    if border < 0 or min(first) - 2 * border < smallest:
        raise UserError(
            f"an image of {first[0]}x{first[1]} is too small to measure: {smallest} pixels a side must remain "
            f"inside a border of {border}"
        )
