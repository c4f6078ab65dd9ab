"""The metrics of `safmn.quality.metrics` for a batch of images of equal size, in float64 on the images' device.

Equal to the numpy definition to 1e-6 dB and 1e-8 SSIM.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from safmn.quality.metrics import C1, C2, PEAK, WINDOW, check_sizes, gaussian_taps


def psnr_planes(first: Tensor, second: Tensor, border: int = 0) -> Tensor:
    """Compute PSNR in dB of each image of two N x ... x H x W batches in [0, 255]: N float64 values, inf if equal."""
    first, second = _crop(first, second, border, 1)
    error = (first - second).square_().flatten(1).mean(1)
    return 10.0 * torch.log10(PEAK**2 / error)


def ssim_planes(first: Tensor, second: Tensor, border: int = 0) -> Tensor:
    """Compute SSIM of each plane of two batches N x H x W, values in [0, 255]: N values, float64."""
    first, second = _crop(first, second, border, WINDOW)
    # The formula needs only the sum of the two variances: four blurred maps instead of the usual five.
    # One map after the other, since all four at once fall out of the processor's cache.
    mean_first, mean_second = _blur(first), _blur(second)
    squares, product = _blur(first * first + second * second), _blur(first * second)
    means_product = mean_first * mean_second
    means_squares = mean_first.square_().add_(mean_second.square_())
    structure = (product - means_product).mul_(2).add_(C2) / (squares - means_squares).add_(C2)
    luminance = means_product.mul_(2).add_(C1) / means_squares.add_(C1)
    return structure.mul_(luminance).flatten(1).mean(1)


def psnr_rgb(sr: Tensor, hr: Tensor, border: int = 0) -> Tensor:
    """Compute PSNR in RGB in dB of each image of two batches N x 3 x H x W of whole numbers in [0, 255]: N values."""
    first, second = _inside(sr, hr, border, 1)
    # Exact: differences and their squares are whole numbers below 2^24.
    error = (first.to(torch.float32) - second).square_().flatten(1).mean(1, dtype=torch.float64)
    return 10.0 * torch.log10(PEAK**2 / error)


def ssim_rgb(sr: Tensor, hr: Tensor, border: int = 0) -> Tensor:
    """Compute SSIM in RGB of each image of two batches N x 3 x H x W, values in [0, 255]: N values, float64."""
    channels = [ssim_planes(sr[:, channel], hr[:, channel], border) for channel in range(3)]
    return torch.stack(channels).mean(0)


def _blur(maps: Tensor) -> Tensor:
    """Compute the weighted mean in the window, at each position where the window fits whole.

    By OpenCV on a CPU. Elsewhere a sum of shifted views: float64 convolutions are several times slower.
    """
    if maps.is_cpu:
        kernel, margin = gaussian_taps(), WINDOW // 2
        planes = (np.ascontiguousarray(plane) for plane in maps.flatten(0, -3).numpy())
        filtered = [cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel) for plane in planes]
        inside = np.stack([plane[margin:-margin, margin:-margin] for plane in filtered])
        return torch.from_numpy(inside).reshape(*maps.shape[:-2], *inside.shape[1:])
    taps, centre = gaussian_taps().tolist(), WINDOW // 2
    for axis in (-2, -1):
        length = maps.shape[axis] - WINDOW + 1
        blurred = maps.narrow(axis, centre, length) * taps[centre]
        for offset in range(centre):
            blurred.add_(maps.narrow(axis, offset, length), alpha=taps[offset])
            blurred.add_(maps.narrow(axis, WINDOW - 1 - offset, length), alpha=taps[offset])
        maps = blurred
    return maps


def _crop(first: Tensor, second: Tensor, border: int, smallest: int) -> tuple[Tensor, Tensor]:
    first, second = _inside(first, second, border, smallest)
    return first.to(torch.float64), second.to(torch.float64)


def _inside(first: Tensor, second: Tensor, border: int, smallest: int) -> tuple[Tensor, Tensor]:
    height, width = first.shape[-2:]
    check_sizes((height, width), tuple(second.shape[-2:]), border, smallest)
    inner = (..., slice(border, height - border), slice(border, width - border))
    return first[inner], second[inner]
