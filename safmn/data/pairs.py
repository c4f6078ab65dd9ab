"""Read folders of images as pairs of HR and LR.

`layouts` finds the files. Where there is no LR for the scale, it is made from HR by `bicubic.downscale`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safmn.data import agreement, bicubic, images, layouts
from safmn.data.images import Pixels
from safmn.errors import UserError


@dataclass(frozen=True)
class Pair:
    """One image.

    Attributes:
        name: of the HR file, without suffix, in NFC.
        hr: the HR file.
        lr: the LR file; None where LR is made.
        border: how the picture is continued beyond its edge where LR is made: "symmetric" or "clamped".
    """

    name: str
    hr: Path
    lr: Path | None = None
    border: str = "symmetric"

    @property
    def origin(self) -> Literal["file", "bicubic"]:
        """Return where LR comes from."""
        return "bicubic" if self.lr is None else "file"


@dataclass(frozen=True)
class Found:
    """The pairs of a folder.

    Attributes:
        pairs: sorted by name.
        lr_folder: of the LR files, as seen from HR ("LR_bicubic/X4", "." for the HR folder); "" where LR is made.
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

    lr: Pixels
    hr: Pixels
    channels: int
    doubt: str = ""


def survey(folder: Path | str, scale: int, border: str = "symmetric") -> Found:
    """Find the pairs of a folder; raise UserError as `layouts.arrange` does."""
    found = layouts.arrange(Path(folder), scale)
    pairs = tuple(Pair(name, hr, lr, border) for name, (hr, lr) in found.files.items())
    return Found(pairs, found.lr_folder, found.remarks)


def find(folder: Path | str, scale: int) -> list[Pair]:
    """Return the pairs of a folder, sorted by name; raise UserError as `layouts.arrange` does."""
    return list(survey(folder, scale).pairs)


def of_files(files: list[Path], border: str = "symmetric") -> Found:
    """Return pairs of HR files, sorted by name, LR made; raise UserError where two have one name."""
    return Found(tuple(Pair(name, hr, None, border) for name, hr in sorted(layouts.by_name(files).items())))


def load(pair: Pair, scale: int) -> Loaded:
    """Decode one pair; raise UserError where a file cannot be read or the sizes do not fit."""
    hr, channels = images.decode(pair.hr)
    lr = None if pair.lr is None else images.read(pair.lr)
    height, width = lr_size(pair, scale, _sides(hr), None if lr is None else _sides(lr))
    hr = hr[: height * scale, : width * scale]
    if lr is None:
        return Loaded(bicubic.downscale(hr, scale, pair.border), hr, channels)
    return Loaded(lr, hr, channels, agreement.compare(lr, hr, scale).doubt)


def read_pair(pair: Pair, scale: int) -> tuple[Pixels, Pixels]:
    """Decode LR and HR of one pair; see `load`."""
    loaded = load(pair, scale)
    return loaded.lr, loaded.hr


def lr_size(pair: Pair, scale: int, hr: tuple[int, int], lr: tuple[int, int] | None) -> tuple[int, int]:
    """Return (height, width) of the LR image.

    Args:
        pair: for messages.
        scale: HR size / LR size.
        hr: (height, width) of the HR file; it may exceed LR size x scale by less than the scale, which is cropped.
        lr: the same of the LR file; None where LR is made.

    Raises:
        UserError: the sizes do not fit.
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


def _sides(image: Pixels) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
