"""Named ranges inside a network, so that a profiler can attribute time to the operations of the paper's Table 5.

A network writes `with ranges.named("product"): ...` around an operation. Outside of `recording()` that is a null
context, which tracing, compilation and the meta device do not see; inside it, the range appears under its name in
`torch.profiler`. Kernel names would not do: an addition of SAFM and an addition of LayerNorm run the same kernel.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch.profiler import record_function

NAMES = ("layer_norm", "channel_splitting", "adaptive_max_pool", "nearest_interpolation", "product", "addition")
PREFIX = "safmn::"

_recording = False


@contextmanager
def recording() -> Iterator[None]:
    """Within it, named ranges are handed to the profiler. Not meant for compiled networks: they lose their ranges."""
    global _recording
    before, _recording = _recording, True
    try:
        yield
    finally:
        _recording = before


def named(name: str) -> AbstractContextManager:
    """A range called `name` (one of NAMES) for the profiler while `recording()`, else nothing."""
    if _recording:
        return record_function(PREFIX + name)
    return nullcontext()
