"""RGB and YCbCr as in MATLAB's `rgb2ycbcr` (ITU-R BT.601, studio range), the Y of every PSNR in the tables.

Y runs from 16 (black) to 235 (white), Cb and Cr from 16 to 240. The Y of OpenCV and Pillow runs from 0 to 255, which
costs 1.3 dB, since the same error is then larger.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safmn.data import bicubic

LUMA = (65.481, 128.553, 24.966)
"""Weights of R, G and B in Y, for values in [0, 1]; 16 is added."""

_TO_YCBCR = np.array([LUMA, (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214)])
_OFFSET = np.array([16.0, 128.0, 128.0])
_TO_RGB = np.linalg.inv(_TO_YCBCR)


def luma(image: NDArray[Any]) -> NDArray[np.float64]:
    """Compute Y of an H x W x 3 RGB image with values in [0, 255]: H x W, float64, 16 to 235, not rounded."""
    red, green, blue = (image[..., channel].astype(np.float64) for channel in range(3))
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue) / 255.0 + 16.0


def luma_uint8(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compute Y rounded half up to uint8, as MATLAB's `rgb2ycbcr` of a uint8 image: H x W x 3 -> H x W."""
    return round_uint8(luma(image))


def ycbcr_uint8(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compute Y, Cb and Cr of a uint8 RGB image, each rounded half up to uint8: H x W x 3 -> H x W x 3."""
    return round_uint8(image.astype(np.float64) @ _TO_YCBCR.T / 255.0 + _OFFSET)


def rgb_uint8(ycbcr: NDArray[Any]) -> NDArray[np.uint8]:
    """Compute the inverse, MATLAB's `ycbcr2rgb`: H x W x 3 YCbCr in [0, 255] -> RGB, clamped and rounded to uint8."""
    return round_uint8((ycbcr.astype(np.float64) - _OFFSET) @ _TO_RGB.T * 255.0)


def round_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Clamp to [0, 255] and round half up, MATLAB's conversion to uint8 (numpy rounds half to even)."""
    rounded: NDArray[np.uint8] = np.floor(np.clip(values, 0.0, 255.0) + 0.5).astype(np.uint8)
    return rounded


def coloured(plane: NDArray[Any], lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the picture that a network of colour Y makes: its SR Y, with LR's Cb and Cr enlarged by MATLAB's bicubic.

    Args:
        plane: Y in [0, 255], sH x sW.
        lr: uint8 RGB, H x W x 3.
    """
    ycbcr = bicubic.upscale(ycbcr_uint8(lr), plane.shape[0] // lr.shape[0])
    return rgb_uint8(np.dstack([plane, ycbcr[..., 1:]]))


def luma_batch(images: Tensor) -> Tensor:
    """Compute `luma` of an N x 3 x H x W batch with values in [0, 255], on its device: N x H x W, float64."""
    # Weighted sums in place, straight from uint8: twice as fast as a conversion of all three channels.
    plane = images[:, 0].to(torch.float64).mul_(LUMA[0] / 255.0)
    plane.add_(images[:, 1], alpha=LUMA[1] / 255.0).add_(images[:, 2], alpha=LUMA[2] / 255.0)
    return plane.add_(16.0)
