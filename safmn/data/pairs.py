"""Folders of images as pairs of HR and LR.

Folder layouts that are recognised:

- EDSR's: `HR/<name>.png` with `LR_bicubic/X4/<name>x4.png` beside it;
- DIV2K's: `<set>_HR/<name>.png` with `<set>_LR_bicubic/X4/<name>x4.png` beside it (also Flickr2K);
- either HR folder named directly;
- any folder of images, which are taken as HR.

Where there is no LR folder for the scale, LR is made from HR by MATLAB's bicubic (`bicubic.downscale`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from safmn.data import bicubic, images
from safmn.errors import UserError

_OTHER_PICTURES = (".tif", ".tiff", ".gif", ".jp2", ".ppm", ".pgm", ".exr", ".heic", ".avif")


@dataclass(frozen=True)
class Pair:
    """One image: its name (the HR file's, without suffix), its HR file, and its LR file or None where LR is made."""

    name: str
    hr: Path
    lr: Path | None = None

    @property
    def origin(self) -> str:
        """Where LR comes from: "file" or "bicubic"."""
        return "bicubic" if self.lr is None else "file"


def find(folder: Path | str, scale: int) -> list[Pair]:
    """The pairs of a folder, sorted by name.

    Raises:
        UserError: no such folder, no image in it, two images of one name, an image that the LR folder lacks, a format
            that is not read.
    """
    hr_folder, lr_folder = _folders(Path(folder), scale)
    return of_files(list_images(hr_folder), scale, lr_folder)


def of_files(files: list[Path], scale: int, lr_folder: Path | None = None) -> list[Pair]:
    """Pairs of these HR files, sorted by name; LR from `lr_folder` (`<name>x<scale>.<suffix>`), or made if it is None.

    Raises:
        UserError: two HR images of one name, or an image that `lr_folder` lacks.
    """
    by_name = _by_stem(files)
    if lr_folder is None:
        return [Pair(name, hr) for name, hr in sorted(by_name.items())]
    lr_by_name = _by_stem(list_images(lr_folder))
    pairs = []
    for name, hr in sorted(by_name.items()):
        lr = lr_by_name.get(f"{name}x{scale}")
        if lr is None:
            raise UserError(
                f"{lr_folder} lacks {name}x{scale}.png for {hr}: add it, or remove the folder and LR images are made"
            )
        pairs.append(Pair(name, hr, lr))
    return pairs


def read_pair(pair: Pair, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Decodes one pair.

    Returns:
        LR, uint8 h x w x 3, and HR, uint8 (h * scale) x (w * scale) x 3, both RGB. HR is cropped at the bottom and
        right to LR size x scale; where LR is made, to a multiple of the scale first.

    Raises:
        UserError: an image that cannot be read, or whose sizes do not fit; names the files.
    """
    hr = images.read(pair.hr)
    lr = None if pair.lr is None else images.read(pair.lr)
    lr_height, lr_width = lr_size(pair, scale, hr.shape[:2], None if lr is None else lr.shape[:2])
    hr = hr[: lr_height * scale, : lr_width * scale]
    if lr is None:
        lr = bicubic.downscale(hr, scale)
    return lr, hr


def lr_size(pair: Pair, scale: int, hr: tuple[int, int], lr: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of the LR image, given both files' sizes; `lr` is None where LR is made.

    An LR side times the scale may fall short of the HR side by less than the scale, which the crop takes away.
    """
    if lr is None:
        if min(hr) < scale:
            raise UserError(f"{pair.hr} is {hr[1]}x{hr[0]}, too small to be reduced {scale} times: remove it")
        return hr[0] // scale, hr[1] // scale
    if not all(0 <= large - small * scale < scale for large, small in zip(hr, lr, strict=True)):
        raise UserError(
            f"{pair.lr} is {lr[1]}x{lr[0]}, but {pair.hr} is {hr[1]}x{hr[0]}, which is not {scale} times that: "
            "replace one of them"
        )
    return lr


def list_images(folder: Path) -> list[Path]:
    """The images directly inside a folder, sorted; hidden files and files that are no pictures are passed over.

    Raises:
        UserError: no such folder, no image in it, or a picture in a format that is not read.
    """
    try:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: check the path")
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error
    for entry in entries:
        if not _is_text(entry.name):
            raise UserError(f"{folder} has a file whose name is not UTF-8 ({entry.name!r}): rename it")
        if entry.suffix.lower() in _OTHER_PICTURES:
            raise UserError(f"{entry} is in a format that is not read: convert it to PNG, or remove it")
    found = [entry for entry in entries if entry.suffix.lower() in images.SUFFIXES and not entry.is_dir()]
    if not found:
        raise UserError(f"{folder} has no image ({', '.join(images.SUFFIXES)}): check the path")
    return found


def _folders(folder: Path, scale: int) -> tuple[Path, Path | None]:
    """The HR folder, and the LR folder for the scale if there is one."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: check the path")
    hr_folder = folder
    if (folder / "HR").is_dir():
        hr_folder = folder / "HR"
    elif inner := sorted(entry for entry in folder.glob("*_HR") if entry.is_dir()):
        if len(inner) > 1:
            raise UserError(f"{folder} holds {' and '.join(entry.name for entry in inner)}: name the one that is meant")
        hr_folder = inner[0]
    if hr_folder.name == "HR" or hr_folder.name.endswith("_HR"):
        lr_folder = hr_folder.with_name(hr_folder.name[:-2] + "LR_bicubic") / f"X{scale}"
        return hr_folder, lr_folder if lr_folder.is_dir() else None
    return hr_folder, None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _by_stem(files: list[Path]) -> dict[str, Path]:
    by_stem: dict[str, Path] = {}
    for file in files:
        if file.stem in by_stem:
            raise UserError(f"{by_stem[file.stem]} and {file} have one name: remove or rename one")
        by_stem[file.stem] = file
    return by_stem
