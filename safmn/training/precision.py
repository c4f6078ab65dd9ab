"""The number types in which a network computes: float32, or bfloat16 where torch's autocast uses it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

# What CUDA's autocast computes in half precision, and what in float32; torch documents both lists ("CUDA Ops that can
# autocast to ..."). All other functions take the types that they are given.
HALF = frozenset(
    """__matmul__ addbmm addmm addmv addr baddbmm bmm chain_matmul conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d conv_transpose3d convolution einsum gru_cell linalg_multi_dot linear lstm_cell matmul mm mv prelu
    rnn_relu_cell rnn_tanh_cell scaled_dot_product_attention""".split()  # noqa: SIM905
)
SINGLE = frozenset(
    """__pow__ acos asin cdist cosh cosine_similarity cumprod cumsum dist erfinv exp expm1 group_norm interpolate
    l1_loss layer_norm linalg_matrix_norm linalg_vector_norm log log10 log1p log2 log_softmax logsumexp mse_loss norm
    normalize pow prod reciprocal renorm rms_norm rsqrt sinh smooth_l1_loss softmax softplus sum tan""".split()  # noqa: SIM905
)


def computing(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return a context in which a network computes as a study's `training.precision` says.

    Autocast does not support the meta device; there, types are those that CUDA's autocast would give.
    """
    half = precision == "bf16"
    if device.type == "meta":
        return CastOnMeta(half)
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


class CastOnMeta(TorchFunctionMode):
    """Autocast for tensors without data.

    A function that is written in Python and calls others, such as attention, counts as one function.
    """

    def __init__(self, enabled: bool) -> None:
        super().__init__()
        self._enabled = enabled

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        wanted = torch.bfloat16 if name in HALF else torch.float32 if name in SINGLE else None
        if self._enabled and wanted is not None:
            args, kwargs = tree_map(lambda value: _cast(value, wanted), (args, kwargs))
        return func(*args, **kwargs)


def _cast(value: Any, wanted: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor) and value.is_meta and value.dtype in (torch.float32, torch.bfloat16):
        return value.to(wanted)
    return value
