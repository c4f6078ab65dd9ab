"""Images in batches of equal size, read ahead by a thread; on a CPU, several small batches at once."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGE = 1 << 20
"""HR pixels from which a CPU works on one batch with all its cores."""
AHEAD = 8
"""Images that are read ahead of the one in use."""

Result = TypeVar("Result")
Pictures = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""LR and HR of one image in RGB, H x W x 3."""
Loaded = tuple[Tensor, Tensor, Pictures | None]
"""LR and HR as the network gets them, C x H x W; the pictures where C is 1 and they are to be measured in RGB."""


@dataclass(frozen=True)
class Batch:
    """Images of equal size: their indices, LR and HR, N x C x H x W; the pictures where C is 1."""

    indices: list[int]
    lr: Tensor
    hr: Tensor
    pictures: list[Pictures]

    @property
    def pixels(self) -> int:
        """HR pixels of all images."""
        return self.hr.shape[0] * self.hr.shape[-2] * self.hr.shape[-1]


def batches(count: int, load: Callable[[int], Loaded], limit: int) -> Iterator[Batch]:
    """Group images of equal size, at most `limit` HR pixels unless it is one image.

    Images are read ahead by a thread; unfinished batches together hold at most 8 x `limit` pixels.
    """
    waiting: dict[torch.Size, list[tuple[int, Loaded]]] = {}
    held = 0
    for index, loaded in read_ahead(count, load):
        lr, hr, _ = loaded
        pixels = hr.shape[-2] * hr.shape[-1]
        group = waiting.setdefault(lr.shape, [])
        group.append((index, loaded))
        held += pixels
        full = (len(group) + 1) * pixels > limit
        if full or held > 8 * limit:
            batch = _stack(waiting.pop(lr.shape if full else next(iter(waiting))))
            held -= batch.pixels
            yield batch
    yield from map(_stack, waiting.values())


def _stack(group: list[tuple[int, Loaded]]) -> Batch:
    lr, hr, pictures = zip(*(loaded for _, loaded in group), strict=True)
    indices = [index for index, _ in group]
    return Batch(indices, torch.stack(lr), torch.stack(hr), [picture for picture in pictures if picture is not None])


def spread(work: Callable[[Batch], Result], batches: Iterator[Batch], device: torch.device) -> Iterator[Result]:
    """Yield the results of the batches, in order; on a CPU, small batches run on one core each.

    On a small image the cores that share a network wait for one another between its layers; whole images need not wait.
    Large images keep all cores busy, and several at once would need much memory.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield from map(work, batches)
        return
    pending: deque[Future[Result]] = deque()
    try:
        # Here as well, where batches are put together: a team of threads spins for milliseconds after its work, and
        # takes the cores from the workers.
        torch.set_num_threads(1)
        # torch keeps the number of threads per thread, but new threads take it from the last setting anywhere.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                for batch in batches:
                    large = batch.pixels > LARGE
                    while pending and (large or len(pending) > threads):
                        yield pending.popleft().result()
                    if large:
                        torch.set_num_threads(threads)
                        done = work(batch)
                        torch.set_num_threads(1)
                        yield done
                    else:
                        pending.append(pool.submit(work, batch))
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
    finally:
        torch.set_num_threads(threads)


def read_ahead(count: int, load: Callable[[int], Loaded]) -> Iterator[tuple[int, Loaded]]:
    """Yield (index, what was loaded) in order; a thread reads a few images ahead of the one in use."""
    with ThreadPoolExecutor(max_workers=1) as pool:  # one: a benchmark need not be safe to read from several
        upcoming = deque(pool.submit(load, index) for index in range(min(AHEAD, count)))
        try:
            for index in range(count):
                pair = upcoming.popleft().result()
                if index + AHEAD < count:
                    upcoming.append(pool.submit(load, index + AHEAD))
                yield index, pair
        finally:
            for future in upcoming:
                future.cancel()
