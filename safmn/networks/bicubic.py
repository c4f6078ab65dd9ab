"""Bicubic enlargement as MATLAB's imresize defines it: the first row of Table 1, and the input of SRCNN and VDSR."""

import math

import torch
from torch import Tensor, nn


def cubic(distance: float) -> float:
    """Return Keys' cubic convolution kernel with a = -0.5, as in MATLAB (OpenCV and PyTorch use -0.75)."""
    x = abs(distance)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    if x < 2:
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return 0.0


class Bicubic(nn.Module):
    """Bicubic enlargement without parameters; exact, neither rounded nor clamped.

    An output at row i lies at u = (i + 0.5) / s - 0.5 in the input and takes the four rows around u; columns likewise.
    Beyond the border the image is mirrored with its edge repeated (symmetric). Values in [0, 1] can come out a little
    below 0 or above 1 beside strong edges. Only shifts, products and sums are used: fvcore counts none of them, and the
    paper's #FLOPs of SRCNN and VDSR do not include the enlargement.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        """Map N x C x H x W to N x C x sH x sW, for any C."""
        return self._enlarge(self._enlarge(image, -2), -1)

    def _enlarge(self, image: Tensor, dim: int) -> Tensor:
        length = image.shape[dim]
        # Two mirrored elements on each side; modulo 2n also serves images of a single row.
        mirrored = torch.arange(-2, length + 2, device=image.device) % (2 * length)
        mirrored = torch.minimum(mirrored, 2 * length - 1 - mirrored)
        padded = image.index_select(dim, mirrored)
        phases = []
        for phase in range(self.scale):
            # All outputs i = s * n + phase share their four weights.
            offset = (phase + 0.5) / self.scale - 0.5
            first = math.floor(offset) - 1
            taps = [cubic(offset - tap) * padded.narrow(dim, tap + 2, length) for tap in range(first, first + 4)]
            phases.append(taps[0] + taps[1] + taps[2] + taps[3])
        return torch.stack(phases, dim).flatten(dim - 1, dim)
