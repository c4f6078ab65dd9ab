"""#Params, #FLOPs and #Acts by the paper's convention (Section 4.1), which is fvcore's.

One multiply-add is one FLOP; activations are the elements that convolutions and linear layers put out; eval mode, one
LR image whose enlargement has 1280x720 pixels. The network runs once on the meta device, where shapes alone exist: no
feature map is computed or held. Every operation that torch carries out is seen there, also inside a Python function
that takes its own gradients, and is counted by a rule (`safmn.cost.rules`), taken apart into operations that have one,
free by convention, or named as not counted: then the totals are lower bounds.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from safmn import networks
from safmn.cost import rules
from safmn.errors import UserError

OUTPUT = (720, 1280)  # height, width of the enlarged image
CONVENTION = (
    "fvcore's rules, one multiply-add is one FLOP; activations are outputs of convolutions and linear layers; "
    "eval mode, batch 1, output 1280x720, LayerNorm written out"
)


def input_size(scale: int) -> tuple[int, int]:
    """Height and width of the LR image: 360x640 (x2), 240x427 (x3: rounded up, not 426), 180x320 (x4)."""
    height, width = OUTPUT
    return -(-height // scale), -(-width // scale)


@dataclass(frozen=True)
class Operation:
    """One operation that is counted: its kind ("aten::convolution"), the module it runs in, shapes and counts.

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
        training: whether it ran in train mode.
        parameters: name -> shape of every parameter that the paper counts.
        operations: the counted ones, in order.
        uncounted: kind -> calls of what has a cost but no rule; it counts 0, so the totals are lower bounds.
        value_reads: places ("module body.0, mixer.py line 12") where the network looks at values of a tensor, so that
            another image may take another way.
    """

    network: str
    scale: int
    input: tuple[int, ...]
    training: bool
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
        return sum(each.flops for each in self.operations)

    @property
    def activations(self) -> int:
        """Elements that convolutions and linear layers put out."""
        return sum(each.activations for each in self.operations)


def measure(name: str, scale: int) -> dict[str, Any]:
    """`params`, `flops` and `activations` of the network `name` as exact integers, by the paper's convention.

    With them: `input` (height and width of the LR image), `channels`, `convention`, versions, and

    - `uncounted`: a list of {"operation", "calls"} that multiply and have no rule; `lower_bound` is whether there are
      any, so that `flops` and `activations` are lower bounds;
    - `value_reads`: places where the network looks at values, so that the counts hold for one random image.

    UserError where the network does not exist at that scale or does not run.
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
        "uncounted": [{"operation": kind, "calls": calls} for kind, calls in traced.uncounted.items()],
        "lower_bound": bool(traced.uncounted),
        "value_reads": list(traced.value_reads),
        "versions": versions(),
    }


def warnings(counted: dict[str, Any]) -> list[str]:
    """What a reader of a record has to be told beside its figures: a sentence each."""
    who = f"{counted['network']} x{counted['scale']}"
    said = [
        f"{who}: {each['operation']} ({each['calls']} calls) has no rule and counts 0: "
        "FLOPs and activations are lower bounds"
        for each in counted["uncounted"]
    ]
    return said + [
        f"{who}: {place} looks at values of a tensor (an `if`, .item(), ...): counted on one random image, others may "
        "count differently"
        for place in counted["value_reads"]
    ]


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
    """Runs the network `name` once and notes what it does.

    Args:
        training: in train mode instead of eval mode.
        size: height and width of the input, instead of the one that gives 1280x720.
        device: "meta" computes nothing. What cannot run there (a module that looks at values) runs on the CPU.
    """
    network = networks.build(name, scale)
    counted = parameters(network)
    channels = networks.info(name).channels
    shape = (1, channels, *(size or input_size(scale)))
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)) if device != "meta" else torch.empty(shape)
    recorder = _Recorder()
    try:
        _run(network.train(training).to(device), image.to(device), recorder)
    except UserError:
        raise
    except Exception as error:
        if device == "meta":
            return trace(name, scale, training=training, size=size, device="cpu")
        raise UserError(
            f"{name} x{scale} does not run on an image of {shape[3]}x{shape[2]} pixels with {channels} channels "
            f"({_reason(error, recorder.module)}): correct the network"
        ) from error
    return Trace(
        network=name,
        scale=scale,
        input=shape,
        training=training,
        parameters=counted,
        operations=tuple(recorder.operations),
        uncounted=dict(sorted(recorder.uncounted.items())),
        value_reads=tuple(recorder.value_reads),
    )


def _run(network: nn.Module, image: Tensor, recorder: "_Recorder") -> None:
    """One pass under the recorder. In inference mode torch shows it layers whole, before they become kernels."""
    with ExitStack() as within:
        within.enter_context(torch.inference_mode())
        within.enter_context(_without_fused_layers())
        within.enter_context(recorder.inside(network))
        if image.device.type != "meta":  # where values can be read at all
            within.enter_context(_LeavesTorch(recorder))
        within.enter_context(recorder)
        network(image)


@contextmanager
def _without_fused_layers() -> Iterator[None]:
    """Attention and encoder layers take their separate steps, and compiled modules run as they are written."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Recorder(TorchDispatchMode):
    """Sees every operation that torch carries out, and counts it.

    Attributes:
        operations, uncounted, value_reads: as of `Trace`.
        module: path of the module that is running.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.uncounted: Counter[str] = Counter()
        self.value_reads: dict[str, None] = {}  # in order, each once
        self._modules: list[str] = []
        self._asked = ""  # the operation that the network asked for, while its parts run

    @property
    def module(self) -> str:
        return self._modules[-1] if self._modules else ""

    @contextmanager
    def inside(self, network: nn.Module) -> Iterator[None]:
        """Within it, `module` is known. An exception leaves it where it was."""
        hooks = []
        for path, module in network.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks
            hooks.append(module.register_forward_pre_hook(lambda *_, path=path: self._modules.append(path)))
            hooks.append(module.register_forward_hook(lambda *_: self._modules.pop() and None))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operation = isinstance(function, torch._ops.OpOverload)
        kind = function._schema.name if operation else function.name()
        name = kind.removeprefix("aten::").rstrip("_") or kind
        dense = all(each.layout is torch.strided for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor))
        if not (dense and rules.has_rule(function, name)):
            parts = self._parts(function, kind, args, kwargs) if operation else NotImplemented
            if parts is not NotImplemented:
                return parts
        output = function(*args, **kwargs)
        counted = rules.count(function, name, args, kwargs, output) if dense else None
        if counted is not None:
            self._count(kind, *counted, output)
        elif not (operation and rules.free(function)):
            self.uncounted[self._asked or kind] += 1
        if operation and not READS.isdisjoint(function.tags):
            self.read_values()
        return output

    def _parts(self, function: Any, kind: str, args: Any, kwargs: Any) -> Any:
        """Carries out an operation that torch defines by others, under the recorder; else NotImplemented.

        Not by `decompose`, which prefers Python forms where there are some: bicubic interpolation would fall apart into
        element-wise products, which count nothing.
        """
        if not torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), COMPOSITE):
            return NotImplemented
        asked, self._asked = self._asked, self._asked or kind
        try:
            with self:
                return function._op_dk(COMPOSITE, *args, **kwargs)
        finally:
            self._asked = asked

    def _count(self, kind: str, flops: int, activations: int, given: dict[str, Any], output: Any) -> None:
        out = next(each for each in tree_leaves(output) if isinstance(each, Tensor))
        image = next((each for each in given.values() if isinstance(each, Tensor)), out)
        convolution = "transposed" in given
        self.operations.append(
            Operation(
                kind=kind,
                module=self.module,
                input=tuple(image.shape),
                output=tuple(out.shape),
                weight=tuple(given["weight"].shape) if convolution else None,
                bias=convolution and given["bias"] is not None,
                transposed=convolution and given["transposed"],
                flops=flops,
                activations=activations,
            )
        )

    def read_values(self) -> None:
        """Notes that the network looks at values here."""
        self.value_reads[_place(self.module, _caller())] = None


COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


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


def _reason(error: Exception, module: str) -> str:
    """What went wrong, in words, and where: torch's own messages may be a bare name such as `unordered_map::at`."""
    text = (str(error).strip().splitlines() or [""])[0]
    kind = type(error).__name__
    frame, traceback = None, error.__traceback__
    while traceback is not None:
        if not _is_ours(traceback.tb_frame.f_code.co_filename):
            frame = (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return f"{_place(module, frame)}: {kind}: {text}" if text else f"{_place(module, frame)}: {kind}"


def _caller() -> tuple[str, int] | None:
    """File and line of the network's own code that is running."""
    frame = sys._getframe(1)
    while frame is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame and (frame.f_code.co_filename, frame.f_lineno)


def _is_ours(file: str) -> bool:
    """Whether a file belongs to torch or to this one, rather than to a network."""
    return file == __file__ or file.startswith((str(Path(torch.__file__).parent), "<"))


def _place(module: str, line: tuple[str, int] | None) -> str:
    where = f"module {module}" if module else "the network"
    return f"{where}, {Path(line[0]).name} line {line[1]}" if line else where
