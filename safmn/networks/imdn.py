"""IMDN: splits features step by step, keeps a quarter at each step and refines the rest."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.networks.blocks import channel_gate
from safmn.networks.registry import published

CHANNELS = 64
DISTILLED = CHANNELS // 4
REMAINING = CHANNELS - DISTILLED
MODULES = 6
SLOPE = 0.05


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def leaky(x: Tensor) -> Tensor:
    # In place, as the authors run it: the published memory follows from it.
    return F.leaky_relu(x, SLOPE, inplace=True)


class ContrastAttention(nn.Module):
    """Contrast-aware channel attention: a gate from each channel's standard deviation plus its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_du = channel_gate(CHANNELS, CHANNELS // 16)

    def forward(self, x: Tensor) -> Tensor:
        # Not a square root of the variance: its gradient is infinite for a flat map, this one's is zero.
        contrast = x.std((2, 3), correction=0, keepdim=True)
        # The pooled mean is taken by the layer that fvcore counts (one operation an element), as the authors do.
        return x * self.conv_du(contrast + F.adaptive_avg_pool2d(x, 1))


class DistillationBlock(nn.Module):
    """Information multi-distillation block: N x 64 x H x W in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = conv3x3(CHANNELS, CHANNELS)
        self.c2 = conv3x3(REMAINING, CHANNELS)
        self.c3 = conv3x3(REMAINING, CHANNELS)
        self.c4 = conv3x3(REMAINING, DISTILLED)
        self.c5 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.cca = ContrastAttention()

    def forward(self, x: Tensor) -> Tensor:
        kept1, rest = leaky(self.c1(x)).split((DISTILLED, REMAINING), 1)
        kept2, rest = leaky(self.c2(rest)).split((DISTILLED, REMAINING), 1)
        kept3, rest = leaky(self.c3(rest)).split((DISTILLED, REMAINING), 1)
        kept4 = self.c4(rest)
        fused = torch.cat((kept1, kept2, kept3, kept4), 1)
        return self.c5(self.cca(fused)) + x


@published(
    "imdn",
    "IMDN",
    rows={1: "IMDN", 2: "IMDN"},
    reference="Hui et al., Lightweight Image Super-Resolution with Information Multi-distillation Network, ACM MM 2019",
)
class IMDN(nn.Module):
    """N x 3 x H x W RGB in [0, 1] -> N x 3 x sH x sW. Keys are the authors', less their `module.` prefix."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.fea_conv = conv3x3(3, CHANNELS)
        for index in range(1, MODULES + 1):
            self.add_module(f"IMDB{index}", DistillationBlock())
        self.c = nn.Sequential(nn.Conv2d(CHANNELS * MODULES, CHANNELS, 1), nn.LeakyReLU(SLOPE, inplace=True))
        self.LR_conv = conv3x3(CHANNELS, CHANNELS)
        self.upsampler = nn.Sequential(conv3x3(CHANNELS, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.fea_conv(x)
        outputs = [self.IMDB1(shallow)]
        for index in range(2, MODULES + 1):
            outputs.append(self.get_submodule(f"IMDB{index}")(outputs[-1]))
        deep = self.LR_conv(self.c(torch.cat(outputs, 1))) + shallow
        return self.upsampler(deep)
