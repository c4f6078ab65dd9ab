"""Where to look: one image of a benchmark and a square in it, the same for every network that is compared."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safmn.data import colour, packed
from safmn.data.pairs import FolderPairs
from safmn.errors import UserError
from safmn.quality import evaluation

MARGIN = 8  # LR pixels that a square keeps from the border where the choice is free and the image is large enough


@dataclass(frozen=True)
class Square:
    """A square of pixels: `left` and `top` of its first pixel, and the `size` of its side."""

    left: int
    top: int
    size: int

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the part of H x W (x C) inside the square."""
        return image[self.top : self.top + self.size, self.left : self.left + self.size]

    def shifted(self, left: int, top: int) -> "Square":
        """Return the same square as seen from an origin at (left, top)."""
        return Square(self.left - left, self.top - top, self.size)


@dataclass(frozen=True)
class Scene:
    """One image and a square in its HR.

    Attributes:
        dataset: the benchmark's name.
        image: the image's name.
        pairs: the benchmark reduced to this image, as `safmn.quality.evaluation` takes it.
        lr: uint8 h x w x 3 RGB.
        hr: uint8 H x W x 3 RGB, LR size x scale.
        crop: the square, in HR pixels.
        scale: HR size / LR size.
    """

    dataset: str
    image: str
    pairs: packed.PackedPairs | FolderPairs
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]
    crop: Square
    scale: int


def open_scene(
    data: str | Path, scale: int, image: str | None = None, corner: tuple[int, int] | None = None, size: int = 96
) -> Scene:
    """Open a benchmark (as `safmn evaluate --data` takes it) and choose image and square.

    Args:
        data: a packed dataset or a folder; `DIR[1:4:2]` takes a part.
        scale: HR size / LR size.
        image: its name; the first one where None.
        corner: left and top of the square in HR pixels; where LR has most texture if None.
        size: side of the square in HR pixels; at most the image's shorter side.

    Raises:
        UserError: the image does not exist, or the square is not inside it.
    """
    pairs = packed.open_pairs(Path(data), scale)
    names = list(pairs.names)
    if image is not None and image not in names:
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise UserError(f"{data} has no image {image!r}: choose one of {some}")
    place = 0 if image is None else names.index(image)
    one = pairs.select(slice(place, place + 1))
    lr = np.ascontiguousarray(one.lr(0))
    hr = np.ascontiguousarray(evaluation.fit_pair(lr, one.hr(0), scale, names[place]))
    size = min(size, *hr.shape[:2])
    if corner is None:
        crop = richest(lr, scale, size)
    else:
        crop = Square(*corner, size)
        if crop.of(hr).shape[:2] != (size, size):
            raise UserError(
                f"a square of {size} at {corner[0]},{corner[1]} is not inside {names[place]}, which has "
                f"{hr.shape[1]}x{hr.shape[0]} HR pixels: move it"
            )
    return Scene(dataset_of(data), names[place], one, lr, hr, crop, scale)


def richest(lr: NDArray[np.uint8], scale: int, size: int) -> Square:
    """Return the square of `size` HR pixels (on a grid of LR pixels) where LR has most texture, the first of equals.

    Texture is the magnitude of the gradient of Y, which Figure 2's detector measures, too. The choice depends on no
    network, so it favours none. It keeps away from the border, where all networks lack surroundings.
    """
    plane = colour.luma(lr)
    texture = np.hypot(*(np.diff(plane, axis=axis, append=np.take(plane, [-1], axis)) for axis in (0, 1)))
    sums = np.pad(texture, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    side = size // scale
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    rows, columns = (_away_from_border((length * scale - size) // scale) for length in lr.shape[:2])
    chosen = inside[rows, columns]
    top, left = np.unravel_index(int(np.argmax(chosen)), chosen.shape)
    return Square((columns.start + int(left)) * scale, (rows.start + int(top)) * scale, size)


def _away_from_border(last: int) -> slice:
    """Return the first pixels, of 0 to `last`, that a square may begin at."""
    margin = min(MARGIN, last // 2)
    return slice(margin, last - margin + 1)


def dataset_of(data: str | Path) -> str:
    """Return the name of a benchmark by its folder: `.../Set5/x4[:2]`, the packed dataset of Set5, is `Set5`."""
    path = Path(str(data).partition("[")[0]).resolve()
    return path.parent.name if re.fullmatch("x[234]", path.name) else path.name
