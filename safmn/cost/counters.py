"""What other counting programs give for a network, part by part, and why it is not what fvcore gives.

thop and ptflops are not needed: their rules are written here, and a test compares with the packages where they are
installed. Both, like the programs of the NTIRE challenges on efficient super-resolution, put a hook on each layer, so
they know layers by their class. What the network computes by a function is not seen, except by ptflops, which replaces
some functions of torch while it counts. fvcore sees every operation.

- thop 0.1.1: multiply-adds of layers; layers of its list only, parameters too.
- ptflops 0.7 (its default backend): multiply-adds, biases, and one operation an element of activations, poolings and
  interpolations. An activation that is a layer counts twice, since the layer calls the function.
- NTIRE 2023 (and earlier): convolutions, linear layers, batch normalisation and the ReLU family; activations and
  convolutions by hooks on `Conv2d` and `ConvTranspose2d`. An LR image of 256x256 pixels.
- NTIRE 2024: the same, but FLOPs by fvcore.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn import networks
from safmn.cost import complexity
from safmn.cost.complexity import Trace

CONVOLUTIONS = "convolutions"
TRANSPOSED = "transposed convolutions"
LINEAR = "linear layers and products of matrices"
BIASES = "biases"
ACTIVATIONS = "activation functions"
NORMS = "normalisation"
POOLING = "pooling"
INTERPOLATION = "interpolation"
ELEMENTWISE = "sums and products of elements"
PARTS = (CONVOLUTIONS, TRANSPOSED, LINEAR, BIASES, ACTIVATIONS, NORMS, POOLING, INTERPOLATION, ELEMENTWISE)
FVCORE, THOP, PTFLOPS, NTIRE23, NTIRE24 = "fvcore", "thop", "ptflops", "NTIRE 2023", "NTIRE 2024"


@dataclass
class Count:
    """What one program gives.

    Attributes:
        program: its name.
        params: parameter values.
        flops: by part of PARTS; their sum is what it prints.
        activations: output elements; None where it does not count them.
        convolutions: likewise.
        reasons: a sentence for each difference from fvcore.
        uncounted: classes of layers that it has a rule for and this module has not: `flops` is then too low.
    """

    program: str
    params: int = 0
    flops: Counter[str] = field(default_factory=Counter)
    activations: int | None = None
    convolutions: int | None = None
    reasons: list[str] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """FLOPs of all parts."""
        return self.flops.total()

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "program": self.program,
            "params": self.params,
            "flops": self.total,
            "activations": self.activations,
            "convolutions": self.convolutions,
            "parts": {part: self.flops[part] for part in PARTS if self.flops[part]},
            "reasons": self.reasons,
            "uncounted": self.uncounted,
        }


def compare(
    network: str | nn.Module, scale: int, size: tuple[int, int] | None = None, channels: int | None = None
) -> list[Count]:
    """Count a network as each program does.

    Args:
        network: a name from `safmn list`, or a module.
        scale: 2, 3 or 4.
        size: height and width of the LR image; by default that of an enlargement of 1280x720.
        channels: of the input of a module, 3 by default.

    Returns:
        fvcore (the convention of this project), thop, ptflops, NTIRE 2023 and NTIRE 2024.

    Raises:
        UserError: the network does not exist at that scale, or does not run.
    """
    traced = complexity.trace(network, scale, size=size, channels=channels)
    module = networks.build(network, scale) if isinstance(network, str) else network
    try:
        counts = _by_hooks(module, traced.input, "meta")
    except (RuntimeError, NotImplementedError):  # it reads values
        counts = _by_hooks(module, traced.input, "cpu")
    ours, ntire = _by_operations(traced), counts[-1]
    counts.append(Count(NTIRE24, ntire.params, ours.flops, ntire.activations, ntire.convolutions))
    for count in counts:
        count.reasons = list(_reasons(count, ours))
    return [ours, *counts]


# --- fvcore ----------------------------------------------------------------------------------------------------------


def _by_operations(traced: Trace) -> Count:
    flops: Counter[str] = Counter()
    for operation in traced.operations:
        kind = operation.kind
        if operation.weight is not None:
            part = TRANSPOSED if operation.transposed else CONVOLUTIONS
        elif "norm" in kind:
            part = NORMS
        elif "pool" in kind:
            part = POOLING
        elif "upsample" in kind or "grid_sampl" in kind:
            part = INTERPOLATION
        else:
            part = LINEAR
        flops[part] += operation.flops
    return Count(FVCORE, traced.params, flops, traced.activations, traced.convolutions)


# --- Programs with hooks ---------------------------------------------------------------------------------------------

CONVOLVING = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSING = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
RELUS = (nn.ReLU, nn.PReLU, nn.ELU, nn.LeakyReLU, nn.ReLU6)
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE_AVERAGES = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
ADAPTIVE_MAXIMA = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
UPSAMPLING = (nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d)
RECURRENT = (nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell)
INTERPOLATION_OF_THOP = {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 259}

Rule = tuple[str, Callable[[Any, Tensor, Tensor], int]]
"""The part, and what counts of a layer, its first input and its output."""


def _thop_convolution(layer: Any, x: Tensor, y: Tensor) -> int:
    return int(y.numel() * (x.shape[1] // layer.groups) * prod(layer.weight.shape[2:]))


def _thop_norm(layer: Any, x: Tensor, y: Tensor) -> int:
    affine = getattr(layer, "affine", False) or getattr(layer, "elementwise_affine", False)
    return x.numel() * (4 if affine else 2)


def _thop_softmax(layer: Any, x: Tensor, y: Tensor) -> int:
    features = x.shape[-1 if layer.dim is None else layer.dim]
    return x.numel() // features * (3 * features - 1)


def _thop_average(layer: Any, x: Tensor, y: Tensor) -> int:
    return int((prod(a / b for a, b in zip(x.shape[2:], y.shape[2:], strict=True)) + 1) * y.numel())


def _inputs(layer: Any, x: Tensor, y: Tensor) -> int:
    return x.numel()


def _outputs(layer: Any, x: Tensor, y: Tensor) -> int:
    return y.numel()


_SILENT = (*RELUS, *MAXIMA, *ADAPTIVE_MAXIMA, nn.ZeroPad2d, nn.Dropout, nn.PixelShuffle)
THOP_RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys(_SILENT, (ACTIVATIONS, lambda layer, x, y: 0)),
    **dict.fromkeys(CONVOLVING, (CONVOLUTIONS, _thop_convolution)),
    **dict.fromkeys(TRANSPOSING, (TRANSPOSED, _thop_convolution)),
    **dict.fromkeys((*BATCH_NORMS, *INSTANCE_NORMS, nn.LayerNorm, nn.SyncBatchNorm), (NORMS, _thop_norm)),
    nn.PReLU: (ACTIVATIONS, _inputs),
    nn.Softmax: (ACTIVATIONS, _thop_softmax),
    **dict.fromkeys(AVERAGES, (POOLING, _outputs)),
    **dict.fromkeys(ADAPTIVE_AVERAGES, (POOLING, _thop_average)),
    nn.Linear: (LINEAR, lambda layer, x, y: y.numel() * layer.in_features),
    **dict.fromkeys(
        UPSAMPLING, (INTERPOLATION, lambda layer, x, y: y.numel() * INTERPOLATION_OF_THOP.get(str(layer.mode), 0))
    ),
}
PTFLOPS_RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys(CONVOLVING, (CONVOLUTIONS, lambda layer, x, y: len(x) * layer.weight.numel() * prod(y.shape[2:]))),
    **dict.fromkeys(TRANSPOSING, (TRANSPOSED, lambda layer, x, y: len(x) * layer.weight.numel() * prod(x.shape[2:]))),
    **dict.fromkeys((*RELUS, nn.GELU), (ACTIVATIONS, _outputs)),
    **dict.fromkeys((*MAXIMA, *AVERAGES, *ADAPTIVE_MAXIMA, *ADAPTIVE_AVERAGES), (POOLING, _inputs)),
    **dict.fromkeys(
        (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm, nn.LayerNorm),
        (NORMS, lambda layer, x, y: x.numel() * (2 if getattr(layer, "affine", False) else 1)),
    ),
    nn.Linear: (LINEAR, lambda layer, x, y: x.numel() * layer.out_features),
    nn.Upsample: (INTERPOLATION, lambda layer, x, y: y.shape[1:].numel()),
}


def _rule_of_ntire(layer: nn.Module) -> Rule | None:
    """Return the rule of a layer, subclasses too."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        part = CONVOLUTIONS if isinstance(layer, nn.Conv2d) else TRANSPOSED
        return part, lambda layer, x, y: layer.weight.numel() * len(y) * prod(y.shape[2:])
    if isinstance(layer, RELUS):
        return ACTIVATIONS, _outputs
    if isinstance(layer, nn.BatchNorm2d):
        return NORMS, lambda layer, x, y: y.numel() * (2 if layer.affine else 1)
    if isinstance(layer, nn.Linear):
        return (
            LINEAR,
            lambda layer, x, y: x.shape[0] * x.shape[1] * y.shape[1] if x.dim() > 1 else x.shape[0] * y.shape[0],
        )
    return None


def _by_hooks(module: nn.Module, shape: tuple[int, ...], device: str) -> list[Count]:
    """Run one pass of a copy of the network on a device, with the hooks of thop, ptflops and NTIRE 2023."""
    network = deepcopy(module).eval().to(device)
    known = set(_known_to_thop(network))
    thop = Count(THOP, sum(map(_size, known)))
    ptflops = Count(PTFLOPS, _size(network, trained=True))
    ntire = Count(NTIRE23, _size(network), activations=0, convolutions=0)

    def after(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not inputs:
            return
        kind = type(layer)
        for count, rule in (
            (thop, THOP_RULES.get(kind) if layer in known else None),
            (ptflops, PTFLOPS_RULES.get(kind)),
            (ntire, _rule_of_ntire(layer)),
        ):
            if rule is not None:
                count.flops[rule[0]] += rule[1](layer, inputs[0], output)
        if kind in (*CONVOLVING, *TRANSPOSING, nn.Linear) and layer.bias is not None:
            ptflops.flops[BIASES] += output.numel()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert ntire.activations is not None
            assert ntire.convolutions is not None
            ntire.activations += output.numel()
            ntire.convolutions += 1
        for count, kinds in ((thop, RECURRENT), (ptflops, (*RECURRENT, nn.MultiheadAttention))):
            if kind in kinds and kind.__name__ not in count.uncounted:
                count.uncounted.append(kind.__name__)

    with ExitStack() as contexts:
        for layer in set(network.modules()):
            contexts.enter_context(layer.register_forward_hook(after))
        contexts.enter_context(torch.inference_mode())
        contexts.enter_context(_functions_replaced(ptflops))
        network(torch.rand(shape, device=device))
    return [thop, ptflops, ntire]


def _known_to_thop(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers whose operations and parameters thop sums: not those within a layer of its list."""
    for child in network.children():
        if type(child) in THOP_RULES:
            yield child
        else:
            yield from _known_to_thop(child)


def _elements(x: Any, *_: Any, **__: Any) -> int:
    return int(x.numel())


def _interpolated(
    x: Tensor, size: Any = None, scale_factor: Any = None, *_: Any, input: Tensor | None = None, **__: Any
) -> int:
    image = x if input is None else input
    spatial = image.dim() - 2
    if size is not None:
        return image.shape[:2].numel() * prod(size if isinstance(size, tuple | list) else [size] * spatial)
    return int(image.numel() * (prod(scale_factor) if isinstance(scale_factor, tuple) else scale_factor**spatial))


def _broadcast(first: Any, second: Any, *_: Any, **__: Any) -> int:
    shapes = [value.shape for value in (first, second) if isinstance(value, Tensor)]
    return torch.broadcast_shapes(*shapes).numel() if shapes else 1


def _matrices(first: Tensor, second: Tensor, *_: Any, **__: Any) -> int:
    return first.numel() * second.shape[-1]


def _added_matrices(added: Tensor, first: Tensor, second: Tensor, *_: Any, beta: float = 1, **__: Any) -> int:
    return _matrices(first, second) + (added.numel() if beta else 0)


_DIMENSIONS = (1, 2, 3)
FUNCTIONS: list[tuple[Any, str, str, Callable[..., int]]] = [
    *((F, name, ACTIVATIONS, _elements) for name in ("relu", "prelu", "elu", "relu6", "gelu", "silu", "softmax")),
    *(
        (F, f"{kind}_pool{n}d", POOLING, _elements)
        for kind in ("avg", "max", "adaptive_avg", "adaptive_max")
        for n in _DIMENSIONS
    ),
    (F, "interpolate", INTERPOLATION, _interpolated),
    *((owner, name, ELEMENTWISE, _broadcast) for owner in (torch, Tensor) for name in ("mul", "add")),
    *((owner, name, LINEAR, _matrices) for owner in (torch, Tensor) for name in ("matmul", "mm", "bmm")),
    *(
        (owner, name, LINEAR, _added_matrices)
        for owner, name in ((torch, "addmm"), (Tensor, "addmm"), (torch, "baddbmm"))
    ),
]
"""(where, name, part, rule) of the functions that ptflops replaces; operators such as `*` are others, and not seen."""


_INSIDE_TORCH = str(Path(torch.__file__).parent / "_")
"""Where torch computes on the meta device in Python what is one kernel elsewhere: its calls are not the network's."""


@contextmanager
def _functions_replaced(count: Count) -> Iterator[None]:
    """Count calls of FUNCTIONS within the context, as ptflops does: by other functions under their names."""

    def counting(original: Callable[..., Any], part: str, rule: Callable[..., int]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not sys._getframe(1).f_code.co_filename.startswith(_INSIDE_TORCH):
                count.flops[part] += rule(*args, **kwargs)
            return original(*args, **kwargs)

        return call

    with ExitStack() as restored:
        for owner, name, part, rule in FUNCTIONS:
            original = getattr(owner, name)
            if name in vars(owner):
                restored.callback(setattr, owner, name, original)
            else:  # inherited
                restored.callback(delattr, owner, name)
            setattr(owner, name, counting(original, part, rule))
        yield


def _size(module: nn.Module, trained: bool = False) -> int:
    return sum(value.numel() for value in module.parameters() if value.requires_grad or not trained)


# --- Reasons ---------------------------------------------------------------------------------------------------------

_FUNCTIONAL = "only layers of torch are seen, not functions"
WHY = {
    (THOP, TRANSPOSED): "at the size of the output, fvcore at that of the input",
    (THOP, NORMS): "four operations an element of a layer (two without weights); one that is written out is not seen",
    (THOP, ACTIVATIONS): "one an element of PReLU; ReLU, GELU and others are free",
    (THOP, POOLING): "average pooling counts its window, fvcore each element of its input",
    (THOP, INTERPOLATION): "functions are not seen; nn.Upsample counts 1 (nearest) or 11 (bilinear) an element",
    (PTFLOPS, BIASES): "one addition for each output element of a layer with a bias",
    (PTFLOPS, ACTIVATIONS): "one an element, and two where it is a layer, since the function in it counts again",
    (PTFLOPS, NORMS): "one or two an element of a layer; one that is written out is not seen",
    (PTFLOPS, POOLING): "one for each element of the input, maxima too; twice where it is a layer",
    (PTFLOPS, INTERPOLATION): "one an element whatever the method, fvcore four for bilinear; twice where it is a layer",
    (PTFLOPS, ELEMENTWISE): "one an element of torch.mul and torch.add; the operators * and + are not seen",
    (NTIRE23, TRANSPOSED): "at the size of the output, fvcore at that of the input",
    (NTIRE23, ACTIVATIONS): "one an element of ReLU, PReLU, ELU and LeakyReLU layers; GELU is free",
    (NTIRE23, NORMS): "two an element of BatchNorm2d; others are free",
    (NTIRE23, POOLING): "free",
    (NTIRE23, INTERPOLATION): "free",
}


def _reasons(count: Count, ours: Count) -> Iterator[str]:
    for part in PARTS:
        theirs, own = count.flops[part], ours.flops[part]
        if theirs != own:
            why = WHY.get((count.program, part), _FUNCTIONAL)
            yield f"FLOPs of {part}: {theirs:,}, fvcore {own:,} ({why})"
    if count.params != ours.params:
        why = {
            THOP: "layers that it has no rule for, such as a LayerNorm written out, are left out",
            PTFLOPS: "those that are trained",
        }.get(count.program, "all, those too that the paper does not count")
        yield f"params: {count.params:,}, fvcore {ours.params:,} ({why})"
    if count.activations not in (None, ours.activations):
        why = "the outputs of Conv2d and ConvTranspose2d layers alone"
        yield f"activations: {count.activations:,}, fvcore {ours.activations:,} ({why})"
    if count.convolutions not in (None, ours.convolutions):
        yield f"convolutions: {count.convolutions}, fvcore {ours.convolutions} ({_FUNCTIONAL})"
    for kind in count.uncounted:
        yield f"FLOPs of {kind} are not computed here: {count.program} itself gives more"
