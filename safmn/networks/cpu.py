"""What networks do in another way on a CPU: the same values, to rounding, in less time.

Each form here replaces steps that torch's CPU kernels take slowly; benchmarks/README.md has the figures. Those with a
backward pass of their own are taken in training only (`in_training`). Whoever times or compares the authors' steps
takes all of them away (`plain`), and a trace, which is what is counted, never shows one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ENOUGH_POSITIONS = 8192
"""Positions of a batch (images x height x width) from which on the forms pay: below, Python takes what they gain."""
ENOUGH_IMAGES = 16
"""Images from which on torch takes the fast kernel for 1x1 convolutions on one thread."""
FEW_POSITIONS = 4096
"""Positions below which torch's slow kernel for 1x1 convolutions is the faster one."""


def allowed(module: nn.Module, x: Tensor) -> bool:
    """Whether `module` may take a form for x at all: on a CPU, unless its `cpu_form` is False or it is being traced."""
    return module.cpu_form and x.is_cpu and not torch.jit.is_tracing()


def in_training(module: nn.Module, x: Tensor) -> bool:
    """Whether `module`, with a weight and a bias, takes a form with a backward pass for x, N x C x H x W.

    It does when it is trained on enough positions in one type: autocast mixes types, which torch's own functions sort
    out.
    """
    return (
        allowed(module, x)
        and module.training
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and module.bias is not None
        and x.dtype == module.weight.dtype
        and x.numel() >= ENOUGH_POSITIONS * x.shape[1]
    )


def without_gradients(module: nn.Module, x: Tensor) -> bool:
    """Whether `module` takes a form that has no gradients: none are asked for."""
    return allowed(module, x) and not torch.is_grad_enabled()


def plain(network: nn.Module) -> nn.Module:
    """Takes the forms away: every module of `network` computes by torch's own functions alone."""
    for module in network.modules():
        if hasattr(module, "cpu_form"):
            module.cpu_form = False
    return network


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
            rows, back = _by_rows(features[level])
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
            rows, back = _by_rows(features[level])
            wants = (wanted[level], wants_weight)
            of_rows, of_level = _convolve_backward(_by_rows(gradient)[0], rows, columns, wanted=wants)
            of_features.append(None if of_rows is None else back(of_rows))
            of_columns.append(of_level)
        return torch.cat(of_columns, dim=1) if wants_weight else None, of_bias, *of_features


def aggregate(convolution: nn.Conv2d, features: Sequence[Tensor]) -> Tensor:
    """`convolution`, 1x1 with a bias, of `features`, each enlarged to the first one's size by repeating.

    Args:
        convolution: of all their channels.
        features: N x C_i x H / 2^i x W / 2^i, i from 0, with H and W divisible accordingly.
    """
    return Aggregation.apply(convolution.weight, convolution.bias, *features)


def halve_by_max(x: Tensor) -> Tensor:
    """N x C x 2H x 2W -> N x C x H x W: the largest of each four, exactly as `F.max_pool2d(x, 2)` has it.

    For use without gradients: of equal ones, both would get some. In channels-last a comparison of whole rows takes a
    fraction of the time of torch's pooling, which also notes where each maximum was.
    """
    rows = torch.maximum(x[..., 0::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def as_rows(x: Tensor) -> Tensor | None:
    """The rows of N x C x H x W as images of one row, NH x C x 1 x W, where a 1x1 convolution is faster on them.

    On one thread torch gives 1x1 convolutions of fewer than 16 images to a kernel several times slower than the one it
    takes otherwise. A position does not look at its neighbours, so the rows of channels-last images can pass as images:
    no value moves in memory, and there are 16 of them.
    """
    images, channels, height, width = x.shape
    slow = x.is_cpu and images < ENOUGH_IMAGES and images * height * width >= FEW_POSITIONS
    if not slow or torch.get_num_threads() > 1 or not x.is_contiguous(memory_format=torch.channels_last):
        return None
    return x.permute(0, 2, 3, 1).view(images * height, 1, width, channels).permute(0, 3, 1, 2)


def from_rows(y: Tensor, x: Tensor) -> Tensor:
    """What was made of the rows of x as images of x's height again."""
    images, _, height, width = x.shape
    return y.permute(0, 2, 3, 1).reshape(images, height, width, -1).permute(0, 3, 1, 2)


def _by_rows(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """What a 1x1 convolution of x should be given, and what makes images of x's height of the result."""
    rows = as_rows(x)
    return (x, lambda y: y) if rows is None else (rows, lambda y: from_rows(y, x))


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
