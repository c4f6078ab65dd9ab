"""Pairs of HR and LR images, and the pairs of a folder as training and evaluation take them.

`layouts` finds the files. Where there is no LR for the scale, it is made from HR by `bicubic.downscale`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from safmn.data import agreement, bicubic, images, manifest
from safmn.data.images import Pixels
from safmn.errors import UserError

Sides = tuple[int, int]
"""Height and width in pixels."""


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


def load(pair: Pair, scale: int) -> Loaded:
    """Decode one pair; raise UserError where a file cannot be read or the sizes do not fit."""
    hr, channels = images.decode(pair.hr)
    lr = None if pair.lr is None else images.read(pair.lr)
    height, width = _fitted(pair, scale, hr.shape[:2], None if lr is None else lr.shape[:2])
    hr = hr[: height * scale, : width * scale]
    if lr is None:
        return Loaded(bicubic.downscale(hr, scale, pair.border), hr, channels)
    return Loaded(lr, hr, channels, agreement.compare(lr, hr, scale).doubt)


def lr_size(pair: Pair, scale: int) -> Sides:
    """Return height and width of the LR image, from the files' headers; raise UserError as `load` does."""
    return _fitted(pair, scale, images.size(pair.hr), None if pair.lr is None else images.size(pair.lr))


def fits(hr: Sides, lr: Sides, scale: int) -> bool:
    """Return whether HR sides exceed LR sides x scale by less than the scale, which is cropped."""
    return all(0 <= large - small * scale < scale for large, small in zip(hr, lr, strict=True))


def _fitted(pair: Pair, scale: int, hr: Sides, lr: Sides | None) -> Sides:
    """Return the sides of LR, given those of the files (None: LR is made); raise UserError where they do not fit."""
    if lr is None:
        if min(hr) < scale:
            raise UserError(f"{pair.hr} is {hr[1]}x{hr[0]}, too small to be reduced {scale} times: remove it")
        return hr[0] // scale, hr[1] // scale
    if not fits(hr, lr, scale):
        raise UserError(
            f"{pair.lr} is {lr[1]}x{lr[0]}, but {pair.hr} is {hr[1]}x{hr[0]}, which is not {scale} times that: "
            "replace one of them"
        )
    return lr


class Pairs:
    """The images of a packed dataset or a folder.

    Attributes:
        dataset: its name, or the folder's.
        names: of the images, sorted.
        scale: HR size / LR size.
        path: where it lies.
        lr_folder: where LR files lie, as seen from HR; "" where LR is made.
        border: how a picture is continued beyond its edge where LR is made, "symmetric" or "clamped".
        remarks: what looks like LR beside HR and is not used, a sentence each.
    """

    dataset: str
    names: list[str]
    scale: int
    path: Path
    lr_folder: str
    border: str
    remarks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Loaded:
        """Return the pixels of a pair, and facts about it; raise UserError where they cannot be read."""
        raise NotImplementedError

    def facts(self, index: int) -> tuple[int, str]:
        """Return `channels` and `doubt` of `Loaded`."""
        raise NotImplementedError

    def kernel_difference(self, index: int) -> float | None:
        """Return how far LR `index` is from MATLAB's bicubic; see `agreement.kernel_difference`."""
        loaded = self.load(index)
        return agreement.kernel_difference(loaded.lr, loaded.hr, self.scale)

    def hr(self, index: int) -> Pixels:
        """Return HR image `index`: uint8 H x W x 3 RGB."""
        return self.load(index).hr

    def lr(self, index: int) -> Pixels:
        """Return LR image `index`: uint8 h x w x 3 RGB, H = h * scale."""
        return self.load(index).lr

    def channels(self, index: int) -> int:
        """Return the number of channels of HR file `index`: 1 (grey) or 3."""
        return self.facts(index)[0]

    def doubt(self, index: int) -> str:
        """Return why HR and LR `index` do not seem to belong together; "" if they do."""
        return self.facts(index)[1]

    @property
    def lr_summary(self) -> dict[str, Any]:
        """Return `origin` ("files" or "made"), `folder`, `border` (None: none is made), `made` (how many)."""
        if self.lr_folder:
            return {"origin": "files", "folder": self.lr_folder, "border": None, "made": 0}
        return {"origin": "made", "folder": "", "border": self.border, "made": len(self)}

    def warnings(self) -> list[dict[str, Any]]:
        """Return what may be wrong with the pairs: `kind`, `images` and `text` each; reads all images of a folder."""
        doubts: dict[str, list[str]] = {}
        for index, name in enumerate(self.names):
            if doubt := self.doubt(index):
                doubts.setdefault(doubt, []).append(name)
        doubtful = [{"kind": "lr_does_not_fit", "images": names, "text": text} for text, names in doubts.items()]
        unused = [{"kind": "lr_not_used", "images": [], "text": text} for text in self.remarks]
        return doubtful + self._other_kernel() + unused

    def _other_kernel(self) -> list[dict[str, Any]]:
        """Return the warning that LR files were not made by MATLAB's bicubic, if so; `doubt` says enough of others."""
        differences: dict[str, float] = {}
        for index, name in enumerate(self.names if self.lr_folder else ()):
            difference = None if self.doubt(index) else self.kernel_difference(index)
            if difference is not None and difference > agreement.OTHER_KERNEL:
                differences[name] = difference
        if not differences:
            return []
        mean, most = sum(differences.values()) / len(differences), max(differences.values())
        text = (
            f"LR of {len(differences)} of {len(self)} images is not HR reduced by MATLAB's bicubic (mean absolute "
            f"difference {mean:.2f} levels of 255, at most {most:.2f} in an image): another kernel, noise or JPEG, so "
            "PSNR is not comparable with the paper's"
        )
        return [{"kind": "lr_other_kernel", "images": list(differences), "text": text}]

    def _names_of(self, part: slice) -> list[str]:
        """Return the names of a slice; raise UserError where none is left."""
        if not self.names[part]:
            limits = (part.start, part.stop, part.step)[: 3 if part.step is not None else 2]
            text = ":".join("" if limit is None else str(limit) for limit in limits)
            raise UserError(f"[{text}] selects none of the {len(self)} images of {self.path}: widen it")
        return self.names[part]


class FolderPairs(Pairs):
    """The pairs of a folder, decoded at each access; the last one is kept."""

    def __init__(self, found: Found, scale: int, path: Path) -> None:
        absolute = path.absolute()
        self.dataset = absolute.parent.name if absolute.name.upper() == "HR" else absolute.name
        self.names = [pair.name for pair in found.pairs]
        self.scale, self.path, self.border = scale, path, found.pairs[0].border
        self.lr_folder, self.remarks = found.lr_folder, found.remarks
        self._found = found
        self._last: tuple[int, Loaded] | None = None
        # Channels, doubt and difference from MATLAB's bicubic of the images that were read.
        self._facts: dict[int, tuple[int, str, float | None]] = {}

    def load(self, index: int) -> Loaded:
        """Decode a pair, unless it is the last one."""
        index = range(len(self))[index]
        # Evaluation reads ahead in one thread while another asks for facts: the facts are there before `_last` changes.
        last = self._last
        if last is None or last[0] != index:
            loaded = load(self._found.pairs[index], self.scale)
            if index not in self._facts:
                difference = agreement.kernel_difference(loaded.lr, loaded.hr, self.scale)
                self._facts[index] = loaded.channels, loaded.doubt, difference
            last = self._last = index, loaded
        return last[1]

    def facts(self, index: int) -> tuple[int, str]:
        """See `Pairs.facts`; an image that was read is not read again."""
        channels, doubt, _ = self._known(index)
        return channels, doubt

    def kernel_difference(self, index: int) -> float | None:
        """See `Pairs.kernel_difference`; an image that was read is not read again."""
        return self._known(index)[2]

    def _known(self, index: int) -> tuple[int, str, float | None]:
        index = range(len(self))[index]
        if index not in self._facts:
            self.load(index)
        return self._facts[index]

    @cached_property
    def fingerprint(self) -> str:
        """Return the fingerprint that the packed images would have; reads all of them."""
        loaded = ((name, self.load(index)) for index, name in enumerate(self.names))
        return manifest.digest_of(
            (name, manifest.hash_pixels(pair.hr), manifest.hash_pixels(pair.lr)) for name, pair in loaded
        )

    def select(self, part: slice) -> "FolderPairs":
        """Return the images of a slice; raise UserError where none is left."""
        self._names_of(part)
        return FolderPairs(replace(self._found, pairs=self._found.pairs[part]), self.scale, self.path)


def describe_lr(summary: dict[str, Any]) -> str:
    """Say in a line where LR images come from."""
    if summary["origin"] == "made":
        return f"LR made from HR by MATLAB's bicubic, {summary['border']} border"
    return f"LR from files in {'the HR folder' if summary['folder'] == '.' else summary['folder']}"


def warning_lines(warnings: Sequence[dict[str, Any]]) -> list[str]:
    """Return `Pairs.warnings` as lines for the screen; each names five images at most."""
    lines = []
    for warning in warnings:
        names = warning["images"]
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        lines.append(f"{listed}: {warning['text']}" if listed else warning["text"])
    return lines
