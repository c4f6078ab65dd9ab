"""Pixels of datasets: as packed, from the headers of their images, or from known facts if they are absent."""

from collections.abc import Iterable
from dataclasses import dataclass

from safmn import layout
from safmn.data import pairs, sources
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
"""Dataset -> mean HR pixels of an image, for datasets that are absent."""


@dataclass(frozen=True)
class Size:
    """The images of a dataset, or of a selection, at one scale.

    Attributes:
        shapes: (LR, HR) pixels of each image.
        origin: "packed", "headers" (of its files), "facts" (about an absent dataset) or "unknown".
    """

    shapes: list[tuple[int, int]]
    origin: str

    @property
    def hr_pixels(self) -> int:
        """The number of HR pixels."""
        return sum(hr for _, hr in self.shapes)

    @property
    def bytes(self) -> int:
        """The packed size: LR and HR, three channels of uint8."""
        return 3 * sum(lr + hr for lr, hr in self.shapes)


class Sizes:
    """Sizes of a study's datasets, each read once."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._known: dict[tuple[str, int], Size] = {}

    def dataset(self, name: str, scale: int) -> Size:
        """Return the size of a whole dataset, which is what is packed."""
        if (name, scale) not in self._known:
            self._known[name, scale] = self._read(name, scale)
        return self._known[name, scale]

    def selection(self, text: str, scale: int) -> Size:
        """Return the size of a selection such as "BSDS200[10:]"."""
        name, part = sources.parse_selection(text)
        whole = self.dataset(name, scale)
        return Size(whole.shapes[part], whole.origin)

    def selections(self, texts: Iterable[str], scale: int) -> list[Size]:
        """Return the sizes of selections, such as those of `data.test`."""
        return [self.selection(text, scale) for text in texts]

    def _read(self, name: str, scale: int) -> Size:
        study = self._study
        folder = study.results / layout.packed(name, scale)
        if (folder / layout.PIXELS).exists():
            try:
                packed = open_pairs(folder, scale)
                heights_and_widths = [(packed.lr(i).shape, packed.hr(i).shape) for i in range(len(packed))]
                return Size([(lr[0] * lr[1], hr[0] * hr[1]) for lr, hr in heights_and_widths], "packed")
            except UserError:
                pass  # it is packed again when it is needed
        try:
            located = sources.select(name, scale, study.roots, study.data.folders).pairs
            return Size([_of_pair(pair, scale) for pair in located], "headers")
        except UserError:
            known = sources.DATASETS.get(name)
            if known is None or name not in TYPICAL:
                return Size([], "unknown")
            return Size([(TYPICAL[name] // scale**2, TYPICAL[name])] * known.images, "facts")


def _of_pair(pair: pairs.Pair, scale: int) -> tuple[int, int]:
    height, width = pairs.lr_size(pair, scale)
    return height * width, height * width * scale**2
