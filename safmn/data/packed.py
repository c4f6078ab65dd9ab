"""A dataset decoded once into one file of uint8 pixels, mapped into memory.

A store is a folder with three files:

- `pixels.u8`: each image's HR and then its LR pixels, uint8, RGB, C order (row, column, channel), without padding;
- `manifest.json`: which images it holds, as hashes, to be compared with other people's; see `manifest`;
- `index.json`: written last, so that a store without it is known to be unfinished. For each image its name, the source
  files with their sha256, where LR comes from ("file" or "bicubic"), and byte offset, shape and sha256 of HR and LR.

The *fingerprint* of a set of pairs is the digest that its manifest has: a hash over names, shapes and pixels. It does
not depend on how the images were stored, so the same pictures re-encoded, packed or in a folder have the same.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from math import prod
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from filelock import FileLock

from safmn.data import images, manifest, pairs, sources
from safmn.errors import UserError
from safmn.files import atomic, read_json, write_json

PIXELS = "pixels.u8"
INDEX = "index.json"
_FORMAT = 2
_MOST_THREADS = 8  # decoding scales to about that before the disk is the limit


class PackedPairs:
    """A packed store, or a selection of its images; pixels are mapped, not read.

    Attributes:
        names: of the images, sorted as in the store.
        scale: HR size / LR size.
        path: the store's folder.
    """

    def __init__(self, path: Path | str) -> None:
        """Opens a store; raises UserError that names it where it is missing, damaged or truncated."""
        self.path = Path(path)
        if not (self.path / INDEX).is_file():
            raise UserError(f"{self.path} is not a finished packed dataset ({INDEX} is missing): pack it again")
        index = read_json(self.path / INDEX)
        try:
            self.scale, self._entries, length = _checked(index)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{self.path / INDEX} is damaged ({error}): delete it and pack again") from error
        pixels = self.path / PIXELS
        try:
            found = pixels.stat().st_size
            if found != length:
                raise UserError(f"{pixels} has {found:,} bytes instead of {length:,}: delete the store and pack again")
            # A plain array over the map: slices of np.memmap are several times slower to make.
            self.flat = np.asarray(np.memmap(pixels, np.uint8, mode="r"))
        except OSError as error:
            raise UserError(f"{pixels} cannot be read ({error.strerror}): pack again") from error
        self.names = [entry["name"] for entry in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def sha256(self) -> list[str]:
        """A hash of each image's LR and HR pixels and shapes: equal pictures have equal ones, whatever their names."""
        return [manifest.digest_of([("", *_hashes(entry))]) for entry in self._entries]

    def hr(self, index: int) -> np.ndarray:
        """HR image `index`: a read-only view, uint8 H x W x 3 RGB."""
        return self._view(self._entries[index]["hr"])

    def lr(self, index: int) -> np.ndarray:
        """LR image `index`: a read-only view, uint8 h x w x 3 RGB, H = h * scale."""
        return self._view(self._entries[index]["lr"])

    def origin(self, index: int) -> str:
        """Where LR image `index` comes from: "file" or "bicubic"."""
        return self._entries[index]["origin"]

    @property
    def fingerprint(self) -> str:
        """sha256 over names, shapes and pixels of the images selected; see the module's docstring."""
        return _fingerprint(self._entries)

    def select(self, part: slice) -> "PackedPairs":
        """The images of a slice, over the same map; raises UserError where none is left."""
        if not self._entries[part]:
            raise UserError(f"{_written(part)} selects none of the {len(self)} images of {self.path}: widen it")
        selection = object.__new__(PackedPairs)
        selection.path, selection.scale, selection.flat = self.path, self.scale, self.flat
        selection._entries = self._entries[part]
        selection.names = self.names[part]
        return selection

    def verify(self) -> None:
        """Reads all pixels and raises UserError where they are not those that were packed."""
        for index, entry in enumerate(self._entries):
            if _hashes(entry) != (manifest.hash_pixels(self.hr(index)), manifest.hash_pixels(self.lr(index))):
                raise UserError(f"{self.path} has other pixels for {entry['name']} than were packed: pack again")

    def _view(self, block: dict[str, Any]) -> np.ndarray:
        shape, offset = block["shape"], block["offset"]
        return self.flat[offset : offset + prod(shape)].reshape(shape)


class FolderPairs:
    """The pairs of a folder with PackedPairs' interface, decoded at each access (the last one is kept)."""

    def __init__(self, found: Sequence[pairs.Pair], scale: int, path: Path | str = "") -> None:
        self.path = Path(path)
        self.scale = scale
        self._pairs = list(found)
        self.names = [pair.name for pair in self._pairs]
        self._last: tuple[int, tuple[np.ndarray, np.ndarray]] | None = None

    def __len__(self) -> int:
        return len(self._pairs)

    def hr(self, index: int) -> np.ndarray:
        """HR image `index`: uint8 H x W x 3 RGB; raises UserError where it cannot be read."""
        return self._read(index)[1]

    def lr(self, index: int) -> np.ndarray:
        """LR image `index`: uint8 h x w x 3 RGB, H = h * scale."""
        return self._read(index)[0]

    def origin(self, index: int) -> str:
        """Where LR image `index` comes from: "file" or "bicubic"."""
        return self._pairs[index].origin

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint that the packed images would have; reads all of them."""
        found = []
        for index, name in enumerate(self.names):
            lr, hr = self._read(index)
            found.append((name, manifest.hash_pixels(hr), manifest.hash_pixels(lr)))
        return manifest.digest_of(found)

    def select(self, part: slice) -> "FolderPairs":
        """The images of a slice; raises UserError where none is left."""
        if not self._pairs[part]:
            raise UserError(f"{_written(part)} selects none of the {len(self)} images of {self.path}: widen it")
        return FolderPairs(self._pairs[part], self.scale, self.path)

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        index = range(len(self))[index]
        if self._last is None or self._last[0] != index:
            self._last = index, pairs.read_pair(self._pairs[index], self.scale)
        return self._last[1]


def open_pairs(path: Path | str, scale: int) -> PackedPairs | FolderPairs:
    """Pairs to evaluate or train on: a packed store, or a folder in a layout of `pairs`, decoded as needed.

    A slice behind the path selects images, as in a study's data section: "results/mini/data/photographs/x4[-2:]".

    Raises:
        UserError: neither, a store of another scale, or a slice that leaves nothing.
    """
    path = Path(path)
    folder, _, part = path.name.rpartition("[")
    if folder and not path.exists():
        return open_pairs(path.with_name(folder), scale).select(sources.parse_selection(f"dataset[{part}")[1])
    if not (path / INDEX).exists() and not (path / PIXELS).exists():
        return FolderPairs(pairs.find(path, scale), scale, path)
    store = PackedPairs(path)
    if store.scale != scale:
        raise UserError(f"{path} was packed for x{store.scale}, not x{scale}: pack it for x{scale}")
    return store


def open_selection(
    text: str,
    scale: int,
    packs: Path | str,
    root: sources.Root = None,
    folders: dict[str, str] | None = None,
) -> PackedPairs:
    """The images of a selection from its dataset's store `packs`/<dataset>/x<scale>, packed there first if need be.

    Args:
        text: a dataset's name with an optional slice; see `sources`.
        scale: HR size / LR size.
        packs: the folder of stores.
        root, folders: where the dataset is, as for `pack`; not looked at where it is packed already.

    Raises:
        UserError: as `pack`, `PackedPairs` and `PackedPairs.select` do.
    """
    name, part = sources.parse_selection(text)
    path = Path(packs) / name / f"x{scale}"
    if not (path / INDEX).exists():
        with _locked(path):
            if not (path / INDEX).exists():
                pack(name, root, scale, path, folders)
    store = open_pairs(path, scale)
    assert isinstance(store, PackedPairs)
    return store.select(part)


def pack(
    name: str,
    root: sources.Root,
    scale: int,
    out_dir: Path | str,
    folders: dict[str, str] | None = None,
    threads: int | None = None,
) -> PackedPairs:
    """Packs a dataset, replacing a store that `out_dir` held; the result does not depend on the number of threads.

    An older store stays as it is if anything fails before the new pixels are complete.

    Args:
        name: of the dataset, or a selection such as "BSDS200[10:]"; see `sources`.
        root: the folder that holds datasets, or several; None for `photographs`.
        scale: HR size / LR size.
        out_dir: the store's folder, made if it is missing.
        folders: name -> folder, where a dataset lies outside `root`.
        threads: that decode; default one a core, at most 8.

    Raises:
        UserError: dataset or image that cannot be read, sizes that do not fit, not enough disk.
    """
    out_dir = Path(out_dir)
    found = sources.select(name, scale, root, folders)
    layout, length = _lay_out(found, scale)
    _check_space(out_dir, length)
    with atomic(out_dir / PIXELS) as temporary, open(temporary, "r+b") as file:
        file.truncate(length)

        def work(job: tuple[pairs.Pair, dict[str, Any]]) -> dict[str, Any]:
            return _pack_one(*job, scale, file.fileno())

        with ThreadPoolExecutor(threads or min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
            futures = [pool.submit(work, job) for job in zip(found, layout, strict=True)]
            try:
                with _progress(f"packing {name}", len(found)) as advance:
                    entries = []
                    for future in futures:
                        entries.append(future.result())
                        advance()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        (out_dir / INDEX).unlink(missing_ok=True)  # an older index must not describe the new pixels
    manifest.write(out_dir / manifest.MANIFEST, name, scale, entries)
    index = {
        "format": _FORMAT,
        "dataset": name,
        "scale": scale,
        "bytes": length,
        "fingerprint": _fingerprint(entries),
        "images": entries,
    }
    write_json(out_dir / INDEX, index)
    return PackedPairs(out_dir)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lets one process at a time pack into `path`; the lock goes when its holder dies."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        held.acquire()
    except OSError as error:
        raise UserError(f"cannot write {lock} ({error.strerror}): choose another place") from error
    try:
        yield
    finally:
        held.release()


def _lay_out(found: Sequence[pairs.Pair], scale: int) -> tuple[list[dict[str, Any]], int]:
    """Where each image will lie, from the files' headers; and the bytes in all."""
    layout, offset = [], 0
    for pair in found:
        lr_file = None if pair.lr is None else images.size(pair.lr)
        height, width = pairs.lr_size(pair, scale, images.size(pair.hr), lr_file)
        entry: dict[str, Any] = {"name": pair.name, "origin": pair.origin}
        for kind, shape in (("hr", [height * scale, width * scale, 3]), ("lr", [height, width, 3])):
            entry[kind] = {"offset": offset, "shape": shape}
            offset += prod(shape)
        layout.append(entry)
    return layout, offset


def _pack_one(pair: pairs.Pair, entry: dict[str, Any], scale: int, descriptor: int) -> dict[str, Any]:
    lr, hr = pairs.read_pair(pair, scale)
    for kind, image in (("hr", hr), ("lr", lr)):
        if list(image.shape) != entry[kind]["shape"]:
            raise UserError(f"{pair.hr} changed while it was packed: pack again")
        _write_at(descriptor, np.ascontiguousarray(image), entry[kind]["offset"])
        entry[kind]["sha256"] = manifest.hash_pixels(image)
    files = {"hr": pair.hr} if pair.lr is None else {"hr": pair.hr, "lr": pair.lr}
    return {
        **entry,
        "sources": {kind: {"file": file.name, "sha256": _hash_file(file)} for kind, file in files.items()},
    }


def _write_at(descriptor: int, image: np.ndarray, offset: int) -> None:
    remaining = memoryview(image).cast("B")
    while remaining:
        written = os.pwrite(descriptor, remaining, offset)
        remaining, offset = remaining[written:], offset + written


def _checked(index: dict[str, Any]) -> tuple[int, list[dict[str, Any]], int]:
    """Scale, entries and length in bytes of an index, every field checked; raises ValueError and its like."""
    if index["format"] != _FORMAT:
        raise ValueError(f"format {index['format']!r} instead of {_FORMAT}")
    scale, length, entries = index["scale"], index["bytes"], index["images"]
    if not _is_count(scale) or not _is_count(length) or not entries:
        raise ValueError("no scale, length or images")
    for entry in entries:
        if not isinstance(entry["name"], str) or entry["origin"] not in ("file", "bicubic"):
            raise ValueError("an image without name or origin")
        for kind in ("hr", "lr"):
            if not isinstance(entry[kind]["sha256"], str):
                raise ValueError(f"{entry['name']} has no hash")
            offset, shape = entry[kind]["offset"], entry[kind]["shape"]
            if not (_is_count(offset, 0) and len(shape) == 3 and all(map(_is_count, shape)) and shape[2] == 3):
                raise ValueError(f"{entry['name']} has no place")
            if offset % 3 or offset + prod(shape) > length:
                raise ValueError(f"{entry['name']} lies outside the pixels")
        if entry["hr"]["shape"][:2] != [side * scale for side in entry["lr"]["shape"][:2]]:
            raise ValueError(f"{entry['name']}: HR is not {scale} times LR")
    if index["fingerprint"] != _fingerprint(entries):
        raise ValueError("the fingerprint does not fit")
    return scale, entries, length


def _is_count(value: Any, least: int = 1) -> bool:
    return type(value) is int and value >= least


def _hashes(entry: dict[str, Any]) -> tuple[str, str]:
    """Those of an image's HR and LR pixels."""
    return entry["hr"]["sha256"], entry["lr"]["sha256"]


def _hash_file(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} changed while it was packed ({error.strerror}): pack again") from error


def _fingerprint(entries: Sequence[dict[str, Any]]) -> str:
    return manifest.digest_of((entry["name"], *_hashes(entry)) for entry in entries)


def _check_space(out_dir: Path, needed: int) -> None:
    existing = next(folder for folder in (out_dir.absolute(), *out_dir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"{out_dir} needs {needed / 2**30:.2f} GiB, but {free / 2**30:.2f} GiB are free there: "
            "free some or choose another place"
        )


def _written(part: slice) -> str:
    limits = (part.start, part.stop, part.step)[: 3 if part.step is not None else 2]
    return f"[{':'.join('' if limit is None else str(limit) for limit in limits)}]"


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Yields a function to call after each image; a bar with rate and ETA appears on stderr after two seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
    start = monotonic()
    task = bar.add_task(title, total=total, rate="")
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        elapsed = monotonic() - start
        if elapsed > 2 and not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, rate=f"{done / max(elapsed, 1e-3):.1f} images/s")

    try:
        yield advance
    finally:
        if bar.live.is_started:  # stop() would print an empty line otherwise
            bar.stop()
