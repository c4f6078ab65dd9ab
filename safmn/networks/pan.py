"""PAN (Zhao et al., ECCVW 2020): pixel attention, one gate for every channel and pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 40
UPSAMPLED_CHANNELS = 24
BLOCKS = 16


def leaky(x: Tensor) -> Tensor:
    """Apply the leaky ReLU in place."""
    return F.leaky_relu(x, 0.2, inplace=True)


class PixelAttention(nn.Module):
    """Pixel attention: x times a sigmoid gate from a 1x1 convolution of x (section 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x C x H x W to the same shape."""
        return x * self.conv(x).sigmoid()


class PixelAttentionConv(nn.Module):
    """Two 3x3 convolutions; the output of the first is multiplied by a gate from the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.k2 = nn.Conv2d(channels, channels, 1)
        self.k3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.k4 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x C x H x W to the same shape."""
        return self.k4(self.k3(x) * self.k2(x).sigmoid())


class SelfCalibratedBlock(nn.Module):
    """SC-PA block: half of the channels plain, half under pixel attention (section 3.3)."""

    def __init__(self) -> None:
        super().__init__()
        half = CHANNELS // 2
        self.conv1_a = nn.Conv2d(CHANNELS, half, 1, bias=False)
        self.conv1_b = nn.Conv2d(CHANNELS, half, 1, bias=False)
        self.k1 = nn.Sequential(nn.Conv2d(half, half, 3, padding=1, bias=False))
        self.PAConv = PixelAttentionConv(half)
        self.conv3 = nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x 40 x H x W to the same shape."""
        plain = leaky(self.k1(leaky(self.conv1_a(x))))
        attended = leaky(self.PAConv(leaky(self.conv1_b(x))))
        return self.conv3(torch.cat((plain, attended), 1)) + x


class PAN(nn.Module):
    """PAN with 16 blocks. Keys are the authors'; only x4 has the second upsampling stage."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.factors = (2, 2) if scale == 4 else (scale,)
        self.conv_first = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.SCPA_trunk = nn.Sequential(*(SelfCalibratedBlock() for _ in range(BLOCKS)))
        self.trunk_conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        inputs = CHANNELS
        for stage in range(1, len(self.factors) + 1):
            self.add_module(f"upconv{stage}", nn.Conv2d(inputs, UPSAMPLED_CHANNELS, 3, padding=1))
            self.add_module(f"att{stage}", PixelAttention(UPSAMPLED_CHANNELS))
            self.add_module(f"HRconv{stage}", nn.Conv2d(UPSAMPLED_CHANNELS, UPSAMPLED_CHANNELS, 3, padding=1))
            inputs = UPSAMPLED_CHANNELS
        self.conv_last = nn.Conv2d(UPSAMPLED_CHANNELS, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale RGB in [0, 1], N x 3 x H x W to N x 3 x sH x sW."""
        features = self.conv_first(x)
        features = features + self.trunk_conv(self.SCPA_trunk(features))
        for stage, factor in enumerate(self.factors, 1):
            features = F.interpolate(features, scale_factor=factor, mode="nearest")
            features = self.get_submodule(f"upconv{stage}")(features)
            features = leaky(self.get_submodule(f"att{stage}")(features))
            features = leaky(self.get_submodule(f"HRconv{stage}")(features))
        skip = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.conv_last(features) + skip
