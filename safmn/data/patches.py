"""Make training batches: draw patches and bring their pixels to the device.

The draw depends on seed, iteration, the images selected, batch and patch size and the kind of draw (`draws`), and on
nothing else. Each iteration has a random stream of its own (Philox, a counter-based generator, keyed by seed and
iteration). So a run can be resumed at any iteration, and threads, device and the way of the pixels change nothing. Only
raw 64-bit words of the generator are used, which NumPy keeps the same from version to version.

Pixels reach the device in one of two ways, with identical bytes:

- *device*: the selected images lie on the device as one flat uint8 tensor. A batch is two index computations and two
  gathers there, and nothing waits for the host. Used on a GPU if the images fill at most half of its free memory.
- *host*: patches are sliced from the memory map. For a GPU, one thread does so in advance, into pinned memory, and
  copies on a stream of its own.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safmn.data.draws import DRAWS, Integers
from safmn.data.images import Pixels
from safmn.data.packed import PackedPairs
from safmn.errors import UserError

SMALL = ("refuse", "skip", "mirror")
AUGMENT = ("flip", "rotate")
_WORDS = 3  # random words for each patch: one in reserve, place, flips
_BLOCK = 64  # iterations whose indices are computed and sent to the device at once
_AHEAD = 4  # batches that the thread prepares
_STREAM = 0x7061746368  # makes these draws differ from others of the same seed ("patch" in ASCII)

Batch = tuple[Tensor, Tensor]
"""LR and HR patches."""


@dataclass(frozen=True)
class Draw:
    """The patches of one batch, as arrays of length N.

    A patch is cropped, its columns are reversed (hflip), its rows are reversed (vflip), and it is transposed. Together
    these are the eight symmetries of the square: the paper's flips and rotations (Section 4.1). Without "rotate" a
    patch is never transposed; without "flip" it is changed an even number of times, which is a rotation.

    Attributes:
        image: index into the sampler's images.
        top: row of the patch's corner in LR pixels; times the scale in HR pixels.
        left: column, likewise.
        hflip: whether columns are reversed.
        vflip: whether rows are reversed.
        transpose: whether it is transposed.
    """

    image: Integers
    top: Integers
    left: Integers
    hflip: NDArray[np.bool_]
    vflip: NDArray[np.bool_]
    transpose: NDArray[np.bool_]


class PatchSampler:
    """Draw batches of LR patches and their HR patches.

    Attributes:
        names: of the images that are drawn from; `Draw.image` is an index into them.
        backend: "device" or "host", see the module's docstring.
        bytes: of these images, LR and HR.
        skipped: names of images that are too small.
    """

    def __init__(
        self,
        datasets: Sequence[PackedPairs],
        batch: int,
        patch: int,
        scale: int,
        seed: int,
        device: torch.device | str = "cpu",
        draw: str = "area",
        resident: bool | None = None,
        ahead: int | None = None,
        small: str = "refuse",
        augment: Collection[str] = AUGMENT,
    ) -> None:
        """Set up the draw; upload the images if they are to be resident.

        Args:
            datasets: packed datasets, or selections of their images (`PackedPairs.select`).
            batch: number of patches in a batch, N.
            patch: side of an LR patch in pixels, p; HR patches have side p * scale.
            scale: HR size / LR size, the same for all datasets.
            seed: from 0 to 2**64 - 1.
            device: where batches are needed.
            draw: "area": all positions in all images are equally likely; "subimages": see `draws.Subimages`.
            resident: whether images lie on the device; None: decided by device and free memory.
            ahead: batches prepared by a thread (host backend); None: 4 on a GPU, else 0.
            small: what to do with images smaller than a patch (or a sub-image): "refuse", "skip" (they are then in
                `skipped`), or "mirror": continue them to that size with their own mirror image, LR and HR alike.
            augment: which changes are drawn: "flip" (rows, columns or both reversed), "rotate" (by multiples of 90
                degrees), both, or none. Places do not depend on it.

        Raises:
            UserError: a dataset of another scale, an image that is too small, or a patch larger than a sub-image.
            ValueError: an argument out of range.
        """
        if batch < 1 or patch < 1 or not 0 <= seed < 2**64 or not datasets:
            raise ValueError(f"batch {batch}, patch {patch}, seed {seed} or the number of datasets is out of range")
        if draw not in DRAWS or small not in SMALL:
            raise ValueError(f"draw {draw!r} is not one of {tuple(DRAWS)}, or small {small!r} not one of {SMALL}")
        if not set(augment) <= set(AUGMENT):
            raise ValueError(f"augment {augment!r} holds another word than {AUGMENT}")
        for packed in datasets:
            if packed.scale != scale:
                raise UserError(f"{packed.path} was packed for x{packed.scale}, not x{scale}: pack it for x{scale}")
        self.batch_size, self.patch, self.scale, self.seed = batch, patch, scale, seed
        self.device, self._augment = torch.device(device), frozenset(augment)
        side = DRAWS[draw].side(patch, scale)
        images = [
            (name, packed.lr(index), packed.hr(index)) for packed in datasets for index, name in enumerate(packed.names)
        ]
        if small == "mirror":
            images = [(name, _mirrored(lr, side), _mirrored(hr, side * scale)) for name, lr, hr in images]
        fitting = [image for image in images if min(image[1].shape[:2]) >= side]
        if len(fitting) < len(images) and (small == "refuse" or not fitting):
            raise _too_small(images, side, scale, draw)
        self.names = [name for name, _, _ in fitting]
        self.skipped = [name for name, lr, _ in images if min(lr.shape[:2]) < side]
        self._lr = [lr for _, lr, _ in fitting]
        self._hr = [hr for _, _, hr in fitting]
        self.bytes = sum(image.size for image in chain(self._lr, self._hr))
        self._draws = DRAWS[draw]([image.shape[:2] for image in self._lr], patch, scale, seed)

        if resident is None:
            resident = self.device.type == "cuda" and self.bytes <= torch.cuda.mem_get_info(self.device)[0] // 2
        self.backend = "device" if resident else "host"
        self._resident = _Resident(self) if resident else None
        if ahead is None:
            ahead = _AHEAD if self.device.type == "cuda" else 0
        self._ahead = _Ahead(self._from_host, ahead, self.device) if ahead and not resident else None

    def draw(self, iteration: int) -> Draw:
        """Draw the batch of an iteration (from 0); a pure function of the seed and `iteration`."""
        if iteration < 0:
            raise ValueError(f"iteration {iteration} is negative")
        generator = np.random.Philox(
            key=np.array([self.seed, iteration], np.uint64), counter=np.array([0, 0, 0, _STREAM], np.uint64)
        )
        _, where, flips = generator.random_raw(_WORDS * self.batch_size).reshape(-1, _WORDS).T
        image, top, left = self._draws.places(iteration, where)
        hflip, vflip, transpose = ((flips >> np.uint64(bit) & np.uint64(1)).astype(bool) for bit in (61, 62, 63))
        if "rotate" not in self._augment:
            transpose = np.zeros_like(transpose)
        if "flip" not in self._augment:
            vflip = vflip & ("rotate" in self._augment)
            hflip = vflip ^ transpose
        return Draw(image, top, left, hflip, vflip, transpose)

    def batch(self, iteration: int) -> Batch:
        """Return the pixels of `draw(iteration)`.

        Returns:
            LR, uint8 N x 3 x p x p, and HR, uint8 N x 3 x (p * scale) x (p * scale), RGB, on `device`, in channels-last
            memory format. On a GPU they are ready for work queued on the current stream.
        """
        if self._resident is not None:
            return self._resident.batch(iteration)
        return self._from_host(iteration) if self._ahead is None else self._ahead.get(iteration)

    def close(self) -> None:
        """Stop the thread; the next batch starts it again."""
        if self._ahead is not None:
            self._ahead.close()

    def __enter__(self) -> "PatchSampler":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _from_host(self, iteration: int) -> Batch:
        draw = self.draw(iteration)
        pin = self.device.type == "cuda"
        batches = []
        for images, scale in ((self._lr, 1), (self._hr, self.scale)):
            side = self.patch * scale
            out = torch.empty((self.batch_size, side, side, 3), dtype=torch.uint8, pin_memory=pin)
            _slice(images, draw, side, scale, out.numpy())
            batches.append(out.to(self.device, non_blocking=True).permute(0, 3, 1, 2))
        return batches[0], batches[1]


def _too_small(images: Sequence[tuple[str, Pixels, Pixels]], side: int, scale: int, draw: str) -> UserError:
    sides = [min(lr.shape[:2]) for _, lr, _ in images]
    small = [image for image, length in zip(images, sides, strict=True) if length < side]
    name, _, hr = small[0]
    kind, need = DRAWS[draw], side * scale
    return UserError(
        f"image {name} is {hr.shape[1]}x{hr.shape[0]}, smaller than {kind.what} of {need}x{need} ({len(small)} of "
        f"{len(images)} images are): leave them out, or {kind.instead.format(least=min(sides))}"
    )


def _mirrored(image: Pixels, side: int) -> Pixels:
    """Return the image, continued to `side` by its mirror image where a side is shorter."""
    missing = [max(0, side - length) for length in image.shape[:2]]
    if not any(missing):
        return image
    return np.pad(image, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric")


def _slice(images: Sequence[Pixels], draw: Draw, side: int, scale: int, out: Pixels) -> None:
    """Crop, flip and transpose into `out`, N x side x side x 3."""
    for n, index in enumerate(draw.image):
        top, left = draw.top[n] * scale, draw.left[n] * scale
        crop = images[index][top : top + side, left : left + side]
        # cv2 moves whole pixels; NumPy's negative strides would move single bytes, nine times slower.
        if draw.hflip[n] or draw.vflip[n]:
            crop = cv2.flip(crop, -1 if draw.hflip[n] and draw.vflip[n] else int(draw.hflip[n]))
        if draw.transpose[n]:
            crop = cv2.transpose(crop)
        out[n] = crop


class _Resident:
    """Hold the selected images on the device and gather batches there.

    Pixel (row, column) of patch n lies at start[n] + row * row_step[n] + column * column_step[n], in pixels. Flips make
    a step negative, a transpose exchanges the two steps.
    """

    def __init__(self, sampler: PatchSampler) -> None:
        self._sampler = sampler
        self._offsets: list[Integers] = []  # of LR and HR images, in pixels
        self._widths: list[Integers] = []
        self._pixels = torch.empty((sampler.bytes // 3, 3), dtype=torch.uint8, device=sampler.device)
        offset = 0
        for images in (sampler._lr, sampler._hr):
            self._offsets.append(np.empty(len(images), np.int64))
            self._widths.append(np.array([image.shape[1] for image in images], np.int64))
            for i, image in enumerate(images):
                count = image.size // 3
                self._pixels[offset : offset + count] = torch.from_numpy(image.reshape(-1, 3).copy())
                self._offsets[-1][i] = offset
                offset += count
        sides = (sampler.patch, sampler.patch * sampler.scale)
        self._ranges = [torch.arange(side, device=sampler.device) for side in sides]
        self._block: tuple[int, Tensor] | None = None

    def batch(self, iteration: int) -> Batch:
        start = iteration // _BLOCK * _BLOCK
        if self._block is None or self._block[0] != start:
            self._block = start, self._plan(start)
        lr_plan, hr_plan = self._block[1][iteration - start]
        return self._gather(lr_plan, self._ranges[0]), self._gather(hr_plan, self._ranges[1])

    def _gather(self, plan: Tensor, along: Tensor) -> Tensor:
        start, row_step, column_step = plan[:, :, None]
        rows = start + row_step * along
        index = rows[:, :, None] + (column_step * along)[:, None, :]
        pixels = self._pixels.index_select(0, index.view(-1))
        return pixels.view(*index.shape, 3).permute(0, 3, 1, 2)

    def _plan(self, first: int) -> Tensor:
        """Return start and steps of all patches of a block of iterations: int64, block x (LR, HR) x 3 x N."""
        sampler = self._sampler
        plan = np.empty((_BLOCK, 2, 3, sampler.batch_size), np.int64)
        for i in range(_BLOCK):
            draw = sampler.draw(first + i)
            for kind, scale in enumerate((1, sampler.scale)):
                last = sampler.patch * scale - 1
                width = self._widths[kind][draw.image]
                top = draw.top * scale + draw.vflip * last
                left = draw.left * scale + draw.hflip * last
                row_step = np.where(draw.vflip, -width, width)
                column_step = np.where(draw.hflip, -1, 1)
                plan[i, kind, 0] = self._offsets[kind][draw.image] + top * width + left
                plan[i, kind, 1] = np.where(draw.transpose, column_step, row_step)
                plan[i, kind, 2] = np.where(draw.transpose, row_step, column_step)
        on_host = torch.from_numpy(plan)
        if sampler.device.type == "cuda":
            on_host = on_host.pin_memory()  # so that the copy does not wait
        return on_host.to(sampler.device, non_blocking=True)


class _Ahead:
    """Make the batches of successive iterations in a thread, `depth` of them before they are needed.

    On a GPU it allocates and copies on a stream of its own. Whoever captures a CUDA graph at the same time should use
    capture_error_mode="thread_local".
    """

    def __init__(self, make: Callable[[int], Batch], depth: int, device: torch.device) -> None:
        self._make, self._depth = make, depth
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._pool: ThreadPoolExecutor | None = None
        self._futures: deque[Future[tuple[Batch, torch.cuda.Event | None]]] = deque()
        self._next = 0  # iteration of the first future

    def get(self, iteration: int) -> Batch:
        """Return the batch of an iteration; if it does not follow the last one, start again from there."""
        if self._pool is None or iteration != self._next:
            self.close()
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="patches")
            self._futures.extend(self._pool.submit(self._work, iteration + i) for i in range(self._depth))
        self._next = iteration + 1
        future = self._futures.popleft()
        self._futures.append(self._pool.submit(self._work, iteration + self._depth))
        try:
            batch, copied = future.result()
        except BaseException:
            self.close()
            raise
        if copied is not None:
            stream = torch.cuda.current_stream(batch[0].device)
            stream.wait_event(copied)
            for tensor in batch:
                tensor.record_stream(stream)
        return batch

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            self._futures.clear()

    def _work(self, iteration: int) -> tuple[Batch, torch.cuda.Event | None]:
        with torch.cuda.stream(self._stream):  # None: no change
            batch = self._make(iteration)
            return batch, None if self._stream is None else self._stream.record_event()
