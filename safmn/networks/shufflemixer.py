"""ShuffleMixer (Sun et al., NeurIPS 2022): large depthwise kernels, MLPs on half of the channels, shuffle."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.networks.blocks import Body

CHANNELS = 64
KERNEL = 7
BLOCKS = 5
SHUFFLE_GROUPS = 8
EXTRA = 16  # channels that the 3x3 convolution at a block's end adds and its 1x1 convolution removes


class ChannelNorm(nn.Module):
    """Zero mean and unit variance over the channels of each pixel, times a learnt weight, without a bias.

    Written out: fvcore then counts nothing, as in the paper's count; it counts five operations an element for
    `F.layer_norm`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map N x C x H x W to the same shape."""
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).square().mean(1, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.weight.view(1, -1, 1, 1)


class SplitShuffle(nn.Module):
    """Channel projection with splitting and shuffling: a two-layer MLP on the first half of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.fc = nn.Sequential(nn.Conv2d(half, 2 * half, 1), nn.SiLU(inplace=True), nn.Conv2d(2 * half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map N x C x H x W to the same shape."""
        first, second = x.chunk(2, 1)
        mixed = torch.cat((self.fc(first), second), 1)
        return mixed.unflatten(1, (SHUFFLE_GROUPS, -1)).transpose(1, 2).flatten(1, 2)


class MixerLayer(nn.Module):
    """Shuffle mixing layer: channel projection, depthwise convolution, channel projection."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.norm1 = Body(ChannelNorm(channels))
        self.norm2 = Body(ChannelNorm(channels))
        self.spatial = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.mlp1 = SplitShuffle(channels)
        self.mlp2 = SplitShuffle(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x C x H x W to the same shape."""
        x = self.mlp1(self.norm1(x)) + x
        x = self.spatial(x)
        return self.mlp2(self.norm2(x)) + x


class MixingBlock(nn.Module):
    """Feature mixing block: two mixing layers, then a Fused-MBConv for local connectivity."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.net = nn.Sequential(MixerLayer(channels, kernel), MixerLayer(channels, kernel))
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels + EXTRA, 3, padding=1),
            nn.SiLU(inplace=True),
            nn.Conv2d(channels + EXTRA, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map N x C x H x W to the same shape."""
        x = self.net(x) + x
        return self.conv(x) + x


class ShuffleMixer(nn.Module):
    """ShuffleMixer with five blocks of 64 channels. Keys are the authors' (`upsapling` is their spelling)."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.to_feat = nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*(MixingBlock(CHANNELS, KERNEL) for _ in range(BLOCKS)))
        upsampler: list[nn.Module] = []
        for factor in (2, 2) if scale == 4 else (scale,):
            upsampler += [
                nn.Conv2d(CHANNELS, CHANNELS * factor**2, 1),
                nn.PixelShuffle(factor),
                nn.SiLU(inplace=True),
            ]
        self.upsapling = nn.Sequential(*upsampler)
        self.tail = nn.Conv2d(CHANNELS, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale RGB in [0, 1], N x 3 x H x W to N x 3 x sH x sW."""
        skip = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.tail(self.upsapling(self.blocks(self.to_feat(x)))) + skip
