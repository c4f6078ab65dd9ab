"""A picture too large for the device's memory, enlarged in tiles; and which networks give other values in tiles."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from safmn.errors import UserError
from safmn.quality.evaluation import device_of

Image = NDArray[np.uint8]
GRID = 8
"""Tiles start and end at multiples of this, so that SAFM's pooling (to 1/8) has the cells of the whole picture."""
MIN_TILE = 16


def enlarge(
    lr: Image,
    tile: int,
    overlap: int,
    super_resolve: Callable[[Image], Image],
    on_progress: Callable[[int, int], None] | None = None,
) -> Image:
    """Enlarge a picture in tiles and join them.

    Within its tile, a pixel has the value of the whole picture as far as the network sees no further than the overlap.
    Beyond that some values differ by a grey level or two, unless `sees_everything`: then many differ, and by tens.

    Args:
        lr: uint8 h x w x 3.
        tile: side of a tile in LR pixels, about; at least 16.
        overlap: LR pixels around a tile that the network also gets, and that are cut off afterwards.
        super_resolve: enlarges one tile.
        on_progress: called with (tiles done, tiles in all).

    Raises:
        UserError: tile or overlap is out of range.
    """
    if tile < MIN_TILE or overlap < 0:
        raise UserError(
            f"a tile of {tile} pixels with an overlap of {overlap} cannot be used: take at least {MIN_TILE} and 0"
        )
    height, width = lr.shape[:2]
    tiles = list(itertools.product(_spans(height, tile), _spans(width, tile)))
    result: Image = np.empty(0, np.uint8)
    for done, ((top, bottom), (left, right)) in enumerate(tiles, start=1):
        first_row, last_row = _widen(top, bottom, overlap, height)
        first_column, last_column = _widen(left, right, overlap, width)
        sr = super_resolve(lr[first_row:last_row, first_column:last_column])
        scale = sr.shape[0] // (last_row - first_row)
        if not result.size:
            result = np.empty((height * scale, width * scale, 3), np.uint8)
        result[top * scale : bottom * scale, left * scale : right * scale] = sr[
            (top - first_row) * scale : (bottom - first_row) * scale,
            (left - first_column) * scale : (right - first_column) * scale,
        ]
        if on_progress is not None:
            on_progress(done, len(tiles))
    return result


STRIP = 16, 640
"""Height and width of the picture that shows whether a network looks at the whole: a far end is far, at little cost."""
CUT, NEAR = 512, 64
"""The width that a tile would see of it, and the columns at the other end that are compared: 448 pixels lie between."""
FAR, SIZE = 1e-6, 1e-4
"""Changes in [0, 1] that are no rounding errors: where sizes are equal, equal inputs give equal sums; else nearly."""


def sees_everything(network: nn.Module, channels: str) -> str:
    """Say why a network's values depend on the whole picture, however far away, or on where a tile starts; else "".

    The network itself is tested: do values at one end of a long strip change when the other end changes, or is cut off?
    Do those in the middle change when the strip starts GRID pixels later, as with windows or strides of 12 or 16?
    The modules are looked at as well, since with the present weights a dependence may not show on this strip.

    Args:
        network: takes and returns N x C x H x W in [0, 1]; in eval mode.
        channels: "RGB" or "Y", what it takes.
    """
    for name, module in network.named_modules():
        if _is_global(module):
            return f"{type(module).__name__} in {name or 'the network'}"
    draw = torch.Generator().manual_seed(0)
    # Noise that becomes brighter to the right, so that a part of it has other statistics than the whole.
    noise = torch.rand(1, 1 if channels == "Y" else 3, *STRIP, generator=draw)
    strip = 0.1 + 0.4 * noise + 0.4 * torch.linspace(0, 1, STRIP[1])
    changed = strip.clone()
    changed[..., CUT:] = (torch.rand(*changed[..., CUT:].shape, generator=draw) > 0.3).float()

    def run(image: torch.Tensor) -> torch.Tensor | None:
        try:
            with torch.no_grad():
                made: torch.Tensor = network(image.contiguous().to(device_of(network)))
                return made
        except (RuntimeError, ValueError, TypeError):  # such a strip is not for this network
            return None

    whole, middle = run(strip), STRIP[1] // 2
    if whole is None:
        return ""
    unit, scale = max(1.0, float(whole.abs().max())), whole.shape[-1] // STRIP[1]
    for reason, part, here, there, noticeable in (
        ("far pixels change its values", changed, 0, 0, FAR),
        ("the picture's size changes its values", strip[..., :CUT], 0, 0, SIZE),
        (f"a start {GRID} pixels later changes its values", strip[..., GRID:], middle, middle - GRID, SIZE),
    ):
        result = run(part)
        if result is None:
            continue
        first, second = (image[..., at * scale : (at + NEAR) * scale] for image, at in ((whole, here), (result, there)))
        if float((first - second).abs().max()) > noticeable * unit:
            return f"tried on a strip of {STRIP[1]} pixels: {reason}"
    return ""


def _is_global(module: nn.Module) -> bool:
    """Return whether a module pools to a fixed size, or computes statistics over the picture."""
    adaptive = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)
    if isinstance(module, adaptive):
        size = module.output_size
        return any(side is not None for side in (size if isinstance(size, tuple | list) else (size,)))
    if isinstance(module, nn.InstanceNorm2d):
        return not module.track_running_stats
    return isinstance(module, nn.GroupNorm)


def _spans(length: int, tile: int) -> Iterator[tuple[int, int]]:
    """Yield [start, end) of tiles of nearly equal length, at most about `tile`; inner limits are multiples of GRID."""
    count = -(-length // tile)
    limits = [round(length * index / count / GRID) * GRID for index in range(count)] + [length]
    return ((start, end) for start, end in itertools.pairwise(limits) if end > start)


def _widen(start: int, end: int, overlap: int, length: int) -> tuple[int, int]:
    return max(0, (start - overlap) // GRID * GRID), min(length, -(-(end + overlap) // GRID) * GRID)
