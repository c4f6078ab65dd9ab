"""Draw the places of a batch of patches; `training.draw` chooses the kind of draw.

A draw knows the sizes of the LR images and returns the images and places for an iteration. They depend on the seed and
the iteration alone, not on what was drawn before.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safmn.errors import UserError

HR_SIDE, HR_STEP = 480, 240  # of the authors' sub-images, HR pixels
ENLARGED = 10  # number of times that each sub-image is in a round
_SHUFFLE = 0x73687566666C65  # makes the order of a round differ from other draws of the seed ("shuffle" in ASCII)

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]
Shapes = Sequence[tuple[int, ...]]
Places = tuple[Integers, Integers, Integers]
"""Image, row and column (LR pixels) of each patch of a batch."""


class Area:
    """All positions of a patch in all images are equally likely.

    Args:
        shapes: LR height and width of each image, none below `side`.
        patch: side of a patch in LR pixels.
        scale: HR size / LR size.
        seed: of the draw.
    """

    what = "an HR patch"  # an image must not be smaller than that
    instead = "use LR patches of at most {least}"  # advice if it is; its smallest side is filled in

    def __init__(self, shapes: Shapes, patch: int, scale: int, seed: int) -> None:
        rows, self._columns = (np.array(sides, np.int64) - patch + 1 for sides in zip(*shapes, strict=True))
        self._positions = rows * self._columns  # of each image
        self._end = np.cumsum(self._positions)

    @staticmethod
    def side(patch: int, scale: int) -> int:
        """Return the smallest side of an LR image that can be drawn from, in pixels."""
        return patch

    def places(self, iteration: int, words: Words) -> Places:
        """Return the places of a batch, from one random 64-bit word for each patch."""
        # A remainder favours small values by less than positions / 2**64: 1 part in 10**10 on all of DF2K.
        position = (words % np.uint64(self._end[-1])).astype(np.int64)
        image = np.searchsorted(self._end, position, side="right")
        position -= self._end[image] - self._positions[image]
        return image, position // self._columns[image], position % self._columns[image]


class Subimages:
    """One patch from each of a shuffled list of overlapping sub-images, as the authors' trainer (BasicSR) draws.

    Images are cut into squares of 480 HR pixels with a step of 240, and one more at the end of a row or column that is
    not covered: 139,995 from DF2K. A round is all of them ten times, shuffled. Batches take them in turn, without
    replacement; all places of a patch in its sub-image are equally likely. Places near the edges of an image are
    therefore rarer than in its middle. Arguments and methods are those of `Area`.
    """

    what = "a sub-image"
    instead = "take training.draw: area"

    def __init__(self, shapes: Shapes, patch: int, scale: int, seed: int) -> None:
        side, self._seed = self.side(patch, scale), seed
        self._free = side - patch + 1
        self.cuts = np.array(
            [
                (image, top, left)
                for image, (height, width) in enumerate(shapes)
                for top in starts(height, side, HR_STEP // scale)
                for left in starts(width, side, HR_STEP // scale)
            ],
            np.int64,
        )
        """Image, row and column of each sub-image in LR pixels."""
        self._shuffled: tuple[int, Integers] | None = None

    @staticmethod
    def side(patch: int, scale: int) -> int:
        """Return the side of a sub-image in LR pixels; raise UserError where a patch is larger."""
        side = HR_SIDE // scale
        if patch > side:
            raise UserError(
                f"training.patch: {patch} is larger than a sub-image, which has {side} LR pixels a side at x{scale}: "
                "lower it, or take training.draw: area"
            )
        return side

    def places(self, iteration: int, words: Words) -> Places:
        """Return places in the sub-images that follow those of the iterations before."""
        length = ENLARGED * len(self.cuts)
        rounds, at = np.divmod(iteration * len(words) + np.arange(len(words)), length)
        chosen = np.empty(len(words), np.int64)
        for number in np.unique(rounds):
            here = rounds == number
            chosen[here] = self._order(int(number))[at[here]] % len(self.cuts)
        image, top, left = self.cuts[chosen].T
        position = (words % np.uint64(self._free**2)).astype(np.int64)
        return image, top + position // self._free, left + position % self._free

    def _order(self, number: int) -> Integers:
        """Return the numbers from 0 to the length of a round, shuffled for round `number`."""
        if self._shuffled is None or self._shuffled[0] != number:
            key, counter = np.array([self._seed, number], np.uint64), np.array([0, 0, 0, _SHUFFLE], np.uint64)
            words = np.random.Philox(key=key, counter=counter).random_raw(ENLARGED * len(self.cuts))
            self._shuffled = number, np.argsort(words, kind="stable")
        return self._shuffled[1]


def starts(length: int, side: int, step: int) -> list[int]:
    """Return where sub-images of `side` begin along `length`: every `step`, and at its end if that is not covered."""
    regular = list(range(0, length - side + 1, step))
    return regular if regular[-1] + side == length else [*regular, length - side]


DRAWS: dict[str, type[Area | Subimages]] = {"area": Area, "subimages": Subimages}
