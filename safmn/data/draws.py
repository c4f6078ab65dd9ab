"""Which places a batch of patches is taken from: what `training.draw` chooses between.

A draw is made from the sizes of the LR images, and says for each iteration which images and where in them; always the
same for the same seed, and whatever was drawn before.
"""

from collections.abc import Sequence

import numpy as np

from safmn.errors import UserError

HR_SIDE, HR_STEP = 480, 240  # HR pixels; of the authors' sub-images
ENLARGED = 10  # times that each sub-image is in a round
_SHUFFLE = 0x73687566666C65  # sets the order of a round apart from other draws with the same seed ("shuffle" in ASCII)

Places = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Image, row and column of each patch of a batch, int64."""


class Area:
    """Every position of a patch in every image is equally likely.

    Args:
        shapes: LR height and width of each image, none below `side`.
        patch: side of a patch in LR pixels.
        scale: HR size / LR size.
        seed: of the draw.
    """

    what = "an HR patch"  # what an image must not be smaller than
    instead = "use LR patches of at most {least}"

    def __init__(self, shapes: Sequence[tuple[int, int]], patch: int, scale: int, seed: int) -> None:
        rows, self._columns = (np.array(sides, np.int64) - patch + 1 for sides in zip(*shapes, strict=True))
        self._positions = rows * self._columns  # an image
        self._end = np.cumsum(self._positions)

    @staticmethod
    def side(patch: int, scale: int) -> int:
        """The smallest side of an LR image that can be drawn from, in pixels."""
        return patch

    def places(self, iteration: int, words: np.ndarray) -> Places:
        """From a random 64-bit word for each patch; the iteration makes no difference."""
        # A remainder favours small values by less than positions / 2**64: 1 part in 10**10 on all of DF2K.
        position = (words % np.uint64(self._end[-1])).astype(np.int64)
        image = np.searchsorted(self._end, position, side="right")
        position -= self._end[image] - self._positions[image]
        return image, position // self._columns[image], position % self._columns[image]


class Subimages:
    """As the authors' trainer (BasicSR) draws: one patch from each of a shuffled list of overlapping sub-images.

    Images are cut into squares of 480 HR pixels, one each 240, and where a row or column of them leaves something over,
    one more at its end: 139,995 from DF2K. A round is all of them ten times, shuffled; batches take them one after the
    other, without replacement, and a patch lies anywhere in its sub-image with equal chances. Places near the edges of
    an image are therefore rarer than in its middle.

    Args: as `Area`.
    """

    what = "a sub-image"
    instead = "take training.draw: area"

    def __init__(self, shapes: Sequence[tuple[int, int]], patch: int, scale: int, seed: int) -> None:
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
        self._shuffled: tuple[int, np.ndarray] | None = None

    @staticmethod
    def side(patch: int, scale: int) -> int:
        """The side of a sub-image in LR pixels; UserError where a patch is larger."""
        side = HR_SIDE // scale
        if patch > side:
            raise UserError(
                f"training.patch: {patch} is larger than a sub-image, which has {side} LR pixels a side at x{scale}: "
                "lower it, or take training.draw: area"
            )
        return side

    def places(self, iteration: int, words: np.ndarray) -> Places:
        """The next sub-images after those of the iterations before; a random 64-bit word places each patch."""
        length = ENLARGED * len(self.cuts)
        rounds, at = np.divmod(iteration * len(words) + np.arange(len(words)), length)
        chosen = np.empty(len(words), np.int64)
        for number in np.unique(rounds):
            here = rounds == number
            chosen[here] = self._order(int(number))[at[here]] % len(self.cuts)
        image, top, left = self.cuts[chosen].T
        position = (words % np.uint64(self._free**2)).astype(np.int64)
        return image, top + position // self._free, left + position % self._free

    def _order(self, number: int) -> np.ndarray:
        """The numbers from 0 to the length of a round, shuffled for round `number`."""
        known = self._shuffled
        if known is None or known[0] != number:
            key, counter = np.array([self._seed, number], np.uint64), np.array([0, 0, 0, _SHUFFLE], np.uint64)
            words = np.random.Philox(key=key, counter=counter).random_raw(ENLARGED * len(self.cuts))
            known = self._shuffled = number, np.argsort(words, kind="stable")
        return known[1]


def starts(length: int, side: int, step: int) -> list[int]:
    """Where sub-images of `side` begin along `length`: each `step`, and at its end where they leave something over."""
    regular = list(range(0, length - side + 1, step))
    return regular if regular[-1] + side == length else [*regular, length - side]


DRAWS = {"area": Area, "subimages": Subimages}
