"""ESPCN (Shi et al., CVPR 2016): convolutions at the LR size, then a pixel shuffle, which it introduced."""

from torch import Tensor, nn


class ESPCN(nn.Module):
    """ESPCN: kernels 5, 3, 3 and 64, 32, s^2 channels, tanh (section 3.2)."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 64, 5, padding=2)
        self.second = nn.Conv2d(64, 32, 3, padding=1)
        self.last = nn.Conv2d(32, scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, luma: Tensor) -> Tensor:
        """Upscale Y in [0, 1], N x 1 x H x W to N x 1 x sH x sW."""
        features = self.second(self.first(luma).tanh()).tanh()
        return self.shuffle(self.last(features))
