"""LapSRN (Lai et al., CVPR 2017): a Laplacian pyramid; each level doubles the image and adds a residual."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2
"""Negative slope of every leaky ReLU (section 3.3)."""


class Level(nn.Module):
    """One level of the pyramid: doubles an image and its features (section 3.1)."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(depth))
        self.enlarge_features = nn.ConvTranspose2d(
            channels, channels, 3, stride=2, padding=1, output_padding=1, bias=False
        )
        self.residual = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        self.enlarge_image = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
        # It starts as bilinear interpolation by two (section 3.1).
        line = torch.tensor([0.25, 0.75, 0.75, 0.25])
        self.enlarge_image.weight.data = torch.outer(line, line).view(1, 1, 4, 4)

    def forward(self, image: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map an image, N x 1 x H x W, and features, N x C x H x W, to both at 2H x 2W."""
        for convolution in self.convolutions:
            features = F.leaky_relu(convolution(features), SLOPE)
        features = F.leaky_relu(self.enlarge_features(features), SLOPE)
        return self.enlarge_image(image) + self.residual(features), features


class LapSRN(nn.Module):
    """LapSRN: ten 3x3 convolutions of 64 channels a level, without bias.

    One level for x2, two for x4; the image of the last level is returned.
    """

    def __init__(self, scale: int, channels: int = 64, depth: int = 10) -> None:
        super().__init__()
        self.entry = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.levels = nn.ModuleList(Level(channels, depth) for _ in range({2: 1, 4: 2}[scale]))

    def forward(self, luma: Tensor) -> Tensor:
        """Upscale Y in [0, 1], N x 1 x H x W to N x 1 x sH x sW."""
        image, features = luma, F.leaky_relu(self.entry(luma), SLOPE)
        for level in self.levels:
            image, features = level(image, features)
        return image
