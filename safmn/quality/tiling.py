"""A picture too large for the device's memory, enlarged piece by piece."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

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
    there differs by a grey level or two.
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


def _spans(length: int, tile: int) -> Iterator[tuple[int, int]]:
    """[start, end) of pieces of nearly equal length, at most about `tile`; inner limits are multiples of GRID."""
    count = -(-length // tile)
    limits = [round(length * index / count / GRID) * GRID for index in range(count)] + [length]
    return ((start, end) for start, end in itertools.pairwise(limits) if end > start)


def _widen(span: tuple[int, int], overlap: int, length: int) -> tuple[int, int]:
    start = max(0, (span[0] - overlap) // GRID * GRID)
    end = min(length, -(-(span[1] + overlap) // GRID) * GRID)
    return start, end
