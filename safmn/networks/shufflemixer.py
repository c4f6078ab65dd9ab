"""ShuffleMixer: large depthwise kernels, and point-wise layers on half of the channels with a channel shuffle."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.networks.registry import published

CHANNELS = 64
KERNEL = 7
BLOCKS = 5
SHUFFLE_GROUPS = 8
EXTRA = 16  # channels that the 3x3 convolution at a block's end adds before its 1x1 takes them back


class ChannelNorm(nn.Module):
    """Zero mean and unit variance over the channels of each pixel, times a learnt weight, without a bias.

    Written out, since fvcore counts nothing for it so, but five operations an element for `F.layer_norm`; the paper's
    count is without.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).square().mean(1, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.weight.view(1, -1, 1, 1)


class Norm(nn.Module):
    """ChannelNorm one level down, where the authors' keys have it (`norm1.body.weight`)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = ChannelNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class SplitShuffle(nn.Module):
    """Channel projection with splitting and shuffling: a two-layer MLP on the first half only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.fc = nn.Sequential(nn.Conv2d(half, 2 * half, 1), nn.SiLU(inplace=True), nn.Conv2d(2 * half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        mixed = torch.cat((self.fc(first), second), 1)
        return mixed.unflatten(1, (SHUFFLE_GROUPS, -1)).transpose(1, 2).flatten(1, 2)


class MixerLayer(nn.Module):
    """Shuffle mixing layer: channel projection, depthwise convolution, channel projection."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.norm1 = Norm(channels)
        self.norm2 = Norm(channels)
        self.spatial = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.mlp1 = SplitShuffle(channels)
        self.mlp2 = SplitShuffle(channels)

    def forward(self, x: Tensor) -> Tensor:
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
        x = self.net(x) + x
        return self.conv(x) + x


@published(
    "shufflemixer",
    "ShuffleMixer",
    rows={1: "ShuffleMixer"},
    reference="Sun et al., ShuffleMixer: An Efficient ConvNet for Image Super-Resolution, NeurIPS 2022",
)
class ShuffleMixer(nn.Module):
    """N x 3 x H x W RGB in [0, 1] -> N x 3 x sH x sW. Keys are the authors' (`upsapling` is their spelling)."""

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
        skip = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.tail(self.upsapling(self.blocks(self.to_feat(x)))) + skip
