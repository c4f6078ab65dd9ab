"""Resize uint8 images as MATLAB's `imresize(..., "bicubic")` does, bit for bit.

Cubic convolution with a = -0.5, widened by the factor when it reduces (antialiasing). Rows are resized first, then
columns; each pass is rounded half up to uint8. All weights are rational numbers with a small denominator, so the sums
are computed in integers: no rounding error decides a tie, and every machine gives the same bytes.

Sizes: a reduction by an integer first crops the image at the bottom and right to a multiple of the scale ("modcrop").
MATLAB itself would return ceil(size / scale), but the published LR files were made from cropped images; with the crop
they are reproduced exactly.

Borders: "symmetric" (MATLAB's mirror; DIV2K, Set5, Set14) or "clamped" (the edge repeated; B100's published LR files).
"""

from fractions import Fraction
from functools import cache
from math import ceil, floor, lcm
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

BORDERS: dict[str, Literal["symmetric", "edge"]] = {"symmetric": "symmetric", "clamped": "edge"}
"""How a picture is continued beyond its edge -> mode of `numpy.pad`."""

_MAX_TERM = 64  # of a factor p/q: keeps the common denominator of the weights small, and with it the sums


Pixels = NDArray[np.uint8]


def downscale(image: Pixels, scale: int, border: str = "symmetric") -> Pixels:
    """Reduce an HR image to its LR image.

    Args:
        image: uint8, H x W x C or H x W.
        scale: an integer of at least 1.
        border: "symmetric" or "clamped".

    Returns:
        uint8, floor(H / scale) x floor(W / scale) (x C).

    Raises:
        ValueError: not uint8, a side smaller than `scale`, an unknown border.
    """
    _check(image)
    _check_scale(scale)
    height, width = (side // scale * scale for side in image.shape[:2])
    if not height or not width:
        raise ValueError(f"an image of {image.shape[1]}x{image.shape[0]} cannot be reduced {scale} times")
    return resize(image[:height, :width], Fraction(1, scale), border)


def upscale(image: Pixels, scale: int, border: str = "symmetric") -> Pixels:
    """Enlarge an image: uint8 H x W (x C) -> uint8 (H * scale) x (W * scale) (x C)."""
    _check(image)
    _check_scale(scale)
    return resize(image, Fraction(scale), border)


def resize(image: Pixels, factor: Fraction | int, border: str = "symmetric") -> Pixels:
    """Resize as MATLAB's `imresize(image, factor)` does, without a crop.

    Args:
        image: uint8, H x W x C or H x W.
        factor: new size / old size, a fraction with terms of at most 64.
        border: "symmetric" or "clamped".

    Returns:
        uint8, ceil(H * factor) x ceil(W * factor) (x C).
    """
    _check(image)
    factor = Fraction(factor)
    if not 0 < factor.numerator <= _MAX_TERM or factor.denominator > _MAX_TERM:
        raise ValueError(f"a factor of {factor} is not a fraction of integers from 1 to {_MAX_TERM}")
    if border not in BORDERS:
        raise ValueError(f"border {border!r} is unknown: one of {', '.join(BORDERS)}")
    rows_done = _resize_axis(image, 0, factor, border)
    return _resize_axis(rows_done, 1, factor, border)


def _resize_axis(image: Pixels, axis: int, factor: Fraction, border: str) -> Pixels:
    """Resize one axis. With factor p/q, outputs r, r + p, r + 2p... have the same weights, q inputs apart."""
    length = image.shape[axis]
    out_length = ceil(length * factor)
    phases = _phases(factor)
    step = factor.denominator
    counts = [len(range(phase, out_length, factor.numerator)) for phase in range(factor.numerator)]

    before = max(0, -min(min(weights) for weights, _ in phases))
    last = max(max(weights) + (count - 1) * step for (weights, _), count in zip(phases, counts, strict=True) if count)
    padding = [(0, 0)] * image.ndim
    padding[axis] = (before, max(0, last - length + 1))
    bound = 2 * 255 * max(sum(abs(weight) for weight in weights.values()) + total for weights, total in phases)
    dtype: type[np.signedinteger[Any]] = np.int32 if bound < 2**31 else np.int64
    padded = np.pad(image, padding, mode=BORDERS[border]).astype(dtype)

    shape = list(image.shape)
    shape[axis] = out_length
    result = np.empty(shape, np.uint8)
    for phase, ((weights, total), count) in enumerate(zip(phases, counts, strict=True)):
        if not count:
            continue
        terms = (
            padded[_along(axis, slice(before + offset, before + offset + (count - 1) * step + 1, step))] * dtype(weight)
            for offset, weight in weights.items()
        )
        accumulated = next(terms)
        for term in terms:
            accumulated += term
        # floor(accumulated / total + 1/2)
        accumulated *= 2
        accumulated += total
        accumulated //= 2 * total
        result[_along(axis, slice(phase, None, factor.numerator))] = np.clip(accumulated, 0, 255, out=accumulated)
    return result


@cache
def _phases(factor: Fraction) -> list[tuple[dict[int, int], int]]:
    """Compute for each output position modulo p: {input offset: integer weight}, and the sum of these weights."""
    stretch = min(factor, Fraction(1))  # < 1 widens the kernel: MATLAB's antialiasing
    phases = []
    for phase in range(factor.numerator):
        centre = (phase + Fraction(1, 2)) / factor - Fraction(1, 2)
        reach = 2 / stretch
        offsets = range(floor(centre - reach), ceil(centre + reach) + 1)
        exact = {offset: _cubic(stretch * (centre - offset)) for offset in offsets}
        exact = {offset: weight for offset, weight in exact.items() if weight}
        common = lcm(*(weight.denominator for weight in exact.values()))
        weights = {offset: int(weight * common) for offset, weight in exact.items()}
        phases.append((weights, sum(weights.values())))
    return phases


def _cubic(x: Fraction) -> Fraction:
    """Evaluate Keys' cubic convolution kernel with a = -1/2."""
    x = abs(x)
    if x <= 1:
        return (3 * x**3 - 5 * x**2 + 2) / 2
    if x <= 2:
        return (-(x**3) + 5 * x**2 - 8 * x + 4) / 2
    return Fraction(0)


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


def _check(image: Pixels) -> None:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise ValueError(f"expected a uint8 image, H x W or H x W x C, not {image.dtype} of shape {image.shape}")


def _check_scale(scale: int) -> None:
    if not isinstance(scale, int | np.integer) or not 1 <= scale <= _MAX_TERM:
        raise ValueError(f"scale {scale!r} is not an integer from 1 to {_MAX_TERM}")
