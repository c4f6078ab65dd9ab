"""The training loss of Section 4.1: mean absolute error plus a frequency term."""

from typing import Any

import torch
from torch import Tensor


class Terms(torch.autograd.Function):
    """Both terms of the loss of a difference image, and their gradient written down.

    With d = sr - hr and F = rfft2(d), the terms are mean |d| and the mean of |Re F| and |Im F|. The gradient of the
    first is sign(d) / n; that of the second is the transposed transform of sign(Re F) + i sign(Im F). Automatic
    differentiation fills the left-out half of the spectrum with zeros for that, runs a complex transform and keeps the
    real part. A real inverse transform gives this part directly: it counts each column twice, once for the one that
    symmetry implies, but not the first and, in an even width, the last.
    """

    @staticmethod
    def forward(ctx: Any, difference: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = torch.fft.rfft2(difference)
        ctx.save_for_backward(difference, spectrum)
        return difference.abs().mean(), torch.view_as_real(spectrum).abs().mean()

    @staticmethod
    def backward(ctx: Any, of_error: Tensor, of_frequency: Tensor) -> Tensor:
        difference, spectrum = ctx.saved_tensors
        height, width = difference.shape[-2:]
        columns = (of_frequency / (2 * spectrum.numel())).repeat(spectrum.shape[-1])
        columns[1 : (width + 1) // 2] *= 0.5
        signs = torch.view_as_real(spectrum).sgn().mul_(columns[:, None])
        gradient = torch.fft.irfft2(torch.view_as_complex(signs), s=(height, width), norm="forward")
        return gradient.addcmul_(difference.sgn(), of_error / difference.numel())


def terms(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of the loss for N x C x H x W images in [0, 1], unweighted, each a scalar.

    The first is the mean absolute error. The second is the mean absolute error between the real and imaginary parts of
    the two unnormalised `rfft2` spectra. The transform is linear, so F(sr) - F(hr) = F(sr - hr): one transform does the
    work of two. With `hr` in float32 it runs in float32 also where autocast leaves `sr` in bfloat16, which could not
    hold the spectrum.
    """
    # The transform wants rows of pixels, not of colours: one copy here spares several of what comes after.
    return Terms.apply((sr - hr).contiguous())
