"""The training loss of Section 4.1: mean absolute error plus a frequency term."""

import torch
from torch import Tensor


def terms(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of the loss for N x C x H x W images in [0, 1], unweighted, each a scalar.

    The first is the mean absolute error. The second is the mean absolute error between the real and imaginary parts of
    the two unnormalised `rfft2` spectra. The transform is linear, so F(sr) - F(hr) = F(sr - hr): one transform does the
    work of two. With `hr` in float32 it runs in float32 also where autocast leaves `sr` in bfloat16, which could not
    hold the spectrum.
    """
    difference = sr - hr
    spectrum = torch.view_as_real(torch.fft.rfft2(difference))
    return difference.abs().mean(), spectrum.abs().mean()
