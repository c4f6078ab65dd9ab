"""Fast CPU forms of a network's modules: the same values, to rounding, in less time.

The networks are written as in their papers. `accelerate` replaces the class of some modules by a subclass with another
forward pass where torch's CPU kernels are slow (benchmarks/README.md gives the times); parameters, buffers and keys
stay. A module that is traced, compiled, counted by a dispatch mode or observed by hooks computes as written. Forms with
a backward pass of their own are used in training only.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules import module as torchs

from safmn.networks.safmn import SAFM, LayerNorm2d, max_pool

MIN_POSITIONS = 8192
"""Fewest positions (images x height x width) for which the training forms gain more time than Python costs."""
MIN_IMAGES = 16
"""Fewest images for which torch uses its fast kernel for 1x1 convolutions on one thread."""
MIN_ROW_POSITIONS = 4096
"""Fewest positions for which 1x1 convolutions by rows are faster (see `by_rows`)."""

GLOBAL_HOOKS = (
    torchs._global_forward_hooks,
    torchs._global_forward_pre_hooks,
    torchs._global_backward_hooks,
    torchs._global_backward_pre_hooks,
)
"""Hooks on all modules; torch 2.6 has no function that asks for them."""


# --- When a fast form is used ----------------------------------------------------------------------------------------


def is_hooked(module: nn.Module) -> bool:
    """Return whether a forward or backward hook is registered on `module`, or on all modules."""
    forwards = module._forward_hooks or module._forward_pre_hooks
    return bool(forwards or module._backward_hooks or module._backward_pre_hooks or any(GLOBAL_HOOKS))


def unobserved(module: nn.Module, x: Tensor) -> bool:
    """Return whether no trace, compiler, counter or hook observes `module` on x, N x C x H x W.

    Only then may it use a fast form.
    """
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined]  # public, but not in __all__
        or not isinstance(x, Tensor)  # the stand-in of a symbolic trace
        or x.dim() != 4
        or torch._C._len_torch_dispatch_stack()
        or is_hooked(module)
    )


def in_training(module: nn.Conv2d | LayerNorm2d, x: Tensor) -> bool:
    """Return whether `module` is trained on a CPU on a large enough x, with weight and bias of its dtype.

    False under autocast, which mixes dtypes.
    """
    return (
        x.is_cpu
        and module.training
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and module.bias is not None
        and x.is_floating_point()
        and x.dtype == module.weight.dtype
        and x.numel() >= MIN_POSITIONS * x.shape[1]
    )


# --- Modules ---------------------------------------------------------------------------------------------------------


def fused_layer_norm(norm: LayerNorm2d, x: Tensor) -> Tensor:
    """Compute `norm` of N x C x H x W by torch's kernel."""
    y = F.layer_norm(x.permute(0, 2, 3, 1), norm.weight.shape, norm.weight, norm.bias, norm.eps)
    return y.permute(0, 3, 1, 2)


class FusedLayerNorm2d(LayerNorm2d):
    """LayerNorm by torch's kernel, on every device, observed or not."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise N x C x H x W over C."""
        return fused_layer_norm(self, x)


class FastLayerNorm2d(LayerNorm2d):
    """LayerNorm by torch's kernel, on every device; in training on a CPU with the backward pass of `LayerNorm`."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise N x C x H x W over C."""
        if not unobserved(self, x):
            return super().forward(x)
        if not in_training(self, x):
            return fused_layer_norm(self, x)
        y: Tensor = LayerNorm.apply(x.permute(0, 2, 3, 1).contiguous(), self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class FastConv2d(nn.Conv2d):
    """In training on a CPU, `Convolution`; on one thread, 1x1 convolutions by rows where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve N x C x H x W, or C x H x W, as `nn.Conv2d` does."""
        if not (unobserved(self, x) and x.is_cpu and self.is_simple()):
            return super().forward(x)
        rows, back = by_rows(x) if self.is_pointwise() else (x, unchanged)
        if in_training(self, rows):
            return back(Convolution.apply(rows, self.weight, self.bias, self.padding))
        return back(super().forward(rows))

    def is_simple(self) -> bool:
        """Return whether it has one group, stride and dilation 1, and a number of zeros as padding."""
        steps = self.stride == self.dilation == (1, 1)
        return steps and self.groups == 1 and self.padding_mode == "zeros" and isinstance(self.padding, tuple)

    def is_pointwise(self) -> bool:
        """Return whether it is a simple 1x1 convolution without padding."""
        return self.is_simple() and self.kernel_size == (1, 1) and self.padding == (0, 0)


class FastPixelShuffle(nn.PixelShuffle):
    """On a CPU, one copy from channels-last features to contiguous images.

    torch's own result is channels-last, and comparing images then takes another copy.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map N x C s^2 x H x W to N x C x sH x sW."""
        last = unobserved(self, x) and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        if not (last and x.is_cpu):
            return super().forward(x)
        images, channels, height, width = x.shape
        factor = self.upscale_factor
        pixels = x.unflatten(1, (channels // factor**2, factor, factor)).permute(0, 1, 4, 2, 5, 3)
        return pixels.reshape(images, channels // factor**2, height * factor, width * factor)


class FastSAFM(SAFM):
    """On a CPU, Eq. (2) by `Aggregation` in training; without gradients, max pooling from level to level."""

    def forward(self, x: Tensor) -> Tensor:
        """Modulate N x dim x H x W by Eq. (1)-(3)."""
        levels = len(self.mfr)
        if (
            unobserved(self, x)
            and x.is_cpu
            and levels > 1
            and all(side % 2 ** (levels - 1) == 0 for side in x.shape[-2:])
        ):
            if not torch.is_grad_enabled() and self.pool is max_pool:
                return self._with_maxima_of_maxima(x)
            # Instead of calling `aggr`, an unobserved 1x1 convolution.
            aggr = self.aggr
            if type(aggr) is FastConv2d and aggr.is_pointwise() and in_training(aggr, x) and not is_hooked(aggr):
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


# --- The classes of a network ----------------------------------------------------------------------------------------

FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: FastConv2d,
    nn.PixelShuffle: FastPixelShuffle,
    LayerNorm2d: FastLayerNorm2d,
    SAFM: FastSAFM,
}
FUSED: dict[type[nn.Module], type[nn.Module]] = {LayerNorm2d: FusedLayerNorm2d}
_PLAIN = {replaced: written for table in (FAST, FUSED) for written, replaced in table.items()}


def accelerate(network: nn.Module) -> nn.Module:
    """Give the modules of `network` their fast classes, in place; return it."""
    return _replace_classes(network, FAST)


def fuse(network: nn.Module) -> nn.Module:
    """Let torch's kernel compute every `LayerNorm2d` of `network`, in place; return it.

    For measuring a network as it is trained on a GPU. fvcore counts the kernel as 5 FLOPs an element, the formula as 0.
    """
    return _replace_classes(network, FUSED)


def plain(network: nn.Module) -> nn.Module:
    """Give the modules of `network` their original classes back, in place; return it."""
    return _replace_classes(network, {})


def _replace_classes(network: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]]) -> nn.Module:
    for module in network.modules():
        written = _PLAIN.get(type(module), type(module))
        module.__class__ = classes.get(written, written)
    return network


# --- Arithmetic ------------------------------------------------------------------------------------------------------


class LayerNorm(torch.autograd.Function):
    """`F.layer_norm` of N x H x W x C over C with another backward pass.

    With several threads, torch's backward kernel spends most of its time on the gradients of weight and bias. Here they
    are sums over the positions of an image, then over images: the same values in another order.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Normalise x; weight and bias have C values."""
        y: Tensor
        y, mean, inverse = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients for x, weight and bias."""
        x, weight, bias, mean, inverse = ctx.saved_tensors
        images, channels = len(x), x.shape[-1]
        gradient = gradient.contiguous()
        only_x = (True, False, False)
        grad_x, _, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, weight.shape, mean, inverse, weight, bias, only_x
        )
        grad_normed = (x - mean).mul_(gradient).view(images, -1, channels)
        grad_weight = torch.bmm(inverse.reshape(images, 1, -1), grad_normed).sum((0, 1))
        return grad_x, grad_weight, _summed(gradient.view(images, -1, channels)), None


class Convolution(torch.autograd.Function):
    """A convolution (stride 1, one group) whose gradient for the bias is a plain sum.

    torch's backward kernel computes that sum by a slow loop in channels-last: a tenth of the time of a 3x3
    convolution's backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: Sequence[int]) -> Tensor:
        """Convolve x, N x C x H x W."""
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return _convolve(x, weight, bias, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Return the gradients for x, weight and bias, None for those that are not needed."""
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        gradient = _laid_out_as(x, gradient)
        grad_x, grad_weight = _convolve_backward(gradient, x, weight, ctx.padding, (needs_x, needs_weight))
        return grad_x, grad_weight, _over_positions(gradient) if needs_bias else None, None


class Aggregation(torch.autograd.Function):
    """Eq. (2): a 1x1 convolution of the features of all levels, enlarged to the first level's size and concatenated.

    A 1x1 convolution is a sum over its inputs at one position. So each level is multiplied by its own columns of the
    matrix at its own size, and the result is enlarged by two and added to the level above: far fewer bytes move. In the
    backward pass each position of a level gets the sum of four.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, *features: Tensor) -> Tensor:
        """Aggregate features, level i of N x C_i x H / 2^i x W / 2^i, to N x D x H x W."""
        ctx.save_for_backward(weight, *features)
        columns = weight.split([feature.shape[1] for feature in features], dim=1)
        total: Tensor | None = None
        for level in reversed(range(len(features))):
            rows, back = by_rows(features[level])
            mixed = back(_convolve(rows, columns[level], None if level else bias))
            total = mixed if total is None else mixed.add_(F.interpolate(total, scale_factor=2, mode="nearest"))
        assert total is not None  # there is a level
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients for weight, bias and each level, None for those that are not needed."""
        weight, *features = ctx.saved_tensors
        needs_weight, needs_bias, *needs_features = ctx.needs_input_grad
        grad_bias = _over_positions(_laid_out_as(features[0], gradient)) if needs_bias else None
        grad_columns: list[Tensor] = []
        grad_features: list[Tensor | None] = []
        for level, columns in enumerate(weight.split([feature.shape[1] for feature in features], dim=1)):
            if level:
                gradient = F.avg_pool2d(gradient, 2, divisor_override=1)  # the sum of each four
            gradient = _laid_out_as(features[level], gradient)
            rows, back = by_rows(features[level])
            needs = (needs_features[level], needs_weight)
            grad_rows, grad_level = _convolve_backward(by_rows(gradient)[0], rows, columns, needs=needs)
            grad_features.append(None if grad_rows is None else back(grad_rows))
            if grad_level is not None:
                grad_columns.append(grad_level)
        return torch.cat(grad_columns, dim=1) if needs_weight else None, grad_bias, *grad_features


def halve_by_max(x: Tensor) -> Tensor:
    """Return the maxima of 2 x 2 positions, exactly as `F.max_pool2d(x, 2)`: N x C x 2H x 2W to N x C x H x W.

    Only without gradients: equal maxima would share one. In channels-last, comparing whole rows takes a fraction of the
    time of torch's pooling, which also stores where each maximum was.
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
    1x1 convolution reads one position at a time, so each row of a channels-last image can be an image: nothing is
    copied, and the batch is large enough for the faster kernel.
    """
    images, channels, height, width = x.shape
    slow = x.is_cpu and images < MIN_IMAGES and images * height * width >= MIN_ROW_POSITIONS
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
    needs: tuple[bool, bool] = (True, True),
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients for x and weight, None where `needs` is False."""
    grad_x: Tensor | None
    grad_weight: Tensor | None
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, (1, 1), padding, (1, 1), False, (0, 0), 1, (*needs, False)
    )
    return grad_x, grad_weight


def _laid_out_as(x: Tensor, gradient: Tensor) -> Tensor:
    """Return `gradient` in the memory format of x, which saves a copy in each kernel that follows."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return gradient.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _over_positions(gradient: Tensor) -> Tensor:
    """Sum N x C x H x W over images and positions."""
    if gradient.is_contiguous(memory_format=torch.channels_last):
        return _summed(gradient.permute(0, 2, 3, 1).flatten(1, 2))
    return gradient.sum((0, 2, 3))


def _summed(gradient: Tensor) -> Tensor:
    """Sum N x positions x C to C; positions first, so that threads can divide images and channels."""
    return gradient.sum(1).sum(0)
