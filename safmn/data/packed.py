"""Pack a dataset once into one file of uint8 pixels that is mapped into memory.

A packed dataset is a folder with three files:

- `pixels.u8`: the HR and then the LR pixels of each image, uint8, RGB, C order (row, column, channel), no padding;
- `manifest.json`: its images as hashes, to compare data with other people; see `manifest`;
- `index.json`: written last, so that a packed dataset without it is known to be unfinished; see `Index`.

The *fingerprint* of a set of pairs is the digest of its manifest: a hash over names, shapes and pixels. It does not
depend on how images are stored: the same pictures compressed again, packed or in a folder have the same.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from safmn.configuration import Section
from safmn.data import bicubic, layouts, manifest, pairs, sources
from safmn.data.images import Pixels
from safmn.data.manifest import HashedImage, HashedLR, HashedPair
from safmn.data.pairs import FolderPairs, Loaded, Pair, Pairs
from safmn.errors import UserError
from safmn.files import atomic, check_space, write_json
from safmn.layout import INDEX, MANIFEST, PIXELS, packed_name
from safmn.locks import hold
from safmn.progress import Progress

_MAX_THREADS = 8  # decoding scales to about that before the disk is the limit


class Block(Section):
    """Place of an image in `pixels.u8`: byte offset, (H, W, 3), and sha256; see `manifest.hash_pixels`."""

    offset: NonNegativeInt
    shape: tuple[PositiveInt, PositiveInt, Literal[3]]
    sha256: str


class Source(Section):
    """A file that pixels were decoded from."""

    file: str
    sha256: str


class Entry(Section):
    """One image of a packed dataset.

    Attributes:
        name: its name.
        origin: where LR comes from.
        hr: place of HR.
        lr: place of LR.
        channels: of the HR file, 1 (grey) or 3.
        doubt: why HR and LR do not seem to belong together; "" if they do.
        sources: "hr" and, unless it was made, "lr" -> the file.
    """

    name: str
    origin: Literal["file", "bicubic"]
    hr: Block
    lr: Block
    channels: Literal[1, 3]
    doubt: str
    sources: dict[str, Source]

    def hashed(self) -> HashedPair:
        """Return what the manifest has of it."""
        (hr_height, hr_width, _), (lr_height, lr_width, _) = self.hr.shape, self.lr.shape
        return HashedPair(
            name=self.name,
            hr=HashedImage(width=hr_width, height=hr_height, sha256=self.hr.sha256),
            lr=HashedLR(width=lr_width, height=lr_height, sha256=self.lr.sha256, origin=self.origin),
            files={kind: source.sha256 for kind, source in self.sources.items()},
        )


class Index(Section):
    """The file `index.json`.

    Attributes:
        dataset: its name, or a selection such as "BSDS200[10:]".
        scale: HR size / LR size.
        bytes: length of `pixels.u8`.
        lr_folder: where LR files lie, as seen from HR; "" where LR is made.
        border: how a picture is continued beyond its edge where LR is made.
        remarks: what looks like LR beside HR and is not used, a sentence each.
        fingerprint: see the module's docstring.
        images: sorted by name.
    """

    format: Literal[3] = 3
    dataset: str
    scale: PositiveInt
    bytes: PositiveInt
    lr_folder: str
    border: str
    remarks: list[str]
    fingerprint: str
    images: list[Entry] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> "Index":
        if self.border not in bicubic.BORDERS:
            raise ValueError(f"border {self.border!r} is unknown")
        for entry in self.images:
            for block in (entry.hr, entry.lr):
                if block.offset % 3 or block.offset + prod(block.shape) > self.bytes:
                    raise ValueError(f"{entry.name} lies outside the pixels")
            if entry.hr.shape[:2] != tuple(side * self.scale for side in entry.lr.shape[:2]):
                raise ValueError(f"{entry.name}: HR is not {self.scale} times LR")
        if self.fingerprint != _fingerprint(self.images):
            raise ValueError("the fingerprint does not fit")
        return self


class PackedPairs(Pairs):
    """A packed dataset, or a selection of its images; pixels are mapped, not read."""

    def __init__(self, path: Path | str) -> None:
        """Open a packed dataset; raise UserError where it is missing, damaged or truncated."""
        self.path = Path(path)
        file, pixels = self.path / INDEX, self.path / PIXELS
        if not file.is_file():
            raise UserError(f"{self.path} is not a finished packed dataset ({INDEX} is missing): pack it again")
        index = manifest.load(Index, file, "delete it and pack again")
        try:
            length = pixels.stat().st_size
            if length != index.bytes:
                raise UserError(
                    f"{pixels} has {length:,} bytes instead of {index.bytes:,}: delete {self.path}, pack again"
                )
            # A plain array over the map: slices of np.memmap are several times slower to make.
            self.flat = np.asarray(np.memmap(pixels, np.uint8, mode="r"))
        except OSError as error:
            raise UserError(f"{pixels} cannot be read ({error.strerror}): pack again") from error
        self.dataset, self.scale, self.border = index.dataset, index.scale, index.border
        self.lr_folder, self.remarks = index.lr_folder, tuple(index.remarks)
        self._entries = index.images
        self.names = [entry.name for entry in self._entries]

    @property
    def sha256(self) -> list[str]:
        """Return a hash of each image's LR and HR pixels: equal pictures have equal ones, whatever their names."""
        return [manifest.digest_of([("", entry.hr.sha256, entry.lr.sha256)]) for entry in self._entries]

    def load(self, index: int) -> Loaded:
        """Return read-only views of a pair, and facts about it."""
        entry = self._entries[index]
        return Loaded(self._view(entry.lr), self._view(entry.hr), entry.channels, entry.doubt)

    def facts(self, index: int) -> tuple[int, str]:
        """See `Pairs.facts`."""
        return self._entries[index].channels, self._entries[index].doubt

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the selected images; see the module's docstring."""
        return _fingerprint(self._entries)

    def select(self, part: slice) -> "PackedPairs":
        """Return the images of a slice, over the same map; raise UserError where none is left."""
        selection = copy(self)
        selection._entries, selection.names = self._entries[part], self._names_of(part)
        return selection

    def verify(self) -> None:
        """Read all pixels; raise UserError where they are not those that were packed."""
        for index, entry in enumerate(self._entries):
            hashes = manifest.hash_pixels(self.hr(index)), manifest.hash_pixels(self.lr(index))
            if hashes != (entry.hr.sha256, entry.lr.sha256):
                raise UserError(f"{self.path} has other pixels for {entry.name} than were packed: pack again")

    def _view(self, block: Block) -> Pixels:
        return self.flat[block.offset : block.offset + prod(block.shape)].reshape(block.shape)


def open_pairs(path: Path | str, scale: int, border: str | None = None) -> PackedPairs | FolderPairs:
    """Open pairs to evaluate or train on: a packed dataset, or a folder in a layout of `layouts`.

    Args:
        path: the folder; a slice behind it selects images, as in a study: "results/mini/data/photographs/x4[-2:]".
        scale: HR size / LR size.
        border: of LR that is made; None: a packed dataset's own, or "symmetric".

    Raises:
        UserError: neither of the two, a packed dataset of another scale or border, or a slice that selects nothing.
    """
    path = Path(path)
    folder, _, part = path.name.rpartition("[")
    if folder and not path.exists():
        return open_pairs(path.with_name(folder), scale, border).select(sources.parse_selection(f"dataset[{part}")[1])
    if not (path / INDEX).exists() and not (path / PIXELS).exists():
        return FolderPairs(layouts.survey(path, scale, border or "symmetric"), scale, path)
    dataset = PackedPairs(path)
    if dataset.scale != scale:
        raise UserError(f"{path} was packed for x{dataset.scale}, not x{scale}: pack it for x{scale}")
    if border is not None and dataset.border != border and dataset.lr_summary["made"]:
        raise UserError(f"LR in {path} was made with a {dataset.border} border, not {border}: pack it again")
    return dataset


def open_selection(
    text: str,
    scale: int,
    folder: Path | str,
    root: sources.Root = None,
    folders: Mapping[str, str] | None = None,
    border: str | None = None,
) -> PackedPairs:
    """Open a selection from the packed dataset `folder`/<dataset>/x<scale>; pack the dataset first where it is missing.

    Args:
        text: a dataset's name with an optional slice; see `sources`.
        scale: HR size / LR size.
        folder: holds packed datasets.
        root: where datasets are, as for `pack`; not used where the dataset is packed already.
        folders: likewise.
        border: of LR that is made.

    Raises:
        UserError: as `pack`, `open_pairs` and `PackedPairs.select` do.
    """
    name, part = sources.parse_selection(text)
    path = Path(folder) / packed_name(name, scale)
    if not (path / INDEX).exists():
        with hold(path.with_name(f".{path.name}.lock")):
            if not (path / INDEX).exists():
                pack(name, root, scale, path, folders, border=border or "symmetric")
    dataset = open_pairs(path, scale, border)
    assert isinstance(dataset, PackedPairs)
    return dataset.select(part)


def pack(
    name: str,
    root: sources.Root,
    scale: int,
    out_dir: Path | str,
    folders: Mapping[str, str] | None = None,
    threads: int | None = None,
    border: str = "symmetric",
) -> PackedPairs:
    """Pack a dataset, replacing the one in `out_dir`; an older one is kept if new pixels cannot be completed.

    Args:
        name: of the dataset, or a selection such as "BSDS200[10:]"; see `sources`.
        root: the folder that holds datasets, or several; None for `photographs`.
        scale: HR size / LR size.
        out_dir: the packed dataset's folder, made if it is missing.
        folders: name -> folder, where a dataset lies outside `root`.
        threads: that decode; default: one for each core, at most 8. The result does not depend on it.
        border: how a picture is continued beyond its edge where LR is made: "symmetric" or "clamped".

    Raises:
        UserError: a dataset or image that cannot be read, sizes that do not fit, not enough disk.
    """
    out_dir = Path(out_dir)
    found = sources.select(name, scale, root, folders, border)
    sides = [pairs.lr_size(pair, scale) for pair in found.pairs]
    *offsets, length = accumulate((3 * height * width * (1 + scale**2) for height, width in sides), initial=0)
    check_space(out_dir, length, f"packing {name}")
    with (
        atomic(out_dir / PIXELS) as temporary,
        open(temporary, "r+b") as file,
        Progress(f"packing {name}", "images") as progress,
    ):
        file.truncate(length)
        with ThreadPoolExecutor(threads or min(os.cpu_count() or 1, _MAX_THREADS)) as pool:
            entries: list[Entry] = []
            try:
                for entry in pool.map(partial(_pack_one, scale, file.fileno()), found.pairs, sides, offsets):
                    entries.append(entry)
                    progress(len(entries), len(sides))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        (out_dir / INDEX).unlink(missing_ok=True)  # an older index must not describe the new pixels
    manifest.write(out_dir / MANIFEST, name, scale, [entry.hashed() for entry in entries])
    index = Index(
        dataset=name,
        scale=scale,
        bytes=length,
        lr_folder=found.lr_folder,
        border=border,
        remarks=list(found.remarks),
        fingerprint=_fingerprint(entries),
        images=entries,
    )
    write_json(out_dir / INDEX, index.model_dump(mode="json"))
    return PackedPairs(out_dir)


def _pack_one(scale: int, descriptor: int, pair: Pair, sides: tuple[int, int], offset: int) -> Entry:
    """Write HR and LR of a pair, whose LR has these sides, from a byte on; return where they are."""
    loaded = pairs.load(pair, scale)
    if loaded.lr.shape[:2] != sides:
        raise UserError(f"{pair.hr} changed while it was packed: pack again")
    blocks = []
    for image in (loaded.hr, loaded.lr):
        blocks.append(Block(offset=offset, shape=(*image.shape[:2], 3), sha256=manifest.hash_pixels(image)))
        rest = np.ascontiguousarray(image).data.cast("B")
        while rest:  # pwrite may write less than all
            written = os.pwrite(descriptor, rest, offset)
            rest, offset = rest[written:], offset + written
    files = {"hr": pair.hr} | ({} if pair.lr is None else {"lr": pair.lr})
    return Entry(
        name=pair.name,
        origin=pair.origin,
        hr=blocks[0],
        lr=blocks[1],
        channels=1 if loaded.channels == 1 else 3,
        doubt=loaded.doubt,
        sources={kind: Source(file=file.name, sha256=_hash_file(file)) for kind, file in files.items()},
    )


def _hash_file(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} changed while it was packed ({error.strerror}): pack again") from error


def _fingerprint(entries: Sequence[Entry]) -> str:
    return manifest.digest_of((entry.name, entry.hr.sha256, entry.lr.sha256) for entry in entries)
