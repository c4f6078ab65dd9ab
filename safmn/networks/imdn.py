"""IMDN (Hui et al., ACM MM 2019): splits features in steps, keeps a quarter at each and refines the rest."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.networks.blocks import channel_gate

CHANNELS = 64
DISTILLED = CHANNELS // 4
REMAINING = CHANNELS - DISTILLED
MODULES = 6
SLOPE = 0.05


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def leaky(x: Tensor) -> Tensor:
    """Apply the leaky ReLU in place, as the authors do: the published memory follows from it."""
    return F.leaky_relu(x, SLOPE, inplace=True)


class ContrastAttention(nn.Module):
    """Contrast-aware channel attention: gates from each channel's standard deviation plus its mean (section 3.3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_du = channel_gate(CHANNELS, CHANNELS // 16)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x 64 x H x W to the same shape."""
        # Not a square root of the variance: its gradient is infinite for a flat map, this one's is zero.
        contrast = x.std((2, 3), correction=0, keepdim=True)
        # The pooling layer, as the authors do: fvcore counts it as one operation an element.
        return x * self.conv_du(contrast + F.adaptive_avg_pool2d(x, 1))


class DistillationBlock(nn.Module):
    """Information multi-distillation block (section 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = conv3x3(CHANNELS, CHANNELS)
        self.c2 = conv3x3(REMAINING, CHANNELS)
        self.c3 = conv3x3(REMAINING, CHANNELS)
        self.c4 = conv3x3(REMAINING, DISTILLED)
        self.c5 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.cca = ContrastAttention()

    def forward(self, x: Tensor) -> Tensor:
        """Map N x 64 x H x W to the same shape."""
        kept1, rest = leaky(self.c1(x)).split((DISTILLED, REMAINING), 1)
        kept2, rest = leaky(self.c2(rest)).split((DISTILLED, REMAINING), 1)
        kept3, rest = leaky(self.c3(rest)).split((DISTILLED, REMAINING), 1)
        kept4 = self.c4(rest)
        fused = torch.cat((kept1, kept2, kept3, kept4), 1)
        return self.c5(self.cca(fused)) + x


class IMDN(nn.Module):
    """IMDN with six blocks of 64 channels. Keys are the authors', without their `module.` prefix."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.fea_conv = conv3x3(3, CHANNELS)
        for index in range(1, MODULES + 1):
            self.add_module(f"IMDB{index}", DistillationBlock())
        self.c = nn.Sequential(nn.Conv2d(CHANNELS * MODULES, CHANNELS, 1), nn.LeakyReLU(SLOPE, inplace=True))
        self.LR_conv = conv3x3(CHANNELS, CHANNELS)
        self.upsampler = nn.Sequential(conv3x3(CHANNELS, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Upscale RGB in [0, 1], N x 3 x H x W to N x 3 x sH x sW."""
        shallow = self.fea_conv(x)
        outputs = [shallow]
        for index in range(1, MODULES + 1):
            outputs.append(self.get_submodule(f"IMDB{index}")(outputs[-1]))
        deep = self.LR_conv(self.c(torch.cat(outputs[1:], 1))) + shallow
        return self.upsampler(deep)
