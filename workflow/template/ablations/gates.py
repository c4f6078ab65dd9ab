"""Our mixer, which replaces SAFM, Eq. (1)-(3) of the paper."""

from torch import Tensor, nn


class Gated(nn.Module):
    """Features times a gate, both from the same input.

    Args:
        dim: channels of input and output, N x dim x H x W.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.value = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.gate = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x dim x H x W to the same shape."""
        return self.value(x) * self.gate(x).sigmoid()
