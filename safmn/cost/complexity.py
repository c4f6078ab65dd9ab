"""#Params, #FLOPs and #Acts by the paper's convention (Section 4.1), counted by fvcore.

One multiply-add is one FLOP; activations are the elements that convolutions and linear layers put out; eval mode, one
LR image whose enlargement has 1280x720 pixels. fvcore reads both figures from a trace of the network. Here each network
is traced once, on the meta device: shapes alone decide the counts, so nothing is computed and no feature map is held.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn.activation_count import _DEFAULT_SUPPORTED_OPS as ACTIVATION_HANDLES
from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS as FLOP_HANDLES
from fvcore.nn.jit_analysis import JitModelAnalysis
from fvcore.nn.jit_handles import get_shape
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from safmn import networks
from safmn.errors import UserError

OUTPUT = (720, 1280)  # height, width of the enlarged image
CONVENTION = (
    "fvcore, one multiply-add is one FLOP; activations are outputs of convolutions and linear layers; "
    "eval mode, batch 1, output 1280x720, LayerNorm written out"
)


def input_size(scale: int) -> tuple[int, int]:
    """Height and width of the LR image: 360x640 (x2), 240x427 (x3: rounded up, not 426), 180x320 (x4)."""
    height, width = OUTPUT
    return -(-height // scale), -(-width // scale)


@dataclass(frozen=True)
class Operation:
    """One operation that fvcore counts: its kind ("aten::_convolution"), the module it runs in, shapes and counts.

    `input` and `output` are shapes; `weight` is the weight's shape and `bias` whether there is one, for convolutions.
    """

    kind: str
    module: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    weight: tuple[int, ...] | None
    bias: bool
    transposed: bool
    flops: int
    activations: int


@dataclass(frozen=True)
class Trace:
    """What one pass of a network consists of.

    Attributes:
        network, scale: which network.
        input: shape of the input, 1 x C x H x W.
        training: whether it was traced in train mode.
        parameters: name -> shape of every parameter that the paper counts.
        operations: the counted ones, in order.
        uncounted: kind -> number of operations for which fvcore has no rule; they count 0.
        flops, activations: fvcore's totals.
    """

    network: str
    scale: int
    input: tuple[int, ...]
    training: bool
    parameters: dict[str, tuple[int, ...]]
    operations: tuple[Operation, ...]
    uncounted: dict[str, int]
    flops: int
    activations: int

    @property
    def params(self) -> int:
        """Number of parameter values."""
        return sum(torch.Size(shape).numel() for shape in self.parameters.values())


def measure(name: str, scale: int) -> dict[str, Any]:
    """`params`, `flops` and `activations` of the network `name` as exact integers, by the paper's convention.

    With them: `input` (height and width of the LR image), `channels`, `convention`, the operations that count nothing
    because fvcore has no rule for them, and the versions. UserError where the network does not exist at that scale or
    does not run.
    """
    return record(trace(name, scale))


def record(traced: Trace) -> dict[str, Any]:
    """A trace in the form of `measure`."""
    _, channels, height, width = traced.input
    return {
        "network": traced.network,
        "scale": traced.scale,
        "params": traced.params,
        "flops": traced.flops,
        "activations": traced.activations,
        "input": [height, width],
        "channels": channels,
        "convention": CONVENTION,
        "uncounted": traced.uncounted,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what counts."""
    return {"fvcore": version("fvcore"), "torch": torch.__version__}


def parameters(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the parameters that the paper counts: all, frozen ones too, shared ones once; no buffers.

    A network that leaves some out (SMSR its channel masks) has a method `counted_parameters` that yields the others.
    """
    counted = {id(parameter) for parameter in getattr(network, "counted_parameters", network.parameters)()}
    return {name: tuple(each.shape) for name, each in network.named_parameters() if id(each) in counted}


def trace(
    name: str, scale: int, *, training: bool = False, size: tuple[int, int] | None = None, device: str = "meta"
) -> Trace:
    """Traces the network `name` once.

    Args:
        training: in train mode instead of eval mode.
        size: height and width of the input, instead of the one that gives 1280x720.
        device: "meta" computes nothing. What cannot run there (a module that looks at values) is traced on the CPU.
    """
    network = networks.build(name, scale)
    counted = parameters(network)
    for module in network.modules():
        # fvcore counts the fused kernel as 5 FLOPs an element, the formula written out, as the authors have it, as 0.
        if hasattr(module, "fused"):
            module.fused = False
    channels = networks.info(name).channels
    shape = (1, channels, *(size or input_size(scale)))
    recorder = _Recorder(network.train(training).to(device), torch.rand(shape, device=device))
    try:
        with torch.no_grad(), _on_meta() if device == "meta" else nullcontext():
            totals = recorder.by_operator()
    except UserError:
        raise
    except Exception as error:
        if device == "meta":
            return trace(name, scale, training=training, size=size, device="cpu")
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{name} x{scale} does not run on an image of {shape[3]}x{shape[2]} pixels with {channels} channels "
            f"({reason}): correct the network"
        ) from error
    return Trace(
        network=name,
        scale=scale,
        input=shape,
        training=training,
        parameters=counted,
        operations=tuple(recorder.operations),
        uncounted=dict(sorted(recorder.unsupported_ops().items())),
        flops=totals["flops"],
        activations=totals["activations"],
    )


class _Recorder(JitModelAnalysis):
    """fvcore's analysis with its rules for FLOPs and for activations applied to the same trace."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__(network, (image,))
        self.operations: list[Operation] = []
        self.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        for kind in FLOP_HANDLES.keys() | ACTIVATION_HANDLES.keys():
            self.set_op_handle(kind, partial(self._record, kind))

    def _record(self, kind: str, inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        flops = _number(FLOP_HANDLES.get(kind), inputs, outputs)
        activations = _number(ACTIVATION_HANDLES.get(kind), inputs, outputs)
        convolution = kind == "aten::_convolution"
        self.operations.append(
            Operation(
                kind=kind,
                module=outputs[0].node().scopeName().split("/")[-1],
                input=_shape(inputs[0]) or (),
                output=_shape(outputs[0]) or (),
                weight=_shape(inputs[1]) if convolution else None,
                bias=convolution and _shape(inputs[2]) is not None,
                transposed=convolution and inputs[6].toIValue(),
                flops=flops,
                activations=activations,
            )
        )
        return Counter(flops=flops, activations=activations)


def _number(handle: Any, inputs: list[Any], outputs: list[Any]) -> int:
    """What one of fvcore's rules gives, as an exact integer; 0 where there is no rule."""
    if handle is None:
        return 0
    counted = handle(inputs, outputs)
    return round(sum(counted.values()) if isinstance(counted, Counter) else counted)


def _shape(value: Any) -> tuple[int, ...] | None:
    shape = get_shape(value)
    return None if shape is None else tuple(shape)


@contextmanager
def _on_meta() -> Iterator[None]:
    """Makes convolutions traceable on the meta device."""
    with _RecordedConvolutions(), _MetaConvolutions():
        yield


class _RecordedConvolutions(TorchFunctionMode):
    """Calls `aten::_convolution`, the operation that fvcore counts, where a network calls F.conv2d or its transpose.

    torch comes to that operation by itself only in the kernels of real devices, not on the meta device.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.conv2d and not isinstance(kwargs.get("padding", args[4] if len(args) > 4 else 0), str):
            return _conv2d(*args, **kwargs)
        if function is F.conv_transpose2d:
            return _conv_transpose2d(*args, **kwargs)
        return function(*args, **kwargs)


def _conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return _convolution(input, weight, bias, stride, padding, dilation, False, 0, groups)


def _conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return _convolution(input, weight, bias, stride, padding, dilation, True, output_padding, groups)


def _convolution(image, weight, bias, stride, padding, dilation, transposed, output_padding, groups) -> Tensor:
    stride, padding, dilation, output_padding = map(_pair, (stride, padding, dilation, output_padding))
    # The last four are flags of cuDNN: benchmark, deterministic, enabled, TF32.
    return torch._convolution(
        image, weight, bias, stride, padding, dilation, transposed, output_padding, groups, False, False, True, True
    )


def _pair(value: Any) -> tuple[int, int]:
    # While tracing, a number that a network takes from a shape is a tensor.
    if isinstance(value, tuple | list):
        return int(value[0]), int(value[-1])
    return int(value), int(value)


class _MetaConvolutions(TorchDispatchMode):
    """Below the tracer: the meta device knows the shape rule of `aten::convolution`, but not of `_convolution`."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._convolution.default:
            return torch.ops.aten.convolution.default(*args[:9])
        return function(*args, **(kwargs or {}))
