"""Folders of images as pairs of HR and LR: which files belong together, and their pixels.

`layouts` finds the files. Where there is no LR for the scale, it is made from HR by MATLAB's bicubic
(`bicubic.downscale`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from safmn.data import agreement, bicubic, images, layouts
from safmn.data.layouts import list_images
from safmn.errors import UserError

__all__ = ["Found", "Loaded", "Pair", "find", "list_images", "load", "lr_size", "of_files", "survey"]


@dataclass(frozen=True)
class Pair:
    """One image: its name (the HR file's, without suffix, in NFC), its HR file, its LR file or None where LR is made.

    `border` is how the picture goes on beyond its edge where LR is made: "symmetric" or "clamped".
    """

    name: str
    hr: Path
    lr: Path | None = None
    border: str = "symmetric"

    @property
    def origin(self) -> str:
        """Where LR comes from: "file" or "bicubic"."""
        return "bicubic" if self.lr is None else "file"


@dataclass(frozen=True)
class Found:
    """The pairs of a folder.

    Attributes:
        pairs: sorted by name.
        lr_folder: where LR files lie, as seen from HR ("LR_bicubic/X4", "." for the HR folder); "" where LR is made.
        remarks: what looks like LR and is not used, a sentence each.
    """

    pairs: tuple[Pair, ...]
    lr_folder: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """One pair, decoded.

    Attributes:
        lr: uint8 h x w x 3 RGB.
        hr: uint8 (h * scale) x (w * scale) x 3 RGB: cropped at the bottom and right to LR size x scale; where LR is
            made, to a multiple of the scale first.
        channels: of the HR file, 1 (grey) or 3.
        doubt: why HR and LR do not seem to belong together; "" if they do.
    """

    lr: np.ndarray
    hr: np.ndarray
    channels: int
    doubt: str = ""


def survey(folder: Path | str, scale: int, border: str = "symmetric") -> Found:
    """What a folder holds; raises UserError as `layouts.arrange` does."""
    found = layouts.arrange(Path(folder), scale)
    pairs = tuple(Pair(name, hr, lr, border) for name, (hr, lr) in found.files.items())
    return Found(pairs, found.lr_folder, found.remarks)


def find(folder: Path | str, scale: int) -> list[Pair]:
    """The pairs of a folder, sorted by name; raises UserError as `layouts.arrange` does."""
    return list(survey(folder, scale).pairs)


def of_files(files: list[Path], border: str = "symmetric") -> Found:
    """Pairs of these HR files, sorted by name, LR made; raises UserError where two have one name."""
    return Found(tuple(Pair(name, hr, None, border) for name, hr in sorted(layouts.by_name(files).items())))


def load(pair: Pair, scale: int) -> Loaded:
    """Decodes one pair; UserError, naming the files, where one cannot be read or their sizes do not fit."""
    hr, channels = images.decode(pair.hr)
    lr = None if pair.lr is None else images.read(pair.lr)
    height, width = lr_size(pair, scale, hr.shape[:2], None if lr is None else lr.shape[:2])
    hr = hr[: height * scale, : width * scale]
    if lr is None:
        return Loaded(bicubic.downscale(hr, scale, pair.border), hr, channels)
    return Loaded(lr, hr, channels, agreement.compare(lr, hr, scale).doubt)


def read_pair(pair: Pair, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """LR and HR of one pair; see `load`."""
    loaded = load(pair, scale)
    return loaded.lr, loaded.hr


def lr_size(pair: Pair, scale: int, hr: tuple[int, int], lr: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of the LR image, given both files' sizes; `lr` is None where LR is made.

    An LR side times the scale may fall short of the HR side by less than the scale, which the crop takes away.
    """
    if lr is None:
        if min(hr) < scale:
            raise UserError(f"{pair.hr} is {hr[1]}x{hr[0]}, too small to be reduced {scale} times: remove it")
        return hr[0] // scale, hr[1] // scale
    if not layouts.fits(hr, lr, scale):
        raise UserError(
            f"{pair.lr} is {lr[1]}x{lr[0]}, but {pair.hr} is {hr[1]}x{hr[0]}, which is not {scale} times that: "
            "replace one of them"
        )
    return lr
