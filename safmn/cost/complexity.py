"""#Params, #FLOPs and #Acts by the paper's convention (Section 4.1), which is fvcore's, and the convolutions.

One multiply-add is one FLOP. Activations are the output elements of convolutions and linear layers. The network is in
eval mode and gets one LR image whose enlargement has 1280x720 pixels.

The network runs once on the meta device, where tensors have shapes but no values. A recorder sees every operation that
torch carries out, also inside a Python function with gradients of its own. An operation is counted by a rule
(`safmn.cost.rules`), or taken apart into operations that have one, or free by convention. Any other operation is named
as uncounted: then the totals are lower bounds.
"""

import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from safmn import networks
from safmn.cost import rules, running
from safmn.errors import UserError, as_line
from safmn.networks import trial
from safmn.networks.parameters import check_sized

OUTPUT = (720, 1280)  # height, width of the enlarged image
RULES = (
    "fvcore's rules, one multiply-add is one FLOP; activations are outputs of convolutions and linear layers; "
    "eval mode, batch 1, {size}, LayerNorm written out"
)
CONVENTION = RULES.format(size="output 1280x720")


def input_size(scale: int) -> tuple[int, int]:
    """Return height and width of the LR image: 360x640 (x2), 240x427 (x3: rounded up, not 426), 180x320 (x4)."""
    height, width = OUTPUT
    return -(-height // scale), -(-width // scale)


@dataclass(frozen=True)
class Operation:
    """One counted operation.

    Attributes:
        kind: torch's name, such as "aten::convolution".
        output: shape of its result.
        weight: shape of a convolution's weight; else None.
        bias: whether it is a convolution with a bias.
        transposed: whether it is a transposed convolution.
        flops: multiply-adds.
        activations: output elements, if they count.
    """

    kind: str
    output: tuple[int, ...]
    weight: tuple[int, ...] | None
    bias: bool
    transposed: bool
    flops: int
    activations: int


@dataclass(frozen=True)
class Trace:
    """One forward pass of a network.

    Attributes:
        network: the network's name.
        scale: its scale.
        input: shape of the input, 1 x C x H x W.
        parameters: name -> shape of every parameter that the paper counts.
        operations: the counted ones, in order.
        uncounted: kind -> calls of what has a cost but no rule. It counts 0, so the totals are lower bounds.
        value_reads: places ("module body.0, mixer.py line 12") where the network reads values of a tensor, so that its
            path may depend on the image.
    """

    network: str
    scale: int
    input: tuple[int, ...]
    parameters: dict[str, tuple[int, ...]]
    operations: tuple[Operation, ...]
    uncounted: dict[str, int]
    value_reads: tuple[str, ...]

    @property
    def params(self) -> int:
        """Number of parameter values."""
        return sum(torch.Size(shape).numel() for shape in self.parameters.values())

    @property
    def flops(self) -> int:
        """Multiply-adds of all operations."""
        return sum(operation.flops for operation in self.operations)

    @property
    def activations(self) -> int:
        """Output elements of convolutions and linear layers."""
        return sum(operation.activations for operation in self.operations)

    @property
    def convolutions(self) -> int:
        """Convolutions, transposed ones too, each call once."""
        return sum(operation.weight is not None for operation in self.operations)


class Counts(dict[str, Any]):
    """What `measure` returns: a dictionary, ready for JSON, whose entries are attributes as well (`counts.flops`)."""

    def __getattr__(self, name: str) -> Any:
        """Return an entry."""
        if name in self:
            return self[name]
        raise AttributeError(f"the counts have no {name!r}: there are {', '.join(self)}")

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        height, width = self["input"]
        least = "≥ " if self["lower_bound"] else ""
        lines = [
            ("#Params", f"{self.params / 1e3:,.2f} K", self.params),
            ("#FLOPs", f"{least}{self.flops / 1e9:,.3f} G", self.flops),
            ("#Acts", f"{least}{self.activations / 1e6:,.3f} M", self.activations),
            ("#Conv", str(self.convolutions), self.convolutions),
        ]
        rows = "".join(f"<tr><th>{name}</th><td>{text}</td><td>{exact:,}</td></tr>" for name, text, exact in lines)
        title = escape(f"{self['network']} x{self['scale']}, LR {width}x{height}")
        return f"<table><caption>{title}</caption><tr><th></th><th></th><th>exactly</th></tr>{rows}</table>"


def measure(
    network: str | nn.Module,
    scale: int,
    height: int | None = None,
    width: int | None = None,
    channels: int | None = None,
) -> Counts:
    """Count parameters, FLOPs and activations of a network by the paper's convention (Section 4.1).

    Args:
        network: a name from `safmn list`, or a module that maps N x C x H x W to N x C x sH x sW; it is not changed.
        scale: 2, 3 or 4; of a module any whole number.
        height: of the LR image in pixels; by default that of an enlargement of 1280x720.
        width: likewise; both are given or none.
        channels: C of a module, 3 by default.

    Returns:
        `params`, `flops`, `activations` and `convolutions` as exact integers; `input` (height and width of the LR
        image), `channels`, `convention`, `versions`; `uncounted`, a list of {"operation", "calls"} without a rule;
        `lower_bound`, whether that list has entries, so that FLOPs and activations are lower bounds; `value_reads`,
        places where the network reads values, so that the counts hold for one random image.

    Raises:
        UserError: the network does not exist at that scale, or does not run; or only one side is given.
    """
    return record(trace(network, scale, size=chosen_size(height, width), channels=channels))


def chosen_size(height: int | None, width: int | None) -> tuple[int, int] | None:
    """Return the size of an LR image that a user asks for, None for the paper's; UserError for half of one."""
    if height is None and width is None:
        return None
    if height is None or width is None or min(height, width) < 1:
        raise UserError("give height and width of the LR image together, in pixels, 1 or more (or neither)")
    return height, width


def record(traced: Trace) -> Counts:
    """Return a trace in the form of `measure`."""
    _, channels, height, width = traced.input
    size = "output 1280x720" if (height, width) == input_size(traced.scale) else f"LR {width}x{height}"
    return Counts(
        {
            "network": traced.network,
            "scale": traced.scale,
            "params": traced.params,
            "flops": traced.flops,
            "activations": traced.activations,
            "convolutions": traced.convolutions,
            "input": [height, width],
            "channels": channels,
            "convention": RULES.format(size=size),
            "uncounted": [{"operation": kind, "calls": calls} for kind, calls in traced.uncounted.items()],
            "lower_bound": bool(traced.uncounted),
            "value_reads": list(traced.value_reads),
            "versions": {"fvcore": version("fvcore"), "torch": torch.__version__},
        }
    )


def warnings(counted: dict[str, Any]) -> list[str]:
    """Return the limits of a record's counts, a sentence each."""
    who = f"{counted['network']} x{counted['scale']}"
    uncounted = [
        f"{who}: {entry['operation']} ({entry['calls']} calls) has no rule and counts 0: "
        "FLOPs and activations are lower bounds"
        for entry in counted["uncounted"]
    ]
    return uncounted + [
        f"{who}: {place} looks at values of a tensor (an `if`, .item(), ...): counted on one random image, others may "
        "count differently"
        for place in counted["value_reads"]
    ]


def parameters(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the parameters that the paper counts: all, frozen ones too, shared ones once; no buffers.

    A network that leaves some out (SMSR its channel masks) has a method `counted_parameters` that yields the others.
    """
    counted = {id(parameter) for parameter in getattr(network, "counted_parameters", network.parameters)()}
    return {name: tuple(value.shape) for name, value in network.named_parameters() if id(value) in counted}


def trace(
    network: str | nn.Module,
    scale: int,
    *,
    training: bool = False,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    device: str = "meta",
) -> Trace:
    """Run a network once and record its operations.

    Args:
        network: a name from `safmn list`, or a module, of which a copy is run.
        scale: 2, 3 or 4.
        training: run in train mode instead of eval mode.
        size: height and width of the input; by default those of `input_size`.
        channels: of the input; by default those of a named network, and 3 of a module.
        device: "meta" computes no values. A network that cannot run there, since it reads values, runs on the CPU.

    Raises:
        UserError: the network does not exist at that scale, or does not run.
    """
    if isinstance(network, str):
        name, module = network, networks.build(network, scale)
        channels = channels or networks.info(network).channels
    else:
        name, channels = type(network).__name__, channels or 3
        try:
            module = deepcopy(network)
        except RuntimeError as error:
            raise UserError(f"{name} cannot be copied ({as_line(error)}): correct the network") from error
        check_sized(module, name)
    counted = parameters(module)
    shape = (1, channels, *(size or input_size(scale)))
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)) if device != "meta" else torch.empty(shape)
    recorder = _Recorder()
    try:
        module = module.train(training).to(device)
        built = {id(parameter) for parameter in module.parameters()}  # before forward() may add some
        output = _run(module, image.to(device), recorder)
        if isinstance(network, str) and networks.info(network).is_own:
            trial.check_output(output, image, name, scale)
        if recorder.parameters.keys() - built:
            raise UserError(
                f"{networks.defined_in(name) if isinstance(network, str) else name}: forward() uses parameters that "
                "the network does not have when it is built, so that they are neither counted, trained nor saved: make "
                "them in __init__(), and keep modules in nn.ModuleList, not in a plain list"
            )
    except UserError:
        raise
    except Exception as error:
        if device == "meta":
            return trace(network, scale, training=training, size=size, channels=channels, device="cpu")
        raise UserError(
            f"{name} x{scale} does not run on an image of {shape[3]}x{shape[2]} pixels with {channels} channels "
            f"({_reason(error, recorder.running)}): correct the network"
        ) from error
    return Trace(
        network=name,
        scale=scale,
        input=shape,
        parameters=counted,
        operations=tuple(recorder.operations),
        uncounted=dict(sorted(recorder.uncounted.items())),
        value_reads=tuple(recorder.value_reads),
    )


def _run(network: nn.Module, image: Tensor, recorder: "_Recorder") -> object:
    """Run one pass under the recorder. In inference mode torch shows it whole layers, before they become kernels."""
    with ExitStack() as contexts:
        contexts.enter_context(torch.inference_mode())
        contexts.enter_context(_without_fused_layers())
        recorder.running = contexts.enter_context(running.paths(network))
        if image.device.type != "meta":  # where tensors have values
            contexts.enter_context(_LeavesTorch(recorder))
        contexts.enter_context(recorder)
        return network(image)


@contextmanager
def _without_fused_layers() -> Iterator[None]:
    """Make attention and encoder layers take their separate steps, and compiled modules run as they are written."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Recorder(TorchDispatchMode):
    """Counts every operation that torch carries out.

    Attributes:
        operations, uncounted, value_reads: as in `Trace`.
        parameters: those that operations took, if they are trained, by id.
        running: paths of the modules that are running.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.uncounted: Counter[str] = Counter()
        self.value_reads: dict[str, None] = {}  # an ordered set
        self.parameters: dict[int, nn.Parameter] = {}
        self.running: list[str] = []
        self._requested = ""  # the operation that the network called, while its parts run

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operation = isinstance(function, torch._ops.OpOverload)
        kind = function._schema.name if operation else function.name()
        name = kind.removeprefix("aten::").rstrip("_") or kind
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.parameters |= {id(each): each for each in tensors if isinstance(each, nn.Parameter) and each.requires_grad}
        has_rule = rules.has_rule(function, name) and all(tensor.layout is torch.strided for tensor in tensors)
        if operation and not has_rule and _is_composite(function):
            return self._run_parts(function, kind, args, kwargs)
        output = function(*args, **kwargs)
        counted = rules.count(function, name, args, kwargs, output) if has_rule else None
        if counted is not None:
            self._count(kind, *counted, output)
        elif not (operation and rules.free(function)):
            self.uncounted[self._requested or kind] += 1
        if operation and not VALUE_READS.isdisjoint(function.tags):
            self.read_values()
        return output

    def _run_parts(self, function: Any, kind: str, args: Any, kwargs: Any) -> Any:
        """Run an operation as the operations that torch defines it by, under the recorder.

        Not by `decompose`, which prefers Python forms where there are some: bicubic interpolation would become
        element-wise products, which count nothing.
        """
        requested, self._requested = self._requested, self._requested or kind
        try:
            with self:
                return function._op_dk(COMPOSITE, *args, **kwargs)
        finally:
            self._requested = requested

    def _count(self, kind: str, flops: int, activations: int, arguments: dict[str, Any], output: Any) -> None:
        out = next(leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
        convolution = "transposed" in arguments
        self.operations.append(
            Operation(
                kind=kind,
                output=tuple(out.shape),
                weight=tuple(arguments["weight"].shape) if convolution else None,
                bias=convolution and arguments["bias"] is not None,
                transposed=convolution and arguments["transposed"],
                flops=flops,
                activations=activations,
            )
        )

    def read_values(self) -> None:
        """Note that the network reads values at the line that is running."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and not _is_network_code(frame.f_code.co_filename):
            frame = frame.f_back
        line = frame and (frame.f_code.co_filename, frame.f_lineno)
        self.value_reads[_place(self.running, line)] = None


COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
VALUE_READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def _is_composite(function: torch._ops.OpOverload) -> bool:
    """Return whether torch defines an operation by others."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), COMPOSITE)


class _LeavesTorch(TorchFunctionMode):
    """Notes where values leave torch, for numpy for instance: what is computed there cannot be seen."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (Tensor.numpy, Tensor.__array__, Tensor.__dlpack__):
            self._recorder.uncounted["numpy"] += 1
        if function is Tensor.tolist:
            self._recorder.read_values()
        return function(*args, **(kwargs or {}))


def _reason(error: Exception, running: list[str]) -> str:
    """Say where an error came from, its type and its first line: torch's messages may be as short as `map::at`."""
    lines = [
        (frame.f_code.co_filename, number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if _is_network_code(frame.f_code.co_filename)
    ]
    return f"{_place(running, lines[-1] if lines else None)}: {as_line(error)}"


def _is_network_code(file: str) -> bool:
    """Return whether a file belongs to a network, rather than to torch or to this module."""
    return file != __file__ and not file.startswith((str(Path(torch.__file__).parent), "<"))


def _place(running: list[str], line: tuple[str, int] | None) -> str:
    where = f"module {running[-1]}" if running and running[-1] else "the network"
    return f"{where}, {Path(line[0]).name} line {line[1]}" if line else where
