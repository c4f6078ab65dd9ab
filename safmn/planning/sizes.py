"""How many pixels a dataset has: as packed, by its images' headers, or by known facts where it is absent."""

from dataclasses import dataclass
from typing import Any

from safmn import layout
from safmn.data import images, pairs, sources
from safmn.data.packed import open_pairs
from safmn.errors import UserError
from safmn.study import Study

TYPICAL = {
    "Set5": 113_491,
    "Set14": 230_203,
    "B100": 481 * 321,
    "BSDS200": 481 * 321,
    "T91": 58_853,
    "Urban100": 770_000,
    "Manga109": 826 * 1169,
    # Together the 31 GB of decoded HR that DF2K is known for.
    "DIV2K": 2_800_000,
    "DIV2K_val": 2_800_000,
    "Flickr2K": 3_050_000,
}
"""Dataset -> mean HR pixels of an image, where it cannot be looked at."""


@dataclass(frozen=True)
class Size:
    """The images of a dataset, or of a selection, at one scale.

    Attributes:
        shapes: (LR, HR) pixels of each image.
        origin: "packed", "headers" (of its files), "facts" (about a dataset that is not here), "unknown".
        remark: why the images themselves could not be looked at; "" if they could.
    """

    shapes: list[tuple[int, int]]
    origin: str
    remark: str = ""

    @property
    def hr_pixels(self) -> int:
        return sum(hr for _, hr in self.shapes)

    @property
    def bytes(self) -> int:
        """Packed: uint8, three channels, LR and HR."""
        return 3 * sum(lr + hr for lr, hr in self.shapes)

    def select(self, part: slice) -> "Size":
        """The images of a slice."""
        return Size(self.shapes[part], self.origin, self.remark)


class Sizes:
    """Sizes of a study's datasets, each looked at once."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._known: dict[tuple[str, int], Size] = {}

    def dataset(self, name: str, scale: int) -> Size:
        """All images of a dataset, which is what is packed."""
        if (name, scale) not in self._known:
            self._known[name, scale] = self._look(name, scale)
        return self._known[name, scale]

    def selection(self, text: str, scale: int) -> Size:
        """The images of a selection such as "BSDS200[10:]"."""
        name, part = sources.parse_selection(text)
        return self.dataset(name, scale).select(part)

    def selections(self, use: str, scale: int) -> list[Size]:
        """Those of `data.train`, `data.validation` or `data.test`."""
        return [self.selection(text, scale) for text in self._study.selections(use)]

    def _look(self, name: str, scale: int) -> Size:
        place = self._study.results / layout.packed(name, scale)
        if (place / layout.PIXELS).exists():
            try:
                packed: Any = open_pairs(place, scale)
                shapes = [(_pixels(packed.lr(i)), _pixels(packed.hr(i))) for i in range(len(packed))]
                return Size(shapes, "packed")
            except UserError:
                pass  # it is packed again when it is needed
        try:
            found = sources.locate(name, self._study.roots, self._study.data.folders).pairs(scale)
            return Size([_of_pair(pair, scale) for pair in found], "headers")
        except UserError as error:
            known = sources.DATASETS.get(name)
            if known is None or name not in TYPICAL:
                return Size([], "unknown", str(error))
            return Size([(TYPICAL[name] // scale**2, TYPICAL[name])] * known.images, "facts", str(error))


def _pixels(image: Any) -> int:
    return image.shape[0] * image.shape[1]


def _of_pair(pair: pairs.Pair, scale: int) -> tuple[int, int]:
    lr_file = None if pair.lr is None else images.size(pair.lr)
    height, width = pairs.lr_size(pair, scale, images.size(pair.hr), lr_file)
    return height * width, height * width * scale**2
