"""A picture too large for the device's memory, enlarged piece by piece; and the networks with which that goes wrong."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from safmn.errors import UserError

Image = NDArray[np.uint8]
GRID = 8
"""Pieces start and end at multiples of this, so that SAFM's pooling (to 1/8) cuts the whole picture's cells."""


def enlarge(
    lr: Image,
    tile: int,
    overlap: int,
    super_resolve: Callable[[Image], Image],
    on_progress: Callable[[int, int], None] | None = None,
) -> Image:
    """Enlarges uint8 h x w x 3 in tiles of about `tile` x `tile` LR pixels and puts them together.

    Each tile is enlarged with `overlap` LR pixels of its surroundings, which are then cut off. What lies inside is what
    the whole picture would give as far as the network sees no further than the overlap; beyond it, a value here and
    there differs by a grey level or two, unless `sees_everything`: then many differ, and by tens.
    """
    if tile < 16 or overlap < 0:
        raise UserError(f"a tile of {tile} pixels with an overlap of {overlap} cannot be used: take at least 16 and 0")
    pieces = [(rows, columns) for rows in _spans(lr.shape[0], tile) for columns in _spans(lr.shape[1], tile)]
    result: Image | None = None
    for done, (rows, columns) in enumerate(pieces, start=1):
        top, bottom = _widen(rows, overlap, lr.shape[0])
        left, right = _widen(columns, overlap, lr.shape[1])
        enlarged = super_resolve(lr[top:bottom, left:right])
        scale = enlarged.shape[0] // (bottom - top)
        if result is None:
            result = np.empty((lr.shape[0] * scale, lr.shape[1] * scale, 3), np.uint8)
        result[rows[0] * scale : rows[1] * scale, columns[0] * scale : columns[1] * scale] = enlarged[
            (rows[0] - top) * scale : (rows[1] - top) * scale, (columns[0] - left) * scale : (columns[1] - left) * scale
        ]
        if on_progress is not None:
            on_progress(done, len(pieces))
    assert result is not None
    return result


STRIP = 16, 640
"""Height and width of the picture that shows whether a network looks at the whole: a far end is far, at little cost."""
CUT, NEAR = 512, 64
"""The width that a tile would see of it, and the columns at the other end that are compared: 448 pixels lie between."""
FAR, SIZE = 1e-6, 1e-4
"""Changes in [0, 1] that are no rounding errors: where sizes are equal, equal inputs give equal sums; else nearly."""


def sees_everything(network: nn.Module, channels: str) -> str:
    """Why a network's values depend on the whole picture, however far away; "" if they do not.

    It is asked of the network itself: do values at one end of a long strip change when the other end changes, or is cut
    off? The modules are looked at as well, since weights may hide today what they do with another picture.

    Args:
        network: takes and returns N x C x H x W in [0, 1]; in eval mode.
        channels: "RGB" or "Y", what it takes.
    """
    for name, module in network.named_modules():
        if _is_global(module):
            return f"{type(module).__name__} in {name or 'the network'}"
    device = next(itertools.chain(network.parameters(), network.buffers()), torch.empty(0)).device
    draw = torch.Generator().manual_seed(0)
    # Noise that becomes brighter to the right, so that a part of it has other statistics than the whole.
    noise = torch.rand(1, 1 if channels == "Y" else 3, *STRIP, generator=draw)
    strip = 0.1 + 0.4 * noise + 0.4 * torch.linspace(0, 1, STRIP[1])
    changed = strip.clone()
    changed[..., CUT:] = (torch.rand(*changed[..., CUT:].shape, generator=draw) > 0.3).float()
    try:
        with torch.no_grad():
            whole, other, cut = (network(each.to(device)) for each in (strip, changed, strip[..., :CUT].contiguous()))
    except (RuntimeError, ValueError, TypeError):  # such a strip is not for this network
        return ""
    near = NEAR * (whole.shape[-1] // STRIP[1])
    unit = max(1.0, float(whole.abs().max()))
    tried = (("far pixels change its values", other, FAR), ("the picture's size changes its values", cut, SIZE))
    for reason, result, felt in tried:
        if float((whole[..., :near] - result[..., :near]).abs().max()) > felt * unit:
            return f"tried on a strip of {STRIP[1]} pixels: {reason}"
    return ""


def _is_global(module: nn.Module) -> bool:
    """Pooling to a fixed size, and statistics over the picture."""
    adaptive = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)
    if isinstance(module, adaptive):
        size = module.output_size
        return any(each is not None for each in (size if isinstance(size, tuple | list) else (size,)))
    if isinstance(module, nn.InstanceNorm2d):
        return not module.track_running_stats
    return isinstance(module, nn.GroupNorm)


def _spans(length: int, tile: int) -> Iterator[tuple[int, int]]:
    """[start, end) of pieces of nearly equal length, at most about `tile`; inner limits are multiples of GRID."""
    count = -(-length // tile)
    limits = [round(length * index / count / GRID) * GRID for index in range(count)] + [length]
    return ((start, end) for start, end in itertools.pairwise(limits) if end > start)


def _widen(span: tuple[int, int], overlap: int, length: int) -> tuple[int, int]:
    start = max(0, (span[0] - overlap) // GRID * GRID)
    end = min(length, -(-(span[1] + overlap) // GRID) * GRID)
    return start, end
