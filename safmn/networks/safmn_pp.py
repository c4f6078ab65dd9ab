"""SAFMN++, the authors' entry in the NTIRE 2024 challenge on efficient super-resolution (Ren et al., CVPRW 2024).

SAFM with one pooled level: a 3x3 convolution first; the first third of its channels is pooled to 1/8, convolved,
enlarged bilinearly and, after GELU, multiplied by these channels. One skip connection around each block, no
normalisation, no biases; the image enlarged bilinearly is added to the output. Keys are the authors'.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.networks.blocks import check_side

DIM = 36
BLOCKS = 6
MODULATED = DIM // 3
HIDDEN = DIM * 3 // 2
POOLING = 8


def conv3x3(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution without bias that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=False)


class SimpleModulation(nn.Module):
    """The modulation of SAFMN++: a third of the channels, by features of an eighth of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = conv3x3(DIM, DIM)
        self.dwconv = conv3x3(MODULATED, MODULATED, groups=MODULATED)
        self.out = nn.Conv2d(DIM, DIM, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x 36 x H x W to the same shape."""
        height, width = x.shape[-2:]
        modulated, rest = self.proj(x).split((MODULATED, DIM - MODULATED), dim=1)
        pooled = self.dwconv(F.adaptive_max_pool2d(modulated, (height // POOLING, width // POOLING)))
        attention = F.gelu(F.interpolate(pooled, size=(height, width), mode="bilinear", align_corners=False))
        return self.out(F.gelu(torch.cat((rest, attention * modulated), dim=1)))


class ChannelMixer(nn.Module):
    """The paper's CCM (section 3.2) without biases, 54 hidden channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv3x3(DIM, HIDDEN)
        self.conv2 = nn.Conv2d(HIDDEN, DIM, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x 36 x H x W to the same shape."""
        return self.conv2(F.gelu(self.conv1(x)))


class Block(nn.Module):
    """Modulation, then channel mixer, under one skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = SimpleModulation()
        self.conv2 = ChannelMixer()

    def forward(self, x: Tensor) -> Tensor:
        """Map N x 36 x H x W to the same shape."""
        return self.conv2(self.conv1(x)) + x


class SAFMNPP(nn.Module):
    """SAFMN++ with six blocks of 36 channels."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.to_feat = conv3x3(3, DIM)
        self.feats = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.to_img = nn.Sequential(conv3x3(DIM, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Upscale RGB in [0, 1], N x 3 x H x W to N x 3 x sH x sW.

        Raises:
            UserError: H or W is below 8.
        """
        check_side(x, POOLING, "SAFMN++, which pools to one eighth")
        enlarged = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.to_img(self.feats(self.to_feat(x))) + enlarged
