"""The operations of the paper's Table 5 inside a network, as named ranges of `torch.profiler`.

Kernel names do not suffice: an addition of Eq. (4) and an addition inside LayerNorm run the same kernel. So the calls
of torch's functions are named, except those inside a normalisation, which is one operation as a whole.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.profiler import record_function

from safmn.networks.safmn import FMM

NAMES = ("layer_norm", "channel_splitting", "adaptive_max_pool", "nearest_interpolation", "product", "addition")
PREFIX = "safmn::"
FUNCTIONS = {
    Tensor.chunk: "channel_splitting",
    F.adaptive_max_pool2d: "adaptive_max_pool",
    F.interpolate: "nearest_interpolation",
    Tensor.mul: "product",
    Tensor.add: "addition",
}


@contextmanager
def recording(network: nn.Module) -> Iterator[None]:
    """Give the operations of `network` names from NAMES while it runs under a profiler. Not for compiled networks."""
    calls = _Calls()
    with ExitStack() as stack:
        for block in (module for module in network.modules() if isinstance(module, FMM)):
            for norm in (block.norm1, block.norm2):
                stack.enter_context(norm.register_forward_pre_hook(lambda *_: calls.enter_norm()))
                stack.enter_context(norm.register_forward_hook(lambda *_: calls.leave_norm(), always_call=True))
        with calls:
            yield


class _Calls(TorchFunctionMode):
    """Names the calls of `FUNCTIONS`."""

    def __init__(self) -> None:
        super().__init__()
        self.norm: record_function | None = None  # the running normalisation

    def enter_norm(self) -> None:
        self.norm = record_function(PREFIX + "layer_norm")
        self.norm.__enter__()

    def leave_norm(self) -> None:
        if self.norm is not None:
            self.norm.__exit__(None, None, None)
        self.norm = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = FUNCTIONS.get(function) if self.norm is None else None
        if name is None:
            return function(*args, **(kwargs or {}))
        with record_function(PREFIX + name):
            return function(*args, **(kwargs or {}))
