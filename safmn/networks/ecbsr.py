"""ECBSR (Zhang et al., ACM MM 2021): trained with several branches a layer, deployed as plain 3x3 convolutions.

`ECBSR` is the plain network that the paper's tables count. `plain_state` turns weights of the trained form, whose
layers are edge-oriented convolution blocks, into its weights (re-parameterisation, section 3.3).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

MODULES = 16
CHANNELS = 64
EDGES = ("conv1x1_sbx", "conv1x1_sby", "conv1x1_lpl")
"""Branches of a 1x1 convolution and a fixed, scaled edge filter: Sobel in x, Sobel in y, Laplacian."""


def merge(weight0: Tensor, bias0: Tensor, weight1: Tensor, bias1: Tensor) -> tuple[Tensor, Tensor]:
    """Merge a 1x1 convolution (weight0, bias0) and a following 3x3 convolution (weight1, bias1) into one 3x3.

    Args:
        weight0: middle channels x inputs x 1 x 1.
        bias0: middle channels; the value that pads the map between the two.
        weight1: outputs x middle channels x 3 x 3.
        bias1: outputs.

    Returns:
        Weight, outputs x inputs x 3 x 3, and bias, outputs.
    """
    weight = torch.einsum("omyx,mi->oiyx", weight1, weight0[:, :, 0, 0])
    bias = torch.einsum("omyx,m->o", weight1, bias0) + bias1
    return weight, bias


@torch.no_grad()
def plain_state(trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of the trained form to one of the plain network with the same output.

    A block is the sum of a 3x3 convolution, an expand-and-squeeze branch (1x1, then 3x3) and the `EDGES`.

    Raises:
        KeyError: a block lacks a tensor.
    """
    state = dict(trained)
    for block in sorted({key.partition(".conv1x1_")[0] for key in trained if ".conv1x1_" in key}):

        def take(branch: str, *names: str, block: str = block) -> list[Tensor]:
            return [state.pop(f"{block}.{branch}.{name}").float() for name in names]

        merged = [merge(*take("conv1x1_3x3", "k0", "b0", "k1", "b1"))]
        for edge in EDGES:
            weight0, bias0, scale, mask, bias1 = take(edge, "k0", "b0", "scale", "mask", "bias")
            # A depthwise filter as a full one: its values on the diagonal of outputs x outputs.
            full = torch.diag_embed((scale * mask)[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
            merged.append(merge(weight0, bias0, full, bias1))
        weight, bias = take("conv3x3", "weight", "bias")
        state[f"{block}.conv3x3.weight"] = weight + sum(weight for weight, _ in merged)
        state[f"{block}.conv3x3.bias"] = bias + sum(bias for _, bias in merged)
    return state


class PlainBlock(nn.Module):
    """A 3x3 convolution, then PReLU with one slope a channel unless `activated` is False."""

    def __init__(self, inputs: int, outputs: int, activated: bool = True) -> None:
        super().__init__()
        self.conv3x3 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.act = nn.PReLU(outputs) if activated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map N x inputs x H x W to N x outputs x H x W."""
        return self.act(self.conv3x3(x))


class ECBSR(nn.Module):
    """ECBSR-M16C64 as it is deployed and counted: 18 plain 3x3 convolutions. Reads weights of either form."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            PlainBlock(1, CHANNELS),
            *(PlainBlock(CHANNELS, CHANNELS) for _ in range(MODULES)),
            PlainBlock(CHANNELS, scale**2, activated=False),
        )
        self.upsampler = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale Y in [0, 1], N x 1 x H x W to N x 1 x sH x sW."""
        # The input is added to each of the s^2 maps that become pixels: nearest upsampling as the skip connection.
        return self.upsampler(self.backbone(x) + x)

    @staticmethod
    def convert_published(state: dict[str, Tensor], scale: int) -> dict[str, Tensor]:
        """Re-parameterise weights of the trained form; return weights of the plain form as they are."""
        return plain_state(state)
