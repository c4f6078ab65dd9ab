"""A dataset decoded once into one file of uint8 pixels, mapped into memory.

A packed dataset is a folder with three files:

- `pixels.u8`: each image's HR and then its LR pixels, uint8, RGB, C order (row, column, channel), without padding;
- `manifest.json`: which images it holds, as hashes, to be compared with other people's; see `manifest`;
- `index.json`: written last, so that a packed dataset without it is known to be unfinished. For each image its name,
  the source files with their sha256, the channels of the HR file (1 or 3), where LR comes from ("file" or "bicubic"),
  why the two do not seem to belong together ("" if they do), and byte offset, shape and sha256 of HR and LR. For all
  of them the LR folder, the border of LR that was made, and which folders look like LR and were not used.

The *fingerprint* of a set of pairs is the digest that its manifest has: a hash over names, shapes and pixels. It does
not depend on how the images were stored, so the same pictures re-encoded, packed or in a folder have the same.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from filelock import FileLock

from safmn.data import bicubic, images, manifest, pairs, sources
from safmn.errors import UserError
from safmn.files import atomic, read_json, write_json
from safmn.layout import INDEX, MANIFEST, PIXELS, packed_name

_FORMAT = 3
_MOST_THREADS = 8  # decoding scales to about that before the disk is the limit


class Pairs:
    """What packed datasets and folders have in common: what is known of the pairs beside their pixels.

    Attributes:
        dataset: its name, or the folder's.
        names: of the images, sorted.
        scale: HR size / LR size.
        path: where it lies.
        lr_folder: where LR files lie, as seen from HR; "" where LR is made.
        border: how a picture goes on beyond its edge where LR is made, "symmetric" or "clamped".
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

    def origin(self, index: int) -> str:
        """Where LR image `index` comes from: "file" or "bicubic"."""
        raise NotImplementedError

    def channels(self, index: int) -> int:
        """Of HR file `index`: 1 (grey) or 3."""
        raise NotImplementedError

    def doubt(self, index: int) -> str:
        """Why HR and LR `index` do not seem to belong together, "" if they do."""
        raise NotImplementedError

    @property
    def lr_summary(self) -> dict[str, Any]:
        """`origin` ("files", "made" or "mixed"), `folder`, `border` (None where none is made), `made` (how many)."""
        made = sum(self.origin(index) == "bicubic" for index in range(len(self)))
        origin = "files" if not made else "made" if made == len(self) else "mixed"
        return {"origin": origin, "folder": self.lr_folder, "border": self.border if made else None, "made": made}

    def warnings(self) -> list[dict[str, Any]]:
        """What may be wrong with the pairs, for a record: `kind`, `images` and `text` each; reads folders' images."""
        doubts: dict[str, list[str]] = {}
        for index, name in enumerate(self.names):
            if doubt := self.doubt(index):
                doubts.setdefault(doubt, []).append(name)
        found = [{"kind": "lr_does_not_fit", "images": images, "text": text} for text, images in doubts.items()]
        return found + [{"kind": "lr_not_used", "images": [], "text": text} for text in self.remarks]


def describe_lr(summary: dict[str, Any]) -> str:
    """Where LR comes from, for a line on the screen, from `Pairs.lr_summary`."""
    made = f"made from HR by MATLAB's bicubic, {summary['border']} border"
    read = "from files in " + ("the HR folder" if summary["folder"] == "." else summary["folder"])
    if summary["origin"] == "mixed":
        return f"LR {read}, {summary['made']} {made}"
    return f"LR {made if summary['origin'] == 'made' else read}"


def warning_lines(warnings: Sequence[dict[str, Any]]) -> list[str]:
    """`Pairs.warnings` as lines for the screen; at most five images are named."""
    lines = []
    for each in warnings:
        named = ", ".join(each["images"][:5]) + (f" and {len(each['images']) - 5} more" * (len(each["images"]) > 5))
        lines.append(f"{named}: {each['text']}" if named else each["text"])
    return lines


class PackedPairs(Pairs):
    """A packed dataset, or a selection of its images; pixels are mapped, not read."""

    def __init__(self, path: Path | str) -> None:
        """Opens a packed dataset; raises UserError that names it where it is missing, damaged or truncated."""
        self.path = Path(path)
        if not (self.path / INDEX).is_file():
            raise UserError(f"{self.path} is not a finished packed dataset ({INDEX} is missing): pack it again")
        index = read_json(self.path / INDEX)
        try:
            self.scale, self._entries, length = _checked(index)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{self.path / INDEX} is damaged ({error}): delete it and pack again") from error
        self.dataset, self.lr_folder, self.border = index["dataset"], index["lr_folder"], index["border"]
        self.remarks = tuple(index["remarks"])
        pixels = self.path / PIXELS
        try:
            found = pixels.stat().st_size
            if found != length:
                raise UserError(f"{pixels} has {found:,} bytes instead of {length:,}: delete {self.path}, pack again")
            # A plain array over the map: slices of np.memmap are several times slower to make.
            self.flat = np.asarray(np.memmap(pixels, np.uint8, mode="r"))
        except OSError as error:
            raise UserError(f"{pixels} cannot be read ({error.strerror}): pack again") from error
        self.names = [entry["name"] for entry in self._entries]

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
        return self._entries[index]["origin"]

    def channels(self, index: int) -> int:
        return self._entries[index]["channels"]

    def doubt(self, index: int) -> str:
        return self._entries[index]["doubt"]

    @property
    def fingerprint(self) -> str:
        """sha256 over names, shapes and pixels of the images selected; see the module's docstring."""
        return _fingerprint(self._entries)

    def select(self, part: slice) -> "PackedPairs":
        """The images of a slice, over the same map; raises UserError where none is left."""
        if not self._entries[part]:
            raise UserError(f"{_written(part)} selects none of the {len(self)} images of {self.path}: widen it")
        selection = copy(self)
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


class FolderPairs(Pairs):
    """The pairs of a folder with PackedPairs' interface, decoded at each access (the last one is kept)."""

    def __init__(self, found: pairs.Found, scale: int, path: Path | str = "", border: str = "symmetric") -> None:
        self.path = Path(path)
        absolute = self.path.absolute()
        self.dataset = absolute.parent.name if absolute.name.upper() == "HR" else absolute.name
        self.scale = scale
        self.border = border
        self.lr_folder, self.remarks = found.lr_folder, found.remarks
        self._found = found
        self._pairs = list(found.pairs)
        self.names = [pair.name for pair in self._pairs]
        self._last: tuple[int, pairs.Loaded] | None = None
        self._known: dict[int, tuple[int, str]] = {}  # of the images read so far: channels, doubt

    def hr(self, index: int) -> np.ndarray:
        """HR image `index`: uint8 H x W x 3 RGB; raises UserError where it cannot be read."""
        return self._read(index).hr

    def lr(self, index: int) -> np.ndarray:
        """LR image `index`: uint8 h x w x 3 RGB, H = h * scale."""
        return self._read(index).lr

    def origin(self, index: int) -> str:
        return self._pairs[index].origin

    def channels(self, index: int) -> int:
        return self._facts(index)[0]

    def doubt(self, index: int) -> str:
        return self._facts(index)[1]

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint that the packed images would have; reads all of them."""
        found = []
        for index, name in enumerate(self.names):
            loaded = self._read(index)
            found.append((name, manifest.hash_pixels(loaded.hr), manifest.hash_pixels(loaded.lr)))
        return manifest.digest_of(found)

    def select(self, part: slice) -> "FolderPairs":
        """The images of a slice; raises UserError where none is left."""
        if not self._pairs[part]:
            raise UserError(f"{_written(part)} selects none of the {len(self)} images of {self.path}: widen it")
        return FolderPairs(replace(self._found, pairs=self._found.pairs[part]), self.scale, self.path, self.border)

    def _facts(self, index: int) -> tuple[int, str]:
        if index not in self._known:
            self._read(index)
        return self._known[index]

    def _read(self, index: int) -> pairs.Loaded:
        index = range(len(self))[index]
        # Evaluation reads ahead in one thread while another asks for facts: one assignment, so that none sees a half.
        last = self._last
        if last is None or last[0] != index:
            last = self._last = index, pairs.load(self._pairs[index], self.scale)
            self._known[index] = last[1].channels, last[1].doubt
        return last[1]


def open_pairs(path: Path | str, scale: int, border: str | None = None) -> PackedPairs | FolderPairs:
    """Pairs to evaluate or train on: a packed dataset, or a folder in a layout of `layouts`, decoded as needed.

    A slice behind the path selects images, as in a study's data section: "results/mini/data/photographs/x4[-2:]".
    `border` is that of LR that is made; None takes a packed dataset's own, or "symmetric".

    Raises:
        UserError: neither, a packed dataset of another scale or border, or a slice that leaves nothing.
    """
    path = Path(path)
    folder, _, part = path.name.rpartition("[")
    if folder and not path.exists():
        return open_pairs(path.with_name(folder), scale, border).select(sources.parse_selection(f"dataset[{part}")[1])
    if not (path / INDEX).exists() and not (path / PIXELS).exists():
        chosen = border or "symmetric"
        return FolderPairs(pairs.survey(path, scale, chosen), scale, path, chosen)
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
    """The images of a selection from the packed dataset `folder`/<dataset>/x<scale>, packed there first if need be.

    Args:
        text: a dataset's name with an optional slice; see `sources`.
        scale: HR size / LR size.
        folder: holds packed datasets.
        root, folders: where the dataset is, as for `pack`; not looked at where it is packed already.
        border: of LR that is made.

    Raises:
        UserError: as `pack`, `open_pairs` and `PackedPairs.select` do.
    """
    name, part = sources.parse_selection(text)
    path = Path(folder) / packed_name(name, scale)
    if not (path / INDEX).exists():
        with _locked(path):
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
    """Packs a dataset, replacing the one that `out_dir` held; the result does not depend on the number of threads.

    An older one stays as it is if anything fails before the new pixels are complete.

    Args:
        name: of the dataset, or a selection such as "BSDS200[10:]"; see `sources`.
        root: the folder that holds datasets, or several; None for `photographs`.
        scale: HR size / LR size.
        out_dir: the packed dataset's folder, made if it is missing.
        folders: name -> folder, where a dataset lies outside `root`.
        threads: that decode; default one a core, at most 8.
        border: how a picture goes on beyond its edge where LR is made: "symmetric" or "clamped".

    Raises:
        UserError: dataset or image that cannot be read, sizes that do not fit, not enough disk.
    """
    out_dir = Path(out_dir)
    found = sources.select(name, scale, root, folders, border)
    layout, length = _lay_out(found.pairs, scale)
    _check_space(out_dir, length)
    with atomic(out_dir / PIXELS) as temporary, open(temporary, "r+b") as file:
        file.truncate(length)

        def work(job: tuple[pairs.Pair, dict[str, Any]]) -> dict[str, Any]:
            return _pack_one(*job, scale, file.fileno())

        with ThreadPoolExecutor(threads or min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
            futures = [pool.submit(work, job) for job in zip(found.pairs, layout, strict=True)]
            try:
                with _progress(f"packing {name}", len(found.pairs)) as advance:
                    entries = []
                    for future in futures:
                        entries.append(future.result())
                        advance()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        (out_dir / INDEX).unlink(missing_ok=True)  # an older index must not describe the new pixels
    manifest.write(out_dir / MANIFEST, name, scale, entries)
    index = {
        "format": _FORMAT,
        "dataset": name,
        "scale": scale,
        "bytes": length,
        "lr_folder": found.lr_folder,
        "border": border,
        "remarks": list(found.remarks),
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
    loaded = pairs.load(pair, scale)
    for kind, image in (("hr", loaded.hr), ("lr", loaded.lr)):
        if list(image.shape) != entry[kind]["shape"]:
            raise UserError(f"{pair.hr} changed while it was packed: pack again")
        _write_at(descriptor, np.ascontiguousarray(image), entry[kind]["offset"])
        entry[kind]["sha256"] = manifest.hash_pixels(image)
    files = {"hr": pair.hr} if pair.lr is None else {"hr": pair.hr, "lr": pair.lr}
    return {
        **entry,
        "channels": loaded.channels,
        "doubt": loaded.doubt,
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
    if not all(isinstance(text, str) for text in (index["dataset"], index["lr_folder"], *index["remarks"])):
        raise ValueError("no dataset or LR folder")
    if index["border"] not in bicubic.BORDERS:
        raise ValueError(f"border {index['border']!r}")
    for entry in entries:
        if not isinstance(entry["name"], str) or entry["origin"] not in ("file", "bicubic"):
            raise ValueError("an image without name or origin")
        if entry["channels"] not in (1, 3) or not isinstance(entry["doubt"], str):
            raise ValueError(f"{entry['name']} has no channels")
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
