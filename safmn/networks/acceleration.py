"""What makes a network fast on a CPU, laid over it from outside: the same values, to rounding, in less time.

Networks are written as their papers have them. `accelerate` gives some modules a class whose forward pass goes another
way where torch's CPU kernels are slow (benchmarks/README.md has the figures); parameters, buffers and keys stay. A
module goes that way only where nobody looks inside: traced, compiled, counted by a dispatch mode or watched by hooks,
it computes as it is written. Ways with a backward pass of their own are taken in training only.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.module import _has_any_global_hook

from safmn.networks.safmn import SAFM, LayerNorm2d, max_pool

ENOUGH_POSITIONS = 8192
"""Positions of a batch (images x height x width) from which on training gains: below, Python takes as much."""
ENOUGH_IMAGES = 16
"""Images from which on torch takes the fast kernel for 1x1 convolutions on one thread."""
FEW_POSITIONS = 4096
"""Positions below which torch's slow kernel for 1x1 convolutions is the faster one."""


# --- Where another way is taken --------------------------------------------------------------------------------------


def hooked(module: nn.Module) -> bool:
    """Return whether a forward or backward hook is registered on `module`, or on all modules."""
    forwards = module._forward_hooks or module._forward_pre_hooks
    return bool(forwards or module._backward_hooks or module._backward_pre_hooks or _has_any_global_hook())


def unseen(module: nn.Module, x: Tensor) -> bool:
    """Return whether no trace, compiler, counter or hook observes `module` on x, N x C x H x W.

    Only then may it compute its result in another way.
    """
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or not isinstance(x, Tensor)  # the stand-in of a symbolic trace
        or x.dim() != 4
        or torch._C._len_torch_dispatch_stack()
        or hooked(module)
    )


def in_training(module: nn.Module, x: Tensor) -> bool:
    """Whether `module` is trained on a CPU, on enough of x, with a weight and a bias of its type.

    Not where autocast mixes types, which torch's own functions sort out.
    """
    return (
        x.is_cpu
        and module.training
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and module.bias is not None
        and x.is_floating_point()
        and x.dtype == module.weight.dtype
        and x.numel() >= ENOUGH_POSITIONS * x.shape[1]
    )


# --- Modules ---------------------------------------------------------------------------------------------------------


class FusedLayerNorm2d(LayerNorm2d):
    """Torch's kernel, on every device, whoever looks."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class FastLayerNorm2d(LayerNorm2d):
    """Torch's kernel, on every device; in training on a CPU with the backward pass of `LayerNorm`."""

    def forward(self, x: Tensor) -> Tensor:
        if not unseen(self, x):
            return super().forward(x)
        if not in_training(self, x):
            return FusedLayerNorm2d.forward(self, x)
        y = LayerNorm.apply(x.permute(0, 2, 3, 1).contiguous(), self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class FastConv2d(nn.Conv2d):
    """In training on a CPU `Convolution`; 1x1 convolutions by rows on one thread, where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        if not (unseen(self, x) and x.is_cpu and self.is_simple()):
            return super().forward(x)
        given, back = by_rows(x) if self.is_pointwise() else (x, unchanged)
        if in_training(self, given):
            return back(Convolution.apply(given, self.weight, self.bias, self.padding))
        return back(super().forward(given))

    def is_simple(self) -> bool:
        """Whether it has one group and stride 1, and pads with zeros, by numbers."""
        steps = self.stride == self.dilation == (1, 1)
        return steps and self.groups == 1 and self.padding_mode == "zeros" and isinstance(self.padding, tuple)

    def is_pointwise(self) -> bool:
        """Whether it is simple and looks at no neighbours."""
        return self.is_simple() and self.kernel_size == (1, 1) and self.padding == (0, 0)


class FastPixelShuffle(nn.PixelShuffle):
    """On a CPU from channels-last to contiguous images by one copy, there and back.

    torch's own keeps channels-last, which whatever compares images copies once more.
    """

    def forward(self, x: Tensor) -> Tensor:
        last = unseen(self, x) and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        if not (last and x.is_cpu):
            return super().forward(x)
        images, channels, height, width = x.shape
        factor = self.upscale_factor
        pixels = x.unflatten(1, (channels // factor**2, factor, factor)).permute(0, 1, 4, 2, 5, 3)
        return pixels.reshape(images, channels // factor**2, height * factor, width * factor)


class FastSAFM(SAFM):
    """On a CPU, in training Eq. (2) by `Aggregation`; without gradients, maxima from those of the level before."""

    def forward(self, x: Tensor) -> Tensor:
        levels = len(self.mfr)
        if unseen(self, x) and x.is_cpu and levels > 1 and all(side % 2 ** (levels - 1) == 0 for side in x.shape[-2:]):
            if not torch.is_grad_enabled() and self.pool is max_pool:
                return self._with_maxima_of_maxima(x)
            # Past `aggr`, a 1x1 convolution that nobody watches.
            aggr = self.aggr
            if type(aggr) is FastConv2d and aggr.is_pointwise() and in_training(aggr, x) and not hooked(aggr):
                return self._with_aggregation_by_level(x)
        return super().forward(x)

    def _with_maxima_of_maxima(self, x: Tensor) -> Tensor:
        halved, features = x, [self.mfr[0](x.chunk(len(self.mfr), dim=1)[0])]
        for level in range(1, len(self.mfr)):
            halved = halve_by_max(halved)
            mixed = self.mfr[level](halved.chunk(len(self.mfr), dim=1)[level])
            features.append(F.interpolate(mixed, size=x.shape[-2:], mode="nearest"))
        return self.modulate(self.activation(self.aggr(torch.cat(features, dim=1))), x)

    def _with_aggregation_by_level(self, x: Tensor) -> Tensor:
        groups, (height, width) = x.chunk(len(self.mfr), dim=1), x.shape[-2:]
        features = [self.mfr[0](groups[0])]
        for level in range(1, len(self.mfr)):
            features.append(self.mfr[level](self.pool(groups[level], (height // 2**level, width // 2**level))))
        return self.modulate(self.activation(Aggregation.apply(self.aggr.weight, self.aggr.bias, *features)), x)


# --- How they are laid over a network --------------------------------------------------------------------------------

FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: FastConv2d,
    nn.PixelShuffle: FastPixelShuffle,
    LayerNorm2d: FastLayerNorm2d,
    SAFM: FastSAFM,
}
FUSED: dict[type[nn.Module], type[nn.Module]] = {LayerNorm2d: FusedLayerNorm2d}
_WRITTEN = {laid: written for table in (FAST, FUSED) for written, laid in table.items()}


def accelerate(network: nn.Module) -> nn.Module:
    """Gives the modules of `network` their fast classes, in place; returns it."""
    return _lay_over(network, FAST)


def fuse(network: nn.Module) -> nn.Module:
    """Has torch's kernel compute every `LayerNorm2d` of `network`, in place, and changes nothing else; returns it.

    For what is measured as a GPU trains it. fvcore counts the kernel as 5 FLOPs an element, the formula as 0.
    """
    return _lay_over(network, FUSED)


def plain(network: nn.Module) -> nn.Module:
    """Gives the modules of `network` the classes back that they are written with, in place; returns it."""
    return _lay_over(network, {})


def _lay_over(network: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]]) -> nn.Module:
    for module in network.modules():
        written = _WRITTEN.get(type(module), type(module))
        module.__class__ = classes.get(written, written)
    return network


# --- Their arithmetic ------------------------------------------------------------------------------------------------


class LayerNorm(torch.autograd.Function):
    """`F.layer_norm` of N x H x W x C over C with another backward pass.

    torch's kernel takes most of its time for the gradients of weight and bias when several threads work on them. Here
    they are sums over an image's positions, then over images: the same values in another order.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, mean, inverse = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, bias, mean, inverse = ctx.saved_tensors
        images, channels = len(x), x.shape[-1]
        gradient = gradient.contiguous()
        only_x = (True, False, False)
        of_x, _, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, weight.shape, mean, inverse, weight, bias, only_x
        )
        of_normed = (x - mean).mul_(gradient).view(images, -1, channels)
        of_weight = torch.bmm(inverse.reshape(images, 1, -1), of_normed).sum((0, 1))
        return of_x, of_weight, _summed(gradient.view(images, -1, channels)), None


class Convolution(torch.autograd.Function):
    """A convolution (stride 1, one group) whose gradient for the bias is a plain sum.

    The library's kernel for the weights makes that sum on the way, in channels-last with a slow loop: a tenth of the
    3x3 convolution's backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: Sequence[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return _convolve(x, weight, bias, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        gradient = _laid_out_as(x, gradient)
        of_x, of_weight = _convolve_backward(gradient, x, weight, ctx.padding, (wants_x, wants_weight))
        return of_x, of_weight, _over_positions(gradient) if wants_bias else None, None


class Aggregation(torch.autograd.Function):
    """A 1x1 convolution of features of several sizes, as if they were enlarged to the largest and concatenated.

    Such a convolution is a sum over its inputs and looks at no neighbours. So each level is multiplied by its own
    columns of the matrix where it is small, and what it gives is added to the next larger level, a pixel to each four:
    a fraction of the bytes move. Backwards, each level takes the sum of the four.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, *features: Tensor) -> Tensor:
        ctx.save_for_backward(weight, *features)
        columns = weight.split([each.shape[1] for each in features], dim=1)
        total = None
        for level in reversed(range(len(features))):
            rows, back = by_rows(features[level])
            mixed = back(_convolve(rows, columns[level], None if level else bias))
            total = mixed if total is None else mixed.add_(F.interpolate(total, scale_factor=2, mode="nearest"))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, *features = ctx.saved_tensors
        wants_weight, wants_bias, *wanted = ctx.needs_input_grad
        of_bias = _over_positions(_laid_out_as(features[0], gradient)) if wants_bias else None
        of_columns, of_features = [], []
        for level, columns in enumerate(weight.split([each.shape[1] for each in features], dim=1)):
            if level:
                gradient = F.avg_pool2d(gradient, 2, divisor_override=1)  # the sum of each four
            gradient = _laid_out_as(features[level], gradient)
            rows, back = by_rows(features[level])
            wants = (wanted[level], wants_weight)
            of_rows, of_level = _convolve_backward(by_rows(gradient)[0], rows, columns, wanted=wants)
            of_features.append(None if of_rows is None else back(of_rows))
            of_columns.append(of_level)
        return torch.cat(of_columns, dim=1) if wants_weight else None, of_bias, *of_features


def halve_by_max(x: Tensor) -> Tensor:
    """N x C x 2H x 2W -> N x C x H x W: the largest of each four, exactly as `F.max_pool2d(x, 2)` has it.

    For use without gradients: of equal ones, both would get some. In channels-last a comparison of whole rows takes a
    fraction of the time of torch's pooling, which also notes where each maximum was.
    """
    rows = torch.maximum(x[..., 0::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def unchanged(y: Tensor) -> Tensor:
    """Return y as it is: its layout was not changed."""
    return y


def by_rows(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return x as a batch of rows, if that is faster, and a function that restores the shape of the result.

    Args:
        x: the input of a 1x1 convolution, N x C x H x W.

    Returns:
        A view of x, NH x C x 1 x W, and a function that maps NH x D x 1 x W to N x D x H x W. Where rows gain
        nothing: x itself and a function that changes nothing.

    On one thread torch computes 1x1 convolutions of fewer than 16 images by a kernel that is several times slower. A
    1x1 convolution reads one position at a time, so each row of a channels-last image can be an image of its own:
    nothing is copied, and the batch is large enough for the faster kernel.
    """
    images, channels, height, width = x.shape
    slow = x.is_cpu and images < ENOUGH_IMAGES and images * height * width >= FEW_POSITIONS
    if not slow or torch.get_num_threads() > 1 or not x.is_contiguous(memory_format=torch.channels_last):
        return x, unchanged
    rows = x.permute(0, 2, 3, 1).view(images * height, 1, width, channels).permute(0, 3, 1, 2)
    return rows, lambda y: y.permute(0, 2, 3, 1).reshape(images, height, width, -1).permute(0, 3, 1, 2)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Sequence[int] = (0, 0)) -> Tensor:
    return torch.convolution(x, weight, bias, (1, 1), padding, (1, 1), False, (0, 0), 1)


def _convolve_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    padding: Sequence[int] = (0, 0),
    wanted: tuple[bool, bool] = (True, True),
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients for x and weight, where wanted."""
    of_x, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, (1, 1), padding, (1, 1), False, (0, 0), 1, (*wanted, False)
    )
    return of_x, of_weight


def _laid_out_as(x: Tensor, gradient: Tensor) -> Tensor:
    """`gradient` in the memory format of x, which spares the kernels that follow a copy each."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return gradient.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _over_positions(gradient: Tensor) -> Tensor:
    """The sum of N x C x H x W over images and positions."""
    if gradient.is_contiguous(memory_format=torch.channels_last):
        return _summed(gradient.permute(0, 2, 3, 1).flatten(1, 2))
    return gradient.sum((0, 2, 3))


def _summed(gradient: Tensor) -> Tensor:
    """N x positions x C -> C: positions first, so that threads share out images and channels."""
    return gradient.sum(1).sum(0)
