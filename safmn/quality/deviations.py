"""Ways of measuring image quality that depart from the protocol, as public code has them.

Each is an entry of SWITCHES: a Recipe with one departure. To add one is to add an entry.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, uniform_filter

from safmn.data import bicubic, colour
from safmn.quality import authors, evaluation, metrics, resampling

Array = NDArray[Any]


@dataclass(frozen=True)
class Source:
    """One image of a benchmark as its files are.

    Attributes:
        name: the image's name.
        lr: uint8 h x w x 3 RGB.
        hr: uint8 H x W x 3 RGB, before any crop.
        channels: of the HR file: 1 (grey) or 3.
        doubt: why HR and LR do not seem to belong together.
    """

    name: str
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]
    channels: int = 3
    doubt: str = ""


# --- Deviations ------------------------------------------------------------------------------------------------------


def _crop_lr(source: Source, scale: int) -> tuple[Array, Array]:
    return source.lr, evaluation.fit_pair(source.lr, source.hr, scale, source.name)


def _crop_centre(source: Source, scale: int) -> tuple[Array, Array]:
    height, width = (side * scale for side in source.lr.shape[:2])
    top, left = (source.hr.shape[0] - height) // 2, (source.hr.shape[1] - width) // 2
    return source.lr, source.hr[top : top + height, left : left + width]


def _crop_twelve(source: Source, scale: int) -> tuple[Array, Array]:
    height, width = (side - side % math.lcm(12, scale) for side in source.hr.shape[:2])
    hr = source.hr[:height, :width]
    return bicubic.downscale(hr, scale), hr


def _crop_none(source: Source, scale: int) -> tuple[Array, Array]:
    return bicubic.resize(source.hr, Fraction(1, scale)), source.hr


def _crop_even(source: Source, scale: int) -> tuple[Array, Array]:
    lr = authors.even(source.lr)
    return lr, source.hr[: lr.shape[0] * scale, : lr.shape[1] * scale]


def _rounded(sr: Array) -> Array:
    return np.round(np.clip(sr, 0, 255)).astype(np.uint8)


def _ssim_uniform(first: Array, second: Array) -> float:
    """Compute the mean over whole 7 x 7 windows, all weights equal, variances with n - 1."""
    size, correction = 7, 49 / 48

    def mean(plane: Array) -> Array:
        whole: Array = uniform_filter(plane, size)[size // 2 : -(size // 2), size // 2 : -(size // 2)]
        return whole

    mean_first, mean_second = mean(first), mean(second)
    variances = mean(first**2) + mean(second**2) - mean_first**2 - mean_second**2
    covariance = mean(first * second) - mean_first * mean_second
    luminance = (2 * mean_first * mean_second + metrics.C1) / (mean_first**2 + mean_second**2 + metrics.C1)
    return float(
        np.mean(luminance * (2 * correction * covariance + metrics.C2) / (correction * variances + metrics.C2))
    )


def _ssim_padded(first: Array, second: Array) -> float:
    """Compute the mean of the Gaussian window at every pixel, the image continued by its edge."""
    margin = metrics.WINDOW // 2
    return metrics.ssim_plane(np.pad(first, margin, mode="edge"), np.pad(second, margin, mode="edge"))


def _ssim_reduced(first: Array, second: Array) -> float:
    """Reduce by block means of f x f, every f-th of them, f = round(smaller side / 256), before the usual SSIM."""
    factor = max(1, int(min(first.shape) / 256 + 0.5))
    kernel = np.full((factor, factor), 1 / factor**2)
    first, second = (convolve(plane, kernel, mode="reflect")[::factor, ::factor] for plane in (first, second))
    return metrics.ssim_plane(first, second)


def _ssim_range(first: Array, second: Array) -> float:
    """Use constants 255 times too small, which is the same as an image scaled up by 255."""
    return metrics.ssim_plane(first * 255.0, second * 255.0)


@dataclass(frozen=True)
class Recipe:
    """How a cell is measured; the defaults are the protocol."""

    reduce: Callable[[NDArray[np.uint8], int], Array] | None = None  # makes LR from HR; None: the LR files
    crop: Callable[[Source, int], tuple[Array, Array]] = _crop_lr  # returns LR and HR
    weights: str = "given"  # or another file
    ensemble: bool = False  # mean over the eight flips and rotations
    rounding: Callable[[Array], Array] = _rounded  # of SR
    plane: Callable[[Array], Array] = colour.luma  # what is compared
    ssim_plane: Callable[[Array], Array] | None = None  # where SSIM is measured on another one
    grey_as_it_is: bool = False  # an image of a single-channel file is measured in 0 to 255, not as Y
    border: tuple[int, int] = (1, 0)  # (a, b): a x scale + b pixels are cropped
    mean_error: bool = False  # PSNR of the mean squared error of all images, not the mean of PSNR
    ssim: Callable[[Array, Array], float] = metrics.ssim_plane
    legacy: bool = False  # the older protocol on Y, see `safmn.quality.evaluation`


@dataclass(frozen=True)
class Switch:
    """One deviation from the protocol.

    Attributes:
        name: short, unique.
        what: what is done, and by whom.
        recipe: the protocol with this deviation.
        metrics: the metrics that it can change.
        channels: the networks that it applies to, by what they take.
        grey_files: it changes something only where the benchmark has single-channel files.
    """

    name: str
    what: str
    recipe: Recipe
    metrics: tuple[str, ...] = ("psnr", "ssim")
    channels: tuple[str, ...] = ("RGB", "Y")
    grey_files: bool = False


SWITCHES = (
    Switch(
        "rgb",
        "RGB instead of Y (SSIM: mean of the three channels)",
        Recipe(plane=lambda image: image),
        channels=("RGB",),
    ),
    Switch(
        "y-opencv",
        "Y of OpenCV or Pillow, 0 to 255, instead of MATLAB's",
        Recipe(plane=lambda image: cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2YCrCb)[..., 0]),
        channels=("RGB",),
    ),
    Switch("y-uint8", "Y of SR and HR rounded to uint8 before measuring", Recipe(plane=colour.luma_uint8)),
    Switch("lr-matlab", "LR made from HR by MATLAB's bicubic, not the LR files", Recipe(reduce=bicubic.downscale)),
    Switch(
        "lr-matlab-clamped",
        "as lr-matlab, the border clamped instead of mirrored",
        Recipe(reduce=lambda hr, scale: bicubic.downscale(hr, scale, "clamped")),
    ),
    Switch(
        "lr-matlab-once",
        "as lr-matlab, rounded once instead of after each pass",
        Recipe(reduce=lambda hr, scale: resampling.matlab_once(hr, 1 / scale)),
    ),
    Switch("lr-opencv", "LR by OpenCV's INTER_CUBIC, not antialiased", Recipe(reduce=resampling.opencv)),
    Switch("lr-opencv-area", "LR by OpenCV's INTER_AREA", Recipe(reduce=resampling.opencv_area)),
    Switch("lr-pillow", "LR by Pillow's BICUBIC", Recipe(reduce=resampling.pillow)),
    Switch("border-0", "no border cropped", Recipe(border=(0, 0))),
    Switch("border-scale+6", "scale + 6 pixels cropped, as EDSR does on DIV2K", Recipe(border=(1, 6))),
    Switch("modcrop-12", "HR cropped to a multiple of 12 for all scales, LR made from it", Recipe(crop=_crop_twelve)),
    Switch(
        "modcrop-none", "HR not cropped: LR of the next larger size made from it, SR cut to HR", Recipe(crop=_crop_none)
    ),
    Switch("modcrop-centre", "HR cropped on all sides, not at the bottom and right", Recipe(crop=_crop_centre)),
    Switch(
        "truncate",
        "SR truncated to uint8 instead of rounded",
        Recipe(rounding=lambda sr: np.clip(sr, 0, 255).astype(np.uint8)),
    ),
    Switch("float", "SR clamped, but not rounded to uint8", Recipe(rounding=lambda sr: np.clip(sr, 0, 255))),
    Switch("ensemble", "self-ensemble over eight flips and rotations (+)", Recipe(ensemble=True)),
    Switch("mean-error", "PSNR of the mean squared error of all images", Recipe(mean_error=True), metrics=("psnr",)),
    Switch(
        "ssim-uniform",
        "uniform 7x7 window, sample covariance (scikit-image's default)",
        Recipe(ssim=_ssim_uniform),
        ("ssim",),
    ),
    Switch("ssim-padded", "window also over the padded border (MATLAB's ssim)", Recipe(ssim=_ssim_padded), ("ssim",)),
    Switch(
        "ssim-reduced",
        "images above 384 pixels reduced first (the authors' ssim.m)",
        Recipe(ssim=_ssim_reduced),
        ("ssim",),
    ),
    Switch("ssim-range", "constants for values in [0, 1] on values in [0, 255]", Recipe(ssim=_ssim_range), ("ssim",)),
    Switch(
        "grey-as-it-is",
        "single-channel files measured as they are, 0 to 255, not as Y (scripts that convert three channels alone)",
        Recipe(grey_as_it_is=True),
        grey_files=True,
    ),
    Switch(
        "smsr",
        "SMSR's code: LR cropped to even sides, SSIM on a Y divided by 255 instead of 256",
        Recipe(
            crop=_crop_even,
            plane=lambda image: authors.smsr_luma(image, 256.0),
            ssim_plane=lambda image: authors.smsr_luma(image, 255.0),
        ),
        channels=("RGB",),
    ),
    Switch(
        "legacy",
        "the older protocol: Y rounded to uint8, reduced and enlarged; single-channel files as they are",
        Recipe(legacy=True, grey_as_it_is=True),
        channels=("Y",),
    ),
    Switch(
        "legacy-converted",
        "as legacy, but single-channel files converted to Y like the others",
        Recipe(legacy=True),
        channels=("Y",),
        grey_files=True,
    ),
)
