"""The training loss of Section 4.1: mean absolute error plus a frequency term."""

from typing import Any

import torch
from torch import Tensor


class Terms(torch.autograd.Function):
    """Both loss terms of a difference image, with their gradient in closed form.

    With d = sr - hr and F = rfft2(d), the terms are mean |d| and the mean of |Re F| and |Im F|. The gradient of the
    first is sign(d) / n. The gradient of the second is the transposed transform of sign(Re F) + i sign(Im F). Automatic
    differentiation fills the missing half of the spectrum with zeros, runs a complex transform and keeps the real part.
    A real inverse transform computes this part directly. It counts every column twice, once for its mirror image,
    except for the first and, if the width is even, the last.
    """

    @staticmethod
    def forward(ctx: Any, difference: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both terms of N x C x H x W `difference`."""
        spectrum = torch.fft.rfft2(difference)
        ctx.save_for_backward(difference, spectrum)
        return difference.abs().mean(), torch.view_as_real(spectrum).abs().mean()

    @staticmethod
    def backward(ctx: Any, grad_l1: Tensor, grad_frequency: Tensor) -> Tensor:
        """Compute the gradient of the difference from the gradients of the two terms."""
        difference, spectrum = ctx.saved_tensors
        height, width = difference.shape[-2:]
        columns = (grad_frequency / (2 * spectrum.numel())).repeat(spectrum.shape[-1])
        columns[1 : (width + 1) // 2] *= 0.5
        signs = torch.view_as_real(spectrum).sgn().mul_(columns[:, None])
        gradient = torch.fft.irfft2(torch.view_as_complex(signs), s=(height, width), norm="forward")
        return gradient.addcmul_(difference.sgn(), grad_l1 / difference.numel())  # type: ignore[no-any-return]  # torch.fft


def terms(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two loss terms of N x C x H x W images in [0, 1]: unweighted scalars (L1, frequency), Section 4.1.

    The first is the mean absolute error. The second is the mean absolute error between the real and imaginary parts of
    the two unnormalised `rfft2` spectra. The transform is linear, F(sr) - F(hr) = F(sr - hr), so one transform is
    enough. With `hr` in float32 it runs in float32, also where autocast leaves `sr` in bfloat16, which is too coarse
    for the spectrum.
    """
    # The transform needs rows of pixels, not of channels: this one copy saves several later ones.
    return Terms.apply((sr - hr).contiguous())  # type: ignore[no-any-return]  # `apply` has no types
